//! Every reader on valid small files that are damaged at random, and on what is built to hurt.
//! No damage may make a reader panic, or fill memory.
//!
//! `USER_LLM_MUTATION_ROUNDS` sets the number of rounds for each reader; how many were reached is
//! printed with `--nocapture`. Point `TMPDIR` at a memory disk for millions.

use std::fs;
use std::io::Write;
use std::path::Path;

use datasets::generator::{FileKind, Generator, GeneratorConfig, table_config};
use datasets::reviews::ReviewTexts;
#[cfg(feature = "store")]
use datasets::store::{PrepareConfig, PreparedStore, prepare};
use datasets::tables::{CatalogueConfig, CategoryColumn, TableConfig, TimeColumn, TimeUnit};
use datasets::{Catalogue, Error, Finding, Item, ReadOptions, Source, load, load_with, tables};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Most memory that this process may ever have had, in bytes, whatever it was given.
const MEMORY: u64 = 256 << 20;

/// What a cell, a byte or a place between two may become.
const PIECES: [&[u8]; 24] = [
    b"NaN",
    b"-1",
    b"1e309",
    b"-0",
    b"1515678624000",
    b"99999999999999999999",
    b"50000-01-01",
    b"",
    b"\xff\xfe",
    b"\xc3",
    b"\0",
    b"\"",
    b"'",
    b"\\",
    b"\\u",
    b"\\x",
    b"\r\n",
    b"\n",
    b",",
    b"::",
    b"\t",
    b"[[[[",
    b"{'a': u'",
    b"\xf0\x9f\x98\x80",
];

fn n_rounds() -> usize {
    let rounds = std::env::var("USER_LLM_MUTATION_ROUNDS").ok();
    rounds.map_or(500, |rounds| {
        rounds
            .parse()
            .expect("USER_LLM_MUTATION_ROUNDS is a number")
    })
}

fn damage(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..12)).min(bytes.len());
        match random.random_range(0..8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.extend_from_within(at..),
            3 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            4 if at < bytes.len() => bytes[at] = random.random_range(0..=255),
            5 if random.random_bool(0.02) => drop(bytes.splice(at..at, [b'7'; 10_000])),
            _ => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                drop(bytes.splice(at..end, piece.iter().copied()));
            }
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Removed first, because ext4 writes a file that is truncated and refilled to the disk at once.
fn replace(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

/// The most memory that this process had, where the system tells.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Read the files over and over, each time with one of them damaged. Those that end in `.gz` are
/// packed here, and mostly damaged before that.
#[expect(
    clippy::print_stderr,
    reason = "the number of rounds that were reached is to be seen"
)]
fn survive(
    name: &str,
    files: &[(&str, &[u8])],
    read: impl Fn(&Path, &ReadOptions) -> Result<(), Error>,
) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let packed = name.ends_with(".gz").then(|| gzip(bytes));
        replace(
            &folder.path().join(name),
            packed.as_deref().unwrap_or(bytes),
        );
    };
    for (name, bytes) in files {
        write(name, bytes);
    }
    read(folder.path(), &ReadOptions::default()).expect("undamaged files are read");
    let mut random = StdRng::seed_from_u64(20_261_123);
    let (mut n_read, mut n_refused) = (0_usize, 0_usize);
    for round in 1..=n_rounds() {
        let (file, bytes) = files[random.random_range(0..files.len())];
        let mut damaged = bytes.to_vec();
        if file.ends_with(".gz") && random.random_bool(0.2) {
            damaged = gzip(bytes);
            damage(&mut damaged, &mut random);
            replace(&folder.path().join(file), &damaged);
        } else {
            damage(&mut damaged, &mut random);
            write(file, &damaged);
        }
        let options = ReadOptions {
            skip_bad: random.random_range(0..3) * 2,
            mask_values: random.random_bool(0.5),
            ..ReadOptions::default()
        };
        match read(folder.path(), &options) {
            Ok(()) => n_read += 1,
            Err(error) => {
                n_refused += 1;
                let length = error.to_string().len();
                assert!(length < 3000, "an error of {length} bytes: {error}");
            }
        }
        write(file, bytes);
        if round % 1000 == 0 {
            assert!(
                peak_memory() < MEMORY,
                "{} bytes in round {round}",
                peak_memory()
            );
        }
    }
    assert!(
        n_read > 0 && n_refused > 0,
        "{n_read} read, {n_refused} refused"
    );
    eprintln!(
        "{name}: {n_read} read, {n_refused} refused, at most {} MiB",
        peak_memory() >> 20
    );
}

