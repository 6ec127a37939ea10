//! A dataset that is ready to be trained on.

use burn::tensor::Device;
use datasets::{Dataset, Event, LeaveOneOut};
use rand::seq::SliceRandom;
use rand::{SeedableRng, rngs::StdRng};
use user_encoder::{UserEncoder, UserEncoderConfig};

use crate::{Error, EventBatcher, RunConfig};

/// Data, batcher, and the users that are tested.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The interactions.
    pub dataset: Dataset,
    /// Makes batches of them.
    pub batcher: EventBatcher,
    /// The encoder's config, complete with the data's vocabulary sizes.
    pub encoder: UserEncoderConfig,
    /// Users that the contenders are tested on, ascending.
    pub test_users: Vec<usize>,
}

impl Prepared {
    /// Prepare a dataset for a run.
    ///
    /// # Errors
    ///
    /// If the config does not fit the data, or nobody has enough events to be tested.
    pub fn new(dataset: Dataset, config: &RunConfig) -> Result<Self, Error> {
        let mut encoder = config.encoder.clone();
        let batcher = EventBatcher::new(&dataset, &mut encoder, config.data.history_len)?;
        let split = LeaveOneOut::new(&dataset);
        let users: Vec<usize> = split.users().collect();
        let can_train = (0..dataset.histories.len()).any(|user| split.train(user).len() > 1);
        if users.is_empty() || !can_train {
            return Err(Error::value(
                "data.dataset",
                &config.data.dataset,
                "at least one user with four events: two to learn from, one to validate, one to test",
            ));
        }
        let test_users = sample(&users, config.evaluation.users, config.seed);
        Ok(Self { dataset, batcher, encoder, test_users })
    }

    /// The leave-one-out split.
    pub fn split(&self) -> LeaveOneOut<'_> {
        LeaveOneOut::new(&self.dataset)
    }

    /// A fresh encoder of this run.
    pub fn new_encoder(&self, device: &Device) -> UserEncoder {
        self.encoder.init(device)
    }

    /// The genre that most events of a history have; of equals, the one that came up last.
    /// `None` if no event has a genre.
    pub fn favourite_genre(&self, history: &[Event]) -> Option<usize> {
        let n_genres = self.dataset.catalogue.genres.len();
        let mut counts = vec![(0_usize, 0_usize); n_genres];
        for (at, event) in history.iter().enumerate() {
            for &genre in &self.dataset.catalogue.items[event.item as usize].genres {
                let (count, last) = &mut counts[usize::from(genre)];
                *count += 1;
                *last = at;
            }
        }
        let best = (0..n_genres).max_by_key(|&genre| (counts[genre], std::cmp::Reverse(genre)))?;
        (counts[best].0 > 0).then_some(best)
    }
}

/// `n` of `users`, drawn by a seed, ascending; all of them if `n` is 0 or too large.
pub(crate) fn sample(users: &[usize], n: usize, seed: u64) -> Vec<usize> {
    let mut users = users.to_vec();
    if n > 0 && n < users.len() {
        users.shuffle(&mut StdRng::seed_from_u64(seed));
        users.truncate(n);
        users.sort_unstable();
    }
    users
}
