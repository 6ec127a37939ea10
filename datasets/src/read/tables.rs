//! What the readers of all layouts fill: a catalogue, then people's histories.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;

use super::cell::Place;
use crate::error::Found;
use crate::report::{Finding, Tally};
use crate::{Catalogue, Error, Event, GenreIndex, Item, ItemIndex, titles};

/// Names that mean "no genre": the first in the `.csv` files, the second in 100K.
const NO_GENRE: [&str; 2] = ["(no genres listed)", "unknown"];

/// Items as they are read, with their genres still as names.
#[derive(Default)]
pub(crate) struct CatalogueTable {
    /// Each with the positions of its genres in `genres`.
    items: Vec<(Item, Vec<usize>)>,
    by_id: HashMap<String, ItemIndex>,
    genres: Vec<String>,
    genre_by_name: HashMap<String, usize>,
}

impl CatalogueTable {
    /// Know a genre even if no item has it.
    pub(crate) fn add_genre(&mut self, name: &str) {
        if !NO_GENRE.contains(&name) {
            self.genre_index(name);
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
        if self.by_id.contains_key(id) {
            return Err(id_place.error(Found::value(id), "an id that no earlier line has"));
        }
        if title.is_empty() {
            let place = Place {
                column: id_place.column + 1,
                name: "title",
                ..id_place
            };
            return Err(place.error(Found::value(""), "a title"));
        }
        let index = self.push(id, title, year);
        self.add_genres(index, genres);
        Ok(())
    }

    /// The item's position; one that is not listed yet gets no title.
    pub(crate) fn find_or_add(&mut self, id: &str) -> ItemIndex {
        match self.by_id.get(id) {
            Some(&index) => index,
            None => self.push(id, String::new(), None),
        }
    }

    /// Give an item what it lacks: a title, a year, genres. Returns whether it had any before.
    pub(crate) fn describe<'g>(
        &mut self,
        id: &str,
        title: Option<&str>,
        year: Option<u16>,
        genres: impl Iterator<Item = &'g str>,
    ) -> bool {
        let was_listed = self.by_id.contains_key(id);
        let index = self.find_or_add(id);
        let (item, has_genres) = {
            let (item, genres) = &mut self.items[index as usize];
            (item, !genres.is_empty())
        };
        if item.title.is_empty() {
            item.title = title.unwrap_or_default().to_string();
        }
        item.year = item.year.or(year);
        if !has_genres {
            self.add_genres(index, genres);
        }
        was_listed
    }

    fn push(&mut self, id: &str, title: String, year: Option<u16>) -> ItemIndex {
        let index = self.items.len() as ItemIndex;
        self.by_id.insert(id.to_string(), index);
        let item = Item {
            id: id.to_string(),
            title,
            year,
            genres: Vec::new(),
        };
        self.items.push((item, Vec::new()));
        index
    }

