//! Models from a Hub that is a small server on this machine: what it lists, refuses, limits and gets wrong.
#![allow(clippy::unwrap_used)]

mod server;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use sd_core::weights::hub::{FetchError, Hub, Kind, Progress, RemoteFile, Repository, fetch, locate};
use server::{Answer, Server};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "unet/diffusion_pytorch_model.safetensors";
const CONFIG: &str = "unet/config.json";
const CONFIG_TEXT: &[u8] = b"abc";
/// `printf abc | git hash-object --stdin`.
const CONFIG_OID: &str = "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f";

fn weights() -> Vec<u8> {
    (0..50_000u32).flat_map(|word| word.to_le_bytes()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn large(path: &str, digest: &str, size: usize) -> String {
    format!(
        r#"{{"type":"file","oid":"{REVISION}","size":{size},"path":"{path}","lfs":{{"oid":"{digest}","size":{size},"pointerSize":134}},"xetHash":"x"}}"#
    )
}

fn small(path: &str, oid: &str, size: usize) -> String {
    format!(r#"{{"type":"file","oid":"{oid}","size":{size},"path":"{path}"}}"#)
}

/// What an honest Hub lists.
fn listing() -> String {
    let folder = format!(r#"{{"type":"directory","oid":"{REVISION}","size":0,"path":"unet"}}"#);
    let weights = large(WEIGHTS, &sha256(&weights()), weights().len());
    format!("[{folder},{weights},{}]", small(CONFIG, CONFIG_OID, 3))
}

fn both() -> Vec<Answer> {
    vec![Answer::file(weights()), Answer::file(CONFIG_TEXT.to_vec())]
}

fn unknown(path: &str) -> RemoteFile {
    RemoteFile { path: path.to_owned(), size: None, sha256: None }
}

struct Case {
    server: Server,
    folder: TempDir,
    hub: Hub,
    files: Vec<RemoteFile>,
}

impl Case {
    fn new(server: Server) -> Self {
        let folder = TempDir::new().unwrap();
        let hub = Hub {
            endpoint: server.address.clone(),
            token: None,
            cache: folder.path().to_owned(),
            offline: false,
            attempts: 3,
            pause: Duration::ZERO,
        };
        Self { server, folder, hub, files: vec![unknown(WEIGHTS), unknown(CONFIG)] }
    }

    fn honest(answers: Vec<Answer>) -> Self {
        Self::new(Server::listing(&listing(), answers))
    }

    /// A server whose answers to the list are among `answers`.
    fn bare(answers: Vec<Answer>) -> Self {
        Self::new(Server::start(answers))
    }

    fn repository() -> Repository {
        Repository::new(Kind::Model, "owner/name", REVISION).unwrap()
    }

    fn fetch(&self) -> Result<Vec<PathBuf>, FetchError> {
        fetch(&Self::repository(), &self.files, &self.hub, &mut |_| ())
    }

    fn locate(&self) -> Result<Vec<PathBuf>, FetchError> {
        locate(&Self::repository(), &self.files, &self.hub)
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.folder.path().join("models--owner--name/blobs").join(digest)
    }

    fn assert_refused(&self, words: &[&str]) {
        assert_says(&self.fetch().unwrap_err(), words);
        assert!(!self.blob(&sha256(&weights())).exists());
    }
}

fn assert_says(error: &FetchError, words: &[&str]) {
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}

#[test]
fn a_model_arrives_checked_by_the_hubs_own_digests() {
    let case = Case::honest(both());
    let paths = case.fetch().unwrap();
    assert_eq!(fs::read(&paths[0]).unwrap(), weights());
    assert_eq!(fs::read(&paths[1]).unwrap(), CONFIG_TEXT);
    let snapshot = case.folder.path().join("models--owner--name/snapshots").join(REVISION);
    assert_eq!(paths, [snapshot.join(WEIGHTS), snapshot.join(CONFIG)]);
    let requests = case.server.requests();
    assert!(
        requests[0].starts_with(&format!("GET /owner/name/resolve/{REVISION}/{WEIGHTS} ")),
        "{}",
        requests[0]
    );
    // Under the names that the Hub's own client gives.
    assert!(case.blob(&sha256(&weights())).exists() && case.blob(CONFIG_OID).exists());
    // All of it is here now: nothing is asked, and it is found.
    assert_eq!(case.fetch().unwrap(), paths);
    assert_eq!(case.locate().unwrap(), paths);
    assert_eq!(case.server.requests().len(), 2);
}

#[test]
fn a_small_file_is_checked_too() {
    let case = Case::honest(vec![Answer::file(weights()), Answer::file(b"abd".to_vec())]);
    let error = case.fetch().unwrap_err();
    assert_says(&error, &[CONFIG, "git blob f2ba8f84", "another file than the pinned one"]);
    assert!(!case.blob(CONFIG_OID).exists());
}

#[test]
fn manifest_and_hub_must_agree() {
    let mut case = Case::honest(both());
    case.files[0].sha256 = Some("0".repeat(64));
    case.assert_refused(&[
        WEIGHTS,
        "sha256 000",
        &sha256(&weights()),
        "as our manifest has it",
        "Nothing was fetched",
    ]);
    case.files[0] = RemoteFile { size: Some(7), ..unknown(WEIGHTS) };
    case.assert_refused(&["expected 7 bytes", "found 200000 bytes on the Hub"]);
    assert_eq!(case.server.requests().len(), 0, "nothing was asked for but the list");
}

#[test]
fn a_small_file_has_both_digests() {
    let mut case = Case::honest(vec![Answer::file(CONFIG_TEXT.to_vec()), Answer::file(CONFIG_TEXT.to_vec())]);
    case.files = vec![RemoteFile { sha256: Some(sha256(b"other")), ..unknown(CONFIG) }];
    assert_says(&case.fetch().unwrap_err(), &[CONFIG, &sha256(b"other"), "another file"]);
    case.files[0].sha256 = Some(sha256(CONFIG_TEXT));
    case.fetch().unwrap();
    assert_eq!(case.fetch().unwrap(), case.locate().unwrap(), "found again under git's name");
    assert_eq!(case.server.requests().len(), 2);
}

#[test]
fn a_file_that_the_commit_has_not_is_told_with_those_it_has() {
    let mut case = Case::honest(vec![]);
    case.files = vec![unknown("unet/model.bin")];
    case.assert_refused(&["unet/model.bin", REVISION, "none of that name", WEIGHTS, CONFIG]);
    case.files = vec![unknown("vae/config.json")];
    case.assert_refused(&["vae/config.json", "there are unet/config.json"]);
}

#[test]
fn a_list_of_several_pages_is_read_whole_and_at_the_endpoint_only() {
    let page = |entry: String| Answer::file(format!("[{entry}]").into_bytes());
    // The address names another host; only its path is taken.
    let next =
        format!("<https://huggingface.co/api/models/owner/name/tree/{REVISION}?cursor=2>; rel=\"next\"");
    let first = page(small(CONFIG, CONFIG_OID, 3)).with_header("Link", &next);
    let second = page(large(WEIGHTS, &sha256(&weights()), weights().len()));
    let mut case = Case::bare([vec![first, second], both()].concat());
    case.hub.token = Some("secret".to_owned());
    case.fetch().unwrap();
    let requests = case.server.requests();
    assert!(requests[0].starts_with(&format!("GET /api/models/owner/name/tree/{REVISION}?recursive=true ")));
    assert!(requests[1].starts_with(&format!("GET /api/models/owner/name/tree/{REVISION}?cursor=2 ")));
    assert!(requests[..2].iter().all(|request| server::header(request, "authorization").is_some()));
}

#[test]
fn a_list_that_is_none_is_told() {
    let digest = large(WEIGHTS, "abc", 3);
    for (text, words) in [
        ("<html>Sign in to the network</html>", &["found text that is none", "HF_ENDPOINT"][..]),
        ("{\"error\":\"x\"}", &["found text that is none"]),
        (&format!("[{digest}]"), &["\"abc\" as the digest of unet/diffusion"]),
    ] {
        let case = Case::bare(vec![Answer::file(text.as_bytes().to_vec())]);
        case.assert_refused(&["/api/models/owner/name/tree/"]);
        case.assert_refused(&[]);
        let case = Case::bare(vec![Answer::file(text.as_bytes().to_vec())]);
        case.assert_refused(words);
    }
}

#[test]
fn refusals_of_the_list_say_what_to_do() {
    let gated = Answer::status(403).with_header("X-Error-Code", "GatedRepo");
    let gone = Answer::status(404).with_header("X-Error-Code", "RevisionNotFound");
    for (answer, words) in [
        (Answer::status(401), ["401", "set HF_TOKEN"]),
        (Answer::status(403), ["403", "has no access"]),
        (Answer::status(404), ["404", "no longer has the pinned revision"]),
        (gated, ["403", "accept its conditions"]),
        (gone, ["404", "no longer has the pinned revision"]),
    ] {
        let case = Case::bare(vec![answer]);
        case.assert_refused(&words);
        assert_eq!(case.server.requests().len(), 1, "a refusal is not asked again");
    }
    let mut case = Case::bare(vec![Answer::status(401)]);
    case.hub.token = Some("secret".to_owned());
    let error = case.fetch().unwrap_err();
    assert_says(&error, &["does not take this HF_TOKEN"]);
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn a_hub_that_is_busy_is_asked_again_as_it_says() {
    let busy = || Answer::status(429).with_header("Retry-After", "0");
    let list = Answer::file(listing().into_bytes());
    let files = vec![busy(), Answer::file(weights()), Answer::file(CONFIG_TEXT.to_vec())];
    let case = Case::bare([vec![busy(), Answer::status(503), list], files].concat());
    case.fetch().unwrap();
    let case = Case::bare(vec![busy(), busy(), busy()]);
    case.assert_refused(&["429", "3 attempts", "try again later"]);
}

#[test]
fn half_a_list_is_asked_for_again() {
    let list = || Answer::file(listing().into_bytes());
    let case = Case::bare([vec![list().breaking_off_after(40), list()], both()].concat());
    case.fetch().unwrap();
}

#[test]
fn half_a_file_goes_on_where_it_ended() {
    let case = Case::honest(vec![
        Answer::file(weights()).breaking_off_after(70_000),
        Answer::file(weights()),
        Answer::file(CONFIG_TEXT.to_vec()),
    ]);
    case.fetch().unwrap();
    let from = server::header(&case.server.requests()[1], "range").unwrap();
    assert_ne!(from, "bytes=0-", "{from}");
}

#[test]
fn what_is_only_looked_for_is_told_with_what_is_missing() {
    let case = Case::honest(vec![]);
    assert_says(
        &case.locate().unwrap_err(),
        &["owner/name", REVISION, WEIGHTS, CONFIG, "is not whole in the cache"],
    );
    assert_eq!(case.server.requests().len(), 0);
}

#[test]
fn offline_finds_what_is_here_and_asks_for_nothing() {
    let mut case = Case::honest(both());
    case.hub.offline = true;
    case.assert_refused(&["HF_HUB_OFFLINE", WEIGHTS, "owner/name"]);
    case.hub.offline = false;
    case.fetch().unwrap();
    case.hub.offline = true;
    assert_eq!(case.fetch().unwrap(), case.locate().unwrap());
}

#[test]
fn damage_in_the_cache_is_told_where_the_file_changed_since() {
    let case = Case::honest(both());
    let paths = case.fetch().unwrap();
    let later = fs::metadata(&paths[0]).unwrap().modified().unwrap() + Duration::from_secs(1);
    let mut bytes = weights();
    bytes[5] ^= 1;
    fs::write(&paths[0], bytes).unwrap();
    fs::File::options().write(true).open(&paths[0]).unwrap().set_modified(later).unwrap();
    for error in [case.locate().unwrap_err(), case.fetch().unwrap_err()] {
        assert_says(&error, &["damaged", "rm ", &sha256(&weights())]);
    }
}

#[test]
fn a_copy_without_a_digest_is_not_trusted() {
    let mut case = Case::honest(vec![Answer::file(CONFIG_TEXT.to_vec())]);
    case.files = vec![unknown(CONFIG)];
    let name = case.folder.path().join("models--owner--name/snapshots").join(REVISION).join(CONFIG);
    fs::create_dir_all(name.parent().unwrap()).unwrap();
    fs::write(&name, "copied by hand").unwrap();
    assert_says(
        &case.locate().unwrap_err(),
        &["config.json", "a digest to check it against", "HF_HUB_OFFLINE"],
    );
    case.hub.offline = true;
    assert_says(&case.fetch().unwrap_err(), &["a digest to check it against"]);
    // The Hub is asked where it may be, and its file takes the place of the copy.
    case.hub.offline = false;
    case.fetch().unwrap();
    assert_eq!(fs::read(&name).unwrap(), CONFIG_TEXT);
}

#[test]
fn a_disk_that_is_too_small_is_told_before_anything_is_asked_for() {
    let case =
        Case::new(Server::listing(&format!("[{}]", large(WEIGHTS, &"0".repeat(64), usize::MAX / 2)), vec![]));
    if cfg!(unix) {
        case.assert_refused(&["expected room for", " free; make room", "HF_HOME"]);
        assert_eq!(case.server.requests().len(), 0);
    }
}

#[test]
fn progress_names_each_file_and_ends_at_its_whole() {
    let case = Case::honest(both());
    let mut seen = Vec::new();
    let mut note = |progress: Progress| seen.push((progress.path.to_owned(), progress.done, progress.total));
    fetch(&Case::repository(), &case.files, &case.hub, &mut note).unwrap();
    assert!(seen.contains(&(WEIGHTS.to_owned(), 200_000, 200_000)));
    assert_eq!(seen.last(), Some(&(CONFIG.to_owned(), 3, 3)));
}
