//! A metric does not depend on how the users were batched, and means what it says.

use burn::module::Module;
use burn::tensor::Device;
use trainer::evaluate::{self, Answered};
use trainer::{RunConfig, Session, Silent, tune};
use user_encoder::HistoryEncoder;

use crate::toy;

/// The rows of all contenders with a model behind them.
fn rows(batch_size: usize, patches: &[&str]) -> Vec<evaluate::Row> {
    let batch_size = format!("evaluation.batch_size={batch_size}");
    let patches: Vec<&str> = [batch_size.as_str(), "evaluation.users=0"]
        .into_iter()
        .chain(patches.iter().copied())
        .collect();
    let config = toy::config(&patches);
    let prepared = toy::prepared(&config);
    let tasks = toy::tasks(&prepared, &config);
    let device = Device::flex();
    let model = toy::user_llm(&prepared, &config).valid();
    let HistoryEncoder::NextEvent(encoder) = &model.encoder else {
        panic!("the toy has an encoder of events");
    };
    let answered = [
        evaluate::encoder(&prepared, &config, encoder, &device),
        evaluate::text_prompt(&prepared, &config, &model.llm, &tasks, &mut Silent),
        evaluate::user_llm(&prepared, &config, &model, &tasks, &mut Silent).unwrap(),
    ];
    answered
        .iter()
        .map(|answered| evaluate::score(&prepared, answered))
        .collect()
}

#[test]
fn metrics_are_the_same_for_batches_of_1_7_and_256() {
    let _alone = toy::alone();
    for patches in [
        &[][..],
        &["fusion.kind=soft-prompt"],
        &["fusion.blocks=\"all\"", "tuning.strategy=lora"],
    ] {
        let one = rows(1, patches);
        assert!(
            one.iter().any(|row| row.recall_10.mean > 0.0),
            "nobody is ever right"
        );
        assert_eq!(one, rows(7, patches));
        assert_eq!(one, rows(256, patches));
    }
}

fn answered(config: &RunConfig, items: impl Fn(usize) -> Vec<usize>) -> (evaluate::Row, usize) {
    let prepared = toy::prepared(config);
    let recommended = prepared
        .test_users
        .iter()
        .map(|&user| items(prepared.split().test(user).unwrap().1.item as usize));
    let answered = Answered {
        name: "made up".into(),
        recommended: recommended.collect(),
        ranks: None,
        genres: None,
    };
    (
        evaluate::score(&prepared, &answered),
        prepared.test_users.len(),
    )
}

#[test]
fn who_always_recommends_the_target_scores_one_and_who_never_does_scores_zero() {
    let config = toy::config(&[]);
    let (row, _) = answered(&config, |target| vec![target, (target + 1) % 19]);
    for figure in [
        row.recall_1,
        row.recall_5,
        row.recall_10,
        row.ndcg_10,
        row.mrr_10,
    ] {
        assert_eq!((figure.mean, figure.high), (1.0, 1.0));
        assert!(figure.low > 0.5 && figure.low < 1.0);
    }
    assert_eq!(row.genre, None);
    let (row, _) = answered(&config, |target| vec![(target + 1) % 19]);
    assert_eq!(
        (row.recall_10.mean, row.ndcg_10.mean, row.mrr_10.mean),
        (0.0, 0.0, 0.0)
    );
    let (row, _) = answered(&config, |target| {
        vec![(target + 1) % 19, (target + 2) % 19, target]
    });
    assert_eq!((row.recall_1.mean, row.recall_5.mean), (0.0, 1.0));
    assert_eq!((row.ndcg_10.mean, row.mrr_10.mean), (0.5, 1.0 / 3.0));
}

#[test]
fn right_genres_score_one() {
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let genre_of = |user: &usize| {
        let (history, _) = prepared.split().test(*user).unwrap();
        prepared
            .favourite_genre(&prepared.batcher.latest(history))
            .unwrap()
    };
    let genres: Vec<usize> = prepared.test_users.iter().map(genre_of).collect();
    let recommended = vec![Vec::new(); genres.len()];
    let answered = Answered {
        name: "made up".into(),
        recommended,
        ranks: None,
        genres: Some(genres),
    };
    assert_eq!(
        evaluate::score(&prepared, &answered).genre.unwrap().mean,
        1.0
    );
}

#[test]
fn popularity_counts_training_events_only_and_leaves_out_what_was_seen() {
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let mut counts = [0_usize; 19];
    for history in &prepared.dataset.histories {
        for event in &history.events[..history.events.len() - 2] {
            counts[event.item as usize] += 1;
        }
    }
    let answered = evaluate::popularity(&prepared, &config);
    for (&user, items) in prepared.test_users.iter().zip(&answered.recommended) {
        let events = &prepared.dataset.histories[user].events;
        let seen: Vec<usize> = events[..events.len() - 1]
            .iter()
            .map(|event| event.item as usize)
            .collect();
        let mut expected: Vec<usize> = (0..19).filter(|item| !seen.contains(item)).collect();
        expected.sort_by_key(|&item| (std::cmp::Reverse(counts[item]), item));
        assert_eq!(*items, expected[..10.min(expected.len())]);
    }
    let kept = toy::config(&["evaluation.exclude_seen=false"]);
    let most = (0..19)
        .max_by_key(|&item| (counts[item], std::cmp::Reverse(item)))
        .unwrap();
    let answered = evaluate::popularity(&prepared, &kept);
    assert!(answered.recommended.iter().all(|items| items[0] == most));
}

