//! Reader for visit sequences: one line a person, in time order, without times or ratings.
//!
//! This is how the sequential recommenders of [S3-Rec](https://arxiv.org/abs/2008.07873)'s line
//! publish Yelp and the Amazon sets:
//!
//! - `NAME.txt`: a line is `user item item …`, oldest first; items are numbers from 1, and may
//!   come again;
//! - `NAME.item.json`: an object with a `title` and, separated by commas, the categories
//!   (`description`) of every item, keyed by the item's number **minus 1**.
//!
//! Each may be gzipped, and both may stand in a folder or in their zip. Categories are read as the
//! catalogue's genres, and [`Item::id`](crate::Item::id) is the number in `NAME.txt`. Timestamps are
//! ranks ([`Dataset::time_is_rank`]). Nobody rates: [`Dataset::ratings`] is empty, and every
//! rating is [`NO_RATING`].

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};

use crate::error::{Found, quote};
use crate::read::cell::Place;
use crate::read::files::{Files, Opened, for_each_line};
use crate::read::log::{Log, Times};
use crate::read::tables::{CatalogueTable, ListedItems, People, Sink};
use crate::{Dataset, Error, Event, NO_RATING, ReadOptions, Repeats};

const ITEMS_ENDING: &str = ".item.json";
pub(crate) const ITEMS_NAMES: [&str; 2] = ["*.item.json", "*.item.json.gz"];

/// Read visit sequences from their folder or zip.
///
/// # Errors
///
/// [`Error::UnknownLayout`] if the files are not there under their names; [`Error::Row`] with file
/// and line for a line or record that is not what it must be, [`Error::MissingFile`],
/// [`Error::Empty`] or [`Error::Damaged`] for its file.
///
/// # Example
///
/// ```
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("Town.txt"), "7 2 1 2\n")?;
/// std::fs::write(
///     folder.path().join("Town.item.json"),
///     r#"{"0": {"title": "Sun Café", "description": "Coffee, Bakeries"},
///         "1": {"title": "Old Cinema", "description": "Cinema"}}"#,
/// )?;
/// let dataset = datasets::sequences::load(folder.path())?;
/// let titles = dataset.histories[0].events.iter().map(|event| event.item);
/// let titles: Vec<_> = titles.map(|item| dataset.catalogue.display_title(item)).collect();
/// assert_eq!(titles, ["Old Cinema", "Sun Café", "Old Cinema"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load(path: &Path) -> Result<Dataset, Error> {
    let files = Files::open(path, &ReadOptions::default())?;
    Log::into_dataset(|sink| read(files, sink))
}

pub(crate) fn read<'s>(mut files: Files, sink: &'s mut Sink<'s>) -> Result<Log, Error> {
    let started = Instant::now();
    if !files.has(&ITEMS_NAMES) {
        return Err(files.unknown_layout());
    }
    let items = files.require(&ITEMS_NAMES)?;
    let name = items.plain_name().trim_end_matches(ITEMS_ENDING);
    let visits = files.require(&[&format!("{name}.txt")])?;

    let mut catalogue = CatalogueTable::default();
    files.read(&items, |file| read_items(file, &mut catalogue))?;
    let catalogue = catalogue.finish(&items.path, &mut files.tally)?;
    let mut people = People::new(sink);
    let mut listed = ListedItems::new(&catalogue, &mut people);
    files.read(&visits, |file| read_visits(file, &mut listed))?;
    let people = people.finish(&visits.path)?;
    Ok(Log {
        name: files.name(),
        catalogue,
        people,
        repeats: Repeats::Keep,
        times: Times::Ranks,
        files,
        started,
    })
}

/// `NAME.txt`: a person and what they visited.
fn read_visits(file: &mut Opened<'_>, listed: &mut ListedItems<'_, '_>) -> Result<(), Error> {
    let mut users = HashSet::new();
    let mut events = Vec::new();
    for_each_line(file, |_, start, line| {
        let mut fields = line.split_ascii_whitespace();
        let at = |column, name| Place {
            column,
            name,
            ..start
        };
        let user = at(1, "user").user(fields.next().unwrap_or_default())?;
        if users.contains(user) {
            return Err(at(1, "user").error("a person again", "one line a person"));
        }
        events.clear();
        for (item, column) in fields.zip(2..) {
            events.push(Event {
                item: listed.find_item(at(column, "item"), item)?,
                rating: NO_RATING,
                timestamp: column as i64 - 1,
            });
        }
        if events.is_empty() {
            return Err(at(2, "item").error("1 field", "a person and at least one item"));
        }
        users.insert(user.to_string());
        for &event in &events {
            listed.add_event(user, event)?;
        }
        Ok(())
    })
}

/// An item of `NAME.item.json`.
#[derive(Deserialize)]
struct Record {
    title: String,
    #[serde(default)]
    description: String,
}

