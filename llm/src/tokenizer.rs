//! Text to tokens and back: a tokenizer with what else belongs to a model's text.

use std::path::Path;

use tokenizers::{
    AddedToken, SplitDelimiterBehavior,
    decoders::byte_level::ByteLevel as ByteLevelDecoder,
    models::bpe::{BPE, Vocab},
    normalizers::unicode::NFC,
    pre_tokenizers::{
        PreTokenizerWrapper,
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
    processors::template::TemplateProcessing,
};

use crate::{ChatTemplate, Error, Message, error::Source};

/// Turns text into the tokens of one model and back.
///
/// A [`tokenizers::Tokenizer`] with what else belongs to a model's text: where it begins and ends,
/// and how a conversation is written. [`load`](crate::load::load) brings it with the model.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<u32>,
    stop: Vec<u32>,
    chat_template: Option<ChatTemplate>,
}

impl Tokenizer {
    /// Wrap a tokenizer of which nothing is known but its vocabulary, without a chat template and
    /// tokens to begin and end with.
    pub fn new(mut inner: tokenizers::Tokenizer) -> Result<Self, Error> {
        // A `tokenizer.json` may still carry the padding and truncation of some training run,
        // which would change texts behind our back.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|source| Error::Encoding { source })?;

        Ok(Self {
            inner,
            bos: None,
            stop: Vec::new(),
            chat_template: None,
        })
    }

    /// Read a `tokenizer.json` file.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            path: path.into(),
            source,
        })?;
        let inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|source| Error::Tokenizer {
                path: path.into(),
                source,
            })?;
        Self::new(inner)
    }

    /// Set the token that texts begin with.
    pub fn with_bos(mut self, bos: Option<u32>) -> Self {
        self.bos = bos;
        self
    }

    /// Set the tokens that end a text, the usual one first.
    pub fn with_stop(mut self, stop: Vec<u32>) -> Self {
        self.stop = stop;
        self
    }

    /// Set how a conversation is written.
    pub fn with_chat_template(mut self, chat_template: Option<ChatTemplate>) -> Self {
        self.chat_template = chat_template;
        self
    }

    /// The tokens of a text, after the beginning-of-text token if the model was trained to have
    /// one there (Llama 3 was, SmolLM2 and Qwen2 were not).
    ///
    /// Names of special tokens in the text, such as `<|im_end|>`, become those tokens: a text that
    /// somebody else wrote can speak for the system.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode_with(text, true)
    }

    /// The tokens of a text and nothing else: for what continues another text, and for what
    /// [`chat`](Self::chat) wrote, since templates write the beginning themselves.
    pub fn encode_bare(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode_with(text, false)
    }

    fn encode_with(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Error> {
        let encoding = self.inner.encode_fast(text, add_special_tokens);
        let encoding = encoding.map_err(|source| Error::Encoding { source })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens, without special tokens. Bytes that are no text become `U+FFFD`.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, Error> {
        self.inner
            .decode(tokens, true)
            .map_err(|source| Error::Encoding { source })
    }

    /// Write a conversation as the model was trained to read it, to be encoded by
    /// [`encode_bare`](Self::encode_bare); with `add_generation_prompt`, up to where its answer
    /// begins.
    pub fn chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        let template = self.chat_template.as_ref().ok_or(Error::NoChatTemplate)?;
        let name = |token: Option<u32>| token.and_then(|token| self.token(token));
        let bos = name(self.bos()).unwrap_or_default();
        let eos = name(self.eos()).unwrap_or_default();
        template.render(messages, add_generation_prompt, &bos, &eos)
    }

    /// The token that texts begin with, whether or not [`encode`](Self::encode) adds it.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.stop.first().copied()
    }

    /// All tokens that end a text; some models have one for a turn and one for the whole.
    pub fn stop(&self) -> &[u32] {
        &self.stop
    }

    /// Number of tokens, special ones included. A model's own can be larger, padded to a round
    /// number.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The name of a token in the vocabulary, where bytes are written as letters of their own.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token by its name in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// How a conversation is written, if the model was trained to have one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// The wrapped tokenizer.
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }
}

