//! Parts of a work side by side, each on a thread of its own.

use std::sync::Mutex;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Threads that parts of a work are done on.
///
/// burn's CPU backend runs all but its matrix products on one thread, so that two halves of a batch
/// on a thread each are done much sooner than the whole on two.
pub(crate) struct Workers {
    /// Of one thread each: what the backend would do on several is done on it.
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// So many threads. 1 is none: the parts are done one after the other, and the backend has the
    /// threads to itself.
    pub(crate) fn new(n: usize) -> Self {
        let one_thread = |_| {
            let pool = ThreadPoolBuilder::new().num_threads(1).build();
            pool.expect("a thread can be started")
        };
        let n = if n > 1 { n } else { 0 };
        Self {
            pools: (0..n).map(one_thread).collect(),
        }
    }

    /// What the work makes of each part, in the order of the parts; whoever is free takes the next.
    pub(crate) fn map<T: Send, R: Send>(
        &self,
        parts: Vec<T>,
        work: impl Fn(T) -> R + Sync,
    ) -> Vec<R> {
        if self.pools.is_empty() {
            return parts.into_iter().map(work).collect();
        }
        let waiting = Mutex::new(parts.into_iter().enumerate());
        let next = || waiting.lock().expect("taking a part does not panic").next();
        let run = |pool: &ThreadPool| {
            let done = std::iter::from_fn(|| {
                let (at, part) = next()?;
                Some((at, pool.install(|| work(part))))
            });
            done.collect::<Vec<_>>()
        };
        let mut done = std::thread::scope(|scope| {
            let pools = self.pools.iter();
            let started: Vec<_> = pools.map(|pool| scope.spawn(|| run(pool))).collect();
            let mut done = Vec::new();
            for thread in started {
                match thread.join() {
                    Ok(parts) => done.extend(parts),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            done
        });
        done.sort_unstable_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, made)| made).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_in_their_order_however_many_work() {
        let squares: Vec<usize> = (0..50).map(|n| n * n).collect();
        for n in [1, 2, 3] {
            assert_eq!(Workers::new(n).map((0..50).collect(), |n| n * n), squares);
        }
    }

    #[test]
    fn several_work_at_once() {
        let both = std::sync::Barrier::new(2);
        // Waits for ever unless there are two.
        Workers::new(2).map(vec![(), ()], |()| both.wait());
    }

    #[test]
    #[should_panic(expected = "a part that fails")]
    fn a_panic_is_handed_on() {
        Workers::new(2).map(vec![1, 2], |n| assert!(n != 2, "a part that fails"));
    }
}
