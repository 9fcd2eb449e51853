//! Downloads against a small server on this machine that breaks off, lies and refuses.
#![allow(clippy::unwrap_used)]

#[path = "../../sd-core/tests/server/mod.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use server::{Answer, Server};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use worlds::datasets::{FetchError, Hub, Manifest, ManifestFile, fetch, manifest};

const PATH: &str = "plain_text/train-00000-of-00001.parquet";
const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

/// The content of the only file of the data set.
fn content() -> Vec<u8> {
    (0..200_000u32).flat_map(|word| word.to_le_bytes()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A data set of one file.
fn made_up() -> Manifest {
    let mut manifest = manifest("cifar10").unwrap().clone();
    manifest.hub.repository = "owner/name".to_owned();
    manifest.hub.revision = REVISION.to_owned();
    let file =
        ManifestFile { path: PATH.to_owned(), size: content().len() as u64, sha256: sha256(&content()) };
    manifest.hub.files = vec![file];
    manifest
}

/// What the Hub says of the repository.
fn listing() -> String {
    let (size, digest) = (content().len(), sha256(&content()));
    let lfs = format!(r#"{{"oid":"{digest}","size":{size},"pointerSize":134}}"#);
    format!(r#"[{{"type":"file","oid":"{REVISION}","size":{size},"path":"{PATH}","lfs":{lfs}}}]"#)
}

/// A server, a cache folder, and what a fetch from the one to the other did.
struct Case {
    server: Server,
    folder: TempDir,
    hub: Hub,
}

impl Case {
    fn new(answers: Vec<Answer>) -> Self {
        let (server, folder) = (Server::listing(&listing(), answers), TempDir::new().unwrap());
        let hub = Hub {
            endpoint: server.address.clone(),
            token: None,
            cache: folder.path().to_owned(),
            offline: false,
            attempts: 3,
            pause: Duration::ZERO,
        };
        Self { server, folder, hub }
    }

    fn fetch(&self) -> Result<PathBuf, FetchError> {
        fetch(&made_up(), &self.hub, &mut |_| ()).map(|mut paths| paths.remove(0))
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("datasets--owner--name")
    }

    fn blob(&self) -> PathBuf {
        self.repository().join("blobs").join(sha256(&content()))
    }

    fn partial(&self) -> PathBuf {
        PathBuf::from(format!("{}.incomplete", self.blob().display()))
    }

    fn final_name(&self) -> PathBuf {
        self.repository().join("snapshots").join(REVISION).join(PATH)
    }

    /// Puts a beginning of the file in place, as a broken download leaves it.
    fn begin_with(&self, bytes: &[u8]) {
        fs::create_dir_all(self.blob().parent().unwrap()).unwrap();
        fs::write(self.partial(), bytes).unwrap();
    }

    fn assert_whole(&self) {
        let path = self.fetch().unwrap();
        assert_eq!(path, self.final_name());
        assert!(fs::read(&path).unwrap() == content(), "the file differs");
        assert!(fs::read(self.blob()).unwrap() == content(), "the blob differs");
        assert!(!self.partial().exists(), "the unfinished file is left");
    }

    /// The fetch fails with all these words, and leaves nothing under a final name.
    fn assert_refused(&self, words: &[&str]) -> FetchError {
        let error = self.fetch().unwrap_err();
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "no {word:?} in: {message}");
        }
        assert!(
            !self.blob().exists() && !self.final_name().exists(),
            "a bad file has a final name: {message}"
        );
        error
    }
}

#[test]
fn a_file_arrives_under_both_its_names() {
    let case = Case::new(vec![Answer::file(content())]);
    case.assert_whole();
    let requests = case.server.requests();
    assert!(
        requests[0].starts_with(&format!("GET /datasets/owner/name/resolve/{REVISION}/{PATH} ")),
        "{}",
        requests[0]
    );
    // The Hub's own client finds it: the snapshot is a relative link to the blob.
    #[cfg(unix)]
    {
        let link = fs::read_link(case.final_name()).unwrap();
        assert_eq!(link, Path::new("../../../blobs").join(sha256(&content())));
    }
}

#[test]
fn a_file_that_is_there_is_not_asked_for_again() {
    let case = Case::new(vec![Answer::file(content())]);
    case.assert_whole();
    case.assert_whole();
    assert_eq!(case.server.requests().len(), 1);
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let case = Case::new(vec![
        Answer::file(content()).breaking_off_after(300_000),
        Answer::file(content()).breaking_off_after(100_000),
        Answer::file(content()),
    ]);
    case.assert_whole();
    let ranges: Vec<Option<String>> =
        case.server.requests().iter().map(|request| server::header(request, "range")).collect();
    assert_eq!(ranges, [None, Some("bytes=300000-".to_owned()), Some("bytes=400000-".to_owned())]);
}

#[test]
fn a_connection_that_keeps_breaking_is_an_error_that_keeps_what_came() {
    let breaking = || Answer::file(content()).breaking_off_after(1_000);
    let case = Case::new(vec![breaking(), breaking(), breaking(), Answer::file(content())]);
    let error =
        case.assert_refused(&["3 attempts", "3000 of 800000 bytes", ".incomplete", "same command again"]);
    assert!(matches!(error, FetchError::Connection { kept: 3_000, .. }), "{error}");
    case.assert_whole();
    assert_eq!(server::header(&case.server.requests()[3], "range").as_deref(), Some("bytes=3000-"));
}

#[test]
fn a_server_without_ranges_is_taken_from_the_start() {
    let case = Case::new(vec![Answer::file(content()).ignoring_ranges()]);
    case.begin_with(&content()[..1_000]);
    case.assert_whole();
}

#[test]
fn a_range_of_another_place_or_length_is_not_pasted_in() {
    for wrong in ["bytes 999-799999/800000", "bytes 1000-799999/900000", "bytes */800000", "nonsense"] {
        let case = Case::new(vec![Answer::file(content()).with_range(wrong), Answer::file(content())]);
        case.begin_with(&content()[..1_000]);
        case.assert_whole();
        assert_eq!(server::header(&case.server.requests()[1], "range"), None, "{wrong}: started over");
    }
}

#[test]
fn a_range_that_cannot_be_had_starts_over() {
    let case = Case::new(vec![Answer::status(416), Answer::file(content())]);
    case.begin_with(&content()[..1_000]);
    case.assert_whole();
}

#[test]
fn a_beginning_longer_than_the_file_starts_over() {
    let case = Case::new(vec![Answer::file(content())]);
    case.begin_with(&[content(), vec![0]].concat());
    case.assert_whole();
    assert_eq!(server::header(&case.server.requests()[0], "range"), None);
}

#[test]
fn a_whole_file_without_its_name_is_checked_and_named() {
    let case = Case::new(vec![]);
    case.begin_with(&content());
    case.assert_whole();
    assert_eq!(case.server.requests().len(), 0);
}

#[test]
fn a_wrong_beginning_is_found_out_and_not_kept() {
    let case = Case::new(vec![Answer::file(content()), Answer::file(content())]);
    case.begin_with(&[1; 1_000]);
    let expected = sha256(&content());
    case.assert_refused(&["expected sha256", &expected, "an earlier download", "Nothing was kept"]);
    case.assert_whole();
}

#[test]
fn a_lie_about_the_content_is_found_out() {
    let mut lie = content();
    lie[77] ^= 1;
    let case = Case::new(vec![Answer::file(lie.clone())]);
    let (expected, found) = (sha256(&content()), sha256(&lie));
    case.assert_refused(&[&expected, &found, "another file than the pinned one", PATH]);
    assert!(!case.partial().exists(), "the lie is kept");
}

#[test]
fn more_than_the_file_is_refused_before_it_fills_the_disk() {
    let case = Case::new(vec![Answer::file([content(), content()].concat())]);
    case.assert_refused(&["expected 800000 bytes, found more"]);
    assert!(!case.partial().exists());
}

#[test]
fn less_than_the_file_is_told() {
    let short = || Answer::file(content()[..500].to_vec()).ignoring_ranges();
    let case = Case::new(vec![short(), short(), short()]);
    case.assert_refused(&["the answer ended 799500 bytes too early", "3 attempts"]);
}

#[test]
fn refusals_say_what_to_do() {
    for (status, word) in
        [(401, "HF_TOKEN"), (403, "no access"), (404, "pinned revision"), (418, "try again later")]
    {
        let case = Case::new(vec![Answer::status(status)]);
        case.assert_refused(&[&status.to_string(), word, PATH]);
        assert_eq!(case.server.requests().len(), 1, "{status} is not tried again");
    }
}

#[test]
fn a_failing_server_is_tried_again_and_then_told() {
    let case = Case::new(vec![Answer::status(500), Answer::status(503), Answer::file(content())]);
    case.assert_whole();
    let case = Case::new(vec![Answer::status(500), Answer::status(500), Answer::status(500)]);
    case.assert_refused(&["500", "3 attempts", "0 of 800000 bytes"]);
}

#[test]
fn a_redirect_is_followed_without_the_token_leaving_the_endpoint() {
    let elsewhere = Server::start(vec![Answer::file(content())]);
    let mut case = Case::new(vec![Answer::redirect(&format!("{}/signed", elsewhere.address))]);
    case.hub.token = Some("secret".to_owned());
    case.assert_whole();
    assert_eq!(server::header(&case.server.requests()[0], "authorization").as_deref(), Some("Bearer secret"));
    let second = &elsewhere.requests()[0];
    assert!(second.starts_with("GET /signed "), "{second}");
    assert_eq!(server::header(second, "authorization"), None);
}

#[test]
fn no_server_at_all_is_told() {
    let mut case = Case::new(vec![]);
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    case.hub.endpoint = format!("http://{free}");
    case.assert_refused(&[&free.to_string(), "3 attempts"]);
}

#[test]
fn offline_means_no_request() {
    let mut case = Case::new(vec![Answer::file(content())]);
    case.hub.offline = true;
    case.assert_refused(&["HF_HUB_OFFLINE", "HF_HOME", PATH]);
    assert_eq!(case.server.requests().len(), 0);
    // What is there already needs no network.
    fs::create_dir_all(case.blob().parent().unwrap()).unwrap();
    fs::write(case.blob(), content()).unwrap();
    case.assert_whole();
}

#[test]
fn a_damaged_blob_is_told_and_left_alone() {
    let case = Case::new(vec![]);
    case.begin_with(b"");
    fs::write(case.blob(), b"damaged").unwrap();
    let message = case.fetch().unwrap_err().to_string();
    assert!(message.contains("damaged") && message.contains("rm "), "{message}");
    assert_eq!(fs::read(case.blob()).unwrap(), b"damaged");
}

#[test]
fn two_fetches_of_one_file_do_not_mix() {
    let case = Case::new(vec![]);
    case.begin_with(b"abc");
    let other = fs::OpenOptions::new().write(true).open(case.partial()).unwrap();
    other.lock().unwrap();
    case.assert_refused(&["another process is fetching"]);
    assert_eq!(fs::read(case.partial()).unwrap(), b"abc");
}

#[test]
fn a_manifest_cannot_reach_out_of_the_cache() {
    for path in ["../../../escape", "/tmp/escape", "a/../../escape", "a\0b"] {
        let case = Case::new(vec![]);
        let mut manifest = made_up();
        manifest.hub.files[0].path = path.to_owned();
        let error = fetch(&manifest, &case.hub, &mut |_| ()).unwrap_err();
        assert!(matches!(error, FetchError::Name { .. }), "{error}");
        assert_eq!(case.server.requests().len(), 0);
    }
}

#[test]
fn progress_ends_at_the_whole() {
    let case = Case::new(vec![Answer::file(content())]);
    let mut seen = Vec::new();
    fetch(&made_up(), &case.hub, &mut |progress| seen.push((progress.done, progress.total))).unwrap();
    assert!(seen.is_sorted() && seen.len() > 2, "{} reports", seen.len());
    assert_eq!(seen.last(), Some(&(800_000, 800_000)));
}