/// How a text is cut before the pairs of its bytes are merged, by the names that llama.cpp gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreTokenizer {
    /// GPT-2: words with the blank before them, numbers, other signs, blanks.
    Gpt2,
    /// SmolLM: as GPT-2, each digit by itself.
    SmolLm,
    /// Llama 3: without regard to case, three digits at most, line ends apart.
    Llama3,
    /// Qwen2: as Llama 3, each digit by itself, text in Unicode's composed form.
    Qwen2,
}

impl PreTokenizer {
    /// Names in `tokenizer.ggml.pre` that are supported.
    pub const NAMES: &'static str = "gpt2 (gpt-2), smollm, llama-bpe (llama3), qwen2";

    /// The one of a name in `tokenizer.ggml.pre`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "gpt2" | "gpt-2" => Some(Self::Gpt2),
            "smollm" => Some(Self::SmolLm),
            "llama-bpe" | "llama3" | "llama-v3" => Some(Self::Llama3),
            "qwen2" => Some(Self::Qwen2),
            _ => None,
        }
    }

    fn build(self) -> Result<PreTokenizerWrapper, Source> {
        let words = ByteLevel::new(false, true, true);
        let bytes = ByteLevel::new(false, true, false);
        let split = |digits: &str| {
            let pattern = format!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            );
            let pattern = SplitPattern::Regex(pattern);
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        };

        Ok(match self {
            Self::Gpt2 => words.into(),
            Self::SmolLm => Sequence::new(vec![Digits::new(true).into(), words.into()]).into(),
            Self::Llama3 => Sequence::new(vec![split(r"\p{N}{1,3}")?.into(), bytes.into()]).into(),
            Self::Qwen2 => Sequence::new(vec![split(r"\p{N}")?.into(), bytes.into()]).into(),
        })
    }
}

/// A byte-level BPE tokenizer in the parts that a GGUF file has.
#[derive(Clone, Debug)]
pub struct BytePairParts {
    /// Token names by id, bytes written as letters in GPT-2's way.
    pub tokens: Vec<String>,
    /// What each token is; empty = all [`TokenKind::Normal`].
    pub kinds: Vec<TokenKind>,
    /// Pairs of tokens to merge, first things first, each as `left right`.
    pub merges: Vec<String>,
    /// How text is cut before.
    pub pre_tokenizer: PreTokenizer,
    /// Stands for a byte that the vocabulary lacks; without one, such a byte vanishes.
    pub unknown: Option<u32>,
    /// Token that texts begin with.
    pub bos: Option<u32>,
    /// Whether it is put before every text.
    pub add_bos: bool,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal,
    /// A sign for the model, which is no text: `<|im_start|>`.
    Control,
    /// A text that is never cut.
    UserDefined,
}

