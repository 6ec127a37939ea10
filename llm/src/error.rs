use std::path::PathBuf;

use thiserror::Error;

/// An error of another library, kept as the source of ours.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong with a model's files.
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
    /// A file or folder cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: Source,
    },
    /// The path is neither a GGUF file nor a Hugging Face folder.
    #[error(
        "{} is not a language model: expected a .gguf file, or a folder with config.json, \
         tokenizer.json and model.safetensors",
        path.display()
    )]
    NotAModel {
        /// The path given.
        path: PathBuf,
    },
    /// A file is cut off, damaged, or of another format than its name says.
    #[error("{} is not a readable {format} file", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        format: &'static str,
        /// Why it is not.
        source: Source,
    },
    /// A value that the model cannot do without is absent.
    #[error("{}: `{key}` is missing", path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: String,
    },
    /// A value is of the wrong kind, or makes no sense beside the others.
    #[error("{}: `{key}` is {found}, expected {expected}", path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: String,
        /// What it could be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The model has a part that this crate does not have; loading it without would give wrong
    /// numbers.
    #[error("{}: `{key}` is {found}, which is not supported; supported: {supported}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: String,
        /// What it is.
        found: String,
        /// What it may be.
        supported: String,
    },
    /// The weights are not those of the configuration, or are damaged.
    #[error("{}: the weights do not fit the model{}", path.display(), list(missing, unused, refused))]
    Weights {
        /// The file or folder.
        path: PathBuf,
        /// Parameters that no tensor fills.
        missing: Vec<String>,
        /// Tensors, by their name in the file, that fill no parameter.
        unused: Vec<String>,
        /// Tensors of the wrong shape, unreadable, or with values that are not finite, with why.
        refused: Vec<String>,
    },
    /// The tokenizer is malformed.
    #[error("the tokenizer in {} is malformed", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Source,
    },
    /// A text cannot be turned into tokens, or tokens into text.
    #[error("the tokenizer failed")]
    Encoding {
        /// Why.
        source: Source,
    },
    /// The model has no chat template: it was not trained to chat.
    #[error("the model has no chat template: give it plain text, or load an instruct model")]
    NoChatTemplate,
    /// The chat template is malformed, or refuses the messages.
    #[error("the chat template failed")]
    ChatTemplate {
        /// Why.
        source: minijinja::Error,
    },
}

/// One line for each kind of problem there is, with the first few names.
fn list(missing: &[String], unused: &[String], refused: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut lines = String::new();
    for (kind, names) in [
        ("missing", missing),
        ("not used", unused),
        ("refused", refused),
    ] {
        if !names.is_empty() {
            let more = names.len().saturating_sub(SHOWN);
            let names = names[..names.len().min(SHOWN)].join(", ");
            lines += &format!("\n  {kind}: {names}");
            if more > 0 {
                lines += &format!(" and {more} more");
            }
        }
    }
    lines
}
