//! A run's folder gives back what was put into it.

use std::fs;

use burn::module::Module;
use burn::tensor::{Device, TensorData};
use llm_fusion::UserLlm;
use serde_json::json;
use trainer::{EncoderInit, Prepared, RunConfig, RunFolder, Session, Silent, pretrain, tune};

use crate::toy;

fn open(folder: &tempfile::TempDir, config: &RunConfig, prepared: &Prepared) -> RunFolder {
    RunFolder::open(folder.path(), config, prepared).unwrap()
}

/// What the model answers to a few tokens with the first test user attached.
fn logits(model: &UserLlm, prepared: &Prepared) -> TensorData {
    let device = model.device();
    let (history, _) = prepared.split().test(prepared.test_users[0]).unwrap();
    let user = model.read_user(
        &prepared
            .batcher
            .batch(&[prepared.batcher.latest(history)], &device),
    );
    let tokens = burn::tensor::Tensor::from_data([[1_i64, 5, 9]], &device);
    model.forward(tokens, None, Some(&user)).into_data()
}

#[test]
fn a_pretrained_encoder_comes_back_bit_for_bit() {
    let _alone = toy::alone();
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let folder = tempfile::tempdir().unwrap();
    let run = open(&folder, &config, &prepared);
    let mut silent = Silent;
    let session = Session::new(&mut silent);
    let (encoder, _) = pretrain(&prepared, &config, &Device::flex(), session).unwrap();
    run.save_encoder(encoder.clone()).unwrap();
    let again = run.load_encoder(&prepared, &Device::flex()).unwrap();
    assert_eq!(toy::parameters(&encoder), toy::parameters(&again));
}

fn assert_a_tuned_model_comes_back(patches: &[&str], file: &str) {
    assert_tuned_by_a_config_comes_back(toy::config(patches), file);
}

fn assert_tuned_by_a_config_comes_back(config: RunConfig, file: &str) {
    let _alone = toy::alone();
    let prepared = toy::prepared(&config);
    let tasks = toy::tasks(&prepared, &config);
    let folder = tempfile::tempdir().unwrap();
    let run = open(&folder, &config, &prepared);
    let mut model = toy::user_llm(&prepared, &config);
    run.save_encoder(model.encoder.valid()).unwrap();
    if config.language().unwrap().tuning.encoder == EncoderInit::Random {
        model.encoder = prepared.random_encoder(&config, &model.device());
    }

    let mut silent = Silent;
    let (tuned, outcome) =
        tune(model, &tasks, &prepared, &config, Session::new(&mut silent)).unwrap();
    let trained: Vec<_> = outcome.trained.clone();
    run.save_user_llm(&config, &tuned, &trained, "hash")
        .unwrap();
    assert!(folder.path().join(file).is_file(), "{file} is not there");

    let llm = toy::language_model(&Device::flex().autodiff()).valid();
    let again = run
        .load_user_llm(&config, &prepared, llm.clone(), "hash")
        .unwrap();
    assert_eq!(logits(&tuned, &prepared), logits(&again, &prepared));

    let other = run.load_user_llm(&config, &prepared, llm, "another hash");
    let message = other.unwrap_err().to_string();
    assert!(
        message.contains("has SHA-256 another hash, it was tuned on hash"),
        "{message}"
    );
}

#[test]
fn a_model_tuned_by_enc_answers_the_same_after_loading() {
    assert_a_tuned_model_comes_back(&[], "enc-cross-attention.safetensors");
}

#[test]
fn a_model_tuned_by_adapters_answers_the_same_after_loading() {
    assert_a_tuned_model_comes_back(
        &["tuning.strategy=lora"],
        "lora-cross-attention.safetensors",
    );
}

#[test]
fn a_soft_prompt_tuned_whole_answers_the_same_after_loading() {
    let patches = ["tuning.strategy=full", "fusion.kind=soft-prompt"];
    assert_a_tuned_model_comes_back(&patches, "full-soft-prompt.safetensors");
}

/// It is in no file where a strategy leaves it alone.
#[test]
fn a_random_encoder_that_was_read_answers_the_same_after_loading() {
    for strategy in ["proj", "enc"] {
        let strategy = format!("tuning.strategy={strategy}");
        let random = ["tuning.encoder=random", "tuning.teacher_weight=0"];
        let config = toy::config(&[&random[..], &[&strategy]].concat());
        let file = format!("{}.safetensors", config.language().unwrap().tuning_name());
        assert_tuned_by_a_config_comes_back(config, &file);
    }
}

/// The contenders of the paper are configs: the history as text, and text beside embeddings.
#[test]
fn what_reads_text_answers_the_same_after_loading() {
    let alone = [
        "tuning.strategy=lora",
        "fusion.kind=none",
        "prompts.text_events=3",
    ];
    assert_a_tuned_model_comes_back(&alone, "lora-none-text-3.safetensors");
    let both = ["prompts.text_events=2"];
    assert_a_tuned_model_comes_back(&both, "enc-cross-attention-text-2.safetensors");
}

/// The paper's other encoder is a config, too.
#[test]
fn what_reads_a_dual_encoder_answers_the_same_after_loading() {
    let config = toy::fused_dual(&["perceiver.n_latents=2", "fusion.n_recent=1"]);
    assert_tuned_by_a_config_comes_back(config, "enc-cross-attention.safetensors");
}

