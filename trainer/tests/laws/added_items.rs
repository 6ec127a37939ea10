//! An item that came after training is recommended to whom it fits, and disturbs no other.

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use datasets::{Catalogue, Dataset, Event, EventSlice, History, Item};
use trainer::recommend::{EncoderRecommender, Recommend, UserLlmRecommender, Wanted};
use trainer::{Prepared, RunConfig, RunFolder, Session, Silent, pretrain};

use crate::toy;

const N_ITEMS: u32 = 24;

fn item(id: u32, genre: u16) -> Item {
    Item {
        id: id.to_string(),
        title: format!("{}{id}", char::from(b'A' + id as u8)),
        year: None,
        genres: vec![genre],
    }
}

/// Even people watch even films, which are of genre 0; odd people odd ones, of genre 1.
fn two_tastes() -> (RunConfig, Prepared) {
    let genres = ["Crime", "Noir"].map(String::from).to_vec();
    let items = (0..N_ITEMS).map(|id| item(id, (id % 2) as u16)).collect();
    let catalogue = Catalogue::new(items, genres).unwrap();
    let history = |user: u32| History {
        user: user.to_string(),
        events: (0..9)
            .map(|at| Event {
                item: (user % 2 + 2 * (user * 5 + at * (1 + user % 3))) % N_ITEMS,
                rating: 4.0,
                timestamp: i64::from(at),
            })
            .collect(),
    };
    let histories = (0..30).map(history).collect();
    let dataset = Dataset::from_histories("two tastes", catalogue, histories).unwrap();
    let config = toy::config(&[
        "pretraining.steps=400",
        "pretraining.batch_size=16",
        "pretraining.validate_every=0",
        "encoder.dropout_input=0.0",
        "encoder.dropout=0.0",
    ]);
    let prepared = Prepared::new(dataset, &config).unwrap();
    (config, prepared)
}

const ALL: Wanted = Wanted {
    k: usize::MAX,
    exclude_seen: false,
    available: None,
};

/// Rank of an item for the first ten of either taste, on average.
fn mean_ranks(recommender: &dyn Recommend, prepared: &Prepared, item: u32) -> [f32; 2] {
    [0, 1].map(|taste| {
        let people = prepared.dataset.histories.iter().skip(taste).step_by(2);
        let histories: Vec<EventSlice<'_>> = people.take(10).map(|h| h.events.slice(..)).collect();
        let ranked = recommender.recommend(&histories, &ALL);
        let rank = |list: &Vec<_>| {
            list.iter()
                .position(|r: &trainer::recommend::Recommendation| r.item == item)
                .unwrap()
        };
        ranked.iter().map(rank).sum::<usize>() as f32 / 10.0
    })
}

