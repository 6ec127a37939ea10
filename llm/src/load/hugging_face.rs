use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use burn::{
    store::{KeyRemapper, ModuleStore, SafetensorsStore},
    tensor::Device,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{LoadedModel, check_sizes, check_vocabulary, every, only, weights};
use crate::{ChatTemplate, Error, LanguageModelConfig, RopeScaling, Tokenizer};

/// Model types whose arithmetic is this crate's.
const MODEL_TYPES: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "smollm3"];

/// The same with a language model's head, and not a classifier's.
const ARCHITECTURES: &[&str] = &[
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "SmolLM3ForCausalLM",
];

/// Hugging Face's tensor names and ours, tried from top to bottom.
///
/// `model.layers.3.self_attn.q_proj.weight` → `blocks.3.attention.query.weight`
pub(crate) const NAMES: &[(&str, &str)] = &[
    (r"^model\.embed_tokens\.", "embedding."),
    (r"^model\.norm\.", "norm."),
    (r"^lm_head\.", "head."),
    (r"^model\.layers\.", "blocks."),
    (r"\.input_layernorm\.", ".attention_norm."),
    (r"\.self_attn\.q_proj\.", ".attention.query."),
    (r"\.self_attn\.k_proj\.", ".attention.key."),
    (r"\.self_attn\.v_proj\.", ".attention.value."),
    (r"\.self_attn\.o_proj\.", ".attention.output."),
    (r"\.self_attn\.q_norm\.", ".attention.query_norm."),
    (r"\.self_attn\.k_norm\.", ".attention.key_norm."),
    (r"\.post_attention_layernorm\.", ".feed_forward_norm."),
    (r"\.mlp\.gate_proj\.", ".feed_forward.gate."),
    (r"\.mlp\.up_proj\.", ".feed_forward.up."),
    (r"\.mlp\.down_proj\.", ".feed_forward.down."),
];

/// [`NAMES`] the other way round.
pub(crate) fn to_their_names() -> KeyRemapper {
    let pattern = |(theirs, ours): &(&str, &str)| {
        let start = if theirs.starts_with('^') { "^" } else { "" };
        let ours = format!("{start}{}", ours.replace('.', r"\."));
        (ours, theirs.replace(['^', '\\'], ""))
    };
    KeyRemapper::from_patterns(NAMES.iter().map(pattern).collect()).expect("our patterns are valid")
}

pub(super) fn load(folder: &Path, device: &Device) -> Result<LoadedModel, Error> {
    let config_path = folder.join("config.json");
    if !config_path.exists() {
        return Err(Error::NotAModel {
            path: folder.into(),
        });
    }
    let file: ConfigFile = read_json(&config_path)?;
    let config = file.config(&config_path)?;

    let tokenizer = tokenizer(folder, &file)?;
    check_vocabulary(&folder.join("tokenizer.json"), &config, &tokenizer)?;

    let files = weight_files(folder)?;
    let mut tensors = Vec::new();
    for file in &files {
        let mut store = SafetensorsStore::from_file(file.clone());
        let found = store.get_all_tensors().map_err(|error| Error::Malformed {
            path: file.clone(),
            format: "safetensors",
            source: Box::new(error),
        })?;
        tensors.extend(found.values().cloned());
    }
    // Some files carry a copy of the embedding beside a tied head, and old ones the rotary table.
    tensors.retain(|tensor| {
        let is_copy = config.tied_head && tensor.name == "lm_head.weight";
        !is_copy && !tensor.name.ends_with(".rotary_emb.inv_freq")
    });
    let model = weights::fill(folder, &config, tensors, NAMES, device)?;

    let folder_name = folder.canonicalize().ok();
    let folder_name = folder_name.as_deref().unwrap_or(folder).file_name();
    Ok(LoadedModel {
        model,
        tokenizer,
        config,
        name: folder_name.map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        sha256: weights::sha256(&files)?,
    })
}

