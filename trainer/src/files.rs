//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// burn writes weights as private files: let others read them as they may read `other`.
pub(crate) fn as_readable_as(other: &Path, path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::metadata(other)?.permissions())
}

/// Write a file under another name first, so that whoever reads it, or has mapped the one before,
/// never sees a part of it; then as readable as any other file.
pub(crate) fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Less what the umask takes; temporary files are private otherwise.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}
