//! The whole model.

use burn::config::Config;
use burn::module::Module;
use burn::nn::attention::CrossAttentionCache;
use burn::tensor::{Bool, Device, FloatDType, Int, Tensor, TensorData};
use llm::{AttentionPlan, LanguageModel, LayerCache};
use perceiver::{PerceiverResampler, PerceiverResamplerConfig};
use serde::{Deserialize, Serialize};
use user_encoder::{EventBatch, HistoryEncoder};

use crate::blocks::Blocks;
use crate::cross_attention::GatedCrossAttention;
use crate::projector::Projector;

/// Configuration of what joins an encoder and a language model.
#[derive(Config, Debug)]
pub struct UserLlmConfig {
    /// Compress the event embeddings first; `None` hands all of them on. Its `d_model` is the
    /// encoder's width.
    pub perceiver: Option<PerceiverResamplerConfig>,
    /// The way in.
    pub fusion: FusionConfig,
}

/// How user embeddings enter the language model.
#[derive(Config, Debug)]
pub struct FusionConfig {
    /// Cross-attention in the blocks, or a soft prompt before them.
    pub kind: FusionKind,
    /// Which blocks have cross-attention; all in the paper. What lies below the lowest is the same
    /// for every user, see [`Trunk`](crate::Trunk). Read by cross-attention only.
    pub blocks: Blocks,
    /// Width of the user embeddings that cross-attention reads; a soft prompt's is the language
    /// model's own.
    #[config(default = 128)]
    pub d_user: usize,
    /// Attention heads of a cross-attention.
    #[config(default = 8)]
    pub n_heads: usize,
    /// Width of one of these heads.
    #[config(default = 32)]
    pub d_head: usize,
    /// Whether a tanh gate, closed at first, stands before each sum.
    #[config(default = true)]
    pub gated: bool,
    /// Latest event embeddings that are read as they are, beside what the Perceiver compresses all
    /// of them to. The last one is what a causal encoder predicts the next event from, and the
    /// language model need not wait for the Perceiver to learn to hand it on. 0 in the paper;
    /// without a Perceiver all events are read anyway.
    #[config(default = 0)]
    pub n_recent: usize,
}

/// The two ways in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FusionKind {
    /// Between self-attention and feed-forward of the blocks (deep fusion).
    CrossAttention,
    /// Before the prompt's token embeddings (early fusion).
    SoftPrompt,
    /// Not at all: what is known of a person has to stand in the prompt, as text. The contender
    /// that the other two are held against.
    None,
}

/// What the language model reads of a batch of users.
#[derive(Clone, Debug)]
pub struct UserEmbeddings {
    /// `[batch, n, d_user]`
    pub embeddings: Tensor<3>,
    /// `[batch, n]`, `true` at padding; padding comes last. `None` if there is none.
    pub mask_pad: Option<Tensor<2, Bool>>,
    /// Number of real embeddings of each row.
    pub lengths: Vec<usize>,
}

/// A language model with a user encoder.
///
/// The parts keep their own paths (`llm.blocks.3.…`, `encoder.…`), so the language model's weights
/// load as ever, and what trains is a question of paths, see
/// [`TuningStrategy`](crate::TuningStrategy).
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use llm::LanguageModelConfig;
/// use llm_fusion::{Blocks, FusionConfig, FusionKind, UserLlmConfig};
/// use perceiver::PerceiverResamplerConfig;
/// use user_encoder::{EventBatch, ModalityConfig, UserEncoderConfig};
///
/// let device = Device::flex();
/// let llm = LanguageModelConfig::new(100, 32, 2, 4, 2, 8, 64).init(&device);
/// let encoder = UserEncoderConfig::new(vec![ModalityConfig::new("item".into(), 50, 16)])
///     .with_d_model(16)
///     .with_n_heads(2)
///     .init(&device);
/// let perceiver = PerceiverResamplerConfig::new(16).with_n_latents(4);
/// let fusion = FusionConfig::new(FusionKind::CrossAttention, Blocks::Upper(1));
/// let model = UserLlmConfig::new(fusion).with_perceiver(Some(perceiver)).init(llm, encoder);
///
/// let history = Tensor::<3, Int>::from_data([[[5], [9], [7]]], &device);
/// let user = model.read_user(&EventBatch::new(vec![history], vec![3]));
/// assert_eq!(user.embeddings.dims(), [1, 4, 128]);
///
/// let prompt = Tensor::<2, Int>::from_data([[1, 2, 3, 4]], &device);
/// assert_eq!(model.forward(prompt, None, Some(&user)).dims(), [1, 4, 100]);
/// ```
#[derive(Module, Debug)]
pub struct UserLlm {
    /// Reads the prompt.
    pub llm: LanguageModel,
    /// Reads the history.
    pub encoder: HistoryEncoder,
    /// Compresses what the encoder gives.
    pub resampler: Option<PerceiverResampler>,
    /// Brings it to the language model's side.
    pub projector: Projector,
    /// One for each block of the language model; none at all with a soft prompt.
    pub fusion: Vec<Option<GatedCrossAttention>>,
    soft_prompt: bool,
    n_recent: usize,
}

