//! How surprised a language model is by a text.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};

use crate::LanguageModel;

/// Tokens that are read in one pass.
const PART: usize = 256;

impl LanguageModel {
    /// Perplexity of a text: `exp(−1/(n−1) Σ log p(token i | those before))`, over all tokens but
    /// the first. A longer text is read in parts of 256 tokens that know nothing of each other.
    ///
    /// # Panics
    ///
    /// Panics if there are fewer than two tokens.
    pub fn perplexity(&self, tokens: &[u32]) -> f64 {
        assert!(tokens.len() > 1, "the first token is not predicted");
        // A part begins with the last token of the part before it: every token is predicted once.
        let starts = (0..tokens.len() - 1).step_by(PART);
        let log_likelihood: f64 = starts
            .map(|at| self.log_likelihood(&tokens[at..tokens.len().min(at + PART + 1)]))
            .sum();
        (-log_likelihood / (tokens.len() - 1) as f64).exp()
    }

    /// `Σ log p(token i | those before)`, over all tokens but the first.
    fn log_likelihood(&self, tokens: &[u32]) -> f64 {
        let n = tokens.len() - 1;
        let ids = |tokens: &[u32]| {
            let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
            Tensor::<1, Int>::from_data(TensorData::new(ids, [n]), &self.device())
        };
        let logits = self.forward(ids(&tokens[..n]).unsqueeze(), None);
        let likelihood = log_softmax(logits.squeeze_dim::<2>(0), 1);
        let of_tokens = likelihood.gather(1, ids(&tokens[1..]).unsqueeze_dim(1));
        f64::from(of_tokens.sum().into_scalar::<f32>())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use crate::LanguageModelConfig;

    #[test]
    fn a_model_that_has_learned_nothing_is_about_as_surprised_as_by_a_die_of_its_vocabulary() {
        let device = Device::flex();
        let mut model = LanguageModelConfig::new(50, 16, 1, 2, 1, 8, 24).init(&device);
        let weight = model.embedding.weight.val();
        model.embedding.weight = burn::module::Param::from_tensor(weight * 1e-3);
        let tokens: Vec<u32> = (0..40).collect();
        assert!((model.perplexity(&tokens) - 50.0).abs() < 0.5);
    }

    #[test]
    fn every_token_of_a_long_text_is_predicted_once_in_its_part() {
        let device = Device::flex();
        device.seed(4);
        let model = LanguageModelConfig::new(50, 16, 1, 2, 1, 8, 24).init(&device);
        let tokens: Vec<u32> = (0..600).map(|at| at * at % 47).collect();
        let parts = [&tokens[..257], &tokens[256..513], &tokens[512..]];
        let surprise: f64 = parts
            .iter()
            .map(|part| model.perplexity(part).ln() * (part.len() - 1) as f64)
            .sum();
        let expected = (surprise / 599.0).exp();
        assert!((model.perplexity(&tokens) / expected - 1.0).abs() < 1e-6);
    }
}
