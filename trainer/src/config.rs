//! One run, one file.

use std::path::{Path, PathBuf};

use burn::tensor::FloatDType;
use datasets::tables::TableConfig;
use datasets::{Dataset, ReadOptions, SplitConfig};
use llm::LanguageModel;
use llm::ranking::Normalisation;
use llm_fusion::{
    Blocks, FusionConfig, FusionKind, LoraConfig, TuningStrategy, UserLlm, UserLlmConfig,
};
use perceiver::PerceiverResamplerConfig;
use serde::{Deserialize, Serialize};
use user_encoder::{
    AttentionKind, DualEncoderConfig, EncoderTask, HistoryEncoder, ItemLoss, ModalityConfig,
    Positions, Similarity, UserEncoderConfig,
};

use crate::Error;

/// A complete run: the only source of truth about it, kept beside its results.
///
/// Every key has to be in the file (a default cannot drift under an old experiment), and a key that
/// does not exist is refused with its path. Keys that came later may be left out, and then mean
/// what was done before there was a choice: `data.min_history`, `data.read`, `data.split`,
/// `llm.adapter`, `llm.precision`, `tuning.blocks`, `tuning.workers`, `tuning.devices`, `tuning.encoder`,
/// `tuning.encoder_dropout`, `tuning.teacher_answers`, `prompts.text_events`, `prompts.max_tokens`,
/// `prompts.next_item_answer`, `prompts.favourite_genre_answer`, `review.answer`, `review.event`,
/// `objective.sparse_rows`, `objective.history_len`, `objective.devices`. The sections of the
/// language model (`llm`, `fusion`, `tuning`, `prompts`, and `perceiver` if wanted) may be left out
/// together: the run then is about the encoder alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunConfig {
    /// Name of the run, and of its folder.
    pub name: String,
    /// Seed of everything random: initial weights, order of the data, dropout, sampled users.
    pub seed: u64,
    /// The interactions.
    pub data: DataConfig,
    /// The language model.
    pub llm: Option<LlmConfig>,
    /// The user encoder. A modality's `vocab_size` of 0 means "as many as the data has".
    pub encoder: UserEncoderConfig,
    /// The text encoder for the modalities `title-text`, `description-text` and `review-text`; leave
    /// the section out where there is none.
    pub text_encoder: Option<TextEncoderConfig>,
    /// Makes it the paper's dual encoder, with the figures of `encoder`; leave the section out for
    /// the encoder that predicts events.
    pub dual_encoder: Option<DualEncoderConfig>,
    /// What the encoder learns from histories alone.
    pub objective: ObjectiveConfig,
    /// Training of the encoder on histories alone.
    pub pretraining: TrainingConfig,
    /// The Perceiver; leave the section out to hand on all event embeddings.
    pub perceiver: Option<PerceiverResamplerConfig>,
    /// The way into the language model.
    pub fusion: Option<FusionConfig>,
    /// Training of the fused model.
    pub tuning: Option<TuningConfig>,
    /// What the language model is asked.
    pub prompts: Option<PromptConfig>,
    /// Writing of reviews, as a task of its own; leave the section out for data without texts.
    pub review: Option<ReviewConfig>,
    /// How the contenders are compared.
    pub evaluation: EvaluationConfig,
}

/// The sections of a run that are about the language model.
#[derive(Clone, Copy, Debug)]
pub struct LanguageSections<'a> {
    /// The language model.
    pub llm: &'a LlmConfig,
    /// The Perceiver, if there is one.
    pub perceiver: Option<&'a PerceiverResamplerConfig>,
    /// The way into the language model.
    pub fusion: &'a FusionConfig,
    /// Training of the fused model.
    pub tuning: &'a TuningConfig,
    /// What the language model is asked.
    pub prompts: &'a PromptConfig,
    /// Writing of reviews, if it is asked for that.
    pub review: Option<&'a ReviewConfig>,
}

impl LanguageSections<'_> {
    /// Name of what is tuned by these sections, for files: strategy, the way in, and what else the
    /// paper compares, as `enc-cross-attention` or `lora-none-text-50`.
    pub fn tuning_name(&self) -> String {
        let names = serde_json::to_value((self.tuning.strategy, self.fusion.kind));
        let names: [String; 2] = names
            .and_then(serde_json::from_value)
            .expect("both are written as their names");
        let mut name = names.join("-");
        if self.prompts.text_events > 0 {
            name += &format!("-text-{}", self.prompts.text_events);
        }
        if let Some(blocks) = self.tuning.chosen_blocks() {
            name += &format!("-{}", blocks.replace(' ', "-"));
        }
        if self.tuning.encoder == EncoderInit::Random {
            name += "-random";
        }
        name
    }

    /// The same for tables, as `User-LLM, cross-attention, Enc`.
    pub fn contender(&self) -> String {
        let way = match self.fusion.kind {
            FusionKind::CrossAttention => "User-LLM, cross-attention",
            FusionKind::SoftPrompt => "User-LLM, soft prompt",
            FusionKind::None => "text prompt",
        };
        let mut name = match (self.prompts.text_events, self.fusion.kind) {
            (0, _) => way.to_string(),
            (n, FusionKind::None) => format!("{way}, last {n} events"),
            (n, _) => format!("{way} and the last {n} events as text"),
        };
        name += &format!(", {:?}", self.tuning.strategy);
        if let Some(blocks) = self.tuning.chosen_blocks() {
            name += &format!(" ({blocks} blocks)");
        }
        if self.tuning.encoder == EncoderInit::Random {
            name += ", random encoder";
        }
        name
    }

    /// Join a language model and an encoder as the run says.
    ///
    /// # Errors
    ///
    /// If `fusion.blocks` or `tuning.blocks` names no block of this language model, or one that it
    /// does not have.
    pub fn fuse(
        &self,
        llm: LanguageModel,
        encoder: impl Into<HistoryEncoder>,
    ) -> Result<UserLlm, Error> {
        let n_blocks = llm.blocks.len();
        let mut chosen = vec![("tuning.blocks", &self.tuning.blocks)];
        if self.fusion.kind == FusionKind::CrossAttention {
            chosen.push(("fusion.blocks", &self.fusion.blocks));
        }
        for (key, blocks) in chosen {
            let is_there = match blocks {
                Blocks::All => true,
                Blocks::Upper(n) => (1..=n_blocks).contains(n),
                Blocks::Only(list) => !list.is_empty() && list.iter().all(|&at| at < n_blocks),
            };
            if !is_there {
                let expected = format!(
                    "`all`, `{{ upper = n }}` with n from 1 to {n_blocks}, or `{{ only = [...] }}` with \
                     numbers from 0 to {}: the language model has {n_blocks} blocks",
                    n_blocks - 1
                );
                return Err(Error::value(key, format!("{blocks:?}"), expected));
            }
        }
        Ok(UserLlmConfig::new(self.fusion.clone())
            .with_perceiver(self.perceiver.cloned())
            .init(llm, encoder))
    }
}

