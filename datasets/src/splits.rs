//! Ways to part a dataset besides [`LeaveOneOut`], and what leaks through them.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::split::MIN_EVENTS;
use crate::{Dataset, Error, Event, EventSlice, LeaveOneOut, Window, windows};

/// How a dataset is parted. A key that does not exist is refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SplitConfig {
    /// [`LeaveOneOut`]: the last event of every history is the test, the second last the
    /// validation.
    #[default]
    LeaveOneOut,
    /// One moment for everybody: nothing in training is later than anything in validation, and
    /// nothing in validation than anything in the test. Targets are each person's first events
    /// after a cut.
    GlobalTime {
        /// Where the validation begins.
        validation: Cut,
        /// Where the test begins.
        test: Cut,
    },
    /// Every person is in one part alone, so that people are tested whom training never saw.
    /// Which part it is depends on the id and the seed, not on who else is in the data. The last
    /// event of a history is the target.
    ByUser {
        /// Share of the people that are validated on.
        validation: f64,
        /// Share of the people that are tested on.
        test: f64,
        /// Another seed draws others.
        seed: u64,
    },
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// The one before which this share of all events lies, from 0 to 1; less where many events
    /// share it.
    Fraction(f64),
    /// Seconds since 1970 UTC.
    Timestamp(i64),
}

/// A dataset that is parted as a [`SplitConfig`] says; it has [`LeaveOneOut`]'s methods.
///
/// # Example
///
/// ```
/// use datasets::{Catalogue, Cut, Dataset, Event, History, Item, Split, SplitConfig};
///
/// # let item = Item { id: "1".into(), title: "Heat".into(), year: None, genres: vec![] };
/// # let catalogue = Catalogue::new(vec![item], vec![])?;
/// let events = (0..10).map(|timestamp| Event { item: 0, rating: 4.0, timestamp }).collect();
/// let histories = vec![History { user: "ada".into(), events }];
/// let dataset = Dataset::from_histories("tiny", catalogue, histories)?;
/// let config = SplitConfig::GlobalTime {
///     validation: Cut::Fraction(0.6),
///     test: Cut::Timestamp(8),
/// };
///
/// let split = Split::new(&dataset, &config)?;
/// assert_eq!(split.train(0).len(), 6);
/// let (history, target) = split.test(0).expect("there are events at 8 and after");
/// assert_eq!((history.len(), target.timestamp), (8, 8));
/// # Ok::<(), datasets::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Split<'a> {
    dataset: &'a Dataset,
    rule: Rule,
}

/// A [`SplitConfig`] whose cuts are moments of one dataset, found once: a [`Split`] of that dataset
/// costs nothing then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitRule(Rule);

impl SplitRule {
    /// Part the dataset that the rule was made for. Nothing is copied or counted.
    pub fn of(self, dataset: &Dataset) -> Split<'_> {
        Split {
            dataset,
            rule: self.0,
        }
    }
}

impl SplitConfig {
    /// Find the moments of the cuts in a dataset.
    ///
    /// # Errors
    ///
    /// [`Error::Split`] if a share is not within 0 to 1, if a cut leaves nothing before it or
    /// stands behind the next, or if a dataset whose times are ranks is to be cut by time.
    pub fn rule(&self, dataset: &Dataset) -> Result<SplitRule, Error> {
        Rule::new(self, dataset).map(SplitRule)
    }
}

/// Where the parts of one history lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// So many events, the first, may be trained on; there may be none.
    pub train: usize,
    /// Position of the validation target.
    pub validation: Option<usize>,
    /// Positions of all that may be tested, up to the end; the first is the test target.
    pub test: Range<usize>,
}

/// A [`SplitConfig`] whose moments are known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    LeaveOneOut,
    GlobalTime {
        validation: i64,
        test: i64,
    },
    ByUser {
        validation: f64,
        test: f64,
        seed: u64,
    },
}

/// What is called with a person's position, id and events.
pub(crate) type Visit<'v> = dyn FnMut(usize, &str, &[Event]) -> Result<(), Error> + 'v;

/// Histories wherever they are.
pub(crate) trait HistorySource {
    fn n_items(&self) -> usize;
    fn time_is_rank(&self) -> bool;