#[test]
fn of_a_language_model_that_reads_no_user_nothing_else_trains() {
    for (strategy, part) in [("lora", ".lora."), ("full", "llm.")] {
        let strategy = format!("tuning.strategy={strategy}");
        let patches = [
            strategy.as_str(),
            "fusion.kind=none",
            "prompts.text_events=3",
        ];
        let config = toy::config(&patches);
        let model = toy::user_llm(&toy::prepared(&config), &config);
        let tuning = config.language().unwrap().tuning;
        let trained = llm_fusion::trained_parameters(&tuning.apply(model));
        assert!(!trained.is_empty());
        assert!(
            trained.iter().all(|(path, _)| path.contains(part)),
            "{trained:?}"
        );
    }
}

#[test]
fn a_file_that_is_missing_says_which_command_makes_it() {
    let _alone = toy::alone();
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let folder = tempfile::tempdir().unwrap();
    let message = RunFolder::config(folder.path(), &[])
        .unwrap_err()
        .to_string();
    assert!(message.contains("`user-llm pretrain`"), "{message}");

    let run = open(&folder, &config, &prepared);
    let device = Device::flex();
    let message = run
        .load_encoder(&prepared, &device)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("encoder.safetensors") && message.contains("`user-llm pretrain`"),
        "{message}"
    );
    let llm = toy::language_model(&device);
    let message = run
        .load_user_llm(&config, &prepared, llm, "hash")
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("enc-cross-attention.safetensors") && message.contains("`user-llm tune`"),
        "{message}"
    );
}

#[test]
fn weights_of_another_shape_or_that_are_no_weights_are_refused() {
    let _alone = toy::alone();
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let folder = tempfile::tempdir().unwrap();
    let run = open(&folder, &config, &prepared);
    let device = Device::flex();
    run.save_encoder(prepared.new_encoder(&device)).unwrap();

    let wider = toy::prepared(&toy::config(&[
        "encoder.d_model=12",
        "perceiver.d_model=12",
    ]));
    let message = run.load_encoder(&wider, &device).unwrap_err().to_string();
    assert!(
        message.contains("do not fit this config and data"),
        "{message}"
    );
    fs::write(folder.path().join("encoder.safetensors"), "no weights").unwrap();
    let message = run
        .load_encoder(&prepared, &device)
        .unwrap_err()
        .to_string();
    assert!(message.contains("encoder.safetensors"), "{message}");
}

#[test]
fn a_folder_remembers_its_config_and_refuses_another_pretraining() {
    let _alone = toy::alone();
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let folder = tempfile::tempdir().unwrap();
    let run = open(&folder, &config, &prepared);
    let mut silent = Silent;
    let checkpoints = run.pretraining().unwrap();
    let session = Session {
        checkpoints: Some(&checkpoints),
        ..Session::new(&mut silent)
    };
    pretrain(&prepared, &config, &Device::flex(), session).unwrap();

    let again = RunFolder::config(folder.path(), &["tuning.answers=1".into()]).unwrap();
    assert_eq!(again.language().unwrap().tuning.answers, 1);
    assert_eq!(again.pretraining.steps, config.pretraining.steps);
    open(&folder, &again, &prepared);

    let other = toy::config(&["pretraining.steps=11"]);
    let message = RunFolder::open(folder.path(), &other, &prepared)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("another config or other data"),
        "{message}"
    );
}

#[test]
fn what_a_tuning_took_is_told_apart_from_another_of_the_same_folder() {
    let _alone = toy::alone();
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let folder = tempfile::tempdir().unwrap();
    let run = open(&folder, &config, &prepared);
    let other = run.tuned_by(&toy::config(&["tuning.strategy=proj"]));
    let line = |step: u32| json!({ "stage": "tuning", "step": step, "seconds": 2.0 });
    for (run, steps) in [(&run, 3), (&other, 5)] {
        let mut log = run.logger().unwrap();
        log(json!({ "stage": "pretraining", "step": 1, "seconds": 1.0 }));
        (1..=steps).for_each(|step| log(line(step)));
    }
    let took = |run: &RunFolder, stage| run.training(stage).map(|it| (it.steps, it.seconds));
    assert_eq!(took(&run, "tuning"), Some((3, 6.0)));
    assert_eq!(took(&other, "tuning"), Some((5, 10.0)));
    assert_eq!(took(&other, "pretraining"), Some((1, 2.0)));
    // Lines of before they had a name are anybody's.
    run.log(&line(7)).unwrap();
    assert_eq!(took(&run, "tuning"), Some((7, 8.0)));
}

#[test]
fn the_vocabulary_and_the_metrics_can_be_read_back() {
    let _alone = toy::alone();
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let folder = tempfile::tempdir().unwrap();
    let run = open(&folder, &config, &prepared);
    for step in 1..3 {
        run.log(&serde_json::json!({ "step": step })).unwrap();
    }
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("metrics.jsonl"), "{\"step\":1}\n{\"step\":2}\n");
    let vocabulary: serde_json::Value = serde_json::from_str(&read("vocabulary.json")).unwrap();
    assert_eq!(
        vocabulary["rating"],
        serde_json::json!(["2.5", "3", "4", "5"])
    );
    assert_eq!(
        vocabulary["genres"],
        serde_json::json!(["Crime", "Drama", "Noir", "War"])
    );
    assert_eq!(vocabulary["item"].as_array().unwrap().len(), 19);
    assert_eq!(vocabulary["item"][18], "18");
}
