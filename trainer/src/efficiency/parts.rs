//! What a question costs part by part, and how near each part comes to what the machine can do.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use llm::LanguageModel;
use llm::generate::Decode;
use llm::ranking::{BeamConfig, ForestStep, Normalisation, ReadForest, beam_search};
use llm_fusion::{UserDecoder, UserLlm, UserReader};

use super::{Sizes, block_weights, first_token, last, longest, median, user_ms};
use crate::evaluate::K;
use crate::tasks::Tasks;
use crate::tune::shared_trunk;
use crate::{Error, Prepared, RunConfig};

/// Edge of the matrices whose product is timed.
const EDGE: usize = 1024;
/// Numbers that are read to time the memory: more than any cache holds.
const NUMBERS: usize = 64 << 20;
/// Bytes of a weight in memory.
const BYTES: f64 = 4.0;

/// What a machine does at its best, as measured.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// 10⁹ operations a second, in a product of two square matrices.
    pub gflop_per_second: f64,
    /// 10⁹ bytes a second, in a product of a matrix that no cache holds with a vector, or in its sum.
    pub gigabytes_per_second: f64,
}

impl Limits {
    /// Measure a device: the best of `runs`.
    pub fn measure(device: &Device, runs: usize) -> Self {
        let best = |mut run: Box<dyn FnMut()>| {
            let time = |_| {
                let start = Instant::now();
                run();
                start.elapsed().as_secs_f64()
            };
            // One more, which pays for fresh memory.
            (0..=runs).map(time).fold(f64::INFINITY, f64::min)
        };
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Default, device);
        let square = random([EDGE, EDGE]);
        let product = best(Box::new(move || {
            let _ = square
                .clone()
                .matmul(square.clone())
                .slice([0..1, 0..1])
                .into_data();
        }));
        let (rows, columns) = (NUMBERS / EDGE, EDGE);
        let (matrix, vector) = (random([rows, columns]), random([columns, 1]));
        let all = matrix.clone();
        let with_vector = best(Box::new(move || {
            let _ = matrix
                .clone()
                .matmul(vector.clone())
                .slice([0..1, 0..1])
                .into_data();
        }));
        let sum = best(Box::new(move || {
            let _ = all.clone().sum().into_data();
        }));
        Self {
            gflop_per_second: 2.0 * (EDGE as f64).powi(3) / product / 1e9,
            gigabytes_per_second: NUMBERS as f64 * BYTES / with_vector.min(sum) / 1e9,
        }
    }
}

/// One part of the model at work.
#[derive(Clone, Debug)]
pub struct PartCost {
    /// The part, and what it does.
    pub name: String,
    /// Arithmetic by formula, in 10⁹ operations.
    pub gflop: f64,
    /// Weights that are read, each once a step, in 10⁶ bytes.
    pub megabytes: f64,
    /// Median time, in milliseconds.
    pub ms: f64,
}

impl PartCost {
    /// Least time that the machine needs for it, as a share of the time that it took: its
    /// arithmetic or its memory, whichever takes longer.
    pub fn share(&self, limits: &Limits) -> f64 {
        let arithmetic = self.gflop / limits.gflop_per_second;
        let memory = self.megabytes / 1e3 / limits.gigabytes_per_second;
        arithmetic.max(memory) / (self.ms / 1e3)
    }
}

