//! The prepared store: what it gives back, what it refuses, and who else can write one.
#![cfg(feature = "store")]

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::{ArrayRef, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use datasets::generator::{FileKind, Generator, GeneratorConfig, table_config};
use datasets::store::{
    CandidatesConfig, Origin, PrepareConfig, PreparedStore, prepare, prepare_within, rewrite,
};
use datasets::{Cut, Dataset, Error, ReadOptions, Repeats, Source, Split, SplitConfig};

fn generated(folder: &Path, kind: FileKind) -> Source {
    let config = GeneratorConfig {
        users: 120,
        items: 300,
        events: 6_000,
        genres: 7,
        min_history: 5,
        seed: 42,
    };
    Generator::new(&config)
        .unwrap()
        .write(kind, folder)
        .unwrap();
    match kind {
        FileKind::Movielens => Source::Path(folder.into()),
        _ => Source::Tables {
            config: table_config(kind),
            folder: folder.into(),
        },
    }
}

fn in_memory(source: &Source, config: &PrepareConfig) -> Dataset {
    let dataset = source.load(&config.read).unwrap();
    dataset
        .with_min_interactions(config.min_interactions)
        .with_min_history(config.min_history)
}

/// Repeated, undated, unrated and unlisted things, and ids that are no numbers.
fn untidy(folder: &Path) -> Source {
    let log = "who,what,stars,ts\nbob,7,,3\nada,7,5,1\nada,8,4,1\nada,7,5,1\nada,9,3,0\nbob,7,2,3\n\
               ada,8,1,\nbob,é,0.5,2\nbob,8,5,9\nada,7,1,4\n";
    fs::write(folder.join("log.csv"), log).unwrap();
    fs::write(
        folder.join("items.csv"),
        "what,name,came,tags\n8,Heat,1995,b|a\n7,,,\n",
    )
    .unwrap();
    let config = serde_json::from_str(
        r#"{"events": "log.csv", "user": "who", "item": "what", "rating": "stars", "time": "ts",
            "catalogue": {"path": "items.csv", "id": "what", "title": "name", "year": "came",
                          "categories": {"column": "tags", "separator": "|"}}}"#,
    );
    Source::Tables {
        config: config.unwrap(),
        folder: folder.into(),
    }
}

fn configs(min_interactions: usize) -> Vec<PrepareConfig> {
    let global = SplitConfig::GlobalTime {
        validation: Cut::Fraction(0.5),
        test: Cut::Fraction(0.8),
    };
    let by_user = SplitConfig::ByUser {
        validation: 0.3,
        test: 0.3,
        seed: 7,
    };
    let keep = ReadOptions {
        repeats: Repeats::Keep,
        ..ReadOptions::default()
    };
    vec![
        PrepareConfig::default(),
        PrepareConfig {
            split: global,
            min_interactions,
            candidates: Some(CandidatesConfig { n: 20, seed: 3 }),
            ..PrepareConfig::default()
        },
        PrepareConfig {
            split: by_user,
            read: keep,
            min_history: 3,
            ..PrepareConfig::default()
        },
    ]
}

#[test]
fn a_store_gives_back_what_was_read_from_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let (films, mine) = (folder.path().join("films"), folder.path().join("mine"));
    fs::create_dir(&mine).unwrap();
    for (name, source) in [
        ("films", generated(&films, FileKind::Movielens)),
        ("mine", untidy(&mine)),
    ] {
        for (n, config) in configs(2).iter().enumerate() {
            let path = folder.path().join(format!("{name}-{n}"));
            prepare(&source, config, &path).unwrap();
            let store = PreparedStore::open(&path).unwrap();
            let dataset = in_memory(&source, config);
            assert!(
                store.dataset().unwrap() == dataset,
                "{name} {n}: {dataset:?}"
            );
            assert_eq!(store.lock().settings.as_ref(), Some(config));

            let split = Split::new(&dataset, &config.split).unwrap();
            for user in 0..store.n_users() {
                assert_eq!(store.bounds(user), split.bounds(user));
                assert!(store.history(user) == dataset.histories[user]);
            }
            assert!(store.windows(5, 2).eq(split.windows(5, 2)));
            let report = store.report().unwrap().unwrap();
            assert_eq!(report.leakage.to_string(), split.leakage().to_string());
            assert_eq!(report.repairs, dataset.report);
        }
    }
}

