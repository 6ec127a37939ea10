//! Results go to standard output, everything else to standard error.

use std::io::{ErrorKind, Write};

/// Print a result, with a line end.
///
/// Ends the program quietly where nobody reads any more, as in `user-llm config | head`.
pub(crate) fn print(text: &str) {
    write(&format!("{}\n", text.trim_end_matches('\n')));
}

/// Print a piece of a result at once.
pub(crate) fn write(text: &str) {
    // Whatever fails has ended the program.
    let _ = Results.write_all(text.as_bytes());
}

/// Standard output as a writer; each piece is shown at once.
pub(crate) struct Results;

impl Write for Results {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut stdout = std::io::stdout();
        let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
        if let Err(error) = written {
            if error.kind() != ErrorKind::BrokenPipe {
                note(&format!("error: cannot write the result: {error}"));
                std::process::exit(1);
            }
            std::process::exit(0);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Tell something that is no result. Where nobody listens, nothing is lost.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Columns of text, each as wide as its widest cell, two spaces between.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let n = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..n).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let pad = |(cell, width): (&String, &usize)| {
            format!("{cell}{}", " ".repeat(width - cell.chars().count()))
        };
        let cells: Vec<String> = row.iter().zip(&widths).map(pad).collect();
        cells.join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}
