//! Interaction data for User-LLM: what people did, in order, with the names of the things.
//!
//! A [`Dataset`] is a [`Catalogue`] of items and one [`History`] a person. Read one of the
//! [MovieLens](movielens) releases, [visit sequences](sequences), or the
//! [reviews] of Amazon and Google Local, from a folder or a zip;
//! your own [tables] are read by [`tables::load`]:
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # std::fs::write(folder.path().join("movies.dat"),
//! #     "1::Matrix, The (1999)::Action|Sci-Fi\n2::Heat (1995)::Crime\n3::Emma (1996)::Drama\n")?;
//! # std::fs::write(folder.path().join("ratings.dat"),
//! #     "7::2::3::978300020\n7::1::5::978300010\n7::3::4::978300030\n7::1::4::978300040\n")?;
//! # let path = folder.path();
//! let dataset = datasets::load(path)?;
//! println!("{}", dataset.stats());
//!
//! let first = &dataset.histories[0].events[0];
//! assert_eq!(dataset.catalogue.display_title(first.item), "The Matrix (1999)");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where there is no path yet, an [`AssetStore`](assets::AssetStore) finds or fetches it by name:
//!
//! ```no_run
//! use datasets::assets::{AssetStore, default_cache_dir, find};
//!
//! let store = AssetStore::new(default_cache_dir(|name| std::env::var_os(name)));
//! let path = store.fetch(find("movielens-100k")?, None)?;
//! let dataset = datasets::load(&path)?;
//! # Ok::<(), datasets::Error>(())
//! ```
//!
//! [`LeaveOneOut`] keeps every person's last event for the test and the second last for the
//! validation; [`windows`] turns the rest into training examples, "these events, then that one":
//!
//! ```
//! # use datasets::{Catalogue, Dataset, Event, History, Item};
//! # let item = Item { id: "1".into(), title: "Heat".into(), year: None, genres: vec![] };
//! # let catalogue = Catalogue::new(vec![item], vec![])?;
//! # let events = (0..7).map(|timestamp| Event { item: 0, rating: 4.0, timestamp }).collect();
//! # let histories = vec![History { user: "7".into(), events }];
//! # let dataset = Dataset::from_histories("tiny", catalogue, histories)?;
//! use datasets::LeaveOneOut;
//!
//! let split = LeaveOneOut::new(&dataset);
//! for window in split.windows(3, 1) {
//!     let events = split.train(window.user);
//!     let (history, target) = (&events[window.start..window.end], &events[window.end]);
//!     assert_eq!((history.len(), target.timestamp), (3, window.end as i64));
//! }
//! # Ok::<(), datasets::Error>(())
//! ```
//!
//! A [`Vocabulary`] numbers the values of one modality for an embedding
//! table, with 0 for padding and 1 for the unknown.
//!
//! What the crate leaves to others: it never sees a tensor, and it does not read the environment.
//! (Its HTTP client does, for a proxy, and so do pip and the system's folder for temporary files.)
//! What people did is personal data: no log, no debug text and no error shows whose event is which.

mod event;

mod catalogue;
mod descriptions;
pub mod titles;

mod core;
mod dataset;
mod stats;

mod interactions;
mod items;
mod records;

mod load;
pub mod movielens;
mod read;
mod report;
pub mod reviews;
pub mod sequences;
mod source;
pub mod tables;

mod split;
mod splits;
#[cfg(feature = "store")]
pub mod store;
pub mod vocabulary;

pub mod assets;
pub mod generator;

mod error;
mod hash;

pub use catalogue::{Catalogue, GenreIndex, Item};
pub use dataset::Dataset;
pub use error::{Error, Found};
pub use event::{Event, EventSlice, Events, History, ItemIndex, NO_RATING, NO_TEXT, TextIndex};
pub use interactions::{UNKNOWN_ITEM, read_interactions};
pub use items::{items_to_json_lines, read_items};
pub use load::{load, load_with};
pub use report::{Finding, ReadOptions, ReadReport, Repeats};
pub use source::Source;
pub use split::{LeaveOneOut, Window, windows};
pub use splits::{Bounds, Cut, Leakage, Split, SplitConfig, SplitRule};
pub use stats::DatasetStats;
pub use vocabulary::Vocabulary;
