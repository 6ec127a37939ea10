//! The prepared store: a dataset in Arrow's files, mapped into memory.
//!
//! [`prepare`] reads a dataset once, with all checks and repairs, and writes a folder that is
//! opened in no time and read where it is: histories come from the disk as they are asked for, and
//! pandas, DuckDB or Spark read the same files. `docs/store.md` has their schema.
//!
//! ```
//! use datasets::store::{PrepareConfig, PreparedStore, prepare};
//! use datasets::{ReadOptions, Source};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! std::fs::write(folder.join("movies.dat"), "1::Heat (1995)::Crime\n2::Emma (1996)::Drama\n")?;
//! std::fs::write(folder.join("ratings.dat"), "7::2::3::30\n7::1::5::10\n7::2::4::20\n")?;
//! let source = Source::Path(folder.into());
//!
//! let store = prepare(&source, &PrepareConfig::default(), &folder.join("store"))?;
//! let bounds = store.bounds(0);
//! assert_eq!((bounds.train, bounds.validation, bounds.test), (1, Some(1), 2..3));
//! assert_eq!(store.events(0, 1..3)[1].timestamp, 30);
//!
//! // As if it had been read from the source, but for the events, which stay where they are.
//! let again = PreparedStore::open(&folder.join("store"))?;
//! assert!(again.dataset()? == source.load(&ReadOptions::default())?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod behind;
mod candidates;
mod external;
mod lock;
mod mapped;
mod read;
mod rows;
mod write;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dataset::RATINGS as POSSIBLE_RATINGS;
use crate::event::Rows;
use crate::read::log::Times;
use crate::reviews::ReviewTexts;
use crate::{
    Bounds, Catalogue, Dataset, Error, Event, Events, History, ItemIndex, Leakage, NO_RATING,
    ReadOptions, ReadReport, Source, Split, SplitConfig, TextIndex, Window, windows,
};

pub use candidates::CandidatesConfig;
pub use lock::{Lock, LockedFile, VERSION};
pub(crate) use read::MappedReviews;
pub(crate) use rows::Mapped;
pub(crate) use write::{Header, StoreWriter};

/// A file of the store, and its columns in order.
#[derive(Clone, Copy)]
struct Table {
    file: &'static str,
    columns: &'static [Column],
}

#[derive(Clone, Copy)]
struct Column {
    name: &'static str,
    /// Whether rows may lack a value.
    may_lack: bool,
}

const fn column(name: &'static str) -> Column {
    Column {
        name,
        may_lack: false,
    }
}

const fn sparse(name: &'static str) -> Column {
    Column {
        name,
        may_lack: true,
    }
}

const EVENTS: Table = Table {
    file: "events.arrow",
    columns: &[
        column("user"),
        column("item"),
        sparse("rating"),
        column("timestamp"),
    ],
};
const USERS: Table = Table {
    file: "users.arrow",
    columns: &[
        column("id"),
        column("first_event"),
        column("n_events"),
        column("n_train"),
        sparse("validation"),
        sparse("test"),
    ],
};
const ITEMS: Table = Table {
    file: "items.arrow",
    columns: &[
        column("id"),
        column("title"),
        sparse("year"),
        column("genres"),
    ],
};
const GENRES: Table = Table {
    file: "genres.arrow",
    columns: &[column("name")],
};
const RATINGS: Table = Table {
    file: "ratings.arrow",
    columns: &[column("value")],
};
const CANDIDATES: Table = Table {
    file: "candidates.arrow",
    columns: &[column("user"), column("target"), column("items")],
};
const DESCRIPTIONS: Table = Table {
    file: "descriptions.arrow",
    columns: &[column("text")],
};
const REVIEWS: Table = Table {
    file: "reviews.arrow",
    columns: &[column("text"), column("summary")],
};
/// Which row of [`REVIEWS`], counted from 1, was written at each event.
const TEXTS: &str = "events.texts";
const REPORT: &str = "report.json";
/// [`EVENTS`] again, as they are in memory.
const ROWS: &str = "events.rows";

