//! What a run trains.

use burn::config::Config;
use burn::module::{Lora, Module, ModuleVisitor, Param, ParamGroup};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::blocks::Blocks;
use crate::user_llm::UserLlm;

/// Which parameters train (User-LLM, section 3.3).
///
/// | strategy | language model | LoRA on it | encoder | fresh parts |
/// | --- | --- | --- | --- | --- |
/// | `Full` | trains | – | trains | train |
/// | `Lora` | frozen | trains | trains | train |
/// | `Enc` | frozen | – | trains | train |
/// | `Proj` | frozen | – | frozen | train |
///
/// The fresh parts are projector, Perceiver and cross-attention: the paper's `Proj` trains
/// "projection layers" only, and cross-attention, which starts from nothing, has to be among them.
///
/// [`Full`](Self::Full) and [`Lora`](Self::Lora) may be confined to some blocks. Where none of them
/// lies below the lowest block that reads the user, what is below stays the same for all users, and
/// a [`Trunk`](crate::Trunk) serves them as it does [`Enc`](Self::Enc).
///
/// The encoder's prediction heads are no part of the fused model's path and never train here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TuningStrategy {
    /// Everything.
    Full,
    /// Low-rank adapters on the language model, the encoder, the fresh parts.
    Lora,
    /// The encoder and the fresh parts.
    Enc,
    /// The fresh parts.
    Proj,
}

/// The fresh parts.
const FRESH: &str = r"^(projector|resampler|fusion)\.";

/// Both encoders without their prediction heads.
const NEXT_EVENT: &str =
    r"^encoder\.NextEvent\.(embedding|bos|mask|positions|dropout|blocks|norm)(\.|$)";
const DUAL: &str =
    r"^encoder\.Dual\.(modalities|positions|dropout|sequences|fusion|queries|blocks|norm)(\.|$)";

/// Adapters of [`TuningStrategy::Lora`], on the weights of every block's attention.
#[derive(Config, Debug)]
pub struct LoraConfig {
    /// Rank of the adapters; 8 in the paper.
    #[config(default = 8)]
    pub rank: usize,
    /// The adapters' sum is scaled by `alpha / rank`.
    #[config(default = 16.0)]
    pub alpha: f64,
}

impl TuningStrategy {
    /// Freeze and unfreeze the model's parameters, and attach adapters where they are wanted.
    ///
    /// Of the language model, `Full` trains `blocks`, or with [`Blocks::All`] the embeddings, the
    /// final norm and the head as well; `Lora` has its adapters in `blocks`. Of a language model that
    /// reads no user, nothing but itself trains.
    ///
    /// # Panics
    ///
    /// Panics if `blocks` names no block of the language model, under any strategy.
    pub fn apply(self, model: UserLlm, blocks: &Blocks, lora: &LoraConfig) -> UserLlm {
        let n_blocks = model.llm.blocks.len();
        assert!(
            blocks.lowest(n_blocks).is_some(),
            "`tuning.blocks` names no block of a language model with {n_blocks}"
        );
        let reads_user = model.reads_user();
        let reading = |model: UserLlm, parts: &str| match reads_user {
            true => model.unfreeze_group(group(parts)),
            false => model,
        };
        let with_fresh = |model: UserLlm| reading(model, FRESH);
        let with_encoder = |model: UserLlm| reading(reading(model, NEXT_EVENT), DUAL);
        match self {
            Self::Full => {
                let language_model = match blocks {
                    Blocks::All => group(r"^llm\."),
                    _ => in_blocks(blocks, n_blocks, r"\."),
                };
                with_fresh(with_encoder(model.freeze().unfreeze_group(language_model)))
            }
            Self::Lora => {
                let attention = r"\.attention\.(query|key|value|output)\.weight$";
                let attention = in_blocks(blocks, n_blocks, attention);
                let adapters = Lora::new(lora.rank, lora.alpha).set_param_group(attention);
                // `apply_lora` freezes everything else: unfreeze after it.
                with_fresh(with_encoder(model.freeze().apply_lora(adapters)))
            }
            Self::Enc => with_fresh(with_encoder(model.freeze())),
            Self::Proj => with_fresh(model.freeze()),
        }
    }

    /// Whether the language model stays as it is.
    pub fn freezes_language_model(self) -> bool {
        matches!(self, Self::Enc | Self::Proj)
    }

    /// Whether the language model stays as it is below block `lowest`, so that a
    /// [`Trunk`](crate::Trunk) stays valid.
    pub fn freezes_below(self, lowest: usize, blocks: &Blocks, n_blocks: usize) -> bool {
        let trains_embeddings = self == Self::Full && *blocks == Blocks::All;
        let lowest_trained = blocks.lowest(n_blocks).unwrap_or(n_blocks);
        self.freezes_language_model() || !trains_embeddings && lowest_trained >= lowest
    }
}

/// Parameters of some blocks of the language model, by what follows the block's number.
fn in_blocks(blocks: &Blocks, n_blocks: usize, rest: &str) -> ParamGroup {
    let numbers = (0..n_blocks).filter(|&index| blocks.contains(index, n_blocks));
    let numbers: Vec<String> = numbers.map(|index| index.to_string()).collect();
    group(&format!(r"^llm\.blocks\.({}){rest}", numbers.join("|")))
}

fn group(pattern: &str) -> ParamGroup {
    ParamGroup::from_regex(pattern).expect("a pattern of ours")
}

/// Paths and sizes of the parameters that train, in the module's order. The two factors of an
/// adapter stand under their weight's path, `….query.weight.lora.a` and `….b`.
///
/// Asked of a model for training: on [`valid`](Module::valid) nothing does.
pub fn trained_parameters<M: Module>(model: &M) -> Vec<(String, usize)> {
    struct Trained {
        path: Vec<String>,
        found: Vec<(String, usize)>,
    }
    impl ModuleVisitor for Trained {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_string());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            // An adapter's weight comes without it, and then the two factors by themselves.
            if param.is_require_grad() {
                self.found
                    .push((self.path.join("."), param.shape().num_elements()));
            }
        }
    }
    let mut trained = Trained {
        path: Vec::new(),
        found: Vec::new(),
    };
    model.visit(&mut trained);
    trained.found
}
