use std::fmt;
use std::ops::{Deref, Range, RangeBounds};

#[cfg(feature = "store")]
use crate::store::Mapped;

/// Position of an item in [`Catalogue::items`](crate::Catalogue::items), counted from 0.
pub type ItemIndex = u32;

/// Number of a text among those that people wrote, counted from 1.
pub type TextIndex = u32;

/// Stands for a text that nobody wrote.
pub const NO_TEXT: TextIndex = 0;

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
/// runs short, so that all histories together may be larger than it. Beside them may be which text
/// was written at each: see [`ReviewTexts`](crate::reviews::ReviewTexts). Equal are those whose
/// events are.
///
/// # Example
///
/// ```
/// use datasets::{Event, Events};
///
/// let mut events: Events = (0..3).map(|item| Event { item, rating: 4.0, timestamp: 9 }).collect();
/// events.to_mut().pop();
/// assert_eq!(events.slice(1..).len(), 1);
/// ```
#[derive(Clone)]
pub struct Events {
    rows: Rows<Event>,
    texts: Option<Rows<TextIndex>>,
}

/// Rows in memory, or where they are in a file of a prepared store.
#[derive(Clone)]
pub(crate) enum Rows<T> {
    Memory(Vec<T>),
    #[cfg(feature = "store")]
    Store(Mapped<T>),
}

impl<T> Deref for Rows<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Memory(rows) => rows,
            #[cfg(feature = "store")]
            Self::Store(mapped) => mapped.as_slice(),
        }
    }
}

impl Events {
    /// All of them, to be changed: in memory from now on, and no longer with their texts.
    pub fn to_mut(&mut self) -> &mut Vec<Event> {
        self.texts = None;
        self.rows_mut()
    }

    /// Keep those of which this is true, and their texts.
    pub fn retain(&mut self, is_kept: impl Fn(&Event) -> bool) {
        if let Some(texts) = &mut self.texts {
            let kept = self.rows.iter().map(&is_kept).zip(&**texts);
            let kept = kept.filter_map(|(is_kept, text)| is_kept.then_some(*text));
            *texts = Rows::Memory(kept.collect());
        }
        self.rows_mut().retain(is_kept);
    }

    /// Number the items anew.
    pub(crate) fn renumber(&mut self, number: impl Fn(ItemIndex) -> ItemIndex) {
        for event in self.rows_mut() {
            event.item = number(event.item);
        }
    }

    fn rows_mut(&mut self) -> &mut Vec<Event> {
        #[cfg(feature = "store")]
        if let Rows::Store(mapped) = &self.rows {
            self.rows = Rows::Memory(mapped.as_slice().to_vec());
        }
        match &mut self.rows {
            Rows::Memory(events) => events,
            #[cfg(feature = "store")]
            Rows::Store(_) => unreachable!("they were copied"),
        }
    }

    /// Say which text was written at each.
    pub(crate) fn set_texts(&mut self, texts: Rows<TextIndex>) {
        assert_eq!(texts.len(), self.len(), "a text for each event");
        self.texts = Some(texts);
    }

    /// Which text was written at each, if that is known.
    #[cfg(feature = "store")]
    pub(crate) fn texts(&self) -> Option<&Rows<TextIndex>> {
        self.texts.as_ref()
    }

    /// Some of them, with their texts.
    ///
    /// # Panics
    ///
    /// Panics if the range goes beyond them.
    pub fn slice(&self, events: impl RangeBounds<usize>) -> EventSlice<'_> {
        let all = EventSlice {
            events: self,
            texts: self.texts.as_deref(),
        };
        all.slice(events)
    }

    /// Have some of them read from the disk while other things are done. Nothing waits for it, and
    /// for those in memory nothing happens.
    ///
    /// # Panics
    ///
    /// Panics if the range goes beyond them.
    pub fn read_ahead(&self, events: Range<usize>) {
        match &self.rows {
            Rows::Memory(all) => assert!(events.end <= all.len(), "a range beyond the events"),
            #[cfg(feature = "store")]
            Rows::Store(mapped) => mapped.part(events).read_ahead(),
        }
    }
}

impl Deref for Events {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        &self.rows
    }
}

impl PartialEq for Events {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl From<Vec<Event>> for Events {
    fn from(events: Vec<Event>) -> Self {
        Rows::Memory(events).into()
    }
}

impl From<Rows<Event>> for Events {
    fn from(rows: Rows<Event>) -> Self {
        Self { rows, texts: None }
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

/// Events of a person that follow one another, and which text was written at each, where that is
/// known: to [`Events`] what `&str` is to `String`.
///
/// # Example
///
/// ```
/// use datasets::{Event, EventSlice, NO_TEXT};
///
/// let events = [7, 8, 9].map(|item| Event { item, rating: 4.0, timestamp: 9 });
/// let latest = EventSlice::from(&events[..]).slice(1..);
/// assert_eq!((latest.len(), latest[0].item, latest.text(0)), (2, 8, NO_TEXT));
/// ```
#[derive(Clone, Copy, Default)]
pub struct EventSlice<'a> {
    events: &'a [Event],
    texts: Option<&'a [TextIndex]>,
}

impl<'a> EventSlice<'a> {
    /// Some of them.
    ///
    /// # Panics
    ///
    /// Panics if the range goes beyond them.
    pub fn slice(self, events: impl RangeBounds<usize>) -> Self {
        let range = (events.start_bound().cloned(), events.end_bound().cloned());
        Self {
            events: &self.events[range],
            texts: self.texts.map(|texts| &texts[range]),
        }
    }

    /// The events, without their texts.
    pub fn events(self) -> &'a [Event] {
        self.events
    }

    /// The text that was written at an event; [`NO_TEXT`] where none was, or that is not known.
    ///
    /// # Panics
    ///
    /// Panics if there is no such event.
    pub fn text(self, event: usize) -> TextIndex {
        assert!(event < self.len(), "an event beyond the events");
        self.texts.map_or(NO_TEXT, |texts| texts[event])
    }
}

impl Deref for EventSlice<'_> {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        self.events
    }
}

/// Of events whose texts are not known.
impl<'a> From<&'a [Event]> for EventSlice<'a> {
    fn from(events: &'a [Event]) -> Self {
        Self {
            events,
            texts: None,
        }
    }
}

impl<'a> IntoIterator for EventSlice<'a> {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.iter()
    }
}

impl fmt::Debug for EventSlice<'_> {
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
        assert_eq!(format!("{:?}", history.events.slice(1..)), "2 events");
    }

    #[test]
    fn texts_stay_with_their_events_until_these_are_changed() {
        let event = |item| Event {
            item,
            rating: 4.0,
            timestamp: 0,
        };
        let mut events: Events = (0..6).map(event).collect();
        let texts = |events: &Events| -> Vec<_> {
            let all = events.slice(..);
            (0..all.len())
                .map(|at| (all[at].item, all.text(at)))
                .collect()
        };
        assert_eq!(texts(&events)[4], (4, NO_TEXT));
        events.set_texts(Rows::Memory(vec![10, 11, 12, 13, NO_TEXT, 15]));
        events.retain(|event| event.item % 3 != 1);
        events.renumber(|item| item + 100);
        let kept = [(100, 10), (102, 12), (103, 13), (105, 15)];
        assert_eq!(texts(&events), kept);
        assert_eq!(events.slice(1..3).slice(1..).text(0), 13);

        events.to_mut().pop();
        assert_eq!(texts(&events)[2], (103, NO_TEXT));
    }
}
