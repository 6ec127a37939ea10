//! An event log that was read to its end: all but the events, which went elsewhere.

use std::collections::HashMap;
use std::mem;
use std::time::Instant;

use super::files::Files;
use super::tables::Sink;
use crate::report::Finding;
use crate::{Catalogue, Dataset, Error, Event, History, ItemIndex, Repeats};

pub(crate) struct Log {
    pub(crate) name: String,
    pub(crate) catalogue: Catalogue,
    /// Everybody's id, in the order in which they appeared.
    pub(crate) people: Vec<String>,
    /// What becomes of a person's second event with an item.
    pub(crate) repeats: Repeats,
    pub(crate) times: Times,
    /// The files that were read.
    pub(crate) files: Files,
    pub(crate) started: Instant,
}

/// What the numbers in the place of times are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// Seconds.
    Seconds,
    /// Ranks within the history.
    Ranks,
    /// Nothing: the order of the file counts, and ranks are to be made of it.
    Absent,
}

impl Log {
    /// Read a log into memory.
    pub(crate) fn into_dataset(
        read: impl FnOnce(&mut Sink<'_>) -> Result<Self, Error>,
    ) -> Result<Dataset, Error> {
        let mut histories: Vec<Vec<Event>> = Vec::new();
        let mut log = read(&mut |person, event| {
            let person = person as usize;
            if person == histories.len() {
                histories.push(Vec::new());
            }
            histories[person].push(event);
            Ok(())
        })?;
        for events in &mut histories {
            log.settle(events);
        }
        let ordered = log.order().into_iter().map(|person| History {
            user: mem::take(&mut log.people[person]),
            events: mem::take(&mut histories[person]).into(),
        });
        let histories = ordered.collect();
        let mut dataset = Dataset::from_histories(log.name, log.catalogue, histories)?;
        dataset.time_is_rank = log.times != Times::Seconds;
        log.files.sign(&mut dataset, log.started);
        Ok(dataset)
    }

    /// The order of the histories: that of the ids where all are numbers, otherwise that of first
    /// appearance.
    pub(crate) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.people.len()).collect();
        let numbers = self.people.iter().map(|id| id.parse::<u64>().ok());
        if let Some(numbers) = numbers.collect::<Option<Vec<u64>>>() {
            order.sort_by_key(|&person| numbers[person]);
        }
        order
    }

    /// Put a history, which is in the order of the file, in the order of time, and leave out what
    /// may not repeat.
    pub(crate) fn settle(&mut self, events: &mut Vec<Event>) {
        events.sort_by_key(|event| event.timestamp);
        if self.repeats == Repeats::Newest {
            self.keep_newest(events);
        }
        if self.times == Times::Absent {
            for (event, rank) in events.iter_mut().zip(1..) {
                event.timestamp = rank;
            }
        }
    }

    fn keep_newest(&mut self, events: &mut Vec<Event>) {
        let tally = &mut self.files.tally;
        // From the newest on, so that the first of an item that is met is the one that stays.
        let mut newest: HashMap<ItemIndex, Event> = HashMap::with_capacity(events.len());
        let mut kept = Vec::with_capacity(events.len());
        for &event in events.iter().rev() {
            match newest.get(&event.item) {
                Some(newer) if *newer == event => tally.add(Finding::CopiedEvent),
                Some(_) => tally.add(Finding::ReplacedEvent),
                None => {
                    newest.insert(event.item, event);
                    kept.push(event);
                }
            }
        }
        kept.reverse();
        *events = kept;
    }
}
