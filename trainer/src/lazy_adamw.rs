//! AdamW on the rows of a table that a step has read.
//!
//! The other rows stay as they are, and so do their moments: they neither decay nor move, as with
//! PyTorch's `SparseAdam`. Under dense AdamW a row moves on for some steps after it was read, by
//! what is left of its first moment, and weights that nobody reads decay.

use std::sync::{Arc, Mutex};

use burn::optim::{AdamW, AdamWState, AdaptiveMomentumState, LearningRate, Optimizer};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// A table of which every step reads some rows, and has the gradient of these rows alone.
///
/// The objective says here which they were, and the optimizer learns it: burn hands an optimizer
/// nothing but the gradient.
#[derive(Clone, Debug)]
pub struct SparseTable {
    /// The parameter's path in the model.
    pub path: String,
    read: Arc<Mutex<Vec<u32>>>,
}

impl SparseTable {
    /// The table of that path, of which nothing has been read.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            read: Arc::default(),
        }
    }

    /// The rows whose gradients the next step of the optimizer is given, in their order, each once.
    pub fn set_read(&self, rows: &[u32]) {
        *self.read.lock().expect("nothing panics meanwhile") = rows.to_vec();
    }

    fn rows(&self, device: &Device) -> Tensor<1, Int> {
        let rows = self.read.lock().expect("nothing panics meanwhile");
        let rows: Vec<i64> = rows.iter().map(|&row| i64::from(row)).collect();
        let n = rows.len();
        Tensor::from_data(TensorData::new(rows, [n]), device)
    }
}

/// burn's AdamW on the rows that were read; table and moments are changed where they are, unless
/// somebody else holds them, too.
#[derive(Clone)]
pub(crate) struct LazyAdamW {
    pub(crate) adamw: AdamW,
    pub(crate) table: SparseTable,
}

impl Optimizer for LazyAdamW {
    /// Moments of the whole table; the time is the number of steps, whichever rows they read.
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        table: Tensor<D>,
        grad: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let rows = self.table.rows(&table.device());
        let all = match state {
            Some(state) => state.momentum,
            None => AdaptiveMomentumState::new(0, table.zeros_like(), table.zeros_like()),
        };
        let read = |all: &Tensor<D>| all.clone().select(0, rows.clone());
        let write = |all: Tensor<D>, read| {
            all.select_assign(0, rows.clone(), read, IndexingUpdateOp::Assign)
        };
        let moments = (read(&all.moment_1), read(&all.moment_2));
        let state = AdamWState::new(AdaptiveMomentumState::new(all.time, moments.0, moments.1));
        let (updated, state) = self.adamw.step(rate, read(&table), grad, Some(state));
        let state = state.expect("AdamW keeps a state").momentum;
        let state = AdaptiveMomentumState::new(
            state.time,
            write(all.moment_1, state.moment_1),
            write(all.moment_2, state.moment_2),
        );
        (write(table, updated), Some(AdamWState::new(state)))
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        AdamW::to_device(state, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, Param};
    use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
    use burn::tensor::TensorData;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    #[derive(Module, Debug)]
    struct Table {
        weight: Param<Tensor<2>>,
    }

    const N_ROWS: u32 = 50;

    /// Not with the device's random numbers, which all tests of a process share.
    fn random(n: usize, draws: &mut StdRng) -> Tensor<2> {
        let values: Vec<f32> = (0..n * 3).map(|_| draws.random_range(-2.0..2.0)).collect();
        Tensor::from_data(TensorData::new(values, [n, 3]), &Device::flex())
    }

    /// A table after some steps, each over the given rows with random gradients.
    fn trained(mut optimizer: ModuleOptimizer, table: &SparseTable, steps: &[&[u32]]) -> Vec<f32> {
        let mut draws = StdRng::seed_from_u64(2);
        let weight = Tensor::from_inner(random(N_ROWS as usize, &mut draws)).require_grad();
        let mut model = Table {
            weight: Param::from_tensor(weight),
        };
        for rows in steps {
            table.set_read(rows);
            let mut grads = GradientsParams::new();
            grads.register(model.weight.id, random(rows.len(), &mut draws));
            model = optimizer.step(1e-2, model, grads);
        }
        model.weight.val().into_data().iter::<f32>().collect()
    }

    fn lazy(weight_decay: f32, table: &SparseTable) -> ModuleOptimizer {
        let adamw = AdamWConfig::new().with_weight_decay(weight_decay).build();
        let table = table.clone();
        LazyAdamW { adamw, table }.into()
    }

    #[test]
    fn where_all_rows_are_read_it_is_adamw() {
        let all: Vec<u32> = (0..N_ROWS).collect();
        let (table, steps) = (SparseTable::new("weight"), [&all[..]; 20]);
        for weight_decay in [0.0, 0.1] {
            let dense = AdamWConfig::new().with_weight_decay(weight_decay).init();
            let expected = trained(dense, &table, &steps);
            let found = trained(lazy(weight_decay, &table), &table, &steps);
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-6, "{a} is not {b}");
            }
        }
    }

    #[test]
    fn rows_that_were_not_read_stay_as_they_are_bit_for_bit() {
        let table = SparseTable::new("weight");
        let before = trained(lazy(0.1, &table), &table, &[]);
        let after = trained(lazy(0.1, &table), &table, &[&[3, 7], &[7, 20], &[3]]);
        for (row, (before, after)) in before.chunks(3).zip(after.chunks(3)).enumerate() {
            assert_eq!(before != after, [3, 7, 20].contains(&row), "row {row}");
        }
    }

    #[test]
    fn a_row_that_is_read_again_goes_on_from_its_own_moments() {
        let table = SparseTable::new("weight");
        let rest = |after: Vec<f32>| after[3 * 3..4 * 3].to_vec();
        // The gradients of both are drawn in the same order.
        let alone = rest(trained(lazy(0.0, &table), &table, &[&[3], &[9], &[3]]));
        let other = rest(trained(lazy(0.0, &table), &table, &[&[3], &[30], &[3]]));
        let anew = rest(trained(lazy(0.0, &table), &table, &[&[9], &[9], &[3]]));
        assert_eq!(alone, other);
        assert_ne!(alone, anew);
    }
}
