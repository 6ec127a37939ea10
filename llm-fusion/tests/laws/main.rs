//! What holds for the whole model, whatever its weights are.
//!
//! Every model here is tiny, and its weights are large enough that all that should have an
//! influence has one.

mod caching;
mod gates;
mod learning;
mod objective;
mod saving;
mod strategies;
mod tiny;
mod trunk;
mod users;
