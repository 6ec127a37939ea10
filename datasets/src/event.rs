use std::fmt;

/// Position of an item in [`Catalogue::items`](crate::Catalogue::items), counted from 0.
pub type ItemIndex = u32;

/// Stands for a rating that nobody gave: no rating is 0, so models read it as unknown.
pub const NO_RATING: f32 = 0.0;

/// One record of a history: a person rated an item at a moment.
///
/// What a person watched is personal data, so `Debug` shows none of it.
#[derive(Clone, Copy, PartialEq)]
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
///     events: vec![Event { item: 7, rating: 4.5, timestamp: 978_300_760 }],
/// };
/// assert_eq!(format!("{history:?}"), "History { events: 1, .. }");
/// ```
#[derive(Clone, PartialEq)]
pub struct History {
    /// The person's id as the data file spells it.
    pub user: String,
    /// What the person did, oldest first.
    pub events: Vec<Event>,
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
            events: vec![event; 3],
        };
        assert_eq!(format!("{history:?}"), "History { events: 3, .. }");
        assert_eq!(format!("{event:?}"), "Event { .. }");
    }
}
