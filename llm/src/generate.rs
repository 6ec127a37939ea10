//! Text generation: one token at a time, greedy or sampled, for any model that [`Decode`]s.

use std::ops::ControlFlow;

use burn::{config::Config, tensor::Tensor};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{KvCache, LanguageModel};

/// One sequence being decoded: takes new tokens, remembers them, gives the logits after the last.
///
/// The first call brings the prompt, every later one the token that was chosen.
pub trait Decode {
    /// Read `tokens`, at least one, and give the logits of the token that follows, `[vocab_size]`.
    fn push(&mut self, tokens: &[u32]) -> Tensor<1>;
}

/// How the next token is chosen.
#[derive(Config, Debug, PartialEq)]
pub enum Sampling {
    /// The most likely token; of equals, the one with the lowest id.
    Greedy,
    /// Drawn from the likeliest tokens
    /// ([nucleus sampling](https://arxiv.org/abs/1904.09751)). The same seed gives the same text.
    TopP {
        /// Logits are divided by it: below 1 is bolder, above 1 more varied. Positive.
        temperature: f64,
        /// Only this many of the likeliest tokens take part; 0 = all.
        top_k: usize,
        /// Of these, only the likeliest whose probabilities add up to it, at least one. In `(0, 1]`.
        top_p: f64,
        /// Seed of the draws.
        seed: u64,
    },
}

/// Configuration of [`generate`].
#[derive(Config, Debug, PartialEq)]
pub struct GenerationConfig {
    /// At most so many tokens are generated.
    pub max_new_tokens: usize,
    /// How each is chosen.
    #[config(default = "Sampling::Greedy")]
    pub sampling: Sampling,
    /// Tokens that end the text. They do not become part of it.
    #[config(default = "Vec::new()")]
    pub stop: Vec<u32>,
}

/// Continue a prompt; gives the new tokens, without the prompt and without the stop token.
///
/// `on_token` is called with each new token as soon as it is chosen, to stream it, and can break
/// off; that token is still part of the answer.
///
/// # Panics
///
/// Panics if the prompt is empty, if a logit is not a number, which means that the model is broken
/// (every token would be as good as the next), or if the values of [`Sampling::TopP`] are out of
/// range.
///
/// # Example
///
/// ```
/// use std::ops::ControlFlow;
/// use burn::tensor::Device;
/// use llm::{LanguageModelConfig, generate::{GenerationConfig, generate}};
///
/// let model = LanguageModelConfig::new(100, 32, 2, 4, 2, 8, 64).init(&Device::flex());
/// let config = GenerationConfig::new(5);
/// let new = generate(&mut model.decoder(), &[1, 2, 3], &config, |_| ControlFlow::Continue(()));
/// assert_eq!(new.len(), 5);
/// ```
pub fn generate(
    decoder: &mut impl Decode,
    prompt: &[u32],
    config: &GenerationConfig,
    mut on_token: impl FnMut(u32) -> ControlFlow<()>,
) -> Vec<u32> {
    assert!(!prompt.is_empty(), "the prompt has no token to continue");

    let mut chooser = Chooser::new(&config.sampling);
    let mut generated: Vec<u32> = Vec::new();

    while generated.len() < config.max_new_tokens {
        let logits = match generated.last() {
            None => decoder.push(prompt),
            Some(&last) => decoder.push(&[last]),
        };
        let token = chooser.choose(&to_vec(logits));
        if config.stop.contains(&token) {
            break;
        }
        generated.push(token);
        if on_token(token).is_break() {
            break;
        }
    }
    generated
}

/// Logits on the host.
fn to_vec(logits: Tensor<1>) -> Vec<f32> {
    let logits = logits.into_data().convert::<f32>();
    logits
        .try_into_vec()
        .expect("the data was converted to f32")
}

/// [`Sampling`] with its random state.
enum Chooser {
    Greedy,
    TopP {
        temperature: f64,
        top_k: usize,
        top_p: f64,
        random: Box<StdRng>,
    },
}

