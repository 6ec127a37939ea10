//! The contenders, on the same users and the same protocol.

use burn::tensor::Device;
use datasets::{Event, EventSlice, ItemIndex, SplitConfig};
use llm::LanguageModel;
use llm::ranking::{BeamConfig, CachedReader, Normalisation, ReadForest, TokenForest, beam_search};
use llm_fusion::UserLlm;
use serde::{Deserialize, Serialize};
use user_encoder::{DualEncoder, UserEncoder};

use crate::metrics::{Figure, mrr, ndcg_at, rank, recall_at};
use crate::ranking::{RankingConfig, left_out, rank_read, rank_targets, value_logits};
use crate::recommend::top;
use crate::tasks::Tasks;
use crate::tune::{Trunks, guess_genres, rank_titles};
use crate::{Error, Monitor, Prepared, RunConfig};

/// Items that a contender recommends to each user.
pub const K: usize = 10;

/// Name of the file of [`Ranks`] in a run's folder.
pub const RANKS: &str = "ranks.json";

/// What one contender answered, user by user in the order of [`Prepared::test_users`].
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The contender's name.
    pub name: String,
    /// Items, best first.
    pub recommended: Vec<Vec<usize>>,
    /// Rank of the true next item among all candidates, where the contender scores every one of
    /// them; `None` where it lists the best only.
    pub ranks: Option<Vec<usize>>,
    /// Favourite genres; `None` where the contender does not answer that question.
    pub genres: Option<Vec<usize>>,
}

/// One row of the contenders' table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The contender's name.
    pub name: String,
    /// Recall@1 of the next item.
    pub recall_1: Figure,
    /// Recall@5.
    pub recall_5: Figure,
    /// Recall@10.
    pub recall_10: Figure,
    /// NDCG@10.
    pub ndcg_10: Figure,
    /// Reciprocal rank within the first 10.
    pub mrr_10: Figure,
    /// Reciprocal rank among all candidates, where the contender ranks all.
    pub mrr: Option<Figure>,
    /// Accuracy on the favourite genre.
    pub genre: Option<Figure>,
}

/// How the contenders did with each person: what a paired test needs, and no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranks {
    /// Places of the test users in the dataset, ascending; ids are not kept.
    pub users: Vec<usize>,
    /// Each contender, in the order of the table.
    pub contenders: Vec<ContenderRanks>,
}

/// Ranks of one contender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContenderRanks {
    /// The contender's name.
    pub name: String,
    /// The true next item's rank for each of the users, from 1; `None` where it is not in the list.
    pub ranks: Vec<Option<usize>>,
    /// Whether the favourite genre was right, for each of the users; `None` for people without one.
    /// Empty where the contender was not asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub genres: Vec<Option<bool>>,
}

impl Ranks {
    /// Gather what the contenders answered.
    pub fn new(prepared: &Prepared, answered: &[Answered]) -> Self {
        let questions = Questions::new(prepared);
        let ranks = |answered: &Answered| ContenderRanks {
            name: answered.name.clone(),
            ranks: questions.ranks(answered),
            genres: questions.genre_hits(answered),
        };
        Self {
            users: prepared.test_users.clone(),
            contenders: answered.iter().map(ranks).collect(),
        }
    }
}

/// The test questions: what each user's history is, and what was right.
struct Questions<'a> {
    histories: Vec<EventSlice<'a>>,
    targets: Vec<usize>,
    genres: Vec<Option<usize>>,
}