impl UserLlmConfig {
    /// Join a language model and an encoder, on the language model's device.
    ///
    /// A soft prompt is scaled to the token embeddings that the language model has at this moment,
    /// and the scale is no parameter: join the base model, and load what was trained afterwards.
    ///
    /// # Panics
    ///
    /// Panics if the Perceiver's width is not the encoder's, or if cross-attention would be in no
    /// block.
    pub fn init(&self, llm: LanguageModel, encoder: impl Into<HistoryEncoder>) -> UserLlm {
        let encoder = encoder.into();
        let device = llm.device();
        let n_blocks = llm.blocks.len();
        let d_encoder = encoder.d_model();
        if let Some(perceiver) = &self.perceiver {
            assert_eq!(
                perceiver.d_model, d_encoder,
                "the Perceiver's width must be the encoder's"
            );
        }
        let [_, d_model] = llm.embedding.weight.dims();
        let in_blocks = self.fusion.kind == FusionKind::CrossAttention;
        let fusion: Vec<Option<GatedCrossAttention>> = (0..n_blocks)
            .map(|index| {
                (in_blocks && self.fusion.blocks.contains(index, n_blocks)).then(|| {
                    GatedCrossAttention::new(&self.fusion, d_model, self.fusion.d_user, &device)
                })
            })
            .collect();
        assert!(
            !in_blocks || fusion.iter().any(Option::is_some),
            "`fusion.blocks` names no block of a language model with {n_blocks}"
        );
        let (d_user, scale) = match self.fusion.kind {
            FusionKind::CrossAttention | FusionKind::None => (self.fusion.d_user, 1.0),
            FusionKind::SoftPrompt => (d_model, embedding_scale(&llm)),
        };
        UserLlm {
            resampler: self
                .perceiver
                .as_ref()
                .map(|perceiver| perceiver.init(&device)),
            projector: Projector::new(d_encoder, d_user, scale, &device),
            fusion,
            soft_prompt: self.fusion.kind == FusionKind::SoftPrompt,
            n_recent: self.fusion.n_recent,
            llm,
            encoder,
        }
    }
}

/// Root mean square of the token embeddings, over that of a fresh projector's output (about 0.58).
fn embedding_scale(llm: &LanguageModel) -> f64 {
    let square: f32 = llm
        .embedding
        .weight
        .val()
        .cast(FloatDType::F32)
        .powi_scalar(2)
        .mean()
        .into_scalar();
    f64::from(square.sqrt()) / 0.58
}

impl UserLlm {
    /// From histories to user embeddings: encoder, Perceiver, projector.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, n_latents + n_recent, d_user]`, the latest event first behind the
    ///   latents, and no more of them than the longest history has; or `[batch, length, d_user]`
    ///   without a Perceiver. Of a dual encoder `length` is its `n_embeddings`, and the latest the
    ///   last of them
    pub fn read_user(&self, history: &EventBatch) -> UserEmbeddings {
        let (read, lengths, mask_pad) = self.encode(history);
        let Some(resampler) = &self.resampler else {
            return UserEmbeddings {
                embeddings: self.projector.forward(read),
                mask_pad,
                lengths,
            };
        };
        // No more than somebody has: one person's embeddings then have no padding.
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let n_recent = self.n_recent.min(longest);
        let (recent, lengths) = latest(&read, &lengths, n_recent);
        let latents = resampler.forward(read, mask_pad);
        let n_latents = resampler.n_latents();
        let embeddings = match recent {
            Some(recent) => Tensor::cat(vec![latents, recent], 1),
            None => latents,
        };
        let n = n_latents + n_recent;
        let lengths: Vec<usize> = lengths.iter().map(|n| n_latents + n).collect();
        UserEmbeddings {
            mask_pad: mask_after(&lengths, n, &embeddings.device()),
            embeddings: self.projector.forward(embeddings),
            lengths,
        }
    }

