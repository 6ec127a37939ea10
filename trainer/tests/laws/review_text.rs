//! What people wrote at their events is read as a modality, and never of the event that is predicted.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use datasets::assets::AssetStore;
use datasets::reviews::{self, ReviewTexts};
use datasets::store::{PrepareConfig, prepare};
use datasets::{EventSlice, Source};
use trainer::ranking::RankItems;
use trainer::{Outcome, Prepared, RunConfig, Session, Silent, pretrain, review_writing, sources};
use user_encoder::{EncoderTask, ItemLoss, NegativeSampler, NextEventObjective, UserEncoder};

use crate::texts::{Counts, reader, tiny_bert};
use crate::toy;

fn story(user: usize, at: usize) -> String {
    format!("a story of {user} ships and {at} cities")
}

fn config(patches: &[&str]) -> RunConfig {
    let model = format!("text_encoder.model={}", tiny_bert().display());
    let own = [
        "encoder.modalities=[\
           { name = \"item\", vocab_size = 0, d_embedding = 6, weight = 1.0 }, \
           { name = \"rating\", vocab_size = 0, d_embedding = 3, weight = 1.0 }, \
           { name = \"title-text\", vocab_size = 0, d_embedding = 3, weight = 0.0 }, \
           { name = \"review-text\", vocab_size = 0, d_embedding = 4, weight = 0.0 }]",
        &model,
        "pretraining.steps=4",
    ];
    toy::encoder_only(&[&own[..], patches].concat())
}

fn prepared(config: &RunConfig, word: impl Fn(usize, usize) -> String) -> Prepared {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Toys_5.json");
    toy::write_reviews(&path, word);
    let prepared = Prepared::new(reviews::load(&path).unwrap(), config).unwrap();
    let texts = ReviewTexts::read(&path, &prepared.dataset).unwrap();
    let reader = reader(&tiny_bert(), &folder.path().join("cache"));
    let prepared = prepared.with_texts_read(&reader, &[], &mut Silent).unwrap();
    prepared
        .with_reviews_read(&reader, &texts, &mut Silent)
        .unwrap()
}

fn new_encoder(prepared: &Prepared) -> UserEncoder {
    let device = Device::flex();
    device.seed(4);
    prepared.new_encoder(&device)
}

#[test]
fn a_batch_brings_the_vectors_of_what_was_written_at_its_events() {
    let word = |user, at| match (user, at) {
        (3, 1) => String::new(),
        (user, at) => story(user, at),
    };
    let prepared = prepared(&config(&[]), word);
    let history = |user: usize| prepared.dataset.histories[user].events.slice(..4);
    let batch = prepared
        .batcher
        .batch(&[history(3), history(5).slice(2..)], &Device::flex());
    let ids: Vec<i64> = batch.modalities[3].to_data().iter::<i64>().collect();
    // The second event of the first has no text; the second history is padded.
    assert_eq!(ids, [2, 1, 3, 4, 5, 6, 0, 0]);
    let [rows, width] = batch.vectors[0].dims();
    assert_eq!((batch.vectors.len(), rows, width), (1, 7, 24));
    let values: Vec<f32> = batch.vectors[0].to_data().iter().collect();
    let special = &values[..2 * width];
    assert!(special.iter().all(|&value| value == 0.0));

    let cache = tempfile::tempdir().unwrap();
    let read = reader(&tiny_bert(), cache.path());
    let texts = [(3, 0), (3, 2), (3, 3), (5, 2), (5, 3)].map(|(user, at)| story(user, at));
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let expected = read.read("texts", &texts, &mut Silent).unwrap().values;
    let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-5;
    assert!(!values[2 * width..].iter().zip(&expected).any(differs));
}

