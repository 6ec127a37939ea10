//! Speed and memory of the language model: prefill, decoding, ranking, tuning steps.
//!
//! ```text
//! cargo bench --bench llm                            # all, each in a process of its own
//! cargo bench --bench llm -- decode --json           # one
//! bash benches/peers/run.sh llm                      # beside PyTorch and llama.cpp
//! ```
//!
//! What each measure is: docs/benchmarks.md. The other side: benches/peers/llm.py.
#![recursion_limit = "256"]

mod support;

use std::path::PathBuf;

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};
use support::{Measure, Setting};
use user_llm::datasets::assets::{self, AssetStore, default_cache_dir};
use user_llm::llm::generate::Decode;
use user_llm::llm::load::load;
use user_llm::llm::ranking::{BeamConfig, Normalisation, TokenTrie, beam_search};
use user_llm::llm::{LanguageModel, LanguageModelConfig};
use user_llm::llm_fusion::{
    Blocks, FusionConfig, FusionKind, LoraConfig, TextTargets, TuningStrategy, UserDecoder,
    UserLlm, UserLlmConfig, UserReader,
};
use user_llm::perceiver::PerceiverResamplerConfig;
use user_llm::user_encoder::{EventBatch, ModalityConfig, UserEncoderConfig};

const N_ITEMS: usize = 3706;
/// Events of a history, tokens of a prompt and of an answer: the paper's.
const EVENTS: usize = 50;
const PROMPT: usize = 32;
const ANSWER: usize = 8;
/// Blocks that read the user, where a measure does not say otherwise.
const FUSED: usize = 8;
/// People of a tuning step, and of a batch that is decoded or ranked.
const BATCH: usize = 8;

fn main() -> anyhow::Result<()> {
    // The peers read the same file.
    if std::env::args().nth(1).as_deref() == Some("--fetch") {
        #[expect(clippy::print_stdout, reason = "benches/peers/run.sh reads it")]
        {
            println!("{}", smollm2()?.display());
        }
        return Ok(());
    }
    support::main(&[
        Measure {
            name: "prefill-32",
            run: |setting| prefill(setting, 32, FloatDType::F32),
        },
        Measure {
            name: "prefill-512",
            run: |setting| prefill(setting, 512, FloatDType::F32),
        },
        Measure {
            name: "decode",
            run: |setting| decode(setting, FloatDType::F32),
        },
        Measure {
            name: "decode-batch-8",
            run: decode_batch,
        },
        Measure {
            name: "prefill-32-f16",
            run: |setting| prefill(setting, 32, FloatDType::F16),
        },
        Measure {
            name: "prefill-512-f16",
            run: |setting| prefill(setting, 512, FloatDType::F16),
        },
        Measure {
            name: "decode-f16",
            run: |setting| decode(setting, FloatDType::F16),
        },
        Measure {
            name: "decode-user-4",
            run: |setting| decode_user(setting, 4),
        },
        Measure {
            name: "decode-user-8",
            run: |setting| decode_user(setting, FUSED),
        },
        // The same again, for the peer's other program.
        Measure {
            name: "llama.cpp-prefill-32",
            run: |setting| prefill(setting, 32, FloatDType::F32),
        },
        Measure {
            name: "llama.cpp-prefill-512",
            run: |setting| prefill(setting, 512, FloatDType::F32),
        },
        Measure {
            name: "llama.cpp-decode",
            run: |setting| decode(setting, FloatDType::F32),
        },
        Measure {
            name: "rank-3706",
            run: rank,
        },
        Measure {
            name: "tune-enc",
            run: |setting| tune(setting, TuningStrategy::Enc),
        },
        Measure {
            name: "tune-proj",
            run: |setting| tune(setting, TuningStrategy::Proj),
        },
        Measure {
            name: "tune-lora",
            run: |setting| tune(setting, TuningStrategy::Lora),
        },
    ])
}

