use std::{
    fs::File,
    io::BufReader,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex},
};

use burn::{
    store::{bridge, burn_pack::Error as PackError},
    tensor::{DType, Device, Shape, TensorData},
};
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};

use super::{
    LoadedModel, check_sizes, check_vocabulary, every, only,
    weights::{self, FileTensor},
};
use crate::{
    ChatTemplate, Error, LanguageModelConfig, RopeScaling, RotaryEmbedding, Tokenizer,
    tokenizer::{BytePairParts, PreTokenizer, TokenKind},
};

/// Architectures whose arithmetic is this crate's.
const ARCHITECTURES: &[&str] = &["llama", "qwen2", "qwen3", "smollm3"];

/// What each rotary frequency is divided by.
const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// The scaling of Llama 3.1 to 3.3, which differ in the factor.
const LLAMA_3: RopeScaling = RopeScaling {
    factor: 1.0,
    low_freq_factor: 1.0,
    high_freq_factor: 4.0,
    original_context_length: 8192,
};

/// Blocks of SmolLM3 without positions: every fourth, which its files do not say.
const SMOLLM3_NOPE_INTERVAL: usize = 4;

/// GGUF's tensor names and ours, tried from top to bottom.
///
/// `blk.3.attn_q.weight` → `blocks.3.attention.query.weight`
const NAMES: &[(&str, &str)] = &[
    (r"^token_embd\.", "embedding."),
    (r"^output_norm\.", "norm."),
    (r"^output\.", "head."),
    (r"^blk\.", "blocks."),
    (r"\.attn_norm\.", ".attention_norm."),
    (r"\.attn_q\.", ".attention.query."),
    (r"\.attn_k\.", ".attention.key."),
    (r"\.attn_v\.", ".attention.value."),
    (r"\.attn_output\.", ".attention.output."),
    (r"\.attn_q_norm\.", ".attention.query_norm."),
    (r"\.attn_k_norm\.", ".attention.key_norm."),
    (r"\.ffn_norm\.", ".feed_forward_norm."),
    (r"\.ffn_gate\.", ".feed_forward.gate."),
    (r"\.ffn_up\.", ".feed_forward.up."),
    (r"\.ffn_down\.", ".feed_forward.down."),
];

pub(super) fn load(path: &Path, device: &Device) -> Result<LoadedModel, Error> {
    let gguf = Gguf::open(path)?;
    let config = gguf.config()?;
    let tokenizer = gguf.tokenizer()?;
    check_vocabulary(path, &config, &tokenizer)?;

    let model = weights::fill(path, &config, gguf.tensors(&config)?, NAMES, device)?;
    let name = match gguf.string("general.name") {
        Ok(name) => name.to_string(),
        Err(_) => path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    };
    Ok(LoadedModel {
        model,
        tokenizer,
        config,
        name,
        sha256: weights::sha256(&[path.into()])?,
    })
}

/// A GGUF file whose header has been read.
struct Gguf<'a> {
    path: &'a Path,
    content: Content,
    file: Arc<Mutex<File>>,
}

