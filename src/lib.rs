//! User-LLM on burn.