/// The interactions and how they are cut.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DataConfig {
    /// A known dataset's name (`user-llm data fetch` lists them), a folder or zip of data files, or a
    /// store that `user-llm data prepare` wrote.
    pub dataset: String,
    /// Events of a history that are read at most, the latest; 50 in the paper.
    pub history_len: usize,
    /// Steps between training windows of one history. 0 cuts every history at places that are
    /// drawn anew for each pass of pretraining, so that every event is predicted once a pass;
    /// tuning takes it as 1.
    pub stride: usize,
    /// Fewest interactions of each person and item; who has fewer is left out, again until nothing
    /// changes. 5 gives the usual "5-core", 0 keeps everybody.
    pub min_interactions: usize,
    /// Fewest interactions of each person, counted after that; items stay. The paper's filter is
    /// 51: a window of 50 events and one to predict.
    #[serde(default)]
    pub min_history: usize,
    /// What becomes of records that are not what they must be.
    #[serde(default)]
    pub read: ReadOptions,
    /// What is trained on, validated and tested.
    #[serde(default)]
    pub split: SplitConfig,
    /// Tables of your own in the folder `dataset`: which column is what. Leave the section out for
    /// data whose layout is known.
    pub tables: Option<TableConfig>,
}

impl DataConfig {
    /// Leave out the people and items that have too few interactions.
    pub fn filter(&self, dataset: Dataset) -> Dataset {
        // A prepared store may be filtered already.
        let dataset = match self.min_interactions > dataset.min_interactions {
            true => dataset.with_min_interactions(self.min_interactions),
            false => dataset,
        };
        match self.min_history > dataset.min_history {
            true => dataset.with_min_history(self.min_history),
            false => dataset,
        }
    }
}

/// What the encoder learns from histories alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObjectiveConfig {
    /// Which events are predicted: `next-event` under causal attention, `masked` under
    /// bidirectional.
    pub task: EncoderTask,
    /// How the next item is told from the others.
    pub item_loss: ItemLoss,
    /// Negatives are drawn in proportion to `count^popularity` of their item: 0 draws evenly, 1 as
    /// the data has them, which is how they come in a batch.
    pub popularity: f64,
    /// Parts of a batch that are computed side by side, each by one thread of the CPU, with the
    /// gradient of the whole; batches where the encoder is validated and evaluated. 1 leaves
    /// threads to the backend.
    pub workers: usize,
    /// Whether a step trains the rows of the item table that it reads and no others: with a loss
    /// that draws its negatives, a step then costs what it reads, however many items there are.
    /// The other rows neither decay nor move on by their momentum. May be left out: false.
    #[serde(default)]
    pub sparse_rows: bool,
    /// Events that pretraining reads, in training and validation, where they are not
    /// `data.history_len`: an encoder learns more from longer histories than are asked about
    /// afterwards. May be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_len: Option<usize>,
    /// Devices that every batch is spread over, as `--backend` names them: each computes its part's
    /// gradient with a replica of the encoder, in place of `workers`. Optimizer and validation stay
    /// on the run's own device. May be left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
}

/// The language model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LlmConfig {
    /// A known model's name, a `.gguf` file, a Hugging Face folder, or a name on the hub.
    pub model: String,
    /// A PEFT folder of LoRA adapters, merged into the model before anything else. May be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// The float type of its matrices in memory, where it is frozen. 16 bits are half the memory, and on
    /// `flex` `f16` is a third less time a token, while prompts and training take longer
    /// (docs/decisions/0008). Left out: `f32`.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
}

/// A float type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 11 of them for digits; nothing above 65,504.
    F16,
    /// 16 bits, 8 of them for digits; the range of `f32`.
    Bf16,
}

impl Precision {
    fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            other => Err(format!(
                "{other:?} is no float type; there are f32, f16, bf16"
            )),
        }
    }
}

impl From<Precision> for FloatDType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F16 => Self::F16,
            Precision::Bf16 => Self::BF16,
        }
    }
}

/// The text encoder, which does not train.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TextEncoderConfig {
    /// A known model's name, a folder as sentence-transformers have it, or a name on the hub.
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
    /// Steps between validations, by NDCG@10 of next items, or by how likely a token of what was
    /// written is where a tuning teaches reviews alone; the best validated weights are kept. 0
    /// never validates.
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
    /// The encoder that tuning begins with.
    #[serde(default)]
    pub encoder: EncoderInit,
    /// The language model's blocks that train under `full` and that have adapters under `lora`:
    /// `all`, `{ upper = 4 }` or `{ only = [3, 7] }`. With none below the lowest that reads the user,
    /// a step costs little more than under `enc`. May be left out: `all`.
    #[serde(default = "all_blocks", skip_serializing_if = "is_all")]
    pub blocks: Blocks,
    /// Adapters under the strategy `lora`.
    pub lora: LoraConfig,
    /// Over what a token's probability is normalised: `trie` or `vocabulary`.
    pub normalisation: Normalisation,
    /// Next events that are taught per history, in one pass.
    pub answers: usize,
    /// Weight of the pretrained encoder's own next-item distribution against the true next items.
    pub teacher_weight: f32,
    /// Answers per history that are drawn from that distribution, in the place of the true next
    /// items: what is taught is then taught where the model will look for the best. May be left out:
    /// 0, the true ones.
    #[serde(default)]
    pub teacher_answers: usize,
    /// Parts of a batch that are computed side by side, each by one thread of the CPU, with the
    /// gradient of the whole. May be left out: 1, which leaves threads to the backend.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub workers: usize,
    /// Devices that every batch is spread over, as `--backend` names them, in place of `workers`. Each
    /// is sent the model at every step, but the language model only once under `enc` and `proj`. Optimizer
    /// and validation stay on the run's own device. May be left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Share of the steps that teach the favourite genre instead of the next item.
    pub genre_share: f64,
    /// The gates' learning rate, as a multiple of the others'.
    pub gate_rate: f64,
    /// The encoder's learning rate, as a multiple of the others'.
    pub encoder_rate: f64,
    /// Whether the encoder's own dropout stays on while the language model learns to read it. May be
    /// left out: true.
    #[serde(default = "yes")]
    pub encoder_dropout: bool,
    /// Steps, in place of `training.steps`, where every step computes the whole language model: with
    /// a soft prompt or cross-attention from block 0, with text in the prompts, normalised over the
    /// vocabulary, or under `full` and `lora` where `blocks` reach below the lowest that reads the user.
    pub whole_model_steps: usize,
    /// The loop.
    pub training: TrainingConfig,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

fn all_blocks() -> Blocks {
    Blocks::All
}

fn is_all(blocks: &Blocks) -> bool {
    *blocks == Blocks::All
}

impl TuningConfig {
    /// Freeze what the strategy freezes, and attach its adapters.
    ///
    /// # Panics
    ///
    /// As [`TuningStrategy::apply`].
    pub fn apply(&self, model: UserLlm) -> UserLlm {
        self.strategy.apply(model, &self.blocks, &self.lora)
    }

