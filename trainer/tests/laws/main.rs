//! What training and evaluation promise, on data and models of a size for seconds.
#![recursion_limit = "256"]

mod added_items;
mod checkpoints;
mod data_parallel;
mod evaluation;
mod export;
mod loops;
mod resume;
mod review_text;
mod reviews;
mod run_folder;
mod stores;
mod texts;
mod toy;