/// How a store is prepared. A key that does not exist is refused.
///
/// # Example
///
/// ```
/// use datasets::store::PrepareConfig;
///
/// let config: PrepareConfig = serde_json::from_str(r#"{
///     "min_history": 51,
///     "split": { "kind": "by-user", "validation": 0.1, "test": 0.1, "seed": 42 },
///     "candidates": { "n": 100, "seed": 42 }
/// }"#)?;
/// assert_eq!(config.min_history, 51);
/// assert!(serde_json::from_str::<PrepareConfig>(r#"{"min_hisotry": 51}"#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrepareConfig {
    /// How the source is read.
    pub read: ReadOptions,
    /// As [`Dataset::with_min_interactions`].
    pub min_interactions: usize,
    /// As [`Dataset::with_min_history`], after that.
    pub min_history: usize,
    /// How histories are parted.
    pub split: SplitConfig,
    /// Items to rank each validation and test target among; none where all are ranked.
    pub candidates: Option<CandidatesConfig>,
    /// Whether what the files say of items is kept, for a frozen text encoder:
    /// [`Source::descriptions`].
    pub descriptions: bool,
    /// Whether what people wrote at their events is kept: [`Source::review_texts`].
    pub reviews: bool,
}

/// What was found while preparing: `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What the reader dropped, merged or repaired.
    pub repairs: ReadReport,
    /// What training knows that it could not have known.
    pub leakage: Leakage,
}

/// Read a dataset into memory, and write it as a store into `folder`, which must not exist or be
/// empty. The store is there whole, or not at all.
///
/// # Errors
///
/// As [`Source::load`]; [`Error::Split`] if it cannot be parted like this; [`Error::NoStore`] if
/// something is in the folder, [`Error::Write`] if the disk is full.
pub fn prepare(
    source: &Source,
    config: &PrepareConfig,
    folder: &Path,
) -> Result<PreparedStore, Error> {
    let mut writer = StoreWriter::new(folder)?;
    let dataset = source
        .load(&config.read)?
        .with_min_interactions(config.min_interactions)
        .with_min_history(config.min_history);
    for history in &dataset.histories {
        writer.add(&history.user, &history.events)?;
    }
    let header = Header {
        name: dataset.name,
        descriptions: descriptions(source, config, &dataset.catalogue)?,
        catalogue: dataset.catalogue,
        time_is_rank: dataset.time_is_rank,
        inputs: dataset.sha256,
        repairs: dataset.report,
    };
    writer.finish(header, config, |dataset| {
        source.review_texts(dataset, &config.read)
    })?;
    PreparedStore::read(folder, Lock::read(folder)?)
}

/// As [`prepare`], byte for byte, when the events do not fit into memory: they take at most about
/// `memory` bytes of it, besides everybody's ids and the catalogue, and twice their size in
/// temporary files beside the store. Where reviews are kept, there are 8 bytes an event and about
/// 60 a text more in memory, ids and catalogue twice, and the texts once more in a file in the
/// system's folder for temporary ones.
///
/// # Errors
///
/// As [`prepare`].
pub fn prepare_within(
    memory: usize,
    source: &Source,
    config: &PrepareConfig,
    folder: &Path,
) -> Result<PreparedStore, Error> {
    let mut writer = StoreWriter::new(folder)?;
    let mut staged = external::Staged::new(writer.folder())?;
    let mut log = source.read(&config.read, &mut |person, event| staged.add(person, event))?;
    let least = match config.min_interactions {
        0 => config.min_history,
        _ => 0,
    };
    staged.for_each(&log.order(), memory, |person, events| {
        log.settle(events);
        match events.len() < least {
            true => Ok(()),
            false => writer.add(&log.people[person], events),
        }
    })?;
    let mut catalogue = log.catalogue;
    if config.min_interactions > 0 {
        (writer, catalogue) = writer.core(config, catalogue)?;
    }
    let (inputs, repairs) = log.files.fingerprint();
    let header = Header {
        name: log.name,
        descriptions: descriptions(source, config, &catalogue)?,
        catalogue,
        time_is_rank: log.times != Times::Seconds,
        inputs,
        repairs,
    };
    writer.finish(header, config, |dataset| {
        source.review_texts(dataset, &config.read)
    })?;
    PreparedStore::read(folder, Lock::read(folder)?)
}

