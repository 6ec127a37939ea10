//! Ranking a closed set of answers (titles, genres) with a language model.
//!
//! The answers are a [`TokenTrie`]; their likelihoods are searched with a beam
//! ([`beam_search`]) or computed one by one ([`log_likelihoods`]), which checks the beam. Every
//! answer is one of the set by construction, and none comes up twice.

mod beam;
mod exact;
mod forest;
mod reader;
#[cfg(test)]
mod tiny;
mod trie;

pub use beam::{BeamConfig, Ranked, beam_search};
pub use exact::log_likelihoods;
pub use forest::{Branch, ForestStep, TokenForest};
pub use reader::{CachedReader, Normalisation, ReadForest};
pub use trie::{NodeId, TokenTrie, TrieError, TrieNode};
