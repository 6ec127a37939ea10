//! What a store is read with.

use std::ops::Range;
use std::path::Path;

use arrow_array::types::{Float32Type, Int32Type, Int64Type};
use arrow_array::{Array, Float32Array, Int32Array, Int64Array, ListArray, StringArray};

use super::mapped::{full, lists, map, numbers, texts};
use super::{CANDIDATES, DESCRIPTIONS, EVENTS, GENRES, ITEMS, RATINGS, REVIEWS, USERS, no_store};
use crate::reviews::Review;
use crate::{Bounds, Catalogue, Error, Event, GenreIndex, Item, ItemIndex, NO_RATING};

/// The columns of all events, as another program may have written them.
pub(super) struct Columns {
    batches: Vec<Batch>,
}

struct Batch {
    /// Events before it.
    start: usize,
    user: Int32Array,
    item: Int32Array,
    rating: Float32Array,
    timestamp: Int64Array,
}

impl Columns {
    /// Rows that are handed on at once.
    const N_ROWS: usize = 1 << 16;

    pub(super) fn of(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(EVENTS.file);
        let mut batches = Vec::new();
        let mut start = 0;
        for batch in map(folder, &EVENTS)? {
            batches.push(Batch {
                start,
                user: full::<Int32Type>(&path, &batch, "user")?,
                item: full::<Int32Type>(&path, &batch, "item")?,
                rating: numbers::<Float32Type>(&path, &batch, "rating")?,
                timestamp: full::<Int64Type>(&path, &batch, "timestamp")?,
            });
            start += batch.num_rows();
        }
        Ok(Self { batches })
    }

