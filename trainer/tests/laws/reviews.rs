//! Review writing, from files to figures.

use datasets::reviews::{self, ReviewTexts};
use trainer::{Prepared, Session, Silent, Tasks, review_writing, tune};

use crate::toy;

const REVIEW: &str =
    "review={ prompt = \"On{title}:\", target = \"text\", max_tokens = 8, share = 1.0 }";

/// Ten people who write one word about each of nine things, the same word for all.
fn data(word: impl Fn(usize, usize) -> String) -> (tempfile::TempDir, Prepared, ReviewTexts) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("Toys_5.json");
    toy::write_reviews(&path, word);
    let dataset = reviews::load(&path).unwrap();
    let prepared = Prepared::new(dataset, &config(&[])).unwrap();
    let texts = ReviewTexts::read(&path, &prepared.dataset).unwrap();
    (folder, prepared, texts)
}

/// Reviews carry no genres here.
fn config(patches: &[&str]) -> trainer::RunConfig {
    let modalities =
        "encoder.modalities=[{ name = \"item\", vocab_size = 0, d_embedding = 6, weight = 1.0 }]";
    let own = [
        modalities,
        "tuning.genre_share=0",
        "tuning.strategy=full",
        "evaluation.users=0",
        REVIEW,
    ];
    toy::config(&[&own[..], patches].concat())
}

fn tasks(prepared: &Prepared, config: &trainer::RunConfig, texts: ReviewTexts) -> Tasks {
    let tasks = toy::tasks(prepared, config);
    tasks.with_reviews(config, texts).unwrap()
}

#[test]
fn who_learns_what_all_people_write_writes_it() {
    let _alone = toy::alone();
    let (_folder, prepared, texts) = data(|_, _| "ab".into());
    let config = config(&[
        "tuning.whole_model_steps=150",
        "tuning.training.validate_every=0",
    ]);
    let tasks = tasks(&prepared, &config, texts);
    let task = tasks.reviews.clone().unwrap();
    let model = toy::user_llm(&prepared, &config);
    let (tuned, _) = tune(model, &tasks, &prepared, &config, Session::new(&mut Silent)).unwrap();
    let row = review_writing::user_llm(&prepared, &config, &tuned, &tasks, &task, &mut Silent);
    let row = row.unwrap();
    assert_eq!((row.people, row.rouge_1.mean), (10, 1.0), "{row:?}");
}

#[test]
fn ones_own_latest_review_is_found_and_empty_ones_are_not_tested() {
    let (_folder, prepared, texts) = data(|user, at| match (user, at) {
        // Two people say nothing about the last thing, one said nothing about the one before.
        (0 | 1, 5) | (2, 4) => String::new(),
        (user, 3) => format!("three{user}"),
        (user, _) => format!("word{user}"),
    });
    let config = config(&[]);
    let tasks = tasks(&prepared, &config, texts);
    let row = review_writing::latest(&prepared, tasks.reviews.as_deref().unwrap()).unwrap();
    // Of eight people seven write the same word again, the other's last was another.
    assert_eq!((row.people, row.rouge_1.mean), (8, 7.0 / 8.0));
}

#[test]
fn data_in_which_nobody_wrote_anything_is_refused() {
    let (_folder, prepared, texts) = data(|_, _| String::new());
    let config = config(&[]);
    let error = toy::tasks(&prepared, &config).with_reviews(&config, texts);
    let message = error.unwrap_err().to_string();
    assert!(message.contains("nobody wrote anything"), "{message}");
}
