use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Bytes that are handed to the thread at once.
const CHUNK: usize = 1 << 20;

/// Chunks that may wait for the thread before it is waited for.
const MAX_WAITING: usize = 4;

/// Writes on a thread of its own, so that hashing and copying into the page cache do not wait for
/// what is computed, nor that for them.
pub(super) struct Behind<W> {
    chunk: Vec<u8>,
    /// Gone when it has ended, which it does before the end only with an error.
    thread: Option<Thread<W>>,
}

struct Thread<W> {
    sender: SyncSender<Vec<u8>>,
    handle: JoinHandle<io::Result<W>>,
}

impl<W: Write + Send + 'static> Behind<W> {
    pub(super) fn new(mut inner: W) -> Self {
        let (sender, receiver) = sync_channel::<Vec<u8>>(MAX_WAITING);
        let handle = thread::spawn(move || {
            for chunk in receiver {
                inner.write_all(&chunk)?;
            }
            inner.flush()?;
            Ok(inner)
        });
        Self {
            chunk: Vec::with_capacity(CHUNK),
            thread: Some(Thread { sender, handle }),
        }
    }

    /// Wait until all is written.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.send()?;
        self.join()
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        match &self.thread {
            Some(thread) if thread.sender.send(chunk).is_ok() => Ok(()),
            _ => self.join().map(drop),
        }
    }

    fn join(&mut self) -> io::Result<W> {
        let gone = || io::Error::other("the writing ended with an error before");
        let Thread { sender, handle } = self.thread.take().ok_or_else(gone)?;
        drop(sender);
        handle.join().expect("writing does not panic")
    }
}

impl<W: Write + Send + 'static> Write for Behind<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order() {
        let mut behind = Behind::new(Vec::new());
        let bytes: Vec<u8> = (0..3 * CHUNK + 7).map(|at| (at % 251) as u8).collect();
        for piece in bytes.chunks(4099) {
            behind.write_all(piece).unwrap();
        }
        assert!(behind.finish().unwrap() == bytes);
    }

    #[test]
    fn an_error_while_writing_is_told_at_once_or_at_the_end() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut behind = Behind::new(Full);
        behind.write_all(b"1").unwrap();
        let error = behind.finish().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);

        let mut behind = Behind::new(Full);
        let chunk = vec![0; CHUNK];
        let error = (0..2 * MAX_WAITING).find_map(|_| behind.write_all(&chunk).err());
        assert_eq!(error.unwrap().kind(), io::ErrorKind::StorageFull);
    }
}
