//! Reading with users attached: for ranking (a forest of branches) and for generation.

use burn::tensor::Tensor;
use llm::LanguageModel;
use llm::generate::Decode;
use llm::ranking::{ForestStep, ReadForest, TokenForest};

use crate::trunk::Trunk;
use crate::user_llm::{FusedCache, UserEmbeddings, UserLlm};

/// A batch of users being asked.
///
/// Keys and values of the users are computed once; a soft prompt is read at the start.
pub struct UserReader<'a> {
    model: &'a UserLlm,
    user: &'a UserEmbeddings,
    trunk: Option<&'a Trunk>,
    cache: FusedCache,
}

impl<'a> UserReader<'a> {
    /// Begin with a batch of users; with a trunk, only the blocks above it are computed.
    pub fn new(model: &'a UserLlm, user: &'a UserEmbeddings, trunk: Option<&'a Trunk>) -> Self {
        let mut cache = FusedCache::new(model.llm.blocks.len());
        if model.is_soft_prompt() {
            model.read_soft_prompt(user, &mut cache);
        }
        Self {
            model,
            user,
            trunk,
            cache,
        }
    }

    /// Prompts for these users, one each, in the forest that this reader expects.
    ///
    /// # Panics
    ///
    /// Panics if the trunk was made for another prompt.
    pub fn forest(&self, prompts: &[Vec<u32>]) -> TokenForest {
        if let Some(trunk) = self.trunk {
            trunk.assert_made_for(prompts);
        }
        self.model.forest(prompts, self.user)
    }
}

impl ReadForest for UserReader<'_> {
    fn read(&mut self, step: &ForestStep) -> Tensor<3> {
        let hidden = self
            .model
            .read_step(step, self.user, self.trunk, Some(&mut self.cache));
        self.model.llm.normalise(hidden)
    }

    fn model(&self) -> &LanguageModel {
        &self.model.llm
    }
}

impl UserLlm {
    /// Prompts for a batch of users, one each, with room for a soft prompt where there is one.
    pub fn forest(&self, prompts: &[Vec<u32>], user: &UserEmbeddings) -> TokenForest {
        match self.is_soft_prompt() {
            true => TokenForest::with_prefix(prompts, user.embeddings.dims()[1], &user.lengths),
            false => TokenForest::new(prompts),
        }
    }

    /// Hidden states of a whole forest at once, for training; normalised.
    ///
    /// # Shapes
    ///
    /// - output: `[batch, new, d_model]`
    pub fn forward_forest(
        &self,
        step: &ForestStep,
        user: &UserEmbeddings,
        trunk: Option<&Trunk>,
    ) -> Tensor<3> {
        let hidden = if self.is_soft_prompt() {
            let mut cache = FusedCache::new(self.llm.blocks.len());
            self.read_soft_prompt(user, &mut cache);
            self.read_step(step, user, None, Some(&mut cache))
        } else {
            self.read_step(step, user, trunk, None)
        };
        self.llm.normalise(hidden)
    }

    fn read_soft_prompt(&self, user: &UserEmbeddings, cache: &mut FusedCache) {
        let [batch, n_soft, _] = user.embeddings.dims();
        let plan = self
            .llm
            .plan_causal(batch, n_soft, 0, user.mask_pad.clone());
        let all = 0..self.llm.blocks.len();
        self.blocks(all, user.embeddings.clone(), &plan, None, Some(cache));
    }

    fn read_step(
        &self,
        step: &ForestStep,
        user: &UserEmbeddings,
        trunk: Option<&Trunk>,
        cache: Option<&mut FusedCache>,
    ) -> Tensor<3> {
        let plan = self
            .llm
            .plan(step.positions.clone(), Some(step.mask_attn.clone()));
        let n_blocks = self.llm.blocks.len();
        match trunk {
            Some(trunk) => {
                let upper = self.lowest_fused()..n_blocks;
                self.blocks(upper, trunk.states(step), &plan, Some(user), cache)
            }
            None => {
                let hidden = self.llm.embed(step.tokens.clone());
                self.blocks(0..n_blocks, hidden, &plan, Some(user), cache)
            }
        }
    }
}

/// One user's text being generated.
pub struct UserDecoder<'a> {
    model: &'a UserLlm,
    user: Option<&'a UserEmbeddings>,
    cache: FusedCache,
    n_read: usize,
}

impl<'a> UserDecoder<'a> {
    /// Begin a text for one user, or for nobody.
    ///
    /// # Panics
    ///
    /// Panics if `user` is a batch of several, or padded.
    pub fn new(model: &'a UserLlm, user: Option<&'a UserEmbeddings>) -> Self {
        let mut cache = FusedCache::new(model.llm.blocks.len());
        let mut n_read = 0;
        if let Some(user) = user {
            let [batch, n, _] = user.embeddings.dims();
            assert!(
                batch == 1 && user.lengths == [n],
                "one user without padding at a time"
            );
            if model.is_soft_prompt() {
                model.read_soft_prompt(user, &mut cache);
                n_read = n;
            }
        }
        Self {
            model,
            user,
            cache,
            n_read,
        }
    }
}

impl Decode for UserDecoder<'_> {
    fn push(&mut self, tokens: &[u32]) -> Tensor<1> {
        let (model, llm) = (self.model, &self.model.llm);
        let last = llm.read_in_parts(tokens, |ids| {
            let [batch, n] = ids.dims();
            let plan = llm.plan_causal(batch, n, self.n_read, None);
            self.n_read += n;
            let all = 0..llm.blocks.len();
            let hidden = llm.embed(ids);
            model.blocks(all, hidden, &plan, self.user, Some(&mut self.cache))
        });
        llm.logits(last).flatten::<1>(0, 2)
    }
}
