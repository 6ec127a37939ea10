//! What a question about a person costs: history as text against user embeddings.

mod parts;

use std::time::Instant;

use datasets::Event;
use llm::generate::Decode;
use llm::load::LoadedModel;
use llm::ranking::ReadForest;
use llm::{LanguageModel, LanguageModelConfig};
use llm_fusion::{Trunk, UserDecoder, UserEmbeddings, UserLlm, UserReader};
use perceiver::PerceiverResamplerConfig;
use serde::{Deserialize, Serialize};
use user_encoder::{EventBatch, FeedForwardKind, UserEncoderConfig};

pub use parts::{Limits, PartCost, parts, ranking};

use crate::tasks::{Task, Tasks};
use crate::{Error, Monitor, Prepared, RunConfig};

/// Tokens of a question in the paper, whatever the history.
const QUESTION_TOKENS: usize = 32;

/// A question that is cut to [`QUESTION_TOKENS`]; times do not depend on its words.
const QUESTION: &str = "You know what this person has watched so far, and how they liked it. \
    Which film does this person watch next? Answer with the title of one film, without its year, \
    and with nothing else:";

/// The way that the others are held against.
pub(crate) const TEXT: &str = "text prompt";

/// One line of the table: a way to ask, at one length of history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Events of the history.
    pub events: usize,
    /// The way to ask.
    pub name: String,
    /// Positions that the language model reads, a soft prompt included.
    pub prompt_tokens: usize,
    /// Arithmetic until the first token, by formula, in 10⁹ operations.
    pub gflop: f64,
    /// Measured time of the encoder, in milliseconds; 0 for text. Reports of before have the
    /// Perceiver's in it.
    #[serde(alias = "encode_ms")]
    pub encoder_ms: f64,
    /// Measured time of Perceiver and projector; 0 for text.
    #[serde(default)]
    pub perceiver_ms: f64,
    /// Measured time from there to the first token, in milliseconds.
    pub prefill_ms: f64,
    /// Runs that the times are medians of.
    pub runs: usize,
}

impl Cost {
    /// Time to first token, in milliseconds.
    pub fn first_token_ms(&self) -> f64 {
        self.encoder_ms + self.perceiver_ms + self.prefill_ms
    }
}

/// Sizes that the formulas need.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// The language model's.
    pub llm: LanguageModelConfig,
    /// The encoder's.
    pub encoder: UserEncoderConfig,
    /// The Perceiver's, if there is one.
    pub perceiver: Option<PerceiverResamplerConfig>,
    /// Event embeddings that pass beside the Perceiver.
    pub n_recent: usize,
    /// Width of the user embeddings.
    pub d_user: usize,
    /// Blocks with cross-attention, and its inner width.
    pub cross_attention: (usize, usize),
}

impl Sizes {
    /// Sizes of a run.
    ///
    /// # Errors
    ///
    /// If the run is about the encoder alone, or has a dual encoder, whose towers are not counted.
    pub fn new(
        config: &RunConfig,
        llm: &LanguageModelConfig,
        model: &UserLlm,
    ) -> Result<Self, Error> {
        let language = config.language()?;
        if config.dual_encoder.is_some() {
            let expected = "no section: costs are counted for the encoder of events";
            return Err(Error::value("dual_encoder", "a section", expected));
        }
        Ok(Self {
            llm: llm.clone(),
            encoder: config.encoder.clone(),
            perceiver: language.perceiver.cloned(),
            n_recent: language.fusion.n_recent,
            d_user: if model.is_soft_prompt() {
                llm.d_model
            } else {
                language.fusion.d_user
            },
            cross_attention: (
                model.fusion.iter().flatten().count(),
                language.fusion.n_heads * language.fusion.d_head,
            ),
        })
    }

    /// Reading `tokens` and giving the logits after the last.
    pub fn language_model(&self, tokens: usize) -> f64 {
        language_model(&self.llm, tokens)
    }

    /// The weights that a token goes through, and those of the head.
    pub fn language_model_weights(&self) -> usize {
        let c = &self.llm;
        c.n_layers * block_weights(c) + c.d_model * c.vocab_size
    }