/// What an encoder makes of the test histories, and the losses over whole histories.
fn figures(config: &RunConfig, word: impl Fn(usize, usize) -> String) -> (Vec<f32>, Vec<f32>) {
    let prepared = prepared(config, word);
    let encoder = new_encoder(&prepared);
    let device = Device::flex();
    let split = prepared.split();
    let tested: Vec<EventSlice<'_>> = (0..10)
        .map(|user| split.test(user).unwrap())
        .map(|(history, _)| history)
        .collect();
    let scores = encoder.item_logits(&prepared, &tested, &device);
    let objective = NextEventObjective {
        task: match config.objective.task {
            EncoderTask::NextEvent => EncoderTask::NextEvent,
            // The last event of each history is masked.
            EncoderTask::Masked { .. } => EncoderTask::Masked {
                probability: 0.0,
                last_only: 1.0,
            },
        },
        item: ItemLoss::Softmax {
            label_smoothing: 0.0,
        },
        sampler: NegativeSampler::uniform(prepared.encoder.modalities[0].vocab_size),
    };
    let loss = |user: usize| -> f32 {
        let whole = prepared.dataset.histories[user].events.slice(1..);
        let packed = prepared.batcher.pack(&[whole], &device);
        objective.loss(&encoder, &packed).total.into_scalar()
    };
    let scores = scores.into_data().iter().collect();
    (scores, (0..10).map(loss).collect())
}

#[test]
fn what_was_written_at_a_target_is_seen_by_nothing_that_predicts_it() {
    let _alone = toy::alone();
    let masked = [
        "encoder.attention=bidirectional",
        "objective.task={ masked = { probability = 0.3, last_only = 0.1 } }",
    ];
    for patches in [&[][..], &masked] {
        let config = config(patches);
        let changed = |changed: usize| {
            figures(&config, move |user, at| match at == changed {
                true => "toy city".into(),
                false => story(user, at),
            })
        };
        let (scores, losses) = figures(&config, story);
        // The sixth event is the test target, and the last that a loss predicts.
        assert_eq!(changed(5), (scores.clone(), losses.clone()));
        let (others, other_losses) = changed(4);
        assert!(scores.iter().zip(&others).any(|(a, b)| a != b));
        assert!(losses.iter().zip(&other_losses).all(|(a, b)| a != b));
    }
}

#[test]
fn a_run_on_a_store_reads_no_text_and_is_the_run_on_the_files_to_the_bit() {
    let _alone = toy::alone();
    let folder = tempfile::tempdir().unwrap();
    let (files, store) = (
        folder.path().join("Toys_5.json"),
        folder.path().join("store"),
    );
    toy::write_reviews(&files, story);
    let settings = PrepareConfig {
        reviews: true,
        ..PrepareConfig::default()
    };
    prepare(&Source::Path(files.clone()), &settings, &store).unwrap();
    let bert = folder.path().join("bert");
    fs::create_dir(&bert).unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(tiny_bert().join(name), bert.join(name)).unwrap();
    }
    let config = config(&[&format!("text_encoder.model={}", bert.display())]);
    let device = Device::flex();
    let cache = AssetStore::new(folder.path().join("cache"));
    let mut counts = Counts::default();
    sources::keep_texts(&store, &config, &cache, &device, &mut counts).unwrap();
    // Nine titles, and sixty reviews.
    assert_eq!(counts.0, [0, 9, 0, 60]);

    let run = |data: &Path, cache: &str| -> (Outcome, Vec<usize>) {
        let cache = AssetStore::new(folder.path().join(cache));
        let mut counts = Counts::default();
        let dataset = sources::dataset(&config.data, Some(data), &cache).unwrap();
        let prepared = Prepared::new(dataset, &config).unwrap();
        let prepared =
            sources::with_texts(prepared, &config, Some(data), &cache, &device, &mut counts);
        let mut silent = Silent;
        let session = Session::new(&mut silent);
        let (_, outcome) = pretrain(&prepared.unwrap(), &config, &device, session).unwrap();
        (outcome, counts.0)
    };
    let (of_files, read) = run(&files, "other");
    assert_eq!(read, [0, 9, 0, 60]);
    // Neither the encoder nor a cache is at hand any more.
    fs::remove_dir_all(&bert).unwrap();
    let (of_store, read) = run(&store, "empty");
    assert!(read.is_empty(), "{read:?}");
    assert_eq!(of_store.losses.len(), 4);
    assert_eq!(of_store.losses, of_files.losses);
    assert_eq!(of_store.best, of_files.best);
}

