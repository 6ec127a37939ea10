//! What goes out comes back: adapters to and from PEFT, models to and from Hugging Face folders.

mod common;

use std::{fs, path::Path};

use burn::{
    module::{Lora, Module, ModuleMapper, Param, ParamGroup},
    tensor::{Device, Tensor, TensorData},
};
use common::{TINY, distance, expected, fixture, tiny, tokens};
use llm::{
    LanguageModel, LanguageModelConfig,
    adapter::{load_adapter, merge_adapter, save_adapter},
    load::load,
    save::save_hugging_face,
};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};

/// What PEFT says of `tiny-llama` with the adapters of `tiny-llama-lora`.
#[derive(Deserialize)]
struct Adapted {
    ids: Vec<u32>,
    logits: Vec<Vec<f32>>,
}

fn by_peft() -> Adapted {
    let text = fs::read_to_string(fixture("tiny-llama-lora/expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn adapted() -> LanguageModel {
    load_adapter(&fixture("tiny-llama-lora"), tiny("tiny-llama").model).unwrap()
}

fn logits(model: &LanguageModel, ids: &[u32]) -> Tensor<3> {
    model.forward(tokens(ids, &model.device()), None)
}

#[test]
fn adapters_by_peft_give_its_logits_attached_and_merged() {
    let Adapted { ids, logits: rows } = by_peft();
    let model = adapted();
    let shape = [1, ids.len(), rows[0].len()];
    let peft = Tensor::from_data(TensorData::new(rows.concat(), shape), &model.device());

    let attached = distance(logits(&model, &ids), peft.clone());
    assert!(attached < 1e-4, "{attached}");
    let merged = distance(logits(&model.materialize(), &ids), peft.clone());
    assert!(merged < 1e-4, "{merged}");
    let without = distance(logits(&tiny("tiny-llama").model, &ids), peft);
    assert!(without > 0.1, "the adapters do nothing: {without}");
}

#[test]
fn a_model_merged_with_adapters_is_another_by_its_hash() {
    let Adapted { ids, .. } = by_peft();
    let base = tiny("tiny-llama");
    let hash = base.sha256.clone();
    let merged = merge_adapter(&fixture("tiny-llama-lora"), base).unwrap();
    let rest = merged.sha256.strip_prefix(&hash).unwrap();
    assert!(rest.len() == 65 && rest.starts_with('+'), "{rest}");
    let far = distance(logits(&merged.model, &ids), logits(&adapted(), &ids));
    assert!(far < 1e-4, "{far}");
}

#[test]
fn adapters_go_out_as_peft_wrote_them() {
    let folder = tempfile::tempdir().unwrap();
    save_adapter(folder.path(), &adapted(), "tiny-llama").unwrap();

    let read = |folder: &Path| fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let (ours, theirs) = (read(folder.path()), read(&fixture("tiny-llama-lora")));
    let ours = SafeTensors::deserialize(&ours).unwrap();
    let theirs = SafeTensors::deserialize(&theirs).unwrap();
    assert_eq!(ours.len(), 2 * 4 * 2);
    assert_eq!(ours.len(), theirs.len());
    for (name, view) in theirs.tensors() {
        assert_eq!(ours.tensor(&name).unwrap(), view, "{name}");
    }

    let text = fs::read_to_string(folder.path().join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["r"], 3);
    assert_eq!(config["lora_alpha"], 5.0);
    let targets = json!(["down_proj", "k_proj", "q_proj", "v_proj"]);
    assert_eq!(config["target_modules"], targets);
    assert_eq!(config["layers_to_transform"], Value::Null);
}

#[test]
fn adapters_of_some_layers_say_which() {
    let group = ParamGroup::from_regex(r"^blocks\.1\.attention\.query\.weight$").unwrap();
    let lora = Lora::new(2, 3.0).set_param_group(group);
    let model = tiny("tiny-llama").model.apply_lora(lora);
    let folder = tempfile::tempdir().unwrap();
    save_adapter(folder.path(), &model, "tiny-llama").unwrap();
    let text = fs::read_to_string(folder.path().join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["layers_to_transform"], json!([1]));

    let again = load_adapter(folder.path(), tiny("tiny-llama").model).unwrap();
    let has_adapter = |at: usize| again.blocks[at].attention.query.weight.adapter().is_some();
    assert!(has_adapter(1) && !has_adapter(0));
}

#[test]
fn adapters_made_here_come_back() {
    /// burn's `B` begins at zero, which would hide every mistake.
    struct Loud;
    impl ModuleMapper for Loud {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let n = tensor.shape().num_elements();
                let values: Vec<f32> = (0..n).map(|at| (at as f32).sin() / 4.0).collect();
                Tensor::from_data(TensorData::new(values, tensor.shape()), &tensor.device())
            })
        }
    }
    for name in TINY {
        let group = ParamGroup::from_regex(r"\.attention\.(query|output)\.weight$").unwrap();
        let lora = Lora::new(2, 3.0).set_param_group(group);
        let base = tiny(name).model.map(&mut Loud);
        let model = base.clone().apply_lora(lora).map(&mut Loud);
        let folder = tempfile::tempdir().unwrap();
        save_adapter(folder.path(), &model, name).unwrap();
        let again = load_adapter(folder.path(), base).unwrap();
        let ids = expected(name).ids;
        let distance = distance(logits(&model, &ids), logits(&again, &ids));
        assert_eq!(distance, 0.0, "{name}");
    }
}

