//! A tiny model with known, loud weights, and what the tests ask of it.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use llm::LanguageModelConfig;
use llm::ranking::{Normalisation, TokenTrie};
use llm_fusion::{
    AnswerLoss, AnswerTargets, Blocks, FusionConfig, FusionKind, UserLlm, UserLlmConfig,
};
use perceiver::PerceiverResamplerConfig;
use user_encoder::{EventBatch, ModalityConfig, UserEncoderConfig};

pub(crate) const VOCAB_SIZE: usize = 23;
pub(crate) const D_MODEL: usize = 12;
pub(crate) const N_BLOCKS: usize = 3;
pub(crate) const N_LATENTS: usize = 5;
pub(crate) const END: u32 = 0;

/// Which model.
#[derive(Clone, Debug)]
pub(crate) struct Tiny {
    pub(crate) kind: FusionKind,
    pub(crate) blocks: Blocks,
    pub(crate) perceiver: bool,
    pub(crate) n_recent: usize,
    pub(crate) dropout: f64,
}

impl Tiny {
    pub(crate) fn cross_attention(blocks: Blocks) -> Self {
        Self {
            kind: FusionKind::CrossAttention,
            blocks,
            perceiver: true,
            n_recent: 0,
            dropout: 0.0,
        }
    }

    pub(crate) fn soft_prompt() -> Self {
        Self {
            kind: FusionKind::SoftPrompt,
            blocks: Blocks::All,
            perceiver: true,
            n_recent: 0,
            dropout: 0.0,
        }
    }

    pub(crate) fn without_perceiver(self) -> Self {
        Self {
            perceiver: false,
            ..self
        }
    }

    /// With more of the latest events than some histories of the tests have.
    pub(crate) fn with_recent(self) -> Self {
        Self {
            n_recent: 3,
            ..self
        }
    }

    /// One of each kind, with and without a Perceiver, and with recent events beside it.
    pub(crate) fn all() -> Vec<Self> {
        let kinds = [
            Self::cross_attention(Blocks::All),
            Self::cross_attention(Blocks::Upper(1)),
            Self::cross_attention(Blocks::Only(vec![0, 2])),
            Self::soft_prompt(),
        ];
        kinds
            .into_iter()
            .flat_map(|tiny| {
                let recent = tiny.clone().with_recent();
                [tiny.clone(), tiny.without_perceiver(), recent]
            })
            .collect()
    }

    /// The model as it starts: gates at zero.
    pub(crate) fn closed(&self, device: &Device) -> UserLlm {
        let encoder = UserEncoderConfig::new(vec![
            ModalityConfig::new("item".into(), 13, 5),
            ModalityConfig::new("rating".into(), 7, 3),
        ])
        .with_max_length(7)
        .with_d_model(8)
        .with_n_heads(2)
        .with_n_layers(1)
        .with_d_ff(32)
        .with_dropout_input(self.dropout)
        .init(device);
        let perceiver = PerceiverResamplerConfig::new(8)
            .with_n_latents(N_LATENTS)
            .with_n_layers(2)
            .with_n_heads(2);
        let fusion = FusionConfig::new(self.kind, self.blocks.clone())
            .with_d_user(10)
            .with_n_heads(2)
            .with_d_head(3)
            .with_n_recent(self.n_recent);
        let llm = LanguageModelConfig::new(VOCAB_SIZE, D_MODEL, N_BLOCKS, 4, 2, 4, 17)
            .init(device)
            .map(&mut Loud { state: 2 });
        let model = UserLlmConfig::new(fusion)
            .with_perceiver(self.perceiver.then_some(perceiver))
            .init(llm, encoder)
            .map(&mut Loud { state: 1 });
        set_gates(model, |_| 0.0)
    }

    /// The same with open gates.
    pub(crate) fn open(&self, device: &Device) -> UserLlm {
        set_gates(self.closed(device), |block| 0.7 + 0.2 * block as f32)
    }
}

