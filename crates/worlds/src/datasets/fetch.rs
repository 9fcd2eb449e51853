//! Downloads: resumed where they broke off, checked against the manifest, and under their final name only when whole.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, StatusCode, header};

use super::{Hub, Manifest, ManifestFile, cache, path_in_cache, sha256_of_file};
use crate::DataError;

/// How far a download is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Path in the repository.
    pub path: &'a str,
    /// Bytes here.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// A file could not be fetched. Nothing bad was left under its final name.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The network may not be used and the file is not in the cache.
    #[error("{path} of {repository} is not in the cache {} and HF_HUB_OFFLINE forbids the network; unset it, or set HF_HOME \
             to a cache that has the file", cache.display())]
    Offline {
        /// Path in the repository.
        path: String,
        /// The repository.
        repository: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The server answered with something else than the file.
    #[error("{url}: expected the file, the server answered {status}; {advice}")]
    Status {
        /// The address asked for.
        url: String,
        /// The answer.
        status: StatusCode,
        /// What to do.
        advice: String,
    },
    /// The connection could not be made, or broke off each time.
    #[error("{url}: {cause} ({attempts} attempts); {kept} of {total} bytes are kept in {}: run the same command again to go on \
             from there", partial.display())]
    Connection {
        /// The address asked for.
        url: String,
        /// What happened last.
        cause: String,
        /// Attempts made.
        attempts: u32,
        /// Bytes kept.
        kept: u64,
        /// Bytes of the whole file.
        total: u64,
        /// The unfinished file.
        partial: PathBuf,
    },
    /// What came is longer than the file.
    #[error(
        "{url}: expected {expected} bytes, found more; the server gives another file than the pinned one. Nothing was \
             kept. If HF_ENDPOINT names a mirror, unset it"
    )]
    TooLong {
        /// The address asked for.
        url: String,
        /// Length in the manifest.
        expected: u64,
    },
    /// What came is not the file.
    #[error(
        "{url}: expected sha256 {expected}, found {found}; the server gives another file than the pinned one. Nothing was \
             kept. If HF_ENDPOINT names a mirror, unset it"
    )]
    Digest {
        /// The address asked for.
        url: String,
        /// Digest in the manifest.
        expected: String,
        /// Digest of what came.
        found: String,
    },
    /// A file in the cache is not what its name says.
    #[error("{}: expected sha256 {expected}, found {found}; the file in the cache is damaged. Remove it with `rm {}` and \
             run the same command again", path.display(), path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Digest in the manifest.
        expected: String,
        /// Digest of its content.
        found: String,
    },
    /// Another process fetches the same file.
    #[error("{}: another process is fetching this file; wait for it, then run the same command again", path.display())]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// The manifest names a path that may not be used.
    #[error("{0}")]
    Path(String),
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A file that should be there could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Gets every file of a data set that is not yet in the cache; returns them in the manifest's order.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch(
    manifest: &Manifest,
    hub: &Hub,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<PathBuf>, FetchError> {
    let agent = agent(hub);
    let one = |file| Download { manifest, file, hub, agent: &agent }.run(progress);
    manifest.hub.files.iter().map(one).collect()
}

/// One connection pool. A silent server is given up after a minute, a slow one never.
fn agent(hub: &Hub) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .user_agent("difflab");
    // A proxy is for the world outside, never for this machine.
    let config = if is_loopback(&hub.endpoint) { config.proxy(None) } else { config };
    config.build().into()
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.split("://").nth(1).unwrap_or_default();
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
        host.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    })
}

/// One file being fetched.
struct Download<'a> {
    manifest: &'a Manifest,
    file: &'a ManifestFile,
    hub: &'a Hub,
    agent: &'a Agent,
}

/// How one attempt ended.
enum Attempt {
    /// Every byte is there.
    Whole,
    /// It broke off for this reason, and may be tried again.
    BrokeOff(String),
}

