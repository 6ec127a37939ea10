//! Training windows in an order that is drawn anew for each pass over them.

use datasets::{Split, Window, windows};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::train::mix;

/// Training windows in an order that is drawn anew for each pass over them.
///
/// Of sliding windows, of which there may be one an event, it holds four bytes each.
pub(crate) struct Windows {
    cut: Cut,
    seed: u64,
    /// Number of windows before each pass, as far as they have been asked for.
    starts: Vec<usize>,
    pass: Option<usize>,
    /// The windows of `pass` where they are cut anew.
    drawn: Vec<Window>,
    /// The numbers of the windows of `pass`, in their order.
    order: Vec<u32>,
}

/// How histories become windows.
enum Cut {
    /// The same windows in every pass.
    Given(Vec<Window>),
    /// The same windows in every pass: [`windows`] over histories of so many events, by user, with
    /// the number of windows of those before.
    Sliding {
        n_events: Vec<usize>,
        before: Vec<usize>,
        length: usize,
        stride: usize,
    },
    /// Every event once a pass: histories of so many events, by user, cut at drawn places.
    Drawn { n_events: Vec<usize>, length: usize },
}

impl Windows {
    /// These windows in every pass.
    pub(crate) fn given(windows: Vec<Window>, seed: u64) -> Self {
        Self::new(Cut::Given(windows), seed)
    }

    /// As [`Split::windows`].
    pub(crate) fn sliding(split: &Split<'_>, length: usize, stride: usize, seed: u64) -> Self {
        let n_events = n_events(split);
        let mut before = Vec::with_capacity(n_events.len() + 1);
        before.push(0);
        for &n in &n_events {
            before.push(before[before.len() - 1] + windows(n, length, stride).count());
        }
        let cut = Cut::Sliding {
            n_events,
            before,
            length,
            stride,
        };
        Self::new(cut, seed)
    }

    /// Windows of `length` inputs and a target, cut anew for each pass.
    pub(crate) fn drawn(split: &Split<'_>, length: usize, seed: u64) -> Self {
        let n_events = n_events(split);
        Self::new(Cut::Drawn { n_events, length }, seed)
    }

    fn new(cut: Cut, seed: u64) -> Self {
        Self {
            cut,
            seed,
            starts: vec![0],
            pass: None,
            drawn: Vec::new(),
            order: Vec::new(),
        }
    }

    /// The windows of one step; the same for the same step, whatever was asked before.
    ///
    /// # Panics
    ///
    /// Panics if there are no windows.
    pub(crate) fn batch(&mut self, step: usize, batch_size: usize) -> Vec<Window> {
        let window = |at: usize| {
            while self.starts.last().is_some_and(|&start| start <= at) {
                self.draw(self.starts.len() - 1);
                let n = self.order.len();
                assert!(n > 0, "no history is long enough to train on");
                self.starts.push(self.starts[self.starts.len() - 1] + n);
            }
            let pass = self.starts.partition_point(|&start| start <= at) - 1;
            self.draw(pass);
            self.window(self.order[at - self.starts[pass]] as usize)
        };
        (step * batch_size..(step + 1) * batch_size)
            .map(window)
            .collect()
    }

    fn draw(&mut self, pass: usize) {
        if self.pass == Some(pass) {
            return;
        }
        let mut random = StdRng::seed_from_u64(mix(self.seed, pass as u64));
        let n = match &self.cut {
            Cut::Given(windows) => windows.len(),
            Cut::Sliding { before, .. } => before[before.len() - 1],
            Cut::Drawn { n_events, length } => {
                self.drawn = drawn_windows(n_events, *length, &mut random);
                self.drawn.len()
            }
        };
        let n = u32::try_from(n).expect("fewer than 4,294,967,296 windows; make the stride longer");
        self.order.clear();
        self.order.extend(0..n);
        self.order.shuffle(&mut random);
        self.pass = Some(pass);
    }

