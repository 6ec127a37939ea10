//! What a question about a person costs: history as text against user embeddings.

use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};
use datasets::Event;
use llm::load::LoadedModel;
use llm::{LanguageModel, LanguageModelConfig};
use llm_fusion::{FusedBlocks, Trunk, UserDecoder, UserEmbeddings, UserLlm, UserReader};
use llm::generate::Decode;
use llm::ranking::ReadForest;
use serde::{Deserialize, Serialize};

use crate::tune::{Task, Tasks};
use crate::{Error, Monitor, Prepared, RunConfig};

/// Tokens of a question in the paper, whatever the history.
const QUESTION_TOKENS: usize = 32;

/// A question that is cut to [`QUESTION_TOKENS`]; times do not depend on its words.
const QUESTION: &str = "You know what this person has watched so far, and how they liked it. \
    Which film does this person watch next? Answer with the title of one film, without its year, \
    and with nothing else:";

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
    /// Measured time of encoder, Perceiver and projector, in milliseconds; 0 for text.
    pub encode_ms: f64,
    /// Measured time from there to the first token, in milliseconds.
    pub prefill_ms: f64,
    /// Runs that the times are medians of.
    pub runs: usize,
}

impl Cost {
    /// Time to first token, in milliseconds.
    pub fn first_token_ms(&self) -> f64 {
        self.encode_ms + self.prefill_ms
    }
}

/// Sizes that the formulas need.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// The language model's.
    pub llm: LanguageModelConfig,
    /// Parameters of the encoder's transformer.
    pub encoder_parameters: usize,
    /// Layers and width of the encoder, for its attention.
    pub encoder_shape: (usize, usize),
    /// Parameters of Perceiver and projector, and how many latents pass through them.
    pub resampler: (usize, usize),
    /// Blocks with cross-attention, its inner width, the width of the user embeddings.
    pub cross_attention: (usize, usize, usize),
}

impl Sizes {
    /// Sizes of a run.
    pub fn new(config: &RunConfig, llm: &LanguageModelConfig, model: &UserLlm) -> Self {
        use burn::module::Module;
        let encoder = &config.encoder;
        let d_model = encoder.d_model;
        let n_fused = match &config.fusion.blocks {
            _ if model.is_soft_prompt() => 0,
            FusedBlocks::All => llm.n_layers,
            FusedBlocks::Upper(n) => *n,
            FusedBlocks::Only(list) => list.len(),
        };
        let fresh = model.projector.num_params()
            + model.resampler.as_ref().map_or(0, |resampler| resampler.num_params());
        Self {
            llm: llm.clone(),
            encoder_parameters: encoder.n_layers
                * (4 + 2 * encoder.ff_multiplier)
                * d_model
                * d_model,
            encoder_shape: (encoder.n_layers, d_model),
            resampler: (fresh, config.perceiver.as_ref().map_or(0, |p| p.n_latents)),
            cross_attention: (
                n_fused,
                config.fusion.n_heads * config.fusion.d_head,
                if model.is_soft_prompt() { llm.d_model } else { config.fusion.d_user },
            ),
        }
    }

    /// Reading `tokens` and giving the logits after the last: twice the weights for each token,
    /// causal attention, and one row of the head.
    pub fn language_model(&self, tokens: usize) -> f64 {
        let c = &self.llm;
        let per_block = c.d_model * (2 * c.n_heads + 2 * c.n_kv_heads) * c.d_head
            + 3 * c.d_model * c.d_ff;
        let weights = 2.0 * (c.n_layers * per_block * tokens) as f64;
        let attention = 2.0 * (c.n_layers * tokens * tokens * c.n_heads * c.d_head) as f64;
        weights + attention + 2.0 * (c.d_model * c.vocab_size) as f64
    }

    /// Encoder, Perceiver and projector over `events` events.
    pub fn user(&self, events: usize) -> f64 {
        let (layers, width) = self.encoder_shape;
        let encoder = 2 * self.encoder_parameters * events + 2 * layers * events * events * width;
        let (fresh, latents) = self.resampler;
        (encoder + 2 * fresh * latents.max(1)) as f64
    }

    /// Cross-attention of `tokens` tokens to `n` user embeddings.
    pub fn cross_attention(&self, tokens: usize, n: usize) -> f64 {
        let (blocks, inner, d_user) = self.cross_attention;
        let queries_and_output = 4 * tokens * self.llm.d_model * inner;
        let keys_and_values = 4 * n * d_user * inner;
        (blocks * (queries_and_output + keys_and_values + 4 * tokens * n * inner)) as f64
    }
}

