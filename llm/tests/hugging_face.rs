//! Hugging Face folders: what PyTorch transformers says of them, and what is said of broken ones.

mod common;

use std::{collections::BTreeMap, error::Error as _, fs, ops::ControlFlow, path::Path};

use burn::tensor::{Device, Tensor, TensorData};
use common::{TINY, copy, distance, expected, fixture, tiny, tokens};
use llm::{
    Error,
    generate::{GenerationConfig, generate},
    load::load,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

#[test]
fn logits_and_greedy_tokens_are_transformers_own() {
    for name in TINY {
        let loaded = tiny(name);
        let expected = expected(name);
        let device = loaded.model.device();

        let [n, vocab_size] = [expected.ids.len(), loaded.config.vocab_size];
        let reference = TensorData::new(expected.logits.concat(), [1, n, vocab_size]);
        let reference = Tensor::<3>::from_data(reference, &device);
        let logits = loaded.model.forward(tokens(&expected.ids, &device), None);
        let distance = distance(logits, reference);
        assert!(distance < 1e-4, "{name}: {distance}");

        let config = GenerationConfig::new(expected.greedy.len());
        let go_on = |_| ControlFlow::Continue(());
        let greedy = generate(&mut loaded.model.decoder(), &expected.ids, &config, go_on);
        assert_eq!(greedy, expected.greedy, "{name}");
    }
}

#[test]
fn tokens_and_chats_are_transformers_own() {
    for name in TINY {
        let tokenizer = tiny(name).tokenizer;
        let expected = expected(name);
        assert_eq!(
            tokenizer.encode(&expected.text).unwrap(),
            expected.ids,
            "{name}"
        );
        assert_eq!(
            tokenizer.decode(&expected.ids).unwrap(),
            expected.text,
            "{name}"
        );
        assert_eq!(
            tokenizer.chat(&expected.messages, true).unwrap(),
            expected.chat,
            "{name}"
        );
        assert_eq!(
            (tokenizer.bos(), tokenizer.eos()),
            (Some(0), Some(1)),
            "{name}"
        );
    }
}

#[test]
fn sizes_and_names_come_from_the_folder() {
    let llama = tiny("tiny-llama");
    assert_eq!(llama.name, "tiny-llama");
    assert_eq!(
        (
            llama.config.d_model,
            llama.config.d_head,
            llama.config.n_heads
        ),
        (24, 8, 6)
    );
    assert_eq!(
        (llama.config.rope_theta, llama.config.norm_epsilon),
        (500.0, 1e-5)
    );
    assert!(!llama.config.tied_head && !llama.config.qkv_bias);

    let qwen2 = tiny("tiny-qwen2");
    assert_eq!(
        (
            qwen2.config.n_heads,
            qwen2.config.n_kv_heads,
            qwen2.config.d_head
        ),
        (4, 2, 6)
    );
    assert!(qwen2.config.tied_head && qwen2.config.qkv_bias);
    assert_ne!(llama.sha256, qwen2.sha256);
    assert_eq!(qwen2.sha256.len(), 64);

    let qwen3 = tiny("tiny-qwen3").config;
    assert!(qwen3.qk_norm && !qwen3.qkv_bias);
    assert_eq!((qwen3.d_model, qwen3.n_heads, qwen3.d_head), (24, 4, 10));

    let smollm3 = tiny("tiny-smollm3").config;
    assert_eq!(smollm3.nope_layers, [3]);
    assert_eq!(smollm3.context_length, Some(128));
}

/// The error of loading a tiny model after `damage`.
fn error_after(name: &str, damage: impl FnOnce(&Path)) -> Error {
    let folder = copy(name);
    damage(folder.path());
    load(folder.path(), &Device::flex()).expect_err("a damaged model was loaded")
}

/// The error of loading a tiny model with other settings in its `config.json`.
fn error_with(name: &str, settings: Value) -> String {
    let error = error_after(name, |folder| {
        change_json(&folder.join("config.json"), settings)
    });
    error.to_string()
}

fn change_json(path: &Path, settings: Value) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for (key, value) in settings.as_object().unwrap() {
        json[key] = value.clone();
    }
    fs::write(path, json.to_string()).unwrap();
}

/// A tensor of a safetensors file: type, shape, bytes.
type Stored = (Dtype, Vec<usize>, Vec<u8>);

