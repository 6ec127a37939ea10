use std::path::Path;

use crate::movielens::{self, Layout};
use crate::read::files::Files;
use crate::read::log::Log;
use crate::read::tables::Sink;
use crate::{Dataset, Error, ReadOptions, reviews, sequences};

/// Read a dataset from its folder, its zip or its file of reviews: a [MovieLens](movielens)
/// release, [visit sequences](sequences), or [reviews], told apart by the names of the files.
///
/// # Errors
///
/// [`Error::UnknownLayout`] if it is none of them; otherwise as [`movielens::load`],
/// [`sequences::load`] and [`reviews::load`].
pub fn load(path: &Path) -> Result<Dataset, Error> {
    load_with(path, &ReadOptions::default())
}

/// As [`load`](load()), but bad records may be skipped, and values masked in errors.
///
/// # Errors
///
/// As [`load`](load()); and [`Error::TooManyBad`] for more bad records than may be skipped.
pub fn load_with(path: &Path, options: &ReadOptions) -> Result<Dataset, Error> {
    Log::into_dataset(|sink| read(path, options, sink))
}

pub(crate) fn read<'s>(
    path: &Path,
    options: &ReadOptions,
    sink: &'s mut Sink<'s>,
) -> Result<Log, Error> {
    let files = Files::open(path, options)?;
    match Layout::of(&files) {
        Some(layout) => movielens::read(files, layout, sink),
        None if files.has(&sequences::ITEMS_NAMES) => sequences::read(files, sink),
        None => reviews::read(files, sink),
    }
}
