//! The files of a dataset: in a folder or a zip, plain or gzipped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::cell::{MAX_LINE, Place, decode};
use crate::hash::hex;
use crate::movielens::Layout;
use crate::report::{Finding, ReadOptions, ReadReport, Tally};
use crate::{Dataset, Error, reviews, sequences};

const TABLE_ENDINGS: [&str; 6] = [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"];

const BUFFER_BYTES: usize = 256 * 1024;

/// A folder or zip in which some layout was recognised.
pub(crate) struct Files {
    path: PathBuf,
    /// Path inside the folder or zip, by file name.
    names: BTreeMap<String, String>,
    zip: Option<ZipArchive<BufReader<File>>>,
    /// Of the hashes of the files that were read so far.
    hash: Sha256,
    pub(crate) tally: Tally,
}

/// One file of [`Files`].
pub(crate) struct Member {
    /// Where it is, for messages; inside a zip, the zip's path comes first.
    pub(crate) path: PathBuf,
    name: String,
}

/// An open file, unpacked as it is read.
pub(crate) struct Opened<'a> {
    pub(crate) path: &'a Path,
    reader: &'a mut dyn BufRead,
    /// Whether an error while reading means that the packed bytes are damaged.
    is_packed: bool,
    pub(crate) tally: &'a mut Tally,
}