#[test]
fn the_same_data_gives_the_same_bytes_within_whatever_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (films, mine) = (folder.path().join("films"), folder.path().join("mine"));
    fs::create_dir(&mine).unwrap();
    for (name, source, least) in [
        ("films", generated(&films, FileKind::Parquet), 20),
        ("mine", untidy(&mine), 2),
    ] {
        for (n, config) in configs(least).iter().enumerate() {
            let path = |way: &str| folder.path().join(format!("{name}-{n}-{way}"));
            prepare(&source, config, &path("memory")).unwrap();
            for memory in [0, 20_000, 1 << 30] {
                let beyond = path(&memory.to_string());
                prepare_within(memory, &source, config, &beyond).unwrap();
                assert_same(&path("memory"), &beyond);
            }
        }
    }
}

fn assert_same(a: &Path, b: &Path) {
    let names: Vec<_> = fs::read_dir(a)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        assert!(
            fs::read(a.join(&name)).unwrap() == fs::read(b.join(&name)).unwrap(),
            "{name:?}"
        );
    }
}

/// Four people who say something about three things, at times the same.
fn told(folder: &Path) -> Source {
    let log = "who,what,ts,said,short\nbob,7,3,good <b>thing</b>,\nada,7,1,bad,So so\nada,8,2,,\n\
               bob,8,4,good thing,\ncy,8,1,bad,So so\ncy,7,2,,Fine\ndan,9,9,rare,\nada,9,5,rare,\n";
    fs::write(folder.join("log.csv"), log).unwrap();
    let config = r#"{"events": "log.csv", "user": "who", "item": "what", "time": "ts",
                     "text": "said", "summary": "short"}"#;
    Source::Tables {
        config: serde_json::from_str(config).unwrap(),
        folder: folder.into(),
    }
}

#[test]
fn reviews_are_kept_and_found_by_event_as_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let source = told(folder.path());
    for (n, min_interactions) in [0, 2].into_iter().enumerate() {
        let config = PrepareConfig {
            min_interactions,
            reviews: true,
            ..PrepareConfig::default()
        };
        let path = |way: &str| folder.path().join(format!("store-{n}-{way}"));
        prepare(&source, &config, &path("memory")).unwrap();
        prepare_within(0, &source, &config, &path("disk")).unwrap();
        assert_same(&path("memory"), &path("disk"));

        let store = PreparedStore::open(&path("disk")).unwrap();
        let dataset = store.dataset().unwrap();
        let kept = store.review_texts(&dataset).unwrap().unwrap();
        let read = source.review_texts(&dataset, &config.read).unwrap();
        assert_eq!((kept.n_texts(), kept.len()), (read.n_texts(), read.len()));
        assert_eq!(kept.n_texts(), 4 - n, "rare things are left out");
        for (user, history) in dataset.histories.iter().enumerate() {
            let events = history.events.slice(..);
            for at in 0..events.len() {
                let review = read.get(user, at).unwrap();
                assert_eq!(kept.get(user, at).unwrap(), review);
                let number = events.text(at);
                let by_number = (number > 0).then(|| kept.review(number).unwrap());
                assert_eq!(by_number, review);
            }
        }
        // A run that leaves out more takes what was written along.
        let fewer = dataset.with_min_interactions(2);
        let ada = fewer.user("ada").unwrap();
        let kept = store.review_texts(&fewer).unwrap().unwrap();
        assert_eq!(fewer.histories[ada].events.len(), 2);
        let review = kept.get(ada, 0).unwrap().unwrap();
        assert_eq!((&*review.text, &*review.summary), ("bad", "So so"));
        assert_eq!(kept.get(ada, 1).unwrap(), None);
    }
    let without = folder.path().join("without");
    let store = prepare(&source, &PrepareConfig::default(), &without).unwrap();
    let dataset = store.dataset().unwrap();
    assert!(store.review_texts(&dataset).unwrap().is_none());
    assert!(!without.join("reviews.arrow").exists());
}