/// `NAME.item.json`: titles and categories.
fn read_items(file: &mut Opened<'_>, catalogue: &mut CatalogueTable) -> Result<(), Error> {
    /// The records in file order, with repeated keys as they are.
    struct Records;
    impl<'de> Visitor<'de> for Records {
        type Value = Vec<(u32, Record)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of items")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut records = Vec::new();
            while let Some((key, record)) = map.next_entry::<String, Record>()? {
                let number = key.parse().map_err(|_| {
                    A::Error::custom(format!("{}, which is no whole number", quote(&key)))
                })?;
                records.push((number, record));
            }
            Ok(records)
        }
    }
    let path = file.path;
    let place = Place {
        file: path,
        line: 1,
        column: 1,
        name: "item",
    };
    let parsed = serde_json::Deserializer::from_reader(&mut *file).deserialize_map(Records);
    let records = parsed.map_err(|error| match error.classify() {
        serde_json::error::Category::Io => file.error(error.into()),
        _ => {
            let at = Place {
                line: error.line() as u64,
                column: error.column(),
                ..place
            };
            let expected = r#"{"title": …, "description": …} for every item, keyed by its number"#;
            let found = error.to_string();
            // The place says it already.
            let found = found.split(" at line ").next().unwrap_or_default();
            at.error(Found::detail(found), expected)
        }
    })?;
    // The whole file is one object: a record's own line is not known any more, its key is.
    for (number, record) in records {
        let categories = record.description.split(',');
        let title = record.title.trim().to_string();
        let id = (u64::from(number) + 1).to_string();
        if let Err(error) = catalogue.add_parsed_item(place, &id, title, None, categories) {
            file.tally.tolerate(error)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    const ITEMS: &str = r#"{
        "0": {"title": "Sun Café", "description": "Coffee, Bakeries"},
        "2": {"title": "The Hall, The", "description": ""},
        "1": {"title": "Old Cinema (1999)", "description": "Cinema, Bakeries"}
    }"#;

    fn town(visits: &str, items: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Town.txt"), visits).unwrap();
        fs::write(folder.path().join("Town.item.json"), items).unwrap();
        folder
    }

    fn error(visits: &str, items: &str) -> String {
        let folder = town(visits, items);
        let error = load(folder.path()).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "DIR")
    }

    #[test]
    fn visits_stay_in_order_and_repeats_stay() {
        let folder = town("12 1 3 1\n7 2 2 3 2\n", ITEMS);
        let dataset = crate::load(folder.path()).unwrap();
        let ids: Vec<Vec<&str>> = dataset
            .histories
            .iter()
            .map(|history| {
                let items = history.events.iter().map(|event| event.item as usize);
                items
                    .map(|item| dataset.catalogue.items[item].id.as_str())
                    .collect()
            })
            .collect();
        // People in numeric order of their ids.
        assert_eq!(ids, [vec!["2", "2", "3", "2"], vec!["1", "3", "1"]]);
        let times: Vec<i64> = dataset.histories[0]
            .events
            .iter()
            .map(|e| e.timestamp)
            .collect();
        assert_eq!(times, [1, 2, 3, 4]);
        assert!(dataset.time_is_rank && dataset.ratings.is_empty());
        assert_eq!(dataset.sha256.len(), 64);
    }

    #[test]
    fn an_item_s_key_is_its_number_minus_1_and_its_title_stands_as_it_is() {
        let catalogue = load(town("1 1 2 3\n", ITEMS).path()).unwrap().catalogue;
        let item = |id: &str| &catalogue.items[catalogue.find(id).unwrap() as usize];
        assert_eq!(item("1").title, "Sun Café");
        assert_eq!(
            (item("2").title.as_str(), item("2").year),
            ("Old Cinema (1999)", None)
        );
        assert_eq!(item("3").title, "The Hall, The");
        assert_eq!(catalogue.genres, ["Bakeries", "Cinema", "Coffee"]);
        assert_eq!(
            (&item("1").genres[..], &item("3").genres[..]),
            (&[0, 2][..], &[][..])
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_file_and_line() {
        for (visits, expected) in [
            (
                "1 1 2\n2 9\n",
                "DIR/Town.txt:2: column 2 (item): found \"9\"",
            ),
            (
                "1 1 2\n\n1 2\n",
                "DIR/Town.txt:3: column 1 (user): found a person again",
            ),
            ("5\n", "DIR/Town.txt:1: column 2 (item): found 1 field"),
            ("", "DIR/Town.txt is empty"),
        ] {
            let message = error(visits, ITEMS);
            assert!(message.starts_with(expected), "{message}");
        }
        for (items, expected) in [
            (
                "{\n\"0\": {\"name\": \"x\"}}",
                "Town.item.json:2: column 18 (item): found missing field `title`, expected",
            ),
            (
                "{\"zero\": {\"title\": \"x\"}}",
                "\"zero\", which is no whole number",
            ),
            (
                "{\"0\": {\"title\": \"x\"}, \"0\": {\"title\": \"y\"}}",
                "found \"1\", expected an id that no earlier",
            ),
            ("[1]", "Town.item.json:1"),
            ("{\"0\": {\"title\": \" \"}}", "(title)"),
            ("{}", "Town.item.json is empty"),
        ] {
            let message = error("1 1\n", items);
            assert!(message.contains(expected), "{message}");
        }
        let folder = town("1 1\n", ITEMS);
        fs::remove_file(folder.path().join("Town.txt")).unwrap();
        let message = load(folder.path()).unwrap_err().to_string();
        assert!(message.contains("has no Town.txt"), "{message}");
    }
}
