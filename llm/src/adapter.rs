//! LoRA adapters in the file layout of Hugging Face's [PEFT](https://github.com/huggingface/peft).
//!
//! A folder of `adapter_config.json` and `adapter_model.safetensors`, as `PeftModel.from_pretrained`
//! reads and `save_pretrained` writes it. PEFT's factors are burn's the other way round: its `A` is
//! `[rank, d_in]` and its `B` is `[d_out, rank]`. Nothing has to be reordered for rotary positions,
//! since this crate keeps queries and keys in Hugging Face's order whatever file they came from.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use burn::{
    module::{Lora, LoraAdapter, Module, ParamGroup},
    store::{FloatCastAdapter, KeyRemapper, ModuleSnapshot, ModuleStore, SafetensorsStore, bridge},
    tensor::{DType, Tensor, TensorData},
};
use safetensors::{Dtype, tensor::TensorView};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Error, LanguageModel,
    load::{LoadedModel, hugging_face, only, weights},
    save::{as_readable_as, unwritable, write_json},
};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the model's own names.
const PREFIX: &str = "base_model.model.";

/// Attach the adapters of a PEFT folder to a model, all of whose own weights are frozen then.
///
/// The adapters may be on any of the linear layers. [`Module::materialize`] merges them for good.
///
/// # Errors
///
/// If the files cannot be read, do not fit the model, or say what this crate has no part for:
/// another method than LoRA, a rank or scale that differs between layers, trained biases, DoRA, or
/// modules that were trained whole.
pub fn load_adapter(folder: &Path, model: LanguageModel) -> Result<LanguageModel, Error> {
    let config_path = folder.join(CONFIG);
    let config: ConfigFile = hugging_face::read_json(&config_path)?;
    config.refuse_what_we_lack(&config_path)?;

    let path = folder.join(WEIGHTS);
    let mut store = SafetensorsStore::from_file(path.clone());
    let tensors = store.get_all_tensors().map_err(|error| Error::Malformed {
        path: path.clone(),
        format: "safetensors",
        source: Box::new(error),
    })?;
    let (tensors, _) = ours().remap(tensors.values().cloned().collect());
    let tensors: Vec<_> = tensors
        .into_iter()
        .map(|tensor| transposed(weights::refuse_not_finite(tensor)))
        .collect();
    let adapted: BTreeSet<String> = tensors
        .iter()
        .filter_map(|tensor| Some(tensor.name.rsplit_once(".lora.")?.0.to_string()))
        .collect();

    let lora = Lora::new(config.r, config.alpha())
        .set_param_group(ParamGroup::from_paths(adapted.into_iter().collect()));
    let mut model = model.apply_lora(lora);
    let float: DType = model.device().settings().float_dtype.into();
    let cast = FloatCastAdapter::to(float);
    let result = model.apply(tensors, None, Some(Box::new(cast)), false);

    // All else of the model is missing in the file, as it should be.
    let missing = result.missing.into_iter().map(|(name, _)| name);
    let missing: Vec<String> = missing.filter(|name| name.contains(".lora.")).collect();
    let refused: Vec<String> = result.errors.iter().map(ToString::to_string).collect();
    if missing.is_empty() && result.unused.is_empty() && refused.is_empty() {
        return Ok(model);
    }
    Err(Error::Weights {
        path,
        missing,
        unused: result.unused,
        refused,
    })
}

/// A loaded model with the adapters of a PEFT folder merged into it. Its hash is that of the base's weight
/// files and that of the adapter's two files, joined by `+`.
///
/// # Errors
///
/// As [`load_adapter`].
pub fn merge_adapter(folder: &Path, loaded: LoadedModel) -> Result<LoadedModel, Error> {
    let model = load_adapter(folder, loaded.model)?.materialize();
    let adapter = weights::sha256(&[folder.join(CONFIG), folder.join(WEIGHTS)])?;
    Ok(LoadedModel {
        model,
        sha256: format!("{}+{adapter}", loaded.sha256),
        ..loaded
    })
}

/// Write a model's adapters as a PEFT folder. `base_model` is the name or path of the model that
/// they belong to.
///
/// # Errors
///
/// If the folder cannot be written.
///
/// # Panics
///
/// Panics if the model has no adapters, or adapters of several ranks or scales.
pub fn save_adapter(folder: &Path, model: &LanguageModel, base_model: &str) -> Result<(), Error> {
    let adapters = adapters(model);
    let shape = |adapter: &LoraAdapter| (adapter.a.dims()[1], adapter.scale);
    let (_, first) = adapters.first().expect("the model has no adapters");
    let (rank, scale) = shape(first);
    assert!(
        adapters.iter().all(|(_, one)| shape(one) == (rank, scale)),
        "the adapters differ in rank or scale",
    );

    let targets: BTreeSet<&str> = adapters
        .iter()
        .filter_map(|(name, _)| name.rsplit('.').next())
        .collect();
    let layers: BTreeSet<usize> = adapters
        .iter()
        .filter_map(|(name, _)| {
            name.strip_prefix("model.layers.")?
                .split('.')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    let layers = (layers.len() < model.blocks.len()).then_some(layers);
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": scale * rank as f64,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "layers_to_transform": layers,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
    });

    let mut factors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, adapter) in &adapters {
        for (factor, tensor) in [("A", &adapter.a), ("B", &adapter.b)] {
            let name = format!("{PREFIX}{name}.lora_{factor}.weight");
            factors.insert(name, row_major(tensor.val().transpose()));
        }
    }
    std::fs::create_dir_all(folder).map_err(unwritable(folder))?;
    write_json(&folder.join(CONFIG), &config)?;
    let path = folder.join(WEIGHTS);
    let views = factors.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name, view.expect("as many bytes as values"))
    });
    let metadata = [("format".to_string(), "pt".to_string())].into();
    safetensors::serialize_to_file(views, Some(metadata), &path).map_err(unwritable(&path))?;
    as_readable_as(&folder.join(CONFIG), &path)
}

