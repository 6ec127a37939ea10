//! Folders as Hugging Face and sentence-transformers have them. Foreign names end here.

use std::fs;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::{
    FloatCastAdapter, KeyRemapper, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter,
    SafetensorsStore,
};
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use crate::{Bert, BertConfig, Error, MAX_TOKENS, TextEncoder};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
/// How sentence-transformers makes one vector of a text's many, where it says so.
const POOLING: &str = "1_Pooling/config.json";

/// Hugging Face's tensor names and ours, tried from top to bottom.
///
/// `encoder.layer.3.attention.self.query.weight` → `blocks.layers.3.mha.query.weight`
const NAMES: &[(&str, &str)] = &[
    (r"^bert\.", ""),
    (r"^embeddings\.word_embeddings\.", "tokens."),
    (r"^embeddings\.position_embeddings\.", "positions."),
    (r"^embeddings\.token_type_embeddings\.", "types."),
    (r"^embeddings\.LayerNorm\.", "norm."),
    (r"^encoder\.layer\.", "blocks.layers."),
    (r"\.attention\.self\.", ".mha."),
    (r"\.attention\.output\.dense\.", ".mha.output."),
    (r"\.attention\.output\.LayerNorm\.", ".norm_1."),
    (r"\.intermediate\.dense\.", ".pwff.linear_inner."),
    (r"\.output\.dense\.", ".pwff.linear_outer."),
    (r"\.output\.LayerNorm\.", ".norm_2."),
];

/// What else a file has: the head of BERT's own training, and numbers from 0 on.
const NOT_READ: &[&str] = &["pooler.", "embeddings.position_ids", "cls."];

/// What matters in `config.json`.
#[derive(Deserialize)]
struct ConfigFile {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

fn absolute() -> String {
    "absolute".into()
}

#[derive(Deserialize)]
struct PoolingFile {
    pooling_mode_mean_tokens: bool,
}

impl TextEncoder {
    /// Read `config.json`, `tokenizer.json` and `model.safetensors` of a folder. Texts are cut at
    /// [`MAX_TOKENS`].
    ///
    /// # Errors
    ///
    /// If a file cannot be read or is damaged, or the model is no BERT, or one whose vectors are
    /// not means.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, Error> {
        let config = config(folder)?;
        let tokenizer = tokenizer(folder, &config)?;
        let bert = weights(&folder.join(WEIGHTS), &config, device)?;
        tracing::info!(path = %folder.display(), d_model = bert.d_model(), "text encoder loaded");
        Self::new(bert, tokenizer, MAX_TOKENS.min(config.max_length))
    }
}

/// SHA-256 of everything in a folder that decides what vectors texts have, in hexadecimal.
///
/// # Errors
///
/// If a file cannot be read.
pub fn fingerprint(folder: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    for name in [CONFIG, TOKENIZER, WEIGHTS] {
        hash.update(Sha256::digest(read(&folder.join(name))?));
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn config(folder: &Path) -> Result<BertConfig, Error> {
    let path = folder.join(CONFIG);
    let file: ConfigFile = read_json(&path)?;
    let only = |path: &Path, key, found: String, expected: &str, is_so: bool| match is_so {
        true => Ok(()),
        false => Err(Error::Unsupported {
            path: path.into(),
            key,
            found,
            expected: expected.into(),
        }),
    };
    let is = |key, found: &str, expected: &str| {
        only(&path, key, found.into(), expected, found == expected)
    };
    is("model_type", &file.model_type, "bert")?;
    is("hidden_act", &file.hidden_act, "gelu")?;
    is(
        "position_embedding_type",
        &file.position_embedding_type,
        "absolute",
    )?;
    let (width, heads) = (file.hidden_size, file.num_attention_heads);
    let fits = heads > 0 && width.is_multiple_of(heads);
    let divisor = format!("a divisor of `hidden_size` = {width}");
    only(
        &path,
        "num_attention_heads",
        heads.to_string(),
        &divisor,
        fits,
    )?;

    let path = folder.join(POOLING);
    if path.exists() {
        let is_mean = read_json::<PoolingFile>(&path)?.pooling_mode_mean_tokens;
        only(
            &path,
            "pooling_mode_mean_tokens",
            "false".into(),
            "true",
            is_mean,
        )?;
    }
    Ok(BertConfig {
        vocab_size: file.vocab_size,
        d_model: width,
        n_layers: file.num_hidden_layers,
        n_heads: heads,
        d_ff: file.intermediate_size,
        max_length: file.max_position_embeddings,
        n_types: file.type_vocab_size,
        norm_epsilon: file.layer_norm_eps,
    })
}

fn tokenizer(folder: &Path, config: &BertConfig) -> Result<Tokenizer, Error> {
    let path = folder.join(TOKENIZER);
    let tokenizer = Tokenizer::from_bytes(read(&path)?).map_err(|source| Error::Malformed {
        path: path.clone(),
        format: "tokenizer",
        source,
    })?;
    // Tokens that the model has no vector for would be caught by no backend but flex.
    match tokenizer.get_vocab(true).into_values().max() {
        Some(highest) if highest as usize >= config.vocab_size => Err(Error::Unsupported {
            path,
            key: "highest token id",
            found: highest.to_string(),
            expected: format!("less than `vocab_size` = {}", config.vocab_size),
        }),
        _ => Ok(tokenizer),
    }
}

fn weights(path: &Path, config: &BertConfig, device: &Device) -> Result<Bert, Error> {
    let refuse = |reason: String| Error::Weights {
        path: path.into(),
        reason,
    };
    let names = KeyRemapper::from_patterns(NAMES.to_vec()).expect("our patterns are valid");
    let float: DType = device.settings().float_dtype.into();
    let mut store = SafetensorsStore::from_file(path)
        .remap(names)
        .with_from_adapter(PyTorchToBurnAdapter.chain(FloatCastAdapter::to(float)))
        .validate(false)
        .allow_partial(true);
    let mut bert = config.init(device);
    let result = bert
        .load_from(&mut store)
        .map_err(|error| refuse(error.to_string()))?;
    if let Some((name, _)) = result.missing.first() {
        return Err(refuse(format!(
            "`{name}` and {} more are missing",
            result.missing.len() - 1
        )));
    }
    if let Some(error) = result.errors.first() {
        return Err(refuse(error.to_string()));
    }
    let is_known = |name: &&String| NOT_READ.iter().any(|known| name.starts_with(known));
    if let Some(name) = result.unused.iter().find(|name| !is_known(name)) {
        return Err(refuse(format!("`{name}` is no part of it")));
    }
    let mut finite = Finite(true);
    bert.visit(&mut finite);
    match finite.0 {
        true => Ok(bert),
        false => Err(refuse("some values are not finite numbers".into())),
    }
}

/// One weight that is not a number makes every vector so, far from its cause.
struct Finite(bool);

impl ModuleVisitor for Finite {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 &= param.val().is_finite().all().into_scalar::<bool>();
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Io {
        path: path.into(),
        source,
    })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_json::from_slice(&read(path)?).map_err(|source| Error::Malformed {
        path: path.into(),
        format: "JSON",
        source: Box::new(source),
    })
}