impl Download<'_> {
    fn run(&self, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, FetchError> {
        let path = path_in_cache(&self.file.path).map_err(FetchError::Path)?;
        let name = cache::snapshot(self.hub, self.manifest).join(&path);
        let blob = cache::blob(self.hub, self.manifest, self.file);
        if !self.is_present(&blob)? {
            self.refuse_offline()?;
            self.download(&blob, progress)?;
        }
        self.link(&blob, &name)?;
        progress(self.progress(self.file.size));
        Ok(name)
    }

    /// Whether the blob is there and whole; a damaged one is an error, for it may be in use.
    fn is_present(&self, blob: &Path) -> Result<bool, FetchError> {
        if !blob.exists() {
            return Ok(false);
        }
        let found = sha256_of_file(blob)?;
        if found == self.file.sha256 {
            return Ok(true);
        }
        Err(FetchError::Damaged { path: blob.to_owned(), expected: self.file.sha256.clone(), found })
    }

    fn refuse_offline(&self) -> Result<(), FetchError> {
        if !self.hub.offline {
            return Ok(());
        }
        let (path, repository) = (self.file.path.clone(), self.manifest.hub.repository.clone());
        Err(FetchError::Offline { path, repository, cache: self.hub.cache.clone() })
    }

    /// Fills `blob.incomplete`, checks it, and gives it its name.
    fn download(&self, blob: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), FetchError> {
        make_folder_of(blob)?;
        let partial = PathBuf::from(format!("{}.incomplete", blob.display()));
        let mut target = open_locked(&partial)?;
        let mut pause = self.hub.pause;
        for attempt in 1.. {
            match self.attempt(&mut target, &partial, progress)? {
                Attempt::Whole => break,
                Attempt::BrokeOff(cause) if attempt >= self.hub.attempts => {
                    return Err(self.gave_up(&target, partial, cause, attempt));
                }
                Attempt::BrokeOff(_) => std::thread::sleep(pause),
            }
            pause *= 2;
        }
        self.check(&partial)?;
        io(&partial, "flush it to disk", target.sync_all())?;
        io(blob, "name it", std::fs::rename(&partial, blob))?;
        sync_folder_of(blob)
    }

    /// One request, from where the file ends.
    fn attempt(
        &self,
        target: &mut File,
        partial: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Attempt, FetchError> {
        let mut from = io(partial, "find its end", target.seek(SeekFrom::End(0)))?;
        if from > self.file.size {
            from = self.start_over(target, partial)?;
        }
        if from == self.file.size {
            return Ok(Attempt::Whole);
        }
        let response = match self.ask(from) {
            Ok(response) => response,
            Err(cause) => return Ok(Attempt::BrokeOff(cause)),
        };
        match self.start_of(&response, from) {
            Start::Here => {}
            Start::AtZero => from = self.start_over(target, partial)?,
            Start::Nowhere => {
                self.start_over(target, partial)?;
                return Ok(Attempt::BrokeOff(format!("the server answered {}", response.status())));
            }
            Start::Later => {
                return Ok(Attempt::BrokeOff(format!("the server answered {}", response.status())));
            }
            Start::Never => return Err(self.refused(response.status())),
        }
        self.copy(response, target, partial, from, progress)
    }

    fn ask(&self, from: u64) -> Result<Response<ureq::Body>, String> {
        let mut request = self.agent.get(self.url()).header(header::ACCEPT_ENCODING, "identity");
        if let Some(token) = &self.hub.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call().map_err(|error| error.to_string())
    }

    /// Where the body of an answer belongs.
    fn start_of(&self, response: &Response<ureq::Body>, from: u64) -> Start {
        match response.status() {
            StatusCode::OK => Start::AtZero,
            StatusCode::PARTIAL_CONTENT => {
                let range =
                    response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let expected = format!("bytes {from}-{}/{}", self.file.size - 1, self.file.size);
                if range == Some(&expected) { Start::Here } else { Start::Nowhere }
            }
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => Start::Nowhere,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Start::Later,
            status if status.is_server_error() => Start::Later,
            _ => Start::Never,
        }
    }

    fn copy(
        &self,
        response: Response<ureq::Body>,
        target: &mut File,
        partial: &Path,
        mut done: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Attempt, FetchError> {
        // The limit of the client's own is lifted: this one is exact.
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(count) => count as u64,
                Err(error) => return Ok(Attempt::BrokeOff(error.to_string())),
            };
            if done + count > self.file.size {
                self.discard(partial);
                return Err(FetchError::TooLong { url: self.url(), expected: self.file.size });
            }
            if count == 0 {
                let missing = self.file.size - done;
                let broke_off = || Attempt::BrokeOff(format!("the answer ended {missing} bytes too early"));
                return Ok(if missing == 0 { Attempt::Whole } else { broke_off() });
            }
            io(partial, "write to it", target.write_all(&buffer[..count as usize]))?;
            done += count;
            progress(self.progress(done));
        }
    }

    /// What came must be what the manifest names; else it goes, for going on from it would never help.
    fn check(&self, partial: &Path) -> Result<(), FetchError> {
        let found = sha256_of_file(partial)?;
        if found == self.file.sha256 {
            return Ok(());
        }
        self.discard(partial);
        Err(FetchError::Digest { url: self.url(), expected: self.file.sha256.clone(), found })
    }

    fn discard(&self, partial: &Path) {
        // It has no final name, so what cannot be removed does no harm: it is checked again before it is used.
        let _ = std::fs::remove_file(partial);
    }

    fn start_over(&self, target: &mut File, partial: &Path) -> Result<u64, FetchError> {
        io(partial, "empty it", target.set_len(0))?;
        io(partial, "go to its start", target.seek(SeekFrom::Start(0)))
    }

    fn gave_up(&self, target: &File, partial: PathBuf, cause: String, attempts: u32) -> FetchError {
        let kept = target.metadata().map_or(0, |metadata| metadata.len());
        FetchError::Connection { url: self.url(), cause, attempts, kept, total: self.file.size, partial }
    }

    fn refused(&self, status: StatusCode) -> FetchError {
        let advice = match status {
            StatusCode::UNAUTHORIZED => "set HF_TOKEN to a valid access token",
            StatusCode::FORBIDDEN => {
                "the account of HF_TOKEN has no access: ask for it on the data set's page"
            }
            StatusCode::NOT_FOUND => {
                "the Hub (or the mirror in HF_ENDPOINT) no longer has the pinned revision"
            }
            _ => "try again later, or look at the address in a browser",
        };
        FetchError::Status { url: self.url(), status, advice: advice.to_owned() }
    }

    fn link(&self, blob: &Path, name: &Path) -> Result<(), FetchError> {
        if name.exists() && sha256_of_file(name)? == self.file.sha256 {
            return Ok(());
        }
        make_folder_of(name)?;
        io(name, "link it to its content", cache::link(blob, name, self.file.path.matches('/').count()))
    }

    fn url(&self) -> String {
        let source = &self.manifest.hub;
        format!(
            "{}/datasets/{}/resolve/{}/{}",
            self.hub.endpoint, source.repository, source.revision, self.file.path
        )
    }

    fn progress(&self, done: u64) -> Progress<'_> {
        Progress { path: &self.file.path, done, total: self.file.size }
    }
}

