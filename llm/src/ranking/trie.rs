//! A trie of the only answers that are allowed.

use std::ops::Range;

use thiserror::Error;

/// Position of a node in its [`TokenTrie`]; 0 is the root.
pub type NodeId = usize;

/// A prefix that at least one sequence has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrieNode {
    /// Last token of the prefix; the root has none and holds the end token.
    pub token: u32,
    /// The prefix without its last token.
    pub parent: NodeId,
    /// Number of tokens of the prefix.
    pub depth: usize,
    /// The prefixes that are one token longer.
    pub children: Range<NodeId>,
    /// The sequences with this prefix, as positions in [`TokenTrie::order`].
    pub leaves: Range<usize>,
}

impl TrieNode {
    /// Whether one sequence only has this prefix, so that nothing is left to choose.
    pub fn is_decided(&self) -> bool {
        self.leaves.len() == 1
    }
}

/// Token sequences (titles, genres) by shared prefixes, each closed by an end token.
///
/// A path from the root to a leaf is a sequence and nothing else is, so whatever a search over it
/// answers is one of them, and no sequence comes up twice.
///
/// ```
/// use llm::ranking::TokenTrie;
///
/// // "Alien" and "Aliens" share their first token; the end token 0 tells them apart.
/// let trie = TokenTrie::new(&[vec![5], vec![5, 6], vec![7, 8]], 0)?;
/// assert_eq!(trie.node(0).children.len(), 2);
/// assert_eq!(trie.path_of(1).len(), 3);
/// # Ok::<(), llm::ranking::TrieError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenTrie {
    nodes: Vec<TrieNode>,
    order: Vec<usize>,
    ends: Vec<NodeId>,
    alphabet: Vec<u32>,
    symbols: Vec<usize>,
}

/// Why sequences make no trie.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TrieError {
    /// There is nothing to choose from.
    #[error("a trie needs at least one sequence")]
    Nothing,
    /// A sequence without tokens cannot be told from the end.
    #[error("sequence {0} has no tokens")]
    Empty(usize),
    /// Two sequences are the same.
    #[error("sequences {0} and {1} have the same tokens; make their texts differ")]
    Duplicate(usize, usize),
    /// The end token occurs inside a sequence.
    #[error("sequence {0} contains the end token {1}")]
    EndInside(usize, u32),
}

impl TokenTrie {
    /// Build the trie of `sequences`, closing each with the token `end`.
    ///
    /// # Errors
    ///
    /// Refuses no sequences at all, empty and equal ones, and the end token inside of one.
    pub fn new(sequences: &[Vec<u32>], end: u32) -> Result<Self, TrieError> {
        if sequences.is_empty() {
            return Err(TrieError::Nothing);
        }
        for (index, sequence) in sequences.iter().enumerate() {
            if sequence.is_empty() {
                return Err(TrieError::Empty(index));
            }
            if sequence.contains(&end) {
                return Err(TrieError::EndInside(index, end));
            }
        }
        let closed: Vec<Vec<u32>> = sequences
            .iter()
            .map(|s| s.iter().copied().chain([end]).collect())
            .collect();
        let mut order: Vec<usize> = (0..closed.len()).collect();
        order.sort_by(|&a, &b| closed[a].cmp(&closed[b]));
        for pair in order.windows(2) {
            if closed[pair[0]] == closed[pair[1]] {
                return Err(TrieError::Duplicate(
                    pair[0].min(pair[1]),
                    pair[0].max(pair[1]),
                ));
            }
        }

        // Breadth first, so that the children of a node stand together. In sorted order, so do
        // the sequences that share a prefix.
        let mut nodes = vec![TrieNode {
            token: end,
            parent: 0,
            depth: 0,
            children: 0..0,
            leaves: 0..order.len(),
        }];
        let mut ends = vec![0; order.len()];
        let mut next = 0;
        while next < nodes.len() {
            let (depth, leaves) = (nodes[next].depth, nodes[next].leaves.clone());
            let first_child = nodes.len();
            let mut start = leaves.start;
            while start < leaves.end {
                let Some(&token) = closed[order[start]].get(depth) else {
                    ends[order[start]] = next;
                    break;
                };
                let same = order[start..leaves.end]
                    .iter()
                    .take_while(|&&sequence| closed[sequence][depth] == token)
                    .count();
                nodes.push(TrieNode {
                    token,
                    parent: next,
                    depth: depth + 1,
                    children: 0..0,
                    leaves: start..start + same,
                });
                start += same;
            }
            nodes[next].children = first_child..nodes.len();
            next += 1;
        }

        let mut alphabet: Vec<u32> = nodes[1..].iter().map(|node| node.token).collect();
        alphabet.sort_unstable();
        alphabet.dedup();
        let symbols = nodes
            .iter()
            .map(|node| alphabet.binary_search(&node.token).unwrap_or(0))
            .collect();
        Ok(Self {
            nodes,
            order,
            ends,
            alphabet,
            symbols,
        })
    }