    /// Encoder, Perceiver and projector over `events` events.
    pub fn user(&self, events: usize) -> f64 {
        self.encoder(events) + self.perceiver(events)
    }

    /// The encoder over `events` events.
    pub fn encoder(&self, events: usize) -> f64 {
        let (encoder, d) = (&self.encoder, self.encoder.d_model);
        let slots = events + 1; // BOS
        let per_layer = self.encoder_layer_weights() * slots + slots * slots * d;
        2.0 * (self.event_width() * d * events + encoder.n_layers * per_layer) as f64
    }

    /// The encoder's weights that are read: of its tables, the rows of `events` events.
    pub fn encoder_weights(&self, events: usize) -> usize {
        let (encoder, d) = (&self.encoder, self.encoder.d_model);
        self.event_width() * (events + d) + encoder.n_layers * self.encoder_layer_weights()
    }

    /// Width of an event's modalities side by side.
    fn event_width(&self) -> usize {
        let modalities = self.encoder.modalities.iter();
        modalities.map(|modality| modality.d_embedding).sum()
    }

    fn encoder_layer_weights(&self) -> usize {
        let (encoder, d) = (&self.encoder, self.encoder.d_model);
        let n_ff = match encoder.feed_forward {
            FeedForwardKind::SwiGlu => 3,
            FeedForwardKind::Relu | FeedForwardKind::Gelu => 2,
        };
        (4 * d + n_ff * encoder.d_ff) * d
    }

    /// Perceiver and projector over `events` event embeddings; without a Perceiver, the projector.
    pub fn perceiver(&self, events: usize) -> f64 {
        let d = self.encoder.d_model;
        let (perceiver, n) = match &self.perceiver {
            Some(perceiver) => {
                let n = perceiver.n_latents;
                // Queries, output and feed-forward for the latents, keys and values for the events.
                let latents = (2 + 2 * perceiver.ff_multiplier) * d * d * n;
                let per_layer = latents + 2 * d * d * events + 2 * n * events * d;
                (perceiver.n_layers * per_layer, n + self.n_recent)
            }
            None => (0, events),
        };
        2.0 * (perceiver + d * self.d_user * n) as f64
    }

    /// The weights of Perceiver and projector.
    pub fn perceiver_weights(&self) -> usize {
        let d = self.encoder.d_model;
        let layers = self.perceiver.as_ref().map_or(0, |perceiver| {
            perceiver.n_layers * (4 + 2 * perceiver.ff_multiplier) * d * d
        });
        layers + d * self.d_user
    }

    /// Cross-attention of `tokens` tokens to `n` user embeddings.
    pub fn cross_attention(&self, tokens: usize, n: usize) -> f64 {
        let (blocks, inner) = self.cross_attention;
        let queries_and_output = 4 * tokens * self.llm.d_model * inner;
        let keys_and_values = 4 * n * self.d_user * inner;
        (blocks * (queries_and_output + keys_and_values + 4 * tokens * n * inner)) as f64
    }

    /// The weights of cross-attention: for a text, and for one more token, whose keys and values are
    /// there.
    pub fn cross_attention_weights(&self) -> (usize, usize) {
        let (blocks, inner) = self.cross_attention;
        let queries_and_output = blocks * 2 * self.llm.d_model * inner;
        let keys_and_values = blocks * 2 * self.d_user * inner;
        (queries_and_output + keys_and_values, queries_and_output)
    }
}

/// Reading `tokens` and giving the logits after the last: twice the weights for each token, causal
/// attention, and one row of the head.
fn language_model(c: &LanguageModelConfig, tokens: usize) -> f64 {
    let weights = 2.0 * (c.n_layers * block_weights(c) * tokens) as f64;
    let attention = 2.0 * (c.n_layers * tokens * tokens * c.n_heads * c.d_head) as f64;
    weights + attention + 2.0 * (c.d_model * c.vocab_size) as f64
}

