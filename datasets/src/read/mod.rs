//! What the readers of all layouts share: finding and unpacking files, cells, tables to fill.

pub(crate) mod cell;
pub(crate) mod files;
pub(crate) mod tables;