#[test]
fn where_nobody_wrote_anything_a_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let films = generated(&folder.path().join("films"), FileKind::Movielens);
    let silent = match told(folder.path()) {
        Source::Tables { mut config, folder } => {
            (config.text, config.summary) = (None, None);
            Source::Tables { config, folder }
        }
        path => path,
    };
    let config = PrepareConfig {
        reviews: true,
        ..PrepareConfig::default()
    };
    for (n, source) in [films, silent].into_iter().enumerate() {
        let path = folder.path().join(format!("store-{n}"));
        let store = prepare(&source, &config, &path).unwrap();
        let kept = store.review_texts(&store.dataset().unwrap()).unwrap();
        assert!(kept.unwrap().is_empty());
    }
}

#[test]
fn texts_that_cannot_be_are_found_before_a_store_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let texts = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let seal = |numbers: &[u32]| {
        foreign(path);
        let columns = vec![("text", texts(&["a", "b"])), ("summary", texts(&["", ""]))];
        write(path, "reviews.arrow", &[columns]);
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        fs::write(path.join("events.texts"), bytes).unwrap();
        PreparedStore::seal(path, "theirs", false).map_err(|error| error.to_string())
    };
    let store = seal(&[2, 0, 1, 2]).unwrap();
    let dataset = store.dataset().unwrap();
    let kept = store.review_texts(&dataset).unwrap().unwrap();
    assert_eq!(kept.get(0, 0).unwrap().unwrap().text, "b");
    assert_eq!(kept.get(1, 0).unwrap().unwrap().text, "b");
    fs::remove_file(path.join("data.lock")).unwrap();

    let refused = |numbers: &[u32], expected: &str| {
        let error = seal(numbers).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(!path.join("data.lock").exists());
    };
    refused(&[2, 0, 3, 2], "a text beyond the 2 that there are");
    refused(&[2, 0, 1], "it has 3 rows for 4 events");
    fs::remove_file(path.join("events.texts")).unwrap();
    let error = PreparedStore::seal(path, "theirs", false).unwrap_err();
    assert!(error.to_string().contains("no events.texts"), "{error}");
    assert!(!path.join("data.lock").exists());
}

#[test]
fn a_store_of_the_version_before_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let source = untidy(folder.path());
    prepare(&source, &PrepareConfig::default(), &path).unwrap();
    let lock = fs::read_to_string(path.join("data.lock")).unwrap();
    let reviews = ",\n    \"reviews\": false";
    assert!(lock.contains(reviews), "{lock}");
    let lock = lock
        .replace("\"version\": 3", "\"version\": 2")
        .replace(reviews, "");
    fs::write(path.join("data.lock"), lock).unwrap();
    let store = PreparedStore::open(&path).unwrap();
    assert!(store.dataset().unwrap() == source.load(&ReadOptions::default()).unwrap());
}

#[test]
fn candidates_are_kept_for_every_target_and_for_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let source = generated(&folder.path().join("data"), FileKind::Csv);
    let store = prepare(&source, &configs(2)[1], &folder.path().join("store")).unwrap();
    let mut n_targets = 0;
    for user in 0..store.n_users() {
        let history = store.history(user);
        let (validation, test) = (
            store.bounds(user).validation,
            store.bounds(user).test.next(),
        );
        for target in 0..history.events.len() {
            let candidates = store.candidates(user, target);
            let is_target = validation == Some(target) || test == Some(target);
            assert_eq!(candidates.is_some(), is_target);
            let Some(candidates) = candidates else {
                continue;
            };
            n_targets += 1;
            assert_eq!(candidates.len(), 20);
            let is_met = |item: &u32| history.events.iter().any(|event| event.item == *item);
            assert!(!candidates.iter().any(is_met));
        }
    }
    assert!(n_targets > 50, "{n_targets}");
    assert_eq!(store.candidates(store.n_users(), 0), None);
}