impl<'a> Questions<'a> {
    fn new(prepared: &'a Prepared) -> Self {
        let split = prepared.split();
        let (histories, targets): (Vec<EventSlice<'_>>, Vec<usize>) = prepared
            .test_users
            .iter()
            .map(|&user| split.test(user).expect("test users have a test event"))
            .map(|(history, target)| (history, target.item as usize))
            .unzip();
        let genres = histories
            .iter()
            .map(|&history| prepared.favourite_genre(&prepared.batcher.latest(history)))
            .collect();
        Self {
            histories,
            targets,
            genres,
        }
    }

    /// Rank of each right answer; `None` where it is not in a contender's list.
    fn ranks(&self, answered: &Answered) -> Vec<Option<usize>> {
        match &answered.ranks {
            Some(ranks) => ranks.iter().copied().map(Some).collect(),
            None => {
                let lists = answered.recommended.iter().zip(&self.targets);
                let rank = |(items, target): (&Vec<usize>, &usize)| {
                    Some(items.iter().position(|item| item == target)? + 1)
                };
                lists.map(rank).collect()
            }
        }
    }

    /// Whether a contender's genres are right; `None` for people without a favourite, empty where it
    /// was not asked.
    fn genre_hits(&self, answered: &Answered) -> Vec<Option<bool>> {
        let genres = answered.genres.iter().flatten().zip(&self.genres);
        let hit = |(genre, truth): (&usize, &Option<usize>)| truth.map(|truth| *genre == truth);
        genres.map(hit).collect()
    }

    fn excluded(&self, config: &RunConfig) -> Vec<Vec<usize>> {
        let exclude_seen = config.evaluation.exclude_seen;
        let questions = self.histories.iter().zip(&self.targets);
        questions
            .map(|(history, &target)| left_out(history, target as ItemIndex, exclude_seen))
            .collect()
    }
}

/// What every figure of a table has in common, in one line.
pub fn protocol(prepared: &Prepared, config: &RunConfig) -> String {
    let dataset = &prepared.dataset;
    let all = prepared.split().users().count();
    let core = match dataset.min_interactions {
        0 => String::new(),
        n => format!(" (people and items with at least {n} interactions)"),
    };
    let long = match dataset.min_history {
        0 => String::new(),
        n => format!(" (people with at least {n} interactions)"),
    };
    let split = split(prepared, config);
    format!(
        "{}{core}{long}, {split}, all {} items are candidates, seen items {}, \
         {} of {all} users, none of whose genres were taught, history of the last {} events, seed {}; genre: the most \
         frequent in that history; 95 % intervals over users",
        dataset.name,
        dataset.catalogue.len(),
        if config.evaluation.exclude_seen {
            "left out (but never the target)"
        } else {
            "kept"
        },
        prepared.test_users.len(),
        config.data.history_len,
        config.seed,
    )
}

/// What is tested of whom.
pub(crate) fn split(prepared: &Prepared, config: &RunConfig) -> String {
    let split = prepared.split();
    match config.data.split {
        SplitConfig::LeaveOneOut => "leave-one-out (last event is the test)".to_string(),
        SplitConfig::GlobalTime { .. } => format!("{split} (the first event after it)"),
        SplitConfig::ByUser { .. } => format!("{split} (their last event)"),
    }
}

/// A contender's row.
pub fn score(prepared: &Prepared, answered: &Answered) -> Row {
    let questions = Questions::new(prepared);
    let ranks = questions.ranks(answered);
    let figure = |metric: &dyn Fn(Option<usize>) -> f64| {
        Figure::of(&ranks.iter().map(|&rank| metric(rank)).collect::<Vec<_>>())
    };
    let hits = questions.genre_hits(answered).into_iter().flatten();
    let hits: Vec<f64> = hits.map(|is_right| f64::from(u8::from(is_right))).collect();
    let genre = (!hits.is_empty()).then(|| Figure::of(&hits));
    Row {
        name: answered.name.clone(),
        recall_1: figure(&|rank| recall_at(rank, 1)),
        recall_5: figure(&|rank| recall_at(rank, 5)),
        recall_10: figure(&|rank| recall_at(rank, K)),
        ndcg_10: figure(&|rank| ndcg_at(rank, K)),
        mrr_10: figure(&|rank| mrr(rank.filter(|&rank| rank <= K))),
        mrr: answered.ranks.as_ref().map(|_| figure(&mrr)),
        genre,
    }
}

/// The items that most training events have; the genre that most people like best.
pub fn popularity(prepared: &Prepared, config: &RunConfig) -> Answered {
    let split = prepared.split();
    let mut counts = vec![0.0_f32; prepared.dataset.catalogue.len()];
    let mut genres = vec![0_usize; prepared.dataset.catalogue.genres.len()];
    for user in 0..prepared.dataset.histories.len() {
        let train = split.train(user);
        for event in train {
            counts[event.item as usize] += 1.0;
        }
        // Like every other contender's, its answer comes from people who are not asked.
        if prepared.test_users.binary_search(&user).is_err()
            && let Some(genre) = prepared.favourite_genre(&prepared.batcher.latest(train))
        {
            genres[genre] += 1;
        }
    }
    let questions = Questions::new(prepared);
    let (recommended, ranks) = questions
        .excluded(config)
        .iter()
        .zip(&questions.targets)
        .map(|(excluded, &target)| (top(&counts, excluded, K), rank(&counts, target, excluded)))
        .unzip();
    let favourite = (0..genres.len()).max_by_key(|&genre| genres[genre]);
    let favourite = favourite.filter(|&genre| genres[genre] > 0);
    Answered {
        name: "popularity, majority genre".into(),
        recommended,
        ranks: Some(ranks),
        genres: favourite.map(|genre| vec![genre; questions.targets.len()]),
    }
}

/// The encoder's own item head; the genre that its genre head expects next, if that was trained.
pub fn encoder(
    prepared: &Prepared,
    config: &RunConfig,
    encoder: &UserEncoder,
    device: &Device,
) -> Answered {
    let genre_head = config
        .encoder
        .modalities
        .iter()
        .position(|modality| modality.name == "genres" && modality.weight > 0.0);
    // Both heads from one reading of a history.
    let read = |histories: &[EventSlice<'_>]| {
        let hidden = encoder.last_hidden(&prepared.latest(histories, device));
        let logits = |head| value_logits(encoder.head_logits(hidden.clone(), head));
        let genres = genre_head.map(|head| {
            let best = logits(head).argmax(1).into_data();
            best.iter::<i64>().map(|genre| genre as usize).collect()
        });
        (logits(0), genres)
    };
    let how = RankingConfig::of_run(config, K);
    let (ranking, genres) = rank_read(&test_questions(prepared), how, read);
    let genres: Option<Vec<Vec<usize>>> = genres.into_iter().collect();
    Answered {
        name: "user encoder, its own heads".into(),
        recommended: ranking.best,
        ranks: Some(ranking.ranks),
        genres: genres.map(|batches| batches.concat()),
    }
}

/// The similarities of the dual encoder.
pub fn dual_encoder(
    prepared: &Prepared,
    config: &RunConfig,
    encoder: &DualEncoder,
    device: &Device,
) -> Answered {
    let how = RankingConfig::of_run(config, K);
    let ranking = rank_targets(prepared, encoder, &test_questions(prepared), how, device);
    Answered {
        name: "dual encoder, its similarities".into(),
        recommended: ranking.best,
        ranks: Some(ranking.ranks),
        genres: None,
    }
}

/// The test users' histories and what came next.
fn test_questions(prepared: &Prepared) -> Vec<(EventSlice<'_>, &Event)> {
    let split = prepared.split();
    let users = prepared.test_users.iter();
    users.filter_map(|&user| split.test(user)).collect()
}

/// The language model that reads the history as text.
pub fn text_prompt(
    prepared: &Prepared,
    config: &RunConfig,
    model: &LanguageModel,
    tasks: &Tasks,
    monitor: &mut dyn Monitor,
) -> Answered {
    let n_events = config.evaluation.text_events;
    let catalogue = &prepared.dataset.catalogue;
    let histories = Questions::new(prepared).histories.into_iter();
    let texts = histories.map(|history| tasks.history_tokens(catalogue, &history, n_events));
    let texts: Vec<Vec<u32>> = texts.collect();
    let name = format!("text prompt, last {n_events} events, zero-shot");
    after_texts(name, &texts, prepared, config, model, tasks, monitor)
}

/// The language model that summarises the history first and reads its own summary then, however
/// much it is asked; `None` if `prompts.summary` does not say how.
///
/// # Errors
///
/// If a summary cannot be decoded or encoded.
pub fn text_summary(
    prepared: &Prepared,
    config: &RunConfig,
    model: &LanguageModel,
    tasks: &Tasks,
    monitor: &mut dyn Monitor,
) -> Result<Option<Answered>, Error> {
    let n_events = config.evaluation.text_events;
    let name = format!("own text summary of the last {n_events} events, zero-shot");
    let mut texts = Vec::new();
    monitor.begin(&format!("{name}: summaries"), 0, prepared.test_users.len());
    for history in Questions::new(prepared).histories {
        let Some(text) = tasks.summary_tokens(model, prepared, &history, n_events)? else {
            return Ok(None);
        };
        texts.push(text);
        monitor.step(texts.len(), &[]);
    }
    monitor.end("done");
    let answered = after_texts(name, &texts, prepared, config, model, tasks, monitor);
    Ok(Some(answered))
}

/// What the language model answers after a text about each test user.
fn after_texts(
    name: String,
    texts: &[Vec<u32>],
    prepared: &Prepared,
    config: &RunConfig,
    model: &LanguageModel,
    tasks: &Tasks,
    monitor: &mut dyn Monitor,
) -> Answered {
    let excluded = Questions::new(prepared).excluded(config);

    // Prompts of like length together: padding is paid for.
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&at| texts[at].len());
    let mut recommended = vec![Vec::new(); texts.len()];
    let mut genres = vec![0; texts.len()];
    monitor.begin(&name, 0, texts.len());
    let mut done = 0;
    for batch in order.chunks(config.evaluation.batch_size) {
        let prompts: Vec<Vec<u32>> = batch.iter().map(|&at| texts[at].clone()).collect();
        let mut forest = TokenForest::new(&prompts);
        let mut reader = CachedReader::new(model);
        reader.read(&forest.take(&model.device()));

        let question = |tokens: &[u32]| {
            let mut forest = forest.clone();
            forest.extend_prompts(tokens);
            forest
        };
        let seen: Vec<Vec<usize>> = batch.iter().map(|&at| excluded[at].clone()).collect();
        let search = BeamConfig {
            width: config.evaluation.beam_width,
            k: K,
            normalisation: Normalisation::Trie,
        };
        let trie = &tasks.next_item.answers.trie;
        let titles = beam_search(
            &mut reader.clone(),
            question(&tasks.next_item.question),
            trie,
            &seen,
            &search,
        );
        for (&at, titles) in batch.iter().zip(titles) {
            recommended[at] = titles.into_iter().map(|answer| answer.sequence).collect();
        }
        if let Some(task) = &tasks.favourite_genre {
            let trie = &task.answers.trie;
            let search = BeamConfig {
                width: trie.n_sequences(),
                k: 1,
                ..search
            };
            let nothing = vec![Vec::new(); batch.len()];
            let forest = question(&task.question);
            let liked = beam_search(&mut reader, forest, trie, &nothing, &search);
            for (&at, liked) in batch.iter().zip(liked) {
                genres[at] = liked.first().map_or(0, |answer| answer.sequence);
            }
        }
        done += batch.len();
        monitor.step(done, &[]);
    }
    monitor.end("done");
    Answered {
        name,
        recommended,
        ranks: None,
        genres: tasks.favourite_genre.is_some().then_some(genres),
    }
}