    /// The language model's blocks that train, where they are not all or none, as `upper 4`.
    fn chosen_blocks(&self) -> Option<String> {
        if self.strategy.freezes_language_model() {
            return None;
        }
        match &self.blocks {
            Blocks::All => None,
            Blocks::Upper(n) => Some(format!("upper {n}")),
            Blocks::Only(list) => {
                let list: Vec<String> = list.iter().map(usize::to_string).collect();
                Some(format!("only {}", list.join(" ")))
            }
        }
    }
}

/// The encoder that tuning begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderInit {
    /// The run's pretrained one.
    #[default]
    Pretrained,
    /// A fresh one, to see what pretraining is worth.
    Random,
}

/// What the language model is asked, and how it answers. Questions end where the answer begins;
/// answers begin with the space before their first word and end with their line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PromptConfig {
    /// Longest question, in tokens; the paper has 32. What is told of a person as text or as user
    /// embeddings stands before it and is not counted. A longer question is refused; one about an
    /// item names as much of its title as fits. Left out: any length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Latest events that stand as text before every question; 0 leaves what is known of a person
    /// to the user embeddings. With embeddings of 50 events, 10 is the paper's best.
    #[serde(default)]
    pub text_events: usize,
    /// Asks for the next item.
    pub next_item: String,
    /// Names it: `{title}`. Left out: a space and the title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_item_answer: Option<String>,
    /// Asks for the favourite genre.
    pub favourite_genre: String,
    /// Names it: `{genre}`. Left out: a space and the genre.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub favourite_genre_answer: Option<String>,
    /// Opens a history written as text.
    pub history: String,
    /// One event of it: `{title}`, `{genres}`, `{rating}`.
    pub event: String,
    /// A summary in the place of such a text, by the language model itself; the paper's other
    /// baseline. Leave the section out to do without that contender.
    pub summary: Option<SummaryConfig>,
}

/// How the language model summarises a person before it is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SummaryConfig {
    /// Stands behind the history, and is what the summary begins with.
    pub opening: String,
    /// Longest summary, in tokens; it ends with its line.
    pub max_tokens: usize,
}

/// The review task: what a person would say about an item.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReviewConfig {
    /// Asks for a review of `{title}`, which the person gave `{rating}`.
    pub prompt: String,
    /// The review: `{review}`. Left out: a space and the review.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// One event of a history as text for this task, in place of `prompts.event`: also has
    /// `{review}`, the words of what the person wrote there, at most `max_tokens` of them. May be
    /// left out.
    pub event: Option<String>,
    /// What of a review is written.
    pub target: ReviewTarget,
    /// Longest review, in tokens; longer ones are taught up to here.
    pub max_tokens: usize,
    /// Share of tuning's steps that teach reviews, beside `tuning.genre_share`.
    pub share: f64,
}

/// What of a review is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReviewTarget {
    /// The review itself.
    Text,
    /// Its headline.
    Summary,
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

/// What an event can be described by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModalityKind {
    /// The item itself.
    Item,
    /// The rating, as a category.
    Rating,
    /// The item's genres, or its categories.
    Genres,
    /// The words of the item's title that other titles have, too.
    Title,
    /// The item's year. A single year, not a decade: half of MovieLens 1M's films are of six years.
    Year,
    /// The time since the event before it, by powers of two of a second.
    Gap,
    /// The hour of the week at which it happened, in UTC, since data do not tell where a person is.
    HourOfWeek,
    /// The item's title as a frozen text encoder reads it; an input, and never predicted.
    TitleText,
    /// The item's description, likewise; zeros where there is none.
    DescriptionText,
    /// What the person wrote at the event, likewise: known of events of the past alone.
    ReviewText,
}

