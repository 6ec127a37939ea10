//! Data that nobody owns, of any size, with the shape of the real: few items have most of the
//! events, few people have long histories, and tastes drift.
//!
//! - **Items** have a popularity that falls with their rank by a power law, and a genre.
//! - **People** have histories whose lengths are log-normal above a minimum, with MovieLens 20M's
//!   ratio of median to mean.
//! - **Tastes**: a person starts out with one favourite genre and ends with another, passing from
//!   one to the other event by event; about a third of the events follow the crowd instead. Nobody
//!   meets an item twice.
//! - **Times** come in sessions, with days or weeks between them.
//!
//! A seed decides everything, and every history by itself, so that data of any size is written in
//! bounded memory.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::tables::{CatalogueConfig, CategoryColumn, TableConfig, TimeColumn};
use crate::{Catalogue, Dataset, Error, Event, GenreIndex, History, Item, ItemIndex};

/// How much data to generate. A key that does not exist is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Number of people.
    pub users: usize,
    /// Number of items.
    pub items: usize,
    /// Number of events, exactly.
    pub events: usize,
    /// Number of genres.
    pub genres: usize,
    /// Events that everybody has at least.
    pub min_history: usize,
    /// Another seed gives other data.
    pub seed: u64,
}

impl GeneratorConfig {
    /// The counts of MovieLens 20M: 20,000,263 ratings of 26,744 films by 138,493 people.
    pub fn movielens_20m(seed: u64) -> Self {
        Self {
            users: 138_493,
            items: 26_744,
            events: 20_000_263,
            genres: 19,
            min_history: 20,
            seed,
        }
    }

    /// 100 million events, in the proportions of MovieLens 20M but for four times the items.
    pub fn hundred_million(seed: u64) -> Self {
        Self {
            users: 692_500,
            items: 107_000,
            events: 100_000_000,
            genres: 40,
            min_history: 20,
            seed,
        }
    }
}

/// Which files to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// `ratings.csv` and `movies.csv`, as MovieLens 20M has them.
    Movielens,
    /// `events.csv` and `items.csv`: see [`table_config`].
    Csv,
    /// `events.parquet` and `items.csv`: see [`table_config`].
    Parquet,
}

/// How to read back the tables that [`Generator::write`] wrote, from their folder.
///
/// # Panics
///
/// Panics for [`FileKind::Movielens`], which [`load`](crate::load()) reads.
pub fn table_config(kind: FileKind) -> TableConfig {
    let events = match kind {
        FileKind::Csv => "events.csv",
        FileKind::Parquet => "events.parquet",
        FileKind::Movielens => panic!("MovieLens' layout needs no config"),
    };
    let categories = CategoryColumn::Separated {
        column: "genres".into(),
        separator: "|".into(),
    };
    TableConfig {
        rating: Some("rating".into()),
        time: Some(TimeColumn::InSeconds("timestamp".into())),
        catalogue: Some(CatalogueConfig {
            description: None,
            path: "items.csv".into(),
            id: "item".into(),
            title: Some("title".into()),
            year: Some("year".into()),
            categories: Some(categories),
            separator: None,
            columns: None,
        }),
        ..TableConfig::new(events, "user", "item")
    }
}

/// Generates histories, each by itself.
///
/// # Example
///
/// ```
/// use datasets::generator::{Generator, GeneratorConfig};
///
/// let config = GeneratorConfig {
///     users: 30,
///     items: 200,
///     events: 1000,
///     genres: 5,
///     min_history: 5,
///     seed: 42,
/// };
/// let generator = Generator::new(&config)?;
/// let dataset = generator.dataset();
/// assert_eq!(dataset.stats().interactions, 1000);
/// assert!(dataset.histories[7] == generator.history(7));
/// # Ok::<(), datasets::Error>(())
/// ```
#[derive(Debug)]
pub struct Generator {
    seed: u64,
    /// Events of every person.
    lengths: Vec<u32>,
    items: Vec<GeneratedItem>,
    /// All items, by popularity.
    crowd: Weighted,
    /// The items of every genre, by popularity.
    genres: Vec<Weighted>,
}

#[derive(Debug)]
struct GeneratedItem {
    year: u16,
    /// The first one is the item's own; ascending in the catalogue.
    genres: Vec<GenreIndex>,
    /// Its rating on average.
    quality: f32,
}

