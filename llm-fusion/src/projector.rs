//! The width change from user embeddings to the language model.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, assert_shape};

/// Normalises the latents and maps them to the width that the language model reads.
///
/// `output = Linear(LayerNorm(latents)) · scale`. The scale makes a fresh projector's output as
/// large as the language model's own token embeddings, which a soft prompt stands among; for
/// cross-attention it is 1.
#[derive(Module, Debug)]
pub struct Projector {
    norm: LayerNorm,
    linear: Linear,
    scale: f64,
}

impl Projector {
    pub(crate) fn new(d_input: usize, d_output: usize, scale: f64, device: &Device) -> Self {
        Self {
            norm: LayerNormConfig::new(d_input).init(device),
            linear: LinearConfig::new(d_input, d_output).init(device),
            scale,
        }
    }

    /// What the output is multiplied by. No parameter: neither trained nor saved with the weights.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Project.
    ///
    /// # Shapes
    ///
    /// - latents: `[batch, n, d_input]`
    /// - output: `[batch, n, d_output]`
    pub fn forward(&self, latents: Tensor<3>) -> Tensor<3> {
        let [batch, n, _] = latents.dims();
        let output = self.linear.forward(self.norm.forward(latents)) * self.scale;
        assert_shape!(output, [batch, n, _]);
        output
    }
}
