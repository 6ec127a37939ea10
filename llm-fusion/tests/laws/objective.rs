//! The loss, by hand and by other routes.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use llm::ranking::{Normalisation, TokenTrie};
use llm_fusion::{AnswerLoss, AnswerTargets, Blocks, UserLlm};

use crate::tiny::{END, Tiny, floats, histories, prompts, three_users, titles, tokens, trie};

const NORMALISATIONS: [Normalisation; 2] = [Normalisation::Trie, Normalisation::Vocabulary];
const ROWS: [&[i64]; 3] = [&[2, 3, 4, 5], &[6], &[7, 8]];

fn loss(
    model: &UserLlm,
    normalisation: Normalisation,
    teacher_weight: f32,
    answers: [Vec<usize>; 3],
    teacher: Vec<Vec<f32>>,
) -> f32 {
    let trie = trie();
    let objective = AnswerLoss {
        trie: &trie,
        normalisation,
        teacher_weight,
    };
    let targets = AnswerTargets {
        prompts: prompts(),
        answers: answers.to_vec(),
        teacher,
    };
    let user = model.read_user(&three_users(&model.device()));
    objective
        .forward(model, &user, &targets, None)
        .into_scalar()
}

fn hard(model: &UserLlm, normalisation: Normalisation, answers: [usize; 3]) -> f32 {
    loss(
        model,
        normalisation,
        0.0,
        answers.map(|answer| vec![answer]),
        Vec::new(),
    )
}

fn assert_close(a: f32, b: f32) {
    assert!((a - b).abs() < 1e-4, "{a} is not {b}");
}

#[test]
fn a_model_that_knows_nothing_pays_ln_n_for_a_choice_among_n() {
    struct Zero;
    impl ModuleMapper for Zero {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.zeros_like())
        }
    }
    let device = Device::flex();
    let model = Tiny::cross_attention(Blocks::All)
        .open(&device)
        .map(&mut Zero);
    let user = model.read_user(&histories(&[&[2, 3]], 2, &device));
    // "5" ends or goes on with 6; "8" stands alone.
    let trie = TokenTrie::new(&[vec![5], vec![5, 6], vec![8, 9]], END).unwrap();
    let read = |normalisation, answer, teacher: &[f32], teacher_weight| -> f32 {
        let objective = AnswerLoss {
            trie: &trie,
            normalisation,
            teacher_weight,
        };
        let targets = AnswerTargets {
            prompts: vec![vec![1, 2]],
            answers: vec![vec![answer]],
            teacher: vec![teacher.to_vec()],
        };
        objective
            .forward(&model, &user, &targets, None)
            .into_scalar()
    };
    let ln = f32::ln;
    let nobody = [0.0; 3];
    // Two choices among two; one choice among two.
    assert_close(read(Normalisation::Trie, 0, &nobody, 0.0), 2.0 * ln(2.0));
    assert_close(read(Normalisation::Trie, 2, &nobody, 0.0), ln(2.0));
    // Three tokens of a vocabulary of 23, the end among them; two tokens.
    assert_close(
        read(Normalisation::Vocabulary, 2, &nobody, 0.0),
        3.0 * ln(23.0),
    );
    assert_close(
        read(Normalisation::Vocabulary, 0, &nobody, 0.0),
        2.0 * ln(23.0),
    );
    // A teacher moves probability between tokens that are alike.
    assert_close(
        read(Normalisation::Trie, 0, &[0.2, 0.5, 0.3], 0.4),
        2.0 * ln(2.0),
    );
}

/// Log-probability of the next token after a text for one user: over the vocabulary, or over what
/// may follow.
fn next(model: &UserLlm, row: usize, text: &[u32], token: u32, among: Option<&[u32]>) -> f64 {
    let device = model.device();
    let user = model.read_user(&histories(&[ROWS[row]], ROWS[row].len(), &device));
    let logits = model.forward(tokens(&[text], &device), None, Some(&user));
    let logits = floats(logits.slice([0..1, text.len() - 1..text.len()]));
    let exp = |token: u32| f64::from(logits[token as usize]).exp();
    let all: Vec<u32> = (0..logits.len() as u32).collect();
    (exp(token) / among.unwrap_or(&all).iter().copied().map(exp).sum::<f64>()).ln()
}

