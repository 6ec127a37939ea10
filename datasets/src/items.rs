//! Items that are not in the data files, from a small table.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::quote;
use crate::interactions::Text;
use crate::records;
use crate::{Catalogue, Error, GenreIndex, Item, titles};

#[derive(Deserialize)]
struct Record {
    id: Text,
    title: String,
    year: Option<u16>,
    genres: Option<Genres>,
}

/// A list, or names with `|` between, as MovieLens has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Genres {
    List(Vec<String>),
    Joined(String),
}

/// Read items for a catalogue that lacks them.
///
/// The file is CSV with a header (`.csv`) or one JSON object a line (`.jsonl`), with `id`, `title`,
/// and if known `genres` (names of the catalogue's, `|` between them, or a JSON list) and `year`. A
/// year at the end of the title, `Heat (1995)`, is taken from there.
///
/// # Errors
///
/// If the file cannot be read, or an item is not what it must be: with its line.
///
/// # Example
///
/// ```
/// use datasets::{Catalogue, read_items};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("new.csv");
/// std::fs::write(&path, "id,title,genres\n9001,\"Ronin (1998)\",Action|Crime\n")?;
/// let catalogue = Catalogue::new(vec![], vec!["Action".into(), "Crime".into()])?;
///
/// let ronin = &read_items(&path, &catalogue)?[0];
/// assert_eq!((ronin.title.as_str(), ronin.year), ("Ronin", Some(1998)));
/// assert_eq!(ronin.genres, [0, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_items(path: &Path, catalogue: &Catalogue) -> Result<Vec<Item>, Error> {
    let mut ids = HashSet::new();
    let records: Vec<(u64, Record)> = records::read(path)?;
    records
        .into_iter()
        .map(|(line, record)| {
            let item =
                item(record, catalogue).map_err(|reason| records::bad(path, line, reason))?;
            match catalogue.find(&item.id).is_some() || !ids.insert(item.id.clone()) {
                true => {
                    let reason = format!("another item has the id {} already", quote(&item.id));
                    Err(records::bad(path, line, reason))
                }
                false => Ok(item),
            }
        })
        .collect()
}

fn item(record: Record, catalogue: &Catalogue) -> Result<Item, String> {
    let id = record.id.into_string();
    let (title, year) = match record.year {
        Some(year) => (record.title.trim().to_string(), Some(year)),
        None => titles::parse(&record.title),
    };
    if id.is_empty() || title.is_empty() {
        return Err("an item without id or title".into());
    }
    let names = match record.genres {
        Some(Genres::List(names)) => names,
        Some(Genres::Joined(names)) => names.split('|').map(str::to_string).collect(),
        None => Vec::new(),
    };
    let mut genres = Vec::new();
    for name in names
        .iter()
        .map(|name| name.trim())
        .filter(|name| !name.is_empty())
    {
        let known = catalogue.genres.iter().position(|known| known == name);
        let Some(genre) = known else {
            let known = catalogue.genres.join(", ");
            return Err(format!(
                "no item has the genre {}; known are {known}",
                quote(name)
            ));
        };
        genres.push(genre as GenreIndex);
    }
    genres.sort_unstable();
    genres.dedup();
    Ok(Item {
        id,
        title,
        year,
        genres,
    })
}

/// Items as JSON lines, as [`read_items`] reads them.
///
/// # Panics
///
/// Panics if a genre is not the catalogue's.
pub fn items_to_json_lines(items: &[Item], catalogue: &Catalogue) -> String {
    #[derive(Serialize)]
    struct Record<'a> {
        id: &'a str,
        title: &'a str,
        year: Option<u16>,
        genres: Vec<&'a str>,
    }
    let genre = |&genre: &GenreIndex| catalogue.genres[usize::from(genre)].as_str();
    let lines = items.iter().map(|item| {
        let record = Record {
            id: &item.id,
            title: &item.title,
            year: item.year,
            genres: item.genres.iter().map(genre).collect(),
        };
        serde_json::to_string(&record).expect("plain data") + "\n"
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let old = Item {
            id: "1".into(),
            title: "Old".into(),
            year: None,
            genres: vec![0],
        };
        Catalogue::new(
            vec![old],
            ["Action", "Crime", "War"].map(String::from).to_vec(),
        )
        .unwrap()
    }

    fn read(name: &str, text: &str) -> Result<Vec<Item>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_items(&path, &catalogue())
    }

    #[test]
    fn csv_and_json_lines_say_the_same_and_what_is_written_is_read_back() {
        let csv = "id,title,genres\n2,\"Heat, The (1995)\",War | Action\nx,No genres,\n";
        let json = "{\"id\": 2, \"title\": \"Heat, The (1995)\", \"genres\": [\"War\", \"Action\"]}\n\
                    {\"id\": \"x\", \"title\": \"No genres\"}\n";
        let items = read("x.csv", csv).unwrap();
        assert_eq!(items, read("x.jsonl", json).unwrap());
        assert_eq!(
            (items[0].title.as_str(), items[0].year),
            ("The Heat", Some(1995))
        );
        assert_eq!(
            (&items[0].genres[..], items[1].genres.len()),
            (&[0, 2][..], 0)
        );
        let written = items_to_json_lines(&items, &catalogue());
        assert_eq!(read("again.jsonl", &written).unwrap(), items);
    }

    #[test]
    fn what_cannot_be_an_item_is_told_with_its_line() {
        for (text, expected) in [
            (
                "id,title\n1,New\n",
                "x.csv:2: another item has the id \"1\"",
            ),
            (
                "id,title\n2,New\n2,Newer\n",
                "x.csv:3: another item has the id \"2\"",
            ),
            (
                "id,title,genres\n2,New,Musical\n",
                "x.csv:2: no item has the genre \"Musical\"; known are Action, Crime, War",
            ),
            ("id,title\n2,\n", "x.csv:2: an item without id or title"),
            ("id,name\n2,New\n", "x.csv:2: missing field `title`"),
        ] {
            let message = read("x.csv", text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