impl Chooser {
    fn new(sampling: &Sampling) -> Self {
        match *sampling {
            Sampling::Greedy => Self::Greedy,
            Sampling::TopP {
                temperature,
                top_k,
                top_p,
                seed,
            } => {
                assert!(
                    temperature > 0.0 && temperature.is_finite(),
                    "temperature must be positive, got {temperature}",
                );
                assert!(
                    top_p > 0.0 && top_p <= 1.0,
                    "top_p must be in (0, 1], got {top_p}",
                );
                Self::TopP {
                    temperature,
                    top_k,
                    top_p,
                    random: Box::new(StdRng::seed_from_u64(seed)),
                }
            }
        }
    }

    fn choose(&mut self, logits: &[f32]) -> u32 {
        if let Some(token) = logits.iter().position(|logit| logit.is_nan()) {
            panic!("the logit of token {token} is not a number");
        }

        match self {
            Self::Greedy => {
                let best = (1..logits.len()).fold(0, |best, token| {
                    if logits[token] > logits[best] {
                        token
                    } else {
                        best
                    }
                });
                best as u32
            }
            Self::TopP {
                temperature,
                top_k,
                top_p,
                random,
            } => {
                let nucleus = nucleus(logits, *temperature, *top_k, *top_p);
                draw(&nucleus, random.random())
            }
        }
    }
}

/// The tokens that take part in the draw with their weights, likeliest first.
fn nucleus(logits: &[f32], temperature: f64, top_k: usize, top_p: f64) -> Vec<(u32, f64)> {
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit = |a: &u32, b: &u32| {
        let (logit_a, logit_b) = (logits[*a as usize], logits[*b as usize]);
        logit_b.total_cmp(&logit_a).then(a.cmp(b))
    };
    if (1..tokens.len()).contains(&top_k) {
        tokens.select_nth_unstable_by(top_k - 1, by_logit);
        tokens.truncate(top_k);
    }
    tokens.sort_unstable_by(by_logit);

    let highest = f64::from(logits[tokens[0] as usize]);
    let weight = |token: u32| ((f64::from(logits[token as usize]) - highest) / temperature).exp();
    let mut nucleus: Vec<(u32, f64)> = tokens.into_iter().map(|t| (t, weight(t))).collect();

    let enough = top_p * nucleus.iter().map(|(_, weight)| weight).sum::<f64>();
    let mut sum = 0.0;
    let size = nucleus.iter().take_while(|(_, weight)| {
        let needed = sum < enough;
        sum += weight;
        needed
    });
    let size = size.count().max(1);
    nucleus.truncate(size);
    nucleus
}

/// The token at `point`, in `[0, 1)`, of the weights laid end to end.
fn draw(nucleus: &[(u32, f64)], point: f64) -> u32 {
    let mut left = point * nucleus.iter().map(|(_, weight)| weight).sum::<f64>();
    for (token, weight) in nucleus {
        if left < *weight {
            return *token;
        }
        left -= weight;
    }
    nucleus.last().expect("a nucleus has at least one token").0
}

/// A plain sequence of a [`LanguageModel`] with its cache, made by [`LanguageModel::decoder`].
#[derive(Debug)]
pub struct CachedDecoder<'a> {
    model: &'a LanguageModel,
    cache: KvCache,
}

impl<'a> CachedDecoder<'a> {
    pub(crate) fn new(model: &'a LanguageModel) -> Self {
        Self {
            model,
            cache: model.new_cache(),
        }
    }
}