    /// Call this with every person's position, id and events.
    fn for_each(&self, visit: &mut Visit<'_>) -> Result<(), Error>;
}

impl HistorySource for Dataset {
    fn n_items(&self) -> usize {
        self.catalogue.len()
    }

    fn time_is_rank(&self) -> bool {
        self.time_is_rank
    }

    fn for_each(&self, visit: &mut Visit<'_>) -> Result<(), Error> {
        let mut histories = self.histories.iter().enumerate();
        histories.try_for_each(|(user, history)| visit(user, &history.user, &history.events))
    }
}

/// The part that a person is in, where a person is in one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Train,
    Validation,
    Test,
}

impl Rule {
    pub(crate) fn new(config: &SplitConfig, histories: &impl HistorySource) -> Result<Self, Error> {
        match *config {
            SplitConfig::LeaveOneOut => Ok(Self::LeaveOneOut),
            SplitConfig::GlobalTime { validation, test } => {
                global_time(histories, validation, test)
            }
            SplitConfig::ByUser {
                validation,
                test,
                seed,
            } => {
                let is_share = |share: f64| (0.0..=1.0).contains(&share);
                if !is_share(validation) || !is_share(test) || !is_share(validation + test) {
                    return Err(bad(
                        "validation and test must be shares from 0 to 1, and their sum",
                    ));
                }
                Ok(Self::ByUser {
                    validation,
                    test,
                    seed,
                })
            }
        }
    }

    /// The parts of a person's history. Targets have at least one event before them.
    pub(crate) fn bounds(self, user: &str, events: &[Event]) -> Bounds {
        let n_events = events.len();
        let last = n_events.saturating_sub(1);
        let (train, validation, first_test) = match self {
            Self::LeaveOneOut if n_events < MIN_EVENTS => (n_events, None, n_events),
            Self::LeaveOneOut => (n_events - 2, Some(n_events - 2), last),
            Self::GlobalTime { validation, test } => {
                let at = |moment| events.partition_point(|event| event.timestamp < moment);
                let (train, test) = (at(validation), at(test));
                let first = train.max(1);
                (train, (first < test).then_some(first), test.max(1))
            }
            Self::ByUser { .. } => match self.part(user) {
                Part::Train => (n_events, None, n_events),
                Part::Validation => (0, (last > 0).then_some(last), n_events),
                Part::Test => (0, None, last.max(1)),
            },
        };
        Bounds {
            train,
            validation,
            test: first_test.min(n_events)..n_events,
        }
    }

    fn part(self, user: &str) -> Part {
        let Self::ByUser {
            validation,
            test,
            seed,
        } = self
        else {
            return Part::Train;
        };
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(user.as_bytes());
        let digest = hash.finalize();
        let first: [u8; 8] = digest[..8].try_into().expect("a digest has 32 bytes");
        // Evenly from 0 to 1, without 1.
        let draw = (u64::from_le_bytes(first) >> 11) as f64 / (1_u64 << 53) as f64;
        match draw {
            draw if draw < test => Part::Test,
            draw if draw < test + validation => Part::Validation,
            _ => Part::Train,
        }
    }
}

impl<'a> Split<'a> {
    /// Part a dataset. Nothing is copied.
    ///
    /// # Errors
    ///
    /// As [`SplitConfig::rule`].
    pub fn new(dataset: &'a Dataset, config: &SplitConfig) -> Result<Self, Error> {
        Ok(config.rule(dataset)?.of(dataset))
    }

    /// Where the parts of a history lie.
    ///
    /// # Panics
    ///
    /// Here and below: panics if `user` is not a position in [`Dataset::histories`].
    pub fn bounds(&self, user: usize) -> Bounds {
        let history = &self.dataset.histories[user];
        self.rule.bounds(&history.user, &history.events)
    }

