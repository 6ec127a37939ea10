//! What the pages of a Parquet file say about themselves.
//!
//! The decoder makes room for as much as a page claims to unpack to, and for as many values as a
//! dictionary claims to have, before it looks at either. So claims are checked first.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

/// Most bytes that a page may unpack to; the usual writers make pages of 1 MiB.
const MAX_PAGE: i64 = 64 << 20;

/// Check all pages of a file.
pub(super) fn check(file: &File, metadata: &ParquetMetaData) -> io::Result<()> {
    let mut reader = Counted {
        inner: BufReader::new(file),
        n_read: 0,
    };
    for group in metadata.row_groups() {
        for column in group.columns() {
            check_column(&mut reader, column)?;
        }
    }
    Ok(())
}

fn check_column(
    reader: &mut Counted<BufReader<&File>>,
    column: &ColumnChunkMetaData,
) -> io::Result<()> {
    let number = |number: i64| u64::try_from(number).map_err(|_| damaged("a negative offset"));
    let start = column.dictionary_page_offset();
    let start = number(start.unwrap_or(column.data_page_offset()))?;
    let length = number(column.compressed_size())?;
    let end = start
        .checked_add(length)
        .ok_or_else(|| damaged("a column beyond all files"))?;
    let mut at = start;
    while at < end {
        reader.inner.seek(SeekFrom::Start(at))?;
        reader.n_read = 0;
        let page = reader.page()?;
        if !(0..=MAX_PAGE).contains(&page.unpacked_bytes) {
            let claim = format!(
                "a page of {} bytes, and {MAX_PAGE} is most",
                page.unpacked_bytes
            );
            return Err(damaged(&claim));
        }
        // A value of a dictionary has 4 bytes at least, unless all are false or true.
        if page.dictionary_values > page.unpacked_bytes / 4 + 2 {
            return Err(damaged(
                "a dictionary of more values than its page has room for",
            ));
        }
        at += reader.n_read + number(page.packed_bytes)?;
    }
    Ok(())
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The fields of a page's header that are believed.
#[derive(Default)]
struct Page {
    unpacked_bytes: i64,
    packed_bytes: i64,
    dictionary_values: i64,
}

/// Reads [Thrift's compact protocol](https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
struct Counted<R> {
    inner: R,
    n_read: u64,
}

/// Structures inside one another; a page's header has three.
const MAX_DEPTH: usize = 8;

impl<R: Read> Counted<R> {
    fn page(&mut self) -> io::Result<Page> {
        let mut page = Page::default();
        self.fields(0, &mut |path, value| match path {
            [2] => page.unpacked_bytes = value,
            [3] => page.packed_bytes = value,
            [7, 1] => page.dictionary_values = value,
            _ => {}
        })?;
        Ok(page)
    }

    /// Call `found` with every number of a structure, and the numbers of the fields that lead to it.
    fn fields(&mut self, depth: usize, found: &mut dyn FnMut(&[i64], i64)) -> io::Result<()> {
        if depth == MAX_DEPTH {
            return Err(damaged("too many structures inside one another"));
        }
        let mut field = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            field = match head >> 4 {
                0 => self.number()?,
                step => field + i64::from(step),
            };
            self.value(head & 0xf, depth, &mut |path, value| {
                found(&[&[field], path].concat(), value);
            })?;
        }
    }

    fn value(
        &mut self,
        kind: u8,
        depth: usize,
        found: &mut dyn FnMut(&[i64], i64),
    ) -> io::Result<()> {
        match kind {
            // True and false are said by the kind.
            1 | 2 => {}
            3 => drop(self.byte()?),
            4..=6 => found(&[], self.number()?),
            7 => self.skip(8)?,
            8 => {
                let length = self.varint()?;
                self.skip(length)?;
            }
            12 => self.fields(depth + 1, found)?,
            _ => return Err(damaged("a list where a page's header has none")),
        }
        Ok(())
    }

    fn number(&mut self) -> io::Result<i64> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged("a number without an end"))
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.inner.read_exact(&mut byte)?;
        self.n_read += 1;
        Ok(byte[0])
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.inner.by_ref().take(length), &mut io::sink())?;
        self.n_read += skipped;
        match skipped == length {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