    /// The window of this number in the pass that was drawn last.
    fn window(&self, number: usize) -> Window {
        match &self.cut {
            Cut::Given(windows) => windows[number],
            Cut::Drawn { .. } => self.drawn[number],
            Cut::Sliding {
                n_events,
                before,
                length,
                stride,
            } => {
                let user = before.partition_point(|&n| n <= number) - 1;
                let mut of_user = windows(n_events[user], *length, *stride);
                let range = of_user.nth(number - before[user]);
                let range = range.expect("so many were counted");
                Window {
                    user,
                    start: range.start,
                    end: range.end,
                }
            }
        }
    }
}

/// Events of each history that may be trained on.
fn n_events(split: &Split<'_>) -> Vec<usize> {
    let users = 0..split.n_histories();
    users.map(|user| split.train(user).len()).collect()
}

/// Windows of up to `length + 1` events that do not overlap: the first of each history ends at a
/// drawn place. One event alone is kept: it is predicted from BOS.
fn drawn_windows(n_events: &[usize], length: usize, random: &mut StdRng) -> Vec<Window> {
    let whole = length + 1;
    let mut windows = Vec::new();
    for (user, &n) in n_events.iter().enumerate() {
        let mut start = 0;
        // A history that fits is not cut.
        let mut end = if n <= whole {
            n
        } else {
            random.random_range(1..=whole)
        };
        while start < n {
            windows.push(Window {
                user,
                start,
                end: end - 1,
            });
            start = end;
            end = n.min(end + whole);
        }
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    fn windows(n: usize) -> Windows {
        Windows::given(
            (0..n)
                .map(|user| Window {
                    user,
                    start: 0,
                    end: 1,
                })
                .collect(),
            7,
        )
    }

    #[test]
    fn a_batch_is_a_function_of_its_step_alone() {
        let mut in_order = windows(11);
        let sequential: Vec<Vec<Window>> = (0..20).map(|step| in_order.batch(step, 4)).collect();
        let mut at_random = windows(11);
        for step in [19, 3, 0, 7, 7, 18, 2, 5] {
            assert_eq!(at_random.batch(step, 4), sequential[step]);
        }
        assert_eq!(windows(11).batch(13, 4), sequential[13]);
    }

    #[test]
    fn every_pass_has_every_window_once_in_an_order_of_its_own() {
        let mut windows = windows(11);
        let users: Vec<usize> = (0..22)
            .flat_map(|step| windows.batch(step, 2))
            .map(|window| window.user)
            .collect();
        let passes: Vec<&[usize]> = users.chunks(11).collect();
        for pass in &passes {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..11).collect::<Vec<_>>());
        }
        assert_ne!(passes[0], passes[1]);
        assert_ne!(passes[0], (0..11).collect::<Vec<_>>());
    }

    #[test]
    fn drawn_windows_predict_every_event_once_a_pass_and_are_cut_anew() {
        let n_events = [0, 1, 6, 7, 40];
        let mut random = StdRng::seed_from_u64(1);
        let mut passes = Vec::new();
        for _ in 0..3 {
            let windows = drawn_windows(&n_events, 5, &mut random);
            for (user, &n) in n_events.iter().enumerate() {
                let of_user = windows.iter().filter(|window| window.user == user);
                let events: Vec<usize> = of_user.flat_map(|w| w.start..=w.end).collect();
                assert_eq!(events, (0..n).collect::<Vec<_>>());
            }
            assert!(windows.iter().all(|window| window.end - window.start <= 5));
            passes.push(windows);
        }
        assert_ne!(passes[0], passes[1]);
    }

    #[test]
    fn sliding_windows_come_as_if_they_had_been_listed() {
        let prepared = toy::prepared(&toy::config(&[]));
        let split = prepared.split();
        for (length, stride) in [(3, 1), (2, 3), (50, 1), (4, 100)] {
            let mut listed = Windows::given(split.windows(length, stride).collect(), 7);
            let mut sliding = Windows::sliding(&split, length, stride, 7);
            for step in [0, 1, 9, 40, 3] {
                assert_eq!(sliding.batch(step, 5), listed.batch(step, 5));
            }
        }
    }

    #[test]
    #[should_panic(expected = "no history is long enough to train on")]
    fn nothing_to_train_on_is_refused() {
        windows(0).batch(0, 1);
    }
}
