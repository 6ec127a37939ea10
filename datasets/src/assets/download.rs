//! One file over HTTP: into `<name>.part`, resumed if that is there, hashed on the way, and renamed
//! when it is known to be the right one.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::checked::{self, Expected, HashWriter, with_ending};
use crate::Error;
use crate::hash::hex;

/// How often a connection that broke on the way is taken up again at once.
const N_RETRIES: usize = 3;

const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes that are here, and bytes of the whole file where known.
pub(super) type OnProgress<'a> = &'a dyn Fn(u64, Option<u64>);

/// An agent that gives up soon where there is no network, and waits long where there is a slow one.
pub(super) fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // A compressed answer has other offsets than the file that is resumed.
        .accept_encoding("identity")
        .user_agent(concat!("user-llm/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(Duration::from_secs(10)))
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build();
    Agent::new_with_config(config)
}

/// Bring `url` to `target`. The caller holds the lock of the folder.
pub(super) fn download(
    agent: &Agent,
    url: &str,
    target: &Path,
    expected: Expected<'_>,
    on_progress: OnProgress<'_>,
) -> Result<(), Error> {
    let mut part = Part::open(target)?;
    if expected.size.is_some_and(|size| part.length > size) {
        part.restart()?;
    }
    let was_resumed = part.length > 0;
    match complete(agent, url, &mut part, expected, on_progress) {
        // The beginning may have come from another file, which has since taken the same address.
        Err(Error::Checksum { .. }) if was_resumed => {
            tracing::warn!(
                url,
                "what was resumed is not the expected file; starting afresh"
            );
            part.restart()?;
            complete(agent, url, &mut part, expected, on_progress)?;
        }
        other => other?,
    }
    part.persist(target)
}

/// Fetch what is missing, and compare the whole.
fn complete(
    agent: &Agent,
    url: &str,
    part: &mut Part,
    expected: Expected<'_>,
    on_progress: OnProgress<'_>,
) -> Result<(), Error> {
    let mut n_retries = 0;
    while expected.size.is_none_or(|size| part.length < size) {
        let before = part.length;
        match transfer(agent, url, part, expected, on_progress) {
            Ok(()) => break,
            Err(error @ (Error::Network { .. } | Error::Interrupted { .. }))
                if part.length > before && n_retries < N_RETRIES =>
            {
                n_retries += 1;
                tracing::warn!(%error, n_retries, "the connection broke; going on from there");
            }
            // What has arrived is wrong, not merely incomplete: it is of no use to a later run.
            Err(error @ Error::Checksum { .. }) => {
                part.restart()?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    }
    let checked = expected.check(url, part.length, &part.sha256());
    if checked.is_err() {
        part.restart()?;
    }
    checked
}

/// One request: the whole file, or what is missing of it if the server can do that.
fn transfer(
    agent: &Agent,
    url: &str,
    part: &mut Part,
    expected: Expected<'_>,
    on_progress: OnProgress<'_>,
) -> Result<(), Error> {
    let tag = part.read_tag();
    // Without a hash to tell afterwards, only the server can say whether the file is still the same.
    if part.length > 0 && expected.sha256.is_none() && tag.is_none() {
        part.restart()?;
    }
    let mut request = agent.get(url);
    if part.length > 0 {
        request = request.header(header::RANGE, format!("bytes={}-", part.length));
        if let Some(tag) = &tag {
            request = request.header(header::IF_RANGE, tag);
        }
    }
    let mut response = request
        .call()
        .map_err(|source| network_error(url, source))?;
    let is_rest = content_range(&response).is_some_and(|(start, _)| start == part.length);
    match response.status() {
        StatusCode::PARTIAL_CONTENT if is_rest => {}
        StatusCode::OK => part.restart()?,
        // The server cannot give that range: ask again, for all of it.
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if part.length > 0 => {
            part.restart()?;
            return transfer(agent, url, part, expected, on_progress);
        }
        status => {
            return Err(Error::Status {
                url: url.to_string(),
                status: status.as_u16(),
            });
        }
    }
    let total = content_range(&response)
        .and_then(|(_, total)| total)
        .or_else(|| Some(part.length + response.body().content_length()?));
    if let (Some(total), Some(size)) = (total, expected.size)
        && total != size
    {
        Expected {
            size: Some(size),
            sha256: None,
        }
        .check(url, total, "")?;
    }
    part.write_tag(&response);
    let total = total.or(expected.size);
    let mut reader = response.body_mut().as_reader();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let n_read = match reader.read(&mut chunk) {
            Ok(n_read) => n_read,
            Err(_) if total.is_some_and(|total| part.length < total) => 0,
            Err(source) => return Err(network_error(url, source)),
        };
        if n_read == 0 {
            break;
        }
        part.write_all(&chunk[..n_read])?;
        on_progress(part.length, total);
        if expected.size.is_some_and(|size| part.length > size) {
            return expected.check(url, part.length, "");
        }
    }
    match total {
        Some(expected) if part.length < expected => Err(Error::Interrupted {
            url: url.to_string(),
            got: part.length,
            expected,
        }),
        _ => Ok(()),
    }
}

/// A file on its way into the cache.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    pub(super) length: u64,
    hash: Sha256,
}

impl Part {
    /// Open `<target>.part`, and hash what an earlier run left there.
    pub(super) fn open(target: &Path) -> Result<Self, Error> {
        let path = with_ending(target, ".part");
        let write_error = |source| Error::Write {
            path: path.clone(),
            source,
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(write_error)?;
        let length = file.metadata().map_err(write_error)?.len();
        let mut hash = Sha256::new();
        io::copy(
            &mut Read::take(&mut file, length),
            &mut HashWriter(&mut hash),
        )
        .map_err(write_error)?;
        Ok(Self {
            path,
            file,
            length,
            hash,
        })
    }

    /// Throw away what is there.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        if self.length > 0 {
            self.file.set_len(0).map_err(|source| self.error(source))?;
            self.file
                .seek(SeekFrom::Start(0))
                .map_err(|source| self.error(source))?;
        }
        self.length = 0;
        self.hash = Sha256::new();
        Ok(())
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(|source| self.error(source))?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn sha256(&self) -> String {
        hex(&self.hash.clone().finalize())
    }

    /// Give the file its name, once it is on the disk.
    pub(super) fn persist(self, target: &Path) -> Result<(), Error> {
        self.file.sync_all().map_err(|source| self.error(source))?;
        let rename_error = |source| Error::Write {
            path: target.to_path_buf(),
            source,
        };
        fs::rename(&self.path, target).map_err(rename_error)?;
        if let Some(folder) = target.parent().and_then(|folder| File::open(folder).ok()) {
            // So that the new name outlives a power cut. Not every system can do it; then not.
            let _ = folder.sync_all();
        }
        let _ = fs::remove_file(self.tag_path());
        checked::write_note(target, self.sha256());
        Ok(())
    }

    /// The server's mark for the version of the file that the part is of.
    fn read_tag(&self) -> Option<String> {
        fs::read_to_string(self.tag_path()).ok()
    }

    fn write_tag(&self, response: &Response<Body>) {
        let tag = response
            .headers()
            .get(header::ETAG)
            .and_then(|tag| tag.to_str().ok());
        // Losing the mark costs no more than a download from the start. A weak one (`W/…`) does
        // not promise the same bytes.
        let _ = match tag.filter(|tag| tag.starts_with('"')) {
            Some(tag) => fs::write(self.tag_path(), tag),
            None => fs::remove_file(self.tag_path()),
        };
    }

    fn tag_path(&self) -> PathBuf {
        with_ending(&self.path, ".etag")
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Write {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Part {
    /// A part with nothing in it is of no use to a later run.
    fn drop(&mut self) {
        if self.length == 0 {
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(self.tag_path());
        }
    }
}

/// `bytes 100-199/1000` gives 100 and 1000; `bytes 100-199/*` gives 100 alone.
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let value = response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

pub(super) fn network_error(
    url: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Network {
        url: url.to_string(),
        source: source.into(),
    }
}
