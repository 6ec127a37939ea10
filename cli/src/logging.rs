//! What the libraries tell, on standard error.

use std::io::{self, Write};
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;
use trainer::Dashboard;

/// Lines that wait until the dashboard gives the screen back.
static HELD: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Begin to log: warnings, with `-v` what is done, with `-vv` the details.
pub(crate) fn start(verbose: u8) {
    let filter = match verbose {
        0 => "warn",
        1 => "warn,cli=info,user_llm=info,trainer=info,datasets=info,llm=info",
        2 => "info,cli=debug,user_llm=debug,trainer=debug,datasets=debug,llm=debug",
        _ => "debug",
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_span_events(FmtSpan::NONE)
        .with_target(verbose > 1)
        .without_time()
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_writer(|| Log)
        .init();
}

/// Print what was held back.
pub(crate) fn flush() {
    if let Ok(mut held) = HELD.lock() {
        let _ = io::stderr().write_all(&held);
        held.clear();
    }
}

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if Dashboard::is_up() {
            if let Ok(mut held) = HELD.lock() {
                held.extend_from_slice(bytes);
            }
            return Ok(bytes.len());
        }
        flush();
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