fn by_layout(path: &Path, options: &ReadOptions) -> Result<(), Error> {
    load_with(path, options).map(drop)
}

#[test]
fn movielens_100k() {
    let files: [(&str, &[u8]); 3] = [
        ("u.data", b"7\t1\t5\t10\n8\t2\t4\t11\n7\t2\t4\t12\n"),
        ("u.item", b"1|Toy Story (1995)|01-Jan-1995||http://x|0|1\n2|Cit\xe9, La (a (b)) (1995)||||1|0\r\n"),
        ("u.genre", b"unknown|0\nAction|1\n\n"),
    ];
    survive("movielens 100k", &files, by_layout);
}

#[test]
fn movielens_dat() {
    let files: [(&str, &[u8]); 2] = [
        (
            "ratings.dat.gz",
            b"1::1::0.5::9\r\n1::2::5::978300760\r\n2::1::4::978300761\n",
        ),
        (
            "movies.dat",
            b"1::Cit\xe9, La (a (b)) (1995)::Drama|X\r\n2::Heat (1995)::Crime\n",
        ),
    ];
    survive("movielens dat", &files, by_layout);
}

#[test]
fn movielens_csv() {
    let files: [(&str, &[u8]); 2] = [
        (
            "ratings.csv",
            b"userId,movieId,rating,timestamp\n7,1,5,10\r\n7,2,4.5,\"11\"\n",
        ),
        (
            "movies.csv",
            b"movieId,title,genres\n1,\"Matrix, The (1999)\",Action|Sci-Fi\n2,Heat,X\n",
        ),
    ];
    survive("movielens csv", &files, by_layout);
}

#[test]
fn sequences() {
    let files: [(&str, &[u8]); 2] = [
        ("Town.txt.gz", b"7 2 1 2\n8 1\n9 1 2\n"),
        (
            "Town.item.json",
            br#"{"0": {"title": "Sun", "description": "Coffee, Bakeries"}, "1": {"title": "Old"}}"#,
        ),
    ];
    survive("visit sequences", &files, by_layout);
}

const REVIEWS: &[u8] = br#"{"overall": 4.0, "reviewerID": "A1", "asin": "B1", "reviewText": "a <b>b</b> &amp; c", "summary": "s", "unixReviewTime": 1000}
{"rating": 4, "user_id": "A2", "parent_asin": "B2", "text": "t", "title": "s", "timestamp": 1588687728923}
{"rating": 4, "user_id": "A2", "gmap_id": "0x1:0x2", "text": null, "time": 1588687728923, "pics": [{"url": ["x"]}]}
"#;

const METADATA: &[u8] = br#"{"asin": "B1", "title": "Disney &amp; Me", "category": ["Books", "</span>"], "description": ["a <b>b", "&"]}
{"parent_asin": "B2", "title": "<span class=\"x\"", "categories": [["a"], ["b"]]}
{"gmap_id": "0x1:0x2", "name": "Park", "description": "a &lt;", "category": "['Park', \"Jo's\"]"}
{'asin': '3', 'title': u'It\'s \xe9 \u1ea5', 'categories': [['Books', (1, 2L,)]], 'x': None, 'y': True}
"#;