/// What is known of tables that another program wrote, besides their rows. A key that does not exist
/// is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The dataset's name.
    pub name: String,
    /// Whether `timestamp` is the rank within the history.
    #[serde(default)]
    pub time_is_rank: bool,
    /// Fingerprint of the files that were read.
    #[serde(default)]
    pub inputs: String,
    /// What [`prepare`] would have been told. People have to be parted like this; filters are
    /// believed.
    #[serde(default)]
    pub settings: PrepareConfig,
    /// What was dropped, merged or repaired.
    #[serde(default)]
    pub repairs: ReadReport,
}

/// Check the tables that another program wrote, as [`PreparedStore::seal`] does, which adds
/// `events.rows` to them but here no lock,
/// and write them anew into `folder`, which must not exist or be empty. What [`prepare`] writes of the
/// same rows is the same, byte for byte, whoever wrote the tables.
///
/// # Errors
///
/// As [`PreparedStore::seal`] and [`prepare`]; [`Error::NoStore`] if people are parted otherwise than
/// the settings say, or if texts are absent that they ask for.
///
/// # Example
///
/// ```
/// use datasets::Source;
/// use datasets::store::{Origin, PrepareConfig, prepare, rewrite};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// std::fs::write(folder.join("movies.dat"), "1::Heat (1995)::Crime\n")?;
/// std::fs::write(folder.join("ratings.dat"), "7::1::3::30\n7::1::5::10\n")?;
/// let source = Source::Path(folder.into());
/// let theirs = prepare(&source, &PrepareConfig::default(), &folder.join("theirs"))?;
///
/// let origin = Origin {
///     name: theirs.lock().name.clone(),
///     time_is_rank: false,
///     inputs: theirs.lock().inputs.clone(),
///     settings: PrepareConfig::default(),
///     repairs: theirs.dataset()?.report,
/// };
/// let ours = rewrite(&folder.join("theirs"), origin, &folder.join("ours"))?;
/// assert_eq!(ours.lock(), theirs.lock());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn rewrite(theirs: &Path, origin: Origin, folder: &Path) -> Result<PreparedStore, Error> {
    let mut writer = StoreWriter::new(folder)?;
    let store = PreparedStore::check(theirs, &origin.name, origin.time_is_rank)?;
    let settings = &origin.settings;
    let dataset = store.dataset()?;
    let split = Split::new(&dataset, &settings.split)?;
    for (user, history) in dataset.histories.iter().enumerate() {
        if split.bounds(user) != store.bounds(user) {
            let reason = format!("user {user} is not parted as the settings say");
            return Err(no_store(&theirs.join(USERS.file), reason));
        }
        writer.add(&history.user, &history.events)?;
    }
    let absent = |file| {
        no_store(
            theirs,
            format!("it has no {file}, and the settings ask for it"),
        )
    };
    let descriptions = || {
        store
            .descriptions()?
            .ok_or_else(|| absent(DESCRIPTIONS.file))
    };
    let header = Header {
        name: origin.name,
        descriptions: settings.descriptions.then(descriptions).transpose()?,
        catalogue: dataset.catalogue.clone(),
        time_is_rank: origin.time_is_rank,
        inputs: origin.inputs,
        repairs: origin.repairs,
    };
    writer.finish(header, settings, |_| {
        let texts = store.review_texts(&dataset)?;
        texts.ok_or_else(|| absent(REVIEWS.file))
    })?;
    PreparedStore::read(folder, Lock::read(folder)?)
}

fn descriptions(
    source: &Source,
    config: &PrepareConfig,
    catalogue: &Catalogue,
) -> Result<Option<Vec<String>>, Error> {
    let read = || source.descriptions(catalogue, &config.read);
    config.descriptions.then(read).transpose()
}

