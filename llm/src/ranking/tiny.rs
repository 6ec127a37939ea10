//! What the tests of this module rank with.

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Device, Int, Tensor, TensorData},
};

use super::trie::TokenTrie;
use crate::{LanguageModel, LanguageModelConfig};

pub(super) const VOCAB_SIZE: usize = 19;
pub(super) const END: u32 = 0;

/// A language model of two small blocks with known weights, loud enough to have opinions.
pub(super) fn model() -> LanguageModel {
    LanguageModelConfig::new(VOCAB_SIZE, 12, 2, 4, 2, 4, 17)
        .init(&Device::flex())
        .map(&mut Loud {
            numbers: Numbers(1),
        })
}

/// A language model to which everything is equally likely.
pub(super) fn indifferent() -> LanguageModel {
    struct Zero;
    impl ModuleMapper for Zero {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.zeros_like())
        }
    }
    model().map(&mut Zero)
}

/// Prompts of three lengths.
pub(super) fn prompts() -> Vec<Vec<u32>> {
    vec![vec![1, 2, 3], vec![4], vec![2, 2, 1, 4, 3]]
}

/// Different titles of up to five tokens, of few tokens, so that most share a beginning and some
/// are the beginning of others.
pub(super) fn titles(n: usize) -> Vec<Vec<u32>> {
    let mut numbers = Numbers(7);
    let mut titles: Vec<Vec<u32>> = Vec::new();
    while titles.len() < n {
        let length = 1 + numbers.below(5);
        let title = (0..length).map(|_| 5 + numbers.below(6) as u32).collect();
        if !titles.contains(&title) {
            titles.push(title);
        }
    }
    titles
}

pub(super) fn trie(n: usize) -> TokenTrie {
    TokenTrie::new(&titles(n), END).expect("the titles differ")
}

/// Log-probability of every token after a text, by a plain forward pass.
pub(super) fn next_token(model: &LanguageModel, text: &[u32]) -> Vec<f64> {
    let ids: Vec<i64> = text.iter().map(|&token| i64::from(token)).collect();
    let ids = TensorData::new(ids, [1, text.len()]);
    let logits = model.forward(Tensor::<2, Int>::from_data(ids, &Device::flex()), None);
    let logits = floats(logits.slice([0..1, text.len() - 1..text.len()]));
    log_softmax(&logits)
}

/// Over all of the given logits.
pub(super) fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    logits
        .iter()
        .map(|&logit| f64::from(logit) - sum.ln())
        .collect()
}

pub(super) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("floats")
}

pub(super) fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }
}

/// Numbers that depend on nothing but their seed, unlike the device's, which all tests share.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, end: usize) -> usize {
        const FACTOR: u64 = 6_364_136_223_846_793_005;
        self.0 = self
            .0
            .wrapping_mul(FACTOR)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as usize % end
    }
}

/// Fills matrices with numbers from -0.6 to 0.6.
struct Loud {
    numbers: Numbers,
}

impl ModuleMapper for Loud {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D == 1 {
            return param;
        }
        param.map(|tensor| {
            let shape = tensor.shape();
            let values: Vec<f32> = (0..shape.num_elements())
                .map(|_| self.numbers.below(1201) as f32 / 1000.0 - 0.6)
                .collect();
            Tensor::from_data(TensorData::new(values, shape), &tensor.device())
        })
    }
}
