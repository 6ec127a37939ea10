//! Data files as users really give them: the wrong folder, cut short, edited by hand. Each gets a
//! message that says where, what was found, what was expected, and what to do.

use std::fs;
use std::io::Write;
use std::path::Path;

use datasets::{Dataset, Error, LeaveOneOut, movielens};
use tempfile::TempDir;

const U_ITEM: &str = "1|Toy Story (1995)|01-Jan-1995||http://x|0|0|1\n2|Heat (1995)||||0|1|0\r\n";
const U_GENRE: &str = "unknown|0\nAction|1\nComedy|2\n\n";

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn hundred_k(ratings: &str) -> TempDir {
    folder(&[
        ("u.data", ratings.as_bytes()),
        ("u.item", U_ITEM.as_bytes()),
        ("u.genre", U_GENRE.as_bytes()),
    ])
}

fn csv(ratings: &str, movies: &str) -> TempDir {
    folder(&[
        ("ratings.csv", ratings.as_bytes()),
        ("movies.csv", movies.as_bytes()),
    ])
}

const MOVIES_CSV: &str = "movieId,title,genres\r\n1,\"Matrix, The (1999)\",Action|Sci-Fi\r\n2,Heat (1995),(no genres listed)\r\n";

fn message(folder: &TempDir) -> String {
    let error = movielens::load(folder.path()).expect_err("this input is broken");
    error
        .to_string()
        .replace(&folder.path().display().to_string(), "DIR")
}

#[track_caller]
fn assert_message(folder: &TempDir, expected: &str) {
    let message = message(folder);
    assert!(
        message.contains(expected),
        "\n got: {message}\nwant: {expected}"
    );
}

fn items(dataset: &Dataset, user: usize) -> Vec<u32> {
    dataset.histories[user]
        .events
        .iter()
        .map(|event| event.item)
        .collect()
}

#[test]
fn a_rating_of_five_is_reported_with_file_line_and_column() {
    assert_message(
        &hundred_k("7\t1\t5\t10\n7\t2\t4\t11\n8\t1\tfive\t12\n"),
        r#"DIR/u.data:3: column 3 (rating): found "five", expected a number from 0.5 to 5"#,
    );
}

#[test]
fn numbers_that_no_rating_or_time_has_are_refused() {
    for rating in ["NaN", "-1", "0", "6", "inf", "1e9", "", "5,0"] {
        assert_message(
            &hundred_k(&format!("7\t1\t{rating}\t10\n")),
            "u.data:1: column 3 (rating)",
        );
    }
    for timestamp in ["-1", "253402300800", "1.5", "yesterday", ""] {
        let expected = format!(
            "u.data:1: column 4 (timestamp): found {timestamp:?}, expected whole seconds since 1970"
        );
        assert_message(&hundred_k(&format!("7\t1\t5\t{timestamp}\n")), &expected);
    }
}

#[test]
fn a_line_with_too_few_or_too_many_fields_says_how_many() {
    assert_message(
        &hundred_k("7\t1\t5\n"),
        r#"u.data:1: column 4 (timestamp): found 3 fields, expected 4 fields separated by "\t""#,
    );
    assert_message(
        &hundred_k("7\t1\t5\t10\t11\n"),
        "u.data:1: column 5 (line): found 5 fields",
    );
    assert_message(&hundred_k("7,1,5,10\n"), "found 1 field, expected 4 fields");
}

#[test]
fn an_item_that_the_catalogue_lacks_is_reported_where_it_is_rated() {
    assert_message(
        &hundred_k("7\t1\t5\t10\n7\t3\t5\t10\n"),
        r#"u.data:2: column 2 (item): found "3", expected the id of an item in the list of items"#,
    );
}

#[test]
fn a_bad_user_id_is_reported_without_being_quoted() {
    let canary = "canary".repeat(100);
    let message = message(&hundred_k(&format!("{canary}\t1\t5\t10\n")));
    assert!(
        message.contains("u.data:1: column 1 (user): found 600 bytes"),
        "{message}"
    );
    assert!(!message.contains("canary"), "{message}");
    assert_message(
        &hundred_k(" \t1\t5\t10\n"),
        "column 1 (user): found 0 bytes",
    );
}