    /// What the Perceiver makes of histories; `None` without one.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, n_latents, d_encoder]`
    pub fn latents(&self, history: &EventBatch) -> Option<Tensor<3>> {
        let resampler = self.resampler.as_ref()?;
        let (read, _, mask_pad) = self.encode(history);
        Some(resampler.forward(read, mask_pad))
    }

    /// What the encoder makes of histories, how many embeddings of each are real, and the mask of the
    /// others.
    fn encode(&self, history: &EventBatch) -> (Tensor<3>, Vec<usize>, Option<Tensor<2, Bool>>) {
        let (read, lengths) = self.encoder.embeddings(history);
        let [_, n_read, _] = read.dims();
        let mask_pad = mask_after(&lengths, n_read, &read.device());
        (read, lengths, mask_pad)
    }

    /// Logits of every next token of whole sequences. Without a user, the plain language model's.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, tokens]`
    /// - mask_pad: `[batch, tokens]`, `true` at padding
    /// - output: `[batch, tokens, vocab_size]`
    pub fn forward(
        &self,
        tokens: Tensor<2, Int>,
        mask_pad: Option<Tensor<2, Bool>>,
        user: Option<&UserEmbeddings>,
    ) -> Tensor<3> {
        let [batch, n_tokens] = tokens.dims();
        let hidden = self.llm.embed(tokens);
        let hidden = match user.filter(|_| self.soft_prompt) {
            Some(user) => {
                let n_soft = user.embeddings.dims()[1];
                let mask_pad = join_masks(user, mask_pad, batch, n_tokens);
                let plan = self.llm.plan_causal(batch, n_soft + n_tokens, 0, mask_pad);
                let hidden = Tensor::cat(vec![user.embeddings.clone(), hidden], 1);
                let hidden = self.blocks(0..self.llm.blocks.len(), hidden, &plan, None, None);
                let d_model = hidden.dims()[2];
                hidden.slice([0..batch, n_soft..n_soft + n_tokens, 0..d_model])
            }
            None => {
                let plan = self.llm.plan_causal(batch, n_tokens, 0, mask_pad);
                self.blocks(0..self.llm.blocks.len(), hidden, &plan, user, None)
            }
        };
        self.llm.logits(hidden)
    }

    /// The walk through some of the blocks: self-attention, cross-attention, feed-forward.
    pub(crate) fn blocks(
        &self,
        range: std::ops::Range<usize>,
        mut hidden: Tensor<3>,
        plan: &AttentionPlan,
        user: Option<&UserEmbeddings>,
        mut caches: Option<&mut FusedCache>,
    ) -> Tensor<3> {
        for index in range {
            let block = &self.llm.blocks[index];
            let (own, cross) = match caches.as_deref_mut() {
                Some(caches) => (
                    Some(&mut caches.blocks[index]),
                    Some(&mut caches.fusion[index]),
                ),
                None => (None, None),
            };
            hidden = block.attend(hidden, plan, own);
            if let (Some(fusion), Some(user)) = (&self.fusion[index], user) {
                hidden = fusion.forward(hidden, user, cross);
            }
            hidden = block.feed_forward(hidden);
        }
        hidden
    }

    /// Whether user embeddings stand before the prompt instead of being read in the blocks.
    pub fn is_soft_prompt(&self) -> bool {
        self.soft_prompt
    }

    /// Whether the language model reads user embeddings at all.
    pub fn reads_user(&self) -> bool {
        self.soft_prompt || self.fusion.iter().any(Option::is_some)
    }

    /// The lowest block that reads the user: everything below is the same for all users. 0 with a
    /// soft prompt, and where nothing reads the user.
    pub fn lowest_fused(&self) -> usize {
        self.fusion.iter().position(Option::is_some).unwrap_or(0)
    }

    /// The gates of the fused blocks, `tanh` applied, by block (the paper's Figure 4).
    pub fn gates(&self) -> Vec<(usize, f32)> {
        self.fusion
            .iter()
            .enumerate()
            .filter_map(|(index, fusion)| {
                let gate = fusion.as_ref()?.gate.as_ref()?;
                Some((index, gate.val().tanh().into_scalar::<f32>()))
            })
            .collect()
    }

