//! Beam search over a trie.

use super::forest::{Branch, TokenForest};
use super::reader::{Normalisation, ReadForest, TokenScores};
use super::trie::{NodeId, TokenTrie};

/// Configuration of [`beam_search`].
#[derive(Clone, Copy, Debug)]
pub struct BeamConfig {
    /// Prefixes kept at every depth. With as many as the trie is wide, the search is exact.
    pub width: usize,
    /// Answers wanted per row.
    pub k: usize,
    /// Over what a token's probability is normalised.
    pub normalisation: Normalisation,
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Which of the trie's sequences.
    pub sequence: usize,
    /// Natural logarithm of its probability.
    pub log_likelihood: f32,
}

/// The `k` likeliest sequences of the trie after each prompt of the forest, best first.
///
/// `excluded[row]` are sequences that are left out of the answer (films already seen); they keep
/// their share of the probability. Rows get fewer than `k` answers only when the beam is narrower
/// or fewer sequences are left. Equal scores are ordered by sequence, so that the answer depends
/// on nothing but its input.
///
/// # Panics
///
/// Panics if `excluded` has not one list per row, or if a score is not a number.
pub fn beam_search(
    reader: &mut impl ReadForest,
    forest: TokenForest,
    trie: &TokenTrie,
    excluded: &[Vec<usize>],
    config: &BeamConfig,
) -> Vec<Vec<Ranked>> {
    let mut forest = forest;
    let batch = forest.batch();
    assert_eq!(
        excluded.len(),
        batch,
        "one list of excluded sequences per row"
    );
    let device = reader.model().device();
    let scores = TokenScores::new(reader.model(), trie, config.normalisation, &device);
    let left_out: Vec<LeftOut> = excluded
        .iter()
        .map(|list| LeftOut::new(trie, list))
        .collect();
    let mut rows: Vec<Beam> = (0..batch).map(|_| Beam::default()).collect();

    // The states after which each row goes on: at first, only the prompt's last.
    let mut growing: Vec<Vec<Prefix>> = vec![vec![Prefix::root()]; batch];
    let step = forest.take(&device);
    let hidden = reader.read(&step);
    let [_, n_new, d_model] = hidden.dims();
    let mut hidden = hidden.slice([0..batch, n_new - 1..n_new, 0..d_model]);

    loop {
        let [_, n_states, d_model] = hidden.dims();
        let host = scores.after(reader.model(), hidden.reshape([batch * n_states, d_model]));
        let mut branches = vec![Vec::new(); batch];
        for (index, prefixes) in growing.iter_mut().enumerate() {
            let mut candidates: Vec<Prefix> = Vec::new();
            for (state, prefix) in prefixes.iter().enumerate() {
                for (node, score) in host.children(trie, index * n_states + state, prefix.node) {
                    assert!(
                        !score.is_nan(),
                        "the language model's scores are not numbers"
                    );
                    if !left_out[index].covers(trie, node) {
                        let score = prefix.score + score;
                        candidates.push(Prefix {
                            node,
                            score,
                            slot: prefix.slot,
                        });
                    }
                }
            }
            candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.node.cmp(&b.node)));
            candidates.truncate(config.width);
            let beam = &mut rows[index];
            *prefixes = candidates
                .into_iter()
                .filter(|prefix| !beam.finish(trie, prefix, config.normalisation))
                .collect();
            // Scores only fall: what is behind the k-th answer already can never pass it.
            let bar = beam.bar(config.k);
            prefixes.retain(|prefix| prefix.score >= bar);
            for (offset, prefix) in prefixes.iter_mut().enumerate() {
                let token = trie.node(prefix.node).token;
                branches[index].push(Branch {
                    token,
                    node: prefix.node,
                    parent: prefix.slot,
                });
                prefix.slot = Some(forest.n_slots() + offset);
            }
        }
        if growing.iter().all(Vec::is_empty) {
            break;
        }
        forest.grow(&branches);
        let step = forest.take(&device);
        hidden = reader.read(&step);
    }
    rows.into_iter().map(|beam| beam.best(config.k)).collect()
}

#[derive(Clone, Copy, Debug)]
struct Prefix {
    node: NodeId,
    score: f32,
    slot: Option<usize>,
}

impl Prefix {
    fn root() -> Self {
        Self {
            node: 0,
            score: 0.0,
            slot: None,
        }
    }
}

#[derive(Debug, Default)]
struct Beam {
    answers: Vec<Ranked>,
}

impl Beam {
    /// Take a prefix over as an answer if nothing that follows can change its score.
    fn finish(&mut self, trie: &TokenTrie, prefix: &Prefix, normalisation: Normalisation) -> bool {
        let is_done = match normalisation {
            Normalisation::Trie => trie.node(prefix.node).is_decided(),
            Normalisation::Vocabulary => trie.node(prefix.node).children.is_empty(),
        };
        if let (true, Some(sequence)) = (is_done, trie.decided(prefix.node)) {
            self.answers.push(Ranked {
                sequence,
                log_likelihood: prefix.score,
            });
        }
        is_done
    }

    fn bar(&mut self, k: usize) -> f32 {
        self.sort();
        self.answers
            .get(k.max(1) - 1)
            .map_or(f32::NEG_INFINITY, |last| last.log_likelihood)
    }

    fn best(mut self, k: usize) -> Vec<Ranked> {
        self.sort();
        self.answers.truncate(k);
        self.answers
    }

    fn sort(&mut self) {
        self.answers.sort_by(|a, b| {
            b.log_likelihood
                .total_cmp(&a.log_likelihood)
                .then(a.sequence.cmp(&b.sequence))
        });
    }
}

/// How many excluded sequences come before each position of the trie's order.
struct LeftOut {
    before: Vec<u32>,
}

impl LeftOut {
    fn new(trie: &TokenTrie, excluded: &[usize]) -> Self {
        let mut is_out = vec![false; trie.n_sequences()];
        for &sequence in excluded {
            is_out[sequence] = true;
        }
        let before = std::iter::once(0)
            .chain(trie.order().iter().scan(0, |count, &sequence| {
                *count += u32::from(is_out[sequence]);
                Some(*count)
            }))
            .collect();
        Self { before }
    }

    /// Whether every sequence under the node is excluded.
    fn covers(&self, trie: &TokenTrie, node: NodeId) -> bool {
        let leaves = &trie.node(node).leaves;
        (self.before[leaves.end] - self.before[leaves.start]) as usize == leaves.len()
    }
}