/// Measure the parts of one question about one person, `tokens` long, after so many `events`, and of
/// one more token of the answer. What cannot be timed alone is the difference of two times.
///
/// # Panics
///
/// Panics if there are no tokens, or the sizes are not those of the model.
pub fn parts(
    model: &UserLlm,
    sizes: &Sizes,
    prepared: &Prepared,
    events: usize,
    tokens: usize,
    runs: usize,
) -> Vec<PartCost> {
    let device = model.llm.device();
    let history = last(longest(prepared), events);
    let batch = prepared
        .batcher
        .batch(&[history.as_slice().into()], &device);
    let prompt: Vec<u32> = (0..tokens as u32).map(|at| 1 + at % 100).collect();

    let [encoder_ms, perceiver_ms] = user_ms(model, &batch, runs);
    let user = model.read_user(&batch);
    let n_user = user.embeddings.dims()[1];
    let prompt_ms = median(runs, || first_token(&model.llm, &prompt));
    let fused_ms = median(runs, || {
        let _ = UserDecoder::new(model, Some(&user))
            .push(&prompt)
            .argmax(0)
            .into_data();
    });
    let next = |decoder: &mut dyn Decode| {
        decoder.push(&prompt);
        median(runs, || {
            let _ = decoder.push(&prompt[..1]).argmax(0).into_data();
        })
    };
    let next_ms = next(&mut model.llm.decoder());
    let fused_next_ms = next(&mut UserDecoder::new(model, Some(&user)));

    let part = |name: &str, flop: f64, weights: usize, ms: f64| PartCost {
        name: name.into(),
        gflop: flop / 1e9,
        megabytes: weights as f64 * BYTES / 1e6,
        ms,
    };
    let llm_weights = sizes.language_model_weights();
    let (cross_weights, again_weights) = sizes.cross_attention_weights();
    // What a soft prompt adds is positions before the prompt; its keys and values are kept, as the
    // prompt's are.
    let (way, [flop, again_flop], [weights, again]) = match model.is_soft_prompt() {
        true => {
            let with = sizes.language_model(tokens + n_user);
            (
                "soft prompt",
                [with - sizes.language_model(tokens), 0.0],
                [0, 0],
            )
        }
        false => {
            let kept = 2.0 * ((cross_weights - again_weights) * n_user) as f64;
            let flop = [tokens, 1].map(|tokens| sizes.cross_attention(tokens, n_user));
            let weights = [cross_weights, again_weights];
            ("cross-attention", [flop[0], flop[1] - kept], weights)
        }
    };
    vec![
        part(
            "encoder",
            sizes.encoder(events),
            sizes.encoder_weights(events),
            encoder_ms,
        ),
        part(
            "Perceiver, projector",
            sizes.perceiver(events),
            sizes.perceiver_weights(),
            perceiver_ms,
        ),
        part(
            "language model, prompt",
            sizes.language_model(tokens),
            llm_weights,
            prompt_ms,
        ),
        part(
            &format!("{way}, prompt"),
            flop,
            weights,
            (fused_ms - prompt_ms).max(0.0),
        ),
        part(
            "language model, next token",
            sizes.language_model(1),
            llm_weights,
            next_ms,
        ),
        part(
            &format!("{way}, next token"),
            again_flop,
            again,
            (fused_next_ms - next_ms).max(0.0),
        ),
    ]
}

/// Measure the ten likeliest next items of one person whose user embeddings are at hand: a beam over
/// the catalogue's titles after the run's own question, above the trunk that everybody shares where
/// there is one. As the run's contender is asked, but that what was seen is not left out.
///
/// # Errors
///
/// If the run is about the encoder alone.
pub fn ranking(
    model: &UserLlm,
    sizes: &Sizes,
    prepared: &Prepared,
    config: &RunConfig,
    tasks: &Tasks,
    events: usize,
    runs: usize,
) -> Result<PartCost, Error> {
    let tuning = config.language()?.tuning;
    let task = &tasks.next_item;
    let trie = &task.answers.trie;
    let trunk = shared_trunk(model, tasks, task, tuning);
    let history = last(longest(prepared), events);
    let histories = [history.as_slice().into()];
    let user = model.read_user(&prepared.batcher.batch(&histories, &model.device()));
    let prompts = tasks.prompts(task, prepared, &histories);
    let search = BeamConfig {
        width: config.evaluation.beam_width,
        k: K,
        normalisation: tuning.normalisation,
    };
    let rank = || {
        let reader = UserReader::new(model, &user, trunk.as_ref());
        let forest = reader.forest(&prompts);
        let mut reader = Counted {
            reader,
            read: Read::default(),
        };
        beam_search(&mut reader, forest, trie, &[Vec::new()], &search);
        reader.read
    };
    let read = rank();
    let ms = median(runs, || {
        rank();
    });
    let n_layers = sizes.llm.n_layers;
    let (way, n_blocks) = match &trunk {
        Some(_) => (", shared trunk", n_layers - model.lowest_fused()),
        None => ("", n_layers),
    };
    let (gflop, megabytes) = sizes.of_ranking(&Ranking {
        read,
        n_blocks,
        n_user: user.embeddings.dims()[1],
        is_soft_prompt: model.is_soft_prompt(),
        head_rows: match search.normalisation {
            Normalisation::Trie => trie.alphabet().len(),
            Normalisation::Vocabulary => trie.alphabet().len() + sizes.llm.vocab_size,
        },
    });
    Ok(PartCost {
        name: format!("{K} of {} titles{way}", trie.n_sequences()),
        gflop,
        megabytes,
        ms,
    })
}

