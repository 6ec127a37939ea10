//! Writing a store, a history at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::{ArrayRef, Float32Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::FileWriter;
use arrow_schema::ArrowError;
use tempfile::TempDir;

use super::behind::Behind;
use super::lock::{Hashing, Lock, LockedFile, VERSION, write_json};
use super::rows::{Mapped, RowsWriter};
use super::{
    CANDIDATES, CandidatesConfig, DESCRIPTIONS, EVENTS, GENRES, ITEMS, PrepareConfig, RATINGS,
    REPORT, REVIEWS, ROWS, Report, TEXTS, Table, USERS, no_store,
};
use crate::event::Rows;
use crate::reviews::{Review, ReviewTexts};
use crate::splits::{HistorySource, Rule, Visit};
use crate::{
    Bounds, Catalogue, Dataset, Error, Event, History, Item, ItemIndex, Leakage, NO_RATING,
    ReadReport, TextIndex,
};

/// Rows of a batch.
const N_ROWS: usize = 1 << 20;

/// The folder in the temporary one that becomes the store.
const INNER: &str = "store";

/// What is known of a dataset besides its histories.
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) catalogue: Catalogue,
    /// In the order of the catalogue.
    pub(crate) descriptions: Option<Vec<String>>,
    pub(crate) time_is_rank: bool,
    pub(crate) inputs: String,
    pub(crate) repairs: ReadReport,
}

/// Writes a store under another name, and gives it its own when it is whole.
pub(crate) struct StoreWriter {
    target: PathBuf,
    /// Removed with all that is in it if the store is not finished.
    folder: TempDir,
    events: TableWriter,
    rows: RowsWriter,
    batch: Batch,
    users: Vec<User>,
    n_events: usize,
    ratings: BTreeSet<u32>,
}

/// The columns of the events that are not written yet.
#[derive(Default)]
struct Batch {
    user: Vec<i32>,
    item: Vec<i32>,
    rating: Vec<f32>,
    timestamp: Vec<i64>,
}

struct User {
    id: Box<str>,
    first: usize,
    n_events: usize,
}

impl StoreWriter {
    /// Begin a store that will be at `target`, where nothing may be yet.
    pub(crate) fn new(target: &Path) -> Result<Self, Error> {
        let write_error = |source| Error::Write {
            path: target.to_path_buf(),
            source,
        };
        let is_empty = || fs::read_dir(target).is_ok_and(|mut all| all.next().is_none());
        if target.exists() && !is_empty() {
            let reason = "there is something already; remove it, or give another folder";
            return Err(no_store(target, reason));
        }
        let parent = match target.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(write_error)?;
        let folder = tempfile::Builder::new()
            .prefix(".partial-store-")
            .tempdir_in(parent)
            .map_err(write_error)?;
        // Another folder inside, because only the owner may enter a temporary one.
        let inner = folder.path().join(INNER);
        fs::create_dir(&inner).map_err(write_error)?;
        Ok(Self {
            target: target.to_path_buf(),
            events: TableWriter::new(&inner, &EVENTS),
            rows: RowsWriter::new(&inner)?,
            folder,
            batch: Batch::default(),
            users: Vec::new(),
            n_events: 0,
            ratings: BTreeSet::new(),
        })
    }

    /// Add the history of the next person, which is in the order of time.
    pub(crate) fn add(&mut self, id: &str, events: &[Event]) -> Result<(), Error> {
        let user = self.users.len() as i32;
        self.users.push(User {
            id: id.into(),
            first: self.n_events,
            n_events: events.len(),
        });
        self.n_events += events.len();
        self.rows.write(events)?;
        for event in events {
            self.batch.user.push(user);
            self.batch.item.push(event.item as i32);
            self.batch.rating.push(event.rating);
            self.batch.timestamp.push(event.timestamp);
            if event.rating != NO_RATING {
                // The bits of positive floats sort as the floats do.
                self.ratings.insert(event.rating.to_bits());
            }
            if self.batch.user.len() == N_ROWS {
                self.events.write(mem::take(&mut self.batch).columns())?;
            }
        }
        Ok(())
    }

