//! Reader for the reviews of Amazon and of Google Local, as their publishers offer them.
//!
//! | edition | reviews | metadata |
//! | --- | --- | --- |
//! | [Amazon 2014](https://jmcauley.ucsd.edu/data/amazon/) | `reviews_X.json.gz`, `reviews_X_5.json.gz` | `meta_X.json.gz`, Python dictionaries |
//! | [Amazon 2018](https://nijianmo.github.io/amazon/) | `X.json.gz`, `X_5.json.gz` | `meta_X.json.gz` |
//! | [Amazon 2023](https://amazon-reviews-2023.github.io) | `X.jsonl.gz` | `meta_X.jsonl.gz` |
//! | Google Local 2018 | `reviews.clean.json.gz`, Python dictionaries | `places.clean.json.gz` |
//! | [Google Local 2021](https://mcauleylab.ucsd.edu/public_datasets/gdrive/googlelocal/) | `review-X.json.gz`, `review-X_10.json.gz` | `meta-X.json.gz` |
//!
//! One record a line; unpacked files are read too. All reviews in a folder make one dataset, the
//! metadata beside them its catalogue; a path to one file of reviews makes a dataset of that file
//! with its own metadata. Without metadata items go by their ids. Categories are read as genres.
//!
//! What these files contain besides reviews is handled as follows, and counted in
//! [`Dataset::report`]:
//!
//! - A person's second review of a thing replaces the first, and copies are left out
//!   ([`Repeats`](crate::Repeats)).
//! - Further metadata for an item fills the gaps of the first.
//! - Items without title or metadata go by their ids. Titles lose their markup.
//! - Milliseconds become seconds. Reviews without a time are left out.
//! - Lists that are written as texts, Python's literals and latin-1 are understood.
//!
//! Reviewers' names are never read. Texts are not part of an [`Event`]:
//! [`ReviewTexts`] has those of a dataset.

mod texts;

use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;

use crate::descriptions::Descriptions;
use crate::error::Found;
use crate::read::cell::Place;
use crate::read::files::{Files, Member, Opened, for_each_line};
use crate::read::json::{Scalar, is_python, python_to_json};
use crate::read::log::{Log, Times};
use crate::read::markup::plain;
use crate::read::tables::{CatalogueTable, People, Sink};
use crate::report::{Finding, Tally};
use crate::{Catalogue, Dataset, Error, Event, NO_RATING, ReadOptions};

pub(crate) use texts::Writer as TextsWriter;
pub use texts::{Review, ReviewTexts};

/// Read reviews from their folder, their zip or their file.
///
/// # Errors
///
/// [`Error::UnknownLayout`] if there is no file of reviews, [`Error::Ambiguous`] if one contains
/// another; [`Error::Row`] with file and line for a record that is not what it must be, and
/// [`Error::Empty`] or [`Error::Damaged`] for its file.
///
/// # Example
///
/// ```
/// use datasets::{Finding, reviews};
///
/// let folder = tempfile::tempdir()?;
/// std::fs::write(
///     folder.path().join("review-Oz.json"),
///     r#"{"user_id": "7", "gmap_id": "0x1:0x2", "rating": 5, "time": 1623001450558, "text": "!"}"#,
/// )?;
/// std::fs::write(
///     folder.path().join("meta-Oz.json"),
///     r#"{"gmap_id": "0x1:0x2", "name": "Emerald City", "category": "['City', 'Park']"}"#,
/// )?;
/// let dataset = reviews::load(folder.path())?;
/// let event = dataset.histories[0].events[0];
/// assert_eq!(dataset.catalogue.display_title(event.item), "Emerald City");
/// assert_eq!((dataset.catalogue.genres.len(), event.timestamp), (2, 1_623_001_450));
/// assert_eq!(dataset.report.count(Finding::MillisecondTime), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(path: &Path) -> Result<Dataset, Error> {
    let files = Files::open(path, &ReadOptions::default())?;
    Log::into_dataset(|sink| read(files, sink))
}

pub(crate) fn read<'s>(mut files: Files, sink: &'s mut Sink<'s>) -> Result<Log, Error> {
    let started = Instant::now();
    let reviews = review_members(&files)?;
    let mut catalogue = CatalogueTable::default();
    for metadata in files.all(is_metadata) {
        files.read(&metadata, |file| read_metadata(file, &mut catalogue))?;
    }
    let n_listed = catalogue.len();
    let mut people = People::new(sink);
    for member in &reviews {
        files.read(member, |file| {
            for_each_review(file, |tally, review| {
                keep(&review, &mut catalogue, &mut people, tally)
            })
        })?;
    }
    catalogue.fill_gaps(n_listed, &mut files.tally);
    let path = files.path().to_path_buf();
    let people = people.finish(&path)?;
    Ok(Log {
        name: files.name(),
        catalogue: catalogue.finish(&path, &mut files.tally)?,
        people,
        repeats: files.tally.options.repeats,
        times: Times::Seconds,
        files,
        started,
    })
}