#[test]
fn empty_files_are_named() {
    assert_message(&hundred_k(""), "DIR/u.data is empty; take a fresh copy");
    assert_message(&hundred_k("\r\n\n"), "DIR/u.data is empty");
    let no_items = folder(&[("ratings.dat", b"1::1::5::9\n"), ("movies.dat", b"")]);
    assert_message(&no_items, "DIR/movies.dat is empty");
    assert_message(&csv("", MOVIES_CSV), "DIR/ratings.csv is empty");
    let only_header = csv("userId,movieId,rating,timestamp\n", MOVIES_CSV);
    assert_message(&only_header, "DIR/ratings.csv is empty");
    let no_bytes = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(
        movielens::load(no_bytes.path()),
        Err(Error::Empty { .. })
    ));
}

#[test]
fn a_wrong_folder_says_what_is_there_and_where_the_data_may_be() {
    let wrong = folder(&[("notes.txt", b"hello"), ("photo.jpg", b"")]);
    assert_message(
        &wrong,
        "DIR is no dataset of a known layout: found notes.txt, photo.jpg; expected u.data",
    );
    assert_message(&wrong, "give the folder that these files are in");
    assert_message(&folder(&[]), "found nothing in it");

    fs::create_dir(wrong.path().join("ml-1m")).unwrap();
    fs::write(wrong.path().join("ml-1m/ratings.dat"), "").unwrap();
    assert_message(&wrong, "did you mean DIR/ml-1m?");

    let absent = Path::new("/nowhere/ml-100k");
    let message = movielens::load(absent).unwrap_err().to_string();
    assert!(
        message.contains("cannot read /nowhere/ml-100k"),
        "{message}"
    );
}

#[test]
fn a_file_in_the_place_of_the_folder_says_what_to_give() {
    let folder = hundred_k("7\t1\t5\t10\n");
    let error = movielens::load(&folder.path().join("u.data")).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("give the folder that the file is in, or the zip"),
        "{error}"
    );
}

#[test]
fn a_missing_list_of_items_is_named() {
    let folder = folder(&[("u.data", b"7\t1\t5\t10\n")]);
    assert_message(
        &folder,
        "DIR has no u.item; copy it there from the same archive",
    );
}

#[test]
fn half_a_gzip_and_half_a_zip_are_found_out() {
    let ratings = "7\t1\t5\t10\n".repeat(5000);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(ratings.as_bytes()).unwrap();
    let gzip = encoder.finish().unwrap();
    for cut in [0, 5, gzip.len() / 2, gzip.len() - 4] {
        let folder = folder(&[
            ("u.data.gz", &gzip[..cut]),
            ("u.item", U_ITEM.as_bytes()),
            ("u.genre", U_GENRE.as_bytes()),
        ]);
        assert_message(&folder, "DIR/u.data.gz is cut short or damaged");
    }

    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("ml/ratings.dat", zip::write::SimpleFileOptions::default())
        .unwrap();
    zip.write_all(ratings.as_bytes()).unwrap();
    let zip = zip.finish().unwrap().into_inner();
    let folder = folder(&[("ml.zip", &zip[..zip.len() / 2])]);
    let error = movielens::load(&folder.path().join("ml.zip")).unwrap_err();
    assert!(
        error.to_string().contains("ml.zip is cut short or damaged"),
        "{error}"
    );
}

#[test]
fn a_line_without_an_end_does_not_fill_memory() {
    let endless = "9".repeat(3 << 20);
    assert_message(
        &hundred_k(&endless),
        "u.data:1: column 1 (line): found more than 1048576 bytes",
    );
    let endless = format!("userId,movieId,rating,timestamp\n1,1,5,10\n1,\"{endless}");
    let endless = csv(&endless, MOVIES_CSV);
    assert_message(
        &endless,
        "ratings.csv:3: column 1 (userId): found more than 1048576 bytes",
    );
    assert_message(&endless, "is a quote left open?");
}

