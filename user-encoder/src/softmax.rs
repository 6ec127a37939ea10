//! Softmax cross-entropy over a large table that never holds positions × items.

use std::ops::Range;

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use crate::batch::PADDING;
use crate::rows::softmax_rows;

/// Elements of one tile of logits: 2 MiB, which stays in a core's cache between its operations.
const TILE: usize = 1 << 19;
/// Rows of a tile at least: for fewer, reading the table costs more than the tile.
const LEAST_ROWS: usize = 384;
/// Elements of a tile of some items, whose rows are all that there are.
const WIDE_TILE: usize = 1 << 21;
/// Rows of the table that one tile spans at most. A larger table is read twice, first for the
/// normaliser; a smaller one once.
const WIDEST: usize = 1 << 15;

/// Mean cross-entropy of `softmax(queries · tableᵀ)` against the targets of each row.
///
/// The value and the gradients are those of the plain formula
///
/// ```text
/// L = 1/n Σ_i [ log Σ_v exp(q_i · e_v) − Σ_v t_iv (q_i · e_v) ],   t = (1 − s) target + s / |V|
/// ```
///
/// with `s` the label smoothing, but logits and gradients are made in tiles, in the forward pass,
/// from the tensors beneath autodiff: `∂L/∂q_i = 1/n (p_i − t_i) E` needs no other upstream
/// gradient than a factor. Autodiff then sees a scalar that is linear in `queries` and `table`
/// and has these gradients as its slopes.
///
/// # Shapes
///
/// - queries: `[n, d]`
/// - table: `[vocab_size, d]`
/// - targets: `[n, values]`, each row at least one value that is not [`PADDING`]; several are a
///   uniform distribution over them
///
/// # Panics
///
/// Panics if there is no row: a mean over nothing is no number.
pub fn softmax_cross_entropy(
    queries: Tensor<2>,
    table: Tensor<2>,
    targets: Tensor<2, Int>,
    label_smoothing: f64,
) -> Tensor<1> {
    let [n, d] = queries.dims();
    let [vocab_size, _] = table.dims();
    assert!(n > 0, "cross-entropy over no rows");
    let trains = queries.device().is_autodiff();
    let targets = targets.inner();
    let tiled = Tiled {
        weights: target_weights(&targets),
        q: queries.clone().inner(),
        e: table.clone().inner(),
        targets,
        smoothing: label_smoothing,
    };
    let (loss, slopes) = match vocab_size <= WIDEST {
        true => tiled.by_rows(trains),
        false => tiled.by_items(trains),
    };
    match slopes {
        None => loss,
        Some((dq, de)) => {
            let slope = |of: Tensor<2>, by: Tensor<2>| (of * by).sum();
            debug_assert_eq!(dq.dims(), [n, d]);
            let linear = slope(queries, dq) + slope(table, de);
            // Its own value taken away exactly, what remains is the loss.
            linear.clone() - linear.detach() + loss
        }
    }
}

/// `1 / number of values` at every value of a row, 0 at its padding.
fn target_weights(targets: &Tensor<2, Int>) -> Tensor<2> {
    let real = targets.clone().not_equal_scalar(PADDING).float();
    let count = real.clone().sum_dim(1).clamp_min(1.0);
    real / count
}

struct Tiled {
    q: Tensor<2>,
    e: Tensor<2>,
    targets: Tensor<2, Int>,
    /// `[n, values]`
    weights: Tensor<2>,
    smoothing: f64,
}

type Slopes = Option<(Tensor<2>, Tensor<2>)>;

