//! The same tiny model gives the same losses, gradients, training and ranking on every backend.
//!
//! Weights are drawn once, on flex, and moved as a record, so nothing depends on a backend's own
//! random numbers. A backend that is not built in, or has no device here, is reported and passed
//! over; with `CI=true` a backend that is built in must have its device. On a machine with a GPU,
//! `scripts/gpu_check.sh` names the devices in `USER_LLM_TEST_BACKENDS`.
#![recursion_limit = "256"]

use std::sync::OnceLock;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device, Int, Tensor, TensorData};
use user_llm::llm::generate::Decode;
use user_llm::llm::ranking::{BeamConfig, Normalisation, TokenTrie, beam_search};
use user_llm::llm::{LanguageModel, LanguageModelConfig};
use user_llm::llm_fusion::{
    AnswerLoss, AnswerTargets, Blocks, FusionConfig, FusionKind, LoraConfig, TuningStrategy,
    UserDecoder, UserLlm, UserLlmConfig, UserReader,
};
use user_llm::perceiver::PerceiverResamplerConfig;
use user_llm::trainer::backend::{self, DeviceError};
use user_llm::user_encoder::{EventBatch, HistoryEncoder, ModalityConfig, UserEncoderConfig};

/// How far a figure may be from flex's.
const TOLERANCE: f32 = 1e-3;

/// How far a gradient may be from flex's, in the largest of its tensor; small ones are held against
/// [`TOLERANCE`] of this.
const GRADIENT_TOLERANCE: f32 = 1e-2;

/// Steps of training that are compared, and those that only have to stay finite.
const STEPS: usize = 20;
const LONG: usize = 500;

#[test]
fn flex_repeats_itself() {
    compare("flex", true);
}

#[test]
fn ndarray_agrees_with_flex() {
    compare("ndarray", cfg!(feature = "ndarray") && is_ci());
}

#[test]
fn libtorch_on_the_cpu_agrees_with_flex() {
    compare("libtorch", cfg!(feature = "libtorch") && is_ci());
}

#[test]
fn wgpu_agrees_with_flex() {
    compare("wgpu", cfg!(feature = "wgpu") && is_ci());
}

#[test]
fn every_backend_that_the_environment_names_agrees_with_flex() {
    let specs = std::env::var("USER_LLM_TEST_BACKENDS").unwrap_or_default();
    for spec in specs.split(',').filter(|spec| !spec.is_empty()) {
        compare(spec, true);
    }
}

fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

/// Compares a backend with flex; without its device, fails if it is required.
fn compare(spec: &str, is_required: bool) {
    let device = match backend::device(spec) {
        Ok(device) => device,
        Err(error) if is_required => panic!("{spec}: {error}"),
        Err(error @ DeviceError::NotBuilt { .. }) => {
            return say(&format!("{spec} is not compared: {error}"));
        }
        Err(error) => return say(&format!("{spec} is not compared, no device: {error}")),
    };
    for expected in reference() {
        let kind = expected.kind;
        // A soft prompt's scale is taken from the token embeddings: they have to be there before.
        let llm = load(llm(&device.clone().autodiff()), &expected.llm);
        let model = model(kind, llm, Some(&expected.all));
        let farthest = Figures::of(&model, kind).assert_near(&expected.figures, spec);
        say(&format!(
            "{spec}, {kind:?}: at most {farthest:.1e} from flex"
        ));
    }
}

#[expect(
    clippy::print_stdout,
    reason = "a test that passes a backend over has to say so"
)]
fn say(text: &str) {
    println!("{text}");
}

/// Weights of a model and what flex makes of them.
struct Reference {
    kind: FusionKind,
    llm: Bytes,
    all: Bytes,
    figures: Figures,
}

/// Both kinds of fusion on flex, made once.
fn reference() -> &'static [Reference] {
    static REFERENCE: OnceLock<Vec<Reference>> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let device = Device::flex().autodiff();
        let of = |kind| {
            device.seed(11);
            let llm = llm(&device);
            let llm_bytes = bytes(&llm);
            let model = model(kind, llm, None);
            let figures = Figures::of(&model, kind);
            Reference {
                kind,
                llm: llm_bytes,
                all: bytes(&model),
                figures,
            }
        };
        vec![of(FusionKind::CrossAttention), of(FusionKind::SoftPrompt)]
    })
}

fn bytes<M: Module>(model: &M) -> Bytes {
    model
        .clone()
        .into_record()
        .into_bytes()
        .expect("weights are plain tensors")
}

fn load<M: Module>(model: M, weights: &Bytes) -> M {
    model.load_record(ModuleRecord::from_bytes(weights.clone()).expect("flex wrote them"))
}

fn llm(device: &Device) -> LanguageModel {
    LanguageModelConfig::new(29, 12, 2, 4, 2, 6, 14).init(device)
}

