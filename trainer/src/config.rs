//! One run, one file.

use std::path::Path;

use llm::ranking::Normalisation;
use llm_fusion::{FusionConfig, LoraConfig, TuningStrategy};
use perceiver::PerceiverResamplerConfig;
use serde::{Deserialize, Serialize};
use user_encoder::UserEncoderConfig;

use crate::Error;

/// A complete run: the only source of truth about it, kept beside its results.
///
/// Every key has to be in the file (a default cannot drift under an old experiment), and a key
/// that does not exist is refused with its path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunConfig {
    /// Name of the run, and of its folder.
    pub name: String,
    /// Seed of everything random: initial weights, order of the data, dropout, sampled users.
    pub seed: u64,
    /// The interactions.
    pub data: DataConfig,
    /// The language model.
    pub llm: LlmConfig,
    /// The user encoder. A modality's `vocab_size` of 0 means "as many as the data has".
    pub encoder: UserEncoderConfig,
    /// Training of the encoder on histories alone.
    pub pretraining: TrainingConfig,
    /// The Perceiver; leave the section out to hand on all event embeddings.
    pub perceiver: Option<PerceiverResamplerConfig>,
    /// The way into the language model.
    pub fusion: FusionConfig,
    /// Training of the fused model.
    pub tuning: TuningConfig,
    /// What the language model is asked.
    pub prompts: PromptConfig,
    /// How the contenders are compared.
    pub evaluation: EvaluationConfig,
}

/// The interactions and how they are cut.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DataConfig {
    /// A known dataset's name (`user-llm data` lists them), or a folder or zip of MovieLens files.
    pub dataset: String,
    /// Events of a history that are read at most, the latest; 50 in the paper.
    pub history_len: usize,
    /// Steps between training windows of one history.
    pub stride: usize,
}

/// The language model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LlmConfig {
    /// A known model's name, a `.gguf` file, a Hugging Face folder, or a name on the hub.
    pub model: String,
}

/// One stage of training: AdamW, linear warm-up, cosine decay to zero.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Optimizer steps.
    pub steps: usize,
    /// Histories per step.
    pub batch_size: usize,
    /// Highest learning rate, reached after the warm-up.
    pub learning_rate: f64,
    /// Share of the steps that warm up; 0.1 in the paper.
    pub warmup: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The gradient's global norm is scaled down to this; 0 leaves it alone.
    pub clip_norm: f64,
    /// Steps between validations; the best validated weights are kept. 0 never validates.
    pub validate_every: usize,
    /// Users that are validated on; 0 takes all of them.
    pub validation_users: usize,
    /// Stop after so many validations without a better one; 0 never stops early.
    pub patience: usize,
    /// Steps between checkpoints; 0 keeps only the last.
    pub checkpoint_every: usize,
}

/// Tuning of the fused model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TuningConfig {
    /// What trains.
    pub strategy: TuningStrategy,
    /// Adapters under the strategy `lora`.
    pub lora: LoraConfig,
    /// Over what a token's probability is normalised: `trie` or `vocabulary`.
    pub normalisation: Normalisation,
    /// Next events that are taught per history, in one pass.
    pub answers: usize,
    /// Weight of the pretrained encoder's own next-item distribution against the true next items.
    pub teacher_weight: f32,
    /// Share of the steps that teach the favourite genre instead of the next item.
    pub genre_share: f64,
    /// The gates' learning rate, as a multiple of the others'.
    pub gate_rate: f64,
    /// The encoder's learning rate, as a multiple of the others'.
    pub encoder_rate: f64,
    /// Steps, in place of `training.steps`, where every step computes the whole language model:
    /// under `full` and `lora`, with a soft prompt, or with cross-attention from block 0.
    pub whole_model_steps: usize,
    /// The loop.
    pub training: TrainingConfig,
}

/// What the language model is asked. Questions end where the answer begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PromptConfig {
    /// Asks for the next item.
    pub next_item: String,
    /// Asks for the favourite genre.
    pub favourite_genre: String,
    /// Opens a history written as text.
    pub history: String,
    /// One event of it: `{title}`, `{genres}`, `{rating}`.
    pub event: String,
}