#[test]
fn a_new_item_is_recommended_to_those_who_like_its_genre_and_old_scores_stay() {
    let _alone = toy::alone();
    let (config, prepared) = two_tastes();
    let device = Device::flex();
    let mut silent = Silent;
    let (encoder, _) = pretrain(&prepared, &config, &device, Session::new(&mut silent)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::open(folder.path(), &config, &prepared).unwrap();
    run.save_encoder(encoder.clone()).unwrap();

    let new = vec![item(N_ITEMS, 0), item(N_ITEMS + 1, 1)];
    run.add_items(&prepared, new.clone()).unwrap();
    let items = run.added_items(&prepared).unwrap();
    assert_eq!(items, new);
    let extended = prepared.clone().with_added_items(items).unwrap();
    // The folder is still the same run's, and all of its files agree on the items.
    let run = RunFolder::open(folder.path(), &config, &prepared).unwrap();
    let vocabulary = std::fs::read_to_string(folder.path().join("vocabulary.json")).unwrap();
    let vocabulary: serde_json::Value = serde_json::from_str(&vocabulary).unwrap();
    assert_eq!(
        vocabulary["item"].as_array().unwrap().len(),
        N_ITEMS as usize + 2
    );
    let larger = run.load_encoder(&extended, &device).unwrap();

    let recommender = EncoderRecommender::new(&extended, &larger, &device);
    let by_genre_0 = mean_ranks(&recommender, &extended, N_ITEMS);
    let by_genre_1 = mean_ranks(&recommender, &extended, N_ITEMS + 1);
    // Of 26 items, half are of their taste.
    assert!(by_genre_0[0] + 3.0 < by_genre_0[1], "{by_genre_0:?}");
    assert!(by_genre_1[1] + 3.0 < by_genre_1[0], "{by_genre_1:?}");
    // A row as untrained ones are is no match.
    let mut random = encoder.clone();
    let distribution = Distribution::Normal(0.0, 0.02);
    random.embedding.modalities[0].append(Tensor::random([2, 6], distribution, &device));
    let recommender = EncoderRecommender::new(&extended, &random, &device);
    let by_chance = mean_ranks(&recommender, &extended, N_ITEMS);
    assert!(by_genre_0[0] < by_chance[0], "{by_genre_0:?} {by_chance:?}");

    // Who has seen the new item is read, and the old items' scores are what they were.
    let history = &prepared.dataset.histories[3].events[..];
    let mut ours = EncoderRecommender::new(&extended, &larger, &device)
        .recommend(&[history.into()], &ALL)
        .remove(0);
    ours.retain(|recommended| recommended.item < N_ITEMS);
    let before = EncoderRecommender::new(&prepared, &encoder, &device)
        .recommend(&[history.into()], &ALL)
        .remove(0);
    for (after, before) in ours.iter().zip(&before) {
        assert_eq!(after.item, before.item);
        assert!(
            (after.score - before.score).abs() < 1e-5,
            "{after:?} {before:?}"
        );
    }
    let seen = Event {
        item: N_ITEMS,
        rating: 4.0,
        timestamp: 99,
    };
    let read = EncoderRecommender::new(&extended, &larger, &device)
        .recommend(&[[seen].as_slice().into()], &ALL)
        .remove(0);
    assert_eq!(read.len(), N_ITEMS as usize + 2);
}

#[test]
fn a_tuned_model_recommends_the_new_item_too() {
    let _alone = toy::alone();
    let config = toy::config(&[]);
    let prepared = toy::prepared(&config);
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::open(folder.path(), &config, &prepared).unwrap();
    let model = toy::user_llm(&prepared, &config);
    run.save_encoder(model.encoder.valid()).unwrap();
    let tuning = config.language().unwrap().tuning;
    let model = tuning.apply(model);
    run.save_user_llm(
        &config,
        &model,
        &llm_fusion::trained_parameters(&model),
        "hash",
    )
    .unwrap();

    let extended = prepared.with_added_items(vec![item(19, 1)]).unwrap();
    let llm = toy::language_model(&Device::flex());
    let model = run.load_user_llm(&config, &extended, llm, "hash").unwrap();
    let tasks = toy::tasks(&extended, &config);
    let recommender = UserLlmRecommender::new(&extended, &config, &model, &tasks).unwrap();
    let history = &extended.dataset.histories[0].events[..];
    let ranked = recommender.recommend(&[history.into()], &ALL).remove(0);
    assert!(
        ranked.iter().any(|recommended| recommended.item == 19),
        "{ranked:?}"
    );
    let seen = Event {
        item: 19,
        rating: 4.0,
        timestamp: 99,
    };
    assert_eq!(
        recommender.recommend(&[[seen].as_slice().into()], &ALL)[0].len(),
        20
    );
}

#[test]
fn neighbours_share_genres_and_words_and_the_better_known_come_first() {
    let (_, prepared) = two_tastes();
    let neighbours = prepared.neighbours(&[item(99, 1)]).remove(0);
    assert_eq!(neighbours.len(), 10);
    assert!(neighbours.iter().all(|neighbour| neighbour % 2 == 1));
    let n_events = |item: u32| {
        let split = prepared.split();
        let users = 0..prepared.dataset.histories.len();
        users
            .map(|user| {
                split
                    .train(user)
                    .iter()
                    .filter(|event| event.item == item)
                    .count()
            })
            .sum::<usize>()
    };
    assert!(neighbours.is_sorted_by_key(|&item| std::cmp::Reverse(n_events(item))));

    let mut like_none = item(99, 1);
    like_none.genres.clear();
    let message = prepared
        .with_added_items(vec![like_none])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("\"99\"") && message.contains("shares no genre"),
        "{message}"
    );
}
