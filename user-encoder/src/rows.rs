//! The softmax of rows that lie in the host's memory.
//!
//! burn's CPU backend calls the C library's exponential number by number, in a pass over the whole
//! tensor, and has more passes for the rest. Here a row is finished while it is in cache, and its
//! exponentials are a handful of products and sums that the compiler makes vector instructions of:
//! the widest that the machine has, chosen at run time.

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};
use pulp::{Arch, Simd, WithSimd};

/// Softmax of each row, and the logarithm of what its exponentials were divided by.
///
/// # Shapes
///
/// - logits: `[n, m]`
/// - outputs: `[n, m]` and `[n, 1]`
pub(crate) fn softmax_rows(logits: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    match is_on_host(&logits) {
        true => softmax_rows_on_host(logits),
        false => softmax_rows_by_steps(logits),
    }
}

fn softmax_rows_on_host(logits: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let ([n, width], device) = (logits.dims(), logits.device());
    let (softmax, normalisers) = in_place(logits, |rows| {
        let seen = |_| 0..width;
        Arch::new().dispatch(Softmax { rows, width, seen })
    });
    let normalisers = TensorData::new(normalisers, [n, 1]);
    (softmax, Tensor::from_data(normalisers, &device))
}

fn softmax_rows_by_steps(logits: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let most = logits.clone().max_dim(1);
    let exponentials = (logits - most.clone()).exp();
    let sum = exponentials.clone().sum_dim(1);
    (exponentials / sum.clone(), sum.log() + most)
}

/// Softmax over what each row sees, one run of its elements; the others become 0.
///
/// # Panics
///
/// Panics if the scores are not [on the host](is_on_host), or a row sees what it does not have.
pub(crate) fn softmax_seen<const D: usize>(
    scores: Tensor<D>,
    seen: impl Fn(usize) -> Range<usize>,
) -> Tensor<D> {
    let width = scores.dims()[D - 1];
    let softmax = |rows: &mut [f32]| Arch::new().dispatch(Softmax { rows, width, seen });
    in_place(scores, softmax).0
}

/// Whether a tensor is 32 bits wide, in the host's memory, and followed by no gradient: its
/// numbers can be changed where they are.
pub(crate) fn is_on_host<const D: usize>(tensor: &Tensor<D>) -> bool {
    is_host(&tensor.device()) && !tensor.device().is_autodiff() && tensor.dtype() == DType::F32
}

/// Whether a device is burn's own CPU backend, whose tensors are in the host's memory.
pub(crate) fn is_host(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    let host = Some(Device::flex());
    #[cfg(not(feature = "flex"))]
    let host = None;
    host.as_ref() == Some(device)
}

/// A tensor with its numbers changed, and what the change gives; copied where others hold it, too.
fn in_place<const D: usize, T>(
    tensor: Tensor<D>,
    change: impl FnOnce(&mut [f32]) -> T,
) -> (Tensor<D>, T) {
    let device = tensor.device();
    let mut data = tensor.into_data();
    let given = change(data.as_mut_slice().expect("numbers of 32 bits"));
    (Tensor::from_data(data, &device), given)
}

/// Makes the softmax of rows of `width` elements, each over the run of them that it sees, and gives
/// the logarithm of each row's normaliser.
struct Softmax<'a, F> {
    rows: &'a mut [f32],
    width: usize,
    seen: F,
}

impl<F: Fn(usize) -> Range<usize>> WithSimd for Softmax<'_, F> {
    type Output = Vec<f32>;

    /// Inlined with all that it calls, so that it is compiled once for each set of instructions.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f32> {
        let mut normalisers = Vec::with_capacity(self.rows.len() / self.width);
        // A loop: what iterators are given as closures is compiled apart, without these
        // instructions.
        for (at, row) in self.rows.chunks_exact_mut(self.width).enumerate() {
            let Range { start, end } = (self.seen)(at);
            row[..start].fill(0.0);
            row[end..].fill(0.0);
            normalisers.push(softmax(&mut row[start..end]));
        }
        normalisers
    }
}

