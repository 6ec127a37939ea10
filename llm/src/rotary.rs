use std::f64::consts::TAU;

use burn::tensor::{Device, Int, Tensor, TensorData, assert_shape};
use serde::{Deserialize, Serialize};

/// Rotary position embedding in the rotate-half form of Hugging Face weights.
///
/// The `d_head` coordinates of a query or key are `d_head / 2` pairs `(i, i + d_head / 2)`; pair
/// `i` is turned by the angle `position * theta^(-2i / d_head)`
/// ([RoFormer](https://arxiv.org/abs/2104.09864), section 3.4.2). burn's `RotaryEncoding` pairs
/// neighbours `(2i, 2i + 1)` instead, the order of the original paper and of GGUF files; the two
/// agree after a permutation of the rows of the query and key weights, which the import makes.
///
/// Holds no tensor: the angles of a pass are computed from its positions, so a position may be any
/// number and no table has to be grown, moved between devices, saved or kept from training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotaryEmbedding {
    /// Base of the wavelengths, `rope_theta` in Hugging Face configs.
    pub theta: f64,
    /// Width of one attention head. Even.
    pub d_head: usize,
    /// How the frequencies are slowed down for texts longer than the model was first made for.
    pub scaling: Option<RopeScaling>,
}

/// Slower turns for longer texts, as Llama 3.1 to 3.3 have them (`rope_type = "llama3"`).
///
/// A pair that turns round often within the text that the model was first made for is left alone,
/// one that does so seldom is slowed down by `factor`, and in between the two are mixed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeScaling {
    /// By what slow pairs are slowed down.
    pub factor: f64,
    /// Turns within the first context length at which a pair is as slow as any.
    pub low_freq_factor: f64,
    /// Turns at which it is left alone. Above `low_freq_factor`.
    pub high_freq_factor: f64,
    /// Tokens of the longest text that the model was first made for.
    pub original_context_length: usize,
}

impl RopeScaling {
    /// By what a frequency, in radians a token, is divided: from 1 to `factor`.
    pub fn divisor(&self, frequency: f64) -> f64 {
        let turns = self.original_context_length as f64 * frequency / TAU;
        let range = self.high_freq_factor - self.low_freq_factor;
        let kept = ((turns - self.low_freq_factor) / range).clamp(0.0, 1.0);
        1.0 / ((1.0 - kept) / self.factor + kept)
    }
}

impl RotaryEmbedding {
    /// The rotation of each position, to be used by every block of a forward pass.
    ///
    /// # Shapes
    ///
    /// - positions: `[batch, tokens]`
    pub fn rotation(&self, positions: Tensor<2, Int>) -> Rotation {
        let [batch, tokens] = positions.dims();
        let device = positions.device();
        let angles = positions.float().reshape([batch, 1, tokens, 1]) * self.frequencies(&device);
        let angles = Tensor::cat(vec![angles.clone(), angles], 3);

        Rotation {
            cos: angles.clone().cos(),
            sin: angles.sin(),
        }
    }

    /// `theta^(-2i / d_head)` for each pair `i`, scaled, as `[1, 1, 1, d_head / 2]`.
    fn frequencies(&self, device: &Device) -> Tensor<4> {
        let scaled = |frequency| match self.scaling {
            Some(scaling) => frequency / scaling.divisor(frequency),
            None => frequency,
        };
        let frequencies = self.unscaled().map(|frequency| scaled(frequency) as f32);
        let frequencies: Vec<f32> = frequencies.collect();
        let n_pairs = frequencies.len();
        Tensor::from_data(TensorData::new(frequencies, [1, 1, 1, n_pairs]), device)
    }

    /// `theta^(-2i / d_head)` for each pair `i`.
    pub(crate) fn unscaled(&self) -> impl Iterator<Item = f64> + use<> {
        let (theta, n_pairs) = (self.theta, self.d_head / 2);
        (0..n_pairs).map(move |pair| theta.powf(-(pair as f64) / n_pairs as f64))
    }
}

/// Cosines and sines of the angles of some positions, made by [`RotaryEmbedding::rotation`].
#[derive(Clone, Debug)]
pub struct Rotation {
    /// `[batch, 1, tokens, d_head]`, both halves alike.
    cos: Tensor<4>,
    /// `[batch, 1, tokens, d_head]`, both halves alike.
    sin: Tensor<4>,
}

impl Rotation {
    /// Turn queries or keys to their positions: `x * cos + rotate_half(x) * sin`.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, heads, tokens, d_head]`
    /// - output: `[batch, heads, tokens, d_head]`
    ///
    /// # Panics
    ///
    /// Panics if batch, tokens or `d_head` of `x` are not those of the positions.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, tokens, d_head] = self.cos.dims();
        assert_shape!(x, [batch, _, tokens, d_head]);

        let [first, second]: [Tensor<4>; 2] = x
            .clone()
            .chunk(2, 3)
            .try_into()
            .expect("an even d_head splits into two halves");
        let rotated_half = Tensor::cat(vec![second.neg(), first], 3);

        x * self.cos.clone() + rotated_half * self.sin.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};

    const ROPE: RotaryEmbedding = RotaryEmbedding {
        theta: 10_000.0,
        d_head: 4,
        scaling: None,
    };

    #[test]
    fn fast_pairs_are_kept_slow_ones_slowed_down_and_those_between_mixed() {
        let scaling = RopeScaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context_length: 100,
        };
        let after = |turns: f64| scaling.divisor(turns * TAU / 100.0);
        assert_eq!((after(4.5), after(0.5)), (1.0, 8.0));
        // Half way between: (1 - 1/2) / 8 + 1/2 = 9/16 of the frequency.
        assert!((after(2.5) - 16.0 / 9.0).abs() < 1e-12);
    }

    fn rotate(x: Tensor<4>, position: i32) -> Tensor<4> {
        let positions = Tensor::from_data([[position]], &x.device());
        ROPE.rotation(positions).forward(x)
    }

    #[test]
    fn position_zero_turns_nothing() {
        let device = Device::flex();
        let x = Tensor::<4>::from_data([[[[1.0, 2.0, 3.0, 4.0]]]], &device);

        rotate(x.clone(), 0)
            .into_data()
            .assert_eq(&x.into_data(), true);
    }

    #[test]
    fn pairs_are_half_a_head_apart_and_turn_at_their_own_speed() {
        let device = Device::flex();
        // Pairs (0, 2) and (1, 3); frequencies 1 and 10000^(-1/2) = 0.01.
        let x = Tensor::<4>::from_data([[[[1.0, 1.0, 0.0, 0.0]]]], &device);
        let (fast, slow) = (3.0_f32, 0.03_f32);

        let expected = TensorData::from([[[[fast.cos(), slow.cos(), fast.sin(), slow.sin()]]]]);
        rotate(x, 3)
            .into_data()
            .assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
    }

    #[test]
    fn only_the_distance_between_query_and_key_counts() {
        let device = Device::flex();
        device.seed(7);
        let query = Tensor::<4>::random([1, 1, 1, 4], Distribution::Default, &device);
        let key = Tensor::<4>::random([1, 1, 1, 4], Distribution::Default, &device);
        let score = |at: i32, from: i32| {
            (rotate(query.clone(), at) * rotate(key.clone(), from))
                .sum()
                .into_data()
        };

        score(5, 2).assert_approx_eq::<f32>(&score(105, 102), Tolerance::absolute(1e-5));
    }

    #[test]
    #[should_panic(expected = "axis 3 expected 4, got 6")]
    fn head_width_must_match() {
        let _ = rotate(Tensor::zeros([1, 2, 1, 6], &Device::flex()), 1);
    }
}