/// How the contenders are compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvaluationConfig {
    /// Users that all contenders are tested on, drawn by the seed; 0 takes everybody. The
    /// favourite genre of these users is never taught.
    pub users: usize,
    /// Beams of the title search.
    pub beam_width: usize,
    /// Whether items of the history are left out of the ranking.
    pub exclude_seen: bool,
    /// Latest events that the text prompt holds.
    pub text_events: usize,
    /// Users per batch.
    pub batch_size: usize,
}

/// The modalities that MovieLens has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModalityKind {
    /// The item itself.
    Item,
    /// The rating, as a category.
    Rating,
    /// The item's genres.
    Genres,
}

impl ModalityKind {
    /// The modality of a name.
    ///
    /// # Errors
    ///
    /// Names that are not `item`, `rating` or `genres`.
    pub fn named(name: &str) -> Result<Self, Error> {
        match name {
            "item" => Ok(Self::Item),
            "rating" => Ok(Self::Rating),
            "genres" => Ok(Self::Genres),
            _ => Err(Error::value("encoder.modalities.name", name, "`item`, `rating` or `genres`")),
        }
    }
}

impl RunConfig {
    /// Read a run file, with `key=value` patches applied first (`training.steps=10`).
    ///
    /// # Errors
    ///
    /// If the file cannot be read, does not parse, lacks a key, has an unknown one, or holds a
    /// value that cannot work.
    pub fn read(path: &Path, patches: &[String]) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Self::from_toml(&text, &path.display().to_string(), patches)
    }

    /// Parse a run file's text; `file` is its name in errors.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn from_toml(text: &str, file: &str, patches: &[String]) -> Result<Self, Error> {
        let fail = |message: String| Error::Config { file: file.to_string(), message };
        // Parsed as it stands first: its errors then point at lines of the file.
        let mut table: toml::Table = toml::from_str(text).map_err(|error| fail(error.to_string()))?;
        for patch in patches {
            apply(&mut table, patch)?;
        }
        let mut unknown = None;
        let config: Result<Self, toml::de::Error> = serde_ignored::deserialize(table, |path| {
            unknown.get_or_insert_with(|| path.to_string());
        });
        match (unknown, config) {
            // A misspelt key is also a missing one: the misspelling is what helps.
            (Some(key), config) => {
                let suggestion = match &config {
                    Ok(config) => similar_key(config, &key),
                    Err(error) => missing_sibling(error.message(), &key),
                };
                Err(Error::UnknownKey { file: file.to_string(), key, suggestion })
            }
            (None, Ok(config)) => config.validate().map(|()| config),
            (None, Err(error)) => Err(fail(error.to_string().trim_end().to_string())),
        }
    }

    /// The complete file of this run.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a run config is plain tables and values")
    }

    /// Checks across sections; a module's own are made where it is built.
    fn validate(&self) -> Result<(), Error> {
        let at_least = |key, value: usize, least: usize| match value >= least {
            true => Ok(()),
            false => Err(Error::value(key, value, format!("at least {least}"))),
        };
        at_least("data.history_len", self.data.history_len, 1)?;
        at_least("data.stride", self.data.stride, 1)?;
        at_least("encoder.max_length", self.encoder.max_length, self.data.history_len)?;
        at_least("evaluation.batch_size", self.evaluation.batch_size, 1)?;
        at_least("evaluation.beam_width", self.evaluation.beam_width, 10)?;
        at_least("tuning.answers", self.tuning.answers, 1)?;
        if self.encoder.modalities.first().is_none_or(|first| first.name != "item") {
            return Err(Error::value(
                "encoder.modalities",
                "a list that does not begin with `item`",
                "`item` first: next items are ranked by it",
            ));
        }
        for modality in &self.encoder.modalities {
            ModalityKind::named(&modality.name)?;
        }
        if self.encoder.n_heads == 0 || !self.encoder.d_model.is_multiple_of(self.encoder.n_heads) {
            return Err(Error::value(
                "encoder.n_heads",
                self.encoder.n_heads,
                format!("a divisor of `encoder.d_model` = {}", self.encoder.d_model),
            ));
        }
        if let Some(perceiver) = &self.perceiver
            && perceiver.d_model != self.encoder.d_model
        {
            return Err(Error::value(
                "perceiver.d_model",
                perceiver.d_model,
                format!("`encoder.d_model` = {}", self.encoder.d_model),
            ));
        }
        if let Some(perceiver) = &self.perceiver {
            at_least("perceiver.n_latents", perceiver.n_latents, 1)?;
            if perceiver.n_heads == 0 || !perceiver.d_model.is_multiple_of(perceiver.n_heads) {
                return Err(Error::value(
                    "perceiver.n_heads",
                    perceiver.n_heads,
                    format!("a divisor of `perceiver.d_model` = {}", perceiver.d_model),
                ));
            }
        }
        let from_0_to_1 = |key, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::value(key, value, "from 0 to 1")),
        };
        from_0_to_1("encoder.dropout_input", self.encoder.dropout_input)?;
        from_0_to_1("encoder.dropout", self.encoder.dropout)?;
        from_0_to_1("perceiver.dropout", self.perceiver.as_ref().map_or(0.0, |p| p.dropout))?;
        from_0_to_1("tuning.teacher_weight", f64::from(self.tuning.teacher_weight))?;
        from_0_to_1("tuning.genre_share", self.tuning.genre_share)?;
        let positive = |key, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(Error::value(key, value, "above 0")),
        };
        positive("tuning.gate_rate", self.tuning.gate_rate)?;
        positive("tuning.encoder_rate", self.tuning.encoder_rate)?;
        at_least("tuning.whole_model_steps", self.tuning.whole_model_steps, 1)?;
        let stages = [
            (&self.pretraining, [
                "pretraining.learning_rate",
                "pretraining.batch_size",
                "pretraining.steps",
                "pretraining.warmup",
            ]),
            (&self.tuning.training, [
                "tuning.training.learning_rate",
                "tuning.training.batch_size",
                "tuning.training.steps",
                "tuning.training.warmup",
            ]),
        ];
        for (stage, [learning_rate, batch_size, steps, warmup]) in stages {
            if !(stage.learning_rate > 0.0 && stage.learning_rate <= 1.0) {
                let found = stage.learning_rate;
                return Err(Error::value(learning_rate, found, "above 0 and at most 1"));
            }
            at_least(batch_size, stage.batch_size, 1)?;
            at_least(steps, stage.steps, 1)?;
            from_0_to_1(warmup, stage.warmup)?;
        }
        Ok(())
    }
}

