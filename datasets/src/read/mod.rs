//! What the readers of all layouts share: finding and unpacking files, cells, tables to fill.

pub(crate) mod cell;
pub(crate) mod csv;
pub(crate) mod files;
pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod markup;
mod pages;
pub(crate) mod parquet;
pub(crate) mod tables;