    /// Where temporary files may be.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The same with the people and items that have at least `min_interactions`, as
    /// [`with_min_interactions`](crate::Dataset::with_min_interactions) has them, and then with the
    /// people who have `min_history`.
    pub(crate) fn core(
        self,
        config: &PrepareConfig,
        catalogue: Catalogue,
    ) -> Result<(Self, Catalogue), Error> {
        let written = self.written(catalogue.len(), false)?;
        let mut is_kept = vec![true; written.users.len()];
        let mut counts = vec![usize::MAX; catalogue.len()];
        loop {
            let mut next = vec![0; catalogue.len()];
            let mut has_changed = false;
            written.for_each(&mut |user, _, events| {
                let items = events.iter().map(|event| event.item as usize);
                let kept = items.filter(|&item| counts[item] >= config.min_interactions);
                if is_kept[user] && kept.clone().count() >= config.min_interactions {
                    kept.for_each(|item| next[item] += 1);
                } else {
                    has_changed |= is_kept[user];
                    is_kept[user] = false;
                }
                Ok(())
            })?;
            has_changed |= next.iter().any(|&n| n > 0 && n < config.min_interactions);
            counts = next;
            if !has_changed {
                break;
            }
        }
        let mut numbers = vec![None; catalogue.len()];
        let mut items = Vec::new();
        for (number, (item, count)) in numbers
            .iter_mut()
            .zip(catalogue.items.into_iter().zip(counts))
        {
            if count > 0 {
                *number = Some(items.len() as ItemIndex);
                items.push(item);
            }
        }
        let mut core = Self::new(&written.target)?;
        let mut kept = Vec::new();
        written.for_each(&mut |user, id, events| {
            if !is_kept[user] {
                return Ok(());
            }
            kept.clear();
            kept.extend(events.iter().filter_map(|&event| {
                let item = numbers[event.item as usize]?;
                Some(Event { item, ..event })
            }));
            match kept.len() < config.min_history {
                true => Ok(()),
                false => core.add(id, &kept),
            }
        })?;
        let catalogue = Catalogue::new(items, catalogue.genres)?;
        Ok((core, catalogue))
    }

