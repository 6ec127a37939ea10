//! A small batch can be learned by heart, and is answered from the heart afterwards.

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use llm::ranking::{BeamConfig, Normalisation, beam_search};
use llm_fusion::{AnswerLoss, Blocks, LoraConfig, TuningStrategy, UserLlm, UserReader};

use crate::tiny::{Tiny, step_targets, three_users, trie};

#[test]
fn three_users_learn_their_titles_under_enc_and_the_beam_finds_them() {
    let device = Device::flex().autodiff();
    let trie = trie();
    for (tiny, normalisation) in [
        (Tiny::cross_attention(Blocks::Upper(1)), Normalisation::Trie),
        (
            Tiny::cross_attention(Blocks::All).without_perceiver(),
            Normalisation::Vocabulary,
        ),
        (Tiny::soft_prompt(), Normalisation::Trie),
    ] {
        let objective = AnswerLoss {
            trie: &trie,
            normalisation,
            teacher_weight: 0.0,
        };
        let events = three_users(&device);
        let mut targets = step_targets();
        // One prompt for all, so that nothing but the user can tell the answers apart.
        targets.prompts = vec![vec![1, 2, 3]; 3];

        let model = confident(tiny.closed(&device));
        let mut model = TuningStrategy::Enc.apply(model, &Blocks::All, &LoraConfig::new());
        let mut optimizer: ModuleOptimizer = AdamWConfig::new().init();
        let mut losses = Vec::new();
        for _ in 0..150 {
            let loss = objective.forward(&model, &model.read_user(&events), &targets, None);
            losses.push(loss.clone().into_scalar::<f32>());
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(1e-2, model, gradients);
        }
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(last < 0.1 * first, "{tiny:?}: {first} -> {last}");

        let model = model.valid();
        let user = model.read_user(&three_users(&model.device()));
        let mut reader = UserReader::new(&model, &user, None);
        let forest = reader.forest(&targets.prompts);
        let config = BeamConfig {
            width: 6,
            k: 1,
            normalisation,
        };
        let answers = beam_search(&mut reader, forest, &trie, &vec![Vec::new(); 3], &config);
        let answers: Vec<Vec<usize>> = answers
            .iter()
            .map(|row| row.iter().map(|answer| answer.sequence).collect())
            .collect();
        assert_eq!(answers, targets.answers, "{tiny:?}");
    }
}

/// With a head that can be sure: the loss of a tiny random one, frozen, has a floor of a half.
fn confident(mut model: UserLlm) -> UserLlm {
    model.llm.head = model.llm.head.map(|mut head| {
        head.weight = head.weight.map(|weight| (weight * 5.0).detach());
        head
    });
    model
}