/// What a ranking computes.
#[derive(Clone, Copy, Debug)]
struct Ranking {
    read: Read,
    /// Blocks that tokens go through.
    n_blocks: usize,
    n_user: usize,
    is_soft_prompt: bool,
    /// Rows of the head that a state is multiplied with.
    head_rows: usize,
}

impl Sizes {
    /// 10⁹ operations, and 10⁶ bytes of weights, each read once a step.
    fn of_ranking(&self, ranking: &Ranking) -> (f64, f64) {
        let (c, n_user) = (&self.llm, ranking.n_user);
        let Read {
            steps,
            tokens,
            scored,
            pairs,
        } = ranking.read;
        let (blocks, inner) = self.cross_attention;
        let (cross_weights, query_weights) = self.cross_attention_weights();
        // Keys and values of the user, once: of cross-attention, or of all blocks of a soft prompt.
        let (user_weights, user_pairs) = match ranking.is_soft_prompt {
            true => (c.n_layers * block_weights(c), n_user * n_user),
            false => (cross_weights - query_weights, 0),
        };
        let weights = ranking.n_blocks * block_weights(c) + query_weights;
        let head = ranking.head_rows * c.d_model;
        let products = tokens * weights + scored * head + n_user * user_weights;
        let attention =
            2 * c.n_heads * c.d_head * (pairs * ranking.n_blocks + user_pairs * c.n_layers);
        let cross_attention = 2 * tokens * n_user * blocks * inner;
        let flop = 2 * (products + attention + cross_attention);
        let read = steps * (weights + head) + user_weights;
        (flop as f64 / 1e9, read as f64 * BYTES / 1e6)
    }
}

/// What a search has read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Read {
    steps: usize,
    tokens: usize,
    /// Tokens after which answers go on.
    scored: usize,
    /// Of a token and a place of its row, hidden ones too: they are computed.
    pairs: usize,
}

/// A reader, and what it has read.
struct Counted<R> {
    reader: R,
    read: Read,
}

impl<R: ReadForest> ReadForest for Counted<R> {
    fn read(&mut self, step: &ForestStep) -> Tensor<3> {
        let [batch, new, places] = step.mask_attn.dims();
        // At first the prompt, after whose last token all answers begin.
        self.read.scored += match self.read.steps {
            0 => batch,
            _ => batch * new,
        };
        self.read.steps += 1;
        self.read.tokens += batch * new;
        self.read.pairs += batch * new * places;
        self.reader.read(step)
    }

    fn model(&self) -> &LanguageModel {
        self.reader.model()
    }
}

#[cfg(test)]
mod tests {
    use llm::LanguageModelConfig;
    use llm::ranking::{CachedReader, TokenForest, TokenTrie};

    use super::*;