#[test]
fn reviews() {
    let files = [("X_5.json", REVIEWS), ("meta_X.json", METADATA)];
    survive("reviews", &files, |path, options| {
        let dataset = load_with(path, options)?;
        let texts = ReviewTexts::read_with(path, &dataset, options)?;
        for (user, history) in dataset.histories.iter().enumerate() {
            for event in 0..history.events.len() {
                texts.get(user, event)?;
            }
        }
        Source::Path(path.into()).descriptions(&dataset.catalogue, options)?;
        Ok(())
    });
}

#[test]
fn reviews_packed_and_in_python() {
    let reviews = br"{'rating': 3.0, 'reviewerName': u'an lam', 'reviewText': u'Ch\u1ea5t', 'categories': [u'Gi\u1ea3i', u'Caf\xe9'], 'gPlusPlaceId': u'108', 'unixReviewTime': 1372686659, 'gPlusUserId': u'100'}
{'rating': 3.0, 'gPlusPlaceId': '109', 'unixReviewTime': 1372686660L, 'gPlusUserId': '100'}
";
    let places = br"{'name': u'Diamond', 'price': None, 'closed': False, 'gPlusPlaceId': '108', 'gps': (33.7, -117.0)}";
    let files: [(&str, &[u8]); 2] = [
        ("reviews.clean.json.gz", reviews),
        ("places.clean.json.gz", places),
    ];
    survive("reviews, packed", &files, by_layout);
}

fn table(events: &str) -> TableConfig {
    let categories = CategoryColumn::Separated {
        column: "tags".into(),
        separator: "|".into(),
    };
    TableConfig {
        rating: Some("stars".into()),
        time: Some(TimeColumn::InUnit {
            column: "ts".into(),
            unit: TimeUnit::Iso8601,
        }),
        text: Some("said".into()),
        catalogue: Some(CatalogueConfig {
            description: Some("name".into()),
            path: "items.csv".into(),
            id: "sku".into(),
            title: Some("name".into()),
            year: Some("came".into()),
            categories: Some(categories),
            separator: None,
            columns: None,
        }),
        ..TableConfig::new(events, "who", "what")
    }
}

const ITEMS: &[u8] = b"sku,name,tags,came\n7,Tea &amp; Milk,Hot|Drink,1999\n8,,,\n7,Other,Cold,\n";

#[test]
fn tables_of_csv_and_json_lines() {
    let csv: &[u8] = b"who,what,stars,ts,said\nada,7,4.5,2024-02-29T13:45:00.5+01:00,\"a, b\"\nbob,8,,2024-02-29,\n";
    let json: &[u8] = br#"{"who": "ada", "what": 7, "stars": 4.5, "ts": "2024-02-29 13:45", "said": "x", "y": [{}]}
{"who": "bob", "what": "8", "stars": null, "ts": "2024-02-29", "said": ["x"]}
"#;
    for (name, events) in [("log.csv.gz", csv), ("log.jsonl", json)] {
        let config = table(name);
        survive(
            &format!("table {name}"),
            &[(name, events), ("items.csv", ITEMS)],
            |path, options| {
                let dataset = tables::load(&config, path, options)?;
                tables::load_texts(&config, path, &dataset, options)?;
                let source = Source::Tables {
                    config: config.clone(),
                    folder: path.into(),
                };
                source.descriptions(&dataset.catalogue, options).map(drop)
            },
        );
    }
}

#[test]
fn tables_of_parquet() {
    let size = GeneratorConfig {
        users: 3,
        items: 20,
        events: 12,
        genres: 2,
        min_history: 2,
        seed: 1,
    };
    let folder = tempfile::tempdir().unwrap();
    Generator::new(&size)
        .unwrap()
        .write(FileKind::Parquet, folder.path())
        .unwrap();
    let bytes = |name| fs::read(folder.path().join(name)).unwrap();
    let (events, items) = (bytes("events.parquet"), bytes("items.csv"));
    let config = table_config(FileKind::Parquet);
    survive(
        "table of parquet",
        &[("events.parquet", &events), ("items.csv", &items)],
        |path, options| tables::load(&config, path, options).map(drop),
    );
}

