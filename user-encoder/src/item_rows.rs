//! A training step over the rows of the item table that it reads, as if there were no others.
//!
//! A loss that draws its negatives reads the rows of its events and of these, a few thousand of
//! perhaps millions. Over an encoder that has only them, the gradient is of these rows alone, and a
//! step costs what it reads rather than what the table holds.

use burn::tensor::{Int, Tensor, TensorData};

use crate::batch::{PADDING, PackedEvents};
use crate::encoder::{UserEncoder, indices};
use crate::objective::Draws;

/// Rows of the item table, by their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemRows {
    /// Ascending, padding among them: so padding stays id 0.
    ids: Vec<u32>,
}

impl ItemRows {
    /// The rows that the losses over these histories read, by what was drawn for them; not those of
    /// a softmax over all items.
    pub fn read<'a>(losses: impl IntoIterator<Item = (&'a PackedEvents, &'a Draws)>) -> Self {
        let mut ids = vec![PADDING];
        for (events, draws) in losses {
            ids.extend(events.modalities[0].to_data().iter::<u32>());
            ids.extend(&draws.negatives);
        }
        ids.sort_unstable();
        ids.dedup();
        Self { ids }
    }

    /// Their ids, ascending.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Where an id stands among them.
    fn place(&self, id: u32) -> usize {
        let place = self.ids.binary_search(&id);
        place.unwrap_or_else(|_| panic!("item {id} is read and not among the rows"))
    }
}

impl UserEncoder {
    /// The encoder with these rows of its item table alone: item ids are places among them. The
    /// table keeps its [`ParamId`](burn::module::ParamId), so that the gradient of these rows is
    /// found under it.
    pub fn over_rows(&self, rows: &ItemRows) -> Self {
        let mut encoder = self.clone();
        let table = &mut encoder.embedding.modalities[0].table.weight;
        let ids = indices(rows.ids.iter().map(|&id| id as usize), &table.device());
        *table = table.clone().map(|table| table.select(0, ids));
        encoder
    }
}

impl PackedEvents {
    /// The same histories for an encoder [over these rows](UserEncoder::over_rows).
    ///
    /// # Panics
    ///
    /// Panics if they have an item that is not among the rows.
    pub fn over_rows(&self, rows: &ItemRows) -> Self {
        let mut events = self.clone();
        let items = &mut events.modalities[0];
        let (shape, device) = (items.dims(), items.device());
        let places = items
            .to_data()
            .iter::<u32>()
            .map(|id| rows.place(id) as i64)
            .collect();
        let places = TensorData::new::<i64, _>(places, shape);
        *items = Tensor::<3, Int>::from_data(places, &device);
        events
    }
}

impl Draws {
    /// The same draws for an encoder [over these rows](UserEncoder::over_rows).
    ///
    /// # Panics
    ///
    /// Panics if they have an item that is not among the rows.
    pub fn over_rows(&self, rows: &ItemRows) -> Self {
        let mut draws = self.clone();
        for id in &mut draws.negatives {
            *id = rows.place(*id) as u32;
        }
        draws
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::tests::{events, tiny_config};
    use crate::{EncoderTask, ItemLoss, NegativeSampler, NextEventObjective};
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::optim::GradientsParams;
    use burn::tensor::Device;

    struct AllGradients {
        grads: GradientsParams,
        found: Vec<Vec<f32>>,
    }

    impl ModuleVisitor for AllGradients {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let grad = self.grads.get::<D>(param.id).expect("all parameters train");
            self.found.push(grad.into_data().iter::<f32>().collect());
        }
    }

    /// The loss and the gradients of all parameters; the item table's is the first.
    fn figures(
        objective: &NextEventObjective,
        encoder: &UserEncoder,
        events: &PackedEvents,
        draws: &Draws,
    ) -> (f32, Vec<Vec<f32>>) {
        let loss = objective.loss_of(encoder, events, draws).total;
        let value = loss.clone().into_scalar();
        let grads = GradientsParams::from_grads(loss.backward(), encoder);
        let found = Vec::new();
        let mut all = AllGradients { grads, found };
        encoder.visit(&mut all);
        (value, all.found)
    }

    #[test]
    fn the_rows_that_are_read_have_the_loss_and_gradients_of_the_whole_table() {
        let device = Device::flex().autodiff();
        device.seed(3);
        let encoder = tiny_config().with_dropout_input(0.0).init(&device);
        let events = events(&[&[3, 3, 12, 5], &[5]], 4, &device).into();
        for item in [
            ItemLoss::SampledSoftmax { negatives: 5 },
            ItemLoss::BinaryCrossEntropy {
                negatives: 2,
                calibration: 0.5,
            },
            ItemLoss::BinaryCrossEntropy {
                negatives: 9,
                calibration: 0.5,
            },
        ] {
            let objective = NextEventObjective {
                task: EncoderTask::NextEvent,
                item,
                sampler: NegativeSampler::by_popularity(&[9, 1, 1, 1, 4, 1, 1, 0, 0, 0, 0], 2.0),
            };
            crate::seed_dropout(1);
            let draws = objective.draw(&events);
            let rows = ItemRows::read([(&events, &draws)]);
            assert!(rows.ids().len() < 11 && rows.ids().starts_with(&[0, 2, 3]));

            let (whole, expected) = figures(&objective, &encoder, &events, &draws);
            let small = encoder.valid().over_rows(&rows).train();
            let (events, draws) = (events.over_rows(&rows), draws.over_rows(&rows));
            let (value, found) = figures(&objective, &small, &events, &draws);

            assert!((value - whole).abs() < 1e-6);
            let mut spread = vec![0.0; expected[0].len()];
            for (row, &id) in found[0].chunks(6).zip(rows.ids()) {
                spread[id as usize * 6..][..6].copy_from_slice(row);
            }
            let found = [spread].into_iter().chain(found.into_iter().skip(1));
            for (found, expected) in found.zip(&expected) {
                assert_eq!(found.len(), expected.len());
                for (a, b) in found.iter().zip(expected) {
                    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
                }
            }
        }
    }
}