    /// Call this with all events, so many at once as fit into little memory.
    pub(super) fn for_each_part(
        &self,
        mut visit: impl FnMut(&[Event]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for batch in &self.batches {
            let event = |row: usize| Event {
                item: batch.item.value(row) as ItemIndex,
                // What stands in a gap is anything.
                rating: match batch.rating.is_null(row) {
                    true => NO_RATING,
                    false => batch.rating.value(row),
                },
                timestamp: batch.timestamp.value(row),
            };
            for start in (0..batch.item.len()).step_by(Self::N_ROWS) {
                let end = batch.item.len().min(start + Self::N_ROWS);
                visit(&(start..end).map(event).collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    /// Whether all rows of a person are the person's.
    pub(super) fn are_of(&self, user: usize, rows: Range<usize>) -> bool {
        let batches = self.batches.iter();
        batches
            .flat_map(|batch| {
                let of_batch = |row: usize| {
                    row.clamp(batch.start, batch.start + batch.user.len()) - batch.start
                };
                &batch.user.values()[of_batch(rows.start)..of_batch(rows.end)]
            })
            .all(|&found| found == user as i32)
    }
}

/// A person, without the events.
pub(super) struct User {
    pub(super) id: Box<str>,
    pub(super) rows: Range<usize>,
    pub(super) bounds: Bounds,
}

/// All people; their rows follow one another.
pub(super) fn users(folder: &Path, n_events: usize) -> Result<Vec<User>, Error> {
    let path = folder.join(USERS.file);
    let mut users = Vec::new();
    let mut next = 0;
    for batch in map(folder, &USERS)? {
        let ids = texts(&path, &batch, "id")?;
        let first = full::<Int64Type>(&path, &batch, "first_event")?;
        let n_events = full::<Int32Type>(&path, &batch, "n_events")?;
        let n_train = full::<Int32Type>(&path, &batch, "n_train")?;
        let validation = numbers::<Int32Type>(&path, &batch, "validation")?;
        let test = numbers::<Int32Type>(&path, &batch, "test")?;
        for row in 0..batch.num_rows() {
            let wrong = |what: &str| {
                let user = users.len() + row;
                no_store(
                    &path,
                    format!("{what} of row {user} does not fit the others"),
                )
            };
            let n = usize::try_from(n_events.value(row)).map_err(|_| wrong("n_events"))?;
            if usize::try_from(first.value(row)) != Ok(next) {
                return Err(wrong("first_event"));
            }
            // A target needs an event before it.
            let target = |values: &Int32Array, name: &str| match values.is_valid(row) {
                false => Ok(None),
                true => match usize::try_from(values.value(row)) {
                    Ok(at) if (1..n).contains(&at) => Ok(Some(at)),
                    _ => Err(wrong(name)),
                },
            };
            let train = usize::try_from(n_train.value(row))
                .ok()
                .filter(|&train| train <= n);
            users.push(User {
                id: ids.value(row).into(),
                rows: next..next + n,
                bounds: Bounds {
                    train: train.ok_or_else(|| wrong("n_train"))?,
                    validation: target(&validation, "validation")?,
                    test: target(&test, "test")?.unwrap_or(n)..n,
                },
            });
            next += n;
        }
    }
    match next == n_events {
        true => Ok(users),
        false => Err(no_store(
            &path,
            format!("its people have {next} events, and there are {n_events}"),
        )),
    }
}

pub(super) fn catalogue(folder: &Path) -> Result<Catalogue, Error> {
    let path = folder.join(GENRES.file);
    let mut genres = Vec::new();
    for batch in map(folder, &GENRES)? {
        let names = texts(&path, &batch, "name")?;
        genres.extend(names.iter().flatten().map(str::to_string));
    }
    let path = folder.join(ITEMS.file);
    let mut items = Vec::new();
    for batch in map(folder, &ITEMS)? {
        let ids = texts(&path, &batch, "id")?;
        let titles = texts(&path, &batch, "title")?;
        let years = numbers::<Int32Type>(&path, &batch, "year")?;
        let (lists, numbers) = lists::<Int32Type>(&path, &batch, "genres")?;
        for row in 0..batch.num_rows() {
            let wrong = |what: &str| {
                let id = ids.value(row);
                no_store(&path, format!("item {id:?} has a {what} that cannot be"))
            };
            let year = years.is_valid(row).then(|| u16::try_from(years.value(row)));
            let genre = |&genre: &i32| GenreIndex::try_from(genre).map_err(|_| wrong("genre"));
            let of_row = &numbers.values()[range(&lists, row)];
            items.push(Item {
                id: ids.value(row).into(),
                title: titles.value(row).into(),
                year: year.transpose().map_err(|_| wrong("year"))?,
                genres: of_row.iter().map(genre).collect::<Result<_, _>>()?,
            });
        }
    }
    Catalogue::new(items, genres)
}

/// A text for each item.
pub(super) fn descriptions(folder: &Path, n_items: usize) -> Result<Vec<String>, Error> {
    let path = folder.join(DESCRIPTIONS.file);
    let mut all = Vec::with_capacity(n_items);
    for batch in map(folder, &DESCRIPTIONS)? {
        let of_batch = texts(&path, &batch, "text")?;
        all.extend(of_batch.iter().flatten().map(str::to_string));
    }
    match all.len() == n_items {
        true => Ok(all),
        false => {
            let reason = format!("it has {} rows for {n_items} items", all.len());
            Err(no_store(&path, reason))
        }
    }
}

/// What people wrote, where it is in the file.
pub(crate) struct MappedReviews(Vec<ReviewsBatch>);

struct ReviewsBatch {
    /// Rows up to its last.
    end: usize,
    text: StringArray,
    summary: StringArray,
}

impl MappedReviews {
    pub(super) fn of(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(REVIEWS.file);
        let mut end = 0;
        let read = map(folder, &REVIEWS)?.into_iter().map(|batch| {
            end += batch.num_rows();
            Ok(ReviewsBatch {
                end,
                text: texts(&path, &batch, "text")?,
                summary: texts(&path, &batch, "summary")?,
            })
        });
        Ok(Self(read.collect::<Result<_, Error>>()?))
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.0.last().map_or(0, |batch| batch.end)
    }

    /// What a row says.
    pub(crate) fn get(&self, row: usize) -> Review {
        let batch = &self.0[self.0.partition_point(|batch| batch.end <= row)];
        let row = row + batch.text.len() - batch.end;
        Review {
            text: batch.text.value(row).to_string(),
            summary: batch.summary.value(row).to_string(),
        }
    }
}

pub(super) fn ratings(folder: &Path) -> Result<Vec<f32>, Error> {
    let path = folder.join(RATINGS.file);
    let mut ratings = Vec::new();
    for batch in map(folder, &RATINGS)? {
        ratings.extend_from_slice(full::<Float32Type>(&path, &batch, "value")?.values());
    }
    Ok(ratings)
}

/// The candidates of all targets, where they are in the file.
pub(super) struct Candidates(Vec<CandidatesBatch>);

struct CandidatesBatch {
    user: Int32Array,
    target: Int32Array,
    lists: ListArray,
    items: Int32Array,
}

impl Candidates {
    pub(super) fn of(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(CANDIDATES.file);
        let batches = map(folder, &CANDIDATES)?;
        let read = batches.iter().map(|batch| {
            let (lists, items) = lists::<Int32Type>(&path, batch, "items")?;
            Ok(CandidatesBatch {
                user: full::<Int32Type>(&path, batch, "user")?,
                target: full::<Int32Type>(&path, batch, "target")?,
                lists,
                items,
            })
        });
        Ok(Self(read.collect::<Result<_, Error>>()?))
    }

    /// The candidates for a target of a person; rows are in the order of both.
    pub(super) fn get(&self, user: usize, target: usize) -> Option<Vec<ItemIndex>> {
        let asked = (i32::try_from(user).ok()?, i32::try_from(target).ok()?);
        let key = |batch: &CandidatesBatch, row| (batch.user.value(row), batch.target.value(row));
        let ends_before = |batch: &CandidatesBatch| {
            batch
                .user
                .len()
                .checked_sub(1)
                .is_none_or(|last| key(batch, last) < asked)
        };
        let batch = self.0.get(self.0.partition_point(ends_before))?;
        let (mut low, mut high) = (0, batch.user.len());
        while low < high {
            let middle = low.midpoint(high);
            match key(batch, middle) < asked {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        if low == batch.user.len() || key(batch, low) != asked {
            return None;
        }
        let items = &batch.items.values()[range(&batch.lists, low)];
        Some(items.iter().map(|&item| item as ItemIndex).collect())
    }

    /// Whether all candidates are items.
    pub(super) fn are_below(&self, n_items: usize) -> bool {
        let items = self.0.iter().flat_map(|batch| batch.items.values());
        items
            .into_iter()
            .all(|&item| (0..n_items as i64).contains(&i64::from(item)))
    }
}

/// Where the numbers of a list are.
fn range(lists: &ListArray, row: usize) -> Range<usize> {
    let offsets = lists.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}
