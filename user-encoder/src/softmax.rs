//! Softmax cross-entropy over a large table that never holds positions × items.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use crate::batch::PADDING;

/// Elements of one tile of logits: 2 MiB, which stays in a core's cache between its operations.
const TILE: usize = 1 << 19;
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
        let height = (TILE / vocab_size).max(16);
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
            let most = logits.clone().max_dim(1);
            let exp = (logits - most.clone()).exp();
            let sum = exp.clone().sum_dim(1);
            loss = loss + (sum.clone().log() + most - self.expected(hit, mean)).sum();
            if trains {
                let p = exp * (sum * n as f32).recip();
                let slopes = self.minus_targets(p, targets, weights);
                dq.push(slopes.clone().matmul(self.e.clone()));
                let part = slopes.transpose().matmul(q);
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
        let device = self.q.device();
        let width = (16 * TILE / n).clamp(256, WIDEST);
        let tiles = || {
            (0..vocab_size)
                .step_by(width)
                .map(|at| at..vocab_size.min(at + width))
        };
        let logits = |items: &std::ops::Range<usize>| {
            let e = self.e.clone().slice(items.clone());
            (self.q.clone().matmul(e.clone().transpose()), e)
        };
        let mut most = Tensor::<2>::full([n, 1], f32::MIN, &device);
        let mut sum = Tensor::<2>::zeros([n, 1], &device);
        let mut total = Tensor::<2>::zeros([n, 1], &device);
        for items in tiles() {
            let (logits, _) = logits(&items);
            if self.smoothing > 0.0 {
                total = total + logits.clone().sum_dim(1);
            }
            let higher = most.clone().max_pair(logits.clone().max_dim(1));
            sum = sum * (most - higher.clone()).exp() + (logits - higher.clone()).exp().sum_dim(1);
            most = higher;
        }
        let [_, values] = self.targets.dims();
        let rows = self
            .e
            .clone()
            .select(0, self.targets.clone().reshape([n * values]));
        let hit = (rows.reshape([n, values, d]) * self.q.clone().unsqueeze_dim(1)).sum_dim(2);
        let hit = (hit.squeeze_dim::<2>(2) * self.weights.clone()).sum_dim(1);
        let mean = (self.smoothing > 0.0).then(|| total / vocab_size as f32);
        let normaliser = sum.log() + most;
        let loss = (normaliser.clone() - self.expected(hit, mean)).sum() / n as f32;
        if !trains {
            return (loss, None);
        }
        let scale = (n as f32).recip();
        let mut dq = Tensor::zeros([n, d], &device);
        let mut de = Vec::new();
        for items in tiles() {
            let (logits, e) = logits(&items);
            let p = (logits - normaliser.clone()).exp() * scale;
            let p = p - self.smoothing as f32 * scale / vocab_size as f32;
            dq = dq + p.clone().matmul(e);
            de.push(p.transpose().matmul(self.q.clone()));
        }
        // The targets' part has a row per target, not a matrix per tile.
        let share = self.weights.clone() * (-scale * (1.0 - self.smoothing as f32));
        let rows = self
            .e
            .clone()
            .select(0, self.targets.clone().reshape([n * values]));
        let rows = rows.reshape([n, values, d]) * share.clone().unsqueeze_dim::<3>(2);
        dq = dq + rows.sum_dim(1).squeeze_dim::<2>(1);
        let parts = self.q.clone().unsqueeze_dim::<3>(1) * share.unsqueeze_dim::<3>(2);
        let de = Tensor::cat(de, 0).select_assign(
            0,
            self.targets.clone().reshape([n * values]),
            parts.reshape([n * values, d]),
            IndexingUpdateOp::Add,
        );
        (loss, Some((dq, de)))
    }

    /// `Σ_v t_iv (q_i · e_v)`, from the targets' mean logit and that of all items.
    fn expected(&self, hit: Tensor<2>, mean: Option<Tensor<2>>) -> Tensor<2> {
        match mean {
            None => hit,
            Some(mean) => hit * (1.0 - self.smoothing) + mean * self.smoothing,
        }
    }

    /// `p − t`, both over n.
    fn minus_targets(
        &self,
        p: Tensor<2>,
        targets: Tensor<2, Int>,
        weights: Tensor<2>,
    ) -> Tensor<2> {
        let scale = (self.q.dims()[0] as f64).recip();
        let [_, vocab_size] = p.dims();
        let p = match self.smoothing > 0.0 {
            true => p - self.smoothing * scale / vocab_size as f64,
            false => p,
        };
        let share = weights * (-scale * (1.0 - self.smoothing));
        p.scatter(1, targets, share, IndexingUpdateOp::Add)
    }
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
