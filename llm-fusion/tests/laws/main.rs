//! What holds for the whole model, whatever its weights are.
//!
//! Every model here is tiny, and its weights are large enough that all that should have an
//! influence has one.

mod saving;
mod tiny;
