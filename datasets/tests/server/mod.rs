//! A server on the loopback interface that does what real ones do on bad days.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

/// What to answer to one request.
pub(crate) struct Reply {
    status: u16,
    body: Vec<u8>,
    cut_after: Option<usize>,
    has_ranges: bool,
    linked: Option<(String, usize)>,
}

impl Reply {
    pub(crate) fn ok(body: Vec<u8>) -> Self {
        Self {
            status: 200,
            body,
            cut_after: None,
            has_ranges: true,
            linked: None,
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::ok(Vec::new())
        }
    }

    /// Close the connection after so many bytes of the body.
    pub(crate) fn cut_after(mut self, n_bytes: usize) -> Self {
        self.cut_after = Some(n_bytes);
        self
    }

    /// Send all of it, whatever range was asked for.
    pub(crate) fn without_ranges(mut self) -> Self {
        self.has_ranges = false;
        self
    }

    /// State size and SHA-256 as a hub does for large files.
    pub(crate) fn linked(self) -> Self {
        let body = self.body.clone();
        self.linked_as(&body)
    }

    /// State those of other bytes.
    pub(crate) fn linked_as(mut self, bytes: &[u8]) -> Self {
        let hash = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.linked = Some((hash, bytes.len()));
        self
    }
}

/// Runs until it is dropped, one connection after another.
pub(crate) struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answer the request of this number, from 0.
    pub(crate) fn start(mut reply: impl FnMut(usize) -> Reply + Send + 'static) -> Self {
        let mut n_requests = 0;
        Self::start_by_path(move |_| {
            n_requests += 1;
            reply(n_requests - 1)
        })
    }

    /// Answer a request for this path.
    pub(crate) fn start_by_path(mut reply: impl FnMut(&str) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (log, stop) = (requests.clone(), is_stopping.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                // A client that goes away in the middle is its own affair.
                let _ = answer(stream.unwrap(), &log, &mut reply);
            }
        });
        Self {
            address,
            requests,
            is_stopping,
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Stop, and give an address at which nobody answers any more.
    pub(crate) fn stop(self) -> String {
        self.url("/")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn answer(
    mut stream: TcpStream,
    log: &Mutex<Vec<String>>,
    reply: &mut impl FnMut(&str) -> Reply,
) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    log.lock().unwrap().push(head.clone());
    let path = head.split(' ').nth(1).unwrap_or_default();
    let Reply {
        status,
        body,
        cut_after,
        has_ranges,
        linked,
    } = reply(path);

    let start = head
        .lines()
        .find_map(|line| {
            line.to_lowercase()
                .strip_prefix("range: bytes=")?
                .split('-')
                .next()?
                .parse()
                .ok()
        })
        .filter(|start| has_ranges && status == 200 && *start < body.len())
        .unwrap_or(0);
    let status = if start > 0 { 206 } else { status };
    let sent = &body[start..];
    write!(
        stream,
        "HTTP/1.1 {status} -\r\nconnection: close\r\ncontent-length: {}\r\n",
        sent.len()
    )?;
    if start > 0 {
        write!(
            stream,
            "content-range: bytes {start}-{}/{}\r\n",
            body.len() - 1,
            body.len()
        )?;
    }
    if let Some((hash, size)) = linked {
        write!(
            stream,
            "x-linked-etag: \"{hash}\"\r\nx-linked-size: {size}\r\n"
        )?;
    }
    stream.write_all(b"\r\n")?;
    if !head.starts_with("HEAD ") {
        stream.write_all(&sent[..cut_after.unwrap_or(sent.len()).min(sent.len())])?;
    }
    stream.flush()
}
