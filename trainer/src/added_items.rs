//! Items that came after training: rows of the item table from the trained items most like them.
//!
//! Nothing that was trained changes. A run folder keeps the added items in a file of its own, and
//! the tables get their rows when they are loaded, so that all models of a run know the items, and
//! taking the file away undoes it. Each row is the mean of the rows of its
//! [neighbours](Prepared::neighbours); the item head is tied to the same table, so the item can be
//! read in a history and recommended.

use std::collections::HashSet;

use burn::tensor::{Int, Tensor, TensorData};
use datasets::{GenreIndex, Item, ItemIndex};
use user_encoder::Modality;

use crate::events::words;
use crate::{Error, EventBatcher, Prepared};

/// Trained items that a new row is the mean of.
const N_NEIGHBOURS: usize = 10;

/// The item modality is the first, as a run's config has it.
pub(crate) const ITEM: usize = 0;

impl Prepared {
    /// The same with items that training did not see, behind the others. Their texts have yet to be
    /// read, if texts are.
    ///
    /// # Errors
    ///
    /// If an item has the id of another, or is like no trained item: it shares no genre and no
    /// word of its title.
    pub fn with_added_items(mut self, items: Vec<Item>) -> Result<Self, Error> {
        for (item, neighbours) in items.iter().zip(self.neighbours(&items)) {
            if neighbours.is_empty() {
                let id = item.id.clone();
                return Err(Error::AddedItem { id });
            }
        }
        let mut all = self.dataset.clone();
        all.catalogue = all.catalogue.with(items)?;
        self.batcher
            .know_added_items(&self.encoder, &self.dataset, &all)?;
        self.dataset = all;
        self.texts.clear();
        Ok(self)
    }

    /// Number of items that the run was trained with; those that were added stand behind them.
    pub fn n_trained_items(&self) -> usize {
        self.encoder.modalities[ITEM].vocab_size - EventBatcher::first_item()
    }

    /// The trained items most like each of these, the likest first, ten at most.
    ///
    /// Alike is what shares genres and words of the title, by the sum of both Jaccard indices. Of
    /// equals the one with more training events comes first, since its row has learned most; an
    /// item without any has learned nothing and is none.
    pub fn neighbours(&self, items: &[Item]) -> Vec<Vec<ItemIndex>> {
        let split = self.split();
        let trained = &self.dataset.catalogue.items[..self.n_trained_items()];
        let mut n_events = vec![0_usize; self.dataset.catalogue.len()];
        for user in 0..self.dataset.histories.len() {
            for event in split.train(user) {
                n_events[event.item as usize] += 1;
            }
        }
        let traits_of = |item: &Item| -> (HashSet<GenreIndex>, HashSet<String>) {
            let words = words(&item.title).into_iter();
            // Short ones are articles and the like.
            let words = words.filter(|word| word.chars().count() > 3);
            (item.genres.iter().copied().collect(), words.collect())
        };
        let known: Vec<_> = trained.iter().map(traits_of).collect();
        let of_one = |item: &Item| {
            let (genres, words) = traits_of(item);
            let likeness = known.iter().map(|(other_genres, other_words)| {
                jaccard(&genres, other_genres) + jaccard(&words, other_words)
            });
            let mut alike: Vec<(f32, usize, ItemIndex)> = likeness
                .zip(&n_events)
                .zip(0..)
                .map(|((likeness, &n_events), index)| (likeness, n_events, index))
                .filter(|(likeness, n_events, _)| *likeness > 0.0 && *n_events > 0)
                .collect();
            alike.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
            alike.truncate(N_NEIGHBOURS);
            alike.into_iter().map(|(_, _, index)| index).collect()
        };
        items.iter().map(of_one).collect()
    }

    /// Give the item table of a trained encoder the rows of the added items, if there are any.
    pub(crate) fn add_rows(&self, items: &mut Modality) {
        let added = &self.dataset.catalogue.items[self.n_trained_items()..];
        if added.is_empty() {
            return;
        }
        let table = items.table.weight.val();
        let row = |neighbours: Vec<ItemIndex>| {
            let ids = neighbours.iter().map(|&item| EventBatcher::item_id(item));
            let ids: Vec<i64> = ids.map(i64::from).collect();
            let ids = TensorData::new(ids, [neighbours.len()]);
            let ids = Tensor::<1, Int>::from_data(ids, &table.device());
            table.clone().select(0, ids).mean_dim(0)
        };
        let rows = self.neighbours(added).into_iter().map(row).collect();
        items.append(Tensor::cat(rows, 0));
    }
}

/// How much of both is common: from 0 to 1; 0 for nothing at all.
fn jaccard<T: Eq + std::hash::Hash>(a: &HashSet<T>, b: &HashSet<T>) -> f32 {
    let n_common = a.intersection(b).count();
    let n_all = a.len() + b.len() - n_common;
    n_common as f32 / n_all.max(1) as f32
}