    fn add_genres<'g>(&mut self, index: ItemIndex, genres: impl Iterator<Item = &'g str>) {
        let genres: Vec<usize> = genres
            .map(str::trim)
            .filter(|name| !name.is_empty() && !NO_GENRE.contains(name))
            .map(|name| self.genre_index(name))
            .collect();
        self.items[index as usize].1.extend(genres);
    }

    fn genre_index(&mut self, name: &str) -> usize {
        if let Some(&index) = self.genre_by_name.get(name) {
            return index;
        }
        self.genres.push(name.to_string());
        let index = self.genres.len() - 1;
        self.genre_by_name.insert(name.to_string(), index);
        index
    }

    /// Let items that have no title go by their ids, and count what is missing. Those behind the
    /// first `n_listed` have no metadata at all.
    pub(crate) fn fill_gaps(&mut self, n_listed: usize, tally: &mut Tally) {
        for (index, (item, genres)) in self.items.iter_mut().enumerate() {
            if index >= n_listed {
                tally.add(Finding::UnlistedItem);
            } else if item.title.is_empty() {
                tally.add(Finding::MissingTitle);
            }
            if index < n_listed && genres.is_empty() {
                tally.add(Finding::MissingCategory);
            }
            if item.title.is_empty() {
                item.title.clone_from(&item.id);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Number the genres in alphabetical order, so that all layouts of one release agree. Of more
    /// than can be numbered the most frequent stay.
    pub(crate) fn finish(mut self, file: &Path, tally: &mut Tally) -> Result<Catalogue, Error> {
        if self.items.is_empty() {
            return Err(Error::Empty {
                file: file.to_path_buf(),
            });
        }
        let mut order: Vec<usize> = (0..self.genres.len()).collect();
        if order.len() > MAX_GENRES {
            let mut counts = vec![0_usize; self.genres.len()];
            for &genre in self.items.iter().flat_map(|(_, genres)| genres) {
                counts[genre] += 1;
            }
            order.sort_by_key(|&genre| Reverse(counts[genre]));
            for _ in order.drain(MAX_GENRES..) {
                tally.add(Finding::DroppedCategory);
            }
        }
        order.sort_by(|&a, &b| self.genres[a].cmp(&self.genres[b]));
        let mut numbers: Vec<Option<GenreIndex>> = vec![None; self.genres.len()];
        for (number, &genre) in order.iter().enumerate() {
            numbers[genre] = Some(number as GenreIndex);
        }
        let numbered = |(mut item, genres): (Item, Vec<usize>)| {
            item.genres = genres.iter().filter_map(|&genre| numbers[genre]).collect();
            item.genres.sort_unstable();
            item.genres.dedup();
            item
        };
        let items = self.items.into_iter().map(numbered).collect();
        let name = |&genre: &usize| std::mem::take(&mut self.genres[genre]);
        Catalogue::new(items, order.iter().map(name).collect())
    }
}

/// Most genres that [`GenreIndex`] can number.
const MAX_GENRES: usize = GenreIndex::MAX as usize;

/// People over a catalogue that is known to be complete.
pub(crate) struct ListedItems<'a, 's> {
    catalogue: &'a Catalogue,
    /// Most data sets number their items, and a hash map takes longer than all else of a record.
    by_number: Vec<Option<ItemIndex>>,
    people: &'a mut People<'s>,
}

impl<'a, 's> ListedItems<'a, 's> {
    pub(crate) fn new(catalogue: &'a Catalogue, people: &'a mut People<'s>) -> Self {
        /// Numbers without an item that there may be for each with one.
        const GAPS: usize = 16;
        let mut by_number = Vec::new();
        for (index, item) in (0..).zip(&catalogue.items) {
            let number = number(&item.id).filter(|&number| number / GAPS <= catalogue.len());
            if let Some(number) = number {
                by_number.resize(by_number.len().max(number + 1), None);
                by_number[number] = Some(index);
            }
        }
        Self {
            catalogue,
            by_number,
            people,
        }
    }

    /// The position of an item of the catalogue.
    pub(crate) fn find_item(&self, place: Place<'_>, id: &str) -> Result<ItemIndex, Error> {
        let unlisted = || {
            let found = Found::value(id);
            place.error(found, "the id of an item in the list of items")
        };
        let id = place.item(id)?;
        let numbered = number(id).and_then(|number| *self.by_number.get(number)?);
        numbered
            .or_else(|| self.catalogue.find(id))
            .ok_or_else(unlisted)
    }

    pub(crate) fn add_event(&mut self, user: &str, event: Event) -> Result<(), Error> {
        self.people.add_event(user, event)
    }
}

/// The number that an id is, if there is no other way to write it.
fn number(id: &str) -> Option<usize> {
    let is_number = id.len() < 10 && id.bytes().all(|byte| byte.is_ascii_digit());
    let is_usual = is_number && (id == "0" || !id.starts_with('0'));
    is_usual.then(|| id.parse().ok())?
}

/// Where events go as they are read, each with the number of its person.
pub(crate) type Sink<'s> = dyn FnMut(u32, Event) -> Result<(), Error> + 's;

/// Numbers people in the order in which they appear, and hands their events on.
pub(crate) struct People<'s> {
    ids: Vec<String>,
    by_id: HashMap<String, u32>,
    /// Most files list a person's events one after another.
    latest: u32,
    sink: &'s mut Sink<'s>,
}

impl<'s> People<'s> {
    pub(crate) fn new(sink: &'s mut Sink<'s>) -> Self {
        Self {
            ids: Vec::new(),
            by_id: HashMap::new(),
            latest: 0,
            sink,
        }
    }

    pub(crate) fn add_event(&mut self, user: &str, event: Event) -> Result<(), Error> {
        let is_latest = |id: &String| id == user;
        if !self.ids.get(self.latest as usize).is_some_and(is_latest) {
            self.latest = self.number_of(user);
        }
        (self.sink)(self.latest, event)
    }

    /// Everybody's id.
    pub(crate) fn finish(self, file: &Path) -> Result<Vec<String>, Error> {
        match self.ids.is_empty() {
            true => Err(Error::Empty {
                file: file.to_path_buf(),
            }),
            false => Ok(self.ids),
        }
    }

    fn number_of(&mut self, user: &str) -> u32 {
        if let Some(&number) = self.by_id.get(user) {
            return number;
        }
        let number = self.ids.len() as u32;
        self.ids.push(user.to_string());
        self.by_id.insert(user.to_string(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn numbers_and_other_ids_are_found_as_they_are_written() {
        let ids = ["7", "07", "", "0", "999999999", "4294967303", "x", "+7"];
        let item = |id: &str| Item {
            id: id.into(),
            title: "Heat".into(),
            year: None,
            genres: vec![],
        };
        let catalogue = Catalogue::new(ids.map(item).to_vec(), vec![]).unwrap();
        let mut sink = |_, _| Ok(());
        let mut people = People::new(&mut sink);
        let listed = ListedItems::new(&catalogue, &mut people);
        let place = Place {
            file: Path::new("x"),
            line: 1,
            column: 1,
            name: "item",
        };
        for (index, id) in ids.iter().enumerate().filter(|(_, id)| !id.is_empty()) {
            assert_eq!(listed.find_item(place, id).unwrap(), index as u32, "{id}");
        }
        for id in ["8", "00", "1000000000", "7x"] {
            assert!(listed.find_item(place, id).is_err(), "{id}");
        }
    }
}
