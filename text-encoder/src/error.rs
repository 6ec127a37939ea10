use std::path::PathBuf;

use thiserror::Error;

/// What can go wrong with a text encoder's files, and with texts.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is cut off, damaged, or of another format than its name says.
    #[error("{} is not a readable {format} file", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// Why it is not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model is of another kind, or its files contradict each other; loaded nonetheless, it
    /// would give wrong vectors.
    #[error("{}: `{key}` is {found}, expected {expected}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// The weights are not those of the configuration, or are damaged.
    #[error("{}: the weights do not fit the model: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Which, and how.
        reason: String,
    },
    /// A text cannot be turned into tokens.
    #[error("the tokenizer failed")]
    Encoding {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
