use std::fmt;
use std::ops::Range;

use crate::{Dataset, Event};

/// Fewest events that can be split: one to test, one to validate, one to predict them from.
pub(crate) const MIN_EVENTS: usize = 3;

/// Leave-one-out: of every history the last event is the test target, the second last the
/// validation target, and the rest is for training.
///
/// A history of fewer than three events cannot be split. Nothing of it is validated or tested,
/// all of it may be trained on, and it is counted in [`skipped_users`](Self::skipped_users).
///
/// The paper holds out the last event and describes no validation; the second last is the usual
/// choice in the field, and it comes out of the training part.
///
/// # Example
///
/// ```
/// use datasets::{Catalogue, Dataset, Event, History, Item, LeaveOneOut};
///
/// let item = Item { id: "1".into(), title: "Heat".into(), year: None, genres: vec![] };
/// let catalogue = Catalogue::new(vec![item], vec![])?;
/// let events = (0..5).map(|timestamp| Event { item: 0, rating: 4.0, timestamp }).collect();
/// let histories = vec![History { user: "ada".into(), events }];
/// let dataset = Dataset::from_histories("tiny", catalogue, histories)?;
///
/// let split = LeaveOneOut::new(&dataset);
/// assert_eq!(split.train(0).len(), 3);
/// let (history, target) = split.test(0).expect("five events are enough");
/// assert_eq!((history.len(), target.timestamp), (4, 4));
/// # Ok::<(), datasets::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LeaveOneOut<'a> {
    dataset: &'a Dataset,
}

impl<'a> LeaveOneOut<'a> {
    /// Split the histories. Nothing is copied.
    pub fn new(dataset: &'a Dataset) -> Self {
        Self { dataset }
    }

    /// The events of a history that may be trained on: all but the last two, or all of them
    /// where the history is too short to be split.
    ///
    /// # Panics
    ///
    /// Here and below: panics if `user` is not a position in
    /// [`Dataset::histories`](crate::Dataset::histories).
    pub fn train(&self, user: usize) -> &'a [Event] {
        let events = self.events(user);
        if events.len() < MIN_EVENTS {
            events
        } else {
            &events[..events.len() - 2]
        }
    }

    /// What came before the second last event, and that event.
    pub fn validation(&self, user: usize) -> Option<(&'a [Event], &'a Event)> {
        let (_, before_test) = self.test_parts(user)?;
        let (target, history) = before_test.split_last()?;
        Some((history, target))
    }

    /// What came before the last event, the validation event included, and the last event.
    pub fn test(&self, user: usize) -> Option<(&'a [Event], &'a Event)> {
        let (target, history) = self.test_parts(user)?;
        Some((history, target))
    }

    /// Positions of the histories that have a test target (and so a validation target too).
    pub fn users(&self) -> impl Iterator<Item = usize> + use<'a> {
        let histories = &self.dataset.histories;
        (0..histories.len()).filter(|&user| histories[user].events.len() >= MIN_EVENTS)
    }

    /// Number of histories, those that are too short to be split included.
    pub fn n_histories(&self) -> usize {
        self.dataset.histories.len()
    }

    /// Number of histories that are too short to be split.
    pub fn skipped_users(&self) -> usize {
        self.n_histories() - self.users().count()
    }

    /// The training examples of everybody: [`windows`] over each [`train`](Self::train) part.
    pub fn windows(&self, length: usize, stride: usize) -> impl Iterator<Item = Window> + use<'a> {
        let split = *self;
        (0..self.dataset.histories.len()).flat_map(move |user| {
            windows(split.train(user).len(), length, stride)
                .map(move |Range { start, end }| Window { user, start, end })
        })
    }

    fn events(&self, user: usize) -> &'a [Event] {
        &self.dataset.histories[user].events
    }

    fn test_parts(&self, user: usize) -> Option<(&'a Event, &'a [Event])> {
        let events = self.events(user);
        if events.len() < MIN_EVENTS {
            None
        } else {
            events.split_last()
        }
    }
}

impl fmt::Display for LeaveOneOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_histories = self.dataset.histories.len();
        write!(
            f,
            "leave-one-out over {n_histories} histories, {} of them with fewer than {MIN_EVENTS} \
             events and therefore neither validated nor tested",
            self.skipped_users()
        )
    }
}

/// One training example: `events[start..end]` of a history are the input, `events[end]` is the
/// target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Position of the history in [`Dataset::histories`](crate::Dataset::histories).
    pub user: usize,
    /// First input event.
    pub start: usize,
    /// The target, one past the last input event.
    pub end: usize,
}