impl<'a> Gguf<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Io {
            path: path.into(),
            source,
        })?;
        let mut reader = BufReader::new(&file);
        // candle checks lengths, but divides by an alignment of zero.
        let content = catch_unwind(AssertUnwindSafe(|| Content::read(&mut reader)))
            .map_err(|_| "the header makes no sense".into())
            .and_then(|content| content.map_err(Into::into))
            .map_err(|source| Error::Malformed {
                path: path.into(),
                format: "GGUF",
                source,
            })?;

        Ok(Self {
            path,
            content,
            file: Arc::new(Mutex::new(file)),
        })
    }

    fn config(&self) -> Result<LanguageModelConfig, Error> {
        let architecture = self.string("general.architecture")?;
        let is_known = ARCHITECTURES.contains(&architecture);
        let known = ARCHITECTURES.join(", ");
        only(
            self.path,
            "general.architecture",
            architecture,
            &known,
            is_known,
        )?;
        let key = |name: &str| format!("{architecture}.{name}");

        let d_model = self.size(&key("embedding_length"))?;
        let n_heads = self.size(&key("attention.head_count"))?;
        let d_head = match self.optional(&key("attention.key_length")) {
            Some(_) => self.size(&key("attention.key_length"))?,
            None => d_model / n_heads.max(1),
        };
        self.refuse_what_we_lack(architecture, d_head)?;

        let n_kv_heads = key("attention.head_count_kv");
        let rope_theta = key("rope.freq_base");
        let context_length = key("context_length");
        let n_layers = self.size(&key("block_count"))?;
        let config = LanguageModelConfig {
            vocab_size: self.vocab_size()?,
            d_model,
            n_layers,
            n_heads,
            n_kv_heads: match self.optional(&n_kv_heads) {
                Some(_) => self.size(&n_kv_heads)?,
                None => n_heads,
            },
            d_head,
            d_ff: self.size(&key("feed_forward_length"))?,
            rope_theta: match self.optional(&rope_theta) {
                Some(_) => self.number(&rope_theta)?,
                None => 10_000.0,
            },
            rope_scaling: None,
            norm_epsilon: self.number(&key("attention.layer_norm_rms_epsilon"))?,
            tied_head: !self.content.tensor_infos.contains_key("output.weight"),
            qkv_bias: architecture == "qwen2",
            qk_norm: architecture == "qwen3",
            nope_layers: match architecture {
                "smollm3" => every(SMOLLM3_NOPE_INTERVAL, n_layers),
                _ => Vec::new(),
            },
            context_length: match self.optional(&context_length) {
                Some(_) => Some(self.size(&context_length)?),
                None => None,
            },
        };
        check_sizes(self.path, &config)?;
        let rope_scaling = self.rope_scaling(&config)?;
        Ok(LanguageModelConfig {
            rope_scaling,
            ..config
        })
    }

    /// Llama 3's scaling of rotary positions. The file has what it makes of every frequency, and not
    /// its figures: those are Llama 3's own if they make the same.
    fn rope_scaling(&self, config: &LanguageModelConfig) -> Result<Option<RopeScaling>, Error> {
        let Some(info) = self.content.tensor_infos.get(ROPE_DIVISORS) else {
            return Ok(None);
        };
        let start = self.content.tensor_data_offset;
        let found = read(&self.file, info, start).map_err(|source| Error::Malformed {
            path: self.path.into(),
            format: "GGUF",
            source: source.into(),
        })?;
        let factor = found.iter().copied().fold(1.0, f32::max);
        let scaling = RopeScaling {
            factor: f64::from(factor),
            ..LLAMA_3
        };
        let rope = RotaryEmbedding {
            theta: config.rope_theta,
            d_head: config.d_head,
            scaling: None,
        };
        let expected = rope.unscaled().map(|frequency| scaling.divisor(frequency));
        let is_near = |(a, b): (f64, &f32)| (a / f64::from(*b) - 1.0).abs() < 1e-3;
        let is_llama_3 = found.len() == config.d_head / 2 && expected.zip(&found).all(is_near);
        let supported = "what Llama 3's scaling makes of the rotary frequencies, or nothing";
        only(self.path, ROPE_DIVISORS, "other", supported, is_llama_3)?;
        Ok(Some(scaling))
    }

    fn refuse_what_we_lack(&self, architecture: &str, d_head: usize) -> Result<(), Error> {
        let key = |name: &str| format!("{architecture}.{name}");

        let scaling = key("rope.scaling.type");
        if self.optional(&scaling).is_some() {
            let found = self.string(&scaling)?;
            only(self.path, &scaling, found, "none", found == "none")?;
        }
        let rotated = key("rope.dimension_count");
        if self.optional(&rotated).is_some() {
            let found = self.size(&rotated)?;
            only(
                self.path,
                &rotated,
                found,
                &format!("the head width, {d_head}"),
                found == d_head,
            )?;
        }
        let experts = key("expert_count");
        if self.optional(&experts).is_some() {
            let found = self.size(&experts)?;
            only(self.path, &experts, found, "0", found == 0)?;
        }
        let window = key("attention.sliding_window");
        if self.optional(&window).is_some() {
            let found = self.size(&window)?;
            let longest = self.size(&key("context_length"))?;
            let supported = "none, or no less than the context length";
            only(self.path, &window, found, supported, found >= longest)?;
        }
        Ok(())
    }

    /// The rows of the embedding, which is what the model can look up.
    fn vocab_size(&self) -> Result<usize, Error> {
        let info = self.content.tensor_infos.get("token_embd.weight");
        let rows = info.and_then(|info| info.shape.dims().first().copied());
        rows.ok_or_else(|| self.missing("token_embd.weight"))
    }

    fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let kind = self.string("tokenizer.ggml.model")?;
        only(
            self.path,
            "tokenizer.ggml.model",
            kind,
            "gpt2 (byte-level BPE)",
            kind == "gpt2",
        )?;
        let pre_key = "tokenizer.ggml.pre";
        let pre = match self.optional(pre_key) {
            Some(_) => self.string(pre_key)?,
            None => "gpt2",
        };
        let Some(pre_tokenizer) = PreTokenizer::from_name(pre) else {
            return only(self.path, pre_key, pre, PreTokenizer::NAMES, false)
                .map(|()| unreachable!());
        };

        let kinds = match self.optional("tokenizer.ggml.token_type") {
            Some(_) => self.token_kinds()?,
            None => Vec::new(),
        };
        let parts = BytePairParts {
            tokens: self.strings("tokenizer.ggml.tokens")?,
            kinds,
            merges: self.strings("tokenizer.ggml.merges")?,
            pre_tokenizer,
            unknown: self.token("unknown")?,
            bos: self.token("bos")?,
            add_bos: matches!(
                self.optional("tokenizer.ggml.add_bos_token"),
                Some(Value::Bool(true))
            ),
        };
        let tokenizer = parts.build().map_err(|source| Error::Tokenizer {
            path: self.path.into(),
            source,
        })?;

        let mut stop = Vec::new();
        for name in ["eos", "eot", "eom"] {
            stop.extend(self.token(name)?.filter(|id| !stop.contains(id)));
        }
        let template = "tokenizer.chat_template";
        let template = match self.optional(template) {
            Some(_) => Some(ChatTemplate::new(self.string(template)?)?),
            None => None,
        };
        Ok(tokenizer.with_stop(stop).with_chat_template(template))
    }

    fn token_kinds(&self) -> Result<Vec<TokenKind>, Error> {
        let key = "tokenizer.ggml.token_type";
        self.array(key)?
            .iter()
            .map(|value| match value {
                Value::I32(3) => Ok(TokenKind::Control),
                Value::I32(4) => Ok(TokenKind::UserDefined),
                Value::I32(_) => Ok(TokenKind::Normal),
                other => Err(self.bad(key, "numbers of type i32", other)),
            })
            .collect()
    }

    fn token(&self, name: &str) -> Result<Option<u32>, Error> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match self.optional(&key) {
            None => Ok(None),
            Some(Value::U32(id)) => Ok(Some(*id)),
            Some(other) => Err(self.bad(&key, "a token id", other)),
        }
    }

    /// All tensors, each dequantised when it is read.
    fn tensors(&self, config: &LanguageModelConfig) -> Result<Vec<FileTensor>, Error> {
        // The converter of llama.cpp reorders queries and keys for its rotary kernel; that of
        // Qwen does not.
        let architecture = self.string("general.architecture")?;
        let is_interleaved = matches!(architecture, "llama" | "smollm3");
        let rotated_heads = |name: &str| match name {
            _ if !is_interleaved => None,
            _ if name.contains(".attn_q.") => Some(config.n_heads),
            _ if name.contains(".attn_k.") => Some(config.n_kv_heads),
            _ => None,
        };

        let infos = self.content.tensor_infos.iter();
        infos
            .filter(|(name, _)| *name != ROPE_DIVISORS)
            .map(|(name, info)| self.tensor(name, info, rotated_heads(name)))
            .collect()
    }

    fn tensor(
        &self,
        name: &str,
        info: &TensorInfo,
        rotated_heads: Option<usize>,
    ) -> Result<FileTensor, Error> {
        let dims = info.shape.dims().to_vec();
        let n_values = dims.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim));
        let n_values = n_values.filter(|n| *n <= isize::MAX as usize / size_of::<f32>());
        let (Some(n_values), false) = (n_values, dims.is_empty()) else {
            return Err(Error::BadValue {
                path: self.path.into(),
                key: name.into(),
                expected: "the shape of a tensor".into(),
                found: format!("{dims:?}"),
            });
        };

        let info = TensorInfo {
            ggml_dtype: info.ggml_dtype,
            shape: info.shape.clone(),
            offset: info.offset,
        };
        let start = self.content.tensor_data_offset;
        let file = Arc::clone(&self.file);
        let shape = Shape::from(dims.clone());
        Ok(bridge::deferred(
            name.to_string(),
            DType::F32,
            shape,
            None,
            move || {
                let values = read(&file, &info, start).map_err(invalid)?;
                let values = match rotated_heads {
                    Some(n_heads) => {
                        to_halves(&values, n_heads, dims[0], n_values / dims[0].max(1)).ok_or_else(
                            || invalid(format!("{} rows for {n_heads} heads", dims[0])),
                        )?
                    }
                    None => values,
                };
                Ok(TensorData::new(values, dims.clone()))
            },
        ))
    }

    fn optional(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    fn value(&self, key: &str) -> Result<&Value, Error> {
        self.optional(key).ok_or_else(|| self.missing(key))
    }

    fn string(&self, key: &str) -> Result<&str, Error> {
        let value = self.value(key)?;
        value
            .to_string()
            .map(String::as_str)
            .map_err(|_| self.bad(key, "a text", value))
    }

    fn size(&self, key: &str) -> Result<usize, Error> {
        let value = self.value(key)?;
        let size = value.to_u64().ok().and_then(|size| size.try_into().ok());
        size.ok_or_else(|| self.bad(key, "a size", value))
    }

    fn number(&self, key: &str) -> Result<f64, Error> {
        match self.value(key)? {
            Value::F32(number) => Ok(f64::from(*number)),
            Value::F64(number) => Ok(*number),
            other => Err(self.bad(key, "a number", other)),
        }
    }

    fn array(&self, key: &str) -> Result<&[Value], Error> {
        let value = self.value(key)?;
        value
            .to_vec()
            .map(Vec::as_slice)
            .map_err(|_| self.bad(key, "a list", value))
    }

    fn strings(&self, key: &str) -> Result<Vec<String>, Error> {
        let values = self.array(key)?.iter();
        values
            .map(|value| {
                value
                    .to_string()
                    .cloned()
                    .map_err(|_| self.bad(key, "a list of texts", value))
            })
            .collect()
    }

    fn missing(&self, key: &str) -> Error {
        Error::MissingKey {
            path: self.path.into(),
            key: key.into(),
        }
    }

    fn bad(&self, key: &str, expected: &str, found: &Value) -> Error {
        Error::BadValue {
            path: self.path.into(),
            key: key.into(),
            expected: expected.into(),
            found: format!("{:?}", found.value_type()),
        }
    }
}

