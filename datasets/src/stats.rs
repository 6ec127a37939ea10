use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

use crate::{Dataset, ReadReport};

/// Counts of a [`Dataset`]; `Display` prints them as a small table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetStats {
    /// Number of people.
    pub users: usize,
    /// Number of items in the catalogue.
    pub items: usize,
    /// Number of items that somebody rated.
    pub rated_items: usize,
    /// Number of events, all histories together.
    pub interactions: usize,
    /// Number of genres.
    pub genres: usize,
    /// Fewest interactions that each person and item was made to have; 0 if nobody was left out.
    pub min_interactions: usize,
    /// Fewest interactions that each person was made to have; 0 if nobody was left out.
    pub min_history: usize,
    /// Events in the shortest history.
    pub history_min: usize,
    /// Events in the history that a tenth of all are shorter than.
    pub history_p10: usize,
    /// Events in the middle history; the mean of the middle two where their number is even.
    pub history_median: f64,
    /// Events in a history on average.
    pub history_mean: f64,
    /// Events in the history that nine tenths of all are shorter than.
    pub history_p90: usize,
    /// Events in the history that 99 of 100 are shorter than.
    pub history_p99: usize,
    /// Events in the longest history.
    pub history_max: usize,
    /// Of all pairs of neighbours in a history, the share with equal timestamps, from 0 to 1: how
    /// much of the order is that of the file. Absent where ranks stand in the place of times.
    pub equal_timestamps: Option<f64>,
    /// Interactions divided by users times items, from 0 to 1.
    pub density: f64,
    /// What the reader dropped, merged or repaired.
    #[serde(skip_serializing_if = "ReadReport::is_empty")]
    pub report: ReadReport,
}

impl DatasetStats {
    pub(crate) fn of(dataset: &Dataset) -> Self {
        let histories = &dataset.histories;
        let events = || histories.iter().flat_map(|history| &history.events);
        let mut lengths: Vec<usize> = histories
            .iter()
            .map(|history| history.events.len())
            .collect();
        lengths.sort_unstable();

        let interactions: usize = lengths.iter().sum();
        let items = dataset.catalogue.len();
        let n_pairs: usize = lengths.iter().map(|length| length.saturating_sub(1)).sum();
        let n_equal = histories
            .iter()
            .flat_map(|history| history.events.windows(2))
            .filter(|pair| pair[0].timestamp == pair[1].timestamp)
            .count();
        Self {
            users: histories.len(),
            items,
            rated_items: events()
                .map(|event| event.item)
                .collect::<HashSet<_>>()
                .len(),
            interactions,
            genres: dataset.catalogue.genres.len(),
            min_interactions: dataset.min_interactions,
            min_history: dataset.min_history,
            history_min: lengths.first().copied().unwrap_or(0),
            history_p10: percentile(&lengths, 10),
            history_median: median(&lengths),
            history_mean: ratio(interactions, histories.len()),
            history_p90: percentile(&lengths, 90),
            history_p99: percentile(&lengths, 99),
            history_max: lengths.last().copied().unwrap_or(0),
            equal_timestamps: (!dataset.time_is_rank).then(|| ratio(n_equal, n_pairs)),
            density: ratio(interactions, histories.len() * items),
            report: dataset.report.clone(),
        }
    }
}

impl fmt::Display for DatasetStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |n: usize| group_thousands(n);
        let equal = match self.equal_timestamps {
            Some(share) => format!("{:.1} %", share * 100.0),
            None => "ranks, no times".to_string(),
        };
        let mut rows = vec![
            ("users", count(self.users)),
            ("items", count(self.items)),
            ("rated items", count(self.rated_items)),
            ("interactions", count(self.interactions)),
            ("genres", count(self.genres)),
            ("least required", count(self.min_interactions)),
            ("least of a person", count(self.min_history)),
            ("shortest history", count(self.history_min)),
            ("10 % are shorter than", count(self.history_p10)),
            ("median history", format!("{:.1}", self.history_median)),
            ("mean history", format!("{:.1}", self.history_mean)),
            ("90 % are shorter than", count(self.history_p90)),
            ("99 % are shorter than", count(self.history_p99)),
            ("longest history", count(self.history_max)),
            ("equal timestamps", equal),
            ("density", format!("{:.2} %", self.density * 100.0)),
        ];
        let found = self.report.lines();
        rows.extend(found.map(|(name, n)| (name, count(n as usize))));
        let width = rows.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
        let name_width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, value): &(&str, String)| format!("{name:<name_width$}  {value:>width$}");
        let lines: Vec<String> = rows.iter().map(line).collect();
        f.write_str(&lines.join("\n"))
    }
}

fn median(sorted: &[usize]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle] as f64,
        _ => (sorted[middle - 1] + sorted[middle]) as f64 / 2.0,
    }
}

/// The value that so many percent of the others are below.
fn percentile(sorted: &[usize], percent: usize) -> usize {
    let at = sorted.len() * percent / 100;
    sorted.get(at).copied().unwrap_or(0)
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// `100000` becomes `100,000`.
fn group_thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalogue, Event, History, Item};

    fn dataset(timestamps: &[&[i64]]) -> Dataset {
        let item = |id: &str| Item {
            id: id.into(),
            title: id.into(),
            year: None,
            genres: vec![],
        };
        let catalogue = Catalogue::new(vec![item("a"), item("b")], vec!["Crime".into()]).unwrap();
        let history = |times: &&[i64]| History {
            user: String::new(),
            events: times
                .iter()
                .map(|&t| Event {
                    item: 0,
                    rating: 3.0,
                    timestamp: t,
                })
                .collect(),
        };
        Dataset::from_histories("t", catalogue, timestamps.iter().map(history).collect()).unwrap()
    }

    #[test]
    fn counts_agree_with_those_made_by_hand() {
        let stats = dataset(&[&[1, 1, 2, 2], &[5], &[7, 8, 9], &[3, 3]]).stats();
        let expected = DatasetStats {
            users: 4,
            items: 2,
            rated_items: 1,
            interactions: 10,
            genres: 1,
            min_interactions: 0,
            min_history: 0,
            history_min: 1,
            history_p10: 1,
            history_median: 2.5,
            history_mean: 2.5,
            history_p90: 4,
            history_p99: 4,
            history_max: 4,
            equal_timestamps: Some(3.0 / 6.0),
            density: 10.0 / 8.0,
            report: ReadReport::default(),
        };
        assert_eq!(stats, expected);
    }

    #[test]
    fn ranks_are_never_presented_as_times() {
        let mut dataset = dataset(&[&[1, 2]]);
        dataset.time_is_rank = true;
        assert_eq!(dataset.stats().equal_timestamps, None);
        assert!(dataset.stats().to_string().contains("ranks, no times"));
    }

    #[test]
    fn no_histories_give_zeros_and_not_nan() {
        let stats = dataset(&[]).stats();
        assert_eq!(
            (stats.history_mean, stats.density, stats.history_median),
            (0.0, 0.0, 0.0)
        );
        assert_eq!(stats.equal_timestamps, Some(0.0));
    }

    #[test]
    fn the_table_is_aligned() {
        let text = dataset(&[&[1, 1, 2, 2], &[5]]).stats().to_string();
        let widths: HashSet<usize> = text.lines().map(str::len).collect();
        assert_eq!(widths.len(), 1, "{text}");
        assert_eq!(group_thousands(1_000_209), "1,000,209");
        assert_eq!(group_thousands(100), "100");
    }
}
