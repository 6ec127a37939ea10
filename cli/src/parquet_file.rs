//! What all Parquet files that we write have in common.

use std::io::Write;

use parquet::basic::Compression;
use parquet::data_type::DataType;
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedRowGroupWriter;

pub(crate) fn properties() -> WriterProperties {
    let version = format!("user-llm {}", env!("CARGO_PKG_VERSION"));
    WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(version)
        .build()
}

/// Write the next column of a row group; lists have their definition and repetition levels.
pub(crate) fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    values: &[T::T],
    levels: Option<(&[i16], &[i16])>,
) -> Result<()> {
    let mut column = group.next_column()?.expect("the schema has this column");
    let (definition, repetition) = levels.unzip();
    column
        .typed::<T>()
        .write_batch(values, definition, repetition)?;
    column.close()
}