impl ModalityKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Item,
        Self::Rating,
        Self::Genres,
        Self::Title,
        Self::Year,
        Self::Gap,
        Self::HourOfWeek,
        Self::TitleText,
        Self::DescriptionText,
        Self::ReviewText,
    ];

    /// The name in run files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Item => "item",
            Self::Rating => "rating",
            Self::Genres => "genres",
            Self::Title => "title",
            Self::Year => "year",
            Self::Gap => "gap",
            Self::HourOfWeek => "hour-of-week",
            Self::TitleText => "title-text",
            Self::DescriptionText => "description-text",
            Self::ReviewText => "review-text",
        }
    }

    /// Whether a frozen text encoder reads it.
    pub(crate) fn is_text(self) -> bool {
        matches!(
            self,
            Self::TitleText | Self::DescriptionText | Self::ReviewText
        )
    }

    /// What a text encoder reads of it.
    pub(crate) fn texts(self) -> &'static str {
        match self {
            Self::DescriptionText => "descriptions",
            Self::ReviewText => "reviews",
            _ => "titles",
        }
    }

    /// Whether it is read off the clock.
    pub(crate) fn is_of_time(self) -> bool {
        matches!(self, Self::Gap | Self::HourOfWeek)
    }

    /// Whether an item has it whoever meets it, and whenever.
    fn is_of_item(self) -> bool {
        !matches!(self, Self::Rating | Self::ReviewText) && !self.is_of_time()
    }

    /// The modality of a name.
    ///
    /// # Errors
    ///
    /// Names that are none of [`ALL`](Self::ALL).
    pub fn named(name: &str) -> Result<Self, Error> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            let names = format!("one of {}", names.join(", "));
            Error::value("encoder.modalities.name", name, names)
        })
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
        let fail = |message: String| Error::Config {
            file: file.to_string(),
            message,
        };
        // Parsed as it stands first: its errors then point at lines of the file.
        let mut table: toml::Table =
            toml::from_str(text).map_err(|error| fail(error.to_string()))?;
        for patch in patches {
            apply(&mut table, patch)?;
        }
        let mut unknown = None;
        let config: Result<Self, toml::de::Error> = serde_ignored::deserialize(table, |path| {
            // An optional section stands as `?` in the path.
            unknown.get_or_insert_with(|| path.to_string().replace(".?", ""));
        });
        match (unknown, config) {
            // A misspelt key is also a missing one: the misspelling is what helps.
            (Some(key), config) => {
                let suggestion = match &config {
                    Ok(config) => similar_key(config, &key),
                    Err(error) => missing_sibling(error.message(), &key),
                };
                Err(Error::UnknownKey {
                    file: file.to_string(),
                    key,
                    suggestion,
                })
            }
            (None, Ok(config)) => config.validate().map(|()| config),
            (None, Err(error)) => Err(fail(error.to_string().trim_end().to_string())),
        }
    }

    /// The complete file of this run.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a run config is plain tables and values")
    }

    /// The sections of the language model.
    ///
    /// # Errors
    ///
    /// [`Error::MissingSection`] if the run is about the encoder alone.
    pub fn language(&self) -> Result<LanguageSections<'_>, Error> {
        fn present<'a, T>(section: &'static str, value: &'a Option<T>) -> Result<&'a T, Error> {
            value.as_ref().ok_or(Error::MissingSection { section })
        }
        Ok(LanguageSections {
            llm: present("llm", &self.llm)?,
            perceiver: self.perceiver.as_ref(),
            fusion: present("fusion", &self.fusion)?,
            tuning: present("tuning", &self.tuning)?,
            prompts: present("prompts", &self.prompts)?,
            review: self.review.as_ref(),
        })
    }

    /// The section of the dual encoder.
    ///
    /// # Errors
    ///
    /// If the run is about the encoder that predicts events.
    pub fn dual_encoder(&self) -> Result<&DualEncoderConfig, Error> {
        let missing = || Error::value("dual_encoder", "missing", "the section of a dual encoder");
        self.dual_encoder.as_ref().ok_or_else(missing)
    }

    /// Events of a pretraining window.
    pub fn pretraining_history_len(&self) -> usize {
        self.objective.history_len.unwrap_or(self.data.history_len)
    }

    /// The data as pretraining reads them: one encoder serves all that read less afterwards.
    pub(crate) fn pretraining_data(&self) -> DataConfig {
        DataConfig {
            history_len: self.pretraining_history_len(),
            ..self.data.clone()
        }
    }

    /// Whether the run is about the encoder alone: it has no section of the language model.
    pub fn is_encoder_only(&self) -> bool {
        self.llm.is_none()
            && self.perceiver.is_none()
            && self.fusion.is_none()
            && self.tuning.is_none()
            && self.prompts.is_none()
            && self.review.is_none()
    }

    /// Checks across sections; a module's own are made where it is built.
    fn validate(&self) -> Result<(), Error> {
        let at_least = |key, value: usize, least: usize| match value >= least {
            true => Ok(()),
            false => Err(Error::value(key, value, format!("at least {least}"))),
        };
        at_least("data.history_len", self.data.history_len, 1)?;
        at_least("objective.workers", self.objective.workers, 1)?;
        let in_training = self.pretraining_history_len();
        at_least("objective.history_len", in_training, 1)?;
        at_least(
            "encoder.max_length",
            self.encoder.max_length,
            self.data.history_len.max(in_training),
        )?;
        at_least("evaluation.batch_size", self.evaluation.batch_size, 1)?;
        at_least("evaluation.beam_width", self.evaluation.beam_width, 10)?;
        if self
            .encoder
            .modalities
            .first()
            .is_none_or(|first| first.name != "item")
        {
            return Err(Error::value(
                "encoder.modalities",
                "a list that does not begin with `item`",
                "`item` first: next items are ranked by it",
            ));
        }
        for (at, modality) in self.encoder.modalities.iter().enumerate() {
            ModalityKind::named(&modality.name)?;
            let (is_item, weight) = (at == 0, modality.weight);
            if !(weight.is_finite() && weight >= 0.0) || (is_item && weight == 0.0) {
                return Err(Error::value(
                    "encoder.modalities.weight",
                    format!("{weight} for `{}`", modality.name),
                    if is_item { "above 0" } else { "0 or above" },
                ));
            }
        }
        self.validate_texts()?;
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
        let positive = |key, value: f64| match value > 0.0 && value.is_finite() {
            true => Ok(()),
            false => Err(Error::value(key, value, "above 0")),
        };
        if let Similarity::Cosine { temperature } = self.encoder.similarity {
            positive("encoder.similarity.cosine.temperature", temperature)?;
        }
        match self.objective.item_loss {
            ItemLoss::Softmax { label_smoothing } => from_0_to_1(
                "objective.item_loss.softmax.label_smoothing",
                label_smoothing,
            )?,
            ItemLoss::SampledSoftmax { negatives } => at_least(
                "objective.item_loss.sampled-softmax.negatives",
                negatives,
                1,
            )?,
            ItemLoss::InBatchSoftmax { log_q } => {
                let popularity = self.objective.popularity;
                if log_q && popularity != 1.0 {
                    let expected = "1 with `log_q`: a batch has items as the data has them";
                    return Err(Error::value("objective.popularity", popularity, expected));
                }
            }
            ItemLoss::BinaryCrossEntropy {
                negatives,
                calibration,
            } => {
                at_least(
                    "objective.item_loss.binary-cross-entropy.negatives",
                    negatives,
                    1,
                )?;
                from_0_to_1(
                    "objective.item_loss.binary-cross-entropy.calibration",
                    calibration,
                )?;
            }
        }
        let draws = matches!(
            self.objective.item_loss,
            ItemLoss::SampledSoftmax { .. } | ItemLoss::BinaryCrossEntropy { .. }
        );
        if self.objective.sparse_rows && !draws {
            return Err(Error::value(
                "objective.sparse_rows",
                true,
                "false with this `objective.item_loss`: only `sampled-softmax` and \
                 `binary-cross-entropy` read some rows and not all",
            ));
        }
        match &self.dual_encoder {
            Some(dual) => self.validate_dual(dual)?,
            None => self.validate_task()?,
        }
        from_0_to_1("encoder.dropout_input", self.encoder.dropout_input)?;
        from_0_to_1("encoder.dropout", self.encoder.dropout)?;
        from_0_to_1(
            "perceiver.dropout",
            self.perceiver.as_ref().map_or(0.0, |p| p.dropout),
        )?;
        let mut stages = vec![(
            &self.pretraining,
            [
                "pretraining.learning_rate",
                "pretraining.batch_size",
                "pretraining.steps",
                "pretraining.warmup",
            ],
        )];
        if !self.is_encoder_only() {
            let tuning = self.language()?.tuning;
            at_least("tuning.answers", tuning.answers, 1)?;
            at_least("tuning.workers", tuning.workers, 1)?;
            let is_alone = tuning.workers == 1 && tuning.devices.is_empty();
            if let (Some(perceiver), false) = (self.language()?.perceiver, is_alone)
                && perceiver.dropout > 0.0
            {
                let expected = "0 with several `tuning.workers` or `tuning.devices`, whose noise would \
                                depend on which is first";
                return Err(Error::value(
                    "perceiver.dropout",
                    perceiver.dropout,
                    expected,
                ));
            }
            from_0_to_1("tuning.teacher_weight", f64::from(tuning.teacher_weight))?;
            if tuning.teacher_answers > 0 && tuning.teacher_weight == 0.0 {
                let expected = "above 0 with `tuning.teacher_answers`";
                return Err(Error::value("tuning.teacher_weight", 0, expected));
            }
            from_0_to_1("tuning.genre_share", tuning.genre_share)?;
            positive("tuning.gate_rate", tuning.gate_rate)?;
            positive("tuning.encoder_rate", tuning.encoder_rate)?;
            at_least("tuning.whole_model_steps", tuning.whole_model_steps, 1)?;
            let prompts = self.language()?.prompts;
            if let Some(most) = prompts.max_tokens {
                at_least("prompts.max_tokens", most, 1)?;
            }
            prompts.next_item_template()?;
            prompts.favourite_genre_template()?;
            if let Some(summary) = &prompts.summary {
                at_least("prompts.summary.max_tokens", summary.max_tokens, 1)?;
            }
            if let Some(review) = &self.review {
                review.template()?;
                at_least("review.max_tokens", review.max_tokens, 1)?;
                from_0_to_1("review.share", review.share)?;
                from_0_to_1(
                    "review.share + genre_share",
                    review.share + tuning.genre_share,
                )?;
            }
            Self::validate_language(self.language()?)?;
            stages.push((
                &tuning.training,
                [
                    "tuning.training.learning_rate",
                    "tuning.training.batch_size",
                    "tuning.training.steps",
                    "tuning.training.warmup",
                ],
            ));
        }
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

    /// A contender must know something of a person, and train something.
    fn validate_language(language: LanguageSections<'_>) -> Result<(), Error> {
        let LanguageSections {
            llm,
            fusion,
            tuning,
            prompts,
            ..
        } = language;
        if fusion.kind == FusionKind::None && tuning.strategy.freezes_language_model() {
            return Err(Error::value(
                "tuning.strategy",
                "enc or proj",
                "`lora` or `full` where `fusion.kind` is `none`: nothing else reads the person",
            ));
        }
        if fusion.kind == FusionKind::None && prompts.text_events == 0 {
            return Err(Error::value(
                "prompts.text_events",
                0,
                "at least 1 where `fusion.kind` is `none`: nothing else tells of the person",
            ));
        }
        if !llm.precision.is_f32() && !tuning.strategy.freezes_language_model() {
            return Err(Error::value(
                "llm.precision",
                "f16 or bf16",
                "f32 where `tuning.strategy` is `lora` or `full`, which train the matrices",
            ));
        }
        if tuning.encoder == EncoderInit::Random && tuning.teacher_weight > 0.0 {
            return Err(Error::value(
                "tuning.teacher_weight",
                tuning.teacher_weight,
                "0 where `tuning.encoder` is `random`, which has nothing to teach",
            ));
        }
        Ok(())
    }

    /// The modalities that a frozen text encoder reads, in their order.
    pub fn text_modalities(&self) -> Vec<ModalityKind> {
        let kinds = ModalityKind::ALL.into_iter().filter(|kind| kind.is_text());
        let kinds: Vec<ModalityKind> = kinds.collect();
        let modalities = self.encoder.modalities.iter();
        let kind = |modality: &ModalityConfig| {
            let mut kinds = kinds.iter().copied();
            kinds.find(|kind| kind.name() == modality.name)
        };
        modalities.filter_map(kind).collect()
    }

    /// Texts that are read need a reader, and stand behind what can be predicted.
    fn validate_texts(&self) -> Result<(), Error> {
        let kinds = self.text_modalities();
        let Some(first) = kinds.first() else {
            let expected = "no section without a modality of text, which it is for";
            return match &self.text_encoder {
                None => Ok(()),
                Some(_) => Err(Error::value("text_encoder", "a section", expected)),
            };
        };
        if self.text_encoder.is_none() {
            let expected = format!("a section with the `model` that reads `{}`", first.name());
            return Err(Error::value("text_encoder", "missing", expected));
        }
        let modalities = &self.encoder.modalities;
        let last = &modalities[modalities.len() - kinds.len()..];
        for (at, (kind, modality)) in kinds.iter().zip(last).enumerate() {
            if modality.name != kind.name() || kinds[..at].contains(kind) {
                let expected = "it once, as the last, or beside the others that are read and not \
                                predicted";
                return Err(Error::value(
                    "encoder.modalities.name",
                    kind.name(),
                    expected,
                ));
            }
            if modality.weight != 0.0 {
                let expected = format!("0 for `{}`, which is read and not predicted", kind.name());
                let key = "encoder.modalities.weight";
                return Err(Error::value(key, modality.weight, expected));
            }
        }
        Ok(())
    }

    /// The task has to be one that the attention can learn from.
    fn validate_task(&self) -> Result<(), Error> {
        match (self.objective.task, self.encoder.attention) {
            (EncoderTask::NextEvent, AttentionKind::Causal) => Ok(()),
            (
                EncoderTask::Masked {
                    probability,
                    last_only,
                },
                AttentionKind::Bidirectional,
            ) => {
                from_0_to_1("objective.task.masked.probability", probability)?;
                from_0_to_1("objective.task.masked.last_only", last_only)
            }
            (EncoderTask::NextEvent, AttentionKind::Bidirectional) => {
                let expected = "`masked` where `encoder.attention` is `bidirectional`, which sees \
                                the next event";
                Err(Error::value("objective.task", "next-event", expected))
            }
            (EncoderTask::Masked { .. }, AttentionKind::Causal) => {
                let expected = "`next-event` where `encoder.attention` is `causal`";
                Err(Error::value("objective.task", "masked", expected))
            }
        }
    }

    /// What a dual encoder does not read has to say what it does.
    fn validate_dual(&self, dual: &DualEncoderConfig) -> Result<(), Error> {
        let expect = |is_so: bool, key, found: &str, expected: &str| match is_so {
            true => Ok(()),
            false => Err(Error::value(key, found, expected)),
        };
        let is_next = self.objective.task == EncoderTask::NextEvent;
        let next = "`next-event` with a [dual_encoder]";
        expect(is_next, "objective.task", "masked", next)?;
        if !matches!(self.objective.item_loss, ItemLoss::InBatchSoftmax { .. }) {
            return Err(Self::not_in_batch());
        }
        let (alone, devices) = (self.objective.workers == 1, &self.objective.devices);
        let whole = "1 with a [dual_encoder], whose negatives are those of the whole batch";
        expect(alone, "objective.workers", "several", whole)?;
        let none = "none with a [dual_encoder], whose negatives are those of the whole batch";
        expect(devices.is_empty(), "objective.devices", "some", none)?;
        let slides = self.data.stride > 0;
        let sliding = "at least 1 with a [dual_encoder], which predicts the last event of a window";
        expect(slides, "data.stride", "0", sliding)?;
        let is_learned = self.encoder.positions == Positions::Learned;
        let learned = "`learned` with a [dual_encoder]: counted from the latest event";
        expect(is_learned, "encoder.positions", "rotary", learned)?;
        let modalities = &self.encoder.modalities;
        let even = modalities.iter().all(|modality| modality.weight == 1.0);
        let weights = "1 with a [dual_encoder], which predicts events as a whole";
        expect(even, "encoder.modalities.weight", "another", weights)?;
        let n = dual.n_embeddings;
        expect(n > 0, "dual_encoder.n_embeddings", "0", "at least 1")?;
        let reads = self.text_encoder.is_some();
        let none = "no section with a [dual_encoder], which reads no frozen vectors yet";
        expect(!reads, "text_encoder", "a section", none)?;
        let labels = "one or more of the modalities that an item has by itself";
        expect(
            !dual.labels.is_empty(),
            "dual_encoder.labels",
            "none",
            labels,
        )?;
        for label in &dual.labels {
            let is_modality = modalities.iter().any(|modality| modality.name == *label);
            let is_label = is_modality && ModalityKind::named(label)?.is_of_item();
            expect(is_label, "dual_encoder.labels", label, labels)?;
        }
        Ok(())
    }

    pub(crate) fn not_in_batch() -> Error {
        let expected = "`in-batch-softmax` with a [dual_encoder]";
        Error::value("objective.item_loss", "another", expected)
    }
}