/// Measure the ways to ask for the next item, at several lengths of history: with a question of 32
/// tokens, the paper's budget, after the history as text or with user embeddings.
///
/// The history is that of the person with the most events; its oldest are repeated in front where
/// they do not suffice. Times are medians, each until the first token is on the host.
///
/// # Errors
///
/// If the text cannot be tokenized.
#[expect(clippy::too_many_arguments, reason = "everything that takes part in a question")]
pub fn measure(
    lengths: &[usize],
    runs: usize,
    prepared: &Prepared,
    config: &RunConfig,
    llm: &LoadedModel,
    model: &UserLlm,
    tasks: &Tasks,
    monitor: &mut dyn Monitor,
) -> Result<Vec<Cost>, Error> {
    let (llm, tokenizer) = (&llm.config, &llm.tokenizer);
    let sizes = Sizes::new(config, llm, model);
    let mut question = tokenizer.encode_bare(QUESTION)?;
    question.truncate(QUESTION_TOKENS);
    let task = &Task { prompt: question, answers: tasks.next_item.answers.clone() };
    let trunk = (!model.is_soft_prompt() && model.lowest_fused() > 0)
        .then(|| model.trunk(&task.prompt, &task.answers.trie));
    let longest = prepared.dataset.histories.iter().max_by_key(|history| history.events.len());
    let longest = longest.map_or(&[][..], |history| &history.events);
    let mut costs = Vec::new();
    monitor.begin("time to first token", 0, lengths.len());
    for (done, &events) in lengths.iter().enumerate() {
        let history = last(longest, events);
        let text = config.prompts.history_text(&prepared.dataset.catalogue, &history);
        let mut tokens = tokenizer.encode(&text)?;
        tokens.extend(&task.prompt);
        let text_ms = median(runs, || {
            first_token(&model.llm, &tokens);
        });
        costs.push(Cost {
            events,
            name: "text prompt".into(),
            prompt_tokens: tokens.len(),
            gflop: sizes.language_model(tokens.len()) / 1e9,
            encode_ms: 0.0,
            prefill_ms: text_ms,
            runs,
        });

        let read = || model.read_user(&prepared.batcher.batch(&[history.as_slice()], &model.device()));
        let encode_ms = median(runs, || {
            let _ = read().embeddings.into_data();
        });
        let user = read();
        let n_user = user.embeddings.dims()[1];
        let prefill_ms = median(runs, || {
            let _ = UserDecoder::new(model, Some(&user)).push(&task.prompt).argmax(0).into_data();
        });
        let soft = if model.is_soft_prompt() { n_user } else { 0 };
        let prompt_tokens = task.prompt.len() + soft;
        let gflop = sizes.user(events)
            + sizes.cross_attention(task.prompt.len(), n_user)
            + sizes.language_model(prompt_tokens);
        let name = if model.is_soft_prompt() { "soft prompt" } else { "cross-attention" };
        let cost = Cost {
            events,
            name: format!("user embeddings, {name}"),
            prompt_tokens,
            gflop: gflop / 1e9,
            encode_ms,
            prefill_ms,
            runs,
        };
        if let Some(trunk) = &trunk {
            let share = (llm.n_layers - model.lowest_fused()) as f64 / llm.n_layers as f64;
            let head = 2.0 * (llm.d_model * llm.vocab_size) as f64;
            let blocks = sizes.language_model(prompt_tokens) - head;
            costs.push(cost.clone());
            costs.push(Cost {
                name: format!("user embeddings, {name}, shared trunk"),
                gflop: (gflop - blocks * (1.0 - share)) / 1e9,
                prefill_ms: median(runs, || first_token_above(model, &user, trunk, task)),
                ..cost
            });
        } else {
            costs.push(cost);
        }
        monitor.step(done + 1, &[]);
    }
    monitor.end("measured");
    Ok(costs)
}

/// The last `n` events, the first repeated in front if there are fewer.
fn last(events: &[Event], n: usize) -> Vec<Event> {
    let have = events.len().min(n);
    let filler = events.first().into_iter().cycle().take(n - have);
    filler.chain(&events[events.len() - have..]).copied().collect()
}

fn first_token(model: &LanguageModel, tokens: &[u32]) {
    let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
    let ids = TensorData::new(ids, [1, tokens.len()]);
    let ids = Tensor::<2, Int>::from_data(ids, &model.device());
    let plan = model.plan_causal(1, tokens.len(), 0, None);
    let hidden = model.forward_cached(ids, &plan, &mut model.new_cache());
    let [_, n, d_model] = hidden.dims();
    let last = hidden.slice([0..1, n - 1..n, 0..d_model]);
    let _ = model.logits(last).argmax(2).into_data();
}

fn first_token_above(model: &UserLlm, user: &UserEmbeddings, trunk: &Trunk, task: &Task) {
    let mut reader = UserReader::new(model, user, Some(trunk));
    let mut forest = reader.forest(std::slice::from_ref(&task.prompt));
    let hidden = reader.read(&forest.take(&model.device()));
    let [_, n, d_model] = hidden.dims();
    let last = hidden.slice([0..1, n - 1..n, 0..d_model]).squeeze_dim::<2>(0);
    let _ = model.llm.head_logits(last).argmax(1).into_data();
}

/// Median time of a few runs, in milliseconds, after one that warms up.
fn median(runs: usize, mut run: impl FnMut()) -> f64 {
    run();
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
