use std::fmt;
use std::ops::{Deref, Range};

#[cfg(feature = "store")]
use crate::store::MappedEvents;

/// Position of an item in [`Catalogue::items`](crate::Catalogue::items), counted from 0.
pub type ItemIndex = u32;

/// Stands for a rating that nobody gave: no rating is 0, so models read it as unknown.
pub const NO_RATING: f32 = 0.0;

/// One record of a history: a person rated an item at a moment.
///
/// What a person watched is personal data, so `Debug` shows none of it.
#[derive(Clone, Copy, PartialEq)]
// A prepared store has events as they are in memory.
#[repr(C)]
pub struct Event {
    /// The item, as its position in the catalogue.
    pub item: ItemIndex,
    /// The rating, from 0.5 to 5, or [`NO_RATING`].
    pub rating: f32,
    /// Seconds since 1970 UTC; or the rank within the history, where
    /// [`Dataset::time_is_rank`](crate::Dataset::time_is_rank) says so.
    pub timestamp: i64,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").finish_non_exhaustive()
    }
}

/// A person's events, oldest first: a slice of them, in memory or where they are in a prepared store.
///
/// Those of a store are read from the disk when they are looked at, and given up again when memory
/// runs short, so that all histories together may be larger than it.
///
/// # Example
///
/// ```
/// use datasets::{Event, Events};
///
/// let mut events: Events = (0..3).map(|item| Event { item, rating: 4.0, timestamp: 9 }).collect();
/// events.to_mut().pop();
/// assert_eq!(events[1..].len(), 1);
/// ```
#[derive(Clone)]
pub struct Events(Place);

#[derive(Clone)]
enum Place {
    Memory(Vec<Event>),
    #[cfg(feature = "store")]
    Store(MappedEvents),
}

impl Events {
    /// All of them, to be changed: in memory from now on.
    pub fn to_mut(&mut self) -> &mut Vec<Event> {
        #[cfg(feature = "store")]
        if let Place::Store(mapped) = &self.0 {
            self.0 = Place::Memory(mapped.as_slice().to_vec());
        }
        match &mut self.0 {
            Place::Memory(events) => events,
            #[cfg(feature = "store")]
            Place::Store(_) => unreachable!("they were copied"),
        }
    }
}

impl Events {
    /// Have some of them read from the disk while other things are done. Nothing waits for it, and
    /// for those in memory nothing happens.
    ///
    /// # Panics
    ///
    /// Panics if the range goes beyond them.
    pub fn read_ahead(&self, events: Range<usize>) {
        match &self.0 {
            Place::Memory(all) => assert!(events.end <= all.len(), "a range beyond the events"),
            #[cfg(feature = "store")]
            Place::Store(mapped) => mapped.part(events).read_ahead(),
        }
    }
}

impl Deref for Events {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        match &self.0 {
            Place::Memory(events) => events,
            #[cfg(feature = "store")]
            Place::Store(mapped) => mapped.as_slice(),
        }
    }
}

impl PartialEq for Events {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl From<Vec<Event>> for Events {
    fn from(events: Vec<Event>) -> Self {
        Self(Place::Memory(events))
    }
}

#[cfg(feature = "store")]
impl From<MappedEvents> for Events {
    fn from(events: MappedEvents) -> Self {
        Self(Place::Store(events))
    }
}

impl FromIterator<Event> for Events {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Self {
        Vec::from_iter(events).into()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events", self.len())
    }
}

/// A person's ordered past: events in time order, those of the same second in file order.
///
/// `Debug` shows how many events there are, never whose or which.
///
/// # Example
///
/// ```
/// use datasets::{Event, History};
///
/// let history = History {
///     user: "ada".to_string(),
///     events: vec![Event { item: 7, rating: 4.5, timestamp: 978_300_760 }].into(),
/// };
/// assert_eq!(format!("{history:?}"), "History { events: 1, .. }");
/// ```
#[derive(Clone, PartialEq)]
pub struct History {
    /// The person's id as the data file spells it.
    pub user: String,
    /// What the person did, oldest first.
    pub events: Events,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("events", &self.events.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_history_shows_neither_the_person_nor_the_events() {
        let event = Event {
            item: 31337,
            rating: 4.5,
            timestamp: 978_300_760,
        };
        let history = History {
            user: "canary".to_string(),
            events: vec![event; 3].into(),
        };
        assert_eq!(format!("{history:?}"), "History { events: 3, .. }");
        assert_eq!(format!("{event:?}"), "Event { .. }");
        assert_eq!(format!("{:?}", history.events), "3 events");
    }
}
