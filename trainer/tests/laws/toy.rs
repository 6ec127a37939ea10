//! Twelve people, nineteen films, a language model of two small blocks.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use datasets::{Catalogue, Dataset, Event, History, Item};
use llm::tokenizer::{BytePairParts, PreTokenizer};
use llm::{LanguageModel, LanguageModelConfig, Tokenizer};
use llm_fusion::UserLlm;
use trainer::{Monitor, Prepared, RunConfig, Tasks};

/// The device's random numbers are one stream for the whole process: a test that draws from it
/// has to be alone.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static RANDOM: Mutex<()> = Mutex::new(());
    RANDOM.lock().unwrap_or_else(PoisonError::into_inner)
}

const RUN: &str = r#"
name = "toy"
seed = 7

[data]
dataset = "toy"
history_len = 5
stride = 2
min_interactions = 0

[llm]
model = "toy"

[encoder]
max_length = 11
d_model = 8
n_layers = 1
n_heads = 2
d_ff = 16
feed_forward = "relu"
norm = "layer"
attention = "causal"
positions = "learned"
similarity = "dot"
dropout_input = 0.2
dropout = 0.1

[[encoder.modalities]]
name = "item"
vocab_size = 0
d_embedding = 6
weight = 1.0

[[encoder.modalities]]
name = "rating"
vocab_size = 0
d_embedding = 3
weight = 1.0

[[encoder.modalities]]
name = "genres"
vocab_size = 0
d_embedding = 4
weight = 1.0

[objective]
task = "next-event"
item_loss = { softmax = { label_smoothing = 0.0 } }
popularity = 0.0
workers = 1

[pretraining]
steps = 10
batch_size = 4
learning_rate = 0.01
warmup = 0.2
weight_decay = 0.01
clip_norm = 1.0
validate_every = 3
validation_users = 5
patience = 0
checkpoint_every = 2

[perceiver]
d_model = 8
n_latents = 3
n_layers = 1
n_heads = 2
ff_multiplier = 2
dropout = 0.1

[fusion]
kind = "cross-attention"
blocks = { upper = 1 }
d_user = 10
n_heads = 2
d_head = 4
gated = true
n_recent = 0

[tuning]
strategy = "enc"
whole_model_steps = 8
normalisation = "trie"
answers = 2
teacher_weight = 0.5
genre_share = 0.5
gate_rate = 10.0
encoder_rate = 0.1

[tuning.lora]
rank = 2
alpha = 4.0

[tuning.training]
steps = 8
batch_size = 3
learning_rate = 0.01
warmup = 0.25
weight_decay = 0.01
clip_norm = 1.0
validate_every = 3
validation_users = 4
patience = 0
checkpoint_every = 2

[prompts]
next_item = "Next:"
favourite_genre = "Genre:"
history = "Seen:\n"
event = "{title} ({genres}) {rating}\n"

[evaluation]
users = 5
beam_width = 10
exclude_seen = true
text_events = 3
batch_size = 4
"#;

pub(crate) fn config(patches: &[&str]) -> RunConfig {
    let patches: Vec<String> = patches.iter().map(ToString::to_string).collect();
    RunConfig::from_toml(RUN, "toy.toml", &patches).unwrap()
}

/// The same run about the encoder alone.
pub(crate) fn encoder_only(patches: &[&str]) -> RunConfig {
    RunConfig {
        llm: None,
        perceiver: None,
        fusion: None,
        tuning: None,
        prompts: None,
        ..config(patches)
    }
}

/// The same people, for a dual encoder.
pub(crate) fn dual(patches: &[&str]) -> RunConfig {
    with_two_towers(&encoder_only(&[]), patches)
}

/// A language model that reads a dual encoder.
pub(crate) fn fused_dual(patches: &[&str]) -> RunConfig {
    with_two_towers(&config(&[]), patches)
}

fn with_two_towers(base: &RunConfig, patches: &[&str]) -> RunConfig {
    let patches: Vec<String> = patches.iter().map(ToString::to_string).collect();
    let own = r#"
[dual_encoder]
labels = ["item", "genres"]
n_fusion_layers = 1
n_embeddings = 2
"#;
    let own = base.to_toml() + own;
    let first = [
        "objective.item_loss={ in-batch-softmax = { log_q = true } }",
        "objective.popularity=1.0",
    ];
    let patches = [&first.map(String::from)[..], &patches].concat();
    RunConfig::from_toml(&own, "toy.toml", &patches).unwrap()
}