/// A model of few numbers that goes through every part: a Perceiver and a shared trunk with
/// cross-attention, padded user embeddings and adapters with a soft prompt.
fn model(kind: FusionKind, llm: LanguageModel, weights: Option<&Bytes>) -> UserLlm {
    let device = &llm.device();
    let is_soft = kind == FusionKind::SoftPrompt;
    let encoder = UserEncoderConfig::new(vec![
        ModalityConfig::new("item".into(), 13, 6),
        ModalityConfig::new("genres".into(), 5, 3),
    ])
    .with_max_length(7)
    .with_d_model(8)
    .with_n_heads(2)
    .with_n_layers(1)
    .with_d_ff(16)
    .with_dropout_input(0.0)
    .init(device);
    let perceiver = PerceiverResamplerConfig::new(8)
        .with_n_latents(3)
        .with_n_layers(1)
        .with_n_heads(2);
    let fusion = FusionConfig::new(kind, Blocks::Upper(1))
        .with_d_user(10)
        .with_n_heads(2)
        .with_d_head(4);
    let mut model = UserLlmConfig::new(fusion)
        .with_perceiver((!is_soft).then_some(perceiver))
        .init(llm, encoder);
    for fusion in model.fusion.iter_mut().flatten() {
        fusion.gate = fusion
            .gate
            .take()
            .map(|gate| gate.map(|gate| gate.ones_like()));
    }
    let strategy = if is_soft {
        TuningStrategy::Lora
    } else {
        TuningStrategy::Enc
    };
    let model = strategy.apply(model, &Blocks::All, &LoraConfig::new().with_rank(2));
    match weights {
        Some(weights) => load(model, weights),
        None => model,
    }
}

/// Everything that is compared.
struct Figures {
    /// Next-event loss, answer losses under both normalisations.
    losses: Vec<f32>,
    /// Gradients of the answer loss, by path.
    gradients: Vec<(String, Vec<f32>)>,
    /// Answer loss before each step of training.
    training: Vec<f32>,
    /// The best answers of each row, before training, and their log-likelihoods.
    ranked: (Vec<usize>, Vec<f32>),
    /// Logits behind each of some tokens that are written one by one, from a cache.
    written: Vec<f32>,
}

impl Figures {
    fn of(model: &UserLlm, kind: FusionKind) -> Self {
        let device = model.device();
        let histories = histories(&device);
        let trie = TokenTrie::new(
            &[vec![5], vec![5, 6], vec![7, 8, 9], vec![7, 9], vec![10]],
            0,
        );
        let trie = trie.expect("the answers differ");
        let prompt = vec![3, 1, 4];
        let trunk = (kind == FusionKind::CrossAttention).then(|| model.trunk(&prompt, &trie));
        let targets = AnswerTargets {
            prompts: vec![prompt.clone(); 3],
            answers: vec![vec![0], vec![2, 3], vec![4]],
            teacher: vec![vec![0.1, 0.2, 0.3, 0.1, 0.3]; 3],
        };
        let loss = |model: &UserLlm, normalisation| {
            let user = model.read_user(&histories);
            // A trunk has no states of settled nodes, which this normalisation asks for.
            let trunk = trunk
                .as_ref()
                .filter(|_| normalisation == Normalisation::Trie);
            AnswerLoss {
                trie: &trie,
                normalisation,
                teacher_weight: 0.5,
            }
            .forward(model, &user, &targets, trunk)
        };

        let trie_loss = loss(model, Normalisation::Trie);
        let HistoryEncoder::NextEvent(encoder) = &model.encoder else {
            panic!("it was made with an encoder of events");
        };
        let losses = [
            encoder.next_event_loss(&histories).total,
            trie_loss.clone(),
            loss(model, Normalisation::Vocabulary),
        ]
        .map(|loss| loss.into_scalar::<f32>())
        .to_vec();
        let gradients = gradients(
            model,
            &GradientsParams::from_grads(trie_loss.backward(), model),
        );

        let plain = model.valid();
        let user = plain.read_user(&EventBatch::new(
            histories
                .modalities
                .iter()
                .map(|ids| ids.clone().inner())
                .collect(),
            histories.lengths.clone(),
        ));
        let mut reader = UserReader::new(&plain, &user, trunk.as_ref());
        let forest = reader.forest(&targets.prompts);
        let search = BeamConfig {
            width: 5,
            k: 3,
            normalisation: Normalisation::Trie,
        };
        let excluded = [vec![1], vec![], vec![0, 4]];
        let ranked = beam_search(&mut reader, forest, &trie, &excluded, &search);
        let ranked = ranked
            .iter()
            .flatten()
            .map(|answer| (answer.sequence, answer.log_likelihood))
            .unzip();
        let written = written(&plain);

        let mut optimizer: ModuleOptimizer = AdamWConfig::new().with_epsilon(1e-8).init();
        let mut trained = model.clone();
        let mut step = || {
            let loss = loss(&trained, Normalisation::Trie);
            let value = loss.clone().into_scalar::<f32>();
            let grads = GradientsParams::from_grads(loss.backward(), &trained);
            trained = optimizer.step(3e-3, trained.clone(), grads);
            value
        };
        let training: Vec<f32> = (0..STEPS).map(|_| step()).collect();
        assert!(
            training[STEPS - 1] < training[0],
            "nothing was learned: {training:?}"
        );
        // A kind is enough: on a CPU's Vulkan a step takes long.
        if kind == FusionKind::CrossAttention {
            let rest: Vec<f32> = (STEPS..LONG).map(|_| step()).collect();
            assert!(
                rest.iter().all(|loss| loss.is_finite()) && rest[rest.len() - 1] <= training[0],
                "{LONG} steps: {rest:?}"
            );
        }
        Self {
            losses,
            gradients,
            training,
            ranked,
            written,
        }
    }

