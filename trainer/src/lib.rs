//! Training and evaluation of User-LLM: the one place where data becomes tensors.
//!
//! Read in this order: [`RunConfig`] (one run, one file), [`Prepared`] (data, split and batcher),
//! [`pretrain`] and [`tune`] (the two stages, both through [`train()`]), [`evaluate`] (the
//! contenders' table), [`recommend`] (anybody's next items), [`embed`] (their vectors),
//! [`efficiency`] (what a prompt costs), [`RunFolder`] (what a run leaves), [`ablate`] (many runs
//! that differ in a few keys), [`export()`] (files for others).
#![recursion_limit = "256"]

pub mod ablate;
mod added_items;
pub mod backend;
mod checkpoint;
mod clock;
mod config;
mod data_parallel;
mod dual;
pub mod efficiency;
pub mod embed;

mod error;
pub mod evaluate;
mod events;
mod export;
mod files;
mod lazy_adamw;
pub mod metrics;
mod monitor;
pub mod page;
pub mod plain_text;
pub mod plots;
mod prepared;
mod pretrain;
mod prompts;
pub mod ranking;
pub mod recommend;
pub mod report;
pub mod results;
pub mod review_writing;
mod run_folder;
pub mod sources;
pub mod texts;

mod tasks;
mod tensorboard;
mod train;
mod tune;
mod windows;
mod workers;

pub use checkpoint::{Checkpoint, Checkpoints};
pub use config::{
    DataConfig, EncoderInit, EvaluationConfig, LanguageSections, LlmConfig, ModalityKind,
    ObjectiveConfig, Precision, PromptConfig, ReviewConfig, ReviewTarget, RunConfig, SummaryConfig,
    TextEncoderConfig, TrainingConfig, TuningConfig,
};
pub use dual::pretrain_dual;
pub use error::Error;
pub use events::EventBatcher;
pub use export::{Exported, export};
pub use lazy_adamw::SparseTable;
pub use monitor::{Dashboard, Monitor, Silent, Terminal};
pub use prepared::Prepared;
pub use pretrain::pretrain;
pub use prompts::{AnswerTemplate, Answers};
pub use run_folder::RunFolder;

pub use tasks::{Task, Tasks};
pub use train::{Objective, Outcome, Session, Stage, train};
pub use tune::tune;

// The unit tests share the toy data of tests/laws, which names this crate from outside.
#[cfg(test)]
extern crate self as trainer;
#[cfg(test)]
#[allow(dead_code, reason = "what the laws alone use")]
#[path = "../tests/laws/toy.rs"]
mod toy;
