//! Dropout whose noise is a function of a seed, whatever the backend and the thread.
//!
//! burn's `Dropout` draws through one generator of the device, number by number: on a CPU that is
//! a quarter of a training step, and two threads that share it get what the scheduler gives them.
//! Here each thread has a generator of its own, which draws four decisions at a time.

use std::cell::RefCell;

use burn::module::{Flag, Module, Param};
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::constant;

thread_local! {
    static NOISE: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(0));
}

/// Seed the noise of all dropout on this thread: the same seed, the same masks, on every backend.
pub fn seed_dropout(seed: u64) {
    NOISE.with_borrow_mut(|noise| *noise = StdRng::seed_from_u64(seed));
}

/// Zeroes a share of the elements while training and scales up the rest; see [`seed_dropout`].
#[derive(Module, Debug)]
pub struct Dropout {
    probability: f64,
    /// Cleared where the encoder is frozen while something else trains.
    training: Param<Flag>,
}

impl Dropout {
    pub(crate) fn new(probability: f64) -> Self {
        Self {
            probability,
            training: Param::from_bool(true),
        }
    }

    /// Drop where this trains, on a device that does; elsewhere the input as it is.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let trains = self.training.is_enabled() && x.device().is_autodiff();
        if self.probability == 0.0 || !trains {
            return x;
        }
        let mask = TensorData::new(mask(x.shape().num_elements(), self.probability), x.shape());
        let mask = Tensor::from_data(mask, &constant(&x.device()));
        x * mask
    }
}

/// `n` elements, 0 with that probability (to 1/65536) and otherwise what keeps the mean at 1.
fn mask(n: usize, probability: f64) -> Vec<f32> {
    let dropped = (probability * 65536.0).round() as u64;
    let kept = (1.0 / (1.0 - dropped as f64 / 65536.0)) as f32;
    NOISE.with_borrow_mut(|noise| {
        let mut mask = vec![0.0; n];
        for four in mask.chunks_mut(4) {
            let bits = noise.next_u64();
            for (at, element) in four.iter_mut().enumerate() {
                let draw = (bits >> (16 * at)) & 0xFFFF;
                *element = if draw < dropped { 0.0 } else { kept };
            }
        }
        mask
    })
}

/// `n` numbers from 0 to below 1.
pub(crate) fn uniform(n: usize) -> Vec<f64> {
    NOISE.with_borrow_mut(|noise| {
        (0..n)
            .map(|_| (noise.next_u64() >> 11) as f64 / (1_u64 << 53) as f64)
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_share_is_dropped_and_the_mean_stays() {
        seed_dropout(1);
        let mask = mask(400_000, 0.3);
        let dropped = mask.iter().filter(|&&x| x == 0.0).count() as f64 / 400_000.0;
        let mean = mask.iter().map(|&x| f64::from(x)).sum::<f64>() / 400_000.0;
        assert!((dropped - 0.3).abs() < 0.005, "{dropped}");
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }

    #[test]
    fn a_seed_gives_the_same_noise_again_and_another_seed_does_not() {
        let drawn = |seed| {
            seed_dropout(seed);
            mask(1001, 0.5)
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn nothing_is_dropped_off_training() {
        let dropout = Dropout::new(0.9);
        let x = Tensor::<2>::ones([8, 8], &Device::flex());
        dropout
            .forward(x.clone())
            .into_data()
            .assert_eq(&x.into_data(), true);
    }
}