impl BytePairParts {
    /// Put the parts together.
    pub fn build(self) -> Result<Tokenizer, Source> {
        let name = |id: u32| -> Result<String, Source> {
            let name = self.tokens.get(id as usize).cloned();
            name.ok_or_else(|| {
                format!(
                    "token {id} of a vocabulary of {} is asked for",
                    self.tokens.len()
                )
                .into()
            })
        };

        let vocab: Vocab = (0..)
            .zip(&self.tokens)
            .map(|(id, token)| (token.clone(), id))
            .collect();
        if vocab.len() < self.tokens.len() {
            return Err(format!(
                "{} of {} tokens have the name of another",
                self.tokens.len() - vocab.len(),
                self.tokens.len(),
            )
            .into());
        }
        let merges = self.merges.iter().map(|merge| {
            let (left, right) = merge
                .split_once(' ')
                .ok_or_else(|| format!("the merge `{merge}` is not a pair of tokens"))?;
            Ok((left.to_string(), right.to_string()))
        });
        let merges = merges.collect::<Result<Vec<_>, Source>>()?;

        let mut model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            // Llama 3 has whole words that no row of merges leads to.
            .ignore_merges(self.pre_tokenizer == PreTokenizer::Llama3);
        if let Some(unknown) = self.unknown {
            model = model.unk_token(name(unknown)?);
        }

        let mut inner = tokenizers::Tokenizer::new(model.build()?);
        inner.with_pre_tokenizer(Some(self.pre_tokenizer.build()?));
        inner.with_decoder(Some(ByteLevelDecoder::default()));
        if self.pre_tokenizer == PreTokenizer::Qwen2 {
            inner.with_normalizer(Some(NFC))?;
        }

        let of_kind = |kind: TokenKind| {
            let tokens = self.tokens.iter().zip(&self.kinds);
            tokens
                .filter(move |(_, found)| **found == kind)
                .map(move |(token, _)| {
                    AddedToken::from(token.clone(), kind == TokenKind::Control).normalized(false)
                })
        };
        inner.add_special_tokens(of_kind(TokenKind::Control))?;
        inner.add_tokens(of_kind(TokenKind::UserDefined))?;

        if let Some(bos) = self.bos.filter(|_| self.add_bos) {
            let bos_name = name(bos)?;
            let single = vec![bos_name.clone(), "$A".to_string()];
            let template = TemplateProcessing::builder()
                .try_single(single)?
                .special_tokens(vec![(bos_name, bos)])
                .build()?;
            inner.with_post_processor(Some(template));
        }

        Ok(Tokenizer::new(inner)?.with_bos(self.bos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary of a few letters, three merges and the special tokens `<s>` and `<u>`.
    fn parts() -> BytePairParts {
        let tokens = [
            "<u>", "<s>", "a", "b", "1", "2", "Ġ", "ab", "Ġab", "12", "<kept>",
        ];
        let mut kinds = vec![TokenKind::Normal; tokens.len()];
        kinds[0] = TokenKind::Control;
        kinds[1] = TokenKind::Control;
        kinds[10] = TokenKind::UserDefined;
        BytePairParts {
            tokens: tokens.map(String::from).to_vec(),
            kinds,
            merges: ["a b", "Ġ ab", "1 2"].map(String::from).to_vec(),
            pre_tokenizer: PreTokenizer::Gpt2,
            unknown: Some(0),
            bos: Some(1),
            add_bos: false,
        }
    }

    #[test]
    fn merges_pairs_and_knows_special_tokens_in_text() {
        let tokenizer = parts().build().unwrap();
        assert_eq!(tokenizer.encode("ab ab a").unwrap(), [7, 8, 6, 2]);
        assert_eq!(tokenizer.encode("ab<s>ab<kept>").unwrap(), [7, 1, 7, 10]);
        assert_eq!(tokenizer.decode(&[7, 1, 8, 10]).unwrap(), "ab ab<kept>");
    }

    #[test]
    fn a_byte_that_the_vocabulary_lacks_is_unknown_and_no_panic() {
        let tokenizer = parts().build().unwrap();
        assert_eq!(tokenizer.encode("ac").unwrap(), [2, 0]);
        assert_eq!(tokenizer.encode("日").unwrap(), [0, 0, 0]);

        let without = BytePairParts {
            unknown: None,
            ..parts()
        };
        assert_eq!(without.build().unwrap().encode("ac").unwrap(), [2]);
    }

    #[test]
    fn begins_with_the_token_that_the_model_wants_but_not_in_the_middle() {
        let with_bos = BytePairParts {
            add_bos: true,
            ..parts()
        };
        let tokenizer = with_bos.build().unwrap();
        assert_eq!(tokenizer.encode("ab").unwrap(), [1, 7]);
        assert_eq!(tokenizer.encode_bare("ab").unwrap(), [7]);
        assert_eq!(tokenizer.bos(), Some(1));
    }

    #[test]
    fn pre_tokenizers_cut_digits_as_their_models_do() {
        let encode = |pre_tokenizer| {
            let parts = BytePairParts {
                pre_tokenizer,
                ..parts()
            };
            parts.build().unwrap().encode("1212").unwrap()
        };
        assert_eq!(encode(PreTokenizer::Gpt2), [9, 9]);
        assert_eq!(encode(PreTokenizer::SmolLm), [4, 5, 4, 5]);
        assert_eq!(encode(PreTokenizer::Llama3), [9, 4, 5]);
        assert_eq!(encode(PreTokenizer::Qwen2), [4, 5, 4, 5]);
    }

    #[test]
    fn malformed_parts_are_errors() {
        let no_pair = BytePairParts {
            merges: vec!["ab".into()],
            ..parts()
        };
        let stranger = BytePairParts {
            merges: vec!["a z".into()],
            ..parts()
        };
        let twice = BytePairParts {
            tokens: vec!["a".into(), "a".into()],
            ..parts()
        };
        let beyond = BytePairParts {
            unknown: Some(99),
            ..parts()
        };
        for parts in [no_pair, stranger, twice, beyond] {
            assert!(parts.build().is_err());
        }
    }
}
