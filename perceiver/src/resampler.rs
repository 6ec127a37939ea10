//! The resampler and its one kind of layer.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::attention::{CrossAttention, CrossAttentionConfig};
use burn::nn::transformer::{PositionWiseFeedForward, PositionWiseFeedForwardConfig};
use burn::nn::{Initializer, LayerNorm, LayerNormConfig};
use burn::tensor::{Bool, Device, Tensor, assert_shape};

/// Configuration to create a [`PerceiverResampler`] with [`init`](Self::init).
///
/// The defaults are the paper's: 16 latents, 6 cross-attention layers.
#[derive(Config, Debug)]
pub struct PerceiverResamplerConfig {
    /// Width of the events and of the latents.
    pub d_model: usize,
    /// Number of latents that a sequence is compressed to.
    #[config(default = 16)]
    pub n_latents: usize,
    /// Number of cross-attention layers.
    #[config(default = 6)]
    pub n_layers: usize,
    /// Number of attention heads; must divide `d_model`.
    #[config(default = 4)]
    pub n_heads: usize,
    /// Inner width of the feed-forward network, as a multiple of `d_model`.
    #[config(default = 2)]
    pub ff_multiplier: usize,
    /// Dropout on attention weights and in the feed-forward network.
    #[config(default = 0.0)]
    pub dropout: f64,
}

impl PerceiverResamplerConfig {
    /// Create the module on a device.
    ///
    /// # Panics
    ///
    /// Panics if `n_heads` does not divide `d_model`, or if a count is zero.
    pub fn init(&self, device: &Device) -> PerceiverResampler {
        assert!(
            self.n_heads > 0 && self.d_model.is_multiple_of(self.n_heads),
            "`perceiver.n_heads` = {} must divide `d_model` = {}",
            self.n_heads,
            self.d_model
        );
        assert!(
            self.n_latents > 0,
            "`perceiver.n_latents` must be at least 1"
        );
        PerceiverResampler {
            latents: Initializer::Normal {
                mean: 0.0,
                std: 1.0,
            }
            .init([self.n_latents, self.d_model], device),
            norm_input: LayerNormConfig::new(self.d_model).init(device),
            layers: (0..self.n_layers)
                .map(|_| PerceiverLayer::new(self, device))
                .collect(),
            norm: LayerNormConfig::new(self.d_model).init(device),
        }
    }
}

/// Compresses a sequence of any length to `n_latents` vectors.
///
/// Each layer lets the latents `Z` read the sequence `X`, both normalised:
///
/// ```text
/// Z = Z + CrossAttention(query = Z, key = X, value = X)
/// Z = Z + FeedForward(Z)
/// ```
///
/// [Perceiver](https://arxiv.org/abs/2103.03206), section 3, as User-LLM uses it (section 3.4).
/// Unlike Flamingo's resampler, the keys do not include the latents. The order of the sequence
/// is not seen here: it has to be in the vectors already, as it is in those of a causal encoder.
#[derive(Module, Debug)]
pub struct PerceiverResampler {
    latents: Param<Tensor<2>>,
    norm_input: LayerNorm,
    layers: Vec<PerceiverLayer>,
    norm: LayerNorm,
}

impl PerceiverResampler {
    /// Compress a batch of sequences.
    ///
    /// A row whose every position is padding gives finite latents that depend on nothing real.
    ///
    /// # Shapes
    ///
    /// - sequence: `[batch, length, d_model]`
    /// - mask_pad: `[batch, length]`, `true` at padding
    /// - output: `[batch, n_latents, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if the last axis of `sequence` is not `d_model`, or if the mask has another shape.
    pub fn forward(&self, sequence: Tensor<3>, mask_pad: Option<Tensor<2, Bool>>) -> Tensor<3> {
        let [n_latents, d_model] = self.latents.dims();
        let [batch, length, _] = sequence.dims();
        assert_shape!(sequence, [batch, length, d_model]);
        if let Some(mask) = &mask_pad {
            assert_shape!(mask, [batch, length]);
        }

        let sequence = self.norm_input.forward(sequence);
        let mut latents = self
            .latents
            .val()
            .unsqueeze::<3>()
            .expand([batch, n_latents, d_model]);
        for layer in &self.layers {
            latents = layer.forward(latents, sequence.clone(), mask_pad.clone());
        }
        self.norm.forward(latents)
    }

