use burn::{
    config::Config,
    module::{Initializer, Module},
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor, activation::silu},
};

use crate::precision::linear;

/// Configuration to create a [`FeedForward`] with [`init`](Self::init).
#[derive(Config, Debug)]
pub struct FeedForwardConfig {
    /// Width of the model.
    pub d_model: usize,
    /// Width between the two matrices.
    pub d_ff: usize,
    /// How the weights start.
    #[config(default = "crate::model::INITIALIZER")]
    pub initializer: Initializer,
}

impl FeedForwardConfig {
    /// Initialize a new [`FeedForward`].
    pub fn init(&self, device: &Device) -> FeedForward {
        let linear = |d_input, d_output| {
            LinearConfig::new(d_input, d_output)
                .with_bias(false)
                .with_initializer(self.initializer.clone())
                .init(device)
        };

        FeedForward {
            gate: linear(self.d_model, self.d_ff),
            up: linear(self.d_model, self.d_ff),
            down: linear(self.d_ff, self.d_model),
        }
    }
}

/// The feed-forward part of a block, a SwiGLU without biases.
///
/// `Y = (silu(X @ gate) * (X @ up)) @ down`
/// ([GLU Variants Improve Transformer](https://arxiv.org/abs/2002.05202)).
#[derive(Module, Debug)]
pub struct FeedForward {
    /// What is let through, `[d_model, d_ff]`.
    pub gate: Linear,
    /// What may pass, `[d_model, d_ff]`.
    pub up: Linear,
    /// Back to the width of the model, `[d_ff, d_model]`.
    pub down: Linear,
}

impl FeedForward {
    /// Apply the layer to every token by itself.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, tokens, d_model]`
    /// - output: `[batch, tokens, d_model]`
    ///
    /// # Panics
    ///
    /// Panics if the last axis of `x` is not `d_model`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = silu(linear(&self.gate, x.clone()));
        linear(&self.down, gate * linear(&self.up, x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{TensorData, Tolerance};

    #[test]
    fn gates_with_silu() {
        let device = Device::flex();
        let layer = FeedForwardConfig::new(2, 3)
            .with_initializer(Initializer::Constant { value: 0.5 })
            .init(&device);

        // gate = up = 0.5 * (1 + 3) = 2, silu(2) = 2 / (1 + e^-2) = 1.761594,
        // down = 3 * 0.5 * (1.761594 * 2).
        let output = layer.forward(Tensor::from_data([[[1.0, 3.0]]], &device));
        output.into_data().assert_approx_eq::<f32>(
            &TensorData::from([[[5.284782, 5.284782]]]),
            Tolerance::absolute(1e-5),
        );
    }
}
