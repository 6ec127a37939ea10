//! Free text as an answer: the likelihood of its tokens over the whole vocabulary.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};

use crate::user_llm::{UserEmbeddings, UserLlm};

/// Texts that are to follow their prompts, one of each for every user of a batch.
#[derive(Clone, Copy, Debug)]
pub struct TextTargets<'a> {
    /// Tokens of the prompts.
    pub prompts: &'a [Vec<u32>],
    /// Tokens of the texts, each with the token that ends it.
    pub texts: &'a [Vec<u32>],
}

impl TextTargets<'_> {
    /// Mean over the texts' tokens of their cross-entropy, each behind its prompt and the tokens
    /// before it. The prompts' own tokens are read, not taught.
    ///
    /// # Panics
    ///
    /// Panics if there are not as many prompts and texts as users, or one is empty.
    pub fn loss(&self, model: &UserLlm, user: &UserEmbeddings) -> Tensor<1> {
        assert_eq!(self.prompts.len(), self.texts.len(), "a text per prompt");
        assert!(
            self.texts.iter().all(|text| !text.is_empty()),
            "a text has no token"
        );
        let device = model.device();
        // The last token of a text is predicted and not read.
        let rows = self.prompts.iter().zip(self.texts);
        let rows: Vec<Vec<u32>> = rows
            .map(|(prompt, text)| [prompt, &text[..text.len() - 1]].concat())
            .collect();
        let step = model.forest(&rows, user).take(&device);
        let hidden = model.forward_forest(&step, user, None);
        let [batch, n_slots, d_model] = hidden.dims();
        // Padding stands before the prompts, so that all rows end in the last slot.
        let ends = self.texts.iter().enumerate();
        let places: Vec<i64> = ends
            .flat_map(|(row, text)| {
                let end = (row + 1) * n_slots;
                (end - text.len()..end).map(|place| place as i64)
            })
            .collect();
        let n = places.len();
        let int =
            |values: Vec<i64>| Tensor::<1, Int>::from_data(TensorData::new(values, [n]), &device);
        let hidden = hidden
            .reshape([batch * n_slots, d_model])
            .select(0, int(places));
        let targets = self.texts.iter().flatten().map(|&token| i64::from(token));
        let targets = int(targets.collect()).unsqueeze_dim::<2>(1);
        let likelihood = log_softmax(model.llm.head_logits(hidden), 1);
        -likelihood.gather(1, targets).mean()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use llm::LanguageModelConfig;
    use user_encoder::{EventBatch, ModalityConfig, UserEncoderConfig};

    use super::*;
    use crate::{Blocks, FusionConfig, FusionKind, UserLlmConfig};

    fn model(kind: FusionKind) -> UserLlm {
        let device = Device::flex();
        device.seed(3);
        let llm = LanguageModelConfig::new(31, 24, 2, 4, 2, 6, 40).init(&device);
        let encoder = UserEncoderConfig::new(vec![ModalityConfig::new("item".into(), 13, 8)])
            .with_d_model(16)
            .with_n_heads(2)
            .with_n_layers(1)
            .init(&device);
        let fusion = FusionConfig::new(kind, Blocks::Upper(1)).with_gated(false);
        UserLlmConfig::new(fusion).init(llm, encoder)
    }

    fn users(model: &UserLlm, histories: &[[i64; 3]], lengths: &[usize]) -> UserEmbeddings {
        let items: Vec<i64> = histories.concat();
        let items = TensorData::new(items, [histories.len(), 3, 1]);
        let items = Tensor::<3, Int>::from_data(items, &model.device());
        model.read_user(&EventBatch::new(vec![items], lengths.to_vec()))
    }

    /// By hand: the log-probability of each text token from whole sequences, one user at a time.
    #[test]
    fn the_loss_is_the_mean_over_tokens_that_whole_sequences_give() {
        for kind in [
            FusionKind::CrossAttention,
            FusionKind::SoftPrompt,
            FusionKind::None,
        ] {
            let model = model(kind);
            let (histories, lengths) = ([[5, 9, 7], [3, 2, 0]], [3, 2]);
            let prompts = [vec![1, 2, 3, 4], vec![8, 6]];
            let texts = [vec![10, 11, 12], vec![13, 14, 15, 16, 17]];
            let targets = TextTargets {
                prompts: &prompts,
                texts: &texts,
            };
            let user = users(&model, &histories, &lengths);
            let loss = targets.loss(&model, &user).into_scalar::<f32>();

            let (mut sum, mut n) = (0.0, 0);
            for row in 0..2 {
                let user = users(&model, &histories[row..=row], &lengths[row..=row]);
                let all = [prompts[row].clone(), texts[row].clone()].concat();
                let ids: Vec<i64> = all.iter().map(|&token| i64::from(token)).collect();
                let ids = TensorData::new(ids, [1, all.len()]);
                let ids = Tensor::<2, Int>::from_data(ids, &model.device());
                let logits = model.forward(ids, None, Some(&user)).squeeze_dim::<2>(0);
                let likelihood = log_softmax(logits, 1).into_data();
                let likelihood = likelihood.as_slice::<f32>().unwrap();
                for at in prompts[row].len()..all.len() {
                    sum -= likelihood[(at - 1) * 31 + all[at] as usize];
                    n += 1;
                }
            }
            let expected = sum / n as f32;
            assert!(
                (loss - expected).abs() < 1e-5,
                "{kind:?}: {loss} {expected}"
            );
        }
    }
}