    /// The events of a history that may be trained on; there may be none.
    pub fn train(&self, user: usize) -> EventSlice<'a> {
        self.events(user).slice(..self.bounds(user).train)
    }

    /// The validation target, and what came before it. Not everybody who is tested has one.
    pub fn validation(&self, user: usize) -> Option<(EventSlice<'a>, &'a Event)> {
        let target = self.bounds(user).validation?;
        Some(parts(self.events(user), target))
    }

    /// The test target, and what came before it.
    pub fn test(&self, user: usize) -> Option<(EventSlice<'a>, &'a Event)> {
        self.test_targets(user).next()
    }

    /// All that may be tested of a person, each with what came before it: every event after the
    /// cut, where there is one, and otherwise the [test target](Self::test).
    pub fn test_targets(
        &self,
        user: usize,
    ) -> impl Iterator<Item = (EventSlice<'a>, &'a Event)> + use<'a> {
        let events = self.events(user);
        let targets = self.bounds(user).test;
        targets.map(move |target| parts(events, target))
    }

    /// Positions of the histories that have a test target.
    pub fn users(&self) -> impl Iterator<Item = usize> + use<'a> {
        let split = *self;
        (0..self.n_histories()).filter(move |&user| split.test(user).is_some())
    }

    /// Positions of the histories that have a validation target.
    pub fn validation_users(&self) -> impl Iterator<Item = usize> + use<'a> {
        let split = *self;
        (0..self.n_histories()).filter(move |&user| split.validation(user).is_some())
    }

    /// Number of histories, those without a test target included.
    pub fn n_histories(&self) -> usize {
        self.dataset.histories.len()
    }

    /// Number of histories without a test target.
    pub fn skipped_users(&self) -> usize {
        self.n_histories() - self.users().count()
    }

    /// The training examples of everybody: [`windows`] over each [`train`](Self::train) part.
    pub fn windows(&self, length: usize, stride: usize) -> impl Iterator<Item = Window> + use<'a> {
        let split = *self;
        (0..self.n_histories()).flat_map(move |user| {
            windows(split.train(user).len(), length, stride)
                .map(move |Range { start, end }| Window { user, start, end })
        })
    }

    /// What training knows that it could not have known when the test happened.
    pub fn leakage(&self) -> Leakage {
        Leakage::of(self.dataset, self.rule).expect("what is in memory can be read")
    }

    fn events(&self, user: usize) -> EventSlice<'a> {
        self.dataset.histories[user].events.slice(..)
    }
}

impl fmt::Display for Split<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rule {
            Rule::LeaveOneOut => return write!(f, "{}", LeaveOneOut::new(self.dataset)),
            Rule::GlobalTime { validation, test } => write!(
                f,
                "global time, validation from {validation} and test from {test} s since 1970"
            )?,
            Rule::ByUser {
                validation,
                test,
                seed,
            } => write!(
                f,
                "by user, {validation} of the people for validation and {test} for the test, \
                 seed {seed}"
            )?,
        }
        let n_tested = self.users().count();
        write!(f, ", {n_tested} of {} histories tested", self.n_histories())
    }
}

/// What training knows that it could not have known when the test happened. `Display` gives two
/// lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leakage {
    /// People with a test target.
    pub test_users: usize,
    /// Distinct items among the test targets.
    pub test_items: usize,
    /// Share of these items that training never saw: with one cut in time, those first seen after
    /// it. The larger it is, the less a split flatters.
    pub new_test_items: f64,
    /// Share of the tested people of whom a neighbour, who is someone else with an item of theirs,
    /// was trained on with events later than their test target. 0 with one cut in time, usual with
    /// leave-one-out. Absent where ranks stand in the place of times.
    pub neighbours_future: Option<f64>,
}

