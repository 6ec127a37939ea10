//! What can go wrong, with the facts.

use std::path::PathBuf;

use thiserror::Error;

/// An error of training, evaluation, or their files.
#[derive(Debug, Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried: `read`, `write`, `create`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A run file does not parse, or lacks a key.
    #[error("{file}: {message}\nrun `user-llm config` to see a complete run file")]
    Config {
        /// The file.
        file: String,
        /// What the parser said: key, line, column.
        message: String,
    },
    /// A run file has a key that means nothing.
    #[error(
        "{file}: unknown key `{key}`{}\nrun `user-llm config` to see every key there is",
        suggestion.as_ref().map(|known| format!("; did you mean `{known}`?")).unwrap_or_default()
    )]
    UnknownKey {
        /// The file, or `--set`.
        file: String,
        /// The key's path.
        key: String,
        /// A key that looks alike.
        suggestion: Option<String>,
    },
    /// A value that cannot work.
    #[error("`{key}` = {found}: expected {expected}")]
    Value {
        /// The key's path.
        key: &'static str,
        /// The value.
        found: String,
        /// What would work.
        expected: String,
    },
    /// A run about the encoder alone was asked for more, or lacks one section of several that
    /// belong together.
    #[error(
        "this run file has no [{section}] section, which everything with a language model needs \
         (llm, fusion, tuning and prompts come together); `user-llm config` prints a complete file"
    )]
    MissingSection {
        /// The section.
        section: &'static str,
    },
    /// A backend that cannot be had here.
    #[error("backend `{spec}` {reason}\n{help}")]
    Backend {
        /// What was asked for.
        spec: String,
        /// Why not.
        reason: String,
        /// The command that would help.
        help: String,
    },
    /// The loss, or the gradient, is not a number.
    #[error(
        "the {what} is {value} at step {step} of {stage}; the last good checkpoint is {checkpoint}\n\
         lower `learning_rate` or `clip_norm` of that stage and begin again in another run folder"
    )]
    NotFinite {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// Its value.
        value: f32,
        /// The step, counted from 1.
        step: usize,
        /// `pretraining` or `tuning`.
        stage: &'static str,
        /// Where training can go on from.
        checkpoint: String,
    },
    /// A checkpoint that is damaged or belongs to something else.
    #[error("checkpoint {path}: {reason}")]
    Checkpoint {
        /// Its folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A run folder that is not there, not complete, or of another run.
    #[error("run folder {path}: {reason}")]
    RunFolder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// An export that cannot be written, or is not what was tuned.
    #[error("export {path}: {reason}")]
    Export {
        /// Its folder or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A results folder that is none.
    #[error("{path} {reason}")]
    Results {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Results that no one table can hold.
    #[error("these results cannot stand in one table: {what}")]
    Incomparable {
        /// Which, and what differs.
        what: String,
    },
    /// A grid of runs that cannot be run.
    #[error("{file}: {reason}")]
    Grid {
        /// Its file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A cell of a grid whose run cannot be.
    #[error("{file}, cell \"{cell}\"")]
    GridCell {
        /// The grid's file.
        file: String,
        /// The cell.
        cell: String,
        /// What is wrong with its run.
        source: Box<Error>,
    },
    /// An item that cannot be added to a trained catalogue.
    #[error(
        "item {id:?} shares no genre and no word of its title with any trained item, so there is \
         nothing to place it by; give it genres"
    )]
    AddedItem {
        /// The item's id.
        id: String,
    },
    /// A device that a batch is to be spread over and that is not there.
    #[error("`{key}`")]
    Device {
        /// The key in the run file.
        key: &'static str,
        /// What is wrong with it.
        source: crate::backend::DeviceError,
    },
    /// The data.
    #[error(transparent)]
    Data(#[from] datasets::Error),
    /// The language model's files and tokenizer.
    #[error(transparent)]
    LanguageModel(#[from] llm::Error),
    /// The text encoder's files and tokenizer.
    #[error(transparent)]
    TextEncoder(#[from] text_encoder::Error),
    /// Titles or genres that make no trie.
    #[error("titles cannot be ranked: {0}")]
    Trie(#[from] llm::ranking::TrieError),
}

impl Error {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn value(
        key: &'static str,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::Value {
            key,
            found: found.to_string(),
            expected: expected.into(),
        }
    }
}