impl Files {
    pub(crate) fn open(path: &Path, options: &ReadOptions) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
        if let Some((folder, name)) = metadata.is_file().then(|| reviews_file(path)).flatten() {
            let mut names = list_folder(folder)?;
            names.retain(|other, _| *other == name || reviews::is_metadata_of(other, &name));
            return Ok(Self {
                path: folder.to_path_buf(),
                names,
                zip: None,
                hash: Sha256::new(),
                tally: Tally::new(options),
            });
        }
        let (zip, folders) = if metadata.is_dir() {
            (None, vec![list_folder(path)?])
        } else {
            let zip = open_zip(path)?;
            let folders = zip_folders(&zip);
            (Some(zip), folders)
        };
        match folders.iter().find(|names| is_known(names)) {
            Some(names) => Ok(Self {
                path: path.to_path_buf(),
                names: names.clone(),
                zip,
                hash: Sha256::new(),
                tally: Tally::new(options),
            }),
            None => Err(unknown_layout(path, &folders)),
        }
    }

    /// A table: a file, or a folder whose files are parts of it.
    pub(crate) fn tables(path: &Path, options: &ReadOptions) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(|source| read_error(path, source))?;
        let (folder, mut names) = match metadata.is_dir() {
            true => (path, list_folder(path)?),
            false => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let folder = path.parent().unwrap_or(path);
                (
                    folder,
                    BTreeMap::from([(name.to_string(), name.to_string())]),
                )
            }
        };
        // What Spark and others leave beside the parts of a table.
        names.retain(|name, _| !name.starts_with(['_', '.']));
        let is_table = |name: &str| TABLE_ENDINGS.iter().any(|e| without_gz(name).ends_with(e));
        let other = names.keys().find(|name| !is_table(name));
        if other.is_some() || names.is_empty() {
            return Err(Error::NoTable {
                path: path.to_path_buf(),
                found: other.map_or_else(|| "nothing in it".into(), String::clone),
            });
        }
        Ok(Self {
            path: folder.to_path_buf(),
            names,
            zip: None,
            hash: Sha256::new(),
            tally: Tally::new(options),
        })
    }

    /// The same, with what was read before counting towards fingerprint and report.
    pub(crate) fn continuing(self, before: Self) -> Self {
        Self {
            hash: before.hash,
            tally: before.tally,
            ..self
        }
    }

    /// Whether there is a file with one of these names, plain or gzipped.
    pub(crate) fn has(&self, wanted: &[&str]) -> bool {
        find(&self.names, wanted).is_some()
    }

    /// The error for a layout other than the one that was asked for.
    pub(crate) fn unknown_layout(&self) -> Error {
        unknown_layout(&self.path, std::slice::from_ref(&self.names))
    }

    /// What a dataset of these files is called: the folder's or archive's name.
    pub(crate) fn name(&self) -> String {
        // An absolute path has a name even where the one given is `.`.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let name = if self.zip.is_some() {
            path.file_stem()
        } else {
            path.file_name()
        };
        name.map_or_else(
            || "dataset".to_string(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// The first file with one of these names, plain or gzipped.
    pub(crate) fn require(&self, wanted: &[&str]) -> Result<Member, Error> {
        let missing = || Error::MissingFile {
            path: self.path.clone(),
            expected: wanted
                .first()
                .map_or_else(String::new, |name| (*name).to_string()),
        };
        let name = find(&self.names, wanted).ok_or_else(missing)?;
        Ok(self.member(name))
    }

    /// All files whose names are wanted, in the order of their names.
    pub(crate) fn all(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Member> {
        let names = self.names.keys().filter(|name| is_wanted(name));
        names.map(|name| self.member(name)).collect()
    }

    fn member(&self, name: &str) -> Member {
        Member {
            path: self.path.join(&self.names[name]),
            name: name.to_string(),
        }
    }

    /// The folder or archive itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Read a file, unpacked; its bytes count towards the fingerprint that [`sign`](Self::sign) gives.
    pub(crate) fn read<T>(
        &mut self,
        member: &Member,
        read: impl FnOnce(&mut Opened<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let tally = &mut self.tally;
        let is_masked = tally.options.mask_values;
        let read = |file: &mut Opened<'_>| {
            read(file).map_err(|error| if is_masked { error.masked() } else { error })
        };
        let (value, hash) = if let Some(zip) = &mut self.zip {
            let damaged = |source| Error::Damaged {
                file: member.path.clone(),
                source: Box::new(source),
            };
            let packed = zip.by_name(&self.names[&member.name]).map_err(damaged)?;
            read_unpacked(member, packed, true, tally, read)?
        } else {
            let file =
                File::open(&member.path).map_err(|source| read_error(&member.path, source))?;
            read_unpacked(member, file, false, tally, read)?
        };
        self.hash.update(hash.finalize());
        Ok(value)
    }

    /// The SHA-256 of all files that were read, and what was found in them.
    pub(crate) fn fingerprint(self) -> (String, ReadReport) {
        (hex(&self.hash.finalize()), self.tally.report)
    }

    /// Tell a dataset of these files what they were: the fingerprint, which is one SHA-256 for all
    /// files that were read, in that order, and the report; and log that it is loaded.
    pub(crate) fn sign(self, dataset: &mut Dataset, started: Instant) {
        (dataset.sha256, dataset.report) = self.fingerprint();
        for (found, count) in dataset.report.lines() {
            tracing::info!(
                dataset = dataset.name,
                found,
                count,
                "not taken as it stood"
            );
        }
        tracing::info!(
            dataset = dataset.name,
            users = dataset.histories.len(),
            items = dataset.catalogue.len(),
            seconds = started.elapsed().as_secs_f64(),
            "loaded"
        );
    }
}

impl Member {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.plain_name() == name
    }

    /// The name, without `.gz` behind it.
    pub(crate) fn plain_name(&self) -> &str {
        without_gz(&self.name)
    }
}

impl Opened<'_> {
    /// Read the next line, without its line feed, into `line`. Returns false at the end.
    ///
    /// A line that exceeds `max` bytes is cut there; its length then says so.
    pub(crate) fn read_line(&mut self, line: &mut Vec<u8>, max: usize) -> Result<bool, Error> {
        line.clear();
        let n_read = Read::take(&mut *self.reader, max as u64 + 1)
            .read_until(b'\n', line)
            .map_err(|source| self.error(source))?;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(n_read > 0)
    }

    /// What is left to read, and what is counted meanwhile.
    pub(crate) fn split(&mut self) -> (&mut dyn BufRead, &mut Tally) {
        (&mut *self.reader, &mut *self.tally)
    }

    /// Read on to the line end, keeping nothing.
    fn skip_line(&mut self) -> Result<(), Error> {
        let skipped = self.reader.skip_until(b'\n');
        skipped.map(|_| ()).map_err(|source| self.error(source))
    }

    pub(crate) fn error(&self, source: io::Error) -> Error {
        if self.is_packed {
            Error::Damaged {
                file: self.path.to_path_buf(),
                source: source.into(),
            }
        } else {
            read_error(self.path, source)
        }
    }
}