impl Tiled {
    /// Tiles of whole rows: every logit is made once.
    fn by_rows(&self, trains: bool) -> (Tensor<1>, Slopes) {
        let [n, _] = self.q.dims();
        let [vocab_size, _] = self.e.dims();
        let height = (TILE / vocab_size).max(LEAST_ROWS);
        let mut loss = Tensor::zeros([1], &self.q.device());
        let (mut dq, mut de) = (Vec::new(), None);
        for from in (0..n).step_by(height) {
            let rows = from..n.min(from + height);
            let q = self.q.clone().slice(rows.clone());
            let targets = self.targets.clone().slice(rows.clone());
            let weights = self.weights.clone().slice(rows);
            let logits = q.clone().matmul(self.e.clone().transpose());
            let hit = (logits.clone().gather(1, targets.clone()) * weights.clone()).sum_dim(1);
            let mean = (self.smoothing > 0.0).then(|| logits.clone().mean_dim(1));
            let (p, normaliser) = softmax_rows(logits);
            loss = loss + (normaliser - self.expected(hit, mean)).sum();
            if trains {
                let slopes = self.minus_targets(p, targets, weights);
                dq.push(slopes.clone().matmul(self.e.clone()) / n as f32);
                let part = slopes.transpose().matmul(q / n as f32);
                de = Some(match de {
                    Some(all) => all + part,
                    None => part,
                });
            }
        }
        (loss / n as f32, de.map(|de| (Tensor::cat(dq, 0), de)))
    }

    /// Tiles of some items: one pass for the normaliser, one for the gradient.
    fn by_items(&self, trains: bool) -> (Tensor<1>, Slopes) {
        let [n, d] = self.q.dims();
        let [vocab_size, _] = self.e.dims();
        let width = (WIDE_TILE / n).clamp(256, WIDEST);
        let tiles = || {
            let starts = (0..vocab_size).step_by(width);
            starts.map(|at| at..vocab_size.min(at + width))
        };
        let rows = |items: &Range<usize>| self.e.clone().slice(items.clone());
        let softmax = |e: Tensor<2>| softmax_rows(self.q.clone().matmul(e.transpose()));
        let normaliser = tiles().map(|items| softmax(rows(&items)).1).reduce(log_add);
        let normaliser = normaliser.expect("a table has rows");

        let [_, values] = self.targets.dims();
        let targets = self.targets.clone().reshape([n * values]);
        let of_targets = self.e.clone().select(0, targets.clone());
        let of_targets = of_targets.reshape([n, values, d]);
        let hit = (of_targets.clone() * self.q.clone().unsqueeze_dim(1)).sum_dim(2);
        let hit = (hit.squeeze_dim::<2>(2) * self.weights.clone()).sum_dim(1);
        // The mean logit of all items is that of their mean.
        let smoothed = (self.smoothing > 0.0).then(|| self.e.clone().mean_dim(0));
        let mean = smoothed
            .clone()
            .map(|e| self.q.clone().matmul(e.transpose()));
        let loss = (normaliser.clone() - self.expected(hit, mean)).sum() / n as f32;
        if !trains {
            return (loss, None);
        }
        let (mut dq, mut de) = (self.q.zeros_like(), self.e.zeros_like());
        for items in tiles() {
            let e = rows(&items);
            let (p, of_tile) = softmax(e.clone());
            // What part of all the tile is: a factor of rows, cheaper on the products' sides.
            let part = (of_tile - normaliser.clone()).exp() / n as f32;
            let q = self.q.clone() * part.clone();
            de = de.slice_assign(items, p.clone().transpose().matmul(q));
            dq = dq + p.matmul(e) * part;
        }
        if let Some(e) = smoothed {
            let share = self.smoothing / n as f64;
            dq = dq - e * share;
            de = de - self.q.clone().sum_dim(0) * (share / vocab_size as f64);
        }
        // The targets' part has a row per target, not a matrix per tile.
        let share = self.weights.clone() * ((self.smoothing - 1.0) / n as f64);
        let share = share.unsqueeze_dim::<3>(2);
        dq = dq + (of_targets * share.clone()).sum_dim(1).squeeze_dim::<2>(1);
        let parts = (self.q.clone().unsqueeze_dim::<3>(1) * share).reshape([n * values, d]);
        let de = de.select_assign(0, targets, parts, IndexingUpdateOp::Add);
        (loss, Some((dq, de)))
    }

    /// `Σ_v t_iv (q_i · e_v)`, from the targets' mean logit and that of all items.
    fn expected(&self, hit: Tensor<2>, mean: Option<Tensor<2>>) -> Tensor<2> {
        match mean {
            None => hit,
            Some(mean) => hit * (1.0 - self.smoothing) + mean * self.smoothing,
        }
    }