fn block_weights(c: &LanguageModelConfig) -> usize {
    c.d_model * (2 * c.n_heads + 2 * c.n_kv_heads) * c.d_head + 3 * c.d_model * c.d_ff
}

/// Measures the ways to ask for the next item, at several lengths of history: with a question of 32
/// tokens, the paper's budget, after the history as text or with user embeddings.
///
/// The history is that of the person with the most events; its oldest are repeated in front where
/// they do not suffice. Times are medians, each until the first token is on the host.
#[derive(Clone, Copy, Debug)]
pub struct FirstToken<'a> {
    /// Lengths of history, in events.
    pub lengths: &'a [usize],
    /// Runs of each measurement.
    pub runs: usize,
    /// Whose histories.
    pub prepared: &'a Prepared,
    /// The language model, as it reads text.
    pub llm: &'a LoadedModel,
    /// How a history is written as text.
    pub tasks: &'a Tasks,
}

impl FirstToken<'_> {
    /// Of a history as text.
    ///
    /// # Errors
    ///
    /// If the question cannot be tokenized.
    pub fn of_text(&self, monitor: &mut dyn Monitor) -> Result<Vec<Cost>, Error> {
        let question = self.question()?;
        Ok(self.each(TEXT, monitor, |events, history| {
            let catalogue = &self.prepared.dataset.catalogue;
            let mut tokens = self.tasks.history_tokens(catalogue, history, events);
            tokens.extend(&question);
            vec![Cost {
                events,
                name: TEXT.into(),
                prompt_tokens: tokens.len(),
                gflop: language_model(&self.llm.config, tokens.len()) / 1e9,
                encoder_ms: 0.0,
                perceiver_ms: 0.0,
                prefill_ms: median(self.runs, || first_token(&self.llm.model, &tokens)),
                runs: self.runs,
            }]
        }))
    }

    /// Of user embeddings: once as they are, and once with a shared trunk where the model has one.
    ///
    /// # Errors
    ///
    /// If the question cannot be tokenized, or the run is about the encoder alone or has a dual
    /// encoder.
    pub fn of_user(
        &self,
        config: &RunConfig,
        model: &UserLlm,
        monitor: &mut dyn Monitor,
    ) -> Result<Vec<Cost>, Error> {
        let llm = &self.llm.config;
        let sizes = Sizes::new(config, llm, model)?;
        let question = self.question()?;
        let task = &Task {
            prompt: question.clone(),
            question,
            answers: self.tasks.next_item.answers.clone(),
        };
        let trunk = (!model.is_soft_prompt() && model.lowest_fused() > 0)
            .then(|| model.trunk(&task.prompt, &task.answers.trie));
        let device = model.device();
        Ok(self.each(way(model), monitor, |events, history| {
            let batch = self.prepared.batcher.batch(&[history.into()], &device);
            let [encoder_ms, perceiver_ms] = user_ms(model, &batch, self.runs);
            let user = model.read_user(&batch);
            let n_user = user.embeddings.dims()[1];
            let soft = if model.is_soft_prompt() { n_user } else { 0 };
            let prompt_tokens = task.prompt.len() + soft;
            let gflop = sizes.user(events)
                + sizes.cross_attention(task.prompt.len(), n_user)
                + sizes.language_model(prompt_tokens);
            let whole = Cost {
                events,
                name: way(model).into(),
                prompt_tokens,
                gflop: gflop / 1e9,
                encoder_ms,
                perceiver_ms,
                prefill_ms: median(self.runs, || {
                    let mut decoder = UserDecoder::new(model, Some(&user));
                    let _ = decoder.push(&task.prompt).argmax(0).into_data();
                }),
                runs: self.runs,
            };
            let above = trunk.as_ref().map(|trunk| {
                let share = (llm.n_layers - model.lowest_fused()) as f64 / llm.n_layers as f64;
                let head = 2.0 * (llm.d_model * llm.vocab_size) as f64;
                let blocks = sizes.language_model(prompt_tokens) - head;
                let ms = median(self.runs, || first_token_above(model, &user, trunk, task));
                Cost {
                    name: format!("{}, shared trunk", whole.name),
                    gflop: (gflop - blocks * (1.0 - share)) / 1e9,
                    prefill_ms: ms,
                    ..whole.clone()
                }
            });
            [whole].into_iter().chain(above).collect()
        }))
    }

    fn question(&self) -> Result<Vec<u32>, Error> {
        let mut question = self.llm.tokenizer.encode_bare(QUESTION)?;
        question.truncate(QUESTION_TOKENS);
        Ok(question)
    }

    /// The costs at each length of history.
    fn each(
        &self,
        name: &str,
        monitor: &mut dyn Monitor,
        mut measure: impl FnMut(usize, &[Event]) -> Vec<Cost>,
    ) -> Vec<Cost> {
        let longest = longest(self.prepared);
        let mut costs = Vec::new();
        monitor.begin(&format!("first token, {name}"), 0, self.lengths.len());
        for (done, &events) in self.lengths.iter().enumerate() {
            costs.extend(measure(events, &last(longest, events)));
            monitor.step(done + 1, &[]);
        }
        monitor.end("measured");
        costs
    }
}

