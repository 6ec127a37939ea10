//! Matrices in fewer bits than what is computed with: half the memory, and half the time of one more
//! token, which is the time of reading them.

use burn::{
    module::{Module, ModuleMapper, Param},
    nn::Linear,
    tensor::{FloatDType, Tensor, module},
};

use crate::LanguageModel;

impl LanguageModel {
    /// The same model with its matrices in another float type: embedding, blocks and head. Norms and
    /// biases stay as they are, and so does what is computed between products.
    ///
    /// Products are made in that type. Of f16 and bf16 that costs about the third and the second
    /// digit of a logit; hidden states above 65,504 do not fit f16.
    pub fn with_matrices_in(self, dtype: FloatDType) -> Self {
        self.map(&mut Matrices { dtype })
    }
}

struct Matrices {
    dtype: FloatDType,
}

impl ModuleMapper for Matrices {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match D {
            2 => param.map(|matrix| matrix.cast(self.dtype)),
            _ => param,
        }
    }
}

/// `x @ weight + bias`, as [`Linear::forward`], with the product in the weight's float type.
pub(crate) fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let product = product(x, layer.weight.val());
    match &layer.bias {
        Some(bias) => product + bias.val().unsqueeze(),
        None => product,
    }
}

/// `x @ weight`, in the weight's float type and then in that of `x`.
pub(crate) fn product<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    let (own, of_weight) = (x.dtype(), weight.dtype());
    match own == of_weight {
        true => module::linear(x, weight, None),
        false => module::linear(x.cast(of_weight), weight, None).cast(own),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int, Tolerance};

    use super::*;
    use crate::LanguageModelConfig;
    use crate::generate::Decode;

    fn model() -> LanguageModel {
        let config = LanguageModelConfig::new(50, 32, 3, 4, 2, 8, 64).with_qkv_bias(true);
        config.init(&Device::flex())
    }

    #[test]
    fn what_is_computed_is_near_and_comes_back_in_32_bits() {
        let device = Device::flex();
        let tokens = Tensor::<2, Int>::from_data([[5, 6, 7, 8, 9, 10]], &device);
        let model = model();
        let expected = model.forward(tokens.clone(), None);
        let widest = expected.clone().abs().max().into_scalar::<f32>();
        for (dtype, digits) in [(FloatDType::F16, 1e-3), (FloatDType::BF16, 1e-2)] {
            let model = model.clone().with_matrices_in(dtype);
            assert_eq!(model.embedding.weight.val().dtype(), dtype.into());
            assert_eq!(model.norm.gamma.val().dtype(), FloatDType::F32.into());
            let logits = model.forward(tokens.clone(), None);
            assert_eq!(logits.dtype(), FloatDType::F32.into());
            let distance = (logits - expected.clone()).abs().max().into_scalar::<f32>();
            assert!(distance > 0.0, "{dtype:?} changes nothing");
            assert!(
                distance < 4.0 * digits * widest,
                "{dtype:?}: {distance} of {widest}"
            );
        }
    }

    #[test]
    fn a_token_after_another_is_the_whole_text_at_once() {
        let device = Device::flex();
        let model = model().with_matrices_in(FloatDType::F16);
        let text = [5, 6, 7, 8];
        let tokens = Tensor::<2, Int>::from_data([text.map(|token| token as i32)], &device);
        let whole = model.forward(tokens, None);
        let mut decoder = model.decoder();
        for (at, token) in text.into_iter().enumerate() {
            let expected = whole.clone().narrow(1, at, 1).flatten::<1>(0, 2);
            let logits = decoder.push(&[token]).into_data();
            logits.assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(2e-3));
        }
    }

    #[test]
    fn in_32_bits_nothing_changes() {
        let device = Device::flex();
        let tokens = Tensor::<2, Int>::from_data([[5, 6, 7]], &device);
        let model = model();
        let expected = model.forward(tokens.clone(), None).into_data();
        let found = model.with_matrices_in(FloatDType::F32);
        found
            .forward(tokens, None)
            .into_data()
            .assert_eq(&expected, true);
    }
}