    /// The device of the language model.
    pub fn device(&self) -> Device {
        self.llm.device()
    }
}

/// The latest `n` events of each row, the last one first, and how many of them are real; there is
/// nothing to take for an `n` of 0.
fn latest(events: &Tensor<3>, lengths: &[usize], n: usize) -> (Option<Tensor<3>>, Vec<usize>) {
    let real = lengths.iter().map(|&length| length.min(n)).collect();
    if n == 0 {
        return (None, real);
    }
    let [batch, length, d_model] = events.dims();
    let slots = lengths.iter().enumerate().flat_map(|(row, &own)| {
        (1..=n).map(move |age| (row * length + own.saturating_sub(age)) as i64)
    });
    let slots = TensorData::new(slots.collect::<Vec<i64>>(), [batch * n]);
    let slots = Tensor::<1, Int>::from_data(slots, &events.device());
    let flat = events.clone().reshape([batch * length, d_model]);
    let latest = flat.select(0, slots).reshape([batch, n, d_model]);
    (Some(latest), real)
}

/// `true` from each row's length on; `None` if nothing is left over.
fn mask_after(lengths: &[usize], n: usize, device: &Device) -> Option<Tensor<2, Bool>> {
    if lengths.iter().all(|&own| own == n) {
        return None;
    }
    let is_padding = |&own: &usize| (0..n).map(move |at| at >= own);
    let mask: Vec<bool> = lengths.iter().flat_map(is_padding).collect();
    let mask = TensorData::new(mask, [lengths.len(), n]);
    Some(Tensor::from_data(mask, device))
}

/// The mask of a soft prompt followed by a prompt; `None` if neither has padding.
fn join_masks(
    user: &UserEmbeddings,
    mask_pad: Option<Tensor<2, Bool>>,
    batch: usize,
    n_tokens: usize,
) -> Option<Tensor<2, Bool>> {
    if user.mask_pad.is_none() && mask_pad.is_none() {
        return None;
    }
    let device = user.embeddings.device();
    let shown = |n: usize| Tensor::<2, Bool>::full([batch, n], false, &device);
    let soft = user
        .mask_pad
        .clone()
        .unwrap_or_else(|| shown(user.embeddings.dims()[1]));
    Some(Tensor::cat(
        vec![soft, mask_pad.unwrap_or_else(|| shown(n_tokens))],
        1,
    ))
}

/// Keys and values of what has been read: of the tokens, and of the user.
pub(crate) struct FusedCache {
    pub(crate) blocks: Vec<LayerCache>,
    pub(crate) fusion: Vec<CrossAttentionCache>,
}

