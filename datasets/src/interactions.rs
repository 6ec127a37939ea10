//! Histories of people whom the dataset does not know.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::dataset::RATINGS;
use crate::records;
use crate::{Catalogue, Error, Event, History, ItemIndex, NO_RATING};

/// Stands for an item that the catalogue lacks: no catalogue has so many items.
pub const UNKNOWN_ITEM: ItemIndex = ItemIndex::MAX;

#[derive(Deserialize)]
struct Record {
    user: Text,
    item: Text,
    rating: Option<f32>,
    timestamp: Option<i64>,
}

/// An id, which JSON may have as a number.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Text {
    Number(i64),
    Text(String),
}

impl Text {
    pub(crate) fn into_string(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// Read histories over a catalogue from a file of interactions.
///
/// The file is CSV with a header (`.csv`) or one JSON object a line (`.jsonl`), with `user`,
/// `item`, and if known `rating` (0.5 to 5) and `timestamp` (seconds). People come in the order of
/// their first line; events without a timestamp keep the file's order. An item that the catalogue
/// lacks becomes [`UNKNOWN_ITEM`].
///
/// # Errors
///
/// If the file cannot be read, or a record is not what it must be: with its line.
///
/// # Example
///
/// ```
/// use datasets::{Catalogue, Item, UNKNOWN_ITEM, read_interactions};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("new.csv");
/// std::fs::write(&path, "user,item,rating\nada,heat,4.5\nada,a film of tomorrow,\n")?;
/// let heat = Item { id: "heat".into(), title: "Heat".into(), year: None, genres: vec![] };
/// let catalogue = Catalogue::new(vec![heat], vec![])?;
///
/// let ada = &read_interactions(&path, &catalogue)?[0];
/// let items: Vec<_> = ada.events.iter().map(|event| event.item).collect();
/// assert_eq!(items, [0, UNKNOWN_ITEM]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_interactions(path: &Path, catalogue: &Catalogue) -> Result<Vec<History>, Error> {
    let mut histories: Vec<History> = Vec::new();
    let mut place_of: HashMap<String, usize> = HashMap::new();
    let mut n_timed = 0;
    let records: Vec<(u64, Record)> = records::read(path)?;
    for (n_before, (line, record)) in records.into_iter().enumerate() {
        if let Some(rating) = record.rating.filter(|rating| !RATINGS.contains(rating)) {
            let reason = format!("a rating of {rating}; expected 0.5 to 5, or none");
            return Err(records::bad(path, line, reason));
        }
        n_timed += usize::from(record.timestamp.is_some());
        if n_timed != 0 && n_timed != n_before + 1 {
            let reason = "a timestamp in some records only; give it in all of them, or in none";
            return Err(records::bad(path, line, reason));
        }
        let user = record.user.into_string();
        let place = *place_of.entry(user.clone()).or_insert_with(|| {
            let events = Vec::new().into();
            histories.push(History { user, events });
            histories.len() - 1
        });
        histories[place].events.to_mut().push(Event {
            item: catalogue
                .find(&record.item.into_string())
                .unwrap_or(UNKNOWN_ITEM),
            rating: record.rating.unwrap_or(NO_RATING),
            timestamp: record.timestamp.unwrap_or(0),
        });
    }
    for history in &mut histories {
        let events = history.events.to_mut();
        events.sort_by_key(|event| event.timestamp);
    }
    Ok(histories)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Item;

    fn read(name: &str, text: &str) -> Result<Vec<History>, Error> {
        let item = |id: &str| Item {
            id: id.into(),
            title: id.into(),
            year: None,
            genres: vec![],
        };
        let catalogue = Catalogue::new(vec![item("7"), item("8")], vec![]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_interactions(&path, &catalogue)
    }

    fn items(history: &History) -> Vec<ItemIndex> {
        history.events.iter().map(|event| event.item).collect()
    }

    #[test]
    fn csv_and_json_lines_say_the_same() {
        let csv = "user,item,rating,timestamp\nb,8,5,20\na,7,,5\nb,7,0.5,10\nb,9,1,30\n";
        let json = r#"{"user": "b", "item": 8, "rating": 5, "timestamp": 20}
            {"user": "a", "item": "7", "timestamp": 5}

            {"user": "b", "item": 7, "rating": 0.5, "timestamp": 10}
            {"user": "b", "item": 9, "rating": 1, "timestamp": 30}"#;
        let histories = read("x.csv", csv).unwrap();
        assert!(histories == read("x.jsonl", json).unwrap());
        let users: Vec<&str> = histories.iter().map(|history| &*history.user).collect();
        assert_eq!(users, ["b", "a"]);
        assert_eq!(items(&histories[0]), [0, 1, UNKNOWN_ITEM]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (name, text, expected) in [
            (
                "x.csv",
                "user,item\na,7\na\n",
                "x.csv:3: 1 columns where the header has 2",
            ),
            (
                "x.csv",
                "user,thing\na,7\n",
                "x.csv:2: missing field `item`",
            ),
            (
                "x.csv",
                "user,item,rating\na,7,6\n",
                "x.csv:2: a rating of 6",
            ),
            (
                "x.csv",
                "user,item,timestamp\na,7,1\na,8,\n",
                "x.csv:3: a timestamp in some",
            ),
            (
                "x.csv",
                "user,item,timestamp\na,7,\na,8,1\n",
                "x.csv:3: a timestamp in some",
            ),
            (
                "x.jsonl",
                "{\"user\": 1, \"item\": 2}\n{\n",
                "x.jsonl:2: EOF",
            ),
            ("x.csv", "user,item\n", "x.csv is empty"),
            ("x.txt", "a 7\n", "ends in .csv"),
        ] {
            let message = read(name, text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