impl Leakage {
    pub(crate) fn of(histories: &impl HistorySource, rule: Rule) -> Result<Self, Error> {
        let n_items = histories.n_items();
        // Of every item the two people that were trained on longest: a person is no neighbour of
        // their own.
        let mut latest: Vec<[Option<(i64, usize)>; 2]> = vec![[None; 2]; n_items];
        histories.for_each(&mut |user, id, events| {
            let train = &events[..rule.bounds(id, events).train];
            let Some(time) = train.last().map(|event| event.timestamp) else {
                return Ok(());
            };
            for event in train {
                let [first, second] = &mut latest[event.item as usize];
                let is_other = |slot: &Option<(i64, usize)>| slot.is_none_or(|(_, u)| u != user);
                if is_other(first) && is_other(second) {
                    if first.is_none_or(|(other, _)| time > other) {
                        (*first, *second) = (Some((time, user)), *first);
                    } else if second.is_none_or(|(other, _)| time > other) {
                        *second = Some((time, user));
                    }
                }
            }
            Ok(())
        })?;
        let mut is_tested = vec![false; n_items];
        let (mut n_users, mut n_informed) = (0_usize, 0_usize);
        histories.for_each(&mut |user, id, events| {
            let targets = rule.bounds(id, events).test;
            for target in &events[targets.clone()] {
                is_tested[target.item as usize] = true;
            }
            let Some(target) = events.get(targets.start) else {
                return Ok(());
            };
            n_users += 1;
            let knows_more = |event: &Event| {
                let neighbours = latest[event.item as usize].iter().flatten();
                let mut others = neighbours.filter(|(_, other)| *other != user);
                others.any(|&(time, _)| time > target.timestamp)
            };
            n_informed += usize::from(events[..targets.start].iter().any(knows_more));
            Ok(())
        })?;
        let items = is_tested.iter().filter(|&&tested| tested).count();
        let tested = is_tested.iter().zip(&latest);
        let new = tested
            .filter(|(tested, latest)| **tested && latest[0].is_none())
            .count();
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        Ok(Self {
            test_users: n_users,
            test_items: items,
            new_test_items: share(new, items),
            neighbours_future: (!histories.time_is_rank()).then(|| share(n_informed, n_users)),
        })
    }
}

impl fmt::Display for Leakage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let future = self
            .neighbours_future
            .map_or("unknown (ranks, no times)".into(), percent);
        write!(
            f,
            "test items new to training: {} of {}\ntested people whose neighbours' future was \
             trained on: {future} of {}",
            percent(self.new_test_items),
            self.test_items,
            self.test_users
        )
    }
}

fn global_time(histories: &impl HistorySource, validation: Cut, test: Cut) -> Result<Rule, Error> {
    if histories.time_is_rank() {
        return Err(bad(
            "this dataset has ranks in the place of times, which tell no order across people: use \
             leave-one-out or by-user",
        ));
    }
    let moment = |cut: Cut| match cut {
        Cut::Timestamp(timestamp) => Ok(timestamp),
        Cut::Fraction(share) => moment_after(histories, share)?.ok_or(bad(
            "a cut must be a share from 0 to 1, of a dataset with events",
        )),
    };
    let (validation, test) = (moment(validation)?, moment(test)?);
    if validation > test {
        return Err(bad("the validation must begin before the test"));
    }
    let mut can_train = false;
    histories.for_each(&mut |_, _, events| {
        can_train |= events
            .first()
            .is_some_and(|event| event.timestamp < validation);
        Ok(())
    })?;
    match can_train {
        true => Ok(Rule::GlobalTime { validation, test }),
        false => Err(bad(
            "nothing is before the validation, so nothing could be trained on",
        )),
    }
}

/// The time of the event that has this share of all events before it, in the order of times.
///
/// Digit by digit, counting how many times have which: four passes, and no copy of all times.
fn moment_after(histories: &impl HistorySource, share: f64) -> Result<Option<i64>, Error> {
    const DIGIT: u32 = 16;
    // So that the order of the numbers is that of the times, those before 1970 included.
    const SIGN: u64 = 1 << 63;
    let mut n_events = 0;
    histories.for_each(&mut |_, _, events| {
        n_events += events.len();
        Ok(())
    })?;
    if !(0.0..1.0).contains(&share) || n_events == 0 {
        return Ok(None);
    }
    let mut n_before = (share * n_events as f64) as usize;
    let mut known = 0;
    for place in (0..u64::BITS / DIGIT).rev() {
        let mut counts = vec![0_usize; 1 << DIGIT];
        histories.for_each(&mut |_, _, events| {
            for event in events {
                let key = (event.timestamp as u64 ^ SIGN) >> (place * DIGIT);
                if key >> DIGIT == known {
                    counts[(key & 0xffff) as usize] += 1;
                }
            }
            Ok(())
        })?;
        let mut digit = 0;
        while n_before >= counts[digit] {
            n_before -= counts[digit];
            digit += 1;
        }
        known = known << DIGIT | digit as u64;
    }
    Ok(Some((known ^ SIGN) as i64))
}

