//! Interaction data: MovieLens readers, catalogues, histories, vocabularies, splits and assets.

pub mod assets;
mod catalogue;
mod dataset;
mod error;
mod event;
mod hash;
pub mod movielens;
mod split;
mod stats;
pub mod titles;
pub mod vocabulary;

pub use catalogue::{Catalogue, GenreIndex, Item};
pub use dataset::Dataset;
pub use error::Error;
pub use event::{Event, History, ItemIndex};
pub use split::{LeaveOneOut, Window, windows};
pub use stats::DatasetStats;
