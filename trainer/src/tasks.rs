//! The questions that a language model is asked about a person.

use std::ops::ControlFlow;
use std::sync::Arc;

use datasets::reviews::ReviewTexts;
use datasets::{Catalogue, Event, EventSlice};
use llm::generate::{GenerationConfig, generate};
use llm::{LanguageModel, Tokenizer};

use crate::prompts::{AnswerTemplate, Answers, line_end};
use crate::review_writing::ReviewWriting;
use crate::{Error, Prepared, PromptConfig, RunConfig, SummaryConfig};

/// A rating that no data writes in more tokens.
const LONGEST_RATING: f32 = 88.88;

/// Why encoding cannot fail any more.
const ENCODES: &str = "a tokenizer that encoded all titles encodes what is made of them";

/// A question with its answers, ready for the language model.
#[derive(Clone, Debug)]
pub struct Task {
    /// Tokens of the question, which ends where the answer begins.
    pub prompt: Vec<u32>,
    /// The same behind another text: without a beginning-of-text token.
    pub question: Vec<u32>,
    /// The answers that exist.
    pub answers: Answers,
}

/// What is asked, of everybody alike or behind the latest events of each as text.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// Which item comes next; answers are the catalogue's titles.
    pub next_item: Task,
    /// Which genre the history has most of; answers are the catalogue's genres. `None` where the
    /// catalogue has none.
    pub favourite_genre: Option<Task>,
    /// What a person would say about an item, where the data has texts.
    pub reviews: Option<Arc<ReviewWriting>>,
    prompts: PromptConfig,
    tokenizer: Tokenizer,
}

impl Tasks {
    /// Tokenize questions and answers.
    ///
    /// # Errors
    ///
    /// If titles or genres make no trie, a question has more tokens than `prompts.max_tokens`, or the
    /// run is about the encoder alone.
    pub fn new(
        prepared: &Prepared,
        config: &RunConfig,
        tokenizer: &Tokenizer,
    ) -> Result<Self, Error> {
        let catalogue = &prepared.dataset.catalogue;
        let prompts = config.language()?.prompts;
        let task = |key, question: &str, texts, template: AnswerTemplate| {
            let prompt = tokenizer.encode(question)?;
            let question = tokenizer.encode_bare(question)?;
            if let Some(most) = prompts.max_tokens.filter(|&most| question.len() > most) {
                return Err(too_long(key, question.len(), most));
            }
            Ok(Task {
                prompt,
                question,
                answers: Answers::new(texts, &template, tokenizer)?,
            })
        };
        Ok(Self {
            next_item: task(
                "prompts.next_item",
                &prompts.next_item,
                catalogue.unique_titles(),
                prompts.next_item_template()?,
            )?,
            favourite_genre: match catalogue.genres.is_empty() {
                true => None,
                false => Some(task(
                    "prompts.favourite_genre",
                    &prompts.favourite_genre,
                    catalogue.genres.clone(),
                    prompts.favourite_genre_template()?,
                )?),
            },
            reviews: None,
            prompts: prompts.clone(),
            tokenizer: tokenizer.clone(),
        })
    }

    /// Write reviews, too, with the texts that people wrote.
    ///
    /// # Errors
    ///
    /// If the run has no section `review`, nobody wrote anything, or what asks for a review has more
    /// tokens than `prompts.max_tokens` even without a title.
    pub fn with_reviews(mut self, config: &RunConfig, texts: ReviewTexts) -> Result<Self, Error> {
        let review = config.language()?.review;
        let review = review.ok_or(Error::MissingSection { section: "review" })?;
        let task = ReviewWriting::new(review, texts, &self.tokenizer)?;
        task.question(&self, "", LONGEST_RATING)?;
        self.reviews = Some(Arc::new(task));
        Ok(self)
    }

    /// Whether everybody gets the same prompt.
    pub fn are_alike(&self) -> bool {
        self.prompts.text_events == 0
    }

    /// The prompt of each history: the question, behind the latest events as text if the run wants
    /// that.
    pub fn prompts(
        &self,
        task: &Task,
        prepared: &Prepared,
        histories: &[EventSlice<'_>],
    ) -> Vec<Vec<u32>> {
        let prompt = |history: &EventSlice<'_>| match self.are_alike() {
            true => task.prompt.clone(),
            false => self.after_history(prepared, history, &task.question),
        };
        histories.iter().map(prompt).collect()
    }

    /// A question about `name`, of as many of whose words as `prompts.max_tokens` leaves room for.
    ///
    /// # Errors
    ///
    /// If it does not even without the name.
    pub(crate) fn within_budget(
        &self,
        key: &'static str,
        name: &str,
        question: impl Fn(&str) -> String,
    ) -> Result<String, Error> {
        let Some(most) = self.prompts.max_tokens else {
            return Ok(question(name));
        };
        let words: Vec<&str> = name.split(' ').collect();
        let mut kept = words.len();
        loop {
            let question = question(&words[..kept].join(" "));
            let tokens = self.tokenizer.encode_bare(&question)?.len();
            match kept {
                _ if tokens <= most => return Ok(question),
                0 => return Err(too_long(key, tokens, most)),
                _ => kept -= 1,
            }
        }
    }