    /// Part the histories, write what remains to be written, and give the store its name. Where
    /// reviews are kept, they are asked for when all events are there.
    pub(crate) fn finish(
        self,
        header: Header,
        config: &PrepareConfig,
        reviews: impl FnOnce(&Dataset) -> Result<ReviewTexts, Error>,
    ) -> Result<(), Error> {
        if self.users.is_empty() {
            let reason = "nobody is left in it (lower min_interactions or min_history)";
            return Err(no_store(&self.target, reason));
        }
        if self.users.len().max(header.catalogue.len()) > i32::MAX as usize {
            let reason = "more than 2,147,483,647 people or items cannot be numbered";
            return Err(no_store(&self.target, reason));
        }
        let written = self.written(header.catalogue.len(), header.time_is_rank)?;
        let path = written.folder.path().join(INNER);
        let mut files = BTreeMap::from([
            (EVENTS.file, written.columns.clone()),
            (ROWS, written.rows.clone()),
        ]);
        if config.reviews {
            let texts = reviews(&written.dataset(&header))?;
            files.insert(REVIEWS.file, write_reviews(&path, &texts)?);
            files.insert(TEXTS, write_text_numbers(&path, &texts)?);
        }
        let rule = Rule::new(&config.split, &written)?;
        let report = Report {
            repairs: header.repairs,
            leakage: Leakage::of(&written, rule)?,
        };
        files.insert(REPORT, write_json(&path.join(REPORT), &report)?);
        let mut drawn = config
            .candidates
            .clone()
            .map(|config| CandidatesWriter::new(&path, config, written.n_items));
        let mut bounds = Vec::with_capacity(written.users.len());
        written.for_each(&mut |user, id, events| {
            let of_user = rule.bounds(id, events);
            if let Some(drawn) = &mut drawn {
                let targets = of_user
                    .validation
                    .into_iter()
                    .chain(of_user.test.clone().next());
                targets
                    .into_iter()
                    .try_for_each(|target| drawn.add(user, id, target, events))?;
            }
            bounds.push(of_user);
            Ok(())
        })?;
        if let Some(drawn) = drawn {
            files.insert(CANDIDATES.file, drawn.finish()?);
        }
        files.insert(USERS.file, write_users(&path, &written.users, &bounds)?);
        files.insert(ITEMS.file, write_items(&path, &header.catalogue.items)?);
        if let Some(texts) = header.descriptions {
            files.insert(DESCRIPTIONS.file, write_descriptions(&path, &texts)?);
        }
        let names = StringArray::from_iter_values(&header.catalogue.genres);
        files.insert(GENRES.file, write_one(&path, &GENRES, Arc::new(names))?);
        let ratings = written.ratings.iter().map(|&bits| f32::from_bits(bits));
        let ratings = Float32Array::from_iter_values(ratings);
        files.insert(RATINGS.file, write_one(&path, &RATINGS, Arc::new(ratings))?);
        let named = files.into_iter().map(|(name, file)| (name.into(), file));
        let lock = Lock {
            version: VERSION,
            name: header.name,
            inputs: header.inputs,
            time_is_rank: header.time_is_rank,
            settings: Some(config.clone()),
            users: written.users.len(),
            items: header.catalogue.len(),
            events: written.n_events,
            files: named.collect(),
        };
        lock.write(&path)?;
        fs::rename(&path, &written.target).map_err(|source| Error::Write {
            path: written.target,
            source,
        })
    }

    /// The histories that were added, to be read again.
    fn written(mut self, n_items: usize, time_is_rank: bool) -> Result<Written, Error> {
        self.events.write(self.batch.columns())?;
        Ok(Written {
            target: self.target,
            columns: self.events.finish()?,
            rows: self.rows.finish()?,
            events: Mapped::of(&self.folder.path().join(INNER), ROWS)?,
            folder: self.folder,
            users: self.users,
            n_events: self.n_events,
            ratings: self.ratings,
            n_items,
            time_is_rank,
        })
    }
}

impl Batch {
    fn columns(self) -> Vec<ArrayRef> {
        let rating: Float32Array = match self.rating.contains(&NO_RATING) {
            false => self.rating.into(),
            true => self
                .rating
                .into_iter()
                .map(|r| (r != NO_RATING).then_some(r))
                .collect(),
        };
        vec![
            Arc::new(Int32Array::from(self.user)),
            Arc::new(Int32Array::from(self.item)),
            Arc::new(rating),
            Arc::new(Int64Array::from(self.timestamp)),
        ]
    }
}

/// Histories that are written, and are read again where they are.
struct Written {
    target: PathBuf,
    folder: TempDir,
    columns: LockedFile,
    rows: LockedFile,
    events: Mapped<Event>,
    users: Vec<User>,
    n_events: usize,
    ratings: BTreeSet<u32>,
    n_items: usize,
    time_is_rank: bool,
}

impl Written {
    /// All of it, as far as finding what was written at an event takes it.
    fn dataset(&self, header: &Header) -> Dataset {
        let history = |user: &User| {
            let rows = user.first..user.first + user.n_events;
            History {
                user: user.id.to_string(),
                events: Rows::Store(self.events.part(rows)).into(),
            }
        };
        Dataset {
            name: header.name.clone(),
            catalogue: header.catalogue.clone(),
            histories: self.users.iter().map(history).collect(),
            ratings: Vec::new(),
            sha256: String::new(),
            time_is_rank: header.time_is_rank,
            min_interactions: 0,
            min_history: 0,
            report: ReadReport::default(),
        }
    }
}