/// What matters in `adapter_config.json`.
#[derive(Debug, Deserialize)]
struct ConfigFile {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    bias: Option<String>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, Value>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, Value>,
    modules_to_save: Option<Vec<String>>,
    /// Adapters that wait for these tokens.
    alora_invocation_tokens: Option<Value>,
}

impl ConfigFile {
    fn refuse_what_we_lack(&self, path: &Path) -> Result<(), Error> {
        let kind = self.peft_type.as_str();
        only(path, "peft_type", kind, "LORA", kind == "LORA")?;
        only(path, "r", self.r, "1 or more", self.r > 0)?;
        only(path, "use_dora", self.use_dora, "false", !self.use_dora)?;
        let waits = self.alora_invocation_tokens.is_some();
        only(path, "alora_invocation_tokens", "set", "null", !waits)?;
        let bias = self.bias.as_deref().unwrap_or("none");
        only(path, "bias", bias, "none", bias == "none")?;
        for (key, pattern) in [
            ("rank_pattern", &self.rank_pattern),
            ("alpha_pattern", &self.alpha_pattern),
        ] {
            let found = format!("set for {} layers", pattern.len());
            only(path, key, found, "empty", pattern.is_empty())?;
        }
        let whole = self.modules_to_save.as_deref().unwrap_or_default();
        let supported = "null: adapters and nothing beside them";
        only(
            path,
            "modules_to_save",
            whole.join(", "),
            supported,
            whole.is_empty(),
        )
    }

    /// burn scales by `alpha / rank`, rank-stabilised adapters by `alpha / sqrt(rank)`.
    fn alpha(&self) -> f64 {
        match self.use_rslora {
            true => self.lora_alpha * (self.r as f64).sqrt(),
            false => self.lora_alpha,
        }
    }
}

/// From PEFT's names to burn's.
///
/// `base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight` →
/// `blocks.3.attention.query.weight.lora.a`
fn ours() -> KeyRemapper {
    let prefix = (r"^base_model\.model\.", "");
    let factors = [
        (r"\.lora_A\.weight$", ".weight.lora.a"),
        (r"\.lora_B\.weight$", ".weight.lora.b"),
    ];
    let patterns = [&[prefix], hugging_face::NAMES, &factors].concat();
    KeyRemapper::from_patterns(patterns).expect("our patterns are valid")
}

/// A factor the other way round; what is no matrix stays, to be refused for its shape.
fn transposed(tensor: weights::FileTensor) -> weights::FileTensor {
    let [rows, columns] = tensor.shape[..] else {
        return tensor;
    };
    let name = tensor.name.clone();
    let shape = [columns, rows];
    bridge::map_data(tensor, name, DType::F32, shape.into(), move |data| {
        let values: Vec<f32> = data.iter::<f32>().collect();
        let column = |at| values.iter().skip(at).step_by(columns).copied();
        let turned: Vec<f32> = (0..columns).flat_map(column).collect();
        TensorData::new(turned, shape)
    })
}

/// Shape and bytes of a matrix in f32.
fn row_major(tensor: Tensor<2>) -> (Vec<usize>, Vec<u8>) {
    let shape = tensor.dims().to_vec();
    let values = tensor.into_data();
    let bytes = values.iter::<f32>().flat_map(f32::to_le_bytes).collect();
    (shape, bytes)
}

/// The adapters of a model, with Hugging Face's names of their layers.
fn adapters(model: &LanguageModel) -> Vec<(String, &LoraAdapter)> {
    let in_blocks = model.blocks.iter().enumerate().flat_map(|(at, block)| {
        let (attention, feed_forward) = (&block.attention, &block.feed_forward);
        [
            ("self_attn.q_proj", &attention.query),
            ("self_attn.k_proj", &attention.key),
            ("self_attn.v_proj", &attention.value),
            ("self_attn.o_proj", &attention.output),
            ("mlp.gate_proj", &feed_forward.gate),
            ("mlp.up_proj", &feed_forward.up),
            ("mlp.down_proj", &feed_forward.down),
        ]
        .map(|(name, layer)| (format!("model.layers.{at}.{name}"), layer))
    });
    let head = model.head.iter().map(|head| ("lm_head".to_string(), head));
    in_blocks
        .chain(head)
        .filter_map(|(name, layer)| Some((name, layer.weight.adapter()?)))
        .collect()
}