    /// The prompt of a question of its own, behind what is told of the person if the run wants that.
    pub(crate) fn prompt_of(
        &self,
        question: &str,
        told: impl FnOnce(&PromptConfig) -> Result<String, Error>,
    ) -> Result<Vec<u32>, Error> {
        if self.are_alike() {
            return Ok(self.tokenizer.encode(question)?);
        }
        let mut prompt = self.tokenizer.encode(&told(&self.prompts)?)?;
        prompt.extend(self.tokenizer.encode_bare(question)?);
        Ok(prompt)
    }

    /// The same tasks behind so many of the latest events as text.
    pub(crate) fn with_text_events(&self, n_events: usize) -> Self {
        let mut tasks = self.clone();
        tasks.prompts.text_events = n_events;
        tasks
    }

    fn after_history(&self, prepared: &Prepared, history: &[Event], question: &[u32]) -> Vec<u32> {
        let catalogue = &prepared.dataset.catalogue;
        let mut prompt = self.history_tokens(catalogue, history, self.prompts.text_events);
        prompt.extend(question);
        prompt
    }

    /// The latest events of a history as text, in tokens.
    pub(crate) fn history_tokens(
        &self,
        catalogue: &Catalogue,
        history: &[Event],
        n_events: usize,
    ) -> Vec<u32> {
        let latest = &history[history.len().saturating_sub(n_events)..];
        let text = self.prompts.history_text(catalogue, latest);
        let tokens = self.tokenizer.encode(&text);
        tokens.expect(ENCODES)
    }

    /// What the language model itself says of the latest events of a history, in tokens that a
    /// question may follow; `None` if the run does not say how it is asked for that.
    pub(crate) fn summary_tokens(
        &self,
        model: &LanguageModel,
        prepared: &Prepared,
        history: &[Event],
        n_events: usize,
    ) -> Result<Option<Vec<u32>>, Error> {
        let Some(SummaryConfig {
            opening,
            max_tokens,
        }) = &self.prompts.summary
        else {
            return Ok(None);
        };
        let catalogue = &prepared.dataset.catalogue;
        let mut prompt = self.history_tokens(catalogue, history, n_events);
        prompt.extend(self.tokenizer.encode_bare(opening)?);
        let mut stop = self.tokenizer.stop().to_vec();
        stop.push(line_end(&self.tokenizer)?);
        let generation = GenerationConfig::new(*max_tokens).with_stop(stop);
        let decoder = &mut model.decoder();
        let said = generate(decoder, &prompt, &generation, |_| ControlFlow::Continue(()));
        let said = self.tokenizer.decode(&said)?;
        let text = format!("{opening}{}\n", said.trim_end());
        Ok(Some(self.tokenizer.encode(&text)?))
    }
}

fn too_long(key: &'static str, tokens: usize, most: usize) -> Error {
    let expected = format!("at most {most}, as `prompts.max_tokens` says");
    Error::value(key, format!("a question of {tokens} tokens"), expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    #[test]
    fn a_prompt_begins_with_the_latest_events_if_the_run_wants_that() {
        let tokenizer = toy::tokenizer();
        let ask = |patches: &[&str]| {
            let config = toy::config(patches);
            let prepared = toy::prepared(&config);
            let tasks = toy::tasks(&prepared, &config);
            let events = &prepared.dataset.histories[3].events;
            let histories = [events.slice(..4), events.slice(..1)];
            let prompts = tasks.prompts(&tasks.next_item, &prepared, &histories);
            let text = |prompt: &Vec<u32>| tokenizer.decode(prompt).unwrap();
            (
                tasks.are_alike(),
                prompts.iter().map(text).collect::<Vec<_>>(),
            )
        };
        let (are_alike, plain) = ask(&[]);
        assert!(are_alike);
        assert_eq!(plain[0], plain[1]);
        let (are_alike, told) = ask(&["prompts.text_events=2"]);
        assert!(!are_alike);
        assert!(
            told.iter().all(|text| text.ends_with(&plain[0])),
            "{told:?}"
        );
        // "Seen:", a line an event, the question.
        let lines = |text: &str| text.trim_end_matches(plain[0].as_str()).lines().count();
        assert_eq!((lines(&told[0]), lines(&told[1])), (3, 2), "{told:?}");
    }

    #[test]
    fn a_question_names_as_much_of_an_item_as_the_budget_has_room_for() {
        let asked = |most: Option<usize>, title: &str| {
            let config = toy::config(&[]);
            let mut tasks = toy::tasks(&toy::prepared(&config), &config);
            tasks.prompts.max_tokens = most;
            tasks.within_budget("review.prompt", title, |title| format!("On {title}:"))
        };
        let tokens = |text: &str| toy::tokenizer().encode_bare(text).unwrap().len();
        let title = "A long name of a thing";
        assert_eq!(asked(None, title).unwrap(), "On A long name of a thing:");
        let most = tokens("On A long name:");
        assert_eq!(asked(Some(most), title).unwrap(), "On A long name:");
        let most = tokens("On :");
        assert_eq!(asked(Some(most), title).unwrap(), "On :");
        let message = asked(Some(most - 1), title).unwrap_err().to_string();
        assert!(message.contains("review.prompt"), "{message}");
        let config = toy::config(&["prompts.max_tokens=1"]);
        let prepared = toy::prepared(&config);
        let message = Tasks::new(&prepared, &config, &toy::tokenizer());
        let message = message.unwrap_err().to_string();
        assert!(message.contains("prompts.next_item"), "{message}");
        assert!(message.contains("at most 1"), "{message}");
    }
}