/// A tuned language model, which reads user embeddings, a text, or both.
///
/// # Errors
///
/// If the run is about the encoder alone.
pub fn user_llm(
    prepared: &Prepared,
    config: &RunConfig,
    model: &UserLlm,
    tasks: &Tasks,
    monitor: &mut dyn Monitor,
) -> Result<Answered, Error> {
    let questions = Questions::new(prepared);
    let language = config.language()?;
    let name = language.contender();
    let trunks = Trunks::new(model, tasks, language.tuning);
    let mut recommended = Vec::new();
    let mut genres = Vec::new();
    monitor.begin(&name, 0, questions.histories.len());
    let excluded = questions.excluded(config);
    let n = config.evaluation.batch_size;
    for (histories, excluded) in questions.histories.chunks(n).zip(excluded.chunks(n)) {
        recommended.extend(rank_titles(
            model, tasks, prepared, config, &trunks, histories, excluded,
        ));
        let guessed = guess_genres(model, tasks, prepared, &trunks, histories);
        let guessed = guessed.into_iter().flatten();
        genres.extend(guessed.map(|answers| answers.first().copied().unwrap_or(0)));
        monitor.step(recommended.len(), &[]);
    }
    monitor.end("done");
    Ok(Answered {
        name,
        recommended,
        ranks: None,
        genres: tasks.favourite_genre.is_some().then_some(genres),
    })
}
