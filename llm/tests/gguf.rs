//! GGUF files: every quantisation that the crate names against ggml's own Python package, the tiny
//! models in this format, and what is said of broken files.
//!
//! The files are written here, byte by byte as the
//! [specification](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) has it, so that the
//! reader is not tested by its own writer.
#![cfg(feature = "gguf")]

mod common;

use std::{collections::BTreeMap, fs};

use burn::tensor::Device;
use common::{copy, distance, expected, fixture, tiny, tokens};
use llm::{
    Error, LanguageModel, LanguageModelConfig, RopeScaling,
    load::{LoadedModel, load},
};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

/// A GGUF file to be.
#[derive(Clone, Default)]
struct Gguf {
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorBytes>,
}

#[derive(Clone)]
enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    String(String),
    Strings(Vec<String>),
    I32s(Vec<i32>),
}

/// Type number of ggml, sizes with the rows first (the file has them the other way round), bytes.
type TensorBytes = (u32, Vec<usize>, Vec<u8>);

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

impl Gguf {
    fn set(mut self, key: &str, value: Value) -> Self {
        self.metadata.insert(key.into(), value);
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.metadata.remove(key);
        self.tensors.remove(key);
        self
    }

    fn tensor(mut self, name: &str, tensor: TensorBytes) -> Self {
        self.tensors.insert(name.into(), tensor);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        fn string(out: &mut Vec<u8>, text: &str) {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        }
        fn tagged(out: &mut Vec<u8>, kind: u32, bytes: impl IntoIterator<Item = u8>) {
            out.extend(kind.to_le_bytes());
            out.extend(bytes);
        }
        fn array(out: &mut Vec<u8>, kind: u32, len: usize) {
            tagged(out, 9, kind.to_le_bytes());
            out.extend((len as u64).to_le_bytes());
        }

        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            string(&mut out, key);
            match value {
                Value::U32(value) => tagged(&mut out, 4, value.to_le_bytes()),
                Value::F32(value) => tagged(&mut out, 6, value.to_le_bytes()),
                Value::Bool(value) => tagged(&mut out, 7, [u8::from(*value)]),
                Value::String(value) => {
                    tagged(&mut out, 8, []);
                    string(&mut out, value);
                }
                Value::Strings(values) => {
                    array(&mut out, 8, values.len());
                    values.iter().for_each(|value| string(&mut out, value));
                }
                Value::I32s(values) => {
                    array(&mut out, 5, values.len());
                    values
                        .iter()
                        .for_each(|value| out.extend(value.to_le_bytes()));
                }
            }
        }
        let mut data: Vec<u8> = Vec::new();
        for (name, (kind, dims, bytes)) in &self.tensors {
            string(&mut out, name);
            out.extend((dims.len() as u32).to_le_bytes());
            for dim in dims.iter().rev() {
                out.extend((*dim as u64).to_le_bytes());
            }
            out.extend(kind.to_le_bytes());
            out.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }

    fn load(&self) -> Result<LoadedModel, Error> {
        load_bytes(&self.bytes())
    }
}

fn load_bytes(bytes: &[u8]) -> Result<LoadedModel, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    fs::write(&path, bytes).unwrap();
    load(&path, &Device::flex())
}

/// One block of width `d_model`, with an embedding of two tokens as given and all other weights
/// small.
fn model_of(embedding: TensorBytes) -> Gguf {
    let d_model = embedding.1[1];
    let sizes = [
        ("block_count", 1),
        ("context_length", 64),
        ("embedding_length", d_model as u32),
        ("feed_forward_length", 4),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("attention.key_length", 2),
    ];
    let weight = |rows: usize, columns: usize| -> TensorBytes {
        (
            0,
            vec![rows, columns],
            f32_bytes(&vec![0.01; rows * columns]),
        )
    };
    let norm = || -> TensorBytes { (0, vec![d_model], f32_bytes(&vec![1.0; d_model])) };

    let gguf = sizes
        .into_iter()
        .fold(Gguf::default(), |gguf, (key, size)| {
            gguf.set(&format!("llama.{key}"), Value::U32(size))
        });
    gguf.set("general.architecture", text("llama"))
        .set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5))
        .set("tokenizer.ggml.model", text("gpt2"))
        .set("tokenizer.ggml.pre", text("smollm"))
        .set(
            "tokenizer.ggml.tokens",
            Value::Strings(vec!["a".into(), "b".into()]),
        )
        .set("tokenizer.ggml.merges", Value::Strings(vec![]))
        .tensor("token_embd.weight", embedding)
        .tensor("output_norm.weight", norm())
        .tensor("blk.0.attn_norm.weight", norm())
        .tensor("blk.0.ffn_norm.weight", norm())
        .tensor("blk.0.attn_q.weight", weight(4, d_model))
        .tensor("blk.0.attn_k.weight", weight(2, d_model))
        .tensor("blk.0.attn_v.weight", weight(2, d_model))
        .tensor("blk.0.attn_output.weight", weight(d_model, 4))
        .tensor("blk.0.ffn_gate.weight", weight(4, d_model))
        .tensor("blk.0.ffn_up.weight", weight(4, d_model))
        .tensor("blk.0.ffn_down.weight", weight(d_model, 4))
}