/// Write `model.safetensors` again, with other tensors.
fn change_weights(folder: &Path, change: impl FnOnce(&mut BTreeMap<String, Stored>)) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let stored = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter();
    let mut stored: BTreeMap<String, Stored> = stored
        .map(|(name, view)| {
            (
                name,
                (view.dtype(), view.shape().into(), view.data().into()),
            )
        })
        .collect();

    change(&mut stored);
    let views = stored.iter().map(|(name, (dtype, shape, bytes))| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn settings_that_would_change_the_numbers_are_refused_with_what_is_supported() {
    let cases = [
        (
            json!({"model_type": "mixtral"}),
            "`model_type` is mixtral, which is not supported; supported: llama, mistral, qwen2, qwen3, \
             smollm3",
        ),
        (
            json!({"architectures": ["LlamaForSequenceClassification"]}),
            "`architectures` is LlamaForSequenceClassification",
        ),
        (
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            "`layer_types` is sliding_attention",
        ),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 2.0}}),
            "`rope_scaling` is linear",
        ),
        (
            json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0}}),
            "`rope_parameters` is yarn",
        ),
        (
            json!({"model_type": "mistral", "sliding_window": 1024}),
            "`sliding_window` is 1024",
        ),
        (json!({"attention_bias": true}), "`attention_bias` is true"),
        (
            json!({"model_type": "gemma3_text"}),
            "`model_type` is gemma3_text",
        ),
        (json!({"hidden_act": "gelu"}), "`hidden_act` is gelu"),
        (
            json!({"quantization_config": {"bits": 4}}),
            "`quantization_config` is set",
        ),
    ];
    for (settings, message) in cases {
        let error = error_with("tiny-llama", settings);
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn idle_settings_are_accepted() {
    let folder = copy("tiny-llama");
    let settings = json!({
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "sliding_window": 4096,
        "rope_scaling": null,
        "rope_parameters": null,
        "rope_theta": 500.0,
    });
    change_json(&folder.path().join("config.json"), settings);
    let loaded = load(folder.path(), &Device::flex()).unwrap();
    assert_eq!(loaded.config, tiny("tiny-llama").config);
}

#[test]
fn sizes_that_make_no_model_are_refused() {
    let scaling = |low: f64| {
        json!({"rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": low, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }})
    };
    let cases = [
        (scaling(4.0), "`rotary scaling` is RopeScaling { factor: 8"),
        (
            json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
            "`rope_scaling.low_freq_factor` is missing",
        ),
        (
            json!({"num_key_value_heads": 4}),
            "`number of key and value heads` is 4 for 6 heads",
        ),
        (json!({"num_attention_heads": 0}), "`number of heads` is 0"),
        (
            json!({"head_dim": 7}),
            "`head width` is 7, expected an even number",
        ),
        (json!({"hidden_size": null}), "`hidden_size` is missing"),
        (
            json!({"eos_token_id": [1, 4000]}),
            "is 4000, expected less than the model's vocabulary of 96",
        ),
        (json!({"rms_norm_eps": 0.0}), "`norm epsilon` is 0"),
        (
            json!({"num_hidden_layers": 1u64 << 40}),
            "`number of layers` is 1099511627776",
        ),
    ];
    for (settings, message) in cases {
        let error = error_with("tiny-llama", settings);
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn blocks_without_positions_are_those_that_the_file_names() {
    let error = error_with("tiny-smollm3", json!({"no_rope_layers": [1, 0]}));
    assert!(
        error.contains("`no_rope_layers` is a list of 2, expected a list of 4"),
        "{error}"
    );

    let with = |settings: Value| {
        let folder = copy("tiny-smollm3");
        change_json(&folder.path().join("config.json"), settings);
        let loaded = load(folder.path(), &Device::flex()).unwrap();
        loaded.config.nope_layers
    };
    assert_eq!(with(json!({"no_rope_layers": [0, 1, 0, 1]})), [0, 2]);
    let interval = json!({"no_rope_layers": null, "no_rope_layer_interval": 2});
    assert_eq!(with(interval), [1, 3]);
    assert_eq!(with(json!({"no_rope_layers": null})), [3]);
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let error = error_with("tiny-llama", json!({"intermediate_size": 48}));
    assert!(
        error.contains("refused: ") && error.contains("blocks.0.feed_forward.gate.weight"),
        "{error}"
    );

    let error = error_with("tiny-llama", json!({"num_hidden_layers": 1}));
    assert!(
        error.contains("not used: model.layers.1.input_layernorm.weight"),
        "{error}"
    );
    assert!(error.contains("and 4 more"), "{error}");

    let error = error_after("tiny-llama", |folder| {
        change_weights(folder, |tensors| drop(tensors.remove("model.norm.weight")));
    });
    assert!(error.to_string().contains("missing: norm.gamma"), "{error}");
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    for (name, bad) in [("nan", f32::NAN), ("infinity", f32::INFINITY)] {
        let mut values = [1.0_f32; 24];
        values[7] = bad;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let error = error_after("tiny-llama", |folder| {
            change_weights(folder, |tensors| {
                tensors.get_mut("model.norm.weight").unwrap().2 = bytes;
            });
        });
        let error = error.to_string();
        assert!(
            error.contains("norm.gamma") && error.contains("value 7 is not a finite"),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_copy_of_a_tied_head_and_an_old_rotary_table_are_not_surplus() {
    let folder = copy("tiny-llama");
    change_json(
        &folder.path().join("config.json"),
        json!({"tie_word_embeddings": true}),
    );
    change_weights(folder.path(), |tensors| {
        let table = (Dtype::F32, vec![4], vec![0; 16]);
        tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), table);
    });
    assert!(
        load(folder.path(), &Device::flex())
            .unwrap()
            .model
            .head
            .is_none()
    );
}

#[test]
fn absent_and_damaged_files_are_errors_that_name_the_file() {
    let absent = |name: &'static str| {
        error_after("tiny-llama", move |folder| {
            fs::remove_file(folder.join(name)).unwrap()
        })
    };
    assert!(matches!(absent("config.json"), Error::NotAModel { .. }));
    assert!(
        absent("tokenizer.json")
            .to_string()
            .contains("tokenizer.json")
    );
    assert!(
        absent("model.safetensors")
            .to_string()
            .contains("model.safetensors")
    );

    let damaged = |name: &'static str| {
        error_after("tiny-llama", move |folder| {
            fs::write(folder.join(name), "{ \"a\": ").unwrap()
        })
    };
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "model.safetensors",
    ] {
        let error = damaged(name);
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.source().is_some(), "{error}");
    }
    let error = error_after("tiny-llama", |folder| {
        fs::write(folder.join("chat_template.jinja"), "{% if %}").unwrap();
    });
    assert!(matches!(error, Error::ChatTemplate { .. }), "{error}");
}

