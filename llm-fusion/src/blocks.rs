//! A choice of blocks.

use serde::{Deserialize, Serialize};

/// Which blocks of a language model: those that have cross-attention, or those that train.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blocks {
    /// Every block.
    All,
    /// The topmost so many.
    Upper(usize),
    /// These, counted from 0 at the bottom.
    Only(Vec<usize>),
}

impl Blocks {
    /// Whether block `index` of `n_blocks` is one of them.
    pub fn contains(&self, index: usize, n_blocks: usize) -> bool {
        match self {
            Self::All => true,
            Self::Upper(n) => index + n >= n_blocks,
            Self::Only(list) => list.contains(&index),
        }
    }

    /// The lowest of them; `None` if there is none.
    pub fn lowest(&self, n_blocks: usize) -> Option<usize> {
        (0..n_blocks).find(|&index| self.contains(index, n_blocks))
    }
}