impl Generator {
    /// Draw the items, and how long every history is to be.
    ///
    /// # Errors
    ///
    /// [`Error::Generator`] if the numbers do not fit one another: a history may have at most half
    /// of the items.
    pub fn new(config: &GeneratorConfig) -> Result<Self, Error> {
        let bad = |reason| Err(Error::Generator { reason });
        let longest = config.items / 2;
        if config.users == 0 || config.genres == 0 || config.genres > config.items {
            return bad("there must be people, genres, and at least as many items as genres");
        }
        if config.genres > usize::from(GenreIndex::MAX) || u32::try_from(config.items).is_err() {
            return bad("there can be 65,535 genres and 4,294,967,295 items at most");
        }
        let (Some(least), Some(most)) = (
            config.users.checked_mul(config.min_history),
            config.users.checked_mul(longest),
        ) else {
            return bad("that is more than can be counted");
        };
        if config.min_history == 0 || config.events < least || config.events > most {
            return bad(
                "the events must allow everybody min_history, and nobody half of the items",
            );
        }
        let mut random = StdRng::seed_from_u64(config.seed);
        let lengths = lengths(config, longest, &mut random);
        let items = (0..config.items)
            .map(|n| item(n, config.genres, &mut random))
            .collect();
        let items: Vec<GeneratedItem> = items;
        let of_genre = |genre: usize| {
            let is_in = |&index: &usize| usize::from(items[index].genres[0]) == genre;
            Weighted::new((0..items.len()).filter(is_in))
        };
        Ok(Self {
            seed: config.seed,
            lengths,
            crowd: Weighted::new(0..items.len()),
            genres: (0..config.genres).map(of_genre).collect(),
            items,
        })
    }

    /// Number of people.
    pub fn n_users(&self) -> usize {
        self.lengths.len()
    }

    /// All items. Of their genres each has one to three.
    pub fn catalogue(&self) -> Catalogue {
        let item = |(index, item): (usize, &GeneratedItem)| {
            let mut genres = item.genres.clone();
            genres.sort_unstable();
            Item {
                id: id(index),
                title: title(index),
                year: Some(item.year),
                genres,
            }
        };
        let items = self.items.iter().enumerate().map(item).collect();
        let genres = (0..self.genres.len()).map(genre_name).collect();
        Catalogue::new(items, genres).expect("ids are numbers and genres are listed")
    }

