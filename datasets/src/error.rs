use std::fmt;
use std::io;
use std::path::PathBuf;

/// Longest piece of a data file that a message quotes, in characters.
const MAX_QUOTED: usize = 40;

/// Longest message of a parser that ours contains: it may quote a value of any length.
pub(crate) const MAX_DETAIL: usize = 200;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with data files, downloads and the cache.
///
/// Messages say what was found, what was expected, and what to do next. They never quote a
/// person's id.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("cannot read {}: {source}; check that the path is right and may be read", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file or folder could not be written.
    #[error("cannot write {}: {source}; {}", path.display(), write_advice(source))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Neither a folder nor an archive of any layout that is known.
    #[error(
        "{} is no dataset of a known layout: found {found}; expected u.data, ratings.dat, \
         ratings.csv, *_data.parquet or *.txt (plain, or with .gz) beside its list of items, \
         reviews as *.json.gz or *.jsonl, or their zip; {advice}",
        path.display()
    )]
    UnknownLayout {
        /// What the caller gave.
        path: PathBuf,
        /// A few of the names that are there instead.
        found: String,
        /// What to give instead.
        advice: String,
    },

    /// The layout was recognised by one file, and another is absent.
    #[error("{} has no {expected}; copy it there from the same archive", path.display())]
    MissingFile {
        /// The folder or archive.
        path: PathBuf,
        /// Name of the absent file.
        expected: String,
    },

    /// A line or cell is not what it must be.
    #[error(
        "{}:{line}: column {column} ({name}): found {found}, expected {expected}; \
         correct that line or take a fresh copy of the file",
        file.display()
    )]
    Row {
        /// The file, inside its archive if it has one.
        file: PathBuf,
        /// The line, from 1; in a Parquet file the row, from 1.
        line: u64,
        /// The column, from 1.
        column: usize,
        /// Name of the column.
        name: String,
        /// What is there.
        found: Found,
        /// What should be there.
        expected: String,
    },

    /// What was given as a table is none.
    #[error(
        "{} is no table: found {found}; expected .csv, .tsv, .jsonl, .ndjson, .json or .parquet \
         (plain, or with .gz), or a folder of such files alone",
        path.display()
    )]
    NoTable {
        /// What the caller gave.
        path: PathBuf,
        /// The name that is no table's.
        found: String,
    },

    /// A table lacks a column.
    #[error(
        "{} has no column {name:?}{}; it has {}",
        file.display(),
        did_you_mean(closest.as_deref()),
        known.join(", ")
    )]
    NoColumn {
        /// The file.
        file: PathBuf,
        /// The column that was asked for.
        name: String,
        /// The column whose name is most like it, if any is.
        closest: Option<String>,
        /// The columns that are there.
        known: Vec<String>,
    },

    /// More records than may be skipped are not what they must be.
    #[error(
        "more than {limit} records are not what they must be, the last one: {last}; raise \
         skip_bad, or correct them"
    )]
    TooManyBad {
        /// How many may be skipped: [`ReadOptions::skip_bad`](crate::ReadOptions::skip_bad).
        limit: u64,
        /// What is wrong with the record after those.
        last: Box<Error>,
    },

    /// Two files that would be read hold the same reviews.
    #[error(
        "{} has both {first} and {second}, of which one contains the other; give the path of one \
         of the files",
        path.display()
    )]
    Ambiguous {
        /// The folder or archive.
        path: PathBuf,
        /// One of the files.
        first: String,
        /// The other.
        second: String,
    },

    /// A record of a small table is not what it must be.
    #[error("{}:{line}: {reason}", file.display())]
    Record {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it, and what would be right.
        reason: String,
    },

    /// A file without a single record.
    #[error("{} is empty; take a fresh copy of the file", file.display())]
    Empty {
        /// The file, inside its archive if it has one.
        file: PathBuf,
    },

    /// A compressed or binary file that breaks off or is damaged.
    #[error("{} is cut short or damaged ({source}); take a fresh copy of the file", file.display())]
    Damaged {
        /// The file, inside its archive if it has one.
        file: PathBuf,
        /// What the decoder said.
        source: Source,
    },

    /// An item that a catalogue cannot hold.
    #[error("item {id:?}: {reason}; give every item an id of its own and list its genres")]
    Item {
        /// The item's id.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// An event that a dataset cannot hold.
    #[error("a history has {reason}; correct it before making a dataset of it")]
    Event {
        /// What is wrong with it.
        reason: String,
    },

    /// A dataset cannot be parted like this.
    #[error("cannot split: {reason}")]
    Split {
        /// Why not, and what to do.
        reason: &'static str,
    },

    /// A folder is no prepared store, or none that can be read.
    #[error("{} is no prepared store: {reason}; prepare it anew", path.display())]
    NoStore {
        /// The folder, or a file in it.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// No data can be generated like this.
    #[error("cannot generate data: {reason}")]
    Generator {
        /// Why not, and what to do.
        reason: &'static str,
    },

    /// No asset has this name.
    #[error("no asset is called {name:?}; known are {}", known.join(", "))]
    UnknownAsset {
        /// What was asked for.
        name: String,
        /// The names of all assets.
        known: Vec<&'static str>,
    },

    /// The path that the user gave for an asset does not exist.
    #[error("{} was given for {asset}, but nothing is there; correct the path or leave it out to have {asset} fetched", path.display())]
    GivenPath {
        /// Name of the asset.
        asset: String,
        /// The path that was given.
        path: PathBuf,
    },

    /// A repository name, revision or file name that a hub cannot have.
    #[error("{name:?} is no {what}; expected {expected}")]
    HubName {
        /// What was given.
        name: String,
        /// What it was given as.
        what: &'static str,
        /// What it should look like.
        expected: &'static str,
    },

    /// Every way to an asset was tried in vain.
    #[error("cannot get {asset}; tried:\n{}\n{advice}", indent(tried))]
    Unavailable {
        /// Name of the asset.
        asset: String,
        /// One line for each way that was tried, with what went wrong.
        tried: Vec<String>,
        /// How to get the asset by hand.
        advice: String,
    },

    /// The server answered with something other than the file.
    #[error("{url} answered with HTTP status {status}{}", status_advice(*status))]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },

    /// The server could not be reached, or the connection broke.
    #[error("{url}: {source}; check the network, then run the same command again")]
    Network {
        /// What was asked for.
        url: String,
        /// What the connection said.
        source: Source,
    },

    /// The connection ended before the file did.
    #[error(
        "{url} broke off after {got} of {expected} bytes; run the same command again and it goes \
         on from there"
    )]
    Interrupted {
        /// What was asked for.
        url: String,
        /// Bytes that are kept.
        got: u64,
        /// Bytes of the whole file.
        expected: u64,
    },

    /// A file is not the one that was expected, byte for byte.
    #[error(
        "{origin} is not the expected file: found {found}, expected {expected}; it was not used"
    )]
    Checksum {
        /// Where the bytes came from.
        origin: String,
        /// Size or SHA-256 that was found.
        found: String,
        /// Size or SHA-256 that was expected.
        expected: String,
    },

    /// `pip download` did not bring the package.
    #[error("{command}: {reason}")]
    Pip {
        /// The command, as one would type it.
        command: String,
        /// The end of what it said, or why it did not start.
        reason: String,
    },
}