#[test]
fn the_loss_is_the_mean_likelihood_of_the_answers_by_plain_passes() {
    let device = Device::flex();
    let answers = [2, 0, 3];
    for tiny in Tiny::all() {
        let model = tiny.open(&device);
        let (mut over_vocabulary, mut over_trie) = (0.0, 0.0);
        for (row, answer) in answers.into_iter().enumerate() {
            let mut text = prompts()[row].clone();
            let n_prompt = text.len();
            for token in titles()[answer].iter().copied().chain([END]) {
                let mut among: Vec<u32> = titles()
                    .into_iter()
                    .map(|title| [title, vec![END]].concat())
                    .filter(|title| title.starts_with(&text[n_prompt..]))
                    .map(|title| title[text.len() - n_prompt])
                    .collect();
                among.sort_unstable();
                among.dedup();
                over_vocabulary -= next(&model, row, &text, token, None) / 3.0;
                over_trie -= next(&model, row, &text, token, Some(&among)) / 3.0;
                text.push(token);
            }
        }
        assert_close(hard(&model, Normalisation::Trie, answers), over_trie as f32);
        assert_close(
            hard(&model, Normalisation::Vocabulary, answers),
            over_vocabulary as f32,
        );
    }
}

#[test]
fn several_answers_cost_the_mean_of_each_alone() {
    let model = Tiny::cross_attention(Blocks::Upper(1)).open(&Device::flex());
    for normalisation in NORMALISATIONS {
        let both = [vec![2, 4, 0], vec![1, 5, 1], vec![3, 0, 4]];
        let together = loss(&model, normalisation, 0.0, both.clone(), Vec::new());
        let alone: f32 = (0..3)
            .map(|n| hard(&model, normalisation, [both[0][n], both[1][n], both[2][n]]))
            .sum();
        assert_close(together, alone / 3.0);
    }
}

#[test]
fn a_teacher_who_is_certain_teaches_as_the_answer_does() {
    let model = Tiny::cross_attention(Blocks::Upper(1)).open(&Device::flex());
    let answers = [2, 0, 4];
    let certain = answers
        .map(|answer| (0..6).map(|n| f32::from(n == answer)).collect())
        .to_vec();
    for normalisation in NORMALISATIONS {
        let expected = hard(&model, normalisation, answers);
        for weight in [1.0, 0.3] {
            let answers = answers.map(|answer| vec![answer]);
            assert_close(
                loss(&model, normalisation, weight, answers, certain.clone()),
                expected,
            );
        }
    }
}

#[test]
fn a_teacher_is_mixed_in_at_every_choice_by_its_share() {
    let model = Tiny::cross_attention(Blocks::Upper(1)).open(&Device::flex());
    // In the order of `titles`: "8 10 11", "5", "5 6 7", "12", "5 6", "8 9".
    let teacher = [0.1, 0.05, 0.2, 0.3, 0.15, 0.2];
    // Answer "5 6" passes the root, "5" and "5 6".
    let by_hand = |weight: f64| -> f64 {
        let text = |tail: &[u32]| [prompts()[1].as_slice(), tail].concat();
        let at = |tail: &[u32], among: &[u32], own: u32, shares: &[f64]| -> f64 {
            let total: f64 = shares.iter().sum();
            among
                .iter()
                .zip(shares)
                .map(|(&token, share)| {
                    let own = if token == own { 1.0 } else { 0.0 };
                    let target = (1.0 - weight) * own + weight * share / total;
                    -target * next(&model, 1, &text(tail), token, Some(among))
                })
                .sum()
        };
        at(&[], &[5, 8, 12], 5, &[0.4, 0.3, 0.3])
            + at(&[5], &[0, 6], 6, &[0.05, 0.35])
            + at(&[5, 6], &[0, 7], 0, &[0.15, 0.2])
    };
    let trie = trie();
    let user = model.read_user(&histories(&[ROWS[1]], 1, &model.device()));
    for weight in [0.0, 0.25, 1.0] {
        let objective = AnswerLoss {
            trie: &trie,
            normalisation: Normalisation::Trie,
            teacher_weight: weight,
        };
        let targets = AnswerTargets {
            prompts: vec![prompts()[1].clone()],
            answers: vec![vec![4]],
            teacher: vec![teacher.to_vec()],
        };
        let loss: f32 = objective
            .forward(&model, &user, &targets, None)
            .into_scalar();
        assert_close(loss, by_hand(f64::from(weight)) as f32);
    }
}

#[test]
fn a_teacher_who_knows_nothing_of_a_branch_leaves_it_to_the_answer() {
    let model = Tiny::cross_attention(Blocks::Upper(1)).open(&Device::flex());
    // All on "12", nothing on what begins with 5 or 8.
    let teacher = vec![vec![0.0, 0.0, 0.0, 1.0, 0.0, 0.0]; 3];
    for normalisation in NORMALISATIONS {
        let answers = [vec![2], vec![0], vec![3]];
        let loss = loss(&model, normalisation, 0.7, answers, teacher.clone());
        assert!(loss.is_finite() && loss > 0.0, "{loss}");
    }
}

#[test]
#[should_panic(expected = "row 1 has no answer to learn")]
fn a_row_without_an_answer_is_refused() {
    let model = Tiny::soft_prompt().open(&Device::flex());
    loss(
        &model,
        Normalisation::Trie,
        0.0,
        [vec![1], vec![], vec![2]],
        Vec::new(),
    );
}
