//! What tuning did to the language model itself: how well it still reads plain text, without a user.

use llm::{LanguageModel, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Three paragraphs of everyday English that were written for this purpose: no model knows them by
/// heart, and no dataset here is about them.
const TEXT: &str = include_str!("plain_text.txt");

/// A language model's perplexity on plain text, before and after tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlainTextRow {
    /// The contender.
    pub name: String,
    /// Perplexity of the language model as it was loaded.
    pub before: f64,
    /// Perplexity of the tuned one, when no user is attached. Under the strategies `enc` and `proj`
    /// the same to the last bit.
    pub after: f64,
}

impl PlainTextRow {
    /// Whether tuning left the language model alone, to the last bit.
    pub fn is_untouched(&self) -> bool {
        self.before.to_bits() == self.after.to_bits()
    }
}

/// Perplexity of the plain text.
///
/// # Errors
///
/// If the tokenizer fails.
pub fn perplexity(model: &LanguageModel, tokenizer: &Tokenizer) -> Result<f64, Error> {
    Ok(model.perplexity(&tokenizer.encode(TEXT)?))
}