#[test]
fn texts_that_stay_on_disk_are_read_once_and_reading_goes_on_where_it_stopped() {
    let cache = tempfile::tempdir().unwrap();
    let text = |n: usize| format!("toy story {n}");
    let map = || {
        let mut counts = Counts::default();
        let reader = reader(&tiny_bert(), cache.path());
        let texts = |rows: std::ops::Range<usize>| Ok(rows.map(text).collect());
        let vectors = reader.map("reviews", 1100, texts, &mut counts).unwrap();
        let rows = [0, 511, 512, 1099].map(|row| vectors.row(row).collect::<Vec<f32>>());
        (rows, counts.0)
    };
    let (rows, counts) = map();
    assert_eq!(counts, [0, 512, 1024, 1100]);
    let encoder = text_encoder::TextEncoder::load(&tiny_bert(), &Device::flex()).unwrap();
    for (row, n) in rows.iter().zip([0, 511, 512, 1099]) {
        let alone: Tensor<2> = encoder.encode(&[&text(n)]).unwrap();
        let alone: Vec<f32> = alone.into_data().iter().collect();
        let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-5;
        assert!(!row.iter().zip(&alone).any(differs), "row {n}");
    }
    assert_eq!(map(), (rows.clone(), vec![]));

    // As if it had been interrupted in the second of three.
    let folder = fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap();
    let mut files: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap())
        .collect();
    files.sort_by_key(|file| file.metadata().unwrap().modified().unwrap());
    files[1..]
        .iter()
        .for_each(|file| fs::remove_file(file.path()).unwrap());
    let (again, counts) = map();
    assert_eq!((again, counts), (rows, vec![512, 1024, 1100]));
}

#[test]
fn reviews_are_written_from_a_store_as_from_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let (files, store) = (
        folder.path().join("Toys_5.json"),
        folder.path().join("store"),
    );
    toy::write_reviews(&files, |user, at| format!("word{user} {}", at / 2));
    let cache = AssetStore::new(folder.path());
    let run = toy::config(&[
        "encoder.modalities=[{ name = \"item\", vocab_size = 0, d_embedding = 6, weight = 1.0 }]",
        "tuning.genre_share=0",
        "evaluation.users=0",
        "review={ prompt = \"On{title}:\", target = \"text\", max_tokens = 8, share = 1.0 }",
    ]);
    let row = |data: &Path| {
        let dataset = sources::dataset(&run.data, Some(data), &cache).unwrap();
        let prepared = Prepared::new(dataset, &run).unwrap();
        let texts = sources::review_texts(&run.data, Some(data), &cache, &prepared.dataset);
        let tasks = toy::tasks(&prepared, &run).with_reviews(&run, texts?)?;
        review_writing::latest(&prepared, tasks.reviews.as_deref().unwrap())
    };
    let source = Source::Path(files.clone());
    prepare(&source, &PrepareConfig::default(), &store).unwrap();
    let error = row(&store).unwrap_err().to_string();
    assert!(error.contains("user-llm data prepare --config"), "{error}");

    fs::remove_dir_all(&store).unwrap();
    let settings = PrepareConfig {
        reviews: true,
        ..PrepareConfig::default()
    };
    prepare(&source, &settings, &store).unwrap();
    let of_store = row(&store).unwrap();
    assert_eq!((of_store.people, of_store.rouge_1.mean), (10, 1.0));
    assert_eq!(of_store, row(&files).unwrap());
}
