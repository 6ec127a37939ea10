//! Arrow files, mapped into memory: what is not read is not loaded.

use std::fs::File;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::ArrowPrimitiveType;
use arrow_array::{Array, ListArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::root_as_footer;
use arrow_schema::ArrowError;
use memmap2::Mmap;

use super::{Table, no_store};
use crate::Error;

/// The batches of a table of the store.
pub(super) fn map(folder: &Path, table: &Table) -> Result<Vec<RecordBatch>, Error> {
    let path = &folder.join(table.file);
    let file = File::open(path).map_err(|source| Error::Read {
        path: path.to_path_buf(),
        source,
    })?;
    // Another program may have written the file, and the decoder panics on some that are damaged.
    let batches = panic::catch_unwind(AssertUnwindSafe(|| decode(&file)))
        .unwrap_or_else(|_| Err(broken("the decoder gave up")))
        .map_err(|source| Error::Damaged {
            file: path.to_path_buf(),
            source: source.into(),
        })?;
    let expected: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    for batch in &batches {
        let schema = batch.schema();
        let found: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        if found != expected {
            let (found, expected) = (found.join(", "), expected.join(", "));
            let reason = format!("it has the columns {found} and not {expected}");
            return Err(no_store(path, reason));
        }
    }
    Ok(batches)
}

fn decode(file: &File) -> Result<Vec<RecordBatch>, ArrowError> {
    /// `ARROW1` and padding at the start.
    const HEAD: usize = 8;
    /// The footer's length and `ARROW1` at the end.
    const TAIL: usize = 10;
    let buffer = as_buffer(map_file(file)?);
    let tail_start = buffer.len().checked_sub(TAIL);
    let tail_start = tail_start.filter(|&start| start >= HEAD);
    let tail_start = tail_start.ok_or_else(|| broken("the file is cut short"))?;
    let tail = buffer[tail_start..].try_into().expect("so long is a tail");
    let footer_start = tail_start.checked_sub(read_footer_length(tail)?);
    let footer_start = footer_start.ok_or_else(|| broken("the footer is longer than the file"))?;
    let footer = root_as_footer(&buffer[footer_start..tail_start])
        .map_err(|error| broken(&error.to_string()))?;
    let schema = footer.schema().ok_or_else(|| broken("no schema"))?;
    let schema = Arc::new(try_fb_to_schema(schema)?);
    let decoder = FileDecoder::new(schema, footer.version()).with_require_alignment(true);
    let mut batches = Vec::new();
    for block in footer.recordBatches().into_iter().flatten() {
        let length = i64::from(block.metaDataLength()).checked_add(block.bodyLength());
        let start = usize::try_from(block.offset()).ok();
        let (start, length) = start
            .zip(length.and_then(|length| usize::try_from(length).ok()))
            .filter(|(start, length)| {
                start
                    .checked_add(*length)
                    .is_some_and(|e| e <= footer_start)
            })
            .ok_or_else(|| broken("a batch lies outside of the file"))?;
        let body = buffer.slice_with_length(start, length);
        batches.extend(decoder.read_record_batch(block, &body)?);
    }
    Ok(batches)
}

#[expect(
    unsafe_code,
    reason = "a mapping is only sound while nobody writes to the file: a prepared store is written \
              once, under another name, and never changed, and its lock tells if somebody did"
)]
pub(super) fn map_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: as above.
    unsafe { Mmap::map(file) }
}

#[expect(unsafe_code, reason = "Arrow has no safe way to take a mapping")]
fn as_buffer(map: Mmap) -> Buffer {
    let (length, start) = (map.len(), NonNull::from(&map[..]).cast());
    // SAFETY: the mapping is as long as this, and lives on in the buffer.
    unsafe { Buffer::from_custom_allocation(start, length, Arc::new(map)) }
}

fn broken(reason: &str) -> ArrowError {
    ArrowError::IpcError(reason.to_string())
}

/// A column of numbers.
pub(super) fn numbers<T: ArrowPrimitiveType>(
    path: &Path,
    batch: &RecordBatch,
    name: &str,
) -> Result<PrimitiveArray<T>, Error> {
    let column = column(batch, name);
    let numbers = column.as_primitive_opt::<T>();
    let numbers = numbers.ok_or_else(|| wrong_type(path, name, column, &T::DATA_TYPE.to_string()));
    numbers.cloned()
}

/// A column of numbers without gaps.
pub(super) fn full<T: ArrowPrimitiveType>(
    path: &Path,
    batch: &RecordBatch,
    name: &str,
) -> Result<PrimitiveArray<T>, Error> {
    without_gaps(path, name, numbers(path, batch, name)?)
}

/// A column of texts without gaps.
pub(super) fn texts(path: &Path, batch: &RecordBatch, name: &str) -> Result<StringArray, Error> {
    let column = column(batch, name);
    let texts = column.as_string_opt::<i32>();
    let texts = texts.ok_or_else(|| wrong_type(path, name, column, "Utf8"))?;
    without_gaps(path, name, texts.clone())
}

/// A column of lists without gaps, and the numbers of all of them.
pub(super) fn lists<T: ArrowPrimitiveType>(
    path: &Path,
    batch: &RecordBatch,
    name: &str,
) -> Result<(ListArray, PrimitiveArray<T>), Error> {
    let column = column(batch, name);
    let lists = column.as_list_opt::<i32>();
    let values = lists.and_then(|lists| lists.values().as_primitive_opt::<T>());
    let expected = || wrong_type(path, name, column, &format!("List({})", T::DATA_TYPE));
    let (lists, values) = lists.zip(values).ok_or_else(expected)?;
    let values = without_gaps(path, name, values.clone())?;
    Ok((without_gaps(path, name, lists.clone())?, values))
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> &'b dyn Array {
    batch.column_by_name(name).expect("map() checked the names")
}

fn without_gaps<A: Array>(path: &Path, name: &str, array: A) -> Result<A, Error> {
    match array.null_count() {
        0 => Ok(array),
        n => Err(no_store(
            path,
            format!("column {name} has {n} gaps, and may have none"),
        )),
    }
}

fn wrong_type(path: &Path, name: &str, found: &dyn Array, expected: &str) -> Error {
    let found = found.data_type();
    no_store(
        path,
        format!("column {name} is {found} and not {expected}; cast it before writing"),
    )
}