/// The logits after a text that is read for the first time, with matrices in this float type.
fn prefill(setting: &Setting, n: usize, matrices: FloatDType) -> anyhow::Result<Vec<f64>> {
    let model = language_model(setting)?.with_matrices_in(matrices);
    let text = tokens(setting.size(n, 8), 0);
    Ok(setting.time(10, || {
        model.decoder().push(&text).argmax(0).into_scalar::<i32>();
    }))
}

/// One more token of a text, greedily.
fn decode(setting: &Setting, matrices: FloatDType) -> anyhow::Result<Vec<f64>> {
    let model = language_model(setting)?.with_matrices_in(matrices);
    let mut decoder = model.decoder();
    Ok(write_on(setting, &mut decoder))
}

/// The same by a model that attends to 16 embeddings of a user in its upper so many blocks; 4 as in
/// `configs/movielens-1m.toml`.
fn decode_user(setting: &Setting, n_blocks: usize) -> anyhow::Result<Vec<f64>> {
    let model = fused(setting, &setting.device, n_blocks)?;
    let user = model.read_user(&histories(1, &setting.device));
    let mut decoder = UserDecoder::new(&model, Some(&user));
    Ok(write_on(setting, &mut decoder))
}

fn write_on(setting: &Setting, decoder: &mut impl Decode) -> Vec<f64> {
    let mut next = decoder
        .push(&tokens(PROMPT, 0))
        .argmax(0)
        .into_scalar::<i32>();
    setting.time(60, || {
        let logits = decoder.push(&[next as u32]);
        next = logits.argmax(0).into_scalar();
    })
}

/// One more token of each of 8 texts, read and written together.
fn decode_batch(setting: &Setting) -> anyhow::Result<Vec<f64>> {
    let model = language_model(setting)?;
    let mut cache = model.new_cache();
    let mut push = |tokens: Tensor<2, Int>| {
        let [batch, n] = tokens.dims();
        let plan = model.plan_causal(batch, n, cache.len(), None);
        let hidden = model.forward_cached(tokens, &plan, &mut cache);
        let last = hidden.narrow(1, n - 1, 1);
        let next = model.logits(last).argmax(2).squeeze_dim::<2>(2);
        let ids: Vec<i64> = next.to_data().iter::<i64>().collect();
        Tensor::from_data(TensorData::new(ids, [batch, 1]), &setting.device)
    };
    let prompts: Vec<i64> = (0..BATCH)
        .flat_map(|row| tokens(PROMPT, row))
        .map(i64::from)
        .collect();
    let prompts = TensorData::new(prompts, [BATCH, PROMPT]);
    let mut next = push(Tensor::from_data(prompts, &setting.device));
    Ok(setting.time(60, || next = push(next.clone())))
}

/// The ten likeliest of 3,706 titles for 8 people, by a beam of 30 over the trie and the trunk that
/// they share; seconds for one of them.
fn rank(setting: &Setting) -> anyhow::Result<Vec<f64>> {
    let model = fused(setting, &setting.device, FUSED)?;
    let trie = TokenTrie::new(&titles(setting.size(N_ITEMS, 40)), 0)?;
    let prompt = tokens(PROMPT, 0);
    let trunk = model.trunk(&prompt, &trie);
    let histories = histories(BATCH, &setting.device);
    let search = BeamConfig {
        width: 30,
        k: 10,
        normalisation: Normalisation::Trie,
    };
    let seconds = setting.time(5, || {
        let user = model.read_user(&histories);
        let mut reader = UserReader::new(&model, &user, Some(&trunk));
        let forest = reader.forest(&vec![prompt.clone(); BATCH]);
        let nothing = vec![Vec::new(); BATCH];
        beam_search(&mut reader, forest, &trie, &nothing, &search);
    });
    Ok(seconds
        .into_iter()
        .map(|of_all| of_all / BATCH as f64)
        .collect())
}

