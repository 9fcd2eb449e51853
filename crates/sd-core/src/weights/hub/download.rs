//! One download: resumed where it broke off, checked, and under its final name only when whole.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{Response, StatusCode, header};

use super::client::{self, Client};
use super::error::io;
use super::{Digest, FetchError, space};

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

/// One file being fetched.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client<'a>,
    /// Path in the repository.
    pub(super) path: &'a str,
    /// Its address.
    pub(super) url: String,
    /// Its length in bytes.
    pub(super) size: u64,
    /// What its content must have.
    pub(super) digests: &'a [Digest],
}

/// How one attempt ended.
enum Attempt {
    /// Every byte is there.
    Whole,
    /// It broke off for this reason, and may be tried again after a wait.
    BrokeOff(String, Duration),
}

impl Download<'_> {
    /// Fills `blob.incomplete`, checks it, and gives it its name. Gives `false` where another process was faster, and nothing was
    /// checked.
    pub(super) fn run(&self, blob: &Path, progress: &mut dyn FnMut(Progress)) -> Result<bool, FetchError> {
        make_folder_of(blob)?;
        let partial = PathBuf::from(format!("{}.incomplete", blob.display()));
        let mut target = open_locked(&partial)?;
        if blob.exists() {
            // Another process finished it between our look and our lock.
            self.discard(&partial);
            return Ok(false);
        }
        let here = io(&partial, "look at it", target.metadata())?.len();
        self.make_sure_of_room(here, blob)?;
        self.fill(&mut target, &partial, progress)?;
        self.check(&partial, here > 0)?;
        io(&partial, "flush it to disk", target.sync_all())?;
        io(blob, "name it", std::fs::rename(&partial, blob))?;
        sync_folder_of(blob)?;
        Ok(true)
    }

    fn make_sure_of_room(&self, here: u64, blob: &Path) -> Result<(), FetchError> {
        let needed = self.size.saturating_sub(here);
        let folder = blob.parent().unwrap_or(Path::new("."));
        match space::free(folder) {
            Some(free) if free < needed => Err(FetchError::Space { folder: folder.to_owned(), needed, free }),
            _ => Ok(()),
        }
    }

    /// As many attempts as it takes, and no more than are allowed.
    fn fill(
        &self,
        target: &mut File,
        partial: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), FetchError> {
        let mut pause = self.client.hub.pause;
        for attempt in 1.. {
            match self.attempt(target, partial, pause, progress)? {
                Attempt::Whole => break,
                Attempt::BrokeOff(cause, _) if attempt >= self.client.hub.attempts => {
                    return Err(self.gave_up(target, partial, cause, attempt));
                }
                Attempt::BrokeOff(_, wait) => std::thread::sleep(wait),
            }
            pause = pause.saturating_mul(2);
        }
        Ok(())
    }

    /// One request, from where the file ends.
    fn attempt(
        &self,
        target: &mut File,
        partial: &Path,
        pause: Duration,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Attempt, FetchError> {
        let mut from = io(partial, "find its end", target.seek(SeekFrom::End(0)))?;
        if from > self.size {
            from = self.start_over(target, partial)?;
        }
        if from == self.size {
            return Ok(Attempt::Whole);
        }
        let response = match self.client.get(&self.url, from) {
            Ok(response) => response,
            Err(cause) => return Ok(Attempt::BrokeOff(cause, pause)),
        };
        let answered = || format!("the server answered {}", response.status());
        match self.start_of(&response, from) {
            Start::Here => {}
            Start::AtZero => from = self.start_over(target, partial)?,
            Start::Nowhere => {
                self.start_over(target, partial)?;
                return Ok(Attempt::BrokeOff(answered(), pause));
            }
            Start::Later => return Ok(Attempt::BrokeOff(answered(), client::wait(&response, pause))),
            Start::Never => return Err(self.refused(&response)),
        }
        self.copy(response, Filling { target, partial, from, pause }, progress)
    }

    /// Where the body of an answer belongs.
    fn start_of(&self, response: &Response<ureq::Body>, from: u64) -> Start {
        match response.status() {
            StatusCode::OK => Start::AtZero,
            StatusCode::PARTIAL_CONTENT => {
                let range =
                    response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
                let expected = format!("bytes {from}-{}/{}", self.size - 1, self.size);
                if range == Some(&expected) { Start::Here } else { Start::Nowhere }
            }
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => Start::Nowhere,
            status if client::may_be_asked_again(status) => Start::Later,
            _ => Start::Never,
        }
    }

    fn copy(
        &self,
        response: Response<ureq::Body>,
        filling: Filling<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Attempt, FetchError> {
        let Filling { target, partial, from: mut done, pause } = filling;
        // The limit of the client's own is lifted: this one is exact.
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(count) => count as u64,
                Err(error) => return Ok(Attempt::BrokeOff(error.to_string(), pause)),
            };
            if done + count > self.size {
                self.discard(partial);
                return Err(FetchError::TooLong { url: self.url.clone(), expected: self.size });
            }
            if count == 0 {
                let missing = self.size - done;
                let cause = || format!("the answer ended {missing} bytes too early");
                return Ok(if missing == 0 { Attempt::Whole } else { Attempt::BrokeOff(cause(), pause) });
            }
            io(partial, "write to it", target.write_all(&buffer[..count as usize]))?;
            done += count;
            progress(Progress { path: self.path, done, total: self.size });
        }
    }

    /// What came must be what is pinned; else it goes, for going on from it would never help.
    fn check(&self, partial: &Path, resumed: bool) -> Result<(), FetchError> {
        for expected in self.digests {
            let found = expected.of_file_like(partial)?;
            if found != *expected {
                self.discard(partial);
                let (expected, found) = (expected.to_string(), found.to_string());
                return Err(FetchError::Digest { url: self.url.clone(), expected, found, resumed });
            }
        }
        Ok(())
    }

    fn discard(&self, partial: &Path) {
        // It has no final name, so what cannot be removed does no harm: it is checked again before it is used.
        let _ = std::fs::remove_file(partial);
    }

    fn start_over(&self, target: &mut File, partial: &Path) -> Result<u64, FetchError> {
        io(partial, "empty it", target.set_len(0))?;
        io(partial, "go to its start", target.seek(SeekFrom::Start(0)))
    }

    fn gave_up(&self, target: &File, partial: &Path, cause: String, attempts: u32) -> FetchError {
        let kept = target.metadata().map_or(0, |metadata| metadata.len());
        let partial = partial.to_owned();
        FetchError::Connection { url: self.url.clone(), cause, attempts, kept, total: self.size, partial }
    }

    fn refused(&self, response: &Response<ureq::Body>) -> FetchError {
        FetchError::Status {
            url: self.url.clone(),
            expected: "the file",
            status: response.status(),
            advice: client::advice(response, self.client.hub.token.is_some()),
        }
    }
}

/// An unfinished file, and how far it is.
struct Filling<'a> {
    target: &'a mut File,
    partial: &'a Path,
    from: u64,
    pause: Duration,
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

pub(super) fn make_folder_of(path: &Path) -> Result<(), FetchError> {
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