#[test]
fn csv_errors_name_line_and_column_too() {
    let header = "userId,movieId,rating,timestamp\r\n";
    assert_message(
        &csv(
            &format!("{header}7,1,4.5,10\r\n7,1,five,10\r\n"),
            MOVIES_CSV,
        ),
        r#"DIR/ratings.csv:3: column 3 (rating): found "five""#,
    );
    // Blank lines, a quoted line feed and an absent one at the end do not confuse the count.
    for (lines, line) in [
        ("\r\n\r\n7,1,x,10", 4),
        ("\n7,1,x,10\n", 3),
        ("7,1,5,\"10\n\"\n7,1,x,9", 4),
    ] {
        let expected = format!("DIR/ratings.csv:{line}: column 3 (rating): found \"x\"");
        assert_message(&csv(&format!("{header}{lines}"), MOVIES_CSV), &expected);
    }
    assert_message(
        &csv(&format!("{header}7,1\r\n"), MOVIES_CSV),
        "ratings.csv:2: column 3 (rating): found a line of 2 fields",
    );
    assert_message(
        &csv("7,1,4.5,10\n", MOVIES_CSV),
        r#"ratings.csv has no column "userId"; it has "7", "1", "4.5", "10""#,
    );
    let twice = "movieId,title,genres\n1,Heat (1995),Crime\n1,Emma (1996),Drama\n";
    assert_message(
        &csv(&format!("{header}7,1,5,9\r\n"), twice),
        r#"movies.csv:3: column 1 (movieId): found "1", expected an id that no earlier line has"#,
    );
    let untitled = "movieId,title,genres\n1,,Crime\n";
    assert_message(
        &csv(header, untitled),
        "movies.csv:2: column 2 (title): found \"\"",
    );
}

#[test]
fn u_item_flags_and_widths_are_checked() {
    let flags = |line: &str| {
        folder(&[
            ("u.data", b"7\t1\t5\t10\n"),
            ("u.item", line.as_bytes()),
            ("u.genre", U_GENRE.as_bytes()),
        ])
    };
    assert_message(
        &flags("1|Heat (1995)||||0|2|0\n"),
        r#"u.item:1: column 7 (genre): found "2", expected 0 or 1"#,
    );
    assert_message(
        &flags("1|Heat (1995)||||0|1\n"),
        "found 7 fields, expected 8 fields",
    );
    let genres = folder(&[
        ("u.data", b"1"),
        ("u.item", b"1"),
        ("u.genre", b"Action|0\nComedy|2\n"),
    ]);
    assert_message(
        &genres,
        r#"u.genre:2: column 2 (number): found "2", expected 1"#,
    );
}

#[test]
fn a_damaged_parquet_file_is_named() {
    let folder = folder(&[
        ("a_data.parquet", b"PAR1"),
        ("a_items.parquet", b"not parquet at all"),
    ]);
    assert_message(&folder, "DIR/a_items.parquet is cut short or damaged");
}

#[test]
fn a_user_with_one_event_is_loaded_counted_and_not_split() {
    let dataset = movielens::load(hundred_k("7\t1\t5\t10\n").path()).unwrap();
    let split = LeaveOneOut::new(&dataset);
    assert_eq!((split.users().count(), split.skipped_users()), (0, 1));
    assert_eq!(
        split.to_string(),
        "leave-one-out over 1 histories, 1 of them with fewer than 3 events and therefore neither \
         validated nor tested"
    );
}

#[test]
fn events_come_in_time_order_and_ties_in_file_order() {
    let dataset =
        movielens::load(hundred_k("10\t2\t5\t9\n9\t1\t1\t9\n10\t1\t3\t8\n10\t1\t4\t9\n").path());
    let dataset = dataset.unwrap();
    let users: Vec<_> = dataset
        .histories
        .iter()
        .map(|history| history.user.as_str())
        .collect();
    assert_eq!(users, ["9", "10"], "numeric order");
    assert_eq!(items(&dataset, 1), [0, 1, 0]);
    assert_eq!(dataset.user("10"), Some(1));
    assert_eq!(dataset.user("11"), None);
}

#[test]
fn people_with_names_come_in_file_order() {
    let dataset = movielens::load(hundred_k("bob\t2\t5\t9\n7\t1\t1\t9\nada\t1\t3\t8\n").path());
    let histories = dataset.unwrap().histories;
    let users: Vec<_> = histories
        .iter()
        .map(|history| history.user.clone())
        .collect();
    assert_eq!(users, ["bob", "7", "ada"]);
}

