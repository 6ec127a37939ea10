//! The editions of Amazon's and Google Local's reviews, in small files written by hand, with every
//! trap that the real ones contain.

use std::fs;
use std::io::Write;
use std::path::Path;

use datasets::reviews::{self, ReviewTexts};
use datasets::{Dataset, Error, Finding, ReadOptions, Repeats, load, load_with};
use tempfile::TempDir;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = fs::File::create(folder.path().join(name)).unwrap();
        let mut writer: Box<dyn Write> = match name.ends_with(".gz") {
            true => Box::new(flate2::write::GzEncoder::new(
                file,
                flate2::Compression::fast(),
            )),
            false => Box::new(file),
        };
        writer.write_all(text.as_bytes()).unwrap();
    }
    folder
}

fn count(dataset: &Dataset, finding: Finding) -> u64 {
    dataset.report.count(finding)
}

/// Title, rating and time of every event of a person.
fn events(dataset: &Dataset, user: &str) -> Vec<(String, f32, i64)> {
    let history = &dataset.histories[dataset.user(user).unwrap()];
    let event = |event: &datasets::Event| {
        let title = dataset.catalogue.display_title(event.item);
        (title, event.rating, event.timestamp)
    };
    history.events.iter().map(event).collect()
}

fn genres(dataset: &Dataset, id: &str) -> Vec<String> {
    let item = &dataset.catalogue.items[dataset.catalogue.find(id).unwrap() as usize];
    let name = |&genre: &u16| dataset.catalogue.genres[usize::from(genre)].clone();
    item.genres.iter().map(name).collect()
}

const AMAZON_2018: &str = r#"{"overall": 4.0, "reviewerID": "A1", "asin": "B1", "reviewText": "Good <b>one</b>", "summary": "Yes", "unixReviewTime": 1000}
{"overall": 4.0, "reviewerID": "A1", "asin": "B1", "reviewText": "Good one", "summary": "Yes", "unixReviewTime": 1000}
{"overall": 2.0, "reviewerID": "A1", "asin": "B1", "reviewText": "Changed my mind", "summary": "No", "unixReviewTime": 3000}
{"overall": 5.0, "reviewerID": "A1", "asin": "B2", "unixReviewTime": 2000}
{"overall": 5.0, "reviewerID": "A2", "asin": "B9", "reviewText": "x", "unixReviewTime": 1500}
{"reviewerID": "A2", "asin": "B1", "reviewText": "y", "unixReviewTime": 1501}
{"overall": 5.0, "reviewerID": "A2", "asin": "B2", "reviewText": "z"}
"#;

const META_2018: &str = r#"{"asin": "B1", "title": "Disney &amp; Me", "category": ["Books", "Kids &amp; Teens", "</span></span>"]}
{"asin": "B2", "title": "<span class=\"a-size-medium\"", "category": []}
{"asin": "B2", "title": "Second Best", "category": ["Books"]}
{"asin": "B3", "title": "var x = new Date().getTime();", "category": null}
"#;

#[test]
fn every_trap_of_amazon_2018_is_handled_and_counted() {
    let folder = folder(&[("X_5.json.gz", AMAZON_2018), ("meta_X.json.gz", META_2018)]);
    let dataset = load(folder.path()).unwrap();
    let expected = [
        ("Second Best".into(), 5.0, 2000),
        ("Disney & Me".into(), 2.0, 3000),
    ];
    assert_eq!(events(&dataset, "A1"), expected);
    assert_eq!(
        events(&dataset, "A2"),
        [("B9".into(), 5.0, 1500), ("Disney & Me".into(), 0.0, 1501)]
    );
    assert_eq!(genres(&dataset, "B1"), ["Books", "Kids & Teens"]);
    assert_eq!(genres(&dataset, "B2"), ["Books"]);
    for (finding, n) in [
        (Finding::CopiedEvent, 0),
        (Finding::ReplacedEvent, 2),
        (Finding::MissingTime, 1),
        (Finding::MissingRating, 1),
        (Finding::MissingText, 1),
        (Finding::RepeatedItem, 1),
        (Finding::UnlistedItem, 1),
        (Finding::MissingTitle, 1),
        (Finding::MissingCategory, 1),
        (Finding::CleanedTitle, 3),
        (Finding::DroppedCategory, 1),
        (Finding::SkippedRecord, 0),
    ] {
        assert_eq!(count(&dataset, finding), n, "{finding:?}");
    }
    let printed = dataset.stats().to_string();
    assert!(printed.contains("events replaced by newer"), "{printed}");
}