impl Read for Opened<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// Read one file to its end, and hash its unpacked bytes meanwhile.
fn read_unpacked<T>(
    member: &Member,
    packed: impl Read,
    is_in_zip: bool,
    tally: &mut Tally,
    read: impl FnOnce(&mut Opened<'_>) -> Result<T, Error>,
) -> Result<(T, Sha256), Error> {
    let packed = BufReader::with_capacity(BUFFER_BYTES, packed);
    let is_gzipped = without_gz(&member.name) != member.name;
    let unpacked: Box<dyn Read + '_> = if is_gzipped {
        Box::new(MultiGzDecoder::new(packed))
    } else {
        Box::new(packed)
    };
    let mut hashing = BufReader::with_capacity(
        BUFFER_BYTES,
        Hashing {
            inner: unpacked,
            hash: Sha256::new(),
        },
    );
    let mut opened = Opened {
        path: &member.path,
        reader: &mut hashing,
        is_packed: is_gzipped || is_in_zip,
        tally,
    };
    let value = read(&mut opened)?;
    // A reader may stop before the end; the fingerprint and the check of a gzip may not.
    io::copy(&mut opened, &mut io::sink()).map_err(|source| opened.error(source))?;
    Ok((value, hashing.into_inner().hash))
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n_read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n_read]);
        Ok(n_read)
    }
}

/// Call `read` with the place of the first column and the text of every line that is not blank.
/// It must not keep anything of a line that it refuses, since the line may be skipped.
pub(crate) fn for_each_line(
    file: &mut Opened<'_>,
    mut read: impl FnMut(&mut Tally, Place<'_>, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let mut place = Place {
        file: file.path,
        line: 0,
        column: 1,
        name: "line",
    };
    while file.read_line(&mut bytes, MAX_LINE)? {
        place.line += 1;
        if bytes.len() > MAX_LINE {
            let found = format!("more than {MAX_LINE} bytes without a line end");
            file.tally
                .tolerate(place.error(found, "a line of a text file"))?;
            file.skip_line()?;
            continue;
        }
        let mut line = decode(&bytes);
        if matches!(line, Cow::Owned(_)) {
            file.tally.add(Finding::Latin1);
        }
        if place.line == 1 {
            line = without_byte_order_mark(line);
        }
        let line = line.strip_suffix('\r').unwrap_or(&line);
        if line.trim().is_empty() {
            continue;
        }
        if let Err(error) = read(&mut *file.tally, place, line) {
            file.tally.tolerate(error)?;
        }
    }
    Ok(())
}

fn without_byte_order_mark(line: Cow<'_, str>) -> Cow<'_, str> {
    match line.strip_prefix('\u{feff}') {
        Some(rest) => Cow::Owned(rest.to_string()),
        None => line,
    }
}

fn list_folder(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let entries = fs::read_dir(path).map_err(|source| read_error(path, source))?;
    let mut names = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|source| read_error(path, source))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.insert(name.clone(), name);
        }
    }
    Ok(names)
}