#[test]
fn a_store_that_is_not_what_its_lock_says_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    prepare(&untidy(folder.path()), &PrepareConfig::default(), &path).unwrap();
    let refused = |expected: &str| {
        let error = PreparedStore::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };

    let events = fs::read(path.join("events.arrow")).unwrap();
    let mut changed = events.clone();
    changed[events.len() / 2] ^= 1;
    fs::write(path.join("events.arrow"), &changed).unwrap();
    refused("events.arrow is not the expected file");
    fs::write(path.join("events.arrow"), &events[..events.len() - 1]).unwrap();
    refused(&format!(
        "found {} bytes, expected {} bytes",
        events.len() - 1,
        events.len()
    ));
    fs::remove_file(path.join("events.arrow")).unwrap();
    refused("cannot read");
    fs::write(path.join("events.arrow"), &events).unwrap();
    PreparedStore::open(&path).unwrap();

    let lock = fs::read_to_string(path.join("data.lock")).unwrap();
    for (from, to, expected) in [
        (
            "\"version\": 3",
            "\"version\": 1",
            "its version is 1, and this program reads 2 to 3",
        ),
        ("\"name\"", "\"nmae\"", "unknown field `nmae`"),
        (
            "\"events\": 6",
            "\"events\": 7",
            "other counts than its lock",
        ),
        ("{", "", "is no prepared store"),
    ] {
        assert!(lock.contains(from), "{lock}");
        fs::write(path.join("data.lock"), lock.replacen(from, to, 1)).unwrap();
        refused(expected);
    }
    fs::remove_file(path.join("data.lock")).unwrap();
    refused("it has no data.lock");
}

#[test]
fn nothing_is_overwritten_and_nothing_half_done_stays() {
    let folder = tempfile::tempdir().unwrap();
    let source = untidy(folder.path());
    let path = folder.path().join("stores/one");
    let bad = PrepareConfig {
        split: SplitConfig::GlobalTime {
            validation: Cut::Timestamp(0),
            test: Cut::Timestamp(1),
        },
        ..PrepareConfig::default()
    };
    assert!(matches!(
        prepare(&source, &bad, &path),
        Err(Error::Split { .. })
    ));
    assert_eq!(
        fs::read_dir(folder.path().join("stores")).unwrap().count(),
        0
    );

    prepare(&source, &PrepareConfig::default(), &path).unwrap();
    let again = prepare(&source, &PrepareConfig::default(), &path).unwrap_err();
    assert!(
        again.to_string().contains("there is something already"),
        "{again}"
    );
    assert_eq!(
        fs::read_dir(folder.path().join("stores")).unwrap().count(),
        1
    );
}