    /// Number of latents of the output.
    pub fn n_latents(&self) -> usize {
        self.latents.dims()[0]
    }
}

/// One round of reading: cross-attention, then a feed-forward network, each with its residual.
#[derive(Module, Debug)]
pub struct PerceiverLayer {
    norm_attention: LayerNorm,
    attention: CrossAttention,
    norm_feed_forward: LayerNorm,
    feed_forward: PositionWiseFeedForward,
}

impl PerceiverLayer {
    fn new(config: &PerceiverResamplerConfig, device: &Device) -> Self {
        let d_model = config.d_model;
        let d_head = d_model / config.n_heads;
        Self {
            norm_attention: LayerNormConfig::new(d_model).init(device),
            attention: CrossAttentionConfig::new(
                d_model,
                d_model,
                config.n_heads,
                config.n_heads,
                d_head,
            )
            .with_dropout(config.dropout)
            .init(device),
            norm_feed_forward: LayerNormConfig::new(d_model).init(device),
            feed_forward: PositionWiseFeedForwardConfig::new(
                d_model,
                config.ff_multiplier * d_model,
            )
            .with_dropout(config.dropout)
            .init(device),
        }
    }

    fn forward(
        &self,
        latents: Tensor<3>,
        sequence: Tensor<3>,
        mask_pad: Option<Tensor<2, Bool>>,
    ) -> Tensor<3> {
        let query = self.norm_attention.forward(latents.clone());
        let latents = latents + self.attention.forward(query, sequence, mask_pad);
        let inner = self.norm_feed_forward.forward(latents.clone());
        latents + self.feed_forward.forward(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};

    fn resampler(device: &Device) -> PerceiverResampler {
        device.seed(7);
        PerceiverResamplerConfig::new(12)
            .with_n_latents(5)
            .with_n_layers(2)
            .with_n_heads(3)
            .init(device)
    }

    fn events<const N: usize>(shape: [usize; N], device: &Device) -> Tensor<N> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
    }

    #[test]
    fn any_length_comes_out_as_n_latents() {
        let device = Device::flex();
        let resampler = resampler(&device);
        for length in [1, 7, 13] {
            let output = resampler.forward(events([2, length, 12], &device), None);
            assert_eq!(output.dims(), [2, 5, 12]);
        }
    }

    #[test]
    fn the_paper_s_size_is_the_default() {
        let config = PerceiverResamplerConfig::new(128);
        assert_eq!((config.n_latents, config.n_layers), (16, 6));
    }

    #[test]
    fn padding_influences_nothing() {
        let device = Device::flex();
        let resampler = resampler(&device);
        let real = events([1, 3, 12], &device);
        let alone = resampler.forward(real.clone(), None);
        let padded = Tensor::cat(vec![real, events([1, 4, 12], &device) * 100.0], 1);
        let mask =
            Tensor::<2, Bool>::from_data([[false, false, false, true, true, true, true]], &device);
        let padded = resampler.forward(padded, Some(mask));
        padded
            .into_data()
            .assert_approx_eq::<f32>(&alone.into_data(), Tolerance::absolute(1e-5));
    }

    #[test]
    fn every_event_influences_every_latent() {
        let device = Device::flex();
        let resampler = resampler(&device);
        let before = events([1, 6, 12], &device);
        let change = before
            .clone()
            .slice_assign([0..1, 5..6, 0..12], events([1, 1, 12], &device));
        let difference = (resampler.forward(before, None) - resampler.forward(change, None)).abs();
        let smallest: f32 = difference.max_dim(2).min().into_scalar();
        assert!(
            smallest > 1e-6,
            "a latent did not see the last event: {smallest}"
        );
    }

    #[test]
    fn a_row_of_nothing_but_padding_stays_finite() {
        let device = Device::flex();
        let output = resampler(&device).forward(
            events([2, 4, 12], &device),
            Some(Tensor::<2, Bool>::full([2, 4], true, &device)),
        );
        assert!(output.is_finite().all().into_scalar::<bool>());
    }

    #[test]
    #[should_panic(expected = "must divide `d_model` = 10")]
    fn heads_that_do_not_fit_are_refused() {
        PerceiverResamplerConfig::new(10)
            .with_n_heads(4)
            .init(&Device::flex());
    }
}