/// Whether a file of this name holds reviews.
pub(crate) fn is_reviews(name: &str) -> bool {
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    let is_lines = plain.ends_with(".jsonl") || (plain.ends_with(".json") && plain != name);
    let is_named = plain.ends_with(".json") && (plain.starts_with("review") || is_core(plain));
    (is_lines || is_named)
        && !is_metadata(name)
        && !is_json_called(name, &["users."])
        && !plain.ends_with(".item.json")
        && !plain.ends_with("2attributes.json")
}

/// Whether metadata of this name belongs to reviews of that name.
pub(crate) fn is_metadata_of(name: &str, reviews: &str) -> bool {
    is_metadata(name) && subject(name) == subject(reviews)
}

fn is_metadata(name: &str) -> bool {
    is_json_called(name, &["meta_", "meta-", "places."])
}

fn is_json_called(name: &str, beginnings: &[&str]) -> bool {
    name.contains(".json")
        && beginnings
            .iter()
            .any(|beginning| name.starts_with(beginning))
}

fn is_core(plain: &str) -> bool {
    plain.ends_with("_5.json") || plain.ends_with("_10.json")
}

/// What a file's name says that it is about: `Vermont` of `review-Vermont_10.json.gz`.
fn subject(name: &str) -> &str {
    let stem = name.split(".json").next().unwrap_or(name);
    let stem = stem.trim_end_matches("_5").trim_end_matches("_10");
    let beginning = [
        "reviews_", "review_", "review-", "reviews.", "meta_", "meta-", "places.",
    ]
    .into_iter()
    .find(|beginning| stem.starts_with(beginning));
    &stem[beginning.map_or(0, str::len)..]
}

fn review_members(files: &Files) -> Result<Vec<Member>, Error> {
    let members = files.all(is_reviews);
    if members.is_empty() {
        return Err(files.unknown_layout());
    }
    for (at, member) in members.iter().enumerate() {
        let same = |other: &&Member| subject(other.name()) == subject(member.name());
        if let Some(other) = members[..at].iter().find(same) {
            return Err(Error::Ambiguous {
                path: files.path().to_path_buf(),
                first: other.name().to_string(),
                second: member.name().to_string(),
            });
        }
    }
    Ok(members)
}

/// A review as one of the editions writes it.
#[derive(Deserialize)]
struct ReviewRecord<'a> {
    #[serde(
        borrow,
        default,
        rename = "reviewerID",
        alias = "user_id",
        alias = "gPlusUserId"
    )]
    user: Scalar<'a>,
    #[serde(
        borrow,
        default,
        rename = "asin",
        alias = "gmap_id",
        alias = "gPlusPlaceId"
    )]
    item: Scalar<'a>,
    /// The 2023 edition's id of a product whatever its variant; its metadata has this one only.
    #[serde(borrow, default)]
    parent_asin: Scalar<'a>,
    #[serde(borrow, default, rename = "overall", alias = "rating")]
    rating: Scalar<'a>,
    #[serde(
        borrow,
        default,
        rename = "unixReviewTime",
        alias = "timestamp",
        alias = "time"
    )]
    time: Scalar<'a>,
    #[serde(borrow, default, rename = "reviewText", alias = "text")]
    text: Scalar<'a>,
    #[serde(borrow, default, rename = "summary", alias = "title")]
    summary: Scalar<'a>,
    /// Of the place: Google Local 2018 has them here.
    #[serde(borrow, default)]
    categories: Scalar<'a>,
}

/// A review whose fields are what they must be.
struct ParsedReview<'a> {
    user: &'a str,
    item: &'a str,
    rating: f32,
    timestamp: Option<i64>,
    text: &'a str,
    summary: &'a str,
    categories: Vec<String>,
}