#[test]
fn copies_are_told_from_changed_minds_and_all_may_stay() {
    let lines = AMAZON_2018.lines().take(2).collect::<Vec<_>>().join("\n");
    let folder = folder(&[("X_5.json", &lines)]);
    let dataset = load(folder.path()).unwrap();
    assert_eq!(count(&dataset, Finding::CopiedEvent), 1);
    assert_eq!(dataset.histories[0].events.len(), 1);
    let options = ReadOptions {
        repeats: Repeats::Keep,
        ..ReadOptions::default()
    };
    let dataset = load_with(folder.path(), &options).unwrap();
    assert_eq!(dataset.histories[0].events.len(), 2);
    assert_eq!(count(&dataset, Finding::CopiedEvent), 0);
}

#[test]
fn amazon_2014_s_metadata_is_python() {
    let folder = folder(&[
        (
            "reviews_X_5.json.gz",
            r#"{"reviewerID": "A1", "asin": "1", "helpful": [0, 0], "reviewText": "t", "overall": 5.0, "summary": "s", "unixReviewTime": 1393545600}"#,
        ),
        (
            "meta_X.json.gz",
            r#"{'asin': '1', 'title': "Jo's \"Best\"", 'salesRank': {'Books': 6334800}, 'categories': [['Books', 'Art'], ['Gifts']], 'imUrl': None}"#,
        ),
    ]);
    let dataset = load(folder.path()).unwrap();
    assert_eq!(
        events(&dataset, "A1"),
        [("Jo's \"Best\"".into(), 5.0, 1_393_545_600)]
    );
    assert_eq!(genres(&dataset, "1"), ["Art", "Books", "Gifts"]);
    assert_eq!(count(&dataset, Finding::PythonLiteral), 1);
}

#[test]
fn amazon_2023_has_milliseconds_and_parents() {
    let folder = folder(&[
        (
            "X.jsonl.gz",
            r#"{"rating": 3.0, "title": "Head", "text": "Body", "asin": "V1", "parent_asin": "P1", "user_id": "U", "timestamp": 1588687728923, "verified_purchase": true}"#,
        ),
        (
            "meta_X.jsonl.gz",
            r#"{"main_category": "M", "title": "Thing", "parent_asin": "P1", "categories": ["C"]}"#,
        ),
    ]);
    let dataset = load(folder.path()).unwrap();
    assert_eq!(
        events(&dataset, "U"),
        [("Thing".into(), 3.0, 1_588_687_728)]
    );
    assert_eq!(count(&dataset, Finding::MillisecondTime), 1);
    let review = ReviewTexts::read(folder.path(), &dataset)
        .unwrap()
        .get(0, 0)
        .unwrap()
        .unwrap();
    assert_eq!(
        (review.text.as_str(), review.summary.as_str()),
        ("Body", "Head")
    );
}