impl Error {
    /// Whether the fault lies with this machine's disk, so that another download would not help.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Read { .. })
    }

    /// The same without a value of the data: its length stands there instead.
    pub(crate) fn masked(mut self) -> Self {
        match &mut self {
            Self::Row { found, .. } => found.mask(),
            Self::TooManyBad { last, .. } => {
                if let Self::Row { found, .. } = &mut **last {
                    found.mask();
                }
            }
            // The first line of a table without names is data.
            Self::NoColumn { closest, known, .. } => {
                *closest = None;
                *known = vec![format!("{} others", known.len())];
            }
            _ => {}
        }
        self
    }
}

/// What stands in the place of what was expected, for [`Error::Row`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    shown: Box<str>,
    mask: Option<Mask>,
}

/// What is shown where values must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mask {
    Bytes(usize),
    SomethingElse,
}

impl Found {
    /// A value of the data: quoted, on one line, and short.
    pub(crate) fn value(text: &str) -> Self {
        Self {
            shown: quote(text).into(),
            mask: Some(Mask::Bytes(text.len())),
        }
    }

    /// What a parser says, which may contain a value.
    pub(crate) fn detail(text: &str) -> Self {
        Self {
            shown: shorten(text, MAX_DETAIL).into(),
            mask: Some(Mask::SomethingElse),
        }
    }