/// Milliseconds of the encoder, and of Perceiver and projector, which cannot be timed alone.
fn user_ms(model: &UserLlm, batch: &EventBatch, runs: usize) -> [f64; 2] {
    let encoder = median(runs, || {
        let _ = model.encoder.embeddings(batch).0.into_data();
    });
    let all = median(runs, || {
        let _ = model.read_user(batch).embeddings.into_data();
    });
    [encoder, (all - encoder).max(0.0)]
}

/// How a model is told of a person, as the table of costs names it.
pub fn way(model: &UserLlm) -> &'static str {
    match model.is_soft_prompt() {
        true => "user embeddings, soft prompt",
        false => "user embeddings, cross-attention",
    }
}

/// The history of the person with the most events.
fn longest(prepared: &Prepared) -> &[Event] {
    let histories = prepared.dataset.histories.iter();
    let longest = histories.max_by_key(|history| history.events.len());
    longest.map_or(&[][..], |history| &history.events)
}

/// The last `n` events, the first repeated in front if there are fewer.
fn last(events: &[Event], n: usize) -> Vec<Event> {
    let have = events.len().min(n);
    let filler = events.first().into_iter().cycle().take(n - have);
    filler
        .chain(&events[events.len() - have..])
        .copied()
        .collect()
}

fn first_token(model: &LanguageModel, tokens: &[u32]) {
    let _ = model.decoder().push(tokens).argmax(0).into_data();
}

fn first_token_above(model: &UserLlm, user: &UserEmbeddings, trunk: &Trunk, task: &Task) {
    let mut reader = UserReader::new(model, user, Some(trunk));
    let mut forest = reader.forest(std::slice::from_ref(&task.prompt));
    let hidden = reader.read(&forest.take(&model.device()));
    let [_, n, d_model] = hidden.dims();
    let last = hidden
        .slice([0..1, n - 1..n, 0..d_model])
        .squeeze_dim::<2>(0);
    let _ = model.llm.head_logits(last).argmax(1).into_data();
}