#[test]
fn google_local_2021_and_2018_are_read() {
    let of_2021 = folder(&[
        (
            "review-Vermont_10.json.gz",
            r#"{"user_id": "102139132344244081573", "name": "N", "time": 1623001450558, "rating": 4, "text": null, "pics": null, "gmap_id": "0x1:0x2"}"#,
        ),
        (
            "meta-Vermont.json.gz",
            r#"{"name": "Park", "gmap_id": "0x1:0x2", "category": "['Park', 'Garden']", "MISC": {"a": ["b"]}}"#,
        ),
    ]);
    let dataset = load(of_2021.path()).unwrap();
    assert_eq!(
        events(&dataset, "102139132344244081573"),
        [("Park".into(), 4.0, 1_623_001_450)]
    );
    assert_eq!(genres(&dataset, "0x1:0x2"), ["Garden", "Park"]);
    assert_eq!(
        (
            count(&dataset, Finding::ListAsText),
            count(&dataset, Finding::MissingText)
        ),
        (1, 1)
    );

    let of_2018 = folder(&[
        (
            "reviews.clean.json.gz",
            r"{'rating': 3.0, 'reviewerName': u'an lam', 'reviewText': u'Ch\u1ea5t', 'categories': [u'Gi\u1ea3i', u'Caf\xe9'], 'gPlusPlaceId': u'108', 'unixReviewTime': 1372686659, 'reviewTime': u'Jul 1, 2013', 'gPlusUserId': u'100'}",
        ),
        (
            "places.clean.json.gz",
            r"{'name': u'Diamond', 'price': None, 'closed': False, 'gPlusPlaceId': '108', 'gps': [33.7, -117.0]}",
        ),
        (
            "users.clean.json.gz",
            r"{'userName': u'an lam', 'gPlusUserId': u'100'}",
        ),
    ]);
    let dataset = load(of_2018.path()).unwrap();
    assert_eq!(
        events(&dataset, "100"),
        [("Diamond".into(), 3.0, 1_372_686_659)]
    );
    assert_eq!(genres(&dataset, "108"), ["Café", "Giải"]);
    let texts = ReviewTexts::read(of_2018.path(), &dataset).unwrap();
    assert_eq!(texts.get(0, 0).unwrap().unwrap().text, "Chất");
}

#[test]
fn one_file_is_read_with_its_own_metadata_and_not_beside_what_contains_it() {
    let other = r#"{"asin": "B7", "title": "Other", "category": ["Else"]}"#;
    let folder = folder(&[
        ("X.json.gz", AMAZON_2018),
        ("X_5.json.gz", AMAZON_2018),
        ("meta_X.json.gz", META_2018),
        ("meta_Y.json.gz", other),
    ]);
    let dataset = load(&folder.path().join("X_5.json.gz")).unwrap();
    assert_eq!(dataset.catalogue.find("B7"), None);
    assert!(dataset.catalogue.find("B3").is_some());
    let error = load(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Ambiguous { .. }), "{error}");
}

#[test]
fn texts_are_found_by_event_and_survive_a_filter() {
    let folder = folder(&[("X_5.json", AMAZON_2018)]);
    let dataset = load(folder.path()).unwrap().with_min_history(2);
    let texts = ReviewTexts::read(folder.path(), &dataset).unwrap();
    let a1 = dataset.user("A1").unwrap();
    assert_eq!(texts.get(a1, 0).unwrap(), None, "B2 has no text");
    assert_eq!(texts.get(a1, 1).unwrap().unwrap().text, "Changed my mind");
    assert_eq!(texts.len(), 3);
    assert!(!format!("{texts:?} {:?}", texts.get(a1, 1).unwrap()).contains("mind"));
}

#[test]
fn the_same_text_has_one_number_and_what_was_replaced_has_none() {
    let line = |user: &str, item: &str, time: i64, text: &str| {
        format!(
            "{{\"reviewerID\": \"{user}\", \"asin\": \"{item}\", \"overall\": 5.0, \
             \"reviewText\": \"{text}\", \"unixReviewTime\": {time}}}\n"
        )
    };
    let lines = [
        // In no order; A1's first word on B1 is replaced by the second.
        line("A2", "B1", 50, "fine"),
        line("A1", "B2", 40, "fine"),
        line("A1", "B1", 10, "canary"),
        line("A1", "B1", 20, "good"),
        line("A2", "B2", 30, ""),
    ];
    let folder = folder(&[("X_5.json", lines.concat().as_str())]);
    let mut dataset = load(folder.path()).unwrap();
    let texts = ReviewTexts::read(folder.path(), &dataset).unwrap();
    texts.mark(&mut dataset);
    let numbers = |user: &str| {
        let history = &dataset.histories[dataset.user(user).unwrap()];
        let events = history.events.slice(..);
        (0..events.len())
            .map(|at| events.text(at))
            .collect::<Vec<_>>()
    };
    // Numbered by the first event that has them, person by person.
    assert_eq!(dataset.histories[0].user, "A2");
    assert_eq!((numbers("A2"), numbers("A1")), (vec![0, 1], vec![2, 1]));
    assert_eq!((texts.n_texts(), texts.len()), (2, 3));
    let text = |number| texts.review(number).unwrap().text;
    assert_eq!((text(1), text(2)), ("fine".into(), "good".into()));

    // A filter takes the numbers along.
    let filtered = dataset.with_min_interactions(2);
    let history = &filtered.histories[filtered.user("A1").unwrap()];
    assert_eq!(history.events.slice(1..).text(0), 1);
}

