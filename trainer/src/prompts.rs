//! What the language model is asked, and the answers that exist.

use datasets::{Catalogue, Event};
use llm::Tokenizer;
use llm::ranking::TokenTrie;

use crate::{Error, PromptConfig};

/// A closed set of answers: their texts, and the trie of their tokens.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The texts, in the order of the trie's sequences.
    pub texts: Vec<String>,
    /// Their tokens, each text after a space and closed by a line end.
    pub trie: TokenTrie,
}

impl Answers {
    /// Tokenize the texts.
    ///
    /// # Errors
    ///
    /// If two texts have the same tokens, or one has none.
    pub fn new(texts: Vec<String>, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let sequences = texts
            .iter()
            .map(|text| Ok(tokenizer.encode_bare(&format!(" {text}"))?))
            .collect::<Result<Vec<_>, Error>>()?;
        let end = tokenizer.encode_bare("\n")?;
        let end = *end.last().ok_or_else(|| {
            Error::value("llm.model", "a tokenizer without a line end", "one that has it")
        })?;
        Ok(Self { trie: TokenTrie::new(&sequences, end)?, texts })
    }

    /// The catalogue's titles; the answer's index is the item's.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn titles(catalogue: &Catalogue, tokenizer: &Tokenizer) -> Result<Self, Error> {
        Self::new(catalogue.unique_titles(), tokenizer)
    }

    /// The catalogue's genres; the answer's index is the genre's.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn genres(catalogue: &Catalogue, tokenizer: &Tokenizer) -> Result<Self, Error> {
        Self::new(catalogue.genres.clone(), tokenizer)
    }
}

impl PromptConfig {
    /// A history as text: the opening, then one line part per event, oldest first.
    pub fn history_text(&self, catalogue: &Catalogue, events: &[Event]) -> String {
        let mut text = self.history.clone();
        for event in events {
            let item = &catalogue.items[event.item as usize];
            let genres: Vec<&str> = item
                .genres
                .iter()
                .map(|&genre| catalogue.genres[usize::from(genre)].as_str())
                .collect();
            text += &self
                .event
                .replace("{title}", &item.title)
                .replace("{genres}", &genres.join(", "))
                .replace("{rating}", &event.rating.to_string());
        }
        text
    }
}