    /// Gives the largest difference.
    fn assert_near(&self, expected: &Self, spec: &str) -> f32 {
        let mut farthest = 0.0_f32;
        let mut near = |found: &[f32], expected: &[f32], what: &str| {
            assert_eq!(found.len(), expected.len(), "{spec}: {what}");
            for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
                let difference = (found - expected).abs();
                // Not `>`: a NaN is far from everything.
                assert!(
                    difference <= TOLERANCE,
                    "{spec}: {what} {at} is {found}, on flex it is {expected}"
                );
                farthest = farthest.max(difference);
            }
        };
        near(&self.losses, &expected.losses, "loss");
        for ((path, found), (_, expected)) in self.gradients.iter().zip(&expected.gradients) {
            near(found, expected, &format!("gradient of {path},"));
            let sizes = expected.iter().map(|gradient| gradient.abs());
            let allowed = sizes.fold(TOLERANCE, f32::max) * GRADIENT_TOLERANCE;
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() <= allowed,
                    "{spec}: gradient of {path} is {found}, on flex it is {expected}"
                );
            }
        }
        assert_eq!(self.ranked.0, expected.ranked.0, "{spec}: answers");
        near(
            &self.ranked.1,
            &expected.ranked.1,
            "log-likelihood of answer",
        );
        near(&self.written, &expected.written, "logit");
        near(&self.training, &expected.training, "loss of training step");
        assert_eq!(
            self.gradients.len(),
            expected.gradients.len(),
            "{spec}: gradients"
        );
        farthest
    }
}

/// Logits behind each of some tokens for one person, the first two read at once.
fn written(model: &UserLlm) -> Vec<f32> {
    let device = model.device();
    let items: Vec<i64> = (0..7).map(|at| 2 + at * 3 % 11).collect();
    let genres = [2_i64; 7];
    let ids = |ids: &[i64]| Tensor::from_data(TensorData::new(ids.to_vec(), [1, 7, 1]), &device);
    let history = EventBatch::new(vec![ids(&items), ids(&genres)], vec![7]);
    let user = model.read_user(&history);
    let mut decoder = UserDecoder::new(model, Some(&user));
    let steps: [&[u32]; 4] = [&[3, 1], &[4], &[1], &[5]];
    let logits = steps.map(|tokens| decoder.push(tokens).into_data().convert::<f32>());
    let logits = logits.iter();
    logits.flat_map(|data| data.iter::<f32>()).collect()
}

/// Histories of three lengths: items, and one or two genres each.
fn histories(device: &Device) -> EventBatch {
    let lengths = vec![4, 7, 1];
    let items: Vec<i64> = lengths
        .iter()
        .enumerate()
        .flat_map(|(row, &n)| {
            (0..7).map(move |at| {
                if at < n {
                    2 + ((row * 5 + at * 3) % 11) as i64
                } else {
                    0
                }
            })
        })
        .collect();
    let genres: Vec<i64> = items
        .iter()
        .flat_map(|&item| match item {
            0 => [0, 0],
            item if item % 2 == 0 => [2 + item % 3, 0],
            item => [2, 2 + item % 3],
        })
        .collect();
    let ids = |ids: Vec<i64>, n_values: usize| {
        Tensor::<3, Int>::from_data(TensorData::new(ids, [3, 7, n_values]), device)
    };
    EventBatch::new(vec![ids(items, 1), ids(genres, 2)], lengths)
}

/// The gradient of every parameter that has one.
fn gradients(model: &UserLlm, grads: &GradientsParams) -> Vec<(String, Vec<f32>)> {
    struct Gradients<'a> {
        grads: &'a GradientsParams,
        path: Vec<String>,
        found: Vec<(String, Vec<f32>)>,
    }
    impl ModuleVisitor for Gradients<'_> {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_string());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                let grad = grad.into_data().iter::<f32>().collect();
                self.found.push((self.path.join("."), grad));
            }
        }
    }
    let mut gradients = Gradients {
        grads,
        path: Vec::new(),
        found: Vec::new(),
    };
    model.visit(&mut gradients);
    assert!(
        gradients.found.len() > 10,
        "too few parameters have a gradient"
    );
    gradients.found
}