/// A dataset on disk: the catalogue and who there is in memory, the events where they are.
///
/// `Debug` shows counts only.
pub struct PreparedStore {
    path: PathBuf,
    lock: Lock,
    catalogue: Catalogue,
    ratings: Vec<f32>,
    users: Vec<read::User>,
    events: Mapped<Event>,
    texts: Option<Mapped<TextIndex>>,
    candidates: Option<read::Candidates>,
}

impl PreparedStore {
    /// Open a store that is what its lock says.
    ///
    /// # Errors
    ///
    /// [`Error::NoStore`] for a folder without a lock or of another version, [`Error::Checksum`]
    /// for a file that was changed or is cut short, [`Error::Read`] for one that is absent.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let lock = Lock::read(folder)?;
        lock.verify(folder)?;
        Self::read(folder, lock)
    }

    /// Whether this folder has the lock of a store, of whatever version.
    pub fn is_at(folder: &Path) -> bool {
        lock::path(folder).is_file()
    }

    /// Check, row by row, a store whose files another program wrote, and write its lock.
    ///
    /// # Errors
    ///
    /// [`Error::NoStore`] and [`Error::Damaged`] with the file and what is wrong with it,
    /// [`Error::Read`] for one that is absent.
    pub fn seal(folder: &Path, name: &str, time_is_rank: bool) -> Result<Self, Error> {
        let store = Self::check(folder, name, time_is_rank)?;
        store.lock.write(folder)?;
        Ok(store)
    }

    /// As [`seal`](Self::seal), with the lock in memory alone.
    fn check(folder: &Path, name: &str, time_is_rank: bool) -> Result<Self, Error> {
        let all = [
            EVENTS.file,
            ROWS,
            USERS.file,
            ITEMS.file,
            GENRES.file,
            RATINGS.file,
        ];
        let columns = read::Columns::of(folder)?;
        let mut rows = rows::RowsWriter::new(folder)?;
        columns.for_each_part(|events| rows.write(events))?;
        rows.finish()?;
        let given = [
            CANDIDATES.file,
            DESCRIPTIONS.file,
            REVIEWS.file,
            TEXTS,
            REPORT,
        ]
        .into_iter()
        .filter(|name| folder.join(name).exists());
        let lock_of = |name: &str| Ok((name.to_string(), LockedFile::of(&folder.join(name))?));
        let lock = Lock {
            version: VERSION,
            name: name.to_string(),
            inputs: String::new(),
            time_is_rank,
            settings: None,
            users: 0,
            items: 0,
            events: 0,
            files: all
                .into_iter()
                .chain(given)
                .map(lock_of)
                .collect::<Result<_, Error>>()?,
        };
        let mut store = Self::read_unlocked(folder, lock)?;
        store.check_rows(&columns)?;
        store.descriptions()?;
        store.check_texts()?;
        store.lock.users = store.users.len();
        store.lock.items = store.catalogue.len();
        store.lock.events = store.n_events();
        Ok(store)
    }

    fn read(folder: &Path, lock: Lock) -> Result<Self, Error> {
        let store = Self::read_unlocked(folder, lock)?;
        let Lock {
            users,
            items,
            events,
            ..
        } = store.lock;
        match (store.users.len(), store.catalogue.len(), store.n_events()) == (users, items, events)
        {
            true => Ok(store),
            false => Err(no_store(
                folder,
                "its files have other counts than its lock",
            )),
        }
    }

    fn read_unlocked(folder: &Path, lock: Lock) -> Result<Self, Error> {
        let events = Mapped::<Event>::of(folder, ROWS)?;
        let n_events = events.as_slice().len();
        let has_candidates = lock.files.contains_key(CANDIDATES.file);
        let candidates = has_candidates.then(|| read::Candidates::of(folder));
        let has_texts = lock.files.contains_key(TEXTS);
        let texts = has_texts.then(|| Mapped::<TextIndex>::of(folder, TEXTS));
        let texts = texts.transpose()?;
        if let Some(texts) = &texts
            && texts.as_slice().len() != n_events
        {
            let reason = format!(
                "it has {} rows for {n_events} events",
                texts.as_slice().len()
            );
            return Err(no_store(&folder.join(TEXTS), reason));
        }
        Ok(Self {
            path: folder.to_path_buf(),
            catalogue: read::catalogue(folder)?,
            ratings: read::ratings(folder)?,
            users: read::users(folder, n_events)?,
            candidates: candidates.transpose()?,
            events,
            texts,
            lock,
        })
    }

    /// Whether what events say of their texts is so.
    fn check_texts(&self) -> Result<(), Error> {
        let has_reviews = self.lock.files.contains_key(REVIEWS.file);
        let Some(texts) = &self.texts else {
            return match has_reviews {
                true => {
                    let reason = format!("there is no {TEXTS} that says whose these are");
                    Err(no_store(&self.path.join(REVIEWS.file), reason))
                }
                false => Ok(()),
            };
        };
        let n_reviews = MappedReviews::of(&self.path)?.len();
        let most = texts.as_slice().iter().max().copied();
        match most.is_none_or(|most| most as usize <= n_reviews) {
            true => Ok(()),
            false => {
                let reason = format!("an event has a text beyond the {n_reviews} that there are");
                Err(no_store(&self.path.join(TEXTS), reason))
            }
        }
    }

    /// What a reader of histories relies on.
    fn check_rows(&self, columns: &read::Columns) -> Result<(), Error> {
        let wrong = |file: &str, reason: String| Err(no_store(&self.path.join(file), reason));
        for user in 0..self.n_users() {
            let events = self.events(user, 0..self.history_len(user));
            let is_good = |event: &Event| {
                let has_rating = self.ratings.contains(&event.rating);
                (event.item as usize) < self.catalogue.len()
                    && (has_rating || event.rating == NO_RATING)
            };
            if !columns.are_of(user, self.users[user].rows.clone()) {
                return wrong(
                    EVENTS.file,
                    format!("not all rows of user {user} are the user's"),
                );
            }
            if !events.is_sorted_by_key(|event| event.timestamp) {
                return wrong(
                    EVENTS.file,
                    format!("user {user} is not in the order of time"),
                );
            }
            if !events.iter().all(is_good) {
                let reason = format!("user {user} has an item or a rating that is not listed");
                return wrong(EVENTS.file, reason);
            }
        }
        let is_rating = |rating: &f32| POSSIBLE_RATINGS.contains(rating);
        if !self.ratings.iter().all(is_rating) || !self.ratings.is_sorted_by(|a, b| a < b) {
            return wrong(
                RATINGS.file,
                "ratings must be ascending, from 0.5 to 5".into(),
            );
        }
        match &self.candidates {
            Some(candidates) if !candidates.are_below(self.catalogue.len()) => {
                wrong(CANDIDATES.file, "a candidate is no item".into())
            }
            _ => Ok(()),
        }
    }

    /// What the store holds and what it was made of.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// What was found while preparing; nothing where another program wrote the store.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], or [`Error::NoStore`] if it is no report.
    pub fn report(&self) -> Result<Option<Report>, Error> {
        if !self.lock.files.contains_key(REPORT) {
            return Ok(None);
        }
        let path = self.path.join(REPORT);
        let text = std::fs::read(&path).map_err(|source| Error::Read {
            path: path.clone(),
            source,
        })?;
        let report = serde_json::from_slice(&text);
        report
            .map(Some)
            .map_err(|error| no_store(&path, error.to_string()))
    }

    /// All items, rated or not.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// What was said of each item, in the catalogue's order, empty where nothing was; `None` if the
    /// store was prepared without.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::NoStore`] or [`Error::Damaged`] if they are not what they must be.
    pub fn descriptions(&self) -> Result<Option<Vec<String>>, Error> {
        if !self.lock.files.contains_key(DESCRIPTIONS.file) {
            return Ok(None);
        }
        read::descriptions(&self.path, self.catalogue.len()).map(Some)
    }

    /// What people wrote at the events of a dataset of [this store](Self::dataset), which may have
    /// been filtered since; `None` if the store was prepared without. The texts stay where they are.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::NoStore`] or [`Error::Damaged`] if they are not what they must be.
    ///
    /// # Panics
    ///
    /// Panics if the dataset is of elsewhere.
    pub fn review_texts(&self, dataset: &Dataset) -> Result<Option<ReviewTexts>, Error> {
        if self.texts.is_none() {
            return Ok(None);
        }
        let reviews = MappedReviews::of(&self.path)?;
        Ok(Some(ReviewTexts::of_store(reviews, dataset)))
    }

    /// The rating values that occur, ascending.
    pub fn ratings(&self) -> &[f32] {
        &self.ratings
    }

    /// Number of histories.
    pub fn n_users(&self) -> usize {
        self.users.len()
    }

    /// Number of events, all histories together.
    pub fn n_events(&self) -> usize {
        self.events.as_slice().len()
    }

    /// A person's id as the data file spells it.
    ///
    /// # Panics
    ///
    /// Here and below: panics if `user` is not below [`n_users`](Self::n_users).
    pub fn user_id(&self, user: usize) -> &str {
        &self.users[user].id
    }

    /// Number of events of a person.
    pub fn history_len(&self, user: usize) -> usize {
        self.users[user].rows.len()
    }

    /// Some of a person's events, oldest first, where they are in the file.
    ///
    /// # Panics
    ///
    /// Panics if the range goes beyond [`history_len`](Self::history_len).
    pub fn events(&self, user: usize, events: Range<usize>) -> &[Event] {
        &self.events.as_slice()[self.users[user].rows.clone()][events]
    }

    /// All of a person's events, not copied either.
    pub fn history(&self, user: usize) -> History {
        let rows = &self.users[user].rows;
        let mut events = Events::from(Rows::Store(self.events.part(rows.clone())));
        if let Some(texts) = &self.texts {
            events.set_texts(Rows::Store(texts.part(rows.clone())));
        }
        History {
            user: self.user_id(user).to_string(),
            events,
        }
    }

    /// Where the parts of a history lie, for training, validation and test.
    pub fn bounds(&self, user: usize) -> Bounds {
        self.users[user].bounds.clone()
    }

    /// The training examples of everybody: [`windows`] over what may be trained on.
    pub fn windows(&self, length: usize, stride: usize) -> impl Iterator<Item = Window> {
        (0..self.n_users()).flat_map(move |user| {
            windows(self.bounds(user).train, length, stride)
                .map(move |Range { start, end }| Window { user, start, end })
        })
    }

    /// The items that the target at this position of a history is to be ranked among, itself not
    /// among them; nothing where all items are.
    pub fn candidates(&self, user: usize, target: usize) -> Option<Vec<ItemIndex>> {
        self.candidates.as_ref()?.get(user, target)
    }

    /// All of it, equal to what was read from the source. Events stay where they are.
    ///
    /// # Errors
    ///
    /// As [`report`](Self::report).
    pub fn dataset(&self) -> Result<Dataset, Error> {
        let settings = self.lock.settings.clone().unwrap_or_default();
        Ok(Dataset {
            name: self.lock.name.clone(),
            catalogue: self.catalogue.clone(),
            histories: (0..self.n_users()).map(|user| self.history(user)).collect(),
            ratings: self.ratings.clone(),
            sha256: self.lock.inputs.clone(),
            time_is_rank: self.lock.time_is_rank,
            min_interactions: settings.min_interactions,
            min_history: settings.min_history,
            report: self
                .report()?
                .map(|report| report.repairs)
                .unwrap_or_default(),
        })
    }
}

impl fmt::Debug for PreparedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedStore")
            .field("path", &self.path)
            .field("users", &self.n_users())
            .field("items", &self.catalogue.len())
            .field("events", &self.n_events())
            .finish_non_exhaustive()
    }
}

/// What is wrong with a folder or a file of it.
fn no_store(path: &Path, reason: impl Into<String>) -> Error {
    Error::NoStore {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
}
