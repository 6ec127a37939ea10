//! From texts to vectors: tokens, transformer, mean, length 1.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use tokenizers::{Tokenizer, TruncationParams};

use crate::{Bert, Error};

/// What is read of a text at most, the signs of its beginning and end included: as
/// all-MiniLM-L6-v2 was trained.
pub const MAX_TOKENS: usize = 256;

/// Texts that go through the transformer together.
const BATCH_SIZE: usize = 32;

/// Turns texts into vectors: the mean of the [`Bert`] vectors of a text's tokens, scaled to length
/// 1, so that the inner product of two is their cosine.
#[derive(Clone, Debug)]
pub struct TextEncoder {
    bert: Bert,
    tokenizer: Tokenizer,
}

impl TextEncoder {
    /// Put a transformer and its tokenizer together; [`load`](Self::load) reads both from a folder.
    /// Texts are cut at `max_tokens`.
    ///
    /// # Errors
    ///
    /// If the tokenizer cannot cut texts at so few tokens.
    pub fn new(bert: Bert, mut tokenizer: Tokenizer, max_tokens: usize) -> Result<Self, Error> {
        // A `tokenizer.json` carries the padding and truncation of some training run.
        tokenizer.with_padding(None);
        let truncation = TruncationParams {
            max_length: max_tokens,
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|source| Error::Encoding { source })?;
        Ok(Self { bert, tokenizer })
    }

    /// One vector of length 1 per text, in their order.
    ///
    /// # Shapes
    ///
    /// - output: `[texts, d_model]`
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    ///
    /// # Panics
    ///
    /// Panics if there is no text.
    pub fn encode<T: AsRef<str>>(&self, texts: &[T]) -> Result<Tensor<2>, Error> {
        assert!(!texts.is_empty(), "no text to encode");
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let encodings = self
            .tokenizer
            .encode_batch_fast(texts, true)
            .map_err(|source| Error::Encoding { source })?;
        let rows: Vec<&[u32]> = encodings
            .iter()
            .map(|encoding| encoding.get_ids())
            .collect();

        // Texts of about one length together, so that little is padding.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&text| rows[text].len());
        let batches = order.chunks(BATCH_SIZE).map(|batch| {
            let batch: Vec<&[u32]> = batch.iter().map(|&text| rows[text]).collect();
            self.encode_tokens(&batch)
        });
        let vectors = Tensor::cat(batches.collect(), 0);

        let mut places = vec![0_i64; order.len()];
        for (place, &text) in order.iter().enumerate() {
            places[text] = place as i64;
        }
        let places = TensorData::new(places, [order.len()]);
        Ok(vectors.select(0, Tensor::from_data(places, &self.device())))
    }

    /// `[rows, d_model]` of the tokens of some texts.
    fn encode_tokens(&self, rows: &[&[u32]]) -> Tensor<2> {
        let device = self.device();
        let length = rows.iter().map(|row| row.len()).max().unwrap_or(0).max(1);
        let shape = [rows.len(), length];
        let padded = |row: &&[u32]| {
            let row = row.iter().map(|&id| i64::from(id));
            row.chain(std::iter::repeat(0))
                .take(length)
                .collect::<Vec<_>>()
        };
        let tokens = TensorData::new(rows.iter().flat_map(padded).collect(), shape);
        let tokens = Tensor::<2, Int>::from_data(tokens, &device);
        let is_padding = |row: &&[u32]| {
            let n = row.len();
            (0..length).map(move |at| at >= n)
        };
        let mask_pad: Vec<bool> = rows.iter().flat_map(is_padding).collect();
        let mask_pad = Tensor::<2, Bool>::from_data(TensorData::new(mask_pad, shape), &device);

        let hidden = self.bert.forward(tokens, mask_pad.clone());
        let real = mask_pad.bool_not().float().unsqueeze_dim::<3>(2);
        // The sum, since the mean's length is lost anyway.
        let sum = (hidden * real).sum_dim(1).squeeze_dim::<2>(1);
        let length = sum.clone().square().sum_dim(1).sqrt();
        sum / length.clamp_min(1e-12)
    }

    /// Width of the vectors.
    pub fn d_model(&self) -> usize {
        self.bert.d_model()
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.bert.device()
    }
}