/// Slide a window over `n_events` events in time order: each range is the input of one example,
/// and the event at its end is the target.
///
/// As in the paper, the window holds `length` input events and moves by `stride`. The window
/// whose target is the newest event is always there, even where the stride would step over it.
/// A history that has no more than `length` events before its newest gives one window, shorter if
/// need be; fewer than two events give none.
///
/// With `stride` 1 a history of more than `length` events gives `n_events - length` windows,
/// which is how the paper's Table 1 counts (windows of 50 over the histories of at least 51
/// events).
///
/// # Panics
///
/// Panics if `length` or `stride` is 0.
///
/// # Example
///
/// ```
/// use datasets::windows;
///
/// assert_eq!(windows(8, 3, 2).collect::<Vec<_>>(), [0..3, 2..5, 4..7]);
/// assert_eq!(windows(9, 3, 2).collect::<Vec<_>>(), [0..3, 2..5, 4..7, 5..8]);
/// assert_eq!(windows(3, 50, 1).collect::<Vec<_>>(), [0..2]);
/// ```
pub fn windows(
    n_events: usize,
    length: usize,
    stride: usize,
) -> impl Iterator<Item = Range<usize>> {
    assert!(length > 0, "a window needs at least one input event");
    assert!(stride > 0, "a window that does not move never arrives");
    let newest = n_events.saturating_sub(1);
    let last_start = newest.saturating_sub(length);
    let strided = (0..last_start).step_by(stride);
    let last = (newest > 0).then_some(last_start);
    strided
        .chain(last)
        .map(move |start| start..newest.min(start + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalogue, History, Item};

    /// Histories of these many events; an event's timestamp is its position.
    fn dataset(lengths: &[usize]) -> Dataset {
        let item = Item {
            id: "1".into(),
            title: "Heat".into(),
            year: None,
            genres: vec![],
        };
        let history = |&length: &usize| History {
            user: String::new(),
            events: (0..length as i64)
                .map(|timestamp| Event {
                    item: 0,
                    rating: 3.0,
                    timestamp,
                })
                .collect(),
        };
        let catalogue = Catalogue::new(vec![item], vec![]).unwrap();
        Dataset::from_histories("t", catalogue, lengths.iter().map(history).collect()).unwrap()
    }

    #[test]
    fn the_last_event_is_the_test_and_the_second_last_the_validation() {
        let dataset = dataset(&[5]);
        let split = LeaveOneOut::new(&dataset);
        assert_eq!(split.train(0).len(), 3);
        let (history, target) = split.validation(0).unwrap();
        assert_eq!((history.len(), target.timestamp), (3, 3));
        let (history, target) = split.test(0).unwrap();
        assert_eq!((history.len(), target.timestamp), (4, 4));
    }

    #[test]
    fn histories_of_fewer_than_three_events_are_trained_on_counted_and_left_out_of_the_rest() {
        let dataset = dataset(&[0, 1, 2, 3]);
        let split = LeaveOneOut::new(&dataset);
        assert_eq!(split.skipped_users(), 3);
        assert_eq!(split.users().collect::<Vec<_>>(), [3]);
        for user in 0..3 {
            assert!(split.validation(user).is_none() && split.test(user).is_none());
            assert_eq!(split.train(user).len(), user);
        }
        assert_eq!(split.train(3).len(), 1);
        let of_two_events = Window {
            user: 2,
            start: 0,
            end: 1,
        };
        assert_eq!(split.windows(50, 1).collect::<Vec<_>>(), [of_two_events]);
        assert!(
            split
                .to_string()
                .contains("3 of them with fewer than 3 events"),
            "{split}"
        );
    }

    #[test]
    fn no_training_window_ever_touches_a_validation_or_test_event() {
        let lengths: Vec<usize> = (0..40).collect();
        let dataset = dataset(&lengths);
        let split = LeaveOneOut::new(&dataset);
        for length in [1, 2, 7, 50] {
            for stride in [1, 3, 100] {
                for window in split.windows(length, stride) {
                    let newest_seen = dataset.histories[window.user].events[window.end].timestamp;
                    if let Some((_, target)) = split.validation(window.user) {
                        assert!(newest_seen < target.timestamp, "{window:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn at_stride_one_every_event_after_the_first_window_is_a_target_once() {
        for n_events in 4..60 {
            let targets: Vec<_> = windows(n_events, 3, 1).map(|window| window.end).collect();
            assert_eq!(targets, (3..n_events).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_newest_event_is_always_a_target_and_no_window_comes_twice() {
        for n_events in 2..40 {
            for length in 1..45 {
                for stride in 1..12 {
                    let all: Vec<_> = windows(n_events, length, stride).collect();
                    assert_eq!(all.last().unwrap().end, n_events - 1);
                    assert!(all.windows(2).all(|pair| pair[0].start < pair[1].start));
                    assert!(
                        all.iter()
                            .all(|window| window.len() == length.min(n_events - 1))
                    );
                }
            }
        }
    }

    #[test]
    fn fewer_than_two_events_give_no_window() {
        assert_eq!(windows(0, 3, 1).count() + windows(1, 3, 1).count(), 0);
    }

    #[test]
    #[should_panic(expected = "a window that does not move never arrives")]
    fn a_stride_of_zero_is_refused() {
        let _ = windows(9, 3, 0);
    }
}
