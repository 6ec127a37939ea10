//! What the language model is asked, and the answers that exist.

use datasets::{Catalogue, Event, NO_RATING};
use llm::Tokenizer;
use llm::ranking::TokenTrie;

use crate::{Error, PromptConfig, ReviewConfig};

/// What stands for a title, and for a genre, in their templates.
const TITLE: &str = "{title}";
const GENRE: &str = "{genre}";

/// A closed set of answers: their texts, and the trie of their tokens.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The texts, in the order of the trie's sequences.
    pub texts: Vec<String>,
    /// Their tokens, each in the words of its template and closed by a line end.
    pub trie: TokenTrie,
}

impl Answers {
    /// Tokenize the texts, each in the template's words.
    ///
    /// # Errors
    ///
    /// If two texts have the same tokens, or one has none.
    pub fn new(
        texts: Vec<String>,
        template: &AnswerTemplate,
        tokenizer: &Tokenizer,
    ) -> Result<Self, Error> {
        let sequences = texts
            .iter()
            .map(|text| Ok(tokenizer.encode_bare(&template.fill(text))?))
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Self {
            trie: TokenTrie::new(&sequences, line_end(tokenizer)?)?,
            texts,
        })
    }
}

/// An answer's words around what it says, such as ` I would watch {title} next.`
///
/// The space at its beginning belongs to it: the question ends where the answer begins, and most
/// tokenizers have words with the space before them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerTemplate {
    before: String,
    after: String,
}

impl AnswerTemplate {
    /// Read a template of the run file's `key`, in which `name` stands for what is said; without a
    /// template, that alone is said.
    ///
    /// # Errors
    ///
    /// If the name is not there once, or a name besides it, or the template has more than one line or
    /// does not begin with a space.
    fn new(key: &'static str, template: Option<&str>, name: &str) -> Result<Self, Error> {
        let alone = alone(name);
        let template = template.unwrap_or(&alone);
        let parts: Vec<&str> = template.split(name).collect();
        let is_plain = |part: &str| !part.contains(['\n', '{', '}']);
        match parts[..] {
            [before, after] if before.starts_with(' ') && is_plain(before) && is_plain(after) => {
                Ok(Self {
                    before: before.into(),
                    after: after.into(),
                })
            }
            _ => {
                let expected = format!(
                    "a space and one line with {name} in it once, and no other name, such as \" {name}\""
                );
                Err(Error::value(key, format!("{template:?}"), expected))
            }
        }
    }

    /// The whole answer.
    pub fn fill(&self, said: &str) -> String {
        [&self.before, said, &self.after].concat()
    }

    /// What an answer says, without the words around it, as far as they are there.
    pub fn said<'a>(&self, answer: &'a str) -> &'a str {
        let (before, after) = (self.before.trim(), self.after.trim());
        let said = answer.trim();
        let said = said.strip_prefix(before).unwrap_or(said);
        said.strip_suffix(after).unwrap_or(said).trim()
    }
}

/// The template that says a thing alone.
fn alone(name: &str) -> String {
    format!(" {name}")
}

impl PromptConfig {
    /// How the next item is said.
    ///
    /// # Errors
    ///
    /// If the run file's template does not have `{title}` once.
    pub fn next_item_template(&self) -> Result<AnswerTemplate, Error> {
        let template = self.next_item_answer.as_deref();
        AnswerTemplate::new("prompts.next_item_answer", template, TITLE)
    }

    /// How a favourite genre is said.
    ///
    /// # Errors
    ///
    /// If the run file's template does not have `{genre}` once.
    pub fn favourite_genre_template(&self) -> Result<AnswerTemplate, Error> {
        let template = self.favourite_genre_answer.as_deref();
        AnswerTemplate::new("prompts.favourite_genre_answer", template, GENRE)
    }