#[test]
fn adapters_that_are_more_than_lora_or_of_another_model_are_refused() {
    let with = |settings: Value| {
        let folder = tempfile::tempdir().unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(
                fixture("tiny-llama-lora").join(file),
                folder.path().join(file),
            )
            .unwrap();
        }
        let path = folder.path().join("adapter_config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (key, value) in settings.as_object().unwrap() {
            config[key] = value.clone();
        }
        fs::write(&path, config.to_string()).unwrap();
        load_adapter(folder.path(), tiny("tiny-llama").model)
    };
    let cases = [
        (json!({"peft_type": "LOHA"}), "`peft_type` is LOHA"),
        (json!({"use_dora": true}), "`use_dora` is true"),
        (json!({"bias": "all"}), "`bias` is all"),
        (json!({"r": 0}), "`r` is 0"),
        (json!({"r": 4}), "refused: Shape mismatch"),
        (
            json!({"rank_pattern": {"q_proj": 8}}),
            "`rank_pattern` is set for 1 layers",
        ),
        (
            json!({"modules_to_save": ["lm_head"]}),
            "`modules_to_save` is lm_head",
        ),
        (
            json!({"alora_invocation_tokens": [1]}),
            "`alora_invocation_tokens` is set",
        ),
    ];
    for (settings, message) in cases {
        let error = with(settings).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }

    let other = LanguageModelConfig::new(96, 24, 1, 6, 2, 8, 40).init(&Device::flex());
    let error = load_adapter(&fixture("tiny-llama-lora"), other).unwrap_err();
    let message = "not used: blocks.1.attention.key.weight.lora.a";
    assert!(error.to_string().contains(message), "{error}");
    let nothing = load_adapter(&fixture("tiny-llama"), tiny("tiny-llama").model).unwrap_err();
    assert!(
        nothing.to_string().contains("adapter_config.json"),
        "{nothing}"
    );
}

#[test]
fn rank_stabilised_adapters_are_scaled_by_the_root_of_the_rank() {
    let scale = |model: LanguageModel| {
        model.blocks[0]
            .attention
            .query
            .weight
            .adapter()
            .unwrap()
            .scale
    };
    let folder = tempfile::tempdir().unwrap();
    save_adapter(folder.path(), &adapted(), "tiny-llama").unwrap();
    let path = folder.path().join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["use_rslora"] = json!(true);
    fs::write(&path, config.to_string()).unwrap();
    let stabilised = load_adapter(folder.path(), tiny("tiny-llama").model).unwrap();
    assert!((scale(stabilised) - 5.0 / 3.0_f64.sqrt()).abs() < 1e-12);
    assert_eq!(scale(adapted()), 5.0 / 3.0);
}

#[test]
fn a_model_of_any_family_comes_back_from_its_folder() {
    for name in TINY {
        let tiny = tiny(name);
        let folder = tempfile::tempdir().unwrap();
        save_hugging_face(folder.path(), &tiny.model, &tiny.config, &tiny.tokenizer).unwrap();
        let again = load(folder.path(), &Device::flex()).unwrap();
        assert_eq!(again.config, tiny.config, "{name}");

        let expected = expected(name);
        let distance = distance(
            logits(&again.model, &expected.ids),
            logits(&tiny.model, &expected.ids),
        );
        assert_eq!(distance, 0.0, "{name}");
        let tokenizer = again.tokenizer;
        assert_eq!(tokenizer.encode(&expected.text).unwrap(), expected.ids);
        assert_eq!(
            tokenizer.chat(&expected.messages, true).unwrap(),
            expected.chat
        );
        assert_eq!(tokenizer.bos(), tiny.tokenizer.bos());
        assert_eq!(tokenizer.stop(), tiny.tokenizer.stop());
    }
}

#[test]
fn adapters_are_merged_into_a_saved_model() {
    let (model, base) = (adapted(), tiny("tiny-llama"));
    let folder = tempfile::tempdir().unwrap();
    save_hugging_face(folder.path(), &model, &base.config, &base.tokenizer).unwrap();
    let merged = load(folder.path(), &Device::flex()).unwrap().model;
    let ids = by_peft().ids;
    let distance = distance(logits(&merged, &ids), logits(&model, &ids));
    assert!(distance < 1e-5, "{distance}");
}

#[test]
fn a_mixture_of_families_is_not_written() {
    let tiny = tiny("tiny-qwen2");
    let config = tiny.config.with_qk_norm(true);
    let folder = tempfile::tempdir().unwrap();
    let error = save_hugging_face(folder.path(), &tiny.model, &config, &tiny.tokenizer);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("a mixture of several families"), "{error}");
}