fn small() -> Gguf {
    let values: Vec<f32> = (0..16u8).map(f32::from).collect();
    model_of((0, vec![2, 8], f32_bytes(&values)))
}

#[test]
fn every_quantisation_is_read_as_ggml_reads_it() {
    #[derive(Deserialize)]
    struct Block {
        r#type: u32,
        bytes: String,
        values: BTreeMap<usize, f32>,
    }
    let blocks = fs::read_to_string(fixture("gguf_blocks.json")).unwrap();
    let blocks: BTreeMap<String, Block> = serde_json::from_str(&blocks).unwrap();
    let names = ["BF16", "F16", "F32", "Q4_0", "Q4_1", "Q4_K", "Q6_K", "Q8_0"];
    assert!(blocks.keys().eq(names), "{:?}", blocks.keys());

    for (name, block) in blocks {
        let bytes: Vec<u8> = (0..block.bytes.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&block.bytes[at..at + 2], 16).unwrap())
            .collect();
        let n_values = block.values.keys().max().unwrap() + 1;
        let loaded = model_of((block.r#type, vec![2, n_values / 2], bytes))
            .load()
            .unwrap();

        let embedding = loaded.model.embedding.weight.val().into_data();
        let embedding = embedding.try_into_vec::<f32>().unwrap();
        for (at, expected) in block.values {
            let found = embedding[at];
            assert!(
                (found - expected).abs() < 1e-6,
                "{name}, value {at}: {found} for {expected}"
            );
        }
    }
}

/// A tiny model's folder as a GGUF file, as llama.cpp's converter would make it.
fn converted(name: &str, architecture: &str) -> Gguf {
    let folder = fixture(name);
    let config = tiny(name).config;
    let key = |key: &str| format!("{architecture}.{key}");
    let size = |size: usize| Value::U32(size as u32);

    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    let mut names: Vec<(u64, String)> = vocab
        .iter()
        .map(|(name, id)| (id.as_u64().unwrap(), name.clone()))
        .collect();
    names.sort();
    let mut kinds = vec![1; names.len()];
    kinds[..2].fill(3);
    let pair = |pair: &serde_json::Value| {
        format!(
            "{} {}",
            pair[0].as_str().unwrap(),
            pair[1].as_str().unwrap()
        )
    };
    let merges = json["model"]["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(pair)
        .collect();
    let template = fs::read_to_string(folder.join("chat_template.jinja")).unwrap();

    let mut gguf = Gguf::default()
        .set("general.architecture", text(architecture))
        .set("general.name", text("Tiny"))
        .set(&key("block_count"), size(config.n_layers))
        .set(&key("context_length"), size(64))
        .set(&key("embedding_length"), size(config.d_model))
        .set(&key("feed_forward_length"), size(config.d_ff))
        .set(&key("attention.head_count"), size(config.n_heads))
        .set(&key("attention.head_count_kv"), size(config.n_kv_heads))
        .set(&key("attention.key_length"), size(config.d_head))
        .set(
            &key("attention.layer_norm_rms_epsilon"),
            Value::F32(config.norm_epsilon as f32),
        )
        .set(&key("rope.freq_base"), Value::F32(config.rope_theta as f32))
        .set("tokenizer.ggml.model", text("gpt2"))
        .set("tokenizer.ggml.pre", text("gpt-2"))
        .set(
            "tokenizer.ggml.tokens",
            Value::Strings(names.into_iter().map(|(_, name)| name).collect()),
        )
        .set("tokenizer.ggml.token_type", Value::I32s(kinds))
        .set("tokenizer.ggml.merges", Value::Strings(merges))
        .set("tokenizer.ggml.bos_token_id", Value::U32(0))
        .set("tokenizer.ggml.eos_token_id", Value::U32(1))
        .set(
            "tokenizer.ggml.add_bos_token",
            Value::Bool(tiny(name).tokenizer.encode("").unwrap() == [0]),
        )
        .set("tokenizer.chat_template", Value::String(template));

    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "safetensors")
        {
            continue;
        }
        let bytes = fs::read(path).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let shape = view.shape().to_vec();
            let mut rows = view.data().to_vec();
            let kind = match view.dtype() {
                Dtype::F32 => 0,
                Dtype::BF16 => 30,
                other => panic!("{other:?}"),
            };
            let is_reordered = matches!(architecture, "llama" | "smollm3");
            if is_reordered && (name.contains("q_proj") || name.contains("k_proj")) {
                rows = to_pairs(&rows, rows.len() / shape[0], config.d_head);
            }
            gguf = gguf.tensor(&gguf_name(&name), (kind, shape, rows));
        }
    }
    gguf
}

