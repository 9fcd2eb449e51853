//! Where the Hub is, who asks, and where its files are kept: the environment variables its own client reads.

use std::path::PathBuf;
use std::time::Duration;

/// The Hub as this machine sees it.
#[derive(Clone)]
pub struct Hub {
    /// Base address, without a slash at its end (`HF_ENDPOINT`).
    pub endpoint: String,
    /// Access token, sent to the endpoint alone (`HF_TOKEN`).
    pub token: Option<String>,
    /// The cache folder (`HF_HUB_CACHE`, else `hub` in `HF_HOME`, else in `~/.cache/huggingface`).
    pub cache: PathBuf,
    /// Whether the network must not be used (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// Attempts at a file before giving up; each goes on where the last one broke off.
    pub attempts: u32,
    /// Wait before the second attempt; doubled for each further one.
    pub pause: Duration,
}

impl std::fmt::Debug for Hub {
    /// Without the token, which is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { endpoint, token, cache, offline, attempts, pause } = self;
        let token = token.as_ref().map(|_| "…");
        write!(
            f,
            "Hub {{ {endpoint}, token {token:?}, cache {cache:?}, offline {offline}, {attempts} × {pause:?} }}"
        )
    }
}

/// The environment names no usable Hub.
#[derive(Debug, thiserror::Error)]
#[error("environment variable {variable}: expected {expected}, found {found:?}; correct or unset it")]
pub struct HubError {
    /// The variable.
    pub variable: &'static str,
    /// What it may hold.
    pub expected: &'static str,
    /// What it holds.
    pub found: String,
}

impl Hub {
    /// As the environment says.
    ///
    /// # Errors
    /// Where a variable holds what it may not, or there is no home folder to put a cache in.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As the given variables say; an empty one counts as unset.
    ///
    /// # Errors
    /// As [`Hub::from_env`].
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        Ok(Self {
            endpoint: endpoint(variable("HF_ENDPOINT"))?,
            token: token(variable("HF_TOKEN"))?,
            cache: cache(&variable)?,
            offline: flag("HF_HUB_OFFLINE", variable("HF_HUB_OFFLINE"))?,
            attempts: 5,
            pause: Duration::from_secs(1),
        })
    }
}

fn endpoint(value: Option<String>) -> Result<String, HubError> {
    let Some(value) = value else { return Ok("https://huggingface.co".to_owned()) };
    let host = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => {
            Ok(value.trim_end_matches('/').to_owned())
        }
        _ => Err(HubError {
            variable: "HF_ENDPOINT",
            expected: "an address that starts with https:// or http://",
            found: value,
        }),
    }
}

fn token(value: Option<String>) -> Result<Option<String>, HubError> {
    match value {
        // The value is a secret, so the message does not repeat it.
        Some(value) if !value.trim().chars().all(|symbol| symbol.is_ascii_graphic()) => Err(HubError {
            variable: "HF_TOKEN",
            expected: "printable ASCII without spaces",
            found: format!("{} characters, some of another kind", value.chars().count()),
        }),
        value => Ok(value.map(|value| value.trim().to_owned())),
    }
}

fn cache(variable: &impl Fn(&str) -> Option<String>) -> Result<PathBuf, HubError> {
    if let Some(folder) = variable("HF_HUB_CACHE") {
        return Ok(folder.into());
    }
    if let Some(home) = variable("HF_HOME") {
        return Ok(PathBuf::from(home).join("hub"));
    }
    let general = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let own = || {
        variable("HOME").or_else(|| variable("USERPROFILE")).map(|home| PathBuf::from(home).join(".cache"))
    };
    let folder = general.or_else(own).ok_or_else(|| HubError {
        variable: "HF_HOME",
        expected: "a folder for downloads, as this account has no home folder",
        found: String::new(),
    })?;
    Ok(folder.join("huggingface").join("hub"))
}

fn flag(variable: &'static str, value: Option<String>) -> Result<bool, HubError> {
    match value.as_deref().map(|value| value.trim().to_ascii_lowercase()).as_deref() {
        None | Some("0" | "false" | "no" | "off") => Ok(false),
        Some("1" | "true" | "yes" | "on") => Ok(true),
        Some(_) => Err(HubError { variable, expected: "1 or 0", found: value.unwrap_or_default() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn hub(variables: &[(&str, &str)]) -> Result<Hub, HubError> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Hub::from_variables(find)
    }

    #[test]
    fn the_cache_folder_follows_the_hubs_own_rules() {
        for (variables, expected) in [
            (vec![("HOME", "/u")], "/u/.cache/huggingface/hub"),
            (vec![("HOME", "/u"), ("XDG_CACHE_HOME", "/c")], "/c/huggingface/hub"),
            (vec![("HOME", "/u"), ("HF_HOME", "/h")], "/h/hub"),
            (vec![("HF_HOME", "/h"), ("HF_HUB_CACHE", "/x")], "/x"),
            (vec![("HOME", "/u"), ("HF_HOME", "")], "/u/.cache/huggingface/hub"),
        ] {
            assert_eq!(hub(&variables).unwrap().cache, PathBuf::from(expected), "{variables:?}");
        }
        assert!(hub(&[]).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn endpoint_and_offline_are_read_or_refused() {
        let with = |name, value| hub(&[("HOME", "/u"), (name, value)]);
        assert_eq!(with("HF_ENDPOINT", "http://mirror:81//").unwrap().endpoint, "http://mirror:81");
        assert!(with("HF_HUB_OFFLINE", "TRUE").unwrap().offline);
        assert!(!with("HF_HUB_OFFLINE", "0").unwrap().offline);
        for (name, value) in
            [("HF_ENDPOINT", "mirror"), ("HF_ENDPOINT", "ftp://x"), ("HF_HUB_OFFLINE", "maybe")]
        {
            let message = with(name, value).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(value), "{message}");
        }
    }

    #[test]
    fn a_bad_token_is_refused_without_being_told() {
        let message = hub(&[("HOME", "/u"), ("HF_TOKEN", "sec ret")]).unwrap_err().to_string();
        assert!(message.contains("HF_TOKEN") && !message.contains("sec ret"), "{message}");
        let hub = hub(&[("HOME", "/u"), ("HF_TOKEN", "abc\n")]).unwrap();
        assert_eq!(hub.token.as_deref(), Some("abc"));
        assert!(!format!("{hub:?}").contains("abc"), "{hub:?}");
    }
}