/// The header of the first page begins behind `PAR1` with what kind of page it is, how many bytes
/// it unpacks to and how many it is packed in; each is a field of 0x15 and the number, twice as large
/// and 7 bits a byte. That of a dictionary goes on with a structure and its number of values.
#[test]
fn a_page_that_claims_to_be_huge_is_refused_before_room_is_made_for_it() {
    const HUGE: [u8; 5] = [0xfe, 0xff, 0xff, 0xff, 0x0f];
    let folder = tempfile::tempdir().unwrap();
    let size = GeneratorConfig {
        users: 3,
        items: 20,
        events: 12,
        genres: 2,
        min_history: 2,
        seed: 1,
    };
    let generator = Generator::new(&size).unwrap();
    generator.write(FileKind::Parquet, folder.path()).unwrap();
    let path = folder.path().join("events.parquet");
    let bytes = fs::read(&path).unwrap();
    let numbers = |at: usize| at + 1 + bytes[at..].iter().position(|&byte| byte < 0x80).unwrap();
    assert_eq!(
        bytes[4..8],
        [0x15, 4, 0x15, bytes[7]],
        "a dictionary's page"
    );
    let after_unpacked = numbers(7);
    let after_packed = numbers(after_unpacked + 1);
    assert_eq!(bytes[after_packed..after_packed + 2], [0x4c, 0x15]);
    let after_values = numbers(after_packed + 2);
    for (number, expected) in [
        (7..after_unpacked, "a page of 2147483647 bytes"),
        (
            after_packed + 2..after_values,
            "a dictionary of more values",
        ),
    ] {
        let mut claiming = bytes.clone();
        claiming.splice(number, HUGE);
        fs::write(&path, claiming).unwrap();
        let read = tables::load(
            &table_config(FileKind::Parquet),
            folder.path(),
            &ReadOptions::default(),
        );
        let error = read.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(peak_memory() < MEMORY, "{} bytes", peak_memory());
}

/// Another program's, that is: one of ours whose files differ is refused by its lock.
#[cfg(feature = "store")]
fn survive_as_store(name: &str, source: &Source, config: &PrepareConfig, files: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    prepare(source, config, &path).unwrap();
    let read = |file: &&str| fs::read(path.join(file)).unwrap();
    let bytes: Vec<Vec<u8>> = files.iter().map(read).collect();
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .copied()
        .zip(bytes.iter().map(Vec::as_slice))
        .collect();
    survive(name, &files, |path, _| {
        let store = PreparedStore::seal(path, "theirs", false)?;
        let dataset = store.dataset()?;
        for event in dataset.histories.iter().flat_map(|history| &history.events) {
            dataset.catalogue.display_title(event.item);
        }
        if let Some(texts) = store.review_texts(&dataset)? {
            for (user, history) in dataset.histories.iter().enumerate() {
                (0..history.events.len()).try_for_each(|event| texts.get(user, event).map(drop))?;
            }
        }
        Ok(())
    });
}

#[cfg(feature = "store")]
#[test]
fn stores() {
    let size = GeneratorConfig {
        users: 3,
        items: 20,
        events: 12,
        genres: 2,
        min_history: 2,
        seed: 1,
    };
    let folder = tempfile::tempdir().unwrap();
    let generator = Generator::new(&size).unwrap();
    generator.write(FileKind::Movielens, folder.path()).unwrap();
    let config = PrepareConfig {
        descriptions: true,
        ..PrepareConfig::default()
    };
    let files = [
        "events.arrow",
        "users.arrow",
        "items.arrow",
        "genres.arrow",
        "ratings.arrow",
        "descriptions.arrow",
    ];
    survive_as_store(
        "store",
        &Source::Path(folder.path().into()),
        &config,
        &files,
    );
}

#[cfg(feature = "store")]
#[test]
fn stores_of_reviews() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("X_5.json"), REVIEWS).unwrap();
    let config = PrepareConfig {
        reviews: true,
        ..PrepareConfig::default()
    };
    let files = [
        "events.arrow",
        "users.arrow",
        "items.arrow",
        "genres.arrow",
        "ratings.arrow",
        "reviews.arrow",
        "events.texts",
    ];
    let source = Source::Path(folder.path().into());
    survive_as_store("store of reviews", &source, &config, &files);
}