    /// The same without what changes nothing: for a fingerprint of what is taught.
    pub(crate) fn as_taught(&self, has_reviews: bool) -> Self {
        let unless_alone = |template: &Option<String>, name: &str| {
            let template = template.clone();
            template.filter(|template| *template != alone(name))
        };
        Self {
            // Longer questions are refused; titles are cut in those about reviews.
            max_tokens: self.max_tokens.filter(|_| has_reviews),
            next_item_answer: unless_alone(&self.next_item_answer, TITLE),
            favourite_genre_answer: unless_alone(&self.favourite_genre_answer, GENRE),
            ..self.clone()
        }
    }

    /// A history as text: the opening, then one line part per event, oldest first. Items that the
    /// catalogue lacks are left out.
    pub fn history_text(&self, catalogue: &Catalogue, events: &[Event]) -> String {
        let events = events.iter();
        let events = events.map(|event| event_text(&self.event, catalogue, event, ""));
        self.history.clone() + &events.collect::<String>()
    }
}

impl ReviewConfig {
    /// How a review is written.
    ///
    /// # Errors
    ///
    /// If the run file's template does not have `{review}` once.
    pub fn template(&self) -> Result<AnswerTemplate, Error> {
        AnswerTemplate::new("review.answer", self.answer.as_deref(), "{review}")
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

    fn template(text: &str) -> Result<AnswerTemplate, Error> {
        AnswerTemplate::new("prompts.next_item_answer", Some(text), "{title}")
    }

    #[test]
    fn answers_stand_in_their_template_and_end_with_the_line() {
        let tokenizer = toy::tokenizer();
        for (text, expected) in [
            (" {title}", " ab\n"),
            (" I'd see {title}!", " I'd see ab!\n"),
        ] {
            let texts = vec!["ab".into(), "a".into()];
            let answers = Answers::new(texts, &template(text).unwrap(), &tokenizer).unwrap();
            let path = answers.trie.path_of(0).into_iter();
            let tokens: Vec<u32> = path.map(|node| answers.trie.node(node).token).collect();
            assert_eq!(tokens, tokenizer.encode_bare(expected).unwrap());
            assert_eq!(answers.texts, ["ab", "a"]);
        }
    }

    #[test]
    fn equal_answers_are_refused() {
        let texts = vec!["a".into(), "b".into(), "a".into()];
        let answers = Answers::new(texts, &template(" {title}").unwrap(), &toy::tokenizer());
        let message = answers.unwrap_err().to_string();
        assert!(
            message.contains("sequences 0 and 2 have the same tokens"),
            "{message}"
        );
    }

    #[test]
    fn a_template_says_its_text_once_on_one_line() {
        let wrong = [
            "",
            " {name}",
            " {title} or {title}",
            " {title}\nthen",
            "{title}",
            " {title} ({genre})",
        ];
        for wrong in wrong {
            let message = template(wrong).unwrap_err().to_string();
            assert!(message.contains("prompts.next_item_answer"), "{message}");
            assert!(message.contains("{title} in it once"), "{message}");
        }
    }

    #[test]
    fn what_an_answer_says_stands_between_the_words_of_its_template() {
        let template = template(" I'd see {title}!").unwrap();
        assert_eq!(template.said(&template.fill("Up")), "Up");
        // What was cut short, or put otherwise.
        assert_eq!(template.said("I'd see Up"), "Up");
        assert_eq!(template.said(" Up\n"), "Up");
    }

    #[test]
    fn what_is_said_anyway_teaches_nothing_else() {
        let prompts = |patches: &[&str]| toy::config(patches).prompts.unwrap();
        let said = prompts(&[
            "prompts.next_item_answer=\" {title}\"",
            "prompts.favourite_genre_answer=\" {genre}\"",
            "prompts.max_tokens=32",
        ]);
        let print = |prompts: &PromptConfig| serde_json::to_string(prompts).unwrap();
        assert_eq!(print(&said.as_taught(false)), print(&prompts(&[])));
        // Titles in questions about reviews are cut to it.
        assert_ne!(print(&said.as_taught(true)), print(&prompts(&[])));
        let other = prompts(&["prompts.next_item_answer=\" I'd see {title}\""]);
        assert_ne!(print(&other.as_taught(false)), print(&prompts(&[])));
    }
}