/// Where the body of an answer belongs.
enum Start {
    /// Where the unfinished file ends.
    Here,
    /// At the file's start: the server gives all of it.
    AtZero,
    /// Nowhere: what is here does not fit what the server has. Start over.
    Nowhere,
    /// The server cannot just now.
    Later,
    /// The server will not.
    Never,
}

fn io<T>(path: &Path, action: &'static str, result: std::io::Result<T>) -> Result<T, FetchError> {
    result.map_err(|source| FetchError::Io { path: path.to_owned(), action, source })
}

fn make_folder_of(path: &Path) -> Result<(), FetchError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    io(folder, "make this folder", std::fs::create_dir_all(folder))
}

/// Opens the unfinished file, keeping what it holds, for this process alone.
fn open_locked(path: &Path) -> Result<File, FetchError> {
    let file = io(
        path,
        "open it",
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path),
    )?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(FetchError::Busy { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => {
            Err(FetchError::Io { path: path.to_owned(), action: "lock it", source })
        }
    }
}

/// The rename itself must survive a power cut.
fn sync_folder_of(path: &Path) -> Result<(), FetchError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    match cfg!(unix) {
        true => {
            io(folder, "flush this folder to disk", File::open(folder).and_then(|folder| folder.sync_all()))
        }
        false => Ok(()),
    }
}
