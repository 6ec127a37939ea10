//! Review writing: what a person would say about an item, in their own words.

use std::ops::ControlFlow;

use datasets::reviews::ReviewTexts;
use datasets::{Event, EventSlice};
use llm::generate::{Decode, GenerationConfig, generate};
use llm::{LanguageModel, Tokenizer};
use llm_fusion::{UserDecoder, UserLlm};
use serde::{Deserialize, Serialize};

use crate::metrics::{Figure, Rouge};
use crate::prompts::{AnswerTemplate, event_text, fill, line_end, rating_text};
use crate::tasks::Tasks;
use crate::{Error, Monitor, Prepared, ReviewConfig, ReviewTarget, RunConfig};

/// The task, with the texts that people wrote.
#[derive(Debug)]
pub struct ReviewWriting {
    config: ReviewConfig,
    template: AnswerTemplate,
    texts: ReviewTexts,
    tokenizer: Tokenizer,
    /// Ends a review: the line's end.
    end: u32,
}

impl ReviewWriting {
    /// The task over these texts.
    ///
    /// # Errors
    ///
    /// If nobody wrote anything, or the tokenizer has no line end.
    pub fn new(
        config: &ReviewConfig,
        texts: ReviewTexts,
        tokenizer: &Tokenizer,
    ) -> Result<Self, Error> {
        if texts.is_empty() {
            return Err(Error::value(
                "review",
                "a section",
                "none for data in which nobody wrote anything",
            ));
        }
        Ok(Self {
            config: config.clone(),
            template: config.template()?,
            texts,
            end: line_end(tokenizer)?,
            tokenizer: tokenizer.clone(),
        })
    }

    /// What a person wrote at an event, by its position in the history, on one line; `None` where
    /// nothing was written.
    ///
    /// # Errors
    ///
    /// If the texts cannot be read.
    pub fn written(&self, user: usize, event: usize) -> Result<Option<String>, Error> {
        let Some(review) = self.texts.get(user, event)? else {
            return Ok(None);
        };
        let text = match self.config.target {
            ReviewTarget::Text => review.text,
            ReviewTarget::Summary => review.summary,
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        Ok((!words.is_empty()).then(|| words.join(" ")))
    }

    /// The prompt for a review of an event's item, behind the person's history before it if the run
    /// wants it as text; `first` is the position of the history's first event.
    ///
    /// # Errors
    ///
    /// If the texts cannot be read.
    pub(crate) fn prompt(
        &self,
        tasks: &Tasks,
        prepared: &Prepared,
        (user, first): (usize, usize),
        history: &[Event],
        event: &Event,
    ) -> Result<Vec<u32>, Error> {
        let catalogue = &prepared.dataset.catalogue;
        let title = catalogue.items[event.item as usize].title.as_str();
        let question = self.question(tasks, title, event.rating)?;
        tasks.prompt_of(&question, |prompts| {
            let template = self.config.event.as_ref().unwrap_or(&prompts.event);
            let skipped = history.len().saturating_sub(prompts.text_events);
            let mut text = prompts.history.clone();
            for (at, event) in history.iter().enumerate().skip(skipped) {
                let review = match template.contains("{review}") {
                    true => self.written(user, first + at)?.unwrap_or_default(),
                    false => String::new(),
                };
                let review: Vec<&str> = review.split(' ').take(self.config.max_tokens).collect();
                text += &event_text(template, catalogue, event, &review.join(" "));
            }
            Ok(text)
        })
    }

    /// What asks for a review of an item, with as much of its title as there is room for.
    ///
    /// # Errors
    ///
    /// If there is none even without a title.
    pub(crate) fn question(
        &self,
        tasks: &Tasks,
        title: &str,
        rating: f32,
    ) -> Result<String, Error> {
        let rating = rating_text(rating);
        tasks.within_budget("review.prompt", title, |title| {
            let values = [("{title}", title), ("{rating}", &rating)];
            fill(&self.config.prompt, &values)
        })
    }

    /// The tokens of a review as far as they are taught, with the one that ends it if all are.
    pub(crate) fn answer(&self, text: &str) -> Vec<u32> {
        let tokens = self.tokenizer.encode_bare(&self.template.fill(text));
        let mut tokens = tokens.unwrap_or_default();
        match tokens.len() <= self.config.max_tokens {
            true => tokens.push(self.end),
            false => tokens.truncate(self.config.max_tokens),
        }
        tokens
    }

    /// A decoder's review.
    fn write(&self, decoder: &mut impl Decode, prompt: &[u32]) -> Result<String, Error> {
        let mut stop = self.tokenizer.stop().to_vec();
        stop.push(self.end);
        let generation = GenerationConfig::new(self.config.max_tokens).with_stop(stop);
        let tokens = generate(decoder, prompt, &generation, |_| ControlFlow::Continue(()));
        let answer = self.tokenizer.decode(&tokens)?;
        Ok(self.template.said(&answer).to_string())
    }
}

/// ROUGE of a contender's reviews, each a mean over people with its 95 % interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReviewRow {
    /// The contender.
    pub name: String,
    /// People who wrote about the item that is tested.
    pub people: usize,
    /// F1 of single words.
    pub rouge_1: Figure,
    /// F1 of pairs of words.
    pub rouge_2: Figure,
    /// F1 of the longest common subsequence.
    pub rouge_l: Figure,
    /// The same over sentences.
    pub rouge_lsum: Figure,
}