#[test]
fn latin_1_utf_8_crlf_and_a_byte_order_mark_are_read() {
    let movies = b"\xef\xbb\xbf1::Am\xc3\xa9lie (2001)::Comedy|Romance\r\n2::Cit\xe9, La (1995)::Drama\r\n3::a::b (1990)::X";
    let folder = folder(&[
        ("ratings.dat", b"1::1::0.5::9\r\n1::2::4.5::9\r\n"),
        ("movies.dat", movies),
    ]);
    let dataset = movielens::load(folder.path()).unwrap();
    let titles: Vec<_> = dataset
        .catalogue
        .items
        .iter()
        .map(|item| item.title.as_str())
        .collect();
    assert_eq!(titles, ["Amélie", "La Cité", "a::b"]);
    assert_eq!(dataset.ratings, [0.5, 4.5]);
}

#[test]
fn csv_columns_are_found_by_name_and_quotes_are_understood() {
    let ratings =
        "\u{feff}timestamp,rating,userId,movieId,note\r\n10,4.5,7,2,x\r\n\r\n9,3,7,1,\"a, b\"\r\n";
    let dataset = movielens::load(csv(ratings, MOVIES_CSV).path()).unwrap();
    assert_eq!(items(&dataset, 0), [0, 1]);
    assert_eq!(dataset.catalogue.display_title(0), "The Matrix (1999)");
    assert_eq!(dataset.catalogue.genres, ["Action", "Sci-Fi"]);
    assert!(dataset.catalogue.items[1].genres.is_empty());
}

#[test]
fn a_zip_may_hold_macos_shadows_and_a_folder_of_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my-data.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    for (name, bytes) in [
        ("__MACOSX/ml/._ratings.csv", "junk"),
        (
            "ml/ratings.csv",
            "userId,movieId,rating,timestamp\n7,1,5,10\n",
        ),
        ("ml/movies.csv", MOVIES_CSV),
    ] {
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(bytes.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
    let dataset = movielens::load(&path).unwrap();
    assert_eq!(
        (dataset.name.as_str(), dataset.histories.len()),
        ("my-data", 1)
    );
}

/// Every parser, on small files in which a few bytes were changed, cut or doubled at random.
#[test]
fn no_damage_to_a_file_makes_a_reader_panic() {
    use rand::rngs::StdRng;
    use rand::{Rng, RngExt, SeedableRng};

    let mut random = StdRng::seed_from_u64(20261123);
    let seeds: [&[(&str, &[u8])]; 3] = [
        &[
            ("u.data", b"7\t1\t5\t10\n8\t2\t4\t11\n"),
            ("u.item", U_ITEM.as_bytes()),
            ("u.genre", U_GENRE.as_bytes()),
        ],
        &[
            ("ratings.dat", b"1::1::0.5::9\r\n"),
            ("movies.dat", b"1::Cit\xe9, La (a (b)) (1995)::Drama|X\r\n"),
        ],
        &[
            (
                "ratings.csv",
                b"userId,movieId,rating,timestamp\n7,1,5,10\n",
            ),
            ("movies.csv", MOVIES_CSV.as_bytes()),
        ],
    ];
    for seed in seeds {
        let folder = folder(seed);
        for _ in 0..1500 {
            let (name, bytes) = seed[random.random_range(0..seed.len())];
            let mut damaged = bytes.to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random
                    .random_range(0..damaged.len().max(1))
                    .min(damaged.len());
                match random.next_u32() % 3 {
                    0 => damaged.truncate(at),
                    1 => damaged.insert(at, b"\t:|,\"()\r\n\0\xff5"[random.random_range(0..12)]),
                    _ => damaged.extend_from_within(at..),
                }
            }
            replace(&folder.path().join(name), &damaged);
            let _ = movielens::load(folder.path());
            replace(&folder.path().join(name), bytes);
        }
    }
}

/// Removed first, because ext4 writes a file that is truncated and refilled to the disk at once.
fn replace(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}
