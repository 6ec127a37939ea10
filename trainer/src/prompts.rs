//! What the language model is asked, and the answers that exist.

use datasets::{Catalogue, Event, NO_RATING};
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
        Ok(Self {
            trie: TokenTrie::new(&sequences, line_end(tokenizer)?)?,
            texts,
        })
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
    /// A history as text: the opening, then one line part per event, oldest first. Items that the
    /// catalogue lacks are left out.
    pub fn history_text(&self, catalogue: &Catalogue, events: &[Event]) -> String {
        let events = events.iter();
        let events = events.map(|event| event_text(&self.event, catalogue, event, ""));
        self.history.clone() + &events.collect::<String>()
    }
}

/// An event of a history as text, with what the person wrote at it; nothing of an item that the
/// catalogue lacks.
pub(crate) fn event_text(
    template: &str,
    catalogue: &Catalogue,
    event: &Event,
    review: &str,
) -> String {
    let Some(item) = catalogue.items.get(event.item as usize) else {
        return String::new();
    };
    let genres = item.genres.iter();
    let genres = genres.map(|&genre| catalogue.genres[usize::from(genre)].as_str());
    let genres = genres.collect::<Vec<_>>().join(", ");
    let rating = rating_text(event.rating);
    let values = [
        ("{title}", item.title.as_str()),
        ("{genres}", &genres),
        ("{rating}", &rating),
        ("{review}", review),
    ];
    fill(template, &values)
}

/// A rating as text; nothing where nobody rated.
pub(crate) fn rating_text(rating: f32) -> String {
    match rating {
        NO_RATING => String::new(),
        rating => rating.to_string(),
    }
}

/// The token that ends a line, and with it an answer.
pub(crate) fn line_end(tokenizer: &Tokenizer) -> Result<u32, Error> {
    let end = tokenizer.encode_bare("\n")?;
    end.last().copied().ok_or_else(|| {
        let expected = "one that has a line end";
        Error::value("llm.model", "a tokenizer without a line end", expected)
    })
}

/// Put values in place of their names, once: a value that holds a name is left as it is.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        text += before;
        match values.iter().find(|(name, _)| from.starts_with(name)) {
            Some((name, value)) => {
                text += value;
                rest = &from[name.len()..];
            }
            None => {
                text.push('{');
                rest = &from[1..];
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    #[test]
    fn a_history_is_written_oldest_first_with_title_genres_and_rating() {
        let event = |item, rating| Event {
            item,
            rating,
            timestamp: 0,
        };
        let text = toy::config(&[])
            .prompts
            .unwrap()
            .history_text(&toy::dataset().catalogue, &[event(4, 2.5), event(3, 5.0)]);
        assert_eq!(text, "Seen:\nE4 (Crime, Noir) 2.5\nD3 (War) 5\n");
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        let event = |item| Event {
            item,
            rating: NO_RATING,
            timestamp: 0,
        };
        let text = toy::config(&[])
            .prompts
            .unwrap()
            .history_text(&toy::dataset().catalogue, &[event(u32::MAX), event(3)]);
        assert_eq!(text, "Seen:\nD3 (War) \n");
    }

    #[test]
    fn a_title_that_looks_like_a_placeholder_is_written_as_it_is() {
        let mut dataset = toy::dataset();
        dataset.catalogue.items[3].title = "{rating} of {genres}".into();
        let event = Event {
            item: 3,
            rating: 5.0,
            timestamp: 0,
        };
        let text = toy::config(&[])
            .prompts
            .unwrap()
            .history_text(&dataset.catalogue, &[event]);
        assert_eq!(text, "Seen:\n{rating} of {genres} (War) 5\n");
    }

    #[test]
    fn answers_stand_after_a_space_and_end_with_the_line() {
        let tokenizer = toy::tokenizer();
        let answers = Answers::new(vec!["ab".into(), "a".into()], &tokenizer).unwrap();
        let tokens: Vec<u32> = answers
            .trie
            .path_of(0)
            .into_iter()
            .map(|node| answers.trie.node(node).token)
            .collect();
        assert_eq!(tokens, tokenizer.encode_bare(" ab\n").unwrap());
        assert_eq!(answers.texts, ["ab", "a"]);
    }

    #[test]
    fn equal_answers_are_refused() {
        let answers = Answers::new(vec!["a".into(), "b".into(), "a".into()], &toy::tokenizer());
        let message = answers.unwrap_err().to_string();
        assert!(
            message.contains("sequences 0 and 2 have the same tokens"),
            "{message}"
        );
    }

    #[test]
    fn titles_and_genres_are_answers_in_the_catalogue_s_order() {
        let catalogue = toy::dataset().catalogue;
        let titles = Answers::titles(&catalogue, &toy::tokenizer()).unwrap();
        assert_eq!((titles.texts.len(), titles.texts[3].as_str()), (19, "D3"));
        let genres = Answers::genres(&catalogue, &toy::tokenizer()).unwrap();
        assert_eq!(genres.texts, ["Crime", "Drama", "Noir", "War"]);
    }
}