/// `LlamaModel.permute` of llama.cpp's converter: halves of a head become neighbouring pairs.
fn to_pairs(rows: &[u8], row_bytes: usize, d_head: usize) -> Vec<u8> {
    let row = |at: usize| &rows[at * row_bytes..(at + 1) * row_bytes];
    (0..rows.len() / row_bytes)
        .flat_map(|at| {
            let (head, within) = (at / d_head, at % d_head);
            row(head * d_head + within % 2 * d_head / 2 + within / 2).to_vec()
        })
        .collect()
}

fn gguf_name(name: &str) -> String {
    [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ]
    .into_iter()
    .fold(name.to_string(), |name, (theirs, gguf)| {
        name.replace(theirs, gguf)
    })
}

#[test]
fn a_model_is_the_same_in_both_formats() {
    for (name, architecture) in [
        ("tiny-llama", "llama"),
        ("tiny-mistral", "llama"),
        ("tiny-qwen2", "qwen2"),
        ("tiny-qwen3", "qwen3"),
        ("tiny-smollm3", "smollm3"),
    ] {
        let folder = tiny(name);
        let file = converted(name, architecture).load().unwrap();
        let expected = expected(name);
        assert_eq!(file.name, "Tiny");
        assert_eq!(
            LanguageModelConfig {
                context_length: folder.config.context_length,
                norm_epsilon: folder.config.norm_epsilon,
                ..file.config.clone()
            },
            folder.config
        );

        let device = file.model.device();
        let ids = tokens(&expected.ids, &device);
        let distance = distance(
            file.model.forward(ids.clone(), None),
            folder.model.forward(ids, None),
        );
        assert!(distance < 1e-5, "{name}: {distance}");

        let tokenizer = &file.tokenizer;
        assert_eq!(
            tokenizer.encode(&expected.text).unwrap(),
            expected.ids,
            "{name}"
        );
        assert_eq!(
            tokenizer.chat(&expected.messages, true).unwrap(),
            expected.chat,
            "{name}"
        );
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), Some(1)));
    }
}

#[test]
fn llama_3_s_slower_positions_are_told_by_what_they_divide() {
    // Of heads of 8 and a base of 500,000: frequencies 1, 0.0376, 0.00141 and 0.0000532, which turn
    // 1,304, 49, 1.844 and 0.069 times in 8,192 tokens. The third is mixed: (1.844 - 1) / 3 of it is
    // kept.
    let kept = (8192.0 * 500_000.0_f32.powf(-0.5) / std::f32::consts::TAU - 1.0) / 3.0;
    let divisors = [1.0, 1.0, 1.0 / ((1.0 - kept) / 32.0 + kept), 32.0];
    let slow = |divisors: &[f32]| {
        converted("tiny-llama", "llama")
            .set("llama.rope.freq_base", Value::F32(500_000.0))
            .tensor(
                "rope_freqs.weight",
                (0, vec![divisors.len()], f32_bytes(divisors)),
            )
    };
    let found = slow(&divisors).load().unwrap();
    let llama_3 = RopeScaling {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context_length: 8192,
    };
    assert_eq!(found.config.rope_scaling, Some(llama_3));

    let folder = copy("tiny-llama");
    let path = folder.path().join("config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["rope_parameters"] = serde_json::json!({
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    });
    json["rope_theta"] = serde_json::Value::Null;
    fs::write(&path, json.to_string()).unwrap();
    let expected = load(folder.path(), &Device::flex()).unwrap();
    let ids: Vec<u32> = (0..60).map(|at| at * 7 % 90).collect();
    let ids = tokens(&ids, &Device::flex());
    let logits = |model: &LanguageModel| model.forward(ids.clone(), None);
    assert!(distance(logits(&found.model), logits(&expected.model)) < 1e-5);
    let unscaled =
        converted("tiny-llama", "llama").set("llama.rope.freq_base", Value::F32(500_000.0));
    let unscaled = unscaled.load().unwrap();
    assert!(distance(logits(&found.model), logits(&unscaled.model)) > 1e-3);

    // Of another kind: one more divisor, or one that Llama 3 does not have.
    for other in [
        &[1.0, 1.0, divisors[2], 32.0, 32.0][..],
        &[1.0, 2.0, divisors[2], 32.0],
    ] {
        let error = slow(other).load().unwrap_err().to_string();
        assert!(error.contains("`rope_freqs.weight` is other"), "{error}");
    }
}

