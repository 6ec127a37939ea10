//! Sentence encoders of the BERT family: a text becomes one vector of length 1, and texts that mean
//! alike have vectors that point alike.
//!
//! [`TextEncoder::load`] reads a folder as Hugging Face and sentence-transformers have it, such as
//! [all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2); its vectors
//! are theirs. [`Bert`] is the transformer in it, for those who need a vector for every token.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use text_encoder::TextEncoder;
//!
//! let encoder = TextEncoder::load("all-MiniLM-L6-v2".as_ref(), &Device::flex())?;
//! let vectors = encoder.encode(&["Toy Story (1995)", "A film about toys that live"])?;
//! assert_eq!(vectors.dims(), [2, 384]);
//! # Ok::<(), text_encoder::Error>(())
//! ```

mod bert;
mod error;
mod load;
mod text_encoder;

pub use bert::{Bert, BertConfig};
pub use error::Error;
pub use load::fingerprint;
pub use text_encoder::{MAX_TOKENS, TextEncoder};