    /// `p − t`.
    fn minus_targets(
        &self,
        p: Tensor<2>,
        targets: Tensor<2, Int>,
        weights: Tensor<2>,
    ) -> Tensor<2> {
        let [_, vocab_size] = p.dims();
        let p = match self.smoothing > 0.0 {
            true => p - self.smoothing / vocab_size as f64,
            false => p,
        };
        p.scatter(
            1,
            targets,
            weights * (self.smoothing - 1.0),
            IndexingUpdateOp::Add,
        )
    }
}

/// `log(e^a + e^b)`.
fn log_add(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let most = a.clone().max_pair(b.clone());
    ((a - most.clone()).exp() + (b - most.clone()).exp()).log() + most
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::activation::log_softmax;
    use burn::tensor::{Device, Distribution, Tolerance};

    /// Loss and both gradients, by the function under test or by the plain formula.
    fn figures(
        vocab_size: usize,
        by: impl Fn(Tensor<2>, Tensor<2>, Tensor<2, Int>) -> Tensor<1>,
    ) -> [Vec<f32>; 3] {
        let device = Device::flex();
        device.seed(5);
        let random = |shape| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let queries = random([37, 6]).autodiff().require_grad();
        let table = random([vocab_size, 6]).autodiff().require_grad();
        // Rows of one, two and three values.
        let targets: Vec<i64> = (0..37)
            .flat_map(|at| {
                let id = 2 + (at * 7) % (vocab_size as i64 - 4);
                [id, (at % 3) * (id + 1) / 2, i64::from(at % 3 == 2)]
            })
            .collect();
        let targets = Tensor::from_data(burn::tensor::TensorData::new(targets, [37, 3]), &device);
        let loss = by(queries.clone(), table.clone(), targets) * 3.0;
        let grads = loss.backward();
        let values = |tensor: Tensor<2>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
        [
            vec![loss.into_scalar()],
            values(queries.grad(&grads).unwrap()),
            values(table.grad(&grads).unwrap()),
        ]
    }

    fn plain(q: Tensor<2>, e: Tensor<2>, targets: Tensor<2, Int>, smoothing: f64) -> Tensor<1> {
        let likelihood = log_softmax(q.matmul(e.transpose()), 1);
        let hit =
            (likelihood.clone().gather(1, targets.clone()) * target_weights(&targets)).sum_dim(1);
        let expected = hit * (1.0 - smoothing) + likelihood.mean_dim(1) * smoothing;
        -expected.mean()
    }

    fn close(found: &[Vec<f32>; 3], expected: &[Vec<f32>; 3]) {
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-5, "{a} is not {b}");
            }
        }
    }

    #[test]
    fn value_and_gradients_are_those_of_the_plain_formula() {
        for smoothing in [0.0, 0.1] {
            let expected = figures(53, |q, e, t| plain(q, e, t, smoothing));
            close(
                &figures(53, |q, e, t| softmax_cross_entropy(q, e, t, smoothing)),
                &expected,
            );
        }
    }

    #[test]
    fn a_table_read_in_tiles_of_items_gives_the_same() {
        let n_items = 700;
        for smoothing in [0.0, 0.1] {
            let tiled = |q: Tensor<2>, e: Tensor<2>, targets: Tensor<2, Int>| {
                let weights = target_weights(&targets);
                let tiled = Tiled {
                    q: q.clone().inner(),
                    e: e.clone().inner(),
                    targets,
                    weights,
                    smoothing,
                };
                let (loss, slopes) = tiled.by_items(true);
                let (dq, de) = slopes.unwrap();
                let linear = (q * dq).sum() + (e * de).sum();
                linear.clone() - linear.detach() + loss
            };
            close(
                &figures(n_items, tiled),
                &figures(n_items, |q, e, t| plain(q, e, t, smoothing)),
            );
        }
    }

    #[test]
    fn without_autodiff_there_is_a_loss_all_the_same() {
        let device = Device::flex();
        let q = Tensor::<2>::ones([2, 3], &device);
        let e = Tensor::<2>::zeros([40_000, 3], &device);
        let targets = Tensor::<2, Int>::from_data([[7], [39_999]], &device);
        let loss = softmax_cross_entropy(q, e, targets, 0.0);
        loss.into_data().assert_approx_eq::<f32>(
            &Tensor::<1>::from_data([40_000_f32.ln()], &device).into_data(),
            Tolerance::absolute(1e-4),
        );
    }
}