    #[test]
    fn the_share_is_of_the_limit_that_is_reached_first() {
        let limits = Limits {
            gflop_per_second: 100.0,
            gigabytes_per_second: 10.0,
        };
        let part = |gflop, megabytes| PartCost {
            name: "part".into(),
            gflop,
            megabytes,
            ms: 20.0,
        };
        // 1 GFLOP takes 10 ms, 50 MB take 5 ms.
        assert!((part(1.0, 50.0).share(&limits) - 0.5).abs() < 1e-12);
        // 150 MB take 15 ms.
        assert!((part(1.0, 150.0).share(&limits) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn a_ranking_costs_what_it_reads() {
        let sizes = Sizes {
            llm: LanguageModelConfig::new(97, 24, 3, 4, 2, 6, 40),
            encoder: user_encoder::UserEncoderConfig::new(Vec::new()),
            perceiver: None,
            n_recent: 1,
            d_user: 11,
            cross_attention: (2, 20),
        };
        let product =
            |rows: usize, inner: usize, columns: usize| 2.0 * (rows * inner * columns) as f64;
        let block = |tokens| product(tokens, 24, 2 * 24 + 2 * 12) + 3.0 * product(tokens, 24, 40);
        // A prompt of 4, then 3 branches: 4·4 and 3·7 places.
        let read = Read {
            steps: 2,
            tokens: 7,
            scored: 1 + 3,
            pairs: 16 + 21,
        };
        let ranking = Ranking {
            read,
            n_blocks: 2,
            n_user: 5,
            is_soft_prompt: false,
            head_rows: 13,
        };
        let self_attention = 2.0 * product(16 + 21, 24, 1);
        let cross = product(7, 24, 2 * 20) + product(5, 11, 2 * 20) + 2.0 * product(7, 20, 5);
        let flop = 2.0 * (block(7) + self_attention + cross) + product(4, 24, 13);
        let weights = 2 * (2 * 24 * 24 + 2 * 24 * 12 + 3 * 24 * 40);
        let (queries, keys) = (2 * 2 * 24 * 20, 2 * 2 * 11 * 20);
        let bytes = 4 * (2 * (weights + queries + 13 * 24) + keys);
        let (gflop, megabytes) = sizes.of_ranking(&ranking);
        assert!((gflop * 1e9 - flop).abs() < 1.0, "{gflop} {flop}");
        assert!((megabytes * 1e6 - bytes as f64).abs() < 1.0);

        // A soft prompt goes through all blocks once before.
        let soft = Ranking {
            is_soft_prompt: true,
            n_blocks: 3,
            ..ranking
        };
        let sizes = Sizes {
            cross_attention: (0, 20),
            ..sizes
        };
        let attention = |pairs| 2.0 * product(pairs, 24, 1);
        let flop = 3.0 * (block(7) + attention(37) + block(5) + attention(25)) + product(4, 24, 13);
        let (gflop, _) = sizes.of_ranking(&soft);
        assert!((gflop * 1e9 - flop).abs() < 1.0, "{gflop} {flop}");
    }

    #[test]
    fn a_search_is_counted_token_by_token() {
        let device = Device::flex();
        let model = LanguageModelConfig::new(20, 8, 1, 2, 1, 4, 8).init(&device);
        // Open are 5 and 5 6; what follows them, and 8, is decided.
        let answers = [vec![5, 6, 7], vec![5, 6, 8], vec![5, 9], vec![8, 1]];
        let trie = TokenTrie::new(&answers, 0).unwrap();
        let mut reader = Counted {
            reader: CachedReader::new(&model),
            read: Read::default(),
        };
        let search = BeamConfig {
            width: 10,
            k: 4,
            normalisation: Normalisation::Trie,
        };
        let forest = TokenForest::new(&[vec![1, 2, 3]]);
        let found = beam_search(&mut reader, forest, &trie, &[vec![]], &search);
        assert_eq!(found[0].len(), 4);
        // The prompt sees 3 places; 5 sees 4, and 5 6 sees 5.
        let expected = Read {
            steps: 3,
            tokens: 3 + 1 + 1,
            scored: 3,
            pairs: 9 + 4 + 5,
        };
        assert_eq!(reader.read, expected);
    }

    #[test]
    fn a_machine_has_limits() {
        let limits = Limits::measure(&Device::flex(), 1);
        assert!(
            limits.gflop_per_second > 0.1 && limits.gigabytes_per_second > 0.1,
            "{limits:?}"
        );
        assert!(limits.gflop_per_second.is_finite() && limits.gigabytes_per_second.is_finite());
    }
}