/// A file as another program would write it: in batches of its own, types as `docs/store.md` says.
fn write(folder: &Path, file: &str, batches: &[Vec<(&str, ArrayRef)>]) {
    let batch = |columns: &Vec<(&str, ArrayRef)>| {
        let columns = columns
            .iter()
            .map(|(name, column)| (*name, column.clone(), true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    let file = File::create(folder.join(file)).unwrap();
    let mut writer = FileWriter::try_new(file, &batch(&batches[0]).schema()).unwrap();
    for columns in batches {
        writer.write(&batch(columns)).unwrap();
    }
    writer.finish().unwrap();
}

fn events(rows: &[(i32, i32, Option<f32>, i64)]) -> Vec<(&'static str, ArrayRef)> {
    vec![
        (
            "user",
            Arc::new(rows.iter().map(|row| row.0).collect::<Int32Array>()),
        ),
        (
            "item",
            Arc::new(rows.iter().map(|row| row.1).collect::<Int32Array>()),
        ),
        (
            "rating",
            Arc::new(rows.iter().map(|row| row.2).collect::<Float32Array>()),
        ),
        (
            "timestamp",
            Arc::new(rows.iter().map(|row| row.3).collect::<Int64Array>()),
        ),
    ]
}

fn foreign(folder: &Path) {
    write(
        folder,
        "events.arrow",
        &[
            events(&[(0, 1, Some(4.0), 5)]),
            events(&[(0, 0, None, 6), (0, 1, Some(0.5), 6), (1, 2, Some(4.0), 1)]),
        ],
    );
    let int32 = |values: &[Option<i32>]| Arc::new(Int32Array::from(values.to_vec())) as ArrayRef;
    let texts = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let users = vec![
        ("id", texts(&["ada", "bob"])),
        (
            "first_event",
            Arc::new(Int64Array::from(vec![0, 3])) as ArrayRef,
        ),
        ("n_events", int32(&[Some(3), Some(1)])),
        ("n_train", int32(&[Some(1), Some(1)])),
        ("validation", int32(&[Some(1), None])),
        ("test", int32(&[Some(2), None])),
    ];
    write(folder, "users.arrow", &[users]);
    let mut genres = ListBuilder::new(Int32Builder::new());
    for of_item in [vec![Some(0), Some(1)], vec![], vec![Some(1)]] {
        genres.append_value(of_item);
    }
    let items = vec![
        ("id", texts(&["a", "b", "c"])),
        ("title", texts(&["Heat", "Emma", "Émile"])),
        ("year", int32(&[Some(1995), None, Some(2000)])),
        ("genres", Arc::new(genres.finish()) as ArrayRef),
    ];
    write(folder, "items.arrow", &[items]);
    write(
        folder,
        "genres.arrow",
        &[vec![("name", texts(&["Crime", "Drama"]))]],
    );
    let ratings = Arc::new(Float32Array::from(vec![0.5, 4.0])) as ArrayRef;
    write(folder, "ratings.arrow", &[vec![("value", ratings)]]);
}

#[test]
fn a_store_of_another_program_is_sealed_and_read() {
    let folder = tempfile::tempdir().unwrap();
    foreign(folder.path());
    PreparedStore::seal(folder.path(), "theirs", false).unwrap();
    let store = PreparedStore::open(folder.path()).unwrap();
    assert_eq!((store.n_users(), store.n_events()), (2, 4));
    assert_eq!(store.user_id(1), "bob");
    let read: Vec<_> = store
        .events(0, 0..3)
        .iter()
        .map(|e| (e.item, e.rating, e.timestamp))
        .collect();
    assert_eq!(read, [(1, 4.0, 5), (0, 0.0, 6), (1, 0.5, 6)]);
    assert_eq!(store.events(0, 1..2)[0].item, 0);
    assert_eq!(store.catalogue().display_title(2), "Émile (2000)");
    assert_eq!(store.catalogue().items[0].genres, [0, 1]);
    assert_eq!(store.report().unwrap(), None);
    assert_eq!(store.dataset().unwrap().stats().interactions, 4);
    assert!(!format!("{store:?}").contains("ada"), "{store:?}");
}

/// A table's rows in other batches.
fn rebatch(from: &Path, to: &Path) {
    let reader = FileReader::try_new(File::open(from).unwrap(), None).unwrap();
    let mut writer = FileWriter::try_new(File::create(to).unwrap(), &reader.schema()).unwrap();
    for batch in reader {
        let batch = batch.unwrap();
        for start in (0..batch.num_rows()).step_by(50) {
            let n_rows = 50.min(batch.num_rows() - start);
            writer.write(&batch.slice(start, n_rows)).unwrap();
        }
    }
    writer.finish().unwrap();
}

#[test]
fn tables_of_another_program_become_the_store_that_prepare_writes() {
    let folder = tempfile::tempdir().unwrap();
    let (films, said) = (folder.path().join("films"), folder.path().join("said"));
    fs::create_dir(&said).unwrap();
    let films = generated(&films, FileKind::Movielens);
    let with_reviews = PrepareConfig {
        reviews: true,
        ..PrepareConfig::default()
    };
    let of_films = configs(2).into_iter().map(|config| (&films, config));
    let said = told(&said);
    for (n, (source, config)) in of_films.chain([(&said, with_reviews)]).enumerate() {
        let path = |name: &str| folder.path().join(format!("{name}-{n}"));
        let store = prepare(source, &config, &path("ours")).unwrap();
        fs::create_dir(path("theirs")).unwrap();
        for name in store.lock().files.keys() {
            let (ours, theirs) = (path("ours").join(name), path("theirs").join(name));
            match name.as_str() {
                "events.rows" | "report.json" | "candidates.arrow" => {}
                "events.texts" => drop(fs::copy(ours, theirs).unwrap()),
                _ => rebatch(&ours, &theirs),
            }
        }
        let origin = Origin {
            name: store.lock().name.clone(),
            time_is_rank: false,
            inputs: store.lock().inputs.clone(),
            settings: config.clone(),
            repairs: store.report().unwrap().unwrap().repairs,
        };
        let refused = |settings: PrepareConfig, expected: &str| {
            let origin = Origin {
                settings,
                ..origin.clone()
            };
            let error = rewrite(&path("theirs"), origin, &path("wrong")).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!path("wrong").exists());
        };
        let split = match config.split {
            SplitConfig::LeaveOneOut => SplitConfig::ByUser {
                validation: 0.5,
                test: 0.5,
                seed: 1,
            },
            _ => SplitConfig::LeaveOneOut,
        };
        refused(
            PrepareConfig {
                split,
                ..config.clone()
            },
            "is not parted as the settings say",
        );
        refused(
            PrepareConfig {
                descriptions: true,
                ..config.clone()
            },
            "it has no descriptions.arrow",
        );
        if !config.reviews {
            refused(
                PrepareConfig {
                    reviews: true,
                    ..config
                },
                "it has no reviews.arrow",
            );
        }

        rewrite(&path("theirs"), origin, &path("anew")).unwrap();
        for name in fs::read_dir(path("ours")).unwrap() {
            let name = name.unwrap().file_name();
            let [ours, anew] =
                ["ours", "anew"].map(|store| fs::read(path(store).join(&name)).unwrap());
            assert!(ours == anew, "{n}: {name:?}");
        }
    }
}

#[test]
fn rows_that_cannot_be_are_found_before_a_store_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let good = [
        (0, 1, Some(4.0), 5),
        (0, 0, None, 6),
        (0, 1, Some(0.5), 6),
        (1, 2, Some(4.0), 1),
    ];
    let with = |at: usize, row| {
        let mut rows = good;
        rows[at] = row;
        events(&rows)
    };
    let refused = |columns: Vec<(&str, ArrayRef)>, expected: &str| {
        foreign(path);
        write(path, "events.arrow", &[columns]);
        let error = PreparedStore::seal(path, "theirs", false)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!path.join("data.lock").exists());
    };
    refused(
        with(0, (0, 3, None, 5)),
        "user 0 has an item or a rating that is not listed",
    );
    refused(
        with(0, (0, -1, None, 5)),
        "user 0 has an item or a rating that is not listed",
    );
    refused(
        with(1, (0, 1, Some(3.0), 6)),
        "user 0 has an item or a rating that is not listed",
    );
    refused(
        with(2, (0, 1, None, 5)),
        "user 0 is not in the order of time",
    );
    refused(
        with(3, (0, 1, None, 9)),
        "not all rows of user 1 are the user's",
    );
    refused(
        events(&good[..3]),
        "its people have 4 events, and there are 3",
    );
    let mut columns = events(&good);
    columns[1].1 = Arc::new(Int64Array::from(vec![0; 4]));
    refused(columns, "column item is Int64 and not Int32");
    let mut columns = events(&good);
    columns[1].1 = Arc::new(Int32Array::from(vec![None; 4]));
    refused(columns, "column item has 4 gaps");
    let mut columns = events(&good);
    columns.swap(0, 1);
    refused(
        columns,
        "it has the columns item, user, rating, timestamp and not user, item,",
    );
}
