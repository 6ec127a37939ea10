use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::{Error, ItemIndex};

/// Position of a genre in [`Catalogue::genres`], counted from 0.
pub type GenreIndex = u16;

/// One thing that can be rated.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The id as the data file spells it.
    pub id: String,
    /// The title as people write it: `The Matrix`. Several items may share one.
    pub title: String,
    /// Year of release, where the data knows it.
    pub year: Option<u16>,
    /// Genres, ascending. Empty where the data lists none.
    pub genres: Vec<GenreIndex>,
}

/// All items with their titles and genres.
///
/// # Example
///
/// ```
/// use datasets::{Catalogue, Item};
///
/// let matrix = Item {
///     id: "2571".to_string(),
///     title: "The Matrix".to_string(),
///     year: Some(1999),
///     genres: vec![0],
/// };
/// let catalogue = Catalogue::new(vec![matrix], vec!["Sci-Fi".to_string()])?;
/// assert_eq!(catalogue.find("2571"), Some(0));
/// assert_eq!(catalogue.display_title(0), "The Matrix (1999)");
/// # Ok::<(), datasets::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Catalogue {
    /// The items, in the order of the data file. Their ids are distinct.
    pub items: Vec<Item>,
    /// Genre names, in alphabetical order where a reader built the catalogue.
    pub genres: Vec<String>,
    by_id: HashMap<String, ItemIndex>,
}

impl Catalogue {
    /// Make a catalogue of items.
    ///
    /// # Errors
    ///
    /// If two items have the same id, or a genre is not in `genres`.
    pub fn new(items: Vec<Item>, genres: Vec<String>) -> Result<Self, Error> {
        let mut by_id = HashMap::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let bad_item = |reason| Error::Item {
                id: item.id.clone(),
                reason,
            };
            if by_id.insert(item.id.clone(), index as ItemIndex).is_some() {
                return Err(bad_item("another item has the same id"));
            }
            if item
                .genres
                .iter()
                .any(|&genre| usize::from(genre) >= genres.len())
            {
                return Err(bad_item("one of its genres is not in the list of genres"));
            }
        }
        Ok(Self {
            items,
            genres,
            by_id,
        })
    }

    /// The same with more items behind the others, whose positions stay.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with(&self, items: Vec<Item>) -> Result<Self, Error> {
        Self::new([&self.items[..], &items].concat(), self.genres.clone())
    }

    /// The position of the item with this id.
    pub fn find(&self, id: &str) -> Option<ItemIndex> {
        self.by_id.get(id).copied()
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item at all.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Title and year: `The Matrix (1999)`; the title alone where the year is unknown.
    ///
    /// # Panics
    ///
    /// Panics if the index is not below [`len`](Self::len).
    pub fn display_title(&self, index: ItemIndex) -> String {
        let item = &self.items[index as usize];
        with_year(item)
    }

    /// One title per item, no two alike and as short as that allows, in catalogue order.
    ///
    /// An item goes by its bare title. Where several share one, each gets its year, and where
    /// even that is shared, the second becomes `Emma (1996) #2`. MovieLens lists some films
    /// twice under two ids, so this happens.
    pub fn unique_titles(&self) -> Vec<String> {
        let mut n_bearers: HashMap<&str, usize> = HashMap::new();
        for item in &self.items {
            *n_bearers.entry(&item.title).or_default() += 1;
        }
        let wished = |item: &Item| match n_bearers[item.title.as_str()] {
            1 => item.title.clone(),
            _ => with_year(item),
        };
        // Bare titles are reserved first, so that a numbered one never takes another's name.
        let reserved: HashSet<String> = self.items.iter().map(wished).collect();
        let mut taken = HashSet::new();
        let mut unique = |title: String| {
            if taken.insert(title.clone()) {
                return title;
            }
            let free = (2..)
                .map(|number: usize| format!("{title} #{number}"))
                .find(|numbered| !reserved.contains(numbered) && !taken.contains(numbered))
                .expect("there are more numbers than items");
            taken.insert(free.clone());
            free
        };
        self.items.iter().map(|item| unique(wished(item))).collect()
    }
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalogue")
            .field("items", &self.items.len())
            .field("genres", &self.genres.len())
            .finish_non_exhaustive()
    }
}

fn with_year(item: &Item) -> String {
    match item.year {
        Some(year) => format!("{} ({year})", item.title),
        None => item.title.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, title: &str, year: impl Into<Option<u16>>) -> Item {
        Item {
            id: id.to_string(),
            title: title.to_string(),
            year: year.into(),
            genres: vec![],
        }
    }

    fn titles(items: Vec<Item>) -> Vec<String> {
        Catalogue::new(items, vec![]).unwrap().unique_titles()
    }

    #[test]
    fn a_title_of_its_own_stays_bare() {
        assert_eq!(
            titles(vec![item("1", "Heat", 1995), item("2", "Emma", 1996)]),
            ["Heat", "Emma"]
        );
    }

    #[test]
    fn a_shared_title_gets_its_year() {
        let items = vec![
            item("1", "Heat", 1995),
            item("2", "Heat", 1986),
            item("3", "Emma", 1996),
        ];
        assert_eq!(titles(items), ["Heat (1995)", "Heat (1986)", "Emma"]);
    }

    #[test]
    fn a_shared_title_and_year_gets_a_number() {
        let items = vec![
            item("1", "Emma", 1996),
            item("2", "Emma", 1996),
            item("3", "Emma", 1996),
        ];
        assert_eq!(
            titles(items),
            ["Emma (1996)", "Emma (1996) #2", "Emma (1996) #3"]
        );
        assert_eq!(
            titles(vec![item("1", "X", None), item("2", "X", None)]),
            ["X", "X #2"]
        );
    }

    #[test]
    fn a_number_never_takes_the_name_of_another_item() {
        let items = vec![
            item("1", "X", None),
            item("2", "X", None),
            item("3", "X #2", None),
        ];
        assert_eq!(titles(items), ["X", "X #3", "X #2"]);
    }

    #[test]
    fn two_items_with_one_id_are_refused() {
        let error = Catalogue::new(vec![item("1", "A", None), item("1", "B", None)], vec![]);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("another item has the same id")
        );
    }

    #[test]
    fn a_genre_that_is_not_listed_is_refused() {
        let mut heat = item("1", "Heat", 1995);
        heat.genres = vec![1];
        let error = Catalogue::new(vec![heat], vec!["Crime".to_string()]).unwrap_err();
        assert!(
            error.to_string().contains("not in the list of genres"),
            "{error}"
        );
    }
}