/// Films `A0` … `S18` with one or two of four genres; everybody's order is another.
pub(crate) fn dataset() -> Dataset {
    let item = |n: u16| Item {
        id: n.to_string(),
        title: format!("{}{n}", char::from(b'A' + n as u8)),
        year: Some(1990 + n),
        genres: if n.is_multiple_of(3) {
            vec![n % 4]
        } else {
            vec![n % 2, 2 + n % 2]
        },
    };
    let genres = ["Crime", "Drama", "Noir", "War"].map(String::from).to_vec();
    let catalogue = Catalogue::new((0..19).map(item).collect(), genres).unwrap();
    let histories = (0..12_u32).map(|user| {
        let n_events = 6 + user % 7;
        let events = (0..n_events).map(|at| Event {
            item: (user * 5 + at * (2 + user % 3)) % 19,
            rating: [3.0, 4.0, 5.0, 2.5][((user + at) % 4) as usize],
            timestamp: i64::from(at),
        });
        History {
            user: format!("user-{user}"),
            events: events.collect(),
        }
    });
    Dataset::from_histories("toy", catalogue, histories.collect()).unwrap()
}

pub(crate) fn prepared(config: &RunConfig) -> Prepared {
    Prepared::new(dataset(), config).unwrap()
}

/// One token per byte of the texts above.
pub(crate) fn tokenizer() -> Tokenizer {
    let tokens = (33_u8..127).map(|byte| char::from(byte).to_string());
    BytePairParts {
        tokens: tokens.chain(["Ġ", "Ċ"].map(String::from)).collect(),
        kinds: Vec::new(),
        merges: Vec::new(),
        pre_tokenizer: PreTokenizer::Gpt2,
        unknown: None,
        bos: None,
        add_bos: false,
    }
    .build()
    .unwrap()
}

pub(crate) fn tasks(prepared: &Prepared, config: &RunConfig) -> Tasks {
    Tasks::new(prepared, config, &tokenizer()).unwrap()
}

/// The same language model at every call.
pub(crate) fn language_model(device: &Device) -> LanguageModel {
    device.seed(3);
    drawn(LanguageModelConfig::new(96, 12, 2, 2, 1, 6, 14).init(device))
}

/// The same fused model at every call, with open gates.
pub(crate) fn user_llm(prepared: &Prepared, config: &RunConfig) -> UserLlm {
    let device = Device::flex().autodiff();
    let llm = language_model(&device);
    let encoder = prepared.new_history_encoder(config, &device);
    let language = config.language().unwrap();
    let model = language.fuse(llm, encoder).unwrap();
    drawn(open_gates(model))
}

/// Ten people who write about six of nine things each.
pub(crate) fn write_reviews(path: &Path, word: impl Fn(usize, usize) -> String) {
    let mut lines = String::new();
    for user in 0..10 {
        for at in 0..6 {
            let (item, time) = ((user * 2 + at * 4) % 9, 1_400_000_000 + at * 86_400);
            writeln!(
                lines,
                "{{\"reviewerID\": \"U{user}\", \"asin\": \"B{item}\", \"overall\": {}.0, \
                 \"reviewText\": \"{}\", \"unixReviewTime\": {time}}}",
                1 + at % 5,
                word(user, at),
            )
            .unwrap();
        }
    }
    std::fs::write(path, lines).unwrap();
}

/// Random weights are drawn when they are first read: do it here, in the order of the module.
fn drawn<M: Module>(model: M) -> M {
    parameters(&model);
    model
}

fn open_gates(mut model: UserLlm) -> UserLlm {
    for fusion in model.fusion.iter_mut().flatten() {
        fusion.gate = fusion
            .gate
            .take()
            .map(|gate| gate.map(|gate| gate.ones_like()));
    }
    model
}

/// Every parameter with its path, to compare bit for bit.
pub(crate) fn parameters<M: Module>(model: &M) -> Vec<(String, TensorData)> {
    #[derive(Default)]
    struct All {
        path: Vec<String>,
        found: Vec<(String, TensorData)>,
    }
    impl ModuleVisitor for All {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_string());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found
                .push((self.path.join("."), param.val().into_data()));
        }
    }
    let mut all = All::default();
    model.visit(&mut all);
    all.found
}

/// Asks to stop once so many steps are done.
pub(crate) struct StopAfter {
    pub(crate) steps: usize,
    pub(crate) done: usize,
}

impl Monitor for StopAfter {
    fn begin(&mut self, _stage: &str, done: usize, _total: usize) {
        self.done = done;
    }
    fn step(&mut self, done: usize, _figures: &[(&str, f64)]) {
        self.done = done;
    }
    fn validated(&mut self, _done: usize, _figures: &[(&str, f64)]) {}
    fn end(&mut self, _summary: &str) {}
    fn is_stopped(&self) -> bool {
        self.done >= self.steps
    }
}