    /// A person's history; the same whenever it is asked for.
    ///
    /// # Panics
    ///
    /// Panics if `user` is not below [`n_users`](Self::n_users).
    pub fn history(&self, user: usize) -> History {
        /// In seconds: 1995, and nineteen years of newcomers.
        const FIRST: i64 = 789_652_009;
        const NEWCOMERS: i64 = 600_000_000;
        const DAY: i64 = 86_400;

        let n_events = self.lengths[user] as usize;
        let own_seed = self
            .seed
            .wrapping_add((user as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut random = StdRng::seed_from_u64(own_seed);
        let favourites = [(); 2].map(|()| random.random_range(0..self.genres.len()));
        let bias = random.random_range(-0.5..0.5_f32);
        let mut time = FIRST + random.random_range(0..NEWCOMERS);
        let mut met = HashSet::with_capacity(n_events);
        let mut events = Vec::with_capacity(n_events);
        for at in 0..n_events {
            let has_moved_on = random.random_range(0..n_events) < at;
            let favourite = favourites[usize::from(has_moved_on)];
            let item = self.new_item(favourite, &mut met, &mut random);
            let GeneratedItem {
                quality, genres, ..
            } = &self.items[item as usize];
            let likes = if usize::from(genres[0]) == favourite {
                0.4
            } else {
                0.0
            };
            let rating = quality + bias + likes + random.random_range(-1.2..1.2_f32);
            let gap = match random.random_range(0..30) {
                0 => random.random_range(DAY..60 * DAY),
                _ => random.random_range(0..60),
            };
            time += gap;
            events.push(Event {
                item,
                rating: ((rating * 2.0).round() / 2.0).clamp(0.5, 5.0),
                timestamp: time,
            });
        }
        History {
            user: id(user),
            events: events.into(),
        }
    }

    /// An item that the person has not met, of the favourite genre or of what everybody likes.
    fn new_item(
        &self,
        favourite: usize,
        met: &mut HashSet<ItemIndex>,
        random: &mut StdRng,
    ) -> ItemIndex {
        const N_TRIES: usize = 8;
        const FOLLOWS_CROWD: f64 = 0.35;
        for _ in 0..N_TRIES {
            let liked = match random.random_bool(FOLLOWS_CROWD) || self.genres[favourite].is_empty()
            {
                true => &self.crowd,
                false => &self.genres[favourite],
            };
            let item = liked.draw(random);
            if met.insert(item) {
                return item;
            }
        }
        // Nobody has met more than half of the items, so there is one further down the ranks.
        let n_items = self.items.len() as ItemIndex;
        let first = random.random_range(0..n_items);
        let mut others = (first..n_items).chain(0..first);
        others
            .find(|&item| met.insert(item))
            .expect("half of the items are new")
    }

    /// All of it in memory.
    pub fn dataset(&self) -> Dataset {
        let histories = (0..self.n_users()).map(|user| self.history(user)).collect();
        Dataset::from_histories("generated", self.catalogue(), histories)
            .expect("items are the catalogue's and ratings within bounds")
    }

    /// Write all of it into a folder, one history at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if the disk is full or may not be written to.
    pub fn write(&self, kind: FileKind, folder: &Path) -> Result<(), Error> {
        let at = |path: &Path, source| Error::Write {
            path: path.to_path_buf(),
            source,
        };
        fs::create_dir_all(folder).map_err(|source| at(folder, source))?;
        let (items_name, events_name) = match kind {
            FileKind::Movielens => ("movies.csv", "ratings.csv"),
            FileKind::Csv => ("items.csv", "events.csv"),
            FileKind::Parquet => ("items.csv", "events.parquet"),
        };
        let (items, events) = (folder.join(items_name), folder.join(events_name));
        create(&items)
            .and_then(|file| self.write_items(kind, file))
            .map_err(|source| at(&items, source))?;
        create(&events)
            .and_then(|file| match kind {
                FileKind::Movielens => self.write_csv("userId,movieId,rating,timestamp", file),
                FileKind::Csv => self.write_csv("user,item,rating,timestamp", file),
                FileKind::Parquet => self.write_parquet(file).map_err(io::Error::other),
            })
            .map_err(|source| at(&events, source))
    }

    fn write_items(&self, kind: FileKind, mut file: impl Write) -> io::Result<()> {
        file.write_all(match kind {
            FileKind::Movielens => b"movieId,title,genres\n",
            _ => b"item,title,year,genres\n".as_slice(),
        })?;
        for (index, item) in self.items.iter().enumerate() {
            let (id, title, year) = (id(index), title(index), item.year);
            let genres: Vec<String> = item.genres.iter().map(|&g| genre_name(g.into())).collect();
            let genres = genres.join("|");
            match kind {
                FileKind::Movielens => writeln!(file, "{id},{title} ({year}),{genres}")?,
                _ => writeln!(file, "{id},{title},{year},{genres}")?,
            }
        }
        file.flush()
    }

    fn write_csv(&self, header: &str, mut file: impl Write) -> io::Result<()> {
        writeln!(file, "{header}")?;
        for user in 0..self.n_users() {
            let history = self.history(user);
            for event in &history.events {
                let (user, item) = (user + 1, event.item + 1);
                writeln!(file, "{user},{item},{},{}", event.rating, event.timestamp)?;
            }
        }
        file.flush()
    }

    fn write_parquet(&self, file: impl Write + Send) -> Result<(), ParquetError> {
        /// Rows that are in memory at once, give or take a history.
        const N_ROWS: usize = 1 << 20;
        const SCHEMA: &str = "message events { required int64 user; required int64 item; \
                              required float rating; required int64 timestamp; }";
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build();
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
        let mut rows: Vec<(usize, Event)> = Vec::with_capacity(N_ROWS);
        for user in 0..self.n_users() {
            let history = self.history(user);
            rows.extend(history.events.iter().map(|&event| (user, event)));
            if rows.len() < N_ROWS && user + 1 < self.n_users() {
                continue;
            }
            let whole: [Vec<i64>; 3] = [
                rows.iter().map(|(user, _)| *user as i64 + 1).collect(),
                rows.iter()
                    .map(|(_, event)| i64::from(event.item) + 1)
                    .collect(),
                rows.iter().map(|(_, event)| event.timestamp).collect(),
            ];
            let ratings: Vec<f32> = rows.iter().map(|(_, event)| event.rating).collect();
            let mut group = writer.next_row_group()?;
            let [users, items, times] = &whole;
            for values in [Some(users), Some(items), None, Some(times)] {
                let Some(mut column) = group.next_column()? else {
                    break;
                };
                match values {
                    Some(values) => column
                        .typed::<Int64Type>()
                        .write_batch(values, None, None)?,
                    None => column
                        .typed::<FloatType>()
                        .write_batch(&ratings, None, None)?,
                };
                column.close()?;
            }
            group.close()?;
            rows.clear();
        }
        writer.close()?;
        Ok(())
    }
}

/// Items to draw from, each in proportion to its popularity.
#[derive(Debug)]
struct Weighted {
    items: Vec<ItemIndex>,
    /// Of every item its weight and those before it.
    sums: Vec<f64>,
}

impl Weighted {
    /// Popularity falls with the position among all items, by a power law that is flat at its head
    /// as that of films is: of MovieLens 20M's size, a tenth of the items has 85 % of the weight.
    fn new(items: impl Iterator<Item = usize>) -> Self {
        const FLAT_HEAD: f64 = 30.0;
        const POWER: f64 = 1.3;
        let mut sum = 0.0;
        let (items, sums) = items
            .map(|index| {
                sum += (index as f64 + FLAT_HEAD).powf(-POWER);
                (index as ItemIndex, sum)
            })
            .unzip();
        Self { items, sums }
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn draw(&self, random: &mut StdRng) -> ItemIndex {
        let total = self.sums[self.sums.len() - 1];
        let drawn = random.random_range(0.0..total);
        let place = self.sums.partition_point(|&sum| sum <= drawn);
        self.items[place.min(self.items.len() - 1)]
    }
}

/// How many events everybody has: log-normal above the minimum, and as many in all as there are
/// to be.
fn lengths(config: &GeneratorConfig, longest: usize, random: &mut StdRng) -> Vec<u32> {
    /// MovieLens 20M's: it gives its ratio of median (48 above 20) to mean (124 above 20).
    const SPREAD: f64 = 1.38;
    let weights: Vec<f64> = (0..config.users)
        .map(|_| (SPREAD * normal(random)).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    let above = (config.events - config.users * config.min_history) as f64;
    let length = |weight: &f64| config.min_history + (above * weight / sum) as usize;
    let mut lengths: Vec<usize> = weights.iter().map(|w| length(w).min(longest)).collect();
    // What rounding and the longest allowed left over goes round, one event each.
    let mut left = config.events - lengths.iter().sum::<usize>();
    while left > 0 {
        for length in lengths.iter_mut().filter(|length| **length < longest) {
            if left == 0 {
                break;
            }
            *length += 1;
            left -= 1;
        }
    }
    lengths.into_iter().map(|length| length as u32).collect()
}

/// From the normal distribution, after Box and Muller.
fn normal(random: &mut StdRng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random_range(0.0..1.0_f64)).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random_range(0.0..1.0_f64)).cos()
}

fn item(n: usize, n_genres: usize, random: &mut StdRng) -> GeneratedItem {
    let own = match n < n_genres {
        // So that every genre has an item.
        true => n,
        false => random.random_range(0..n_genres),
    };
    let mut genres = vec![own as GenreIndex];
    for _ in 0..random.random_range(0..3) {
        let other = random.random_range(0..n_genres) as GenreIndex;
        if !genres.contains(&other) {
            genres.push(other);
        }
    }
    GeneratedItem {
        year: random.random_range(1930..2015),
        genres,
        quality: random.random_range(2.3..4.3),
    }
}

fn id(index: usize) -> String {
    (index + 1).to_string()
}

fn title(index: usize) -> String {
    format!("Film {}", index + 1)
}

fn genre_name(index: usize) -> String {
    // Alphabetical order is that of the numbers.
    format!("Genre {:05}", index + 1)
}

fn create(path: &Path) -> io::Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(1 << 20, File::create(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReadOptions, load, tables};

    const SMALL: GeneratorConfig = GeneratorConfig {
        users: 300,
        items: 500,
        events: 20_011,
        genres: 7,
        min_history: 10,
        seed: 42,
    };

    #[test]
    fn counts_are_exact_and_a_seed_decides_everything() {
        let dataset = Generator::new(&SMALL).unwrap().dataset();
        let stats = dataset.stats();
        assert_eq!(
            (stats.users, stats.items, stats.interactions),
            (300, 500, 20_011)
        );
        assert!(
            stats.history_min >= 10 && stats.history_max <= 250,
            "{stats}"
        );
        assert!(Generator::new(&SMALL).unwrap().dataset() == dataset);
        let other = GeneratorConfig { seed: 43, ..SMALL };
        assert!(Generator::new(&other).unwrap().dataset() != dataset);
    }

    #[test]
    fn few_items_have_most_events_and_few_people_long_histories() {
        let config = GeneratorConfig {
            users: 2000,
            items: 3000,
            events: 200_000,
            ..SMALL
        };
        let dataset = Generator::new(&config).unwrap().dataset();
        let mut counts = vec![0_usize; 3000];
        for event in dataset.histories.iter().flat_map(|history| &history.events) {
            counts[event.item as usize] += 1;
        }
        counts.sort_unstable_by_key(|&count| std::cmp::Reverse(count));
        let head: usize = counts[..300].iter().sum();
        assert!(
            (90_000..160_000).contains(&head),
            "a tenth of the items: {head} events"
        );
        let stats = dataset.stats();
        assert!(stats.history_median < 0.7 * stats.history_mean, "{stats}");
    }

    #[test]
    fn nobody_meets_an_item_twice_and_tastes_drift() {
        let generator = Generator::new(&SMALL).unwrap();
        let (mut early, mut late, mut n_drifting) = (0, 0, 0);
        for user in 0..generator.n_users() {
            let history = generator.history(user);
            let items: HashSet<_> = history.events.iter().map(|event| event.item).collect();
            assert_eq!(items.len(), history.events.len());
            assert!(history.events.is_sorted_by_key(|event| event.timestamp));
            if history.events.len() > 100 {
                continue;
            }
            // The genre that prevails in the first third, in the first and in the last third.
            let third = history.events.len() / 3;
            let own = |event: &Event| generator.items[event.item as usize].genres[0];
            let count = |events: &[Event], genre| events.iter().filter(|e| own(e) == genre).count();
            let first = &history.events[..third];
            let favourite = (0..7).max_by_key(|&genre| count(first, genre)).unwrap();
            early += count(first, favourite);
            late += count(&history.events[history.events.len() - third..], favourite);
            n_drifting += 1;
        }
        assert!(
            n_drifting > 100 && late * 3 < early * 2,
            "{early} then {late}"
        );
    }

    #[test]
    fn what_is_written_is_read_back_as_it_is_in_memory() {
        let generator = Generator::new(&SMALL).unwrap();
        let mut expected = generator.dataset();
        for kind in [FileKind::Movielens, FileKind::Csv, FileKind::Parquet] {
            let folder = tempfile::tempdir().unwrap();
            generator.write(kind, folder.path()).unwrap();
            let read = match kind {
                FileKind::Movielens => load(folder.path()),
                _ => tables::load(&table_config(kind), folder.path(), &ReadOptions::default()),
            };
            let read = read.unwrap();
            assert!(read.report.is_empty(), "{}", read.report);
            expected.name.clone_from(&read.name);
            expected.sha256.clone_from(&read.sha256);
            assert!(read == expected, "{kind:?}: {read:?}");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        for config in [
            GeneratorConfig {
                events: 2_999,
                ..SMALL
            },
            GeneratorConfig {
                events: 75_001,
                ..SMALL
            },
            GeneratorConfig {
                genres: 501,
                ..SMALL
            },
            GeneratorConfig { users: 0, ..SMALL },
            GeneratorConfig {
                min_history: 0,
                ..SMALL
            },
            GeneratorConfig {
                users: usize::MAX,
                ..SMALL
            },
        ] {
            let error = Generator::new(&config).unwrap_err();
            assert!(matches!(error, Error::Generator { .. }), "{error}");
        }
    }
}
