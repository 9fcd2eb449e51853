//! Requests to the Hub.

use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, StatusCode, header};

use super::Hub;

/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// One connection pool for one fetch.
pub(super) struct Client<'a> {
    pub(super) hub: &'a Hub,
    agent: Agent,
}

impl<'a> Client<'a> {
    /// A silent server is given up after a minute, a slow one never.
    pub(super) fn new(hub: &'a Hub) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .user_agent("difflab");
        // A proxy is for the world outside, never for this machine.
        let config = if is_loopback(&hub.endpoint) { config.proxy(None) } else { config };
        Self { hub, agent: config.build().into() }
    }

    /// Asks for `url` from byte `from` on. The token goes to the endpoint alone: a redirect is followed without it.
    pub(super) fn get(&self, url: &str, from: u64) -> Result<Response<ureq::Body>, String> {
        let mut request = self.agent.get(url).header(header::ACCEPT_ENCODING, "identity");
        if let Some(token) = &self.hub.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|error| error.to_string())
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.split("://").nth(1).unwrap_or_default();
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
        host.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    })
}

/// Whether a server that answers so cannot just now, and may be asked again.
pub(super) fn may_be_asked_again(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// How long to wait before asking again: `pause`, or what the server asks for where that is longer.
pub(super) fn wait(response: &Response<ureq::Body>, pause: Duration) -> Duration {
    let asked =
        response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    asked.map_or(pause, |seconds| pause.max(Duration::from_secs(seconds).min(LONGEST_WAIT)))
}

/// What to do about a refusal.
pub(super) fn advice(response: &Response<ureq::Body>, has_token: bool) -> String {
    let status = response.status();
    let code = response.headers().get("x-error-code").and_then(|value| value.to_str().ok());
    let advice = match (status, code) {
        (_, Some("GatedRepo")) => {
            "the repository is gated: accept its conditions on its page on the Hub, then set HF_TOKEN to a token of \
             that account"
        }
        (_, Some("RevisionNotFound" | "EntryNotFound")) => {
            "the Hub (or the mirror in HF_ENDPOINT) no longer has the pinned revision"
        }
        (StatusCode::UNAUTHORIZED, _) if has_token => {
            "the Hub does not take this HF_TOKEN: set a valid access token; or the repository is gone or private"
        }
        (StatusCode::UNAUTHORIZED, _) => {
            "set HF_TOKEN to a valid access token; the Hub also answers so for a repository that is gone"
        }
        (StatusCode::FORBIDDEN, _) => {
            "the account of HF_TOKEN has no access: ask for it on the repository's page"
        }
        (StatusCode::NOT_FOUND, _) => {
            "the Hub (or the mirror in HF_ENDPOINT) no longer has the pinned revision"
        }
        (status, _) if status.is_redirection() => "too many redirects: look at the address in a browser",
        _ => "try again later, or look at the address in a browser",
    };
    advice.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_from_others() {
        for endpoint in ["http://127.0.0.1:80", "http://localhost", "https://[::1]:9/x", "http://localhost/"]
        {
            assert!(is_loopback(endpoint), "{endpoint}");
        }
        for endpoint in ["http://localhost.org", "https://huggingface.co", "http://127.0.0.10", ""] {
            assert!(!is_loopback(endpoint), "{endpoint}");
        }
    }
}
