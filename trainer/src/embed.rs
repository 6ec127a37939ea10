//! User embeddings for other programs: a nearest-neighbour search, clusters, a model of your own.

use burn::tensor::Tensor;
use datasets::EventSlice;
use llm_fusion::UserLlm;
use user_encoder::{EventBatch, UserEncoder};

use crate::EventBatcher;

/// What the user encoder knows of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderEmbedding {
    /// What the next event is predicted from, which has read all events: the embedding of the last
    /// one; of a bidirectional encoder, of the mask that follows it. One vector.
    Last,
    /// The mean of the event embeddings: one vector.
    Mean,
    /// All event embeddings: one vector an event, oldest first.
    Events,
}

/// What the language model is given of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FusedEmbedding {
    /// What the Perceiver makes of the event embeddings: `n_latents` vectors of the encoder's width.
    Latents,
    /// The same and the `n_recent` latest events, projected to what the language model reads:
    /// `n_latents + n_recent` vectors of `d_user`; one an event where there is no Perceiver.
    UserEmbeddings,
}

/// The vectors of a batch of people.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// Width of a vector.
    pub width: usize,
    /// Each person's vectors, one behind the other: `[n_vectors × width]`.
    pub people: Vec<Vec<f32>>,
}

/// Embed the latest events of each history by the user encoder.
///
/// Someone without any event has one vector of zeros as mean, the encoder's start as last, and no
/// event embedding.
pub fn by_encoder(
    encoder: &UserEncoder,
    what: EncoderEmbedding,
    batcher: &EventBatcher,
    histories: &[EventSlice<'_>],
) -> Embedded {
    let events = latest(batcher, histories, &encoder.device());
    if what == EncoderEmbedding::Last {
        let last = encoder.last_hidden(&events).unsqueeze_dim(1);
        return Embedded::of(last, &vec![1; histories.len()]);
    }
    let embedded = Embedded::of(encoder.event_embeddings(&events), &events.lengths);
    if what == EncoderEmbedding::Events {
        return embedded;
    }
    let width = embedded.width;
    let mean = |vectors: &Vec<f32>| {
        let mut mean = vec![0.0; width];
        let n = vectors.len() / width;
        for vector in vectors.chunks(width) {
            for (sum, value) in mean.iter_mut().zip(vector) {
                *sum += value / n as f32;
            }
        }
        mean
    };
    Embedded {
        width,
        people: embedded.people.iter().map(mean).collect(),
    }
}

/// Embed the latest events of each history by a tuned model; `None` for the latents of a model
/// without a Perceiver.
///
/// # Panics
///
/// Panics if a history is empty: there is nothing to attend to.
pub fn by_user_llm(
    model: &UserLlm,
    what: FusedEmbedding,
    batcher: &EventBatcher,
    histories: &[EventSlice<'_>],
) -> Option<Embedded> {
    assert!(
        histories.iter().all(|history| !history.is_empty()),
        "a history is empty"
    );
    let events = latest(batcher, histories, &model.device());
    Some(match what {
        FusedEmbedding::Latents => {
            let latents = model.latents(&events)?;
            let [batch, n_latents, _] = latents.dims();
            Embedded::of(latents, &vec![n_latents; batch])
        }
        FusedEmbedding::UserEmbeddings => {
            let user = model.read_user(&events);
            Embedded::of(user.embeddings, &user.lengths)
        }
    })
}

fn latest(
    batcher: &EventBatcher,
    histories: &[EventSlice<'_>],
    device: &burn::tensor::Device,
) -> EventBatch {
    let latest: Vec<EventSlice<'_>> = histories
        .iter()
        .map(|&history| batcher.latest(history))
        .collect();
    batcher.batch(&latest, device)
}

impl Embedded {
    /// The first `lengths[row]` vectors of each row of `[batch, n, width]`.
    fn of(vectors: Tensor<3>, lengths: &[usize]) -> Self {
        let [_, n, width] = vectors.dims();
        let data = vectors.into_data().convert::<f32>();
        let rows = data
            .as_slice::<f32>()
            .expect("converted to f32")
            .chunks(n * width);
        Self {
            width,
            people: rows
                .zip(lengths)
                .map(|(row, length)| row[..length * width].to_vec())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;
    use burn::module::Module;
    use user_encoder::HistoryEncoder;

    #[test]
    fn every_embedding_is_read_off_the_event_embeddings_and_no_batch_changes_it() {
        let _alone = toy::alone();
        let config = toy::config(&[]);
        let prepared = toy::prepared(&config);
        let model = toy::user_llm(&prepared, &config).valid();
        let histories = &prepared.dataset.histories;
        let histories: Vec<EventSlice<'_>> = histories
            .iter()
            .map(|h| h.events.slice(..h.events.len() - 5))
            .collect();
        let HistoryEncoder::NextEvent(encoder) = &model.encoder else {
            panic!("the toy has an encoder of events");
        };
        let batcher = &prepared.batcher;
        let embed =
            |what, histories: &[EventSlice<'_>]| by_encoder(encoder, what, batcher, histories);

        let events = embed(EncoderEmbedding::Events, &histories);
        let last = embed(EncoderEmbedding::Last, &histories);
        let mean = embed(EncoderEmbedding::Mean, &histories);
        assert_eq!((events.width, last.width, mean.width), (8, 8, 8));
        for (person, history) in histories.iter().enumerate() {
            let own = &events.people[person];
            assert_eq!(own.len(), 8 * history.len().min(5));
            assert_eq!(last.people[person], own[own.len() - 8..]);
            for at in 0..8 {
                let values: Vec<f32> = own.chunks(8).map(|vector| vector[at]).collect();
                let expected = values.iter().sum::<f32>() / values.len() as f32;
                assert!((mean.people[person][at] - expected).abs() < 1e-5);
            }
            let alone = embed(EncoderEmbedding::Last, &[*history]).people.remove(0);
            assert!(
                alone
                    .iter()
                    .zip(&last.people[person])
                    .all(|(a, b)| (a - b).abs() < 1e-5)
            );
        }
        let nobody = embed(
            EncoderEmbedding::Events,
            &[EventSlice::default(), histories[0]],
        );
        assert!(nobody.people[0].is_empty());

        let fused = |what| by_user_llm(&model, what, batcher, &histories).unwrap();
        let (latents, user) = (
            fused(FusedEmbedding::Latents),
            fused(FusedEmbedding::UserEmbeddings),
        );
        assert_eq!((latents.width, user.width), (8, 10));
        assert!(latents.people.iter().all(|vectors| vectors.len() == 3 * 8));
        assert!(user.people.iter().all(|vectors| vectors.len() == 3 * 10));
        assert_ne!(latents.people[0], latents.people[1]);
    }
}