impl HistorySource for Written {
    fn n_items(&self) -> usize {
        self.n_items
    }

    fn time_is_rank(&self) -> bool {
        self.time_is_rank
    }

    fn for_each(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        let events = self.events.as_slice();
        let mut users = self.users.iter().enumerate();
        users.try_for_each(|(at, user)| {
            visit(
                at,
                &user.id,
                &events[user.first..user.first + user.n_events],
            )
        })
    }
}

fn write_users(folder: &Path, users: &[User], bounds: &[Bounds]) -> Result<LockedFile, Error> {
    let mut table = TableWriter::new(folder, &USERS);
    let number = |n: usize| n as i32;
    for (users, bounds) in users.chunks(N_ROWS).zip(bounds.chunks(N_ROWS)) {
        let test = |bounds: &Bounds| (!bounds.test.is_empty()).then_some(number(bounds.test.start));
        let n_events = users.iter().map(|user| number(user.n_events));
        let first = users.iter().map(|user| user.first as i64);
        let n_train = bounds.iter().map(|bounds| number(bounds.train));
        let validation = bounds.iter().map(|bounds| bounds.validation.map(number));
        table.write(vec![
            Arc::new(StringArray::from_iter_values(
                users.iter().map(|user| &user.id),
            )),
            Arc::new(Int64Array::from_iter_values(first)),
            Arc::new(Int32Array::from_iter_values(n_events)),
            Arc::new(Int32Array::from_iter_values(n_train)),
            Arc::new(Int32Array::from_iter(validation)),
            Arc::new(Int32Array::from_iter(bounds.iter().map(test))),
        ])?;
    }
    table.finish()
}

fn write_items(folder: &Path, items: &[Item]) -> Result<LockedFile, Error> {
    let mut table = TableWriter::new(folder, &ITEMS);
    for items in items.chunks(N_ROWS) {
        let mut genres = ListBuilder::new(Int32Builder::new());
        for item in items {
            genres.append_value(item.genres.iter().map(|&genre| Some(i32::from(genre))));
        }
        let years = items.iter().map(|item| item.year.map(i32::from));
        table.write(vec![
            Arc::new(StringArray::from_iter_values(
                items.iter().map(|item| &item.id),
            )),
            Arc::new(StringArray::from_iter_values(
                items.iter().map(|item| &item.title),
            )),
            Arc::new(Int32Array::from_iter(years)),
            Arc::new(genres.finish()),
        ])?;
    }
    table.finish()
}

/// Long texts of a batch, which is then far from what one may hold.
const N_TEXTS: usize = 1 << 10;

fn write_descriptions(folder: &Path, texts: &[String]) -> Result<LockedFile, Error> {
    let mut writer = TableWriter::new(folder, &DESCRIPTIONS);
    for texts in texts.chunks(N_TEXTS) {
        writer.write(vec![Arc::new(StringArray::from_iter_values(texts))])?;
    }
    writer.finish()
}

fn write_reviews(folder: &Path, texts: &ReviewTexts) -> Result<LockedFile, Error> {
    let mut writer = TableWriter::new(folder, &REVIEWS);
    // A table has a batch, if an empty one.
    for start in (0..texts.n_texts().max(1)).step_by(N_TEXTS) {
        let end = texts.n_texts().min(start + N_TEXTS);
        let numbers = start as TextIndex + 1..=end as TextIndex;
        let reviews = numbers.map(|number| texts.review(number));
        let reviews: Vec<Review> = reviews.collect::<Result<_, _>>()?;
        writer.write(vec![
            Arc::new(StringArray::from_iter_values(
                reviews.iter().map(|review| &review.text),
            )),
            Arc::new(StringArray::from_iter_values(
                reviews.iter().map(|review| &review.summary),
            )),
        ])?;
    }
    writer.finish()
}

