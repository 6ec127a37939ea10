//! What is exported is what was tuned.

use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::{Device, Tensor, TensorData};
use llm::LanguageModelConfig;
use llm::load::LoadedModel;
use llm_fusion::UserLlm;
use trainer::{Prepared, RunConfig, RunFolder, Session, Silent, export, tune};

use crate::toy;

fn loaded() -> LoadedModel {
    LoadedModel {
        model: toy::language_model(&Device::flex().autodiff()).valid(),
        tokenizer: toy::tokenizer(),
        config: LanguageModelConfig::new(96, 12, 2, 2, 1, 6, 14),
        name: "toy".into(),
        sha256: "hash".into(),
    }
}

/// A run that was tuned.
fn tuned(config: &RunConfig, prepared: &Prepared, folder: &Path) -> RunFolder {
    let run = RunFolder::open(folder, config, prepared).unwrap();
    let tasks = toy::tasks(prepared, config);
    let model = toy::user_llm(prepared, config);
    run.save_encoder(model.encoder.valid()).unwrap();
    let mut silent = Silent;
    let (tuned, outcome) =
        tune(model, &tasks, prepared, config, Session::new(&mut silent)).unwrap();
    run.save_user_llm(config, &tuned, &outcome.trained, "hash")
        .unwrap();
    run
}

/// What the model answers to a few tokens with the first test user attached.
fn answer(model: &UserLlm, prepared: &Prepared) -> TensorData {
    let device = model.device();
    let (history, _) = prepared.split().test(prepared.test_users[0]).unwrap();
    let latest = prepared.batcher.latest(history);
    let user = model.read_user(&prepared.batcher.batch(&[latest], &device));
    let tokens = Tensor::from_data([[1_i64, 5, 9]], &device);
    model.forward(tokens, None, Some(&user)).into_data()
}

/// The fused model from nothing but the files.
fn from_files(out: &Path, config: &RunConfig, prepared: &Prepared) -> UserLlm {
    let device = Device::flex();
    let llm = llm::load::load(&out.join("language-model"), &device)
        .unwrap()
        .model;
    let language = config.language().unwrap();
    let mut model = language.fuse(llm, prepared.new_encoder(&device)).unwrap();
    let store = SafetensorsStore::from_file(out.join("fusion/fusion.safetensors"));
    let result = model.load_from(&mut store.allow_partial(true)).unwrap();
    assert!(
        result.unused.is_empty() && result.errors.is_empty(),
        "{result:?}"
    );
    model
}

fn assert_exported(patches: &[&str], has_adapter: bool) {
    let _alone = toy::alone();
    let config = toy::config(patches);
    let prepared = toy::prepared(&config);
    let folder = tempfile::tempdir().unwrap();
    let run = tuned(&config, &prepared, folder.path());
    let out = folder.path().join("out");
    let exported = export(&run, &config, &prepared, loaded(), &out).unwrap();
    assert!(exported.distance < 1e-4, "{exported:?}");

    let base = loaded().model;
    let before = run.load_user_llm(&config, &prepared, base, "hash").unwrap();
    let again = from_files(&out, &config, &prepared);
    let close = burn::tensor::Tolerance::absolute(1e-4);
    answer(&again, &prepared).assert_approx_eq::<f32>(&answer(&before, &prepared), close);

    let account = fs::read_to_string(out.join("export.json")).unwrap();
    let account: serde_json::Value = serde_json::from_str(&account).unwrap();
    let trained = account["trained"].as_object().unwrap();
    assert!(
        trained
            .values()
            .any(|file| file == "fusion/fusion.safetensors")
    );
    let in_llm = trained.values().any(|file| file == "language-model");
    assert_eq!(in_llm, patches.iter().any(|patch| !patch.ends_with("enc")));
    assert_eq!(
        out.join("adapter/adapter_config.json").exists(),
        has_adapter
    );

    // Whoever may read the card may read the weights.
    let permissions = |name: &str| fs::metadata(out.join(name)).map(|file| file.permissions());
    let weights = [
        "adapter/adapter_model",
        "language-model/model",
        "fusion/fusion",
        "check",
    ];
    for name in weights.map(|name| format!("{name}.safetensors")) {
        let (found, expected) = (permissions(&name), permissions("README.md").unwrap());
        assert!(
            found.is_ok_and(|found| found == expected)
                || name.starts_with("adapter") && !has_adapter,
            "{name}"
        );
    }

    let card = fs::read_to_string(out.join("README.md")).unwrap();
    for part in [
        "## Data",
        "12 people",
        "## Training",
        "## Figures",
        "## Licence",
        "## Limits",
    ] {
        assert!(card.contains(part), "{part} is missing in {card}");
    }
    assert!(!card.contains("user-3"), "{card}");
    let hidden = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
    assert!(!fs::read_dir(folder.path()).unwrap().flatten().any(hidden));
    let full = export(&run, &config, &prepared, loaded(), &out).unwrap_err();
    assert!(
        full.to_string().contains("is there already and not empty"),
        "{full}"
    );
}

#[test]
fn a_frozen_language_model_is_exported_with_its_fusion() {
    assert_exported(&["tuning.strategy=enc"], false);
}

#[test]
fn adapters_are_exported_merged_and_by_themselves() {
    assert_exported(&["tuning.strategy=lora"], true);
}

#[test]
fn a_language_model_that_was_trained_whole_is_exported() {
    assert_exported(&["tuning.strategy=full"], false);
}

#[test]
fn a_run_that_is_not_tuned_leaves_nothing() {
    let _alone = toy::alone();
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::open(folder.path(), &config, &prepared).unwrap();
    let out = folder.path().join("out");
    let error = export(&run, &config, &prepared, loaded(), &out).unwrap_err();
    assert!(
        error.to_string().contains("`user-llm tune` makes it"),
        "{error}"
    );
    let left = fs::read_dir(folder.path()).unwrap().flatten();
    let mut left = left.map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert!(!left.any(|name| name.contains("export") || name == "out"));
}
