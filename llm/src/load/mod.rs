//! Models from files: GGUF, or a Hugging Face folder.
//!
//! Both readers do the same three things: the file's settings become a
//! [`LanguageModelConfig`], its tokenizer a [`Tokenizer`], and its tensors, under burn's names, the
//! parameters of the model. Foreign names end here.

use std::path::Path;

use burn::tensor::Device;

use crate::{Error, LanguageModel, LanguageModelConfig, RopeScaling, Tokenizer};

#[cfg(feature = "gguf")]
mod gguf;
pub(crate) mod hugging_face;
pub(crate) mod weights;

/// A language model with what is needed to talk to it.
#[derive(Debug)]
pub struct LoadedModel {
    /// The model with its weights.
    pub model: LanguageModel,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its sizes.
    pub config: LanguageModelConfig,
    /// Its name: the one in the file, or that of the file or folder.
    pub name: String,
    /// SHA-256 of the weight file, in hexadecimal; of several files, of their bytes in order.
    pub sha256: String,
}

/// Load a model from a `.gguf` file or a Hugging Face folder.
///
/// - GGUF: architectures `llama` (Llama, SmolLM 1 and 2, Mistral), `qwen2`, `qwen3` and `smollm3`,
///   byte-level BPE tokenizers. Tensors of any type that
///   candle reads (F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K and others) are dequantised one at
///   a time. Needs the feature `gguf`.
/// - Folder: `config.json` of model type `llama`, `mistral`, `qwen2`, `qwen3` or `smollm3`,
///   `tokenizer.json`, and
///   `model.safetensors` or the files that `model.safetensors.index.json` names, in F32, F16 or
///   BF16; `tokenizer_config.json`, `generation_config.json` and `chat_template.jinja` if there.
///
/// The weights take the float type that `device` is configured for.
///
/// # Errors
///
/// Whatever is wrong with the files: unreadable, damaged, missing or surplus tensors, values that
/// are not finite, or a model with parts that this crate does not have (rotary positions scaled otherwise than Llama 3's, a
/// sliding window, experts), which would load and give wrong numbers. A window is no hindrance where
/// no text of the model can be longer: Mistral from version 0.2 on has none, its first version has.
pub fn load(path: &Path, device: &Device) -> Result<LoadedModel, Error> {
    let loaded = if path.is_dir() {
        hugging_face::load(path, device)
    } else if is_gguf(path) {
        load_gguf(path, device)
    } else if path.exists() {
        Err(Error::NotAModel { path: path.into() })
    } else {
        Err(Error::Io {
            path: path.into(),
            source: std::io::ErrorKind::NotFound.into(),
        })
    }?;

    tracing::info!(
        name = loaded.name,
        path = %path.display(),
        sha256 = loaded.sha256,
        "language model loaded"
    );
    Ok(loaded)
}

fn is_gguf(path: &Path) -> bool {
    let extension = path.extension();
    path.is_file() && extension.is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

#[cfg(feature = "gguf")]
fn load_gguf(path: &Path, device: &Device) -> Result<LoadedModel, Error> {
    gguf::load(path, device)
}

#[cfg(not(feature = "gguf"))]
fn load_gguf(path: &Path, _device: &Device) -> Result<LoadedModel, Error> {
    Err(Error::Unsupported {
        path: path.into(),
        key: "format".into(),
        found: "GGUF".into(),
        supported: "Hugging Face folders; build the crate `llm` with its feature `gguf`".into(),
    })
}

/// A setting that the model has no part for is refused unless it is this.
pub(crate) fn only(
    path: &Path,
    key: &str,
    found: impl std::fmt::Display,
    supported: &str,
    is_supported: bool,
) -> Result<(), Error> {
    if is_supported {
        return Ok(());
    }
    Err(Error::Unsupported {
        path: path.into(),
        key: key.into(),
        found: found.to_string(),
        supported: supported.into(),
    })
}

/// A larger size is a damaged file's.
const MOST: usize = 1 << 24;

/// Every so-many-th layer of `n_layers`, counted from 0.
fn every(interval: usize, n_layers: usize) -> Vec<usize> {
    let is_one = |at: &usize| (at + 1).is_multiple_of(interval.max(1));
    (0..n_layers.min(MOST)).filter(is_one).collect()
}

/// Sizes that no model can be built with are an error here, where a file is to blame, and a panic
/// in [`LanguageModelConfig::init`].
fn check_sizes(path: &Path, config: &LanguageModelConfig) -> Result<(), Error> {
    let bad = |key: &str, expected: &str, found: String| {
        Err(Error::BadValue {
            path: path.into(),
            key: key.into(),
            expected: expected.into(),
            found,
        })
    };

    let sizes = [
        ("vocabulary size", config.vocab_size),
        ("model width", config.d_model),
        ("number of layers", config.n_layers),
        ("number of heads", config.n_heads),
        ("number of key and value heads", config.n_kv_heads),
        ("head width", config.d_head),
        ("feed-forward width", config.d_ff),
    ];
    for (key, size) in sizes {
        if !(1..=MOST).contains(&size) {
            return bad(
                key,
                "a size of at least 1 and at most 2^24",
                size.to_string(),
            );
        }
    }
    if !config.n_heads.is_multiple_of(config.n_kv_heads) {
        let found = format!("{} for {} heads", config.n_kv_heads, config.n_heads);
        return bad(
            "number of key and value heads",
            "a divisor of the number of heads",
            found,
        );
    }
    if !config.d_head.is_multiple_of(2) {
        return bad("head width", "an even number", config.d_head.to_string());
    }
    for (key, value) in [
        ("rotary base", config.rope_theta),
        ("norm epsilon", config.norm_epsilon),
    ] {
        if !(value > 0.0 && value.is_finite()) {
            return bad(key, "a positive number", value.to_string());
        }
    }
    if let Some(scaling) = config.rope_scaling {
        let RopeScaling {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_context_length: length,
        } = scaling;
        let is_sound = factor >= 1.0 && factor.is_finite() && low > 0.0 && high > low && length > 0;
        if !is_sound {
            let expected = "a factor of at least 1, frequency factors above 0, the low one below the \
                            high one, and a context length";
            return bad("rotary scaling", expected, format!("{scaling:?}"));
        }
    }
    Ok(())
}

/// Tokens that the model has no vector for would be caught by no backend but flex.
fn check_vocabulary(
    path: &Path,
    config: &LanguageModelConfig,
    tokenizer: &Tokenizer,
) -> Result<(), Error> {
    let highest = tokenizer.inner().get_vocab(true).into_values().max();
    let named = tokenizer.stop().iter().copied().chain(tokenizer.bos());
    match highest.into_iter().chain(named).max() {
        Some(id) if id as usize >= config.vocab_size => Err(Error::BadValue {
            path: path.into(),
            key: "highest token id of the tokenizer".into(),
            expected: format!("less than the model's vocabulary of {}", config.vocab_size),
            found: id.to_string(),
        }),
        _ => Ok(()),
    }
}