/// The values of a tensor, dequantised.
fn read(file: &Mutex<File>, info: &TensorInfo, start: u64) -> candle_core::Result<Vec<f32>> {
    let cpu = candle_core::Device::Cpu;
    let mut file = file
        .lock()
        .map_err(|_| candle_core::Error::Msg("another reader panicked".into()))?;
    let values = info.read(&mut *file, start, &cpu)?.dequantize(&cpu)?;
    values.flatten_all()?.to_vec1()
}

fn invalid(reason: impl ToString) -> PackError {
    PackError::ValidationError(reason.to_string())
}

/// Rows of queries or keys from neighbouring pairs to the two halves that
/// [`RotaryEmbedding`](crate::RotaryEmbedding) wants: row `2i + s` of a head becomes
/// `s * d_head / 2 + i`.
///
/// `None` if the rows are not those of so many heads.
fn to_halves(rows: &[f32], n_heads: usize, n_rows: usize, width: usize) -> Option<Vec<f32>> {
    if !n_rows.is_multiple_of(2 * n_heads) {
        return None;
    }
    let n_pairs = n_rows / n_heads / 2;
    let mut halves = Vec::with_capacity(rows.len());
    for head in 0..n_heads {
        for side in 0..2 {
            for pair in 0..n_pairs {
                let row = (head * n_pairs + pair) * 2 + side;
                halves.extend_from_slice(&rows[row * width..(row + 1) * width]);
            }
        }
    }
    Some(halves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_pairs_become_halves_head_by_head() {
        // Two heads of four rows of width one; rows are numbered.
        let rows: Vec<f32> = (0..8u8).map(f32::from).collect();
        assert_eq!(
            to_halves(&rows, 2, 8, 1).unwrap(),
            [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]
        );
        // And a row stays together.
        assert_eq!(
            to_halves(&rows, 1, 4, 2).unwrap(),
            [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]
        );
        assert!(to_halves(&rows, 3, 8, 1).is_none());
    }
}
