use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::descriptions::says_nothing;
use crate::read::files::Files;
use crate::read::log::Log;
use crate::read::tables::Sink;
use crate::reviews::{ReviewTexts, TextsWriter};
use crate::tables::{self, TableConfig};
use crate::{Dataset, Error, ReadOptions, load};

/// Where a dataset is to be read from.
///
/// # Example
///
/// ```
/// use datasets::tables::TableConfig;
/// use datasets::{ReadOptions, Source};
///
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("log.csv"), "who,what\nada,7\nada,8\n")?;
/// let config = TableConfig::new("log.csv", "who", "what");
/// let source = Source::Tables { config, folder: folder.path().into() };
/// assert_eq!(source.load(&ReadOptions::default())?.stats().interactions, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "a program has one")]
pub enum Source {
    /// A folder, zip or file of a layout that [`load`](crate::load()) knows.
    Path(PathBuf),
    /// Tables of your own.
    Tables {
        /// Which column is what.
        config: TableConfig,
        /// Where paths that are not absolute start.
        folder: PathBuf,
    },
}

impl Source {
    /// Read it into memory.
    ///
    /// # Errors
    ///
    /// As [`load_with`](crate::load_with) and [`tables::load`].
    pub fn load(&self, options: &ReadOptions) -> Result<Dataset, Error> {
        Log::into_dataset(|sink| self.read(options, sink))
    }

    /// Read what people wrote at the events of a dataset that was read from it, and may have been
    /// filtered since.
    ///
    /// # Errors
    ///
    /// As [`ReviewTexts::read_with`] and [`tables::load_texts`].
    pub fn review_texts(
        &self,
        dataset: &Dataset,
        options: &ReadOptions,
    ) -> Result<ReviewTexts, Error> {
        match self {
            Self::Path(path) if says_nothing(&Files::open(path, options)?) => {
                TextsWriter::new(dataset)?.finish()
            }
            Self::Path(path) => ReviewTexts::read_with(path, dataset, options),
            Self::Tables { config, folder } => tables::load_texts(config, folder, dataset, options),
        }
    }

    /// Read it, and hand its events on one by one.
    pub(crate) fn read<'s>(
        &self,
        options: &ReadOptions,
        sink: &'s mut Sink<'s>,
    ) -> Result<Log, Error> {
        match self {
            Self::Path(path) => load::read(path, options, sink),
            Self::Tables { config, folder } => tables::read(config, folder, options, sink),
        }
    }
}