/// Which text was written at each event, in the order of the events.
fn write_text_numbers(folder: &Path, texts: &ReviewTexts) -> Result<LockedFile, Error> {
    let path = folder.join(TEXTS);
    let write = || -> io::Result<LockedFile> {
        let mut file = Hashing::new(BufWriter::new(File::create(&path)?));
        for number in texts.numbers().iter().flat_map(|numbers| &**numbers) {
            file.write_all(&number.to_le_bytes())?;
        }
        file.flush()?;
        Ok(file.finish())
    };
    write().map_err(|source| Error::Write {
        path: path.clone(),
        source,
    })
}

fn write_one(folder: &Path, table: &Table, column: ArrayRef) -> Result<LockedFile, Error> {
    let mut writer = TableWriter::new(folder, table);
    writer.write(vec![column])?;
    writer.finish()
}

/// Draws candidates and writes them.
struct CandidatesWriter {
    table: TableWriter,
    config: CandidatesConfig,
    n_items: usize,
    users: Vec<i32>,
    targets: Vec<i32>,
    items: ListBuilder<Int32Builder>,
}

impl CandidatesWriter {
    /// Rows of a batch, of which each is a list.
    const N_ROWS: usize = 1 << 13;

    fn new(folder: &Path, config: CandidatesConfig, n_items: usize) -> Self {
        Self {
            table: TableWriter::new(folder, &CANDIDATES),
            config,
            n_items,
            users: Vec::new(),
            targets: Vec::new(),
            items: ListBuilder::new(Int32Builder::new()),
        }
    }

    fn add(&mut self, user: usize, id: &str, target: usize, events: &[Event]) -> Result<(), Error> {
        let drawn = self.config.draw(id, target, events, self.n_items);
        self.users.push(user as i32);
        self.targets.push(target as i32);
        self.items
            .append_value(drawn.into_iter().map(|item| Some(item as i32)));
        match self.users.len() {
            Self::N_ROWS => self.write_batch(),
            _ => Ok(()),
        }
    }

    fn write_batch(&mut self) -> Result<(), Error> {
        self.table.write(vec![
            Arc::new(Int32Array::from(mem::take(&mut self.users))),
            Arc::new(Int32Array::from(mem::take(&mut self.targets))),
            Arc::new(self.items.finish()),
        ])
    }

    fn finish(mut self) -> Result<LockedFile, Error> {
        self.write_batch()?;
        self.table.finish()
    }
}

/// Writes a file of the store.
struct TableWriter {
    path: PathBuf,
    table: Table,
    /// Begun with the first batch, which knows the types.
    writer: Option<FileWriter<Behind<Hashing<File>>>>,
}

impl TableWriter {
    fn new(folder: &Path, table: &Table) -> Self {
        Self {
            path: folder.join(table.file),
            table: *table,
            writer: None,
        }
    }

    fn write(&mut self, columns: Vec<ArrayRef>) -> Result<(), Error> {
        self.try_write(columns).map_err(|error| Error::Write {
            path: self.path.clone(),
            source: io_error(error),
        })
    }

    fn try_write(&mut self, columns: Vec<ArrayRef>) -> Result<(), ArrowError> {
        let named = self.table.columns.iter().zip(columns);
        let batch = RecordBatch::try_from_iter_with_nullable(
            named.map(|(column, values)| (column.name, values, column.may_lack)),
        )?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let file = Behind::new(Hashing::new(File::create(&self.path)?));
                let writer = FileWriter::try_new(file, &batch.schema())?;
                self.writer.insert(writer)
            }
        };
        writer.write(&batch)
    }

    fn finish(self) -> Result<LockedFile, Error> {
        let mut writer = self
            .writer
            .expect("every table has a batch, if an empty one");
        let file = writer.finish().and_then(|()| writer.into_inner());
        let hashing = file.and_then(|file| Ok(file.finish()?));
        let hashing = hashing.map_err(|error| Error::Write {
            path: self.path,
            source: io_error(error),
        })?;
        Ok(hashing.finish())
    }
}

fn io_error(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, source) => source,
        other => io::Error::other(other.to_string()),
    }
}