/// Median time of a few runs, in milliseconds; the first, which pays for fresh memory, is rarely it.
fn median(runs: usize, mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs.max(1))
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use user_encoder::ModalityConfig;

    fn sizes(perceiver: Option<PerceiverResamplerConfig>) -> Sizes {
        let modality = |name: &str, width| ModalityConfig::new(name.into(), 0, width);
        Sizes {
            llm: LanguageModelConfig::new(97, 24, 3, 4, 2, 6, 40),
            encoder: UserEncoderConfig::new(vec![modality("item", 7), modality("rating", 3)])
                .with_d_model(16)
                .with_n_layers(2)
                .with_d_ff(48),
            perceiver,
            n_recent: 2,
            d_user: 11,
            cross_attention: (2, 20),
        }
    }

    /// Two operations for each multiply-add of a product of `[rows, inner]` and `[inner, columns]`.
    fn product(rows: usize, inner: usize, columns: usize) -> f64 {
        2.0 * (rows * inner * columns) as f64
    }

    #[test]
    fn a_language_model_costs_its_products_and_half_of_its_attention() {
        let tokens = 13;
        let mut expected = product(1, 24, 97);
        for _block in 0..3 {
            expected += 2.0 * product(tokens, 24, 4 * 6); // queries, output
            expected += 2.0 * product(tokens, 24, 2 * 6); // keys, values
            expected += 3.0 * product(tokens, 24, 40); // gate, up, down
            // Scores and sums over the values; half of them lie in the future.
            expected += 4.0 * (product(tokens, 6, tokens) + product(tokens, tokens, 6)) / 2.0;
        }
        assert_eq!(sizes(None).language_model(tokens), expected);
    }

    fn encoder(events: usize) -> f64 {
        let slots = events + 1;
        let mut expected = product(events, 7 + 3, 16);
        for _layer in 0..2 {
            expected += 4.0 * product(slots, 16, 16);
            expected += 2.0 * product(slots, 16, 3 * 16);
            expected += (product(slots, 16, slots) + product(slots, slots, 16)) / 2.0;
        }
        expected
    }

    #[test]
    fn weights_are_those_of_the_products_and_of_the_rows_that_are_read() {
        let perceiver = PerceiverResamplerConfig::new(16)
            .with_n_latents(3)
            .with_n_layers(2)
            .with_ff_multiplier(2);
        let sizes = sizes(Some(perceiver));
        let block = 2 * 24 * 24 + 2 * 24 * 12 + 3 * 24 * 40;
        assert_eq!(sizes.language_model_weights(), 3 * block + 24 * 97);
        let layer = 4 * 16 * 16 + 2 * 16 * 48;
        assert_eq!(sizes.encoder_weights(5), 5 * 10 + 10 * 16 + 2 * layer);
        let layer = 4 * 16 * 16 + 2 * 2 * 16 * 16;
        assert_eq!(sizes.perceiver_weights(), 2 * layer + 16 * 11);
        let (all, again) = sizes.cross_attention_weights();
        assert_eq!((all, again), (2 * 2 * (24 + 11) * 20, 2 * 2 * 24 * 20));
    }

    #[test]
    fn without_a_perceiver_every_event_is_projected() {
        assert_eq!(sizes(None).user(5), encoder(5) + product(5, 16, 11));
    }

    #[test]
    fn a_perceiver_reads_every_event_and_its_latents_and_recent_events_are_handed_on() {
        let perceiver = PerceiverResamplerConfig::new(16)
            .with_n_latents(3)
            .with_n_layers(2)
            .with_ff_multiplier(2);
        let mut expected = encoder(5) + product(3 + 2, 16, 11);
        for _layer in 0..2 {
            expected += 2.0 * product(3, 16, 16) + 2.0 * product(5, 16, 16);
            expected += product(3, 16, 5) + product(3, 5, 16);
            expected += 2.0 * product(3, 16, 2 * 16);
        }
        assert_eq!(sizes(Some(perceiver)).user(5), expected);
    }

    #[test]
    fn cross_attention_costs_its_products_in_the_fused_blocks() {
        let (tokens, n) = (7, 3);
        let block = 2.0 * product(tokens, 24, 20)
            + 2.0 * product(n, 11, 20)
            + product(tokens, 20, n)
            + product(tokens, n, 20);
        assert_eq!(sizes(None).cross_attention(tokens, n), 2.0 * block);
    }

    #[test]
    fn a_short_history_is_filled_with_its_oldest_event_in_front() {
        let event = |item| Event {
            item,
            rating: 3.0,
            timestamp: i64::from(item),
        };
        let history = [event(1), event(2), event(3)];
        let items = |n| {
            last(&history, n)
                .iter()
                .map(|event| event.item)
                .collect::<Vec<_>>()
        };
        assert_eq!(items(2), [2, 3]);
        assert_eq!(items(5), [1, 1, 1, 2, 3]);
    }
}
