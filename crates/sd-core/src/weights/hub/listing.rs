//! The Hub's list of a repository's files: their lengths and digests at the pinned commit.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Response, header};

use super::client::{self, Client};
use super::{Digest, FetchError, RemoteFile, Repository};

/// Longest answer that is read, in bytes. (A page has at most a thousand files.)
const LONGEST: u64 = 16 << 20;
/// Most answers that are read.
const MOST_PAGES: usize = 100;
/// Names that a message lists.
const LISTED: usize = 20;

/// What the Hub says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) size: u64,
    pub(super) digest: Digest,
}

/// The files of a repository at its pinned commit.
#[derive(Debug)]
pub(super) struct Listing {
    files: BTreeMap<String, Listed>,
}

impl Listing {
    /// Asks the Hub.
    pub(super) fn ask(client: &Client<'_>, repository: &Repository) -> Result<Self, FetchError> {
        let mut files = BTreeMap::new();
        let mut url = repository.listing(&client.hub.endpoint);
        for _ in 0..MOST_PAGES {
            let page = page(client, &url)?;
            for node in page.nodes.into_iter().filter(|node| node.kind == "file") {
                let (path, listed) = node.listed(&url)?;
                files.insert(path, listed);
            }
            match page.next {
                Some(next) => url = next,
                None => return Ok(Self { files }),
            }
        }
        Err(FetchError::Listing { url, found: format!("more than {MOST_PAGES} pages") })
    }

    /// What is to be fetched for `file`: as the Hub has it, which must be as our manifest has it.
    pub(super) fn agreed(&self, repository: &Repository, file: &RemoteFile) -> Result<&Listed, FetchError> {
        let listed = self.files.get(&file.path).ok_or_else(|| self.not_listed(repository, file))?;
        let differs = |expected: String, found: String| FetchError::Disagreement {
            path: file.path.clone(),
            repository: repository.name().to_owned(),
            revision: repository.revision().to_owned(),
            expected,
            found,
        };
        if let Some(size) = file.size.filter(|size| *size != listed.size) {
            return Err(differs(format!("{size} bytes"), format!("{} bytes", listed.size)));
        }
        match (&file.sha256, &listed.digest) {
            (Some(ours), Digest::Sha256(theirs)) if ours != theirs => {
                Err(differs(format!("sha256 {ours}"), format!("sha256 {theirs}")))
            }
            _ => Ok(listed),
        }
    }

    fn not_listed(&self, repository: &Repository, file: &RemoteFile) -> FetchError {
        // Those of the same folder say most.
        let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let wanted = folder(&file.path);
        let near: Vec<&String> = self.files.keys().filter(|path| folder(path) == wanted).collect();
        let there = if near.is_empty() { self.files.keys().collect() } else { near };
        FetchError::NotListed {
            path: file.path.clone(),
            repository: repository.name().to_owned(),
            revision: repository.revision().to_owned(),
            there: crate::weights::error::listed(&there, LISTED),
        }
    }
}

/// One entry of the Hub's answer.
#[derive(Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Lfs>,
}

/// A file that git keeps elsewhere.
#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl Node {
    fn listed(self, url: &str) -> Result<(String, Listed), FetchError> {
        let (size, hex) = match &self.lfs {
            Some(lfs) => (lfs.size, lfs.oid.trim_start_matches("sha256:")),
            None => (self.size, self.oid.as_str()),
        };
        match Digest::from_hex(hex) {
            Some(digest) => Ok((self.path, Listed { size, digest })),
            None => {
                let found = format!("{hex:?} as the digest of {}", self.path);
                Err(FetchError::Listing { url: url.to_owned(), found })
            }
        }
    }
}

struct Page {
    nodes: Vec<Node>,
    next: Option<String>,
}

/// How one attempt at a page failed.
enum Failed {
    /// It may be tried again, after a wait.
    Now(String, Duration),
    /// It will not help to try again.
    For(FetchError),
}

fn page(client: &Client<'_>, url: &str) -> Result<Page, FetchError> {
    let mut pause = client.hub.pause;
    for attempt in 1.. {
        match once(client, url, pause) {
            Ok(page) => return Ok(page),
            Err(Failed::For(error)) => return Err(error),
            Err(Failed::Now(cause, _)) if attempt >= client.hub.attempts => {
                return Err(FetchError::NoListing { url: url.to_owned(), cause, attempts: attempt });
            }
            Err(Failed::Now(_, wait)) => std::thread::sleep(wait),
        }
        pause = pause.saturating_mul(2);
    }
    unreachable!("the loop ends by its attempts")
}

fn once(client: &Client<'_>, url: &str, pause: Duration) -> Result<Page, Failed> {
    let response = client.get(url, 0).map_err(|cause| Failed::Now(cause, pause))?;
    let status = response.status();
    if client::may_be_asked_again(status) {
        return Err(Failed::Now(format!("the server answered {status}"), client::wait(&response, pause)));
    }
    if !status.is_success() {
        let advice = client::advice(&response, client.hub.token.is_some());
        let expected = "the list of the repository's files";
        return Err(Failed::For(FetchError::Status { url: url.to_owned(), expected, status, advice }));
    }
    let next = next(&response, &client.hub.endpoint);
    let text = body(response).map_err(|cause| Failed::Now(cause, pause))?;
    let nodes = serde_json::from_slice(&text).map_err(|error| {
        Failed::For(FetchError::Listing { url: url.to_owned(), found: format!("text that is none: {error}") })
    })?;
    Ok(Page { nodes, next })
}

fn body(response: Response<ureq::Body>) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let reader = response.into_body().into_with_config().limit(LONGEST).reader();
    match reader.take(LONGEST).read_to_end(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(error.to_string()),
    }
}

/// Address of the next page: `Link: <address>; rel="next"`, always at the endpoint, whatever host the address names.
fn next(response: &Response<ureq::Body>, endpoint: &str) -> Option<String> {
    let links = response.headers().get(header::LINK)?.to_str().ok()?;
    let link = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let address = link.trim().strip_prefix('<')?.split_once('>')?.0;
    let (_, query) = address.split_once("/api/")?;
    Some(format!("{endpoint}/api/{query}"))
}
