//! The questions that a language model is asked about a person.

use datasets::{Catalogue, Event};
use llm::Tokenizer;

use crate::prompts::Answers;
use crate::{Error, Prepared, PromptConfig, RunConfig};

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
    /// Which genre the history has most of; answers are the catalogue's genres.
    pub favourite_genre: Task,
    prompts: PromptConfig,
    tokenizer: Tokenizer,
}

impl Tasks {
    /// Tokenize questions and answers.
    ///
    /// # Errors
    ///
    /// If titles or genres make no trie, or the run is about the encoder alone.
    pub fn new(
        prepared: &Prepared,
        config: &RunConfig,
        tokenizer: &Tokenizer,
    ) -> Result<Self, Error> {
        let catalogue = &prepared.dataset.catalogue;
        let prompts = config.language()?.prompts;
        let task = |question: &str, answers: Answers| -> Result<Task, Error> {
            Ok(Task {
                prompt: tokenizer.encode(question)?,
                question: tokenizer.encode_bare(question)?,
                answers,
            })
        };
        Ok(Self {
            next_item: task(&prompts.next_item, Answers::titles(catalogue, tokenizer)?)?,
            favourite_genre: task(
                &prompts.favourite_genre,
                Answers::genres(catalogue, tokenizer)?,
            )?,
            prompts: prompts.clone(),
            tokenizer: tokenizer.clone(),
        })
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
        histories: &[&[Event]],
    ) -> Vec<Vec<u32>> {
        if self.are_alike() {
            return vec![task.prompt.clone(); histories.len()];
        }
        let catalogue = &prepared.dataset.catalogue;
        let prompt = |history: &&[Event]| {
            let mut prompt = self.history_tokens(catalogue, history, self.prompts.text_events);
            prompt.extend(&task.question);
            prompt
        };
        histories.iter().map(prompt).collect()
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
        tokens.expect("a tokenizer that encoded all titles encodes them again")
    }
}

#[cfg(test)]
mod tests {
    use crate::toy;

    #[test]
    fn a_prompt_begins_with_the_latest_events_if_the_run_wants_that() {
        let tokenizer = toy::tokenizer();
        let ask = |patches: &[&str]| {
            let config = toy::config(patches);
            let prepared = toy::prepared(&config);
            let tasks = toy::tasks(&prepared, &config);
            let events = &prepared.dataset.histories[3].events;
            let histories = [&events[..4], &events[..1]];
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
}