#[test]
fn what_is_not_supported_is_refused_with_what_is() {
    // No scaling of Llama 3 divides a frequency of 1.
    let factors: TensorBytes = (0, vec![1], f32_bytes(&[3.0]));
    let cases = [
        (
            small().set("general.architecture", text("gemma3")),
            "`general.architecture` is gemma3, which is not supported; supported: llama, qwen2, \
             qwen3, smollm3",
        ),
        (
            small().set("llama.rope.scaling.type", text("yarn")),
            "`llama.rope.scaling.type` is yarn",
        ),
        (
            small().tensor("rope_freqs.weight", factors),
            "rope_freqs.weight` is other",
        ),
        (
            small().set("llama.expert_count", Value::U32(8)),
            "`llama.expert_count` is 8",
        ),
        (
            small().set("llama.rope.dimension_count", Value::U32(1)),
            "`llama.rope.dimension_count` is 1",
        ),
        (
            small().set("llama.attention.sliding_window", Value::U32(32)),
            "sliding_window` is 32",
        ),
        (
            small().set("tokenizer.ggml.model", text("llama")),
            "`tokenizer.ggml.model` is llama",
        ),
        (
            small().set("tokenizer.ggml.pre", text("tekken")),
            "`tokenizer.ggml.pre` is tekken, which is not supported; supported: gpt2",
        ),
    ];
    for (gguf, message) in cases {
        let error = gguf.load().unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn what_is_missing_or_of_the_wrong_kind_is_named() {
    let nan: TensorBytes = (0, vec![8], f32_bytes(&[f32::NAN; 8]));
    let cases = [
        (
            small().without("general.architecture"),
            "`general.architecture` is missing",
        ),
        (
            small().without("llama.block_count"),
            "`llama.block_count` is missing",
        ),
        (
            small().without("tokenizer.ggml.merges"),
            "`tokenizer.ggml.merges` is missing",
        ),
        (
            small().without("token_embd.weight"),
            "`token_embd.weight` is missing",
        ),
        (
            small().without("blk.0.ffn_up.weight"),
            "missing: blocks.0.feed_forward.up.weight",
        ),
        (
            small().set("llama.block_count", text("one")),
            "`llama.block_count` is String, expected a size",
        ),
        (
            small().set("llama.attention.head_count", Value::U32(0)),
            "`number of heads` is 0",
        ),
        (
            small().set("llama.feed_forward_length", Value::U32(5)),
            "Shape mismatch for 'blocks.0.feed_forward.down.weight'",
        ),
        (
            small().set("tokenizer.ggml.eos_token_id", Value::U32(2)),
            "is 2, expected less than the model's vocabulary of 2",
        ),
        (
            small().set("tokenizer.ggml.merges", Value::Strings(vec!["a".into()])),
            "the tokenizer in",
        ),
        (
            small().tensor("surplus.weight", (0, vec![1], f32_bytes(&[0.0]))),
            "not used: surplus.weight",
        ),
        (
            small().tensor("blk.0.attn_norm.weight", nan),
            "value 0 is not a finite number",
        ),
    ];
    for (gguf, message) in cases {
        let error = gguf.load().unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let whole = small().bytes();
    // The last tensor's padding is no loss.
    for cut in (0..whole.len() - 32).step_by(7) {
        assert!(
            load_bytes(&whole[..cut]).is_err(),
            "{cut} of {} bytes",
            whole.len()
        );
    }
}

#[test]
fn a_damaged_file_is_an_error_or_a_model_but_never_a_panic() {
    let whole = small().bytes();
    let aligned_to_nothing = small().set("general.alignment", Value::U32(0));
    assert!(matches!(
        aligned_to_nothing.load(),
        Err(Error::Malformed { format: "GGUF", .. })
    ));
    assert!(matches!(
        load_bytes(b"PK\x03\x04 a zip"),
        Err(Error::Malformed { format: "GGUF", .. })
    ));

    // Bytes of the header, one after the other, set to what makes lengths huge or signs flip.
    let header = whole.len().min(2000);
    for at in (4..header).step_by(3) {
        for value in [0xFF, 0x80, 0x00] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            let _ = load_bytes(&damaged);
        }
    }
}

#[test]
fn a_folder_with_a_gguf_name_is_still_a_folder() {
    let folder = copy("tiny-llama");
    let renamed = folder.path().join("model.gguf");
    fs::create_dir(&renamed).unwrap();
    assert!(matches!(
        load(&renamed, &Device::flex()),
        Err(Error::NotAModel { .. })
    ));
}
