use std::path::Path;

use crate::movielens::{self, Layout};
use crate::read::files::Files;
use crate::{Dataset, Error, sequences};

/// Read a dataset from its folder or its zip: a [MovieLens](movielens) release or
/// [visit sequences](sequences), told apart by the names of the files.
///
/// # Errors
///
/// [`Error::UnknownLayout`] if it is neither; otherwise as [`movielens::load`] and
/// [`sequences::load`].
pub fn load(path: &Path) -> Result<Dataset, Error> {
    let files = Files::open(path)?;
    match Layout::of(&files) {
        Some(layout) => movielens::read(files, layout),
        None => sequences::read(files),
    }
}
