//! What sentence-transformers says of texts, and what is said of folders that are none.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use datasets::assets::{AssetStore, default_cache_dir, find};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Deserialize;
use tempfile::TempDir;
use text_encoder::{Error, TextEncoder, fingerprint};

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn expected(path: &Path) -> Expected {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn tiny() -> TextEncoder {
    TextEncoder::load(&fixture("tiny-bert"), &Device::flex()).unwrap()
}

/// The largest difference between the first components of the vectors and those expected.
fn distance(encoder: &TextEncoder, expected: &Expected) -> f32 {
    let vectors = encoder.encode(&expected.texts).unwrap();
    let shape = [expected.texts.len(), expected.vectors[0].len()];
    let reference = TensorData::new(expected.vectors.concat(), shape);
    let reference = Tensor::<2>::from_data(reference, &vectors.device());
    let difference = vectors.slice([0..shape[0], 0..shape[1]]) - reference;
    difference.abs().max().into_scalar()
}

#[test]
fn vectors_are_sentence_transformers_own() {
    let distance = distance(&tiny(), &expected(&fixture("tiny-bert/expected.json")));
    assert!(distance < 1e-5, "{distance}");
}

#[test]
#[expect(clippy::print_stderr, reason = "says that it is skipped")]
fn all_minilm_l6_v2_gives_its_own_vectors() {
    let store = AssetStore::new(default_cache_dir(|name| std::env::var_os(name)));
    let given = std::env::var_os("USER_LLM_MINILM").map(PathBuf::from);
    let folder = match store.fetch(find("all-minilm-l6-v2").unwrap(), given.as_deref()) {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            assert!(std::env::var("CI").as_deref() != Ok("true"), "not in CI");
            return;
        }
    };
    let encoder = TextEncoder::load(&folder, &Device::flex()).unwrap();
    assert_eq!(encoder.d_model(), 384);
    let distance = distance(&encoder, &expected(&fixture("all-minilm-l6-v2.json")));
    assert!(distance < 1e-4, "{distance}");
}

#[test]
fn a_text_has_the_same_vector_of_length_1_in_any_company() {
    let encoder = tiny();
    let texts = expected(&fixture("tiny-bert/expected.json")).texts;
    // More than one batch, lengths mixed.
    let many: Vec<&String> = texts.iter().cycle().take(75).collect();
    let together = encoder.encode(&many).unwrap();
    let lengths = together.clone().square().sum_dim(1).sqrt();
    let off: f32 = (lengths - 1.0).abs().max().into_scalar();
    assert!(off < 1e-5, "{off}");
    for (at, text) in many.iter().enumerate() {
        let alone = encoder.encode(&[text]).unwrap();
        let difference = together.clone().slice(at..at + 1) - alone;
        let distance: f32 = difference.abs().max().into_scalar();
        assert!(distance < 1e-5, "text {at}: {distance}");
    }
}

/// A copy of the tiny model, to be damaged.
fn copy() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(fixture("tiny-bert").join(name), copy.path().join(name)).unwrap();
    }
    copy
}

fn error(folder: &Path) -> String {
    let error: Error = TextEncoder::load(folder, &Device::flex()).unwrap_err();
    error.to_string()
}

#[test]
fn models_that_would_load_and_give_wrong_vectors_are_refused() {
    for (from, to, expected) in [
        (
            "\"gelu\"",
            "\"relu\"",
            "`hidden_act` is relu, expected gelu",
        ),
        (
            "\"bert\"",
            "\"mpnet\"",
            "`model_type` is mpnet, expected bert",
        ),
        (
            "\"num_attention_heads\": 3",
            "\"num_attention_heads\": 5",
            "`num_attention_heads` is 5, expected a divisor of `hidden_size` = 24",
        ),
        (
            "\"vocab_size\": 28",
            "\"vocab_size\": 20",
            "less than `vocab_size` = 20",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 3",
            "are missing",
        ),
        (
            "\"num_hidden_layers\": 2",
            "\"num_hidden_layers\": 1",
            "is no part of it",
        ),
        (
            "\"intermediate_size\": 40",
            "\"intermediate_size\": 41",
            "Shape mismatch",
        ),
    ] {
        let folder = copy();
        let path = folder.path().join("config.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        fs::write(&path, text.replace(from, to)).unwrap();
        let message = error(folder.path());
        assert!(message.contains(expected), "{to}: {message}");
    }

    let folder = copy();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    let pooling = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    fs::write(folder.path().join("1_Pooling/config.json"), pooling).unwrap();
    assert!(error(folder.path()).contains("`pooling_mode_mean_tokens` is false"));
}

#[test]
fn files_that_are_missing_or_damaged_are_named() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let folder = copy();
        let path = folder.path().join(name);
        fs::write(&path, "{").unwrap();
        assert!(
            error(folder.path()).contains(name),
            "{}",
            error(folder.path())
        );
        fs::remove_file(&path).unwrap();
        assert!(
            error(folder.path()).contains(name),
            "{}",
            error(folder.path())
        );
    }
}

#[test]
fn a_weight_that_is_no_number_is_refused() {
    let folder = copy();
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let name = "encoder.layer.1.output.dense.bias";
    let damaged: Vec<u8> = [f32::NAN; 24]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let tensors = tensors.tensors().into_iter().map(|(found, view)| {
        let is_it = found == name;
        let damaged = || TensorView::new(Dtype::F32, vec![24], &damaged).unwrap();
        (found, if is_it { damaged() } else { view })
    });
    let tensors: Vec<_> = tensors.collect();
    safetensors::serialize_to_file(tensors, None, &path).unwrap();
    assert!(error(folder.path()).contains("not finite numbers"));
}

#[test]
fn a_fingerprint_is_of_all_that_decides_the_vectors() {
    let whole = copy();
    let before = fingerprint(whole.path()).unwrap();
    assert_eq!(
        (before.len(), &before),
        (64, &fingerprint(&fixture("tiny-bert")).unwrap())
    );
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let folder = copy();
        let path = folder.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes.push(b' ');
        fs::write(&path, bytes).unwrap();
        assert_ne!(fingerprint(folder.path()).unwrap(), before, "{name}");
    }
}