impl FusedCache {
    pub(crate) fn new(n_blocks: usize) -> Self {
        Self {
            blocks: vec![LayerCache::default(); n_blocks],
            fusion: (0..n_blocks).map(|_| CrossAttentionCache::new()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use llm::LanguageModelConfig;
    use user_encoder::{ModalityConfig, UserEncoderConfig};

    fn init(fusion: FusionConfig, d_perceiver: usize) -> UserLlm {
        let device = Device::flex();
        let llm = LanguageModelConfig::new(97, 24, 3, 4, 2, 6, 40).init(&device);
        let encoder = UserEncoderConfig::new(vec![ModalityConfig::new("item".into(), 13, 8)])
            .with_d_model(16)
            .with_n_heads(2)
            .with_n_layers(1)
            .init(&device);
        let perceiver = PerceiverResamplerConfig::new(d_perceiver).with_n_latents(5);
        UserLlmConfig::new(fusion)
            .with_perceiver(Some(perceiver))
            .init(llm, encoder)
    }

    fn user(model: &UserLlm) -> UserEmbeddings {
        let history = Tensor::<3, Int>::from_data([[[5], [9], [7]]], &model.device());
        model.read_user(&EventBatch::new(vec![history], vec![3]))
    }

    #[test]
    fn blocks_are_counted_from_the_bottom() {
        let fused = |blocks: Blocks| -> Vec<usize> {
            (0..5).filter(|&index| blocks.contains(index, 5)).collect()
        };
        assert_eq!(fused(Blocks::All), [0, 1, 2, 3, 4]);
        assert_eq!(fused(Blocks::Upper(2)), [3, 4]);
        assert_eq!(fused(Blocks::Upper(9)), [0, 1, 2, 3, 4]);
        assert_eq!(fused(Blocks::Only(vec![3, 1])), [1, 3]);
    }

    #[test]
    fn recent_events_pass_beside_the_perceiver_the_last_one_first() {
        let device = Device::flex();
        let fusion = FusionConfig::new(FusionKind::CrossAttention, Blocks::All);
        let model = init(fusion.with_n_recent(2), 16);
        let items = Tensor::<3, Int>::from_data([[[5], [9], [7]], [[4], [0], [0]]], &device);
        let history = EventBatch::new(vec![items], vec![3, 1]);
        let user = model.read_user(&history);
        assert_eq!(user.embeddings.dims(), [2, 7, 128]);
        assert_eq!(user.lengths, [7, 6]);
        let mask: Vec<bool> = user.mask_pad.unwrap().into_data().iter().collect();
        assert_eq!(mask.iter().filter(|&&is_padding| is_padding).count(), 1);
        assert!(mask[13], "the second person has one event");

        let short = Tensor::<3, Int>::from_data([[[4]]], &device);
        let short = model.read_user(&EventBatch::new(vec![short], vec![1]));
        assert_eq!(short.embeddings.dims(), [1, 6, 128]);
        assert!(short.mask_pad.is_none(), "one person is never padded");

        let (events, _) = model.encoder.embeddings(&history);
        for (row, slot, event) in [(0, 5, 2), (0, 6, 1), (1, 5, 0)] {
            let event = events.clone().slice([row..row + 1, event..event + 1]);
            let expected = model.projector.forward(event).into_data();
            let given = user.embeddings.clone();
            let given = given.slice([row..row + 1, slot..slot + 1]).into_data();
            given.assert_eq(&expected, true);
        }
    }

    #[test]
    fn cross_attention_is_where_the_config_wants_it() {
        let fusion = FusionConfig::new(FusionKind::CrossAttention, Blocks::Upper(2));
        let model = init(fusion, 16);
        let fused: Vec<bool> = model.fusion.iter().map(Option::is_some).collect();
        assert_eq!(fused, [false, true, true]);
        assert_eq!(user(&model).embeddings.dims(), [1, 5, 128]);
    }

    /// Open Flamingo found that the loss starts 6 to 12 higher without gates (its issue 286).
    #[test]
    fn without_gates_the_user_is_read_from_the_start() {
        let fusion = FusionConfig::new(FusionKind::CrossAttention, Blocks::All);
        let model = init(fusion.with_gated(false), 16);
        let tokens = Tensor::<2, Int>::from_data([[1, 2, 3]], &model.device());
        let with = model.forward(tokens.clone(), None, Some(&user(&model)));
        let change = (with - model.forward(tokens, None, None)).abs().max();
        assert!(change.into_scalar::<f32>() > 1e-4);
        assert!(model.gates().is_empty());
    }

    #[test]
    fn a_soft_prompt_starts_as_large_as_the_token_embeddings() {
        let model = init(FusionConfig::new(FusionKind::SoftPrompt, Blocks::All), 16);
        let size = |tensor: Tensor<2>| tensor.powi_scalar(2).mean().sqrt().into_scalar::<f32>();
        let user = user(&model).embeddings;
        assert_eq!(user.dims(), [1, 5, 24]);
        let ratio = size(user.squeeze_dim::<2>(0)) / size(model.llm.embedding.weight.val());
        assert!((0.5..2.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn without_fusion_no_user_changes_anything() {
        let model = init(FusionConfig::new(FusionKind::None, Blocks::All), 16);
        assert!(!model.reads_user() && !model.is_soft_prompt());
        let tokens = Tensor::<2, Int>::from_data([[1, 2, 3]], &model.device());
        let with = model.forward(tokens.clone(), None, Some(&user(&model)));
        let change = (with - model.forward(tokens, None, None)).abs().max();
        assert_eq!(change.into_scalar::<f32>(), 0.0);
    }

    #[test]
    #[should_panic(expected = "`fusion.blocks` names no block of a language model with 3")]
    fn a_fusion_of_no_block_is_refused() {
        init(
            FusionConfig::new(FusionKind::CrossAttention, Blocks::Only(vec![3])),
            16,
        );
    }

    #[test]
    #[should_panic(expected = "the Perceiver's width must be the encoder's")]
    fn a_perceiver_of_another_width_is_refused() {
        init(FusionConfig::new(FusionKind::SoftPrompt, Blocks::All), 12);
    }
}
