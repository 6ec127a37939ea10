use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Event, ItemIndex};

/// Items to rank a target among, drawn once and stored with the split, so that all models answer
/// the same question. A key that does not exist is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidatesConfig {
    /// How many items for each target, drawn evenly from those that are not in the person's
    /// history; all of them where there are no more.
    pub n: usize,
    /// Another seed draws others.
    pub seed: u64,
}

impl CandidatesConfig {
    /// The candidates for the target at this position of a person's history, ascending. They
    /// depend on the person's id and not on who else is in the data.
    pub(super) fn draw(
        &self,
        user: &str,
        target: usize,
        events: &[Event],
        n_items: usize,
    ) -> Vec<ItemIndex> {
        let mut met: HashSet<ItemIndex> = events.iter().map(|event| event.item).collect();
        let n_others = n_items - met.len();
        let mut drawn: Vec<ItemIndex> = match self.n < n_others {
            false => (0..n_items as ItemIndex)
                .filter(|item| !met.contains(item))
                .collect(),
            true => {
                let mut hash = Sha256::new();
                hash.update(self.seed.to_le_bytes());
                hash.update((target as u64).to_le_bytes());
                hash.update(user.as_bytes());
                let mut random = StdRng::from_seed(hash.finalize().into());
                let mut items = std::iter::repeat_with(|| random.random_range(0..n_items as u32));
                items
                    .by_ref()
                    .filter(|&item| met.insert(item))
                    .take(self.n)
                    .collect()
            }
        };
        drawn.sort_unstable();
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(item: ItemIndex) -> Event {
        Event {
            item,
            rating: 4.0,
            timestamp: 0,
        }
    }

    #[test]
    fn candidates_are_distinct_and_new_to_the_person() {
        let config = CandidatesConfig { n: 50, seed: 7 };
        let events: Vec<Event> = (10..60).map(event).collect();
        let drawn = config.draw("ada", 49, &events, 120);
        assert_eq!(drawn.len(), 50);
        assert!(drawn.is_sorted_by(|a, b| a < b));
        assert!(
            drawn
                .iter()
                .all(|item| !(10..60).contains(item) && *item < 120)
        );
        assert_eq!(config.draw("ada", 49, &events, 120), drawn);
        assert_ne!(config.draw("bob", 49, &events, 120), drawn);
        assert_ne!(config.draw("ada", 48, &events, 120), drawn);
    }

    #[test]
    fn where_there_are_no_more_items_all_are_drawn() {
        let config = CandidatesConfig { n: 50, seed: 7 };
        let drawn = config.draw("ada", 1, &[event(0), event(3), event(3)], 6);
        assert_eq!(drawn, [1, 2, 4, 5]);
    }
}
