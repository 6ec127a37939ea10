//! Your own tables, in all formats, with columns of any name.

use std::fs;
use std::io::Write;

use datasets::tables::{
    CatalogueConfig, CategoryColumn, TableConfig, TimeColumn, TimeUnit, load, load_texts,
};
use datasets::{Dataset, Error, Finding, ReadOptions, Repeats};
use tempfile::TempDir;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn read(config: &TableConfig, folder: &TempDir) -> Result<Dataset, Error> {
    load(config, folder.path(), &ReadOptions::default())
}

fn in_unit(column: &str, unit: TimeUnit) -> Option<TimeColumn> {
    Some(TimeColumn::InUnit {
        column: column.into(),
        unit,
    })
}

/// `user: item@time item@time` for everybody.
fn histories(dataset: &Dataset) -> Vec<String> {
    let history = |history: &datasets::History| {
        let event = |event: &datasets::Event| {
            format!(
                " {}@{}",
                dataset.catalogue.items[event.item as usize].title, event.timestamp
            )
        };
        history.user.clone() + ":" + &history.events.iter().map(event).collect::<String>()
    };
    dataset.histories.iter().map(history).collect()
}

#[test]
fn csv_tsv_and_json_lines_say_the_same_in_every_unit_of_time() {
    let mut config = TableConfig {
        rating: Some("stars".into()),
        ..TableConfig::new("", "who", "what")
    };
    let events = [
        ("ada", "7", "4.5", 1_709_214_300_i64),
        ("bob", "8", "", 1_709_214_301),
        ("ada", "8", "1", 1_709_214_299),
    ];
    for (unit, per_second) in [
        (TimeUnit::Seconds, 1),
        (TimeUnit::Milliseconds, 1_000),
        (TimeUnit::Microseconds, 1_000_000),
        (TimeUnit::Nanoseconds, 1_000_000_000),
    ] {
        config.time = in_unit("ts", unit);
        for name in ["log.csv", "log.tsv", "log.jsonl"] {
            let lines = events.iter().map(|(who, what, stars, time)| {
                let time = time * per_second;
                match name {
                    "log.csv" => format!("{time},\"{who}\",{stars},{what}\r\n"),
                    "log.tsv" => format!("{time}\t{who}\t{stars}\t{what}\n"),
                    _ if stars.is_empty() => format!("{{\"ts\": {time}, \"who\": \"{who}\", \"stars\": null, \"what\": {what}}}\n"),
                    _ => format!("{{\"ts\": \"{time}\", \"what\": {what}, \"who\": \"{who}\", \"stars\": {stars}, \"x\": [1]}}\n"),
                }
            });
            let header = match name {
                "log.csv" => "\u{feff}ts,who,stars,what\r\n",
                "log.tsv" => "ts\twho\tstars\twhat\n",
                _ => "",
            };
            let folder = folder(&[(name, &(header.to_string() + &lines.collect::<String>()))]);
            config.events = name.into();
            let dataset = read(&config, &folder).unwrap();
            let expected = ["ada: 8@1709214299 7@1709214300", "bob: 8@1709214301"];
            assert_eq!(histories(&dataset), expected, "{name}");
            assert_eq!(dataset.ratings, [1.0, 4.5]);
            assert_eq!(dataset.report.count(Finding::MissingRating), 1);
            assert_eq!(dataset.report.count(Finding::UnlistedItem), 2);
            assert!(!dataset.time_is_rank && dataset.sha256.len() == 64);
        }
    }
}