fn set_gates(mut model: UserLlm, gate: fn(usize) -> f32) -> UserLlm {
    let device = model.device();
    for (block, fusion) in model.fusion.iter_mut().enumerate() {
        if let Some(fusion) = fusion {
            fusion.gate = Some(Param::from_data([gate(block)], &device));
        }
    }
    model
}

/// Fills matrices with numbers from -0.6 to 0.6 and vectors with numbers from -0.1 to 1.1, which
/// depend on nothing but the seed.
///
/// Not with the device's random numbers: they are shared by all tests of a process.
struct Loud {
    state: u64,
}

impl ModuleMapper for Loud {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let middle = if D == 1 { 0.5 } else { 0.0 };
        param.map(|tensor| {
            let shape = tensor.shape();
            let values: Vec<f32> = (0..shape.num_elements())
                .map(|_| middle + self.next())
                .collect();
            let loud = Tensor::from_data(TensorData::new(values, shape), &tensor.device());
            if tensor.is_require_grad() {
                loud.require_grad()
            } else {
                loud
            }
        })
    }
}

impl Loud {
    fn next(&mut self) -> f32 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5) * 1.2
    }
}

/// Histories of item ids; the rating follows from the item. Padded to the longest, or to `length`.
pub(crate) fn histories(rows: &[&[i64]], length: usize, device: &Device) -> EventBatch {
    let column = |value: fn(i64) -> i64| {
        let ids: Vec<i64> = rows
            .iter()
            .flat_map(|row| (0..length).map(|at| row.get(at).copied().map_or(0, value)))
            .collect();
        Tensor::from_data(TensorData::new(ids, [rows.len(), length, 1]), device)
    };
    EventBatch::new(
        vec![column(|item| item), column(|item| 2 + item % 5)],
        rows.iter().map(|row| row.len()).collect(),
    )
}

/// Three users with histories of 4, 1 and 2 events.
pub(crate) fn three_users(device: &Device) -> EventBatch {
    histories(&[&[2, 3, 4, 5], &[6], &[7, 8]], 4, device)
}

/// Prompts of different lengths, one for each of three users.
pub(crate) fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 2, 3], vec![4], vec![2, 2, 1, 4, 3]]
}

pub(crate) fn step_targets() -> AnswerTargets {
    AnswerTargets {
        prompts: prompts(),
        answers: vec![vec![0], vec![4], vec![3]],
        teacher: Vec::new(),
    }
}

/// One training step that teaches each of three users a title.
pub(crate) fn step(model: UserLlm, optimizer: &mut ModuleOptimizer) -> UserLlm {
    let trie = trie();
    let objective = AnswerLoss {
        trie: &trie,
        normalisation: Normalisation::Trie,
        teacher_weight: 0.0,
    };
    let user = model.read_user(&three_users(&model.device()));
    let loss = objective.forward(&model, &user, &step_targets(), None);
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    optimizer.step(1e-2, model, gradients)
}

pub(crate) fn tokens(rows: &[&[u32]], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i64> = rows
        .iter()
        .flat_map(|row| row.iter().map(|&id| i64::from(id)))
        .collect();
    Tensor::from_data(TensorData::new(ids, [rows.len(), rows[0].len()]), device)
}

/// Six titles; three share their beginning, two more theirs.
pub(crate) fn titles() -> Vec<Vec<u32>> {
    vec![
        vec![8, 10, 11],
        vec![5],
        vec![5, 6, 7],
        vec![12],
        vec![5, 6],
        vec![8, 9],
    ]
}

pub(crate) fn trie() -> TokenTrie {
    TokenTrie::new(&titles(), END).expect("the titles differ")
}

pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .convert::<f32>()
        .try_into_vec()
        .expect("floats")
}

/// The largest difference between two tensors.
pub(crate) fn distance<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    floats(a)
        .iter()
        .zip(floats(b))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// The bits of a tensor, so that even 0 and -0 differ.
pub(crate) fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    floats(tensor).into_iter().map(f32::to_bits).collect()
}

/// Moves every parameter that trains, as training would.
pub(crate) struct Moved;

impl ModuleMapper for Moved {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        param.map(|tensor| (tensor * 1.1 + 0.05).detach().require_grad())
    }
}