fn bad(reason: &'static str) -> Error {
    Error::Split { reason }
}

/// What came before a target, and the target.
fn parts(events: EventSlice<'_>, target: usize) -> (EventSlice<'_>, &Event) {
    (events.slice(..target), &events.events()[target])
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::{Catalogue, History, Item};

    /// Histories of (item, time).
    fn dataset(histories: &[Vec<(u32, i64)>]) -> Dataset {
        let item = |n: u32| Item {
            id: n.to_string(),
            title: n.to_string(),
            year: None,
            genres: vec![],
        };
        let history = |(user, events): (usize, &Vec<(u32, i64)>)| {
            let event = |&(item, timestamp): &(u32, i64)| Event {
                item,
                rating: 3.0,
                timestamp,
            };
            History {
                user: user.to_string(),
                events: events.iter().map(event).collect(),
            }
        };
        let catalogue = Catalogue::new((0..20).map(item).collect(), vec![]).unwrap();
        let histories = histories.iter().enumerate().map(history).collect();
        Dataset::from_histories("t", catalogue, histories).unwrap()
    }

    fn random(seed: u64) -> Dataset {
        let mut random = StdRng::seed_from_u64(seed);
        let n_users = random.random_range(1..30);
        let mut history = || {
            let n_events = random.random_range(0..12);
            (0..n_events)
                .map(|_| (random.random_range(0..20), random.random_range(0..40)))
                .collect()
        };
        dataset(&(0..n_users).map(|_| history()).collect::<Vec<_>>())
    }

    const HALVES: SplitConfig = SplitConfig::GlobalTime {
        validation: Cut::Fraction(0.5),
        test: Cut::Fraction(0.75),
    };

    #[test]
    fn in_global_time_nothing_in_training_is_as_late_as_anything_in_validation_or_test() {
        let mut n_targets = 0;
        for seed in 0..500 {
            let dataset = random(seed);
            let Ok(split) = Split::new(&dataset, &HALVES) else {
                continue;
            };
            let users = || 0..split.n_histories();
            let last_trained = users()
                .flat_map(|user| split.train(user))
                .map(|e| e.timestamp)
                .max();
            let last_trained = last_trained.expect("an empty training part is refused");
            let validated = users().filter_map(|user| Some(split.validation(user)?.1.timestamp));
            let last_validated = validated.clone().max().unwrap_or(last_trained);
            assert!(validated.clone().all(|time| time > last_trained));
            for user in users() {
                for (history, target) in split.test_targets(user) {
                    n_targets += 1;
                    assert!(target.timestamp > last_trained && target.timestamp > last_validated);
                    assert!(history.last().unwrap().timestamp <= target.timestamp);
                }
            }
            assert_eq!(split.leakage().neighbours_future, Some(0.0));
        }
        assert!(n_targets > 1000, "{n_targets}");
    }

    #[test]
    fn by_user_nobody_is_in_two_parts_and_everybody_is_in_one() {
        let config = SplitConfig::ByUser {
            validation: 0.2,
            test: 0.3,
            seed: 7,
        };
        let mut counts = [0_usize; 3];
        for seed in 0..300 {
            let dataset = random(seed);
            let split = Split::new(&dataset, &config).unwrap();
            for user in 0..split.n_histories() {
                let n_events = dataset.histories[user].events.len();
                let parts = [
                    !split.train(user).is_empty(),
                    split.validation(user).is_some(),
                    split.test(user).is_some(),
                ];
                let n_parts = parts.iter().filter(|&&part| part).count();
                assert!(n_parts <= 1 && (n_parts == 1 || n_events < 2));
                for (count, part) in counts.iter_mut().zip(parts) {
                    *count += usize::from(part);
                }
            }
        }
        assert!(
            counts[0] > counts[2] && counts[2] > counts[1] && counts[1] > 0,
            "{counts:?}"
        );
    }

    #[test]
    fn a_person_s_part_does_not_depend_on_the_others() {
        let config = SplitConfig::ByUser {
            validation: 0.3,
            test: 0.3,
            seed: 7,
        };
        let dataset = random(3);
        let mut fewer = dataset.clone();
        fewer.histories.remove(0);
        let (split, of_fewer) = (
            Split::new(&dataset, &config).unwrap(),
            Split::new(&fewer, &config).unwrap(),
        );
        for user in 0..fewer.histories.len() {
            assert_eq!(of_fewer.bounds(user), split.bounds(user + 1));
        }
    }

    #[test]
    fn leave_one_out_is_what_it_was() {
        let dataset = random(11);
        let (split, old) = (
            Split::new(&dataset, &SplitConfig::LeaveOneOut).unwrap(),
            LeaveOneOut::new(&dataset),
        );
        fn plain<'a>((history, target): (EventSlice<'a>, &'a Event)) -> (&'a [Event], &'a Event) {
            (history.events(), target)
        }
        for user in 0..dataset.histories.len() {
            assert_eq!(split.train(user).events(), old.train(user));
            assert_eq!(split.validation(user).map(plain), old.validation(user));
            assert_eq!(split.test(user).map(plain), old.test(user));
        }
        assert_eq!(
            split.users().collect::<Vec<_>>(),
            old.users().collect::<Vec<_>>()
        );
        assert_eq!(split.skipped_users(), old.skipped_users());
        assert!(split.windows(3, 1).eq(old.windows(3, 1)));
    }

    #[test]
    fn leakage_is_counted_as_by_hand() {
        // Person 0 is tested at 12 on item 9, which nobody else has. Person 1, who shares item 1,
        // was trained on until 20. Person 2 shares nothing with anybody.
        let dataset = dataset(&[
            vec![(1, 10), (2, 11), (9, 12)],
            vec![(1, 5), (3, 20), (4, 30), (2, 31)],
            vec![(6, 1), (7, 2), (6, 3)],
        ]);
        let leakage = Split::new(&dataset, &SplitConfig::LeaveOneOut)
            .unwrap()
            .leakage();
        assert_eq!((leakage.test_users, leakage.test_items), (3, 3));
        // Training has items 1, 3 and 6.
        assert_eq!(leakage.new_test_items, 2.0 / 3.0);
        assert_eq!(leakage.neighbours_future, Some(1.0 / 3.0));
        assert!(leakage.to_string().contains("33.3 % of 3"), "{leakage}");
    }

    #[test]
    fn what_cannot_be_parted_is_refused() {
        let mut ranks = random(11);
        let cut = |validation, test| SplitConfig::GlobalTime { validation, test };
        for config in [
            cut(Cut::Fraction(1.0), Cut::Fraction(0.5)),
            cut(Cut::Fraction(f64::NAN), Cut::Fraction(0.5)),
            cut(Cut::Timestamp(30), Cut::Timestamp(20)),
            cut(Cut::Timestamp(-1), Cut::Timestamp(20)),
            SplitConfig::ByUser {
                validation: 0.6,
                test: 0.6,
                seed: 1,
            },
            SplitConfig::ByUser {
                validation: -0.1,
                test: 0.6,
                seed: 1,
            },
        ] {
            let error = Split::new(&ranks, &config).unwrap_err();
            assert!(matches!(error, Error::Split { .. }), "{error}");
        }
        ranks.time_is_rank = true;
        let message = Split::new(&ranks, &HALVES).unwrap_err().to_string();
        assert!(message.contains("ranks in the place of times"), "{message}");
        assert_eq!(
            Split::new(&ranks, &SplitConfig::LeaveOneOut)
                .unwrap()
                .leakage()
                .neighbours_future,
            None
        );
    }

    #[test]
    fn a_config_survives_a_file_and_has_no_other_keys() {
        let json = r#"{"kind":"global-time","validation":{"fraction":0.8},"test":{"timestamp":9}}"#;
        let config: SplitConfig = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), json);
        let other = r#"{"kind":"by-user","validation":0.1,"test":0.1,"seed":1,"sed":2}"#;
        assert!(serde_json::from_str::<SplitConfig>(other).is_err());
    }
}