/// A person whose review is tested.
struct Asked<'a> {
    user: usize,
    history: EventSlice<'a>,
    event: &'a Event,
    reference: String,
}

/// The test users who wrote about the event that is tested.
fn asked<'a>(prepared: &'a Prepared, task: &ReviewWriting) -> Result<Vec<Asked<'a>>, Error> {
    let split = prepared.split();
    let mut asked = Vec::new();
    for &user in &prepared.test_users {
        let Some((history, event)) = split.test(user) else {
            continue;
        };
        if let Some(reference) = task.written(user, history.len())? {
            asked.push(Asked {
                user,
                history,
                event,
                reference,
            });
        }
    }
    match asked.is_empty() {
        true => Err(Error::value(
            "review",
            "a section",
            "none where no test user wrote about the item that is tested",
        )),
        false => Ok(asked),
    }
}

/// What each person wrote last, again: what personal style alone is worth.
///
/// # Errors
///
/// If the texts cannot be read, or no test user wrote anything.
pub fn latest(prepared: &Prepared, task: &ReviewWriting) -> Result<ReviewRow, Error> {
    score("own latest review", &asked(prepared, task)?, |asked| {
        for event in (0..asked.history.len()).rev() {
            if let Some(text) = task.written(asked.user, event)? {
                return Ok(text);
            }
        }
        Ok(String::new())
    })
}

/// The language model as it is, with the latest events as text.
///
/// # Errors
///
/// As [`latest`].
pub fn text_prompt(
    prepared: &Prepared,
    config: &RunConfig,
    model: &LanguageModel,
    tasks: &Tasks,
    task: &ReviewWriting,
    monitor: &mut dyn Monitor,
) -> Result<ReviewRow, Error> {
    let n_events = config.evaluation.text_events;
    let tasks = tasks.with_text_events(n_events);
    let name = format!("text prompt, last {n_events} events, zero-shot");
    watched(&name, prepared, task, monitor, |asked| {
        let prompt = task.prompt(
            &tasks,
            prepared,
            (asked.user, 0),
            &asked.history,
            asked.event,
        )?;
        task.write(&mut model.decoder(), &prompt)
    })
}

/// A tuned language model, which reads user embeddings, a text, or both.
///
/// # Errors
///
/// As [`latest`]; or if the run is about the encoder alone.
pub fn user_llm(
    prepared: &Prepared,
    config: &RunConfig,
    model: &UserLlm,
    tasks: &Tasks,
    task: &ReviewWriting,
    monitor: &mut dyn Monitor,
) -> Result<ReviewRow, Error> {
    let name = config.language()?.contender();
    watched(&name, prepared, task, monitor, |asked| {
        let prompt = task.prompt(
            tasks,
            prepared,
            (asked.user, 0),
            &asked.history,
            asked.event,
        )?;
        let user = model.read_user(&prepared.latest(&[asked.history], &model.device()));
        task.write(&mut UserDecoder::new(model, Some(&user)), &prompt)
    })
}

