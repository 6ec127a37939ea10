use burn::tensor::{Int, Tensor, s};

/// Tokens for which room is made at a time.
const CHUNK: usize = 256;

/// Keys and values of the tokens that a [`LanguageModel`](crate::LanguageModel) has read, so that a
/// new token costs one step and not a whole forward pass.
///
/// Made by [`LanguageModel::new_cache`](crate::LanguageModel::new_cache). A clone is cheap and
/// independent: it shares memory until one of the two is written to.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// One cache per block, in order.
    pub layers: Vec<LayerCache>,
}

impl KvCache {
    /// An empty cache for a model of `n_layers` blocks.
    pub fn new(n_layers: usize) -> Self {
        Self {
            layers: vec![LayerCache::default(); n_layers],
        }
    }

    /// Number of tokens that every block has read.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::len)
    }

    /// Whether no token has been read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forget all but the first `len` tokens, as to score several continuations of one prompt.
    ///
    /// Nothing happens if there are no more than that.
    pub fn truncate(&mut self, len: usize) {
        for layer in &mut self.layers {
            layer.len = layer.len.min(len);
        }
    }

    /// Keep these rows of the batch, in this order: `[0, 0, 0]` repeats a prompt for three beams,
    /// `[2, 0]` follows the surviving ones.
    ///
    /// # Shapes
    ///
    /// - rows: `[new_batch]`, each in `0..batch`
    pub fn select(&mut self, rows: Tensor<1, Int>) {
        for layer in &mut self.layers {
            for stored in [&mut layer.keys, &mut layer.values] {
                *stored = stored.take().map(|stored| {
                    stored
                        .slice(s![.., .., 0..layer.len])
                        .select(0, rows.clone())
                });
            }
        }
    }
}

/// Keys and values of one block, `[batch, n_kv_heads, capacity, d_head]`, of which `len` are used.
///
/// Room is made for 256 tokens at a time and new tokens are written into it, which backends that
/// own the memory alone do in place; concatenation would copy the whole cache at every token.
#[derive(Clone, Debug, Default)]
pub struct LayerCache {
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
    len: usize,
}

impl LayerCache {
    /// Number of tokens read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token has been read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Remember the keys and values of new tokens; gives those of all tokens, old ones first.
    ///
    /// # Shapes
    ///
    /// - keys, values: `[batch, n_kv_heads, new, d_head]`
    /// - output: `[batch, n_kv_heads, cached + new, d_head]` each
    pub(crate) fn append(&mut self, keys: Tensor<4>, values: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let start = self.len;
        self.len += keys.dims()[2];

        (
            write(&mut self.keys, keys, start),
            write(&mut self.values, values, start),
        )
    }
}

/// Writes `new` behind the first `start` tokens of `stored`, makes room where there is too little,
/// and gives all tokens so far.
fn write(stored: &mut Option<Tensor<4>>, new: Tensor<4>, start: usize) -> Tensor<4> {
    let [batch, n_kv_heads, n_new, d_head] = new.dims();
    let end = start + n_new;

    let room = match stored.take() {
        Some(room) if room.dims()[2] >= end => room,
        old => {
            let capacity = end.next_multiple_of(CHUNK);
            let room = Tensor::<4>::zeros(
                [batch, n_kv_heads, capacity, d_head],
                (&new.device(), new.dtype()),
            );
            match old {
                Some(old) => {
                    room.slice_assign(s![.., .., 0..start], old.slice(s![.., .., 0..start]))
                }
                None => room,
            }
        }
    };

    let room = room.slice_assign(s![.., .., start..end], new);
    stored.insert(room).clone().slice(s![.., .., 0..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// `n` tokens whose values count up from `first`, as `[1, 1, n, 1]`.
    fn tokens(first: usize, n: usize) -> Tensor<4> {
        let (first, end) = (first as i64, (first + n) as i64);
        Tensor::<1, Int>::arange(first..end, &Device::flex())
            .float()
            .reshape([1, 1, n, 1])
    }

    #[test]
    fn gives_back_all_tokens_in_order_however_they_came() {
        let mut layer = LayerCache::default();
        let mut read = 0;
        for n in [3, 1, 250, 5, 300] {
            let (keys, values) = layer.append(tokens(read, n), tokens(1000 + read, n));
            read += n;
            keys.into_data()
                .assert_eq(&tokens(0, read).into_data(), true);
            values
                .into_data()
                .assert_eq(&tokens(1000, read).into_data(), true);
        }
        assert_eq!(layer.len(), 559);
        assert_eq!(layer.keys.unwrap().dims()[2], 768);
    }

    #[test]
    fn truncation_forgets_the_end_only() {
        let mut cache = KvCache::new(1);
        cache.layers[0].append(tokens(0, 5), tokens(0, 5));
        cache.truncate(2);
        assert_eq!(cache.len(), 2);

        let (keys, _) = cache.layers[0].append(tokens(2, 1), tokens(2, 1));
        keys.into_data().assert_eq(&tokens(0, 3).into_data(), true);
    }

    #[test]
    fn a_clone_is_independent() {
        let mut cache = KvCache::new(1);
        cache.layers[0].append(tokens(0, 2), tokens(0, 2));
        let mut other = cache.clone();
        other.layers[0].append(tokens(9, 1), tokens(9, 1));

        let (keys, _) = cache.layers[0].append(tokens(2, 1), tokens(2, 1));
        keys.into_data().assert_eq(&tokens(0, 3).into_data(), true);
        assert_eq!(other.len(), 3);
    }

    #[test]
    fn selects_rows_of_the_batch() {
        let device = Device::flex();
        let mut cache = KvCache::new(1);
        let rows = Tensor::cat(vec![tokens(0, 2), tokens(10, 2)], 0);
        cache.layers[0].append(rows.clone(), rows);
        cache.select(Tensor::from_data([1, 0, 1], &device));

        let new = Tensor::zeros([3, 1, 1, 1], &device);
        let (keys, _) = cache.layers[0].append(new.clone(), new);
        let expected = [[10.0, 11.0, 0.0], [0.0, 1.0, 0.0], [10.0, 11.0, 0.0]];
        keys.reshape([3, 3])
            .into_data()
            .assert_eq(&Tensor::<2>::from_data(expected, &device).into_data(), true);
    }
}