#[test]
fn where_everybody_is_tested_popularity_has_no_genre_to_offer() {
    let config = toy::config(&["evaluation.users=0"]);
    let prepared = toy::prepared(&config);
    assert_eq!(prepared.test_users.len(), 12);
    assert_eq!(evaluate::popularity(&prepared, &config).genres, None);
}

#[test]
fn the_protocol_names_split_candidates_filter_users_and_seed() {
    let config = toy::config(&[]);
    assert_eq!(
        evaluate::protocol(&toy::prepared(&config), &config),
        "toy, leave-one-out (last event is the test), all 19 items are candidates, seen items left \
         out (but never the target), 5 of 12 users, none of whose genres were taught, history of the last 5 events, seed \
         7; genre: the most frequent in that history; 95 % intervals over users"
    );
    let kept = toy::config(&["evaluation.exclude_seen=false"]);
    assert!(evaluate::protocol(&toy::prepared(&kept), &kept).contains("seen items kept"));
}

#[test]
fn what_is_recommended_was_not_seen_and_comes_once() {
    let _alone = toy::alone();
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let tasks = toy::tasks(&prepared, &config);
    let model = toy::user_llm(&prepared, &config).valid();
    let answered = evaluate::user_llm(&prepared, &config, &model, &tasks, &mut Silent);
    for (&user, items) in prepared
        .test_users
        .iter()
        .zip(&answered.unwrap().recommended)
    {
        let (history, _) = prepared.split().test(user).unwrap();
        assert!(
            items
                .iter()
                .all(|&item| history.iter().all(|event| event.item as usize != item))
        );
        let mut once = items.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), items.len());
        assert_eq!(items.len(), 10.min(19 - history.len()));
    }
}

#[test]
fn every_kind_of_encoder_is_ranked_alike_in_batches_of_1_and_256() {
    let _alone = toy::alone();
    let device = Device::flex();
    let rows = |batch_size: usize| {
        let size = format!("evaluation.batch_size={batch_size}");
        let masked = toy::config(&[
            &size,
            "encoder.attention=bidirectional",
            "objective.task={ masked = { probability = 0.3, last_only = 0.2 } }",
        ]);
        let dual = toy::dual(&[&size]);
        let (prepared, dual_prepared) = (toy::prepared(&masked), toy::prepared(&dual));
        device.seed(3);
        let encoder = prepared.new_encoder(&device);
        let two_towers = dual_prepared.new_dual_encoder(dual.dual_encoder().unwrap(), &device);
        [
            evaluate::encoder(&prepared, &masked, &encoder, &device),
            evaluate::dual_encoder(&dual_prepared, &dual, &two_towers, &device),
        ]
        .map(|answered| (evaluate::score(&prepared, &answered), answered))
    };
    let one = rows(1);
    assert!(one.iter().all(|(row, _)| row.recall_10.mean > 0.0));
    assert_eq!(one, rows(256));
}

#[test]
fn popularity_and_encoder_are_compared_without_a_language_model() {
    let _alone = toy::alone();
    let config = toy::encoder_only(&[]);
    let prepared = toy::prepared(&config);
    let device = Device::flex();
    let encoder = prepared.new_encoder(&device);
    for answered in [
        evaluate::popularity(&prepared, &config),
        evaluate::encoder(&prepared, &config, &encoder, &device),
    ] {
        let row = evaluate::score(&prepared, &answered);
        assert!(row.recall_10.mean >= row.recall_1.mean && row.recall_10.mean > 0.0);
    }
}

/// Perplexity of a made-up text before and after tuning, both as bits.
fn surprise(strategy: &str) -> [u64; 2] {
    let _alone = toy::alone();
    let strategy = format!("tuning.strategy={strategy}");
    let patches = [
        strategy.as_str(),
        "tuning.training.steps=6",
        "tuning.whole_model_steps=6",
    ];
    let config = toy::config(&patches);
    let prepared = toy::prepared(&config);
    let tasks = toy::tasks(&prepared, &config);
    let model = toy::user_llm(&prepared, &config);
    let text: Vec<u32> = (0..30).map(|at| at * at % 17).collect();
    let before = model.llm.valid().perplexity(&text);
    let (tuned, _) = tune(model, &tasks, &prepared, &config, Session::new(&mut Silent)).unwrap();
    [before, tuned.llm.perplexity(&text)].map(f64::to_bits)
}

#[test]
fn tuning_leaves_the_language_model_alone_to_the_last_bit_where_it_says_so() {
    for strategy in ["enc", "proj"] {
        let [before, after] = surprise(strategy);
        assert_eq!(before, after, "{strategy}");
    }
    for strategy in ["full", "lora"] {
        let [before, after] = surprise(strategy);
        assert_ne!(before, after, "{strategy}");
    }
}

#[test]
fn a_summary_is_asked_for_where_the_run_says_how() {
    let _alone = toy::alone();
    let summary = "prompts.summary={ opening = \"Likes\", max_tokens = 4 }";
    for (patches, is_asked) in [(&[][..], false), (&[summary][..], true)] {
        let config = toy::config(patches);
        let prepared = toy::prepared(&config);
        let tasks = toy::tasks(&prepared, &config);
        let model = toy::user_llm(&prepared, &config).valid();
        let answered =
            evaluate::text_summary(&prepared, &config, &model.llm, &tasks, &mut Silent).unwrap();
        let n = answered.map(|answered| answered.recommended.len());
        assert_eq!(n, is_asked.then_some(prepared.test_users.len()));
    }
}
