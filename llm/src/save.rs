//! Models to files: a Hugging Face folder, which transformers and [`load`](crate::load::load) read.

use std::{fs, io, path::Path};

use burn::{
    module::Module,
    store::{BurnToPyTorchAdapter, ModuleSnapshot, SafetensorsStore},
};
use serde_json::{Value, json};

use crate::{Error, LanguageModel, LanguageModelConfig, Tokenizer, load::hugging_face};

/// Write a model as a Hugging Face folder, its adapters merged into the weights.
///
/// `config.json` of the family whose parts the model has, `model.safetensors` in the precision that
/// the model is in, `generation_config.json`, and the tokenizer's `tokenizer.json`,
/// `tokenizer_config.json` and, if it has one, `chat_template.jinja`.
///
/// # Errors
///
/// If the folder cannot be written, or no family has such a model: biases together with norms of
/// queries and keys, or either with blocks without positions.
pub fn save_hugging_face(
    folder: &Path,
    model: &LanguageModel,
    config: &LanguageModelConfig,
    tokenizer: &Tokenizer,
) -> Result<(), Error> {
    let config_path = folder.join("config.json");
    let config = config_file(&config_path, config, tokenizer)?;
    fs::create_dir_all(folder).map_err(unwritable(folder))?;
    write_json(&config_path, &config)?;
    write_json(
        &folder.join("generation_config.json"),
        &json!({ "bos_token_id": tokenizer.bos(), "eos_token_id": tokenizer.stop() }),
    )?;
    save_tokenizer(folder, tokenizer)?;

    let path = folder.join("model.safetensors");
    // burn's own metadata come in random order; without them equal weights are equal files.
    let mut store = SafetensorsStore::from_file(&path)
        .clear_metadata()
        .metadata("format", "pt")
        .overwrite(true)
        .with_to_adapter(BurnToPyTorchAdapter)
        .remap(hugging_face::to_their_names());
    let merged = model.clone().materialize();
    merged.save_into(&mut store).map_err(unwritable(&path))?;
    as_readable_as(&config_path, &path)
}

fn config_file(
    path: &Path,
    config: &LanguageModelConfig,
    tokenizer: &Tokenizer,
) -> Result<Value, Error> {
    let has_nope = !config.nope_layers.is_empty();
    let (model_type, architecture) = match (config.qkv_bias, config.qk_norm, has_nope) {
        (false, false, false) => ("llama", "LlamaForCausalLM"),
        (true, false, false) => ("qwen2", "Qwen2ForCausalLM"),
        (false, true, false) => ("qwen3", "Qwen3ForCausalLM"),
        (false, false, true) => ("smollm3", "SmolLM3ForCausalLM"),
        _ => {
            return Err(Error::Unsupported {
                path: path.into(),
                key: "model_type".into(),
                found: "a mixture of several families".into(),
                supported: "llama, qwen2, qwen3, smollm3".into(),
            });
        }
    };
    let mut file = json!({
        "model_type": model_type,
        "architectures": [architecture],
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.d_head,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": config.tied_head,
        "attention_bias": false,
        "bos_token_id": tokenizer.bos(),
        "eos_token_id": tokenizer.eos(),
        // Some families have one outside of a small vocabulary unless told otherwise.
        "pad_token_id": null,
        "dtype": "float32",
    });
    if has_nope {
        let has_rope = |at| u8::from(!config.nope_layers.contains(&at));
        file["no_rope_layers"] = (0..config.n_layers).map(has_rope).collect();
    }
    if let Some(scaling) = config.rope_scaling {
        file["rope_scaling"] = json!({
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context_length,
        });
    }
    if let Some(length) = config.context_length {
        file["max_position_embeddings"] = length.into();
    }
    Ok(file)
}

fn save_tokenizer(folder: &Path, tokenizer: &Tokenizer) -> Result<(), Error> {
    let path = folder.join("tokenizer.json");
    let inner = tokenizer.inner();
    let text = inner.to_string(true).map_err(|source| Error::Write {
        path: path.clone(),
        source,
    })?;
    fs::write(&path, text).map_err(unwritable(&path))?;

    let name = |id: Option<u32>| id.and_then(|id| tokenizer.token(id));
    write_json(
        &folder.join("tokenizer_config.json"),
        &json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": name(tokenizer.bos()),
            "eos_token": name(tokenizer.eos()),
            "clean_up_tokenization_spaces": false,
        }),
    )?;
    match tokenizer.chat_template() {
        Some(template) => {
            let path = folder.join("chat_template.jinja");
            fs::write(&path, template.source()).map_err(unwritable(&path))
        }
        None => Ok(()),
    }
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from);
    let written = text.and_then(|text| fs::write(path, text + "\n"));
    written.map_err(unwritable(path))
}

/// Weights are written as private files: let others read them as they may read `other`.
pub(crate) fn as_readable_as(other: &Path, path: &Path) -> Result<(), Error> {
    let permissions = std::fs::metadata(other).map_err(unwritable(other))?;
    std::fs::set_permissions(path, permissions.permissions()).map_err(unwritable(path))
}

pub(crate) fn unwritable<E>(path: &Path) -> impl FnOnce(E) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| Error::Write {
        path: path.into(),
        source: Box::new(source),
    }
}
