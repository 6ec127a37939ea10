//! A Perceiver resampler: a sequence of any length compressed to a fixed number of latents.
//!
//! Learned latents query the sequence by cross-attention and leave it; whatever follows costs the
//! same for 50 events as for 500. The crate does not know what it compresses.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use perceiver::PerceiverResamplerConfig;
//!
//! let device = Device::flex();
//! let resampler = PerceiverResamplerConfig::new(32).with_n_latents(16).init(&device);
//! let events = Tensor::<3>::zeros([2, 50, 32], &device);
//! assert_eq!(resampler.forward(events, None).dims(), [2, 16, 32]);
//! ```

mod resampler;

pub use resampler::{PerceiverLayer, PerceiverResampler, PerceiverResamplerConfig};