impl Decode for CachedDecoder<'_> {
    fn push(&mut self, tokens: &[u32]) -> Tensor<1> {
        let last = self.model.prefill(tokens, &mut self.cache);
        self.model.logits(last).flatten(0, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// A "model" that always gives the same logits, and remembers what it was told.
    struct Fixed {
        logits: Vec<f32>,
        told: Vec<Vec<u32>>,
    }

    impl Fixed {
        fn new(logits: &[f32]) -> Self {
            Self {
                logits: logits.to_vec(),
                told: Vec::new(),
            }
        }
    }

    impl Decode for Fixed {
        fn push(&mut self, tokens: &[u32]) -> Tensor<1> {
            self.told.push(tokens.to_vec());
            Tensor::from_data(self.logits.as_slice(), &Device::flex())
        }
    }

    fn go_on(_: u32) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn top_p(temperature: f64, top_k: usize, top_p: f64, seed: u64) -> GenerationConfig {
        GenerationConfig::new(200).with_sampling(Sampling::TopP {
            temperature,
            top_k,
            top_p,
            seed,
        })
    }

    #[test]
    fn greedy_takes_the_highest_logit_and_the_lowest_id_of_equals() {
        let mut model = Fixed::new(&[0.0, 2.0, 2.0, 1.0]);
        let config = GenerationConfig::new(3);
        assert_eq!(generate(&mut model, &[7, 8], &config, go_on), [1, 1, 1]);
        // The prompt once, then each token but the last, which nobody asked to continue.
        assert_eq!(model.told, [vec![7, 8], vec![1], vec![1]]);
    }

    #[test]
    fn stops_before_a_stop_token_and_after_a_break() {
        let mut model = Fixed::new(&[0.0, 1.0]);
        let stop = GenerationConfig::new(3).with_stop(vec![1]);
        assert!(generate(&mut model, &[0], &stop, go_on).is_empty());

        let mut streamed = Vec::new();
        let new = generate(&mut model, &[0], &GenerationConfig::new(9), |token| {
            streamed.push(token);
            if streamed.len() == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!((new, streamed), (vec![1, 1], vec![1, 1]));
    }

    #[test]
    fn nothing_is_asked_where_no_token_is_wanted() {
        let mut model = Fixed::new(&[0.0]);
        assert!(generate(&mut model, &[0], &GenerationConfig::new(0), go_on).is_empty());
        assert!(model.told.is_empty());
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens_and_another_seed_others() {
        let logits = [1.0, 1.0, 1.0, 1.0];
        let draw = |seed| {
            generate(
                &mut Fixed::new(&logits),
                &[0],
                &top_p(1.0, 0, 1.0, seed),
                go_on,
            )
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        // Probabilities 3/4 and 1/4: 150 of 200 expected, standard deviation 6.
        let mut model = Fixed::new(&[3f32.ln(), 0.0]);
        let drawn = generate(&mut model, &[0], &top_p(1.0, 0, 1.0, 3), go_on);
        let zeros = drawn.iter().filter(|token| **token == 0).count();
        assert!((125..=175).contains(&zeros), "{zeros}");
    }

    #[test]
    fn top_k_and_top_p_leave_the_likeliest() {
        // Probabilities 0.1, 0.5, 0.3, 0.1.
        let logits = [0.1f32, 0.5, 0.3, 0.1].map(f32::ln);
        let tokens = |top_k, top_p| -> Vec<u32> {
            nucleus(&logits, 1.0, top_k, top_p)
                .iter()
                .map(|(token, _)| *token)
                .collect()
        };
        assert_eq!(tokens(0, 1.0), [1, 2, 0, 3]);
        assert_eq!(tokens(3, 1.0), [1, 2, 0]);
        assert_eq!(tokens(9, 0.6), [1, 2]);
        assert_eq!(tokens(0, 1e-9), [1]);
    }

    #[test]
    fn a_low_temperature_is_greedy() {
        let mut model = Fixed::new(&[0.0, 0.1, -f32::INFINITY]);
        let drawn = generate(&mut model, &[0], &top_p(1e-3, 0, 1.0, 5), go_on);
        assert!(drawn.iter().all(|token| *token == 1));
    }

    #[test]
    #[should_panic(expected = "the logit of token 1 is not a number")]
    fn a_broken_model_is_told() {
        generate(
            &mut Fixed::new(&[0.0, f32::NAN]),
            &[0],
            &GenerationConfig::new(1),
            go_on,
        );
    }

    #[test]
    #[should_panic(expected = "temperature must be positive, got 0")]
    fn a_temperature_of_zero_is_refused() {
        generate(&mut Fixed::new(&[0.0]), &[0], &top_p(0.0, 0, 1.0, 1), go_on);
    }
}