    fn mask(&mut self) {
        match self.mask.take() {
            Some(Mask::Bytes(length)) => self.shown = format!("{length} bytes").into(),
            Some(Mask::SomethingElse) => self.shown = "something else".into(),
            None => {}
        }
    }
}

impl From<String> for Found {
    fn from(shown: String) -> Self {
        Self {
            shown: shown.into(),
            mask: None,
        }
    }
}

impl From<&str> for Found {
    fn from(shown: &str) -> Self {
        shown.to_string().into()
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A cell for a message: quoted, on one line, and short.
pub(crate) fn quote(text: &str) -> String {
    format!("{:?}", shorten(text, MAX_QUOTED))
}

/// The first characters of a text.
pub(crate) fn shorten(text: &str, n_chars: usize) -> String {
    let mut shown: String = text.chars().take(n_chars).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn write_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: free some space or choose another cache folder, then run the same \
             command again; what has arrived so far is kept"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a cache folder that you may write to"
        }
        _ => "check the disk, or choose another cache folder",
    }
}

fn status_advice(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            ": it is private or asks to accept its terms; download it by hand, then pass its path"
        }
        404 => ": nothing is there; check the name",
        429 => ": too many requests; wait a while, then run the same command again",
        500.. => ": the server is in trouble; try again later",
        _ => "",
    }
}

fn did_you_mean(closest: Option<&str>) -> String {
    closest.map_or_else(String::new, |closest| format!(", did you mean {closest}?"))
}

fn indent(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| format!("  - {line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_error_names_file_line_column_found_and_expected() {
        let error = Error::Row {
            file: "u.data".into(),
            line: 3,
            column: 3,
            name: "rating".into(),
            found: Found::value("five"),
            expected: "a number from 0.5 to 5".into(),
        };
        assert!(error.to_string().starts_with(
            r#"u.data:3: column 3 (rating): found "five", expected a number from 0.5 to 5"#
        ));
    }

    #[test]
    fn a_masked_error_tells_how_long_the_value_is_and_not_which() {
        let row = |found| Error::Row {
            file: "u.data".into(),
            line: 3,
            column: 3,
            name: "rating".into(),
            found,
            expected: "a number".into(),
        };
        let last = Box::new(row(Found::value("canary")));
        for error in [
            row(Found::value("canary")),
            Error::TooManyBad { limit: 1, last },
        ] {
            let error = error.masked();
            assert!(error.to_string().contains("found 6 bytes"), "{error}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        let text = row(Found::from("3 fields")).masked().to_string();
        assert!(text.contains("found 3 fields"), "{text}");
    }

    #[test]
    fn quoted_cells_are_short_and_on_one_line() {
        assert_eq!(quote("a\nb"), r#""a\nb""#);
        assert_eq!(quote(&"é".repeat(1000)).chars().count(), MAX_QUOTED + 3);
        let detail = Found::detail(&"é".repeat(10_000)).to_string();
        assert_eq!(detail.chars().count(), MAX_DETAIL + 1);
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let message = Error::Write {
            path: "/cache/x".into(),
            source,
        }
        .to_string();
        assert!(
            message.contains("the disk is full: free some space"),
            "{message}"
        );
        assert!(
            message.contains("what has arrived so far is kept"),
            "{message}"
        );
    }
}