/// A step on 8 people: cross-entropy of answers of 8 tokens after prompts of 32, over the whole
/// vocabulary and by the whole model, AdamW on what the strategy trains.
fn tune(setting: &Setting, strategy: TuningStrategy) -> anyhow::Result<Vec<f64>> {
    let device = setting.device.clone().autodiff();
    let model = fused(setting, &device, FUSED)?;
    let mut model = Some(strategy.apply(model, &Blocks::All, &LoraConfig::new()));
    let mut optimizer: ModuleOptimizer = AdamWConfig::new().init();
    let histories = histories(BATCH, &device);
    let prompts: Vec<_> = (0..BATCH).map(|row| tokens(PROMPT, row)).collect();
    let texts: Vec<_> = (0..BATCH).map(|row| tokens(ANSWER, row + 50)).collect();
    let targets = TextTargets {
        prompts: &prompts,
        texts: &texts,
    };
    Ok(setting.time(10, || {
        let before = model.take().expect("every step puts the model back");
        let loss = targets.loss(&before, &before.read_user(&histories));
        let gradients = GradientsParams::from_grads(loss.backward(), &before);
        model = Some(optimizer.step(1e-4, before, gradients));
    }))
}

/// SmolLM2-135M, dequantised to f32; in a smoke run something tiny.
fn language_model(setting: &Setting) -> anyhow::Result<LanguageModel> {
    Ok(match setting.size(1, 0) {
        0 => LanguageModelConfig::new(512, 32, 9, 4, 2, 8, 64).init(&setting.device),
        _ => load(&smollm2()?, &setting.device)?.model,
    })
}

/// Where the file is; fetched at the first time.
fn smollm2() -> anyhow::Result<PathBuf> {
    let store = AssetStore::new(default_cache_dir(|name| std::env::var_os(name)));
    Ok(store.fetch(assets::find("smollm2-135m-instruct")?, None)?)
}

/// The paper's encoder and Perceiver, read by cross-attention in the upper blocks.
fn fused(setting: &Setting, device: &Device, n_blocks: usize) -> anyhow::Result<UserLlm> {
    let encoder =
        UserEncoderConfig::new(vec![ModalityConfig::new("item".into(), N_ITEMS + 2, 128)])
            .with_n_layers(6)
            .with_d_model(128)
            .with_n_heads(8)
            .with_d_ff(512)
            .init(device);
    let fusion = FusionConfig::new(FusionKind::CrossAttention, Blocks::Upper(n_blocks));
    // Closed gates would compute the same, but ours could skip them.
    let config = UserLlmConfig::new(fusion.with_gated(false))
        .with_perceiver(Some(PerceiverResamplerConfig::new(128).with_n_layers(2)));
    let llm = language_model(setting)?;
    let llm = match device.is_autodiff() {
        true => llm.train(),
        false => llm,
    };
    Ok(config.init(llm, encoder))
}

/// Each person's walk through the catalogue.
fn histories(n: usize, device: &Device) -> EventBatch {
    let walk =
        |user: usize| (0..EVENTS).map(move |at| (2 + (user * 797 + at * 31) % N_ITEMS) as i64);
    let items: Vec<i64> = (0..n).flat_map(walk).collect();
    let items = TensorData::new(items, [n, EVENTS, 1]);
    EventBatch::new(vec![Tensor::from_data(items, device)], vec![EVENTS; n])
}

/// Some text; the peers have the same.
fn tokens(n: usize, row: usize) -> Vec<u32> {
    (0..n)
        .map(|at| (1 + (row * 37 + at * 101) % 500) as u32)
        .collect()
}

/// Titles of three to eight tokens, that begin alike as real ones do.
fn titles(n: usize) -> Vec<Vec<u32>> {
    let title = |at: usize| {
        let first = 1 + (at % 61) * (at % 13);
        let rest = (0..2 + at % 6).map(|place| 1 + (at / (1 + place * 7)) % 400);
        let unique = [1 + at % 500, 1 + at / 500];
        std::iter::once(first)
            .chain(rest)
            .chain(unique)
            .map(|token| token as u32)
            .collect()
    };
    (0..n).map(title).collect()
}