    /// Number of sequences.
    pub fn n_sequences(&self) -> usize {
        self.order.len()
    }

    /// Number of nodes, the root included.
    pub fn n_nodes(&self) -> usize {
        self.nodes.len()
    }

    /// One node.
    ///
    /// # Panics
    ///
    /// Panics if there is no such node.
    pub fn node(&self, id: NodeId) -> &TrieNode {
        &self.nodes[id]
    }

    /// The sequences, sorted; what [`TrieNode::leaves`] points into.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The distinct tokens of the trie, ascending: a model has to score no others.
    pub fn alphabet(&self) -> &[u32] {
        &self.alphabet
    }

    /// Position of a node's token in [`alphabet`](Self::alphabet).
    pub fn symbol(&self, id: NodeId) -> usize {
        self.symbols[id]
    }

    /// The one sequence with this prefix, if it is decided.
    pub fn decided(&self, id: NodeId) -> Option<usize> {
        let node = &self.nodes[id];
        node.is_decided().then(|| self.order[node.leaves.start])
    }

    /// The nodes of a sequence, from its first token to its end token.
    pub fn path_of(&self, sequence: usize) -> Vec<NodeId> {
        let mut path = Vec::new();
        let mut node = self.ends[sequence];
        while node != 0 {
            path.push(node);
            node = self.nodes[node].parent;
        }
        path.reverse();
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trie() -> TokenTrie {
        TokenTrie::new(
            &[
                vec![7, 8],
                vec![5],
                vec![5, 6],
                vec![7, 8, 9],
                vec![5, 6, 4],
            ],
            0,
        )
        .expect("the sequences differ")
    }

    #[test]
    fn every_sequence_is_a_path_and_every_leaf_a_sequence() {
        let trie = trie();
        let tokens = |sequence| -> Vec<u32> {
            trie.path_of(sequence)
                .into_iter()
                .map(|node| trie.node(node).token)
                .collect()
        };
        assert_eq!(tokens(0), [7, 8, 0]);
        assert_eq!(tokens(1), [5, 0]);
        assert_eq!(tokens(4), [5, 6, 4, 0]);
        let leaves = (0..trie.n_nodes()).filter(|&node| trie.node(node).children.is_empty());
        assert_eq!(leaves.count(), trie.n_sequences());
    }

    #[test]
    fn a_prefix_is_decided_when_one_sequence_has_it() {
        let trie = trie();
        let seven = trie
            .node(0)
            .children
            .clone()
            .find(|&id| trie.node(id).token == 7);
        let seven = seven.expect("two sequences begin with 7");
        assert_eq!(trie.decided(seven), None);
        assert_eq!(
            trie.decided(*trie.path_of(4).last().expect("not empty")),
            Some(4)
        );
    }

    #[test]
    fn children_share_their_parent_s_leaves_out_among_them() {
        let trie = trie();
        for id in 0..trie.n_nodes() {
            let node = trie.node(id);
            let shared: usize = node
                .children
                .clone()
                .map(|child| trie.node(child).leaves.len())
                .sum();
            assert!(node.children.is_empty() || shared == node.leaves.len());
            assert!(
                node.children
                    .clone()
                    .all(|child| trie.node(child).parent == id)
            );
        }
    }

    #[test]
    fn what_makes_no_trie_is_refused() {
        assert_eq!(TokenTrie::new(&[], 0).unwrap_err(), TrieError::Nothing);
        assert_eq!(
            TokenTrie::new(&[vec![1], vec![]], 0).unwrap_err(),
            TrieError::Empty(1)
        );
        assert_eq!(
            TokenTrie::new(&[vec![1], vec![2], vec![1]], 0).unwrap_err(),
            TrieError::Duplicate(0, 2)
        );
        assert_eq!(
            TokenTrie::new(&[vec![1, 0]], 0).unwrap_err(),
            TrieError::EndInside(0, 0)
        );
    }
}
