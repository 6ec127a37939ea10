//! A run that reads its events from a prepared store is the run that has them in memory.

use burn::tensor::Device;
use datasets::generator::{FileKind, Generator, GeneratorConfig};
use datasets::store::prepare;
use datasets::{Dataset, ReadOptions, Source};
use trainer::{Outcome, Prepared, RunConfig, Session, Silent, evaluate, pretrain, sources};

use crate::toy;

#[test]
fn losses_validations_and_answers_are_those_of_data_in_memory() {
    let _alone = toy::alone();
    let folder = tempfile::tempdir().unwrap();
    let (log, store) = (folder.path().join("log"), folder.path().join("store"));
    let size = GeneratorConfig {
        users: 40,
        items: 90,
        events: 1_200,
        genres: 5,
        min_history: 4,
        seed: 5,
    };
    Generator::new(&size)
        .unwrap()
        .write(FileKind::Movielens, &log)
        .unwrap();
    let source = Source::Path(log);
    let in_memory = source.load(&ReadOptions::default()).unwrap();
    prepare(&source, &Default::default(), &store).unwrap();

    // Windows that are the same in every pass, and ones that are cut anew.
    for stride in ["data.stride=2", "data.stride=0"] {
        let config = toy::encoder_only(&[stride, "pretraining.steps=9"]);
        let cache = datasets::assets::AssetStore::new(folder.path());
        let from_store = sources::dataset(&config.data, Some(&store), &cache).unwrap();
        let (expected, answers) = run(in_memory.clone(), &config);
        let (outcome, same_answers) = run(from_store, &config);
        assert_eq!(expected.losses.len(), 9);
        assert_eq!(outcome.losses, expected.losses);
        assert_eq!(outcome.best, expected.best);
        assert_eq!(same_answers, answers);
    }
}

/// Pretrain, and rank for the test users.
fn run(dataset: Dataset, config: &RunConfig) -> (Outcome, Option<Vec<usize>>) {
    let device = Device::flex();
    let prepared = Prepared::new(dataset, config).unwrap();
    let mut silent = Silent;
    let session = Session::new(&mut silent);
    let (encoder, outcome) = pretrain(&prepared, config, &device, session).unwrap();
    let answered = evaluate::encoder(&prepared, config, &encoder, &device);
    (outcome, answered.ranks)
}