#[test]
fn a_missing_or_misplaced_shard_is_an_error() {
    let shard = "model-00002-of-00002.safetensors";
    let error = error_after("tiny-qwen2", |folder| {
        fs::remove_file(folder.join(shard)).unwrap()
    });
    assert!(error.to_string().contains(shard), "{error}");

    let error = error_after("tiny-qwen2", |folder| {
        let index = json!({"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}});
        change_json(&folder.join("model.safetensors.index.json"), index);
    });
    assert!(
        error
            .to_string()
            .contains("names of files in the same folder"),
        "{error}"
    );
}

#[test]
fn a_weight_file_cut_off_anywhere_is_an_error() {
    let folder = copy("tiny-llama");
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for cut in [
        0,
        1,
        7,
        8,
        9,
        500,
        1000,
        5000,
        whole.len() / 2,
        whole.len() - 1,
    ] {
        fs::write(&path, &whole[..cut]).unwrap();
        let error = load(folder.path(), &Device::flex()).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Malformed {
                    format: "safetensors",
                    ..
                }
            ),
            "{cut}: {error}"
        );
    }
}

#[test]
fn a_path_that_is_no_model_says_what_is_expected() {
    let device = Device::flex();
    let nowhere = load(Path::new("/nowhere/at/all"), &device).unwrap_err();
    assert!(matches!(nowhere, Error::Io { .. }), "{nowhere}");

    let file = load(&fixture("tiny-llama/config.json"), &device).unwrap_err();
    assert!(
        file.to_string()
            .contains("expected a .gguf file, or a folder with config.json"),
        "{file}"
    );
}
