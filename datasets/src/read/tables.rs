//! What the readers of all layouts fill: a catalogue, then histories.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::cell::Place;
use crate::error::quote;
use crate::{Catalogue, Error, Event, GenreIndex, History, Item, titles};

/// Names that mean "no genre": the first in the `.csv` files, the second in 100K.
const NO_GENRE: [&str; 2] = ["(no genres listed)", "unknown"];

/// Items as they are read, with their genres still as names.
#[derive(Default)]
pub(crate) struct CatalogueTable {
    items: Vec<(Item, Vec<String>)>,
    ids: HashSet<String>,
    genres: HashSet<String>,
}

impl CatalogueTable {
    /// Know a genre even if no item has it.
    pub(crate) fn add_genre(&mut self, name: &str) {
        if !NO_GENRE.contains(&name) && !self.genres.contains(name) {
            self.genres.insert(name.to_string());
        }
    }

    pub(crate) fn add_item<'g>(
        &mut self,
        id_place: Place<'_>,
        id: &str,
        title: &str,
        genres: impl Iterator<Item = &'g str>,
    ) -> Result<(), Error> {
        let (title, year) = titles::parse(title);
        self.add_parsed_item(id_place, id, title, year, genres)
    }

    /// Like [`add_item`](Self::add_item), with a title that stands as it is meant.
    pub(crate) fn add_parsed_item<'g>(
        &mut self,
        id_place: Place<'_>,
        id: &str,
        title: String,
        year: Option<u16>,
        genres: impl Iterator<Item = &'g str>,
    ) -> Result<(), Error> {
        let id = id_place.item(id)?;
        if !self.ids.insert(id.to_string()) {
            return Err(id_place.error(quote(id), "an id that no earlier line has"));
        }
        if title.is_empty() {
            let place = Place {
                column: id_place.column + 1,
                name: "title",
                ..id_place
            };
            return Err(place.error(quote(""), "a title"));
        }
        let genres: Vec<String> = genres
            .map(str::trim)
            .filter(|name| !name.is_empty() && !NO_GENRE.contains(name))
            .map(str::to_string)
            .collect();
        for name in &genres {
            self.add_genre(name);
        }
        self.items.push((
            Item {
                id: id.to_string(),
                title,
                year,
                genres: Vec::new(),
            },
            genres,
        ));
        Ok(())
    }

    /// Number the genres in alphabetical order, so that all layouts of one release agree.
    pub(crate) fn finish(self, file: &Path) -> Result<Catalogue, Error> {
        if self.items.is_empty() {
            return Err(Error::Empty {
                file: file.to_path_buf(),
            });
        }
        let mut names: Vec<String> = self.genres.into_iter().collect();
        names.sort_unstable();
        let index_of: HashMap<&str, GenreIndex> = names
            .iter()
            .zip(0..)
            .map(|(name, index)| (name.as_str(), index))
            .collect();
        let numbered = |(mut item, genres): (Item, Vec<String>)| {
            item.genres = genres.iter().map(|name| index_of[name.as_str()]).collect();
            item.genres.sort_unstable();
            item.genres.dedup();
            item
        };
        let items = self.items.into_iter().map(numbered).collect();
        Catalogue::new(items, names)
    }
}

/// Histories as they are read, in file order.
pub(crate) struct HistoriesTable<'a> {
    catalogue: &'a Catalogue,
    histories: Vec<History>,
    by_user: HashMap<String, usize>,
    /// Most files list a person's events one after another.
    latest: usize,
}

impl<'a> HistoriesTable<'a> {
    pub(crate) fn new(catalogue: &'a Catalogue) -> Self {
        Self {
            catalogue,
            histories: Vec::new(),
            by_user: HashMap::new(),
            latest: 0,
        }
    }

    /// The position of an item of the catalogue.
    pub(crate) fn find_item(&self, place: Place<'_>, id: &str) -> Result<u32, Error> {
        let unlisted = || place.error(quote(id), "the id of an item in the list of items");
        self.catalogue.find(place.item(id)?).ok_or_else(unlisted)
    }

    pub(crate) fn add_event(&mut self, user: &str, event: Event) {
        if self
            .histories
            .get(self.latest)
            .is_none_or(|history| history.user != user)
        {
            self.latest = self.history_of(user);
        }
        self.histories[self.latest].events.push(event);
    }

    pub(crate) fn finish(mut self, file: &Path) -> Result<Vec<History>, Error> {
        if self.histories.is_empty() {
            return Err(Error::Empty {
                file: file.to_path_buf(),
            });
        }
        let number = |history: &History| history.user.parse::<u64>().ok();
        if self
            .histories
            .iter()
            .all(|history| number(history).is_some())
        {
            self.histories.sort_by_key(number);
        }
        Ok(self.histories)
    }

    fn history_of(&mut self, user: &str) -> usize {
        if let Some(&index) = self.by_user.get(user) {
            return index;
        }
        let index = self.histories.len();
        self.histories.push(History {
            user: user.to_string(),
            events: Vec::new(),
        });
        self.by_user.insert(user.to_string(), index);
        index
    }
}