/// The folder and name of a path to one file of reviews.
fn reviews_file(path: &Path) -> Option<(&Path, String)> {
    let name = path.file_name()?.to_str()?;
    let folder = match path.parent()? {
        current if current.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    reviews::is_reviews(name).then(|| (folder, name.to_string()))
}

fn open_zip(path: &Path) -> Result<ZipArchive<BufReader<File>>, Error> {
    let mut file = File::open(path).map_err(|source| read_error(path, source))?;
    let mut magic = [0; 2];
    let n_read = file
        .read(&mut magic)
        .map_err(|source| read_error(path, source))?;
    if n_read == 0 {
        return Err(Error::Empty {
            file: path.to_path_buf(),
        });
    }
    if magic != *b"PK" {
        return Err(Error::UnknownLayout {
            path: path.to_path_buf(),
            found: "a file that is no zip".to_string(),
            advice: "give the folder that the file is in, or the zip".to_string(),
        });
    }
    ZipArchive::new(BufReader::new(file)).map_err(|source| Error::Damaged {
        file: path.to_path_buf(),
        source: Box::new(source),
    })
}

/// The files of a zip, folder by folder, the outermost folder first.
fn zip_folders(zip: &ZipArchive<BufReader<File>>) -> Vec<BTreeMap<String, String>> {
    let mut folders: BTreeMap<(usize, String), BTreeMap<String, String>> = BTreeMap::new();
    for path in zip.file_names().flatten() {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        // macOS adds a shadow of every file.
        if name.is_empty() || folder.starts_with("__MACOSX") {
            continue;
        }
        let depth = if folder.is_empty() {
            0
        } else {
            folder.split('/').count()
        };
        folders
            .entry((depth, folder.to_string()))
            .or_default()
            .insert(name.to_string(), path.to_string());
    }
    folders.into_values().collect()
}

fn find<'a>(names: &'a BTreeMap<String, String>, wanted: &[&str]) -> Option<&'a str> {
    let is_wanted = |name: &str, wanted: &str| match wanted.strip_prefix('*') {
        Some(ending) => name.ends_with(ending),
        None => without_gz(name) == wanted,
    };
    wanted
        .iter()
        .find_map(|wanted| names.keys().find(|name| is_wanted(name, wanted)))
        .map(String::as_str)
}

/// Whether these files have the names of any layout.
fn is_known(names: &BTreeMap<String, String>) -> bool {
    let mut layouts = Layout::ALL.iter().map(|layout| layout.ratings_names());
    layouts.any(|wanted| find(names, wanted).is_some())
        || find(names, &sequences::ITEMS_NAMES).is_some()
        || names.keys().any(|name| reviews::is_reviews(name))
}

fn without_gz(name: &str) -> &str {
    name.strip_suffix(".gz").unwrap_or(name)
}

fn unknown_layout(path: &Path, folders: &[BTreeMap<String, String>]) -> Error {
    const N_SHOWN: usize = 5;
    let mut found: Vec<&str> = folders
        .iter()
        .flatten()
        .map(|(_, path)| path.as_str())
        .collect();
    let n_more = found.len().saturating_sub(N_SHOWN);
    found.truncate(N_SHOWN);
    let found = match (found.is_empty(), n_more) {
        (true, _) => "nothing in it".to_string(),
        (false, 0) => found.join(", "),
        (false, _) => format!("{} and {n_more} more", found.join(", ")),
    };
    let advice = match better_path(path) {
        Some(better) => format!("did you mean {}?", better.display()),
        None => "give the folder that these files are in".to_string(),
    };
    Error::UnknownLayout {
        path: path.to_path_buf(),
        found,
        advice,
    }
}

/// A folder or zip right below `path`, or the folder above, that does hold a dataset.
fn better_path(path: &Path) -> Option<PathBuf> {
    let below = fs::read_dir(path)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()));
    let mut candidates: Vec<PathBuf> = below
        .filter(|path| path.is_dir() || path.extension().is_some_and(|ending| ending == "zip"))
        .collect();
    candidates.sort();
    candidates.extend(path.parent().map(Path::to_path_buf));
    candidates.into_iter().find(|candidate| {
        let folders = match candidate.is_dir() {
            true => list_folder(candidate).map(|names| vec![names]),
            false => open_zip(candidate).map(|zip| zip_folders(&zip)),
        };
        folders.is_ok_and(|folders| folders.iter().any(is_known))
    })
}

fn read_error(path: &Path, source: io::Error) -> Error {
    Error::Read {
        path: path.to_path_buf(),
        source,
    }
}
