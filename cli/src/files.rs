//! Files of results: whole or absent, in one of several formats.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::NamedTempFile;

/// A file that appears when all of it is written, and not at all before.
pub(crate) struct WholeFile {
    partial: NamedTempFile,
    path: PathBuf,
}

impl WholeFile {
    /// Begin a file that will be at `path`.
    pub(crate) fn begin(path: &Path) -> anyhow::Result<Self> {
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".user-llm-").suffix(".partial");
        // As readable as any other file: temporary ones are private otherwise.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let partial = builder.tempfile_in(folder);
        Ok(Self {
            partial: partial.with_context(|| format!("cannot write {}", path.display()))?,
            path: path.to_path_buf(),
        })
    }

    /// What to write to; everything is to be written when [`keep`](Self::keep) is called.
    pub(crate) fn writer(&self) -> anyhow::Result<File> {
        Ok(self.partial.as_file().try_clone()?)
    }

    /// It is whole: let it appear.
    pub(crate) fn keep(self) -> anyhow::Result<()> {
        let doing = || format!("cannot write {}", self.path.display());
        self.partial.as_file().sync_all().with_context(doing)?;
        let kept = self.partial.persist(&self.path);
        kept.map_err(|error| error.error)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(())
    }
}
