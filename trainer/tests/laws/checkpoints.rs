//! Checkpoints are whole or absent.