/// [`score`] under the eyes of a monitor.
fn watched(
    name: &str,
    prepared: &Prepared,
    task: &ReviewWriting,
    monitor: &mut dyn Monitor,
    mut write: impl FnMut(&Asked<'_>) -> Result<String, Error>,
) -> Result<ReviewRow, Error> {
    let asked = asked(prepared, task)?;
    let mut done = 0;
    monitor.begin(&format!("{name}: reviews"), 0, asked.len());
    let row = score(name, &asked, |asked| {
        let text = write(asked);
        done += 1;
        monitor.step(done, &[]);
        text
    })?;
    monitor.end("done");
    Ok(row)
}

/// Let a contender write about every test item, and hold it against what was written.
fn score(
    name: &str,
    asked: &[Asked<'_>],
    mut write: impl FnMut(&Asked<'_>) -> Result<String, Error>,
) -> Result<ReviewRow, Error> {
    let mut scores: Vec<Rouge> = Vec::new();
    for asked in asked {
        scores.push(Rouge::new(&asked.reference, &write(asked)?, true));
    }
    let figure = |f1: fn(&Rouge) -> f64| Figure::of(&scores.iter().map(f1).collect::<Vec<_>>());
    Ok(ReviewRow {
        name: name.to_string(),
        people: scores.len(),
        rouge_1: figure(|rouge| rouge.rouge_1.f1),
        rouge_2: figure(|rouge| rouge.rouge_2.f1),
        rouge_l: figure(|rouge| rouge.rouge_l.f1),
        rouge_lsum: figure(|rouge| rouge.rouge_lsum.f1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    #[test]
    fn a_review_is_taught_up_to_its_longest_and_ended_if_it_ends_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Toys_5.json");
        toy::write_reviews(&path, |_, _| "w1".into());
        let dataset = datasets::reviews::load(&path).unwrap();
        let texts = ReviewTexts::read(&path, &dataset).unwrap();
        let tokens = |text: &str| toy::tokenizer().encode_bare(text).unwrap();
        let whole = tokens(" I say: w1 w2\n");
        let config = ReviewConfig {
            prompt: "On {title}:".into(),
            answer: Some(" I say: {review}".into()),
            event: None,
            target: ReviewTarget::Text,
            max_tokens: whole.len() - 1,
            share: 1.0,
        };
        let task = ReviewWriting::new(&config, texts, &toy::tokenizer()).unwrap();
        assert_eq!(task.answer("w1 w2"), whole);
        let cut = task.answer("w1 w2 w3");
        assert_eq!(cut, tokens(" I say: w1 w2 w3")[..whole.len() - 1]);
    }

    #[test]
    fn a_text_prompt_tells_what_a_person_wrote_before_and_not_what_is_to_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Toys_5.json");
        toy::write_reviews(&path, |user, at| format!("w{user} w{at} more"));
        let dataset = datasets::reviews::load(&path).unwrap();

        let review = "review={ prompt = \"On {title}:\", event = \"{title}={review};\", \
                      target = \"text\", max_tokens = 2, share = 1.0 }";
        let item = "encoder.modalities=[{ name = \"item\", vocab_size = 0, d_embedding = 6, \
                    weight = 1.0 }]";
        let patches = [
            review,
            item,
            "tuning.genre_share=0",
            "prompts.text_events=2",
        ];
        let config = toy::config(&patches);
        let prepared = Prepared::new(dataset, &config).unwrap();
        let texts = ReviewTexts::read(&path, &prepared.dataset).unwrap();
        let tasks = toy::tasks(&prepared, &config).with_reviews(&config, texts);
        let tasks = tasks.unwrap();
        let task = tasks.reviews.clone().unwrap();
        let said = |first: usize| {
            let events = &prepared.dataset.histories[1].events;
            let (history, event) = (events.slice(first..5), &events.slice(..)[5]);
            let prompt = task.prompt(&tasks, &prepared, (1, first), &history, event);
            toy::tokenizer().decode(&prompt.unwrap()).unwrap()
        };
        // However much of the history is at hand, the latest two events are told.
        for first in [0, 1] {
            assert_eq!(said(first), "Seen:\nB5=w1 w3;B0=w1 w4;On B4:");
        }
    }
}
