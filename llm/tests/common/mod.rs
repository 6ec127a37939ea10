//! What several tests need: the tiny models that `scripts/generate_llm_fixtures.py` made, and
//! copies of them to be damaged.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::{Device, Int, Tensor, TensorData};
use llm::load::{LoadedModel, load};
use serde::Deserialize;
use tempfile::TempDir;

/// The tiny models, by the names of their folders.
pub(crate) const TINY: [&str; 6] = [
    "tiny-llama",
    "tiny-llama3",
    "tiny-mistral",
    "tiny-qwen2",
    "tiny-qwen3",
    "tiny-smollm3",
];

/// What transformers says of a tiny model.
#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) messages: Vec<llm::Message>,
    pub(crate) chat: String,
    pub(crate) greedy: Vec<u32>,
    pub(crate) logits: Vec<Vec<f32>>,
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

pub(crate) fn tiny(name: &str) -> LoadedModel {
    load(&fixture(name), &Device::flex()).unwrap()
}

pub(crate) fn expected(name: &str) -> Expected {
    let text = fs::read_to_string(fixture(name).join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A copy of a tiny model's folder.
pub(crate) fn copy(name: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// `[1, tokens]`
pub(crate) fn tokens(ids: &[u32], device: &Device) -> Tensor<2, Int> {
    let row: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    Tensor::from_data(TensorData::new(row, [1, ids.len()]), device)
}

/// The largest difference between two tensors' values.
pub(crate) fn distance<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    (a - b).abs().max().into_scalar::<f32>()
}