/// Call `read` with every review of a file.
fn for_each_review(
    file: &mut Opened<'_>,
    mut read: impl FnMut(&mut Tally, ParsedReview<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    for_each_line(file, |tally, start, line| {
        let json = as_json(start, line, tally)?;
        let record: ReviewRecord<'_> = parse(start, &json)?;
        let at = |name| Place { name, ..start };
        let user = record.user.id().unwrap_or_default();
        let item = record.parent_asin.id().or_else(|| record.item.id());
        let item = item.unwrap_or_default();
        let user = at("user").user(&user)?;
        let item = at("item").item(&item)?;
        let rating = match record.rating.text() {
            Some(text) => at("rating").rating(&text)?,
            None => NO_RATING,
        };
        let timestamp = match record.time.text() {
            Some(text) => Some(at("time").any_timestamp(&text, tally)?),
            None => None,
        };
        let categories = record.categories.names();
        let review = ParsedReview {
            user,
            item,
            rating,
            timestamp,
            text: text_of(&record.text),
            summary: text_of(&record.summary),
            categories: categories.names,
        };
        read(tally, review)
    })
}

fn text_of<'a>(scalar: &'a Scalar<'_>) -> &'a str {
    match scalar {
        Scalar::Text(text) => text,
        _ => "",
    }
}

fn keep(
    review: &ParsedReview<'_>,
    catalogue: &mut CatalogueTable,
    people: &mut People<'_>,
    tally: &mut Tally,
) -> Result<(), Error> {
    let Some(timestamp) = review.timestamp else {
        tally.add(Finding::MissingTime);
        return Ok(());
    };
    if review.rating == NO_RATING {
        tally.add(Finding::MissingRating);
    }
    if review.text.trim().is_empty() {
        tally.add(Finding::MissingText);
    }
    let item = catalogue.find_or_add(review.item);
    if !review.categories.is_empty() {
        let categories = clean_categories(&review.categories, tally);
        catalogue.describe(
            review.item,
            None,
            None,
            categories.iter().map(String::as_str),
        );
    }
    let event = Event {
        item,
        rating: review.rating,
        timestamp,
    };
    people.add_event(review.user, event)
}

/// An item's metadata as one of the editions writes it.
#[derive(Deserialize)]
struct ItemRecord<'a> {
    #[serde(
        borrow,
        default,
        rename = "asin",
        alias = "gmap_id",
        alias = "gPlusPlaceId"
    )]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    parent_asin: Scalar<'a>,
    #[serde(borrow, default, rename = "title", alias = "name")]
    title: Scalar<'a>,
    #[serde(borrow, default, rename = "category", alias = "categories")]
    categories: Scalar<'a>,
}

fn read_metadata(file: &mut Opened<'_>, catalogue: &mut CatalogueTable) -> Result<(), Error> {
    for_each_line(file, |tally, start, line| {
        let json = as_json(start, line, tally)?;
        let record: ItemRecord<'_> = parse(start, &json)?;
        let id = record.parent_asin.id().or_else(|| record.id.id());
        let id = id.unwrap_or_default();
        let id = Place {
            name: "item",
            ..start
        }
        .item(&id)?;
        let raw = text_of(&record.title);
        let title = plain(raw);
        if title != raw {
            tally.add(Finding::CleanedTitle);
        }
        let names = record.categories.names();
        if names.was_text {
            tally.add(Finding::ListAsText);
        }
        let names = clean_categories(&names.names, tally);
        let names = names.iter().map(String::as_str);
        if catalogue.describe(id, Some(&title), None, names) {
            tally.add(Finding::RepeatedItem);
        }
        Ok(())
    })
}

/// What the metadata say of each item of a catalogue, in its order.
pub(crate) fn descriptions(mut files: Files, catalogue: &Catalogue) -> Result<Vec<String>, Error> {
    let mut descriptions = Descriptions::new(catalogue);
    for metadata in files.all(is_metadata) {
        files.read(&metadata, |file| {
            for_each_line(file, |tally, start, line| {
                let json = as_json(start, line, tally)?;
                let record: DescriptionRecord<'_> = parse(start, &json)?;
                let id = record.parent_asin.id().or_else(|| record.id.id());
                descriptions.add(id.unwrap_or_default().trim(), &record.description);
                Ok(())
            })
        })?;
    }
    Ok(descriptions.finish())
}

/// What metadata say of an item. It is read apart from [`ItemRecord`], because it is long and few
/// want it.
#[derive(Deserialize)]
struct DescriptionRecord<'a> {
    #[serde(
        borrow,
        default,
        rename = "asin",
        alias = "gmap_id",
        alias = "gPlusPlaceId"
    )]
    id: Scalar<'a>,
    #[serde(borrow, default)]
    parent_asin: Scalar<'a>,
    #[serde(borrow, default)]
    description: Scalar<'a>,
}

fn clean_categories(names: &[String], tally: &mut Tally) -> Vec<String> {
    let mut clean = Vec::with_capacity(names.len());
    for name in names {
        // Pieces of a page that were taken for a category.
        match name.contains(['<', '>']) {
            true => tally.add(Finding::DroppedCategory),
            false => clean.push(plain(name).into_owned()),
        }
    }
    clean
}

/// A line as JSON, whichever way it is written.
fn as_json<'t>(start: Place<'_>, line: &'t str, tally: &mut Tally) -> Result<Cow<'t, str>, Error> {
    if !line.trim_start().starts_with('{') {
        return Err(start.error("something else", "an object in JSON"));
    }
    if is_python(line) {
        tally.add(Finding::PythonLiteral);
        return Ok(Cow::Owned(python_to_json(line)));
    }
    Ok(Cow::Borrowed(line))
}

fn parse<'t, T: Deserialize<'t>>(start: Place<'_>, json: &'t str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|error| {
        let column = error.column();
        let found = error.to_string();
        // The place says it already.
        let found = found.split(" at line ").next().unwrap_or_default();
        Place { column, ..start }.error(Found::detail(found), "an object in JSON")
    })
}