#[inline(always)]
fn softmax(row: &mut [f32]) -> f32 {
    let most = fold(row, f32::NEG_INFINITY, higher);
    for x in row.iter_mut() {
        *x = exp(*x - most);
    }
    let sum = fold(row, 0.0, plus);
    let part = 1.0 / sum;
    for x in row.iter_mut() {
        *x *= part;
    }
    sum.ln() + most
}

#[inline(always)]
fn higher(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn plus(a: f32, b: f32) -> f32 {
    a + b
}

/// Elements that are folded side by side: the order of a sum is the same on every machine.
const LANES: usize = 16;

#[inline(always)]
fn fold(row: &[f32], start: f32, by: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for elements in whole {
        for (lane, &x) in lanes.iter_mut().zip(elements) {
            *lane = by(*lane, x);
        }
    }
    let mut all = start;
    for &x in lanes.iter().chain(rest) {
        all = by(all, x);
    }
    all
}

/// `e^x` to 1e-7 of its value, for x up to 88; 0 from −87 down, and no number of no number.
///
/// `e^x = 2^n e^r` with `r` within half of `ln 2`, where Cephes' polynomial (`expf.c`) holds.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Beside it a float has no room for fractions: a sum with it is rounded to whole numbers,
    // which stand in its last bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first so short that its products with n are exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4 * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_6e-1;
    let p = p * r + 0.5;
    let e_r = p * (r * r) + r + 1.0;
    let two_n = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1_f32.to_bits()));
    if x < -87.0 { 0.0 } else { e_r * two_n }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};

    #[test]
    fn the_exponential_is_right_to_a_ten_millionth() {
        let mut x = -87_f32;
        while x < 88.0 {
            let right = f64::from(x).exp();
            let error = (f64::from(exp(x)) - right).abs() / right;
            assert!(error < 1e-7, "e^{x}: {error:e} off");
            x += 1e-3;
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn rows_on_the_host_are_those_of_burn_s_operations() {
        let device = Device::flex();
        device.seed(4);
        for width in [1, 15, 16, 203] {
            let logits =
                Tensor::<2>::random([7, width], Distribution::Normal(0.0, 9.0), &device) + 50.0;
            let (softmax, normaliser) = softmax_rows_on_host(logits.clone());
            let (expected, expected_normaliser) = softmax_rows_by_steps(logits);
            softmax
                .into_data()
                .assert_approx_eq(&expected.into_data(), Tolerance::<f32>::absolute(1e-6));
            normaliser.into_data().assert_approx_eq(
                &expected_normaliser.into_data(),
                Tolerance::<f32>::absolute(1e-5),
            );
        }
    }

    #[test]
    fn what_is_not_seen_has_no_part_and_no_weight() {
        let device = Device::flex();
        let scores = [[5.0, 1.0, 1.0, 9.0], [0.0, f32::NAN, 3.0, 3.0]];
        let seen = [1..3, 2..4];
        let weights = softmax_seen(Tensor::<2>::from_data(scores, &device), |at| {
            seen[at].clone()
        });
        let expected = [[0.0, 0.5, 0.5, 0.0], [0.0, 0.0, 0.5, 0.5]];
        let expected = Tensor::<2>::from_data(expected, &device).into_data();
        weights.into_data().assert_eq(&expected, true);
    }

    #[test]
    fn a_logit_that_is_no_number_makes_its_row_none_and_no_other() {
        let logits = Tensor::<2>::from_data([[1.0, f32::NAN], [1.0, 1.0]], &Device::flex());
        let (softmax, normaliser) = softmax_rows_on_host(logits);
        let is_nan = |tensor: Tensor<2>| -> Vec<bool> {
            let values = tensor.into_data();
            values.iter::<f32>().map(f32::is_nan).collect()
        };
        assert_eq!(is_nan(softmax), [true, true, false, false]);
        assert_eq!(is_nan(normaliser), [true, false]);
    }
}