/// What matters in `config.json`. Settings that change the arithmetic in ways that we do not have
/// are read in order to be refused.
#[derive(Debug, Deserialize)]
struct ConfigFile {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeParameters>,
    /// Where transformers 5 keeps both of the above.
    rope_parameters: Option<RopeParameters>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    max_position_embeddings: Option<usize>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    #[serde(default)]
    layer_types: Vec<String>,
    /// SmolLM3's, whose name says the opposite of what it holds: 1 where a block has positions.
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<usize>,
    quantization_config: Option<Value>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
struct RopeParameters {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

impl RopeParameters {
    /// The scaling, where there is one.
    fn scaling(&self, path: &Path, section: &str) -> Result<Option<RopeScaling>, Error> {
        match self.rope_type.as_deref().unwrap_or("default") {
            "default" => return Ok(None),
            "llama3" => (),
            other => only(path, section, other, "default, llama3, null", false)?,
        }
        let missing = |key: &str| Error::MissingKey {
            path: path.into(),
            key: format!("{section}.{key}"),
        };
        let number = |key: &str, value: Option<f64>| value.ok_or_else(|| missing(key));
        let original = "original_max_position_embeddings";
        Ok(Some(RopeScaling {
            factor: number("factor", self.factor)?,
            low_freq_factor: number("low_freq_factor", self.low_freq_factor)?,
            high_freq_factor: number("high_freq_factor", self.high_freq_factor)?,
            original_context_length: self
                .original_max_position_embeddings
                .ok_or_else(|| missing(original))?,
        }))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

impl ConfigFile {
    fn config(&self, path: &Path) -> Result<LanguageModelConfig, Error> {
        let model_type = self.model_type.as_deref().unwrap_or("missing");
        let is_known = MODEL_TYPES.contains(&model_type);
        only(
            path,
            "model_type",
            model_type,
            &MODEL_TYPES.join(", "),
            is_known,
        )?;
        for found in &self.architectures {
            let is_known = ARCHITECTURES.contains(&found.as_str());
            only(
                path,
                "architectures",
                found,
                &ARCHITECTURES.join(", "),
                is_known,
            )?;
        }
        self.refuse_what_we_lack(path, model_type)?;

        let size = |key: &str, value: Option<usize>| {
            value.ok_or_else(|| Error::MissingKey {
                path: path.into(),
                key: key.into(),
            })
        };
        let d_model = size("hidden_size", self.hidden_size)?;
        let n_heads = size("num_attention_heads", self.num_attention_heads)?;
        let rope = self
            .rope_parameters
            .as_ref()
            .and_then(|rope| rope.rope_theta);

        let n_layers = size("num_hidden_layers", self.num_hidden_layers)?;
        let config = LanguageModelConfig {
            vocab_size: size("vocab_size", self.vocab_size)?,
            d_model,
            n_layers,
            n_heads,
            n_kv_heads: self.num_key_value_heads.unwrap_or(n_heads),
            d_head: self.head_dim.unwrap_or(d_model / n_heads.max(1)),
            d_ff: size("intermediate_size", self.intermediate_size)?,
            rope_theta: self.rope_theta.or(rope).unwrap_or(10_000.0),
            rope_scaling: self.rope_scaling(path)?,
            norm_epsilon: self.rms_norm_eps.unwrap_or(1e-6),
            tied_head: self.tie_word_embeddings,
            qkv_bias: model_type == "qwen2",
            qk_norm: model_type == "qwen3",
            nope_layers: match model_type {
                "smollm3" => self.nope_layers(path, n_layers)?,
                _ => Vec::new(),
            },
            context_length: self.max_position_embeddings,
        };
        check_sizes(path, &config)?;
        Ok(config)
    }

    /// From wherever the file has it.
    fn rope_scaling(&self, path: &Path) -> Result<Option<RopeScaling>, Error> {
        let places = [
            ("rope_parameters", &self.rope_parameters),
            ("rope_scaling", &self.rope_scaling),
        ];
        for (section, parameters) in places {
            let scaling = parameters.as_ref().map(|it| it.scaling(path, section));
            if let Some(scaling) = scaling.transpose()?.flatten() {
                return Ok(Some(scaling));
            }
        }
        Ok(None)
    }

    /// Blocks without positions, by SmolLM3's list, else by its interval.
    fn nope_layers(&self, path: &Path, n_layers: usize) -> Result<Vec<usize>, Error> {
        match &self.no_rope_layers {
            Some(has_rope) if has_rope.len() == n_layers => {
                Ok((0..n_layers).filter(|&at| has_rope[at] == 0).collect())
            }
            Some(has_rope) => Err(Error::BadValue {
                path: path.into(),
                key: "no_rope_layers".into(),
                expected: format!("a list of {n_layers}, one for each layer"),
                found: format!("a list of {}", has_rope.len()),
            }),
            None => Ok(every(self.no_rope_layer_interval.unwrap_or(4), n_layers)),
        }
    }

    fn refuse_what_we_lack(&self, path: &Path, model_type: &str) -> Result<(), Error> {
        for (key, scaling) in [
            ("rope_scaling", &self.rope_scaling),
            ("rope_parameters", &self.rope_parameters),
        ] {
            let Some(scaling) = scaling else { continue };
            let part = scaling.partial_rotary_factor.unwrap_or(1.0);
            only(
                path,
                &format!("{key}.partial_rotary_factor"),
                part,
                "1",
                part == 1.0,
            )?;
        }

        // Qwen2 names a window but uses it only if told to; Mistral's matters where it is shorter
        // than the text can be.
        let uses_window = self.use_sliding_window.unwrap_or(model_type == "mistral");
        if let Some(window) = self.sliding_window.filter(|_| uses_window) {
            let is_idle = self
                .max_position_embeddings
                .is_some_and(|longest| window >= longest);
            let supported = "null, or no less than max_position_embeddings";
            only(path, "sliding_window", window, supported, is_idle)?;
        }

        for found in &self.layer_types {
            only(
                path,
                "layer_types",
                found,
                "full_attention",
                found == "full_attention",
            )?;
        }
        let activation = self.hidden_act.as_deref().unwrap_or("silu");
        only(path, "hidden_act", activation, "silu", activation == "silu")?;
        only(
            path,
            "attention_bias",
            self.attention_bias,
            "false",
            !self.attention_bias,
        )?;
        only(path, "mlp_bias", self.mlp_bias, "false", !self.mlp_bias)?;
        let quantized = self.quantization_config.is_some();
        only(path, "quantization_config", "set", "null", !quantized)
    }
}

/// The tokenizer with the special tokens and the template that stand in files beside it.
fn tokenizer(folder: &Path, config: &ConfigFile) -> Result<Tokenizer, Error> {
    #[derive(Default, Deserialize)]
    struct TokenizerConfigFile {
        bos_token: Option<NamedToken>,
        eos_token: Option<NamedToken>,
        chat_template: Option<Value>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NamedToken {
        Name(String),
        Added { content: String },
    }
    #[derive(Default, Deserialize)]
    struct GenerationConfigFile {
        eos_token_id: Option<OneOrMany>,
    }

    let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"))?;
    let beside: TokenizerConfigFile = read_json_if_there(&folder.join("tokenizer_config.json"))?;
    let generation: GenerationConfigFile =
        read_json_if_there(&folder.join("generation_config.json"))?;

    let id = |token: Option<NamedToken>| match token {
        Some(NamedToken::Name(name) | NamedToken::Added { content: name }) => {
            tokenizer.token_id(&name)
        }
        None => None,
    };
    let bos = id(beside.bos_token).or(config.bos_token_id);
    let mut stop: Vec<u32> = id(beside.eos_token).into_iter().collect();
    for ids in [generation.eos_token_id, config.eos_token_id.clone()]
        .into_iter()
        .flatten()
    {
        for id in ids.into_vec() {
            if !stop.contains(&id) {
                stop.push(id);
            }
        }
    }

    let template_path = folder.join("chat_template.jinja");
    let template = if template_path.exists() {
        Some(read_text(&template_path)?)
    } else {
        beside.chat_template.and_then(default_template)
    };
    let template = template.map(ChatTemplate::new).transpose()?;

    Ok(tokenizer
        .with_bos(bos)
        .with_stop(stop)
        .with_chat_template(template))
}

/// `chat_template` is one template, or several with names of which `default` is meant.
fn default_template(value: Value) -> Option<String> {
    match value {
        Value::String(template) => Some(template),
        Value::Array(named) => named.into_iter().find_map(|entry| {
            let is_default = entry["name"] == "default";
            is_default
                .then(|| entry["template"].as_str().map(str::to_string))
                .flatten()
        }),
        _ => None,
    }
}

/// `model.safetensors`, or the files that the index names, in the order of their names.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }

    let single = folder.join("model.safetensors");
    let index_path = folder.join("model.safetensors.index.json");
    if single.exists() || !index_path.exists() {
        // Where there is none, the reader says so with the name that was expected.
        return Ok(vec![single]);
    }

    let index: Index = read_json(&index_path)?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    names
        .into_iter()
        .map(|name| {
            // A file beside the index, and no path that leads elsewhere.
            if Path::new(name)
                .file_name()
                .is_some_and(|file| file == name.as_str())
            {
                return Ok(folder.join(name));
            }
            Err(Error::BadValue {
                path: index_path.clone(),
                key: "weight_map".into(),
                expected: "names of files in the same folder".into(),
                found: name.clone(),
            })
        })
        .collect()
}

fn read_text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Io {
        path: path.into(),
        source,
    })
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_json::from_str(&read_text(path)?).map_err(|source| Error::Malformed {
        path: path.into(),
        format: "JSON",
        source: Box::new(source),
    })
}

fn read_json_if_there<T: DeserializeOwned + Default>(path: &Path) -> Result<T, Error> {
    if path.exists() {
        read_json(path)
    } else {
        Ok(T::default())
    }
}