/// A share of something.
fn from_0_to_1(key: &'static str, value: f64) -> Result<(), Error> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(()),
        false => Err(Error::value(key, value, "from 0 to 1")),
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
    nearest(keys, unknown)
}

/// The name that is most like an unknown one, if any is.
pub(crate) fn nearest(known: Vec<String>, unknown: &str) -> Option<String> {
    let best = known
        .into_iter()
        .min_by_key(|name| distance(name, unknown))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;
    use burn::tensor::Device;
    use llm_fusion::Blocks;

    fn toml() -> String {
        toy::config(&[]).to_toml()
    }

    fn error(text: &str, patches: &[&str]) -> String {
        let patches: Vec<String> = patches.iter().map(ToString::to_string).collect();
        RunConfig::from_toml(text, "run.toml", &patches)
            .unwrap_err()
            .to_string()
    }

    fn patched(patch: &str) -> RunConfig {
        RunConfig::from_toml(&toml(), "run.toml", &[patch.to_string()]).unwrap()
    }

    /// The file without the first line that begins with this.
    fn without(start: &str) -> String {
        let text = toml();
        let line = text.lines().find(|line| line.starts_with(start)).unwrap();
        text.replacen(&format!("{line}\n"), "", 1)
    }

    #[test]
    fn a_file_that_is_written_reads_back_as_the_same_run() {
        let again = RunConfig::from_toml(&toml(), "run.toml", &[]).unwrap();
        assert_eq!(again.to_toml(), toml());
    }

    #[test]
    fn every_published_run_parses_and_its_modules_can_be_built() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let folders = [configs.clone(), configs.join("encoder/ml-1m")];
        let entries = folders
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap());
        let mut n = 0;
        for entry in entries {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let mut config = RunConfig::read(&path, &[]).unwrap();
            for modality in &mut config.encoder.modalities {
                modality.vocab_size = 13;
            }
            let device = Device::flex();
            let llm = llm::LanguageModelConfig::new(17, 8, 30, 2, 1, 4, 12).init(&device);
            let encoder = config.encoder.init(&device);
            if let Some(dual) = &config.dual_encoder {
                dual.init(&config.encoder, &device);
            }
            if let Ok(language) = config.language() {
                language.fuse(llm, encoder).unwrap();
            }
            assert_eq!(
                path.file_stem().unwrap().to_str(),
                Some(config.name.as_str())
            );
            n += 1;
        }
        assert!(n >= 7, "only {n} runs were read");
    }

    #[test]
    fn blocks_that_a_language_model_does_not_have_are_refused() {
        let fused = |patch: &str| {
            let config = patched(patch);
            let device = Device::flex();
            let llm = llm::LanguageModelConfig::new(17, 8, 3, 2, 1, 4, 12).init(&device);
            let encoder = toy::prepared(&config).new_encoder(&device);
            let fused = config.language().unwrap().fuse(llm, encoder);
            fused.map(|_| ()).map_err(|error| error.to_string())
        };
        for patch in ["tuning.blocks.upper=1", "tuning.blocks={ only = [0, 2] }"] {
            assert_eq!(fused(patch), Ok(()), "{patch}");
        }
        for (patch, expected) in [
            ("tuning.blocks.upper=0", "`tuning.blocks` = Upper(0)"),
            ("tuning.blocks.upper=4", "n from 1 to 3"),
            ("tuning.blocks={ only = [] }", "`tuning.blocks` = Only([])"),
            ("tuning.blocks={ only = [1, 3] }", "numbers from 0 to 2"),
            (
                "fusion.blocks={ only = [7] }",
                "`fusion.blocks` = Only([7])",
            ),
        ] {
            let error = fused(patch).expect_err(patch);
            assert!(error.contains(expected), "{patch}: {error}");
        }
        // A soft prompt is before the blocks.
        let patches = ["fusion.kind=soft-prompt", "fusion.blocks={ only = [7] }"];
        let config = RunConfig::from_toml(&toml(), "run.toml", &patches.map(String::from)).unwrap();
        let llm = llm::LanguageModelConfig::new(17, 8, 3, 2, 1, 4, 12).init(&Device::flex());
        let encoder = toy::prepared(&config).new_encoder(&Device::flex());
        assert!(config.language().unwrap().fuse(llm, encoder).is_ok());
    }

    #[test]
    fn noise_that_would_depend_on_the_order_of_threads_is_refused() {
        let refused = |patches: [&str; 2]| {
            let patches = patches.map(String::from);
            let config = RunConfig::from_toml(&toml(), "run.toml", &patches);
            config.is_err_and(|error| error.to_string().contains("`perceiver.dropout`"))
        };
        assert!(refused(["perceiver.dropout=0.1", "tuning.workers=2"]));
        assert!(refused([
            "perceiver.dropout=0.1",
            "tuning.devices=[\"flex\", \"flex\"]"
        ]));
        assert!(!refused(["perceiver.dropout=0.1", "tuning.workers=1"]));
        assert!(!refused(["perceiver.dropout=0.0", "tuning.workers=2"]));
    }

    #[test]
    fn a_tuning_of_chosen_blocks_has_a_name_of_its_own() {
        let names = |patches: [&str; 2]| {
            let patches = patches.map(String::from);
            let config = RunConfig::from_toml(&toml(), "run.toml", &patches).unwrap();
            let language = config.language().unwrap();
            (language.tuning_name(), language.contender())
        };
        let (file, table) = names(["tuning.strategy=lora", "tuning.blocks.upper=4"]);
        assert_eq!(file, "lora-cross-attention-upper-4");
        assert_eq!(table, "User-LLM, cross-attention, Lora (upper 4 blocks)");
        let (file, table) = names(["tuning.strategy=full", "tuning.blocks={ only = [1, 3] }"]);
        assert_eq!(file, "full-cross-attention-only-1-3");
        assert_eq!(table, "User-LLM, cross-attention, Full (only 1 3 blocks)");
        let (file, _) = names(["tuning.strategy=enc", "tuning.blocks.upper=4"]);
        assert_eq!(file, "enc-cross-attention");
    }

    fn dual(patches: &[&str]) -> Result<RunConfig, Error> {
        let patches: Vec<String> = patches.iter().map(ToString::to_string).collect();
        RunConfig::from_toml(&toy::dual(&[]).to_toml(), "run.toml", &patches)
    }

    #[test]
    fn what_a_dual_encoder_does_not_read_cannot_say_otherwise() {
        dual(&[]).unwrap();
        for (patch, expected) in [
            (
                "objective.workers=2",
                "`objective.workers` = several: expected 1",
            ),
            (
                "objective.devices=[\"flex\"]",
                "`objective.devices` = some: expected none",
            ),
            ("data.stride=0", "`data.stride` = 0: expected at least 1"),
            (
                "encoder.positions=rotary",
                "`encoder.positions` = rotary: expected `learned`",
            ),
            (
                "objective.popularity=0.5",
                "`objective.popularity` = 0.5: expected 1",
            ),
            ("dual_encoder.labels=[]", "`dual_encoder.labels` = none"),
            (
                "dual_encoder.labels=[\"rating\"]",
                "`dual_encoder.labels` = rating",
            ),
            (
                "dual_encoder.labels=[\"price\"]",
                "`dual_encoder.labels` = price",
            ),
            (
                "dual_encoder.n_embeddings=0",
                "`dual_encoder.n_embeddings` = 0",
            ),
            (
                "objective.item_loss={ softmax = { label_smoothing = 0.0 } }",
                "expected `in-batch-softmax`",
            ),
            (
                "objective.task={ masked = { probability = 0.2, last_only = 0.1 } }",
                "`objective.task` = masked: expected `next-event`",
            ),
            (
                "dual_encoder.n_embedings=2",
                "did you mean `dual_encoder.n_embeddings`?",
            ),
        ] {
            let message = dual(&[patch]).unwrap_err().to_string();
            assert!(message.contains(expected), "{patch}: {message}");
        }
    }

    #[test]
    fn a_misspelt_key_is_refused_with_its_path_and_the_key_that_was_meant() {
        let message = error(&toml().replace("n_latents", "n_latnets"), &[]);
        assert!(
            message.starts_with(
                "run.toml: unknown key `perceiver.n_latnets`; did you mean `perceiver.n_latents`?"
            ),
            "{message}"
        );
        let message = error(&toml(), &["perceiver.n_latnets=3"]);
        assert!(
            message
                .contains("unknown key `perceiver.n_latnets`; did you mean `perceiver.n_latents`?"),
            "{message}"
        );
        let message = error(&toml().replace("[data]\n", "[data]\nstrid = 3\n"), &[]);
        assert!(
            message.contains("`data.strid`; did you mean `data.stride`?"),
            "{message}"
        );
        let message = error(
            &toml().replacen("vocab_size = 0", "vocab_size = 0\nvocab_sise = 0", 1),
            &[],
        );
        assert!(
            message.contains(
                "`encoder.modalities.0.vocab_sise`; did you mean `encoder.modalities.0.vocab_size`?"
            ),
            "{message}"
        );
    }

    #[test]
    fn a_key_like_no_other_is_refused_without_a_guess() {
        let message = error(&format!("quantum_entanglement = 1\n{}", toml()), &[]);
        assert!(
            message.starts_with("run.toml: unknown key `quantum_entanglement`\n"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_key_is_named_with_its_section() {
        let message = error(&without("n_latents"), &[]);
        assert!(
            message.contains("`n_latents`") && message.contains("perceiver"),
            "{message}"
        );
        let message = error(&without("seed"), &[]);
        assert!(message.contains("missing field `seed`"), "{message}");
    }

    #[test]
    fn a_value_of_another_type_names_its_key() {
        let message = error(
            &toml().replace("n_latents = 3", "n_latents = \"three\""),
            &[],
        );
        assert!(
            message.contains("n_latents") && message.contains("invalid type"),
            "{message}"
        );
        let message = error(&toml(), &["pretraining.steps=many"]);
        assert!(
            message.contains("steps") && message.contains("invalid type"),
            "{message}"
        );
    }

    #[test]
    fn a_file_that_is_no_toml_says_where() {
        let message = error("name = \"a\"\nseed = = 3\n", &[]);
        assert!(message.contains("line 2"), "{message}");
    }

    #[test]
    fn patches_set_numbers_texts_lists_and_tables() {
        assert_eq!(patched("pretraining.steps=3").pretraining.steps, 3);
        let config = patched("tuning.gate_rate=0.5");
        assert_eq!(config.language().unwrap().tuning.gate_rate, 0.5);
        assert!(
            !patched("evaluation.exclude_seen=false")
                .evaluation
                .exclude_seen
        );
        assert_eq!(patched("llm.model=qwen2").llm.unwrap().model, "qwen2");
        assert_eq!(patched("name=\"7\"").name, "7");
        assert_eq!(patched("data.dataset=/a b/c=d").data.dataset, "/a b/c=d");
        assert_eq!(
            patched("tuning.strategy=proj").tuning.unwrap().strategy,
            TuningStrategy::Proj
        );
        let blocks = patched("fusion.blocks={ only = [0, 2] }")
            .fusion
            .unwrap()
            .blocks;
        assert_eq!(blocks, Blocks::Only(vec![0, 2]));
        let blocks = patched("fusion.blocks=all").fusion.unwrap().blocks;
        assert_eq!(blocks, Blocks::All);
    }

    #[test]
    fn patches_that_set_nothing_are_refused() {
        assert!(error(&toml(), &["pretraining.steps"]).contains("expected `key=value`"));
        assert!(error(&toml(), &["seed.deep=1"]).contains("unknown key `seed.deep`"));
        assert!(
            error(&toml(), &["pretraining.step=1"]).contains("did you mean `pretraining.steps`?")
        );
    }

    #[test]
    fn values_that_cannot_work_are_refused_by_their_key() {
        for (patch, expected) in [
            (
                "data.history_len=0",
                "`data.history_len` = 0: expected at least 1",
            ),
            (
                "objective.history_len=0",
                "`objective.history_len` = 0: expected at least 1",
            ),
            ("objective.history_len=1000", "`encoder.max_length` = "),
            (
                "objective.workers=0",
                "`objective.workers` = 0: expected at least 1",
            ),
            (
                "encoder.attention=bidirectional",
                "`objective.task` = next-event: expected `masked`",
            ),
            (
                "objective.task={ masked = { probability = 0.2, last_only = 0.1 } }",
                "`objective.task` = masked: expected `next-event`",
            ),
            (
                "encoder.max_length=4",
                "`encoder.max_length` = 4: expected at least 5",
            ),
            ("encoder.modalities=[]", "`item` first"),
            (
                "encoder.modalities=[{ name = \"rating\", vocab_size = 0, d_embedding = 3, weight = 1.0 }]",
                "`item` first",
            ),
            (
                "encoder.n_heads=3",
                "`encoder.n_heads` = 3: expected a divisor of `encoder.d_model` = 8",
            ),
            ("encoder.n_heads=0", "`encoder.n_heads` = 0"),
            (
                "encoder.dropout=1.5",
                "`encoder.dropout` = 1.5: expected from 0 to 1",
            ),
            (
                "encoder.dropout_input=-0.5",
                "`encoder.dropout_input` = -0.5",
            ),
            (
                "perceiver.d_model=16",
                "`perceiver.d_model` = 16: expected `encoder.d_model` = 8",
            ),
            (
                "perceiver.n_heads=3",
                "`perceiver.n_heads` = 3: expected a divisor of `perceiver.d_model` = 8",
            ),
            (
                "perceiver.n_latents=0",
                "`perceiver.n_latents` = 0: expected at least 1",
            ),
            ("perceiver.dropout=nan", "`perceiver.dropout` = NaN"),
            ("evaluation.batch_size=0", "`evaluation.batch_size` = 0"),
            (
                "evaluation.beam_width=9",
                "`evaluation.beam_width` = 9: expected at least 10",
            ),
            ("tuning.answers=0", "`tuning.answers` = 0"),
            (
                "tuning.teacher_weight=1.5",
                "`tuning.teacher_weight` = 1.5: expected from 0 to 1",
            ),
            (
                "tuning.genre_share=2",
                "`tuning.genre_share` = 2: expected from 0 to 1",
            ),
            (
                "tuning.gate_rate=0",
                "`tuning.gate_rate` = 0: expected above 0",
            ),
            (
                "tuning.encoder_rate=inf",
                "`tuning.encoder_rate` = inf: expected above 0",
            ),
            (
                "tuning.whole_model_steps=0",
                "`tuning.whole_model_steps` = 0",
            ),
            (
                "pretraining.learning_rate=0",
                "`pretraining.learning_rate` = 0: expected above 0 and at most 1",
            ),
            ("pretraining.batch_size=0", "`pretraining.batch_size` = 0"),
            (
                "encoder.similarity={ cosine = { temperature = 0.0 } }",
                "`encoder.similarity.cosine.temperature` = 0: expected above 0",
            ),
            (
                "objective.item_loss={ softmax = { label_smoothing = 1.5 } }",
                "`objective.item_loss.softmax.label_smoothing` = 1.5: expected from 0 to 1",
            ),
            (
                "objective.item_loss={ sampled-softmax = { negatives = 0 } }",
                "`objective.item_loss.sampled-softmax.negatives` = 0: expected at least 1",
            ),
            (
                "encoder.modalities=[{ name = \"item\", vocab_size = 0, d_embedding = 3, weight = 0.0 }]",
                "`encoder.modalities.weight` = 0 for `item`: expected above 0",
            ),
            ("pretraining.warmup=1.1", "`pretraining.warmup` = 1.1"),
            (
                "tuning.training.learning_rate=2",
                "`tuning.training.learning_rate` = 2",
            ),
            ("tuning.training.steps=0", "`tuning.training.steps` = 0"),
        ] {
            let message = error(&toml(), &[patch]);
            assert!(message.contains(expected), "{patch}: {message}");
        }
        let untaught = ["tuning.teacher_weight=0", "tuning.teacher_answers=1"];
        let message = error(&toml(), &untaught);
        assert!(
            message.contains("above 0 with `tuning.teacher_answers`"),
            "{message}"
        );
        let other = "encoder.modalities=[{ name = \"item\", vocab_size = 0, d_embedding = 3, weight = 1.0 }, \
                     { name = \"price\", vocab_size = 0, d_embedding = 3, weight = 1.0 }]";
        let message = error(&toml(), &[other]);
        assert!(
            message.contains(
                "`encoder.modalities.name` = price: expected one of item, rating, genres, title, \
                 year, gap, hour-of-week, title-text, description-text, review-text"
            ),
            "{message}"
        );
    }

    #[test]
    fn titles_are_read_by_a_text_encoder_and_last_and_not_predicted() {
        let read = |modalities: &[(&str, f64)], model: Option<&str>| {
            let one = |(name, weight): &(&str, f64)| {
                format!(
                    "{{ name = \"{name}\", vocab_size = 0, d_embedding = 3, weight = {weight} }}"
                )
            };
            let modalities: Vec<String> = modalities.iter().map(one).collect();
            let mut patches = vec![format!("encoder.modalities=[{}]", modalities.join(", "))];
            patches.extend(model.map(|model| format!("text_encoder.model={model}")));
            RunConfig::from_toml(&toml(), "run.toml", &patches)
        };
        let both = [
            ("item", 1.0),
            ("description-text", 0.0),
            ("title-text", 0.0),
        ];
        let texts = read(&both, Some("x")).unwrap().text_modalities();
        assert_eq!(
            texts,
            [ModalityKind::DescriptionText, ModalityKind::TitleText]
        );
        let good = [("item", 1.0), ("title-text", 0.0)];
        let config = read(&good, Some("all-minilm-l6-v2")).unwrap();
        assert_eq!(config.text_encoder.unwrap().model, "all-minilm-l6-v2");
        let last = [("item", 1.0), ("title-text", 0.0), ("rating", 1.0)];
        let twice = [("item", 1.0), ("title-text", 0.0), ("title-text", 0.0)];
        for (modalities, model, expected) in [
            (&good[..], None, "`text_encoder` = missing"),
            (
                &good[..1],
                Some("x"),
                "`text_encoder` = a section: expected no section",
            ),
            (
                &last,
                Some("x"),
                "`encoder.modalities.name` = title-text: expected it once, as the last",
            ),
            (&twice, Some("x"), "expected it once"),
            (
                &[("item", 1.0), ("title-text", 0.5)],
                Some("x"),
                "0.5: expected 0 for `title-text`",
            ),
            (
                &[("item", 1.0), ("review-text", 1.0)],
                Some("x"),
                "1: expected 0 for `review-text`",
            ),
        ] {
            let message = read(modalities, model).unwrap_err().to_string();
            assert!(message.contains(expected), "{modalities:?}: {message}");
        }
        let message = error(&toml(), &["text_encoder.modle=x"]);
        assert!(
            message.contains("unknown key `text_encoder.modle`"),
            "{message}"
        );
    }

    #[test]
    fn the_perceiver_can_be_left_out() {
        let text = toml();
        let (before, from) = text.split_once("[perceiver]").unwrap();
        let (_, after) = from.split_once("\n[").unwrap();
        let config = RunConfig::from_toml(&format!("{before}[{after}"), "run.toml", &[]).unwrap();
        assert!(config.perceiver.is_none());
        assert!(!config.to_toml().contains("perceiver"));
    }

    #[test]
    fn the_sections_of_the_language_model_can_be_left_out_together_and_only_together() {
        let encoder_only = toy::encoder_only(&[]);
        assert!(encoder_only.is_encoder_only());
        let text = encoder_only.to_toml();
        assert!(
            RunConfig::from_toml(&text, "run.toml", &[])
                .unwrap()
                .is_encoder_only()
        );
        let message = encoder_only.language().unwrap_err().to_string();
        assert!(
            message.contains("no [llm] section") && message.contains("user-llm config"),
            "{message}"
        );
        for section in ["llm", "fusion", "tuning", "prompts"] {
            let mut table: toml::Table = toml::from_str(&toml()).unwrap();
            table.remove(section).unwrap();
            let message = error(&table.to_string(), &[]);
            assert!(
                message.contains(&format!("no [{section}] section")),
                "{message}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let message = RunConfig::read(Path::new("/nowhere/run.toml"), &[])
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("cannot read /nowhere/run.toml"),
            "{message}"
        );
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