#[test]
fn a_time_may_be_text_and_a_file_may_lack_names() {
    let folder = folder(&[(
        "log.csv",
        "ada;7;2024-02-29T13:45:00Z\nada;8;2024-02-29\nada;9;\n",
    )]);
    let config = TableConfig {
        time: in_unit("at", TimeUnit::Iso8601),
        separator: Some(';'),
        columns: Some(["who", "what", "at"].map(String::from).to_vec()),
        ..TableConfig::new("log.csv", "who", "what")
    };
    let dataset = read(&config, &folder).unwrap();
    assert_eq!(histories(&dataset), ["ada: 8@1709164800 7@1709214300"]);
    assert_eq!(dataset.report.count(Finding::MissingTime), 1);
    fs::write(folder.path().join("log.csv"), "ada;7;yesterday\n").unwrap();
    let message = read(&config, &folder).unwrap_err().to_string();
    let expected = r#"log.csv:1: column 3 (at): found "yesterday", expected a time like 2024"#;
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_catalogue_stands_beside_and_a_log_without_times_keeps_its_order() {
    let folder = folder(&[
        ("log/part-0.csv", "who,what\nada,7\nada,9\n"),
        ("log/part-1.csv", "what,who\n8,ada\n7,bob\n"),
        ("log/_SUCCESS", ""),
        (
            "items.csv",
            "sku,name,tags,came\n7,Tea &amp; Milk,Hot|Drink,1999\n8,,,\n7,Other,Cold,\n6,Unsold,Hot,\n",
        ),
    ]);
    let categories = CategoryColumn::Separated {
        column: "tags".into(),
        separator: "|".into(),
    };
    let config = TableConfig {
        catalogue: Some(CatalogueConfig {
            description: None,
            path: "items.csv".into(),
            id: "sku".into(),
            title: Some("name".into()),
            year: Some("came".into()),
            categories: Some(categories),
            separator: None,
            columns: None,
        }),
        ..TableConfig::new("log", "who", "what")
    };
    let dataset = read(&config, &folder).unwrap();
    assert!(dataset.time_is_rank);
    assert_eq!(
        histories(&dataset),
        ["ada: Tea & Milk@1 9@2 8@3", "bob: Tea & Milk@1"]
    );
    assert_eq!(dataset.catalogue.genres, ["Drink", "Hot"]);
    assert_eq!(dataset.catalogue.display_title(0), "Tea & Milk (1999)");
    for (finding, n) in [
        (Finding::RepeatedItem, 1),
        (Finding::MissingTitle, 1),
        (Finding::MissingCategory, 1),
        (Finding::UnlistedItem, 1),
        (Finding::CleanedTitle, 1),
    ] {
        assert_eq!(dataset.report.count(finding), n, "{finding:?}");
    }
    // The same data in one file has another fingerprint than other data.
    fs::write(folder.path().join("log/part-1.csv"), "what,who\n8,ada\n").unwrap();
    assert_ne!(read(&config, &folder).unwrap().sha256, dataset.sha256);
}

#[test]
fn a_wrong_column_says_which_there_are_in_every_format() {
    let config = TableConfig::new("log.csv", "memberid", "sku");
    let expected =
        r#"has no column "memberid", did you mean "member_id"?; it has "member_id", "sku""#;
    let folder = folder(&[
        ("log.csv", "member_id,sku\nada,7\n"),
        ("log.jsonl", "{\"member_id\": 1, \"sku\": 2}\n"),
    ]);
    for name in ["log.csv", "log.jsonl"] {
        let config = TableConfig {
            events: name.into(),
            ..config.clone()
        };
        let message = read(&config, &folder).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let parquet = datasets::generator::FileKind::Parquet;
    let size = datasets::generator::GeneratorConfig {
        users: 1,
        items: 20,
        events: 5,
        genres: 2,
        min_history: 5,
        seed: 1,
    };
    datasets::generator::Generator::new(&size)
        .unwrap()
        .write(parquet, folder.path())
        .unwrap();
    let config = TableConfig::new("events.parquet", "usr", "item");
    let message = read(&config, &folder).unwrap_err().to_string();
    let expected = r#"has no column "usr", did you mean "user"?; it has "user", "item", "rating", "timestamp""#;
    assert!(message.contains(expected), "{message}");
}

#[test]
fn texts_are_found_with_and_without_times_and_for_repeats() {
    let folder = folder(&[(
        "log.csv",
        "who,what,ts,said\nada,7,2,\"second, <b>really</b>\"\nada,7,1,first\nbob,7,5,\n",
    )]);
    let keep = ReadOptions {
        repeats: Repeats::Keep,
        ..ReadOptions::default()
    };
    let mut config = TableConfig {
        time: Some(TimeColumn::InSeconds("ts".into())),
        text: Some("said".into()),
        ..TableConfig::new("log.csv", "who", "what")
    };
    let said = |config: &TableConfig| {
        let dataset = load(config, folder.path(), &keep).unwrap();
        assert_eq!(dataset.report.count(Finding::MissingText), 1);
        let texts = load_texts(config, folder.path(), &dataset, &keep).unwrap();
        assert_eq!(texts.get(1, 0).unwrap(), None);
        [0, 1].map(|event| texts.get(0, event).unwrap().unwrap().text)
    };
    assert_eq!(said(&config), ["first", "second, really"]);
    config.time = None;
    assert_eq!(said(&config), ["second, really", "first"]);
}

/// What was written late is no part of an earlier event that says nothing.
#[test]
fn an_event_without_a_text_keeps_its_place_among_its_equals() {
    let folder = folder(&[("log.csv", "who,what,said\nada,7,\nada,7,\nada,7,late\n")]);
    let keep = ReadOptions {
        repeats: Repeats::Keep,
        ..ReadOptions::default()
    };
    let config = TableConfig {
        text: Some("said".into()),
        ..TableConfig::new("log.csv", "who", "what")
    };
    let dataset = load(&config, folder.path(), &keep).unwrap();
    let texts = load_texts(&config, folder.path(), &dataset, &keep).unwrap();
    let said = [0, 1, 2].map(|event| texts.get(0, event).unwrap().map(|review| review.text));
    assert_eq!(said, [None, None, Some("late".to_string())]);
}

#[test]
fn what_is_no_table_is_named() {
    let folder = folder(&[
        ("log/notes.txt", "hello"),
        ("empty/_x", ""),
        ("log.csv", "who,what\n"),
    ]);
    let message = |events: &str| {
        read(&TableConfig::new(events, "who", "what"), &folder)
            .unwrap_err()
            .to_string()
    };
    assert!(message("log").contains("is no table: found notes.txt; expected .csv"));
    assert!(message("empty").contains("found nothing in it"));
    assert!(message("log.csv").contains("log.csv is empty"));
    assert!(message("absent.csv").contains("cannot read"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"who,what\nada,7\n").unwrap();
    let bytes = gzip.finish().unwrap();
    fs::write(folder.path().join("log.csv.gz"), &bytes[..bytes.len() - 6]).unwrap();
    assert!(message("log.csv.gz").contains("is cut short or damaged"));
}
