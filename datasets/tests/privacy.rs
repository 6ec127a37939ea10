//! What a person did never reaches a log or a debug text, even at the most talkative level.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

use datasets::reviews::ReviewTexts;
use datasets::tables::{TableConfig, TimeColumn};
use datasets::{LeaveOneOut, ReadOptions, Split, SplitConfig, load_with, movielens, tables};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn logs_and_debug_texts_show_counts_only() {
    let folder = tempfile::tempdir().unwrap();
    let movies = "31337::Canary Film (1987)::Drama\n4711::Other (1999)::Drama\n";
    fs::write(folder.path().join("movies.dat"), movies).unwrap();
    let ratings = "canary-person::31337::4.5::987654321\ncanary-person::4711::1.5::987654329\n";
    fs::write(folder.path().join("ratings.dat"), ratings).unwrap();

    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    let shown = tracing::subscriber::with_default(subscriber, || {
        let dataset = movielens::load(folder.path()).unwrap();
        let split = LeaveOneOut::new(&dataset);
        format!(
            "{dataset:?} {split:?} {split} {:?} {}",
            dataset.histories,
            dataset.stats()
        )
    });
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("users=1"), "something was logged: {logged}");
    for canary in ["canary", "Canary", "31337", "9876543", "4711"] {
        assert!(
            !logged.contains(canary) && !shown.contains(canary),
            "{canary}: {logged} {shown}"
        );
    }
}

/// Log everything that `read` says.
fn logged(read: impl FnOnce()) -> String {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, read);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn no_person_name_or_text_of_reviews_and_tables_is_ever_logged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let review = r#"{"reviewerID": "canary-1", "reviewerName": "canary-2", "asin": "canary-3",
        "reviewText": "canary-4", "summary": "canary-5", "overall": 5, "unixReviewTime": 987654321}"#
        .replace('\n', "");
    let broken = r#"{"reviewerID": "canary-6", "asin": "canary-7", "overall": "canary-8"}"#;
    fs::write(
        path.join("X_5.json"),
        format!("{review}\n{review}\n{broken}\n"),
    )
    .unwrap();
    let item = r#"{"asin": "canary-3", "title": "<b>canary-9</b>", "category": "['canary-10']",
        "description": "canary-11"}"#
        .replace('\n', "");
    fs::write(path.join("meta_X.json"), item).unwrap();
    let lines =
        "who,what,said,at\ncanary-1,canary-3,canary-4,9\ncanary-1,canary-3,canary-4,canary\n";
    fs::write(path.join("log.csv"), lines).unwrap();
    let config = TableConfig {
        text: Some("said".into()),
        time: Some(TimeColumn::InSeconds("at".into())),
        ..TableConfig::new("log.csv", "who", "what")
    };
    let skip = ReadOptions {
        skip_bad: 1,
        ..ReadOptions::default()
    };
    let log = logged(|| {
        let dataset = load_with(path, &skip).unwrap();
        let texts = ReviewTexts::read_with(path, &dataset, &skip).unwrap();
        tracing::info!(?texts, ?dataset, review = ?texts.get(0, 0).unwrap());
        tracing::info!("{}", dataset.stats());
        let dataset = tables::load(&config, path, &skip).unwrap();
        tables::load_texts(&config, path, &dataset, &skip).unwrap();
        let split = Split::new(&dataset, &SplitConfig::LeaveOneOut).unwrap();
        tracing::info!(?split, leakage = %split.leakage(), "{split}");
        #[cfg(feature = "store")]
        store(path, &skip);
    });
    assert!(
        log.contains("records skipped") && log.contains("users=1"),
        "{log}"
    );
    assert!(!log.contains("canary") && !log.contains("9876543"), "{log}");

    let masked = ReadOptions {
        mask_values: true,
        ..ReadOptions::default()
    };
    for error in [
        load_with(path, &masked).unwrap_err(),
        tables::load(&config, path, &masked).unwrap_err(),
    ] {
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("canary") && shown.contains("bytes"),
            "{shown}"
        );
    }
}

/// Prepare reviews, seal what another program might have written, and show all there is to show.
#[cfg(feature = "store")]
fn store(path: &std::path::Path, options: &ReadOptions) {
    use datasets::Source;
    use datasets::store::{CandidatesConfig, PrepareConfig, PreparedStore, prepare_within};

    let config = PrepareConfig {
        read: options.clone(),
        candidates: Some(CandidatesConfig { n: 2, seed: 1 }),
        descriptions: true,
        ..PrepareConfig::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("store");
    prepare_within(0, &Source::Path(path.into()), &config, &folder).unwrap();
    fs::remove_file(folder.join("data.lock")).unwrap();
    PreparedStore::seal(&folder, "theirs", false).unwrap();
    let store = PreparedStore::open(&folder).unwrap();
    let (lock, report) = (store.lock(), store.report().unwrap());
    let dataset = store.dataset().unwrap();
    tracing::info!(?store, ?lock, ?report, ?dataset, histories = ?dataset.histories);
}

#[test]
fn an_error_quotes_a_broken_cell_but_never_the_person() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("movies.dat"), "1::Heat (1995)::Drama\n").unwrap();
    for line in [
        "canary-person::1::five::9\n",
        "canary-person::1::5::never\n",
        "canary-person\n",
    ] {
        fs::write(folder.path().join("ratings.dat"), line).unwrap();
        let error = movielens::load(folder.path()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }
}
