//! A server for one test: it gives the answers it was told, one per request, and keeps the requests. What is asked of the Hub's list
//! of files is answered from a list of its own, where there is one.
#![allow(dead_code)] // Not every test needs every answer.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What to answer to one request.
#[derive(Clone)]
pub(crate) struct Answer {
    status: u16,
    body: Vec<u8>,
    location: Option<String>,
    ranges: bool,
    range: Option<String>,
    break_after: Option<usize>,
    headers: Vec<(String, String)>,
}

impl Answer {
    /// The file, or the part that was asked for.
    pub(crate) fn file(body: Vec<u8>) -> Self {
        let headers = Vec::new();
        Self { status: 200, body, location: None, ranges: true, range: None, break_after: None, headers }
    }

    /// No file, but this status.
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::file(b"no such thing".to_vec()) }
    }

    /// The file is elsewhere.
    pub(crate) fn redirect(to: &str) -> Self {
        Self { location: Some(to.to_owned()), ..Self::status(302) }
    }

    /// Closes the connection after so many bytes of the body.
    pub(crate) fn breaking_off_after(self, bytes: usize) -> Self {
        Self { break_after: Some(bytes), ..self }
    }

    /// Says this beside.
    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives the whole file whatever was asked for.
    pub(crate) fn ignoring_ranges(self) -> Self {
        Self { ranges: false, ..self }
    }

    /// Says this of the part that it gives.
    pub(crate) fn with_range(self, range: &str) -> Self {
        Self { range: Some(range.to_owned()), ..self }
    }

    fn write(&self, stream: &mut TcpStream, request: &str) -> std::io::Result<()> {
        let from = header(request, "range").filter(|_| self.ranges && self.status == 200);
        let from =
            from.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let total = self.body.len();
        let part = &self.body[from.unwrap_or(0).min(total)..];
        let status = if from.is_some() { 206 } else { self.status };
        let mut head =
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n", part.len());
        if let Some(from) = from {
            let range = self.range.clone().unwrap_or_else(|| format!("bytes {from}-{}/{total}", total - 1));
            head += &format!("Content-Range: {range}\r\n");
        }
        if let Some(location) = &self.location {
            head += &format!("Location: {location}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(&part[..self.break_after.unwrap_or(part.len()).min(part.len())])
    }
}

/// A running server; it ends with the test.
pub(crate) struct Server {
    /// `http://127.0.0.1:PORT`
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts a server on any free port of this machine.
    pub(crate) fn start(answers: Vec<Answer>) -> Self {
        Self::with(answers, None)
    }

    /// As [`Server::start`]; requests for a list of files are answered with `listing` and neither counted nor kept.
    pub(crate) fn listing(listing: &str, answers: Vec<Answer>) -> Self {
        Self::with(answers, Some(Answer::file(listing.as_bytes().to_vec())))
    }

    fn with(answers: Vec<Answer>, listing: Option<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut answers = answers.into_iter();
            for stream in listener.incoming() {
                // A client that hangs up early is part of what is tested.
                let _ = serve(stream.unwrap(), &mut answers, listing.as_ref(), &kept);
            }
        });
        Self { address, requests }
    }

    /// The requests so far, whole.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    answers: &mut impl Iterator<Item = Answer>,
    listing: Option<&Answer>,
    kept: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
    }
    if let Some(listing) = listing.filter(|_| request.contains("/tree/")) {
        return listing.write(&mut stream, &request);
    }
    kept.lock().unwrap().push(request.clone());
    answers.next().unwrap_or_else(|| Answer::status(500)).write(&mut stream, &request)
}

/// The value of a header of a request.
pub(crate) fn header(request: &str, name: &str) -> Option<String> {
    request.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
