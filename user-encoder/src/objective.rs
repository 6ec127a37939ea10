//! The pretraining objective: every position predicts every modality of the next event.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};

use crate::batch::{EventBatch, PADDING};
use crate::encoder::UserEncoder;

/// The loss and its parts.
#[derive(Clone, Debug)]
pub struct NextEventLoss {
    /// Plain mean over modalities (the paper's weighting), a scalar.
    pub total: Tensor<1>,
    /// Mean negative log-likelihood of each modality, in the encoder's order.
    pub by_modality: Vec<Tensor<1>>,
}

impl UserEncoder {
    /// Softmax cross-entropy of every modality of every event given the events before it.
    ///
    /// The first event is predicted from BOS; the last is a target only, so a batch may be one
    /// event longer than the encoder's `max_length`. An event of several values (genres) is a target
    /// distribution, uniform over them. Padding is no target, and a batch of nothing but padding
    /// has loss 0 and no gradient.
    ///
    /// User-LLM, section 3.3: `L = 1/M Σ_j −1/L Σ_i log softmax(h_i W_j E_jᵀ)[m_j of event i+1]`.
    pub fn next_event_loss(&self, events: &EventBatch) -> NextEventLoss {
        let (batch, length) = (events.batch(), events.length());
        // BOS stands before the first event, so slot i has read i events and predicts the next.
        let hidden = self.forward(&events.without_last());
        let hidden = hidden.reshape([batch * length, self.d_model()]);

        let by_modality: Vec<Tensor<1>> = (0..events.modalities.len())
            .map(|modality| {
                let logits = self.head_logits(hidden.clone(), modality);
                let [_, _, values] = events.modalities[modality].dims();
                let targets = events.modalities[modality]
                    .clone()
                    .reshape([batch * length, values]);
                let real = targets.clone().not_equal_scalar(PADDING).float();
                let likelihood = log_softmax(logits, 1).gather(1, targets);
                let per_event =
                    (likelihood * real.clone()).sum_dim(1) / real.clone().sum_dim(1).clamp_min(1.0);
                let n_events = real.max_dim(1).sum().clamp_min(1.0);
                -per_event.sum() / n_events
            })
            .collect();

        let n = by_modality.len();
        let total = Tensor::cat(by_modality.clone(), 0).sum() / n as f32;
        NextEventLoss { total, by_modality }
    }
}

impl NextEventLoss {
    /// The parts as plain numbers, in the encoder's order of modalities.
    pub fn values(&self) -> Vec<f32> {
        self.by_modality
            .iter()
            .map(|loss| scalar(loss.clone().into_data()))
            .collect()
    }
}

fn scalar(data: TensorData) -> f32 {
    data.iter::<f32>().next().expect("a loss is one number")
}

#[cfg(test)]
mod tests {
    use crate::encoder::tests::{events, tiny};
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::optim::GradientsParams;
    use burn::optim::{AdamWConfig, ModuleOptimizer};
    use burn::tensor::{Device, Tensor};

    #[test]
    fn an_untrained_encoder_is_about_as_good_as_guessing() {
        let device = Device::flex();
        let loss = tiny(&device).next_event_loss(&events(&[&[2, 3, 4, 5]], 4, &device));
        for (value, vocab_size) in loss.values().into_iter().zip([13_f32, 7.0, 5.0]) {
            assert!(
                (value - vocab_size.ln()).abs() < 0.3,
                "{value} is far from ln {vocab_size}"
            );
        }
        let mean = loss.values().iter().sum::<f32>() / 3.0;
        assert!((loss.total.into_scalar::<f32>() - mean).abs() < 1e-6);
    }

    #[test]
    fn padding_changes_no_loss() {
        let device = Device::flex();
        let encoder = tiny(&device);
        let tight = encoder
            .next_event_loss(&events(&[&[2, 3, 4]], 3, &device))
            .values();
        let loose = encoder
            .next_event_loss(&events(&[&[2, 3, 4]], 9, &device))
            .values();
        for (tight, loose) in tight.into_iter().zip(loose) {
            assert!((tight - loose).abs() < 1e-5);
        }
    }

    #[test]
    fn a_batch_of_nothing_but_padding_has_a_finite_loss_and_no_gradient() {
        let device = Device::flex().autodiff();
        let encoder = tiny(&device);
        let loss = encoder
            .next_event_loss(&events(&[&[], &[]], 5, &device))
            .total;
        assert_eq!(loss.clone().into_scalar::<f32>(), 0.0);
        let grads = GradientsParams::from_grads(loss.backward(), &encoder);
        let mut largest = LargestGradient { grads, value: 0.0 };
        encoder.visit(&mut largest);
        assert_eq!(largest.value, 0.0);
    }

    struct LargestGradient {
        grads: GradientsParams,
        value: f32,
    }

    impl ModuleVisitor for LargestGradient {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.grads.get::<D>(param.id) {
                let value: f32 = grad.abs().max().into_scalar();
                assert!(value.is_finite());
                self.value = self.value.max(value);
            }
        }
    }

    #[test]
    fn one_batch_can_be_learned_by_heart() {
        let device = Device::flex().autodiff();
        let mut encoder = tiny(&device);
        let events = events(&[&[2, 3, 4, 5, 6], &[7, 8, 9]], 5, &device);
        let mut optimizer: ModuleOptimizer = AdamWConfig::new().init();
        let first = encoder.next_event_loss(&events).total.into_scalar::<f32>();
        for _ in 0..150 {
            let grads = encoder.next_event_loss(&events).total.backward();
            let grads = GradientsParams::from_grads(grads, &encoder);
            encoder = optimizer.step(1e-2, encoder, grads);
        }
        let last = encoder
            .valid()
            .next_event_loss(&events)
            .total
            .into_scalar::<f32>();
        assert!(last < 0.25 * first, "{first} -> {last}");
    }
}
