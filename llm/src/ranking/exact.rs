//! Likelihoods of given sequences, one chain of tokens each.

use super::forest::{Branch, TokenForest};
use super::reader::{Normalisation, ReadForest, TokenScores};
use super::trie::TokenTrie;

/// The log-likelihood of each of `sequences` after each prompt of the forest: `[row][sequence]`.
///
/// Unlike [`beam_search`](super::beam_search), nothing is shared between sequences and nothing is
/// pruned, so it costs the sum of their lengths; for small catalogues, and to check the beam.
pub fn log_likelihoods(
    reader: &mut impl ReadForest,
    forest: TokenForest,
    trie: &TokenTrie,
    sequences: &[usize],
    normalisation: Normalisation,
) -> Vec<Vec<f32>> {
    let mut forest = forest;
    let batch = forest.batch();
    let device = reader.model().device();
    let scores = TokenScores::new(reader.model(), trie, normalisation, &device);
    let paths: Vec<Vec<usize>> = sequences
        .iter()
        .map(|&sequence| trie.path_of(sequence))
        .collect();

    // Chains one after the other: every token but the last of each is read.
    let n_prompt = forest.n_slots();
    let mut chains = Vec::new();
    let mut starts = Vec::new();
    for path in &paths {
        starts.push(n_prompt + chains.len());
        for (depth, &node) in path[..path.len() - 1].iter().enumerate() {
            let parent = (depth > 0).then(|| n_prompt + chains.len() - 1);
            chains.push(Branch {
                token: trie.node(node).token,
                node,
                parent,
            });
        }
    }
    forest.grow(&vec![chains; batch]);
    let step = forest.take(&device);
    let hidden = reader.read(&step);
    let [_, n_slots, d_model] = hidden.dims();
    let host = scores.after(reader.model(), hidden.reshape([batch * n_slots, d_model]));

    let likelihood = |row: usize, path: &[usize], start: usize| -> f32 {
        path.iter()
            .enumerate()
            .map(|(depth, &node)| {
                let state = if depth == 0 {
                    n_prompt - 1
                } else {
                    start + depth - 1
                };
                host.children(trie, row * n_slots + state, trie.node(node).parent)
                    .find_map(|(child, score)| (child == node).then_some(score))
                    .expect("a node is a child of its parent")
            })
            .sum()
    };
    (0..batch)
        .map(|row| {
            paths
                .iter()
                .zip(&starts)
                .map(|(path, &start)| likelihood(row, path, start))
                .collect()
        })
        .collect()
}
