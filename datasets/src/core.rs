use std::collections::HashMap;

use crate::{Catalogue, Dataset, ItemIndex};

impl Dataset {
    /// Keep the people and items with at least `n` interactions each, and number the items anew.
    ///
    /// Leaving one out can bring another below `n`, so it is repeated until nothing changes: what
    /// stays is the `n`-core. The usual one is 5. Of MovieLens 1M it keeps all 6,040 people and
    /// 3,416 items with 999,611 events, which is the "5-core" that SASRec publishes; one pass is
    /// already enough there, so that counting once gives the same. Repeated visits count each. An
    /// `n` of 0 keeps everything, items that nobody rated included.
    ///
    /// # Example
    ///
    /// ```
    /// use datasets::{Catalogue, Dataset, Event, History, Item};
    ///
    /// let item = |id: &str| Item { id: id.into(), title: id.into(), year: None, genres: vec![] };
    /// let catalogue = Catalogue::new(vec![item("rare"), item("popular")], vec![])?;
    /// let event = |item, timestamp| Event { item, rating: 4.0, timestamp };
    /// let ada = History { user: "ada".into(), events: vec![event(0, 1), event(1, 2), event(1, 3)].into() };
    ///
    /// let core = Dataset::from_histories("tiny", catalogue, vec![ada])?.with_min_interactions(2);
    /// assert_eq!(core.catalogue.items[0].id, "popular");
    /// assert_eq!(core.histories[0].events.len(), 2);
    /// # Ok::<(), datasets::Error>(())
    /// ```
    #[must_use]
    pub fn with_min_interactions(mut self, n: usize) -> Self {
        self.min_interactions = n;
        if n == 0 {
            return self;
        }
        let kept = loop {
            self.histories.retain(|history| history.events.len() >= n);
            let mut counts = vec![0_usize; self.catalogue.len()];
            for event in self.histories.iter().flat_map(|history| &history.events) {
                counts[event.item as usize] += 1;
            }
            let is_kept = |item: ItemIndex| counts[item as usize] >= n;
            if counts.iter().all(|&count| count == 0 || count >= n) {
                break counts;
            }
            for history in &mut self.histories {
                history.events.retain(|event| is_kept(event.item));
            }
        };

        let mut items = Vec::new();
        let mut renumbered = HashMap::new();
        for ((index, item), count) in (0..).zip(self.catalogue.items).zip(kept) {
            if count > 0 {
                renumbered.insert(index, items.len() as ItemIndex);
                items.push(item);
            }
        }
        self.catalogue = Catalogue::new(items, self.catalogue.genres)
            .expect("a part of a catalogue is a catalogue");
        for history in &mut self.histories {
            history.events.renumber(|item| renumbered[&item]);
        }
        self.without_absent_ratings()
    }

    /// Keep the people with at least `n` events; items stay, those that nobody rated any more
    /// included.
    ///
    /// The paper's data is that of `n` = 51: one window of 50 events, and one to predict.
    #[must_use]
    pub fn with_min_history(mut self, n: usize) -> Self {
        self.min_history = n;
        self.histories.retain(|history| history.events.len() >= n);
        self.without_absent_ratings()
    }

    fn without_absent_ratings(mut self) -> Self {
        let occurs = |rating: &f32| {
            let mut events = self.histories.iter().flat_map(|history| &history.events);
            events.any(|event| event.rating == *rating)
        };
        self.ratings.retain(occurs);
        self
    }
}

#[cfg(test)]
mod tests {
    use crate::{Catalogue, Dataset, Event, History, Item};

    /// People `A`, `B`, … with these items, in this order; the rating tells the person.
    fn dataset(histories: &[&[u32]]) -> Dataset {
        let item = |n: u32| Item {
            id: n.to_string(),
            title: format!("title {n}"),
            year: None,
            genres: vec![],
        };
        let history = |(user, items): (usize, &&[u32])| History {
            user: char::from(b'A' + user as u8).to_string(),
            events: (0..)
                .zip(*items)
                .map(|(timestamp, &item)| Event {
                    item,
                    rating: 1.0 + user as f32,
                    timestamp,
                })
                .collect(),
        };
        let catalogue = Catalogue::new((0..6).map(item).collect(), vec![]).unwrap();
        let histories = histories.iter().enumerate().map(history).collect();
        Dataset::from_histories("core", catalogue, histories).unwrap()
    }

    fn ids(dataset: &Dataset) -> Vec<(String, Vec<String>)> {
        let id = |event: &Event| dataset.catalogue.items[event.item as usize].id.clone();
        let histories = dataset.histories.iter();
        histories
            .map(|history| {
                (
                    history.user.clone(),
                    history.events.iter().map(id).collect(),
                )
            })
            .collect()
    }

    #[test]
    fn leaving_out_goes_on_until_nothing_changes() {
        // Item 5 is rare; without it B is short; without B item 4 is rare; A and C stay.
        let core = dataset(&[&[3, 1, 4], &[5, 4], &[1, 3]]).with_min_interactions(2);
        let two = |a: &str, b: &str| vec![a.to_string(), b.to_string()];
        assert_eq!(
            ids(&core),
            [
                ("A".to_string(), two("3", "1")),
                ("C".to_string(), two("1", "3"))
            ]
        );
        let items: Vec<&str> = core.catalogue.items.iter().map(|i| i.id.as_str()).collect();
        assert_eq!(items, ["1", "3"]);
        assert_eq!(
            (core.ratings.as_slice(), core.min_interactions),
            (&[1.0, 3.0][..], 2)
        );
        assert_eq!(core.catalogue.find("3"), Some(1));
    }

    #[test]
    fn a_core_is_its_own_core_and_nobody_s_core_is_empty() {
        let core = dataset(&[&[3, 1, 4], &[5, 4], &[1, 3]]).with_min_interactions(2);
        assert!(core.clone().with_min_interactions(2) == core);
        let none = core.with_min_interactions(3);
        assert!(none.histories.is_empty() && none.catalogue.is_empty());
    }

    #[test]
    fn short_histories_go_and_items_stay() {
        let long = dataset(&[&[3, 1, 4], &[5, 4], &[1]]).with_min_history(2);
        assert_eq!(long.histories.len(), 2);
        assert_eq!((long.catalogue.len(), long.min_history), (6, 2));
    }

    #[test]
    fn zero_keeps_items_that_nobody_rated_and_one_does_not() {
        let all = dataset(&[&[0, 0, 2]]);
        assert_eq!(all.clone().with_min_interactions(0).catalogue.len(), 6);
        assert_eq!(all.with_min_interactions(1).catalogue.len(), 2);
    }
}