#[test]
fn new_people_and_new_items() {
    let item = Item {
        id: "heat".into(),
        title: "Heat".into(),
        year: None,
        genres: vec![],
    };
    let catalogue = Catalogue::new(vec![item], vec!["Crime".into()]).unwrap();
    let files: [(&str, &[u8]); 4] = [
        (
            "new.csv",
            b"user,item,rating,timestamp\nada,heat,4.5,9\nada,x,,10\n",
        ),
        (
            "new.jsonl",
            b"{\"user\": 1, \"item\": \"heat\", \"rating\": 4}\n{\"user\": \"b\", \"item\": 2}\n",
        ),
        (
            "items.csv",
            b"id,title,genres\n2,\"Heat, The (1995)\",Crime\n",
        ),
        (
            "items.jsonl",
            b"{\"id\": 2, \"title\": \"Heat\", \"genres\": [\"Crime\"], \"year\": 1995}\n",
        ),
    ];
    survive("new people and items", &files, |path, _| {
        for name in ["new.csv", "new.jsonl"] {
            datasets::read_interactions(&path.join(name), &catalogue)?;
        }
        for name in ["items.csv", "items.jsonl"] {
            datasets::read_items(&path.join(name), &catalogue)?;
        }
        Ok(())
    });
}

/// So many mebibytes of this byte, packed.
fn bomb(path: &Path, byte: u8, mebibytes: usize) {
    fs::write(path, gzip(&vec![byte; 1 << 20]).repeat(mebibytes)).unwrap();
}

#[test]
fn a_small_file_that_unpacks_to_a_huge_one_does_not_fill_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // A line of 2 GB; of line feeds there are fewer because each is a line, which takes longer.
    for (byte, mebibytes) in [(b'7', 2048), (b'\n', 64)] {
        bomb(&path.join("X_5.json.gz"), byte, mebibytes);
        fs::copy(path.join("X_5.json.gz"), path.join("log.csv.gz")).unwrap();
        let skip = ReadOptions {
            skip_bad: 3,
            ..ReadOptions::default()
        };
        for options in [ReadOptions::default(), skip] {
            load_with(&path.join("X_5.json.gz"), &options).unwrap_err();
            let config = TableConfig::new("log.csv.gz", "who", "what");
            tables::load(&config, path, &options).unwrap_err();
        }
    }
    assert!(peak_memory() < MEMORY, "{} bytes", peak_memory());
}

#[test]
fn long_ids_and_times_beyond_the_calendar_are_refused_or_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let long = "7".repeat(10_000);
    let lines = format!(
        "who,what,stars,ts\nada,7,5,9\n{long},7,5,9\nada,{long},5,9\nada,7,NaN,9\nada,7,5,-9\n\
         ada,7,5,1515678624000\nada,8,5,10\n"
    );
    fs::write(folder.path().join("log.csv"), lines).unwrap();
    let config = TableConfig {
        rating: Some("stars".into()),
        time: Some(TimeColumn::InSeconds("ts".into())),
        ..TableConfig::new("log.csv", "who", "what")
    };
    let options = ReadOptions {
        skip_bad: 5,
        ..ReadOptions::default()
    };
    let dataset = tables::load(&config, folder.path(), &options).unwrap();
    assert_eq!(dataset.report.count(Finding::SkippedRecord), 5);
    assert_eq!(dataset.stats().interactions, 2);
    let fewer = ReadOptions {
        skip_bad: 4,
        ..ReadOptions::default()
    };
    let error = tables::load(&config, folder.path(), &fewer)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("log.csv:7: column 4 (ts): found \"1515678624000\""),
        "{error}"
    );
    assert!(load(folder.path()).is_err());
}