/// Apply `a.b.c=value` to a table; what does not parse as TOML is taken as text.
fn apply(table: &mut toml::Table, patch: &str) -> Result<(), Error> {
    let (path, value) = patch.split_once('=').ok_or_else(|| Error::Config {
        file: format!("--set {patch}"),
        message: "expected `key=value`, as in `--set pretraining.steps=100`".into(),
    })?;
    let value: toml::Value = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_string()));
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut at = table;
    for key in keys {
        at = at
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| Error::UnknownKey {
                file: "--set".into(),
                key: path.to_string(),
                suggestion: None,
            })?;
    }
    at.insert(last.to_string(), value);
    Ok(())
}

/// The known key that is most like an unknown one.
fn similar_key(config: &RunConfig, unknown: &str) -> Option<String> {
    fn collect(prefix: &str, value: &toml::Value, keys: &mut Vec<String>) {
        let path_of = |key: &str| match prefix {
            "" => key.to_string(),
            prefix => format!("{prefix}.{key}"),
        };
        for (key, value) in value.as_table().into_iter().flatten() {
            collect(&path_of(key), value, keys);
            keys.push(path_of(key));
        }
        for (index, value) in value.as_array().into_iter().flatten().enumerate() {
            collect(&path_of(&index.to_string()), value, keys);
        }
    }
    let mut keys = Vec::new();
    collect("", &toml::Value::try_from(config).ok()?, &mut keys);
    let best = keys.into_iter().min_by_key(|key| distance(key, unknown))?;
    (distance(&best, unknown) <= 3).then_some(best)
}

/// The missing key that an unknown one beside it may have meant to be.
fn missing_sibling(message: &str, unknown: &str) -> Option<String> {
    let missing = message.strip_prefix("missing field `")?.split('`').next()?;
    let (section, key) = unknown.rsplit_once('.').unwrap_or(("", unknown));
    let dot = if section.is_empty() { "" } else { "." };
    (distance(missing, key) <= 3).then(|| format!("{section}{dot}{missing}"))
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