#[test]
fn what_is_wrong_is_told_with_line_and_name_and_may_be_skipped_or_masked() {
    let good = r#"{"reviewerID": "A1", "asin": "B1", "overall": 5, "unixReviewTime": 9}"#;
    for (line, expected) in [
        (r#"{"asin": "B1"}"#, "(user): found 0 bytes"),
        (
            r#"{"reviewerID": 1e30, "asin": "B1"}"#,
            "(user): found 0 bytes",
        ),
        (r#"{"reviewerID": "A"}"#, r#"(item): found """#),
        (
            r#"{"reviewerID": "A", "asin": "B", "overall": "canary"}"#,
            r#"(rating): found "canary""#,
        ),
        (
            r#"{"reviewerID": "A", "asin": "B", "overall": 1e40}"#,
            "(rating): found",
        ),
        (
            r#"{"reviewerID": "A", "asin": "B", "overall": [5]}"#,
            r#"(rating): found "a list""#,
        ),
        (
            r#"{"reviewerID": "A", "asin": "B", "unixReviewTime": -5}"#,
            r#"(time): found "-5""#,
        ),
        (
            r#"{"reviewerID": "A", "asin": "B", "unixReviewTime": 1e300}"#,
            "(time): found",
        ),
        (
            r#"{"reviewerID": "A", "asin": "B", "unixReviewTime": 1515678624000000}"#,
            "(time): found",
        ),
        (
            r#"{"reviewerID": "A", "asin": "#,
            "column 28 (line): found EOF while parsing a value",
        ),
        (
            r#""canary""#,
            "(line): found something else, expected an object in JSON",
        ),
        (r#"{'canary"#, "(line): found EOF while parsing"),
        ("\u{0}", "(line): found something else"),
    ] {
        let folder = folder(&[("X_5.json", &format!("{good}\n\n{line}\n{good}\n"))]);
        let error = load(folder.path()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("X_5.json:3: ") && message.contains(expected),
            "{message}"
        );

        let masked = ReadOptions {
            mask_values: true,
            ..ReadOptions::default()
        };
        let error = load_with(folder.path(), &masked).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");

        let skip = ReadOptions {
            skip_bad: 1,
            ..ReadOptions::default()
        };
        let dataset = load_with(folder.path(), &skip).unwrap();
        assert_eq!(count(&dataset, Finding::SkippedRecord), 1);
        assert_eq!(dataset.histories.len(), 1);

        let folder = self::folder(&[("X_5.json", &format!("{line}\n{good}\n{line}\n"))]);
        let error = load_with(folder.path(), &skip).unwrap_err();
        assert!(
            matches!(error, Error::TooManyBad { limit: 1, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("X_5.json:3: "), "{error}");
    }
}

#[test]
fn a_line_without_an_end_is_skipped_without_being_held() {
    let good = r#"{"reviewerID": "A1", "asin": "B1", "overall": 5, "unixReviewTime": 9}"#;
    let long = format!("{{\"reviewerID\": \"{}\"}}", "9".repeat(3 << 20));
    let folder = folder(&[("X_5.json", &format!("{long}\n{good}\n"))]);
    let message = load(folder.path()).unwrap_err().to_string();
    assert!(
        message.contains("more than 1048576 bytes without a line end"),
        "{message}"
    );
    let skip = ReadOptions {
        skip_bad: 1,
        ..ReadOptions::default()
    };
    assert_eq!(load_with(folder.path(), &skip).unwrap().histories.len(), 1);
}

#[test]
fn a_folder_without_reviews_is_of_no_known_layout() {
    let folder = folder(&[("meta_X.json.gz", META_2018)]);
    assert!(matches!(
        reviews::load(folder.path()),
        Err(Error::UnknownLayout { .. })
    ));
    assert!(matches!(
        load(Path::new("/nowhere/X_5.json.gz")),
        Err(Error::Read { .. })
    ));
}
