//! What a person did never reaches a log or a debug text, even at the most talkative level.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

use datasets::{LeaveOneOut, movielens};
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
