//! Tuning: the fused model learns to answer with the user attached.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ParamGroup};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use datasets::{Event, EventSlice, Split, Window};
use llm::LanguageModel;
use llm::ranking::{BeamConfig, Normalisation, Ranked, beam_search};
use llm_fusion::{AnswerLoss, AnswerTargets, TextTargets, Trunk, UserLlm, UserReader};
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::{SeedableRng, rngs::StdRng};
use user_encoder::HistoryEncoder;

use crate::data_parallel::{DataParallel, even_parts};
use crate::prepared::sample;
use crate::pretrain::item_scores;
use crate::ranking::left_out;
use crate::review_writing::ReviewWriting;
use crate::tasks::{Task, Tasks};
use crate::train::{LIKELIHOOD, NDCG, Objective, Outcome, Session, Stage, backward, mix, train};
use crate::windows::Windows;
use crate::{Error, Prepared, RunConfig, TuningConfig};

/// Tune a fused model by the run's strategy.
///
/// `model` is on a device with autodiff. Its encoder is also the teacher: as it is before tuning,
/// it scores every item of the catalogue for every history.
///
/// # Errors
///
/// As [`train`](crate::train()); if one of `tuning.devices` is not there; or if the run is about the
/// encoder alone.
pub fn tune(
    mut model: UserLlm,
    tasks: &Tasks,
    prepared: &Prepared,
    config: &RunConfig,
    session: Session<'_>,
) -> Result<(UserLlm, Outcome), Error> {
    let tuning = config.language()?.tuning;
    let device = model.device();
    device.seed(config.seed);
    let teacher = model.encoder.valid();
    if !tuning.encoder_dropout {
        model.encoder = model.encoder.without_dropout();
    }
    let model = tuning.apply(model);
    let mut objective = Answering::new(&model, teacher, tasks, prepared, config, tuning)?;
    let mut training = tuning.training.clone();
    if !objective.replicated[0].trunks.are_shared() {
        training.steps = tuning.whole_model_steps;
    }
    let stage = Stage {
        name: "tuning",
        config: training,
        rates: rates(tuning),
        seed: config.seed,
    };
    let (model, outcome) = train(model, &mut objective, &device, &stage, session)?;
    Ok((model.valid(), outcome))
}

/// Learning rates by group.
fn rates(tuning: &TuningConfig) -> Vec<(ParamGroup, f64)> {
    let group =
        |pattern: &str| ParamGroup::from_regex(pattern).expect("the patterns are constants");
    vec![
        (group(r"^encoder\."), tuning.encoder_rate),
        (group(r"^fusion\.\d+\.gate$"), tuning.gate_rate),
    ]
}

/// How both tasks are read: the shared states, where there are any to share, and over what a
/// token's probability is normalised.
pub(crate) struct Trunks {
    pub(crate) next_item: Option<Trunk>,
    pub(crate) favourite_genre: Option<Trunk>,
    normalisation: Normalisation,
}

impl Trunks {
    /// Compute them, where there are any.
    pub(crate) fn new(model: &UserLlm, tasks: &Tasks, tuning: &TuningConfig) -> Self {
        Self {
            next_item: shared_trunk(model, tasks, &tasks.next_item, tuning),
            favourite_genre: tasks
                .favourite_genre
                .as_ref()
                .and_then(|task| shared_trunk(model, tasks, task, tuning)),
            normalisation: tuning.normalisation,
        }
    }

    fn are_shared(&self) -> bool {
        self.next_item.is_some()
    }

    fn to_device(&self, device: &Device) -> Self {
        let moved = |trunk: &Option<Trunk>| trunk.as_ref().map(|trunk| trunk.to_device(device));
        Self {
            next_item: moved(&self.next_item),
            favourite_genre: moved(&self.favourite_genre),
            normalisation: self.normalisation,
        }
    }
}

/// What all users have in common under a question: there is such a thing if something lies below the
/// lowest fused block, tuning leaves it alone, the prompt says nothing of a person, and only open
/// nodes are asked for.
pub(crate) fn shared_trunk(
    model: &UserLlm,
    tasks: &Tasks,
    task: &Task,
    tuning: &TuningConfig,
) -> Option<Trunk> {
    let (lowest, n_blocks) = (model.lowest_fused(), model.llm.blocks.len());
    let is_shared = lowest > 0
        && tuning
            .strategy
            .freezes_below(lowest, &tuning.blocks, n_blocks)
        && tasks.are_alike()
        && tuning.normalisation == Normalisation::Trie;
    is_shared.then(|| model.trunk(&task.prompt, &task.answers.trie))
}

/// What a step teaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lesson {
    NextItem,
    FavouriteGenre,
    Review,
}

/// The tuning objective: next items, favourite genres and reviews, in turns.
struct Answering<'a> {
    prepared: &'a Prepared,
    split: Split<'a>,
    config: &'a RunConfig,
    tuning: &'a TuningConfig,
    tasks: &'a Tasks,
    parallel: DataParallel,
    replicated: Vec<Replicated>,
    teacher: HistoryEncoder,
    device: Device,
    windows: Windows,
    genre_windows: Windows,
    teaches_genres: bool,
    reviews: Option<Reviews<'a>>,
    validation_users: Vec<usize>,
}

/// What each device keeps from step to step, for its part of a batch.
struct Replicated {
    trunks: Trunks,
    /// The language model, where it is on another device than the model, and frozen.
    llm: Option<LanguageModel>,
}

/// Reviews that are taught.
struct Reviews<'a> {
    task: &'a ReviewWriting,
    share: f64,
    windows: Windows,
    /// What was written at the ends of the windows, by user and event.
    texts: HashMap<(usize, usize), String>,
    /// What was written at the validation events, by user, if nothing but reviews is taught.
    validation: BTreeMap<usize, String>,
}

impl<'a> Reviews<'a> {
    /// Every window of training after which its person wrote something.
    fn new(
        prepared: &Prepared,
        config: &RunConfig,
        task: &'a ReviewWriting,
    ) -> Result<Self, Error> {
        let split = prepared.split();
        let share = config.review.as_ref().map_or(0.0, |review| review.share);
        let mut validation = BTreeMap::new();
        // Where next items are taught, too, these are what is validated.
        for user in split.validation_users().filter(|_| share >= 1.0) {
            if let Some((history, _)) = split.validation(user)
                && let Some(text) = task.written(user, history.len())?
            {
                validation.insert(user, text);
            }
        }
        let mut texts = HashMap::new();
        let mut windows = Vec::new();
        for window in split.windows(config.data.history_len, 1) {
            if let Some(text) = task.written(window.user, window.end)? {
                texts.insert((window.user, window.end), text);
                windows.push(window);
            }
        }
        Ok(Self {
            task,
            share: match windows.is_empty() {
                true => 0.0,
                false => share,
            },
            windows: Windows::given(windows, config.seed),
            texts,
            validation,
        })
    }

    /// Whether nothing else is taught, and they can be validated.
    fn are_all(&self) -> bool {
        self.share >= 1.0 && !self.validation.is_empty()
    }
}

impl<'a> Answering<'a> {
    fn new(
        model: &UserLlm,
        teacher: HistoryEncoder,
        tasks: &'a Tasks,
        prepared: &'a Prepared,
        config: &'a RunConfig,
        tuning: &'a TuningConfig,
    ) -> Result<Self, Error> {
        let split = prepared.split();
        let (length, stride) = (config.data.history_len, config.data.stride.max(1));
        // Windows of one person overlap, and so do their favourite genres: people whose genre is
        // tested have none of theirs taught.
        let is_taught = |window: &Window| {
            let history = split.train(window.user).slice(window.start..window.end);
            prepared.test_users.binary_search(&window.user).is_err()
                && prepared.favourite_genre(&history).is_some()
        };
        let genre_windows: Vec<Window> = split.windows(length, stride).filter(is_taught).collect();
        if genre_windows.is_empty() && tuning.genre_share > 0.0 {
            tracing::warn!("everybody is tested: no favourite genre is left to be taught");
        }
        let reviews = tasks.reviews.as_deref();
        let reviews = reviews.map(|task| Reviews::new(prepared, config, task));
        let reviews = reviews.transpose()?;
        let users: Vec<usize> = match &reviews {
            Some(reviews) if reviews.are_all() => reviews.validation.keys().copied().collect(),
            _ => split.validation_users().collect(),
        };
        let own = model.device();
        let parallel = DataParallel::new(&own, tuning.workers, "tuning.devices", &tuning.devices)?;
        let trunks = Trunks::new(model, tasks, tuning);
        let replicated = parallel.devices().iter().map(|device| {
            let device = device.clone().without_autodiff();
            let is_elsewhere = device != own.clone().without_autodiff();
            let is_kept = is_elsewhere && tuning.strategy.freezes_language_model();
            Replicated {
                trunks: trunks.to_device(&device),
                llm: is_kept.then(|| model.llm.valid().to_device(&device)),
            }
        });
        Ok(Self {
            prepared,
            split,
            config,
            tuning,
            tasks,
            reviews,
            replicated: replicated.collect(),
            parallel,
            teacher,
            device: own,
            windows: Windows::sliding(&split, length, stride, config.seed),
            teaches_genres: !genre_windows.is_empty(),
            genre_windows: Windows::given(genre_windows, config.seed),
            validation_users: sample(&users, tuning.training.validation_users, config.seed),
        })
    }

    /// What a step teaches: everything is spread evenly, at the configured shares.
    fn lesson(&self, step: usize) -> Lesson {
        let passes =
            |n: usize, share: f64| ((n + 1) as f64 * share).floor() > (n as f64 * share).floor();
        let genres = match self.teaches_genres {
            true => self.tuning.genre_share,
            false => 0.0,
        };
        let reviews = self.reviews.as_ref().map_or(0.0, |reviews| reviews.share);
        let others = genres + reviews;
        if !passes(step, others) {
            return Lesson::NextItem;
        }
        // The steps that do not teach next items, counted by themselves.
        let n = (step as f64 * others).floor() as usize;
        match passes(n, genres / others) {
            true => Lesson::FavouriteGenre,
            false => Lesson::Review,
        }
    }

    /// What a step teaches, and whom.
    fn rows(&mut self, step: usize) -> (Lesson, Vec<Row<'a>>) {
        let lesson = self.lesson(step);
        let rows = match lesson {
            Lesson::NextItem => self.next_items(step),
            Lesson::FavouriteGenre => self.favourite_genres(step),
            Lesson::Review => self.reviews(step),
        };
        (lesson, rows)
    }

    fn next_items(&mut self, step: usize) -> Vec<Row<'a>> {
        let split = self.split;
        let windows = self.windows.batch(step, self.tuning.training.batch_size);
        let histories: Vec<EventSlice<'a>> = windows
            .iter()
            .map(|window| split.train(window.user).slice(window.start..window.end))
            .collect();
        let teacher = if self.tuning.teacher_weight > 0.0 {
            let plain = self.device.clone().without_autodiff();
            let scores = item_scores(self.prepared, &self.teacher, &histories, &plain);
            scores.into_iter().map(Some).collect()
        } else {
            vec![None; histories.len()]
        };
        let answers: Vec<Vec<usize>> = match self.tuning.teacher_answers {
            0 => {
                let following = |window: &Window| {
                    let events = split.train(window.user);
                    let following = events[window.end..].iter().take(self.tuning.answers);
                    following.map(|event| event.item as usize).collect()
                };
                windows.iter().map(following).collect()
            }
            n => {
                let mut random = StdRng::seed_from_u64(mix(self.config.seed, step as u64));
                let drawn = |scores: &Vec<f32>| {
                    let weighted = WeightedIndex::new(scores).expect("probabilities");
                    weighted.sample_iter(&mut random).take(n).collect()
                };
                teacher.iter().flatten().map(drawn).collect()
            }
        };
        let task = &self.tasks.next_item;
        let prompts = self.tasks.prompts(task, self.prepared, &histories);
        let answers = answers.into_iter().zip(teacher);
        let rows = histories.into_iter().zip(prompts).zip(answers);
        rows.map(|((history, prompt), (items, teacher))| Row {
            history,
            prompt,
            answer: Answer::Among(items, teacher),
        })
        .collect()
    }

    fn favourite_genres(&mut self, step: usize) -> Vec<Row<'a>> {
        let split = self.split;
        let windows = self
            .genre_windows
            .batch(step, self.tuning.training.batch_size);
        let (histories, genres): (Vec<EventSlice<'a>>, Vec<usize>) = windows
            .iter()
            .map(|window| split.train(window.user).slice(window.start..window.end))
            .filter_map(|history| Some((history, self.prepared.favourite_genre(&history)?)))
            .unzip();
        let prompts = self
            .tasks
            .prompts(self.genre_task(), self.prepared, &histories);
        let rows = histories.into_iter().zip(prompts).zip(genres);
        rows.map(|((history, prompt), genre)| Row {
            history,
            prompt,
            answer: Answer::Among(vec![genre], None),
        })
        .collect()
    }

    fn genre_task(&self) -> &'a Task {
        let task = self.tasks.favourite_genre.as_ref();
        task.expect("windows with a genre are of a catalogue with genres")
    }

    fn reviews(&mut self, step: usize) -> Vec<Row<'a>> {
        let batch_size = self.tuning.training.batch_size;
        let reviews = self.reviews.as_mut().expect("reviews are taught");
        let windows = reviews.windows.batch(step, batch_size);
        let reviews = self.reviews.as_ref().expect("reviews are taught");
        let row = |Window { user, start, end }: Window| {
            let events = self.split.train(user);
            let (history, event) = (events.slice(start..end), &events.events()[end]);
            let text = &reviews.texts[&(user, end)];
            self.review(reviews.task, (user, start), history, event, text)
        };
        windows.into_iter().map(row).collect()
    }

    /// A person's review of an event, after a history whose first event is `start`.
    fn review(
        &self,
        task: &ReviewWriting,
        (user, start): (usize, usize),
        history: EventSlice<'a>,
        event: &Event,
        text: &str,
    ) -> Row<'a> {
        let prompt = task.prompt(self.tasks, self.prepared, (user, start), &history, event);
        Row {
            history,
            prompt: prompt.expect("files of texts that could be read when tuning began"),
            answer: Answer::Text(task.answer(text)),
        }
    }

    /// The mean loss of some rows, over users or over a text's tokens.
    fn loss_of(
        &self,
        model: &UserLlm,
        lesson: Lesson,
        rows: Vec<Row<'_>>,
        trunks: &Trunks,
    ) -> Tensor<1> {
        let histories: Vec<EventSlice<'_>> = rows.iter().map(|row| row.history).collect();
        let user = model.read_user(&self.prepared.batcher.batch(&histories, &model.device()));
        let (mut targets, mut texts) = (AnswerTargets::default(), Vec::new());
        for row in rows {
            targets.prompts.push(row.prompt);
            match row.answer {
                Answer::Among(answers, teacher) => {
                    targets.answers.push(answers);
                    targets.teacher.extend(teacher);
                }
                Answer::Text(text) => texts.push(text),
            }
        }
        let (task, trunk) = match lesson {
            Lesson::NextItem => (&self.tasks.next_item, &trunks.next_item),
            Lesson::FavouriteGenre => (self.genre_task(), &trunks.favourite_genre),
            Lesson::Review => {
                let prompts = &targets.prompts;
                let texts = &texts;
                return TextTargets { prompts, texts }.loss(model, &user);
            }
        };
        AnswerLoss {
            trie: &task.answers.trie,
            normalisation: self.tuning.normalisation,
            teacher_weight: self.tuning.teacher_weight,
        }
        .forward(model, &user, &targets, trunk.as_ref())
    }

    /// Mean NDCG@10 of the validation events.
    fn ndcg_of_next_items(&self, model: &UserLlm) -> f64 {
        let split = self.split;
        let trunks = Trunks::new(model, self.tasks, self.tuning);
        let mut sum = 0.0;
        for users in self
            .validation_users
            .chunks(self.config.evaluation.batch_size)
        {
            let parts: Vec<(EventSlice<'_>, &Event)> = users
                .iter()
                .filter_map(|&user| split.validation(user))
                .collect();
            let histories: Vec<EventSlice<'_>> =
                parts.iter().map(|(history, _)| *history).collect();
            let exclude_seen = self.config.evaluation.exclude_seen;
            let excluded: Vec<Vec<usize>> = parts
                .iter()
                .map(|(history, target)| left_out(history, target.item, exclude_seen))
                .collect();
            let ranked = rank_titles(
                model,
                self.tasks,
                self.prepared,
                self.config,
                &trunks,
                &histories,
                &excluded,
            );
            for ((_, target), ranked) in parts.iter().zip(ranked) {
                let at = ranked.iter().position(|&item| item == target.item as usize);
                sum += crate::metrics::ndcg_at(at.map(|at| at + 1), 10);
            }
        }
        sum / self.validation_users.len() as f64
    }

    /// How likely a token of what people wrote at their validation events is: the geometric mean.
    fn likelihood_of_reviews(&self, model: &UserLlm, reviews: &Reviews<'_>) -> f64 {
        let (mut sum, mut n) = (0.0, 0);
        for users in self
            .validation_users
            .chunks(self.tuning.training.batch_size)
        {
            let row = |&user: &usize| {
                let (history, event) = self.split.validation(user)?;
                let start = history.len().saturating_sub(self.config.data.history_len);
                let history = history.slice(start..history.len());
                let text = &reviews.validation[&user];
                Some(self.review(reviews.task, (user, start), history, event, text))
            };
            let rows: Vec<Row<'_>> = users.iter().filter_map(row).collect();
            let n_tokens: usize = rows.iter().map(Row::n_taught).sum();
            let loss = self.loss_of(model, Lesson::Review, rows, &self.replicated[0].trunks);
            sum += f64::from(loss.into_scalar::<f32>()) * n_tokens as f64;
            n += n_tokens;
        }
        (-sum / n as f64).exp()
    }
}

/// One of a step's users, and what they are asked and taught.
struct Row<'a> {
    history: EventSlice<'a>,
    prompt: Vec<u32>,
    answer: Answer,
}

enum Answer {
    /// Of those that exist, with a teacher's probabilities of all of them.
    Among(Vec<usize>, Option<Vec<f32>>),
    /// Tokens of a free text.
    Text(Vec<u32>),
}

impl Row<'_> {
    /// Roughly what it costs.
    fn n_tokens(&self) -> usize {
        self.history.len() + self.prompt.len()
    }

    /// What the mean of the losses is over: users, or tokens of a text.
    fn n_taught(&self) -> usize {
        match &self.answer {
            Answer::Among(..) => 1,
            Answer::Text(text) => text.len(),
        }
    }
}

impl Objective<UserLlm> for Answering<'_> {
    fn loss(&mut self, model: &UserLlm, step: usize) -> Tensor<1> {
        let (lesson, rows) = self.rows(step);
        self.loss_of(model, lesson, rows, &self.replicated[0].trunks)
    }

    /// Side by side where there are workers or devices.
    fn gradients(&mut self, model: &UserLlm, step: usize) -> (f32, GradientsParams) {
        if self.parallel.is_alone() {
            return backward(self.loss(model, step), model);
        }
        let (lesson, rows) = self.rows(step);
        let n_taught = |rows: &[Row<'_>]| rows.iter().map(Row::n_taught).sum::<usize>() as f64;
        let all = n_taught(&rows);
        let parts = even_parts(rows, self.replicated.len(), Row::n_tokens);
        let seed = mix(self.config.seed, step as u64);
        let this = &*self;
        let loss = |device: &Device, at: usize, rows: Vec<Row<'_>>| {
            let share = n_taught(&rows) / all;
            let Replicated { trunks, llm } = &this.replicated[at];
            let mut replica = model.valid();
            if let Some(llm) = llm {
                replica.llm = llm.clone();
            }
            let replica = replica.to_device(device).train();
            let loss = this.loss_of(&replica, lesson, rows, trunks);
            (replica, loss * share)
        };
        self.parallel.gradients(model, parts, seed, loss)
    }

    /// Next items, or reviews where nothing else is taught.
    fn validate(&mut self, model: &UserLlm) -> f64 {
        match self.reviews.as_ref().filter(|reviews| reviews.are_all()) {
            Some(reviews) => self.likelihood_of_reviews(model, reviews),
            None => self.ndcg_of_next_items(model),
        }
    }

    fn validation_name(&self) -> &'static str {
        match self.reviews.as_ref().is_some_and(Reviews::are_all) {
            true => LIKELIHOOD,
            false => NDCG,
        }
    }
}

/// The ten likeliest next items of each history that are not excluded, by the fused model.
pub(crate) fn rank_titles(
    model: &UserLlm,
    tasks: &Tasks,
    prepared: &Prepared,
    config: &RunConfig,
    trunks: &Trunks,
    histories: &[EventSlice<'_>],
    excluded: &[Vec<usize>],
) -> Vec<Vec<usize>> {
    let search = BeamConfig {
        width: config.evaluation.beam_width,
        k: 10,
        normalisation: trunks.normalisation,
    };
    let trunk = trunks.next_item.as_ref();
    let asked = Asked {
        tasks,
        task: &tasks.next_item,
        histories,
        excluded,
    };
    sequences(ask(model, prepared, trunk, asked, &search))
}

/// The likeliest favourite genre of each history, by the fused model; nothing where the catalogue
/// has no genres.
pub(crate) fn guess_genres(
    model: &UserLlm,
    tasks: &Tasks,
    prepared: &Prepared,
    trunks: &Trunks,
    histories: &[EventSlice<'_>],
) -> Option<Vec<Vec<usize>>> {
    let task = tasks.favourite_genre.as_ref()?;
    let search = BeamConfig {
        width: task.answers.texts.len(),
        k: 1,
        normalisation: trunks.normalisation,
    };
    let trunk = trunks.favourite_genre.as_ref();
    let asked = Asked {
        tasks,
        task,
        histories,
        excluded: &vec![Vec::new(); histories.len()],
    };
    Some(sequences(ask(model, prepared, trunk, asked, &search)))
}

fn sequences(rows: Vec<Vec<Ranked>>) -> Vec<Vec<usize>> {
    let of_row = |row: Vec<Ranked>| row.into_iter().map(|answer| answer.sequence).collect();
    rows.into_iter().map(of_row).collect()
}

/// A question about several people.
pub(crate) struct Asked<'a> {
    pub(crate) tasks: &'a Tasks,
    pub(crate) task: &'a Task,
    pub(crate) histories: &'a [EventSlice<'a>],
    /// Answers that each may not get.
    pub(crate) excluded: &'a [Vec<usize>],
}

/// The likeliest answers of each history to a question, by the fused model.
pub(crate) fn ask(
    model: &UserLlm,
    prepared: &Prepared,
    trunk: Option<&Trunk>,
    asked: Asked<'_>,
    search: &BeamConfig,
) -> Vec<Vec<Ranked>> {
    let Asked {
        tasks,
        task,
        histories,
        excluded,
    } = asked;
    let user = model.read_user(&prepared.latest(histories, &model.device()));
    let mut reader = UserReader::new(model, &user, trunk);
    let forest = reader.forest(&tasks.prompts(task, prepared, histories));
    beam_search(&mut reader, forest, &task.answers.trie, excluded, search)
}

#[cfg(test)]
mod tests {
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::activation::log_softmax;
    use datasets::reviews::ReviewTexts;
    use llm::generate::Decode;
    use llm_fusion::UserDecoder;

    use super::*;
    use crate::toy;

    fn with_objective(patches: &[&str], check: impl FnOnce(&mut Answering<'_>)) {
        let _alone = toy::alone();
        let config = toy::config(patches);
        let prepared = toy::prepared(&config);
        let tasks = toy::tasks(&prepared, &config);
        let model = toy::user_llm(&prepared, &config);
        let teacher = model.encoder.valid();
        let tuning = config.language().unwrap().tuning;
        let objective = Answering::new(&model, teacher, &tasks, &prepared, &config, tuning);
        check(&mut objective.unwrap());
    }

    #[test]
    fn genres_of_people_who_are_tested_are_never_taught() {
        with_objective(&[], |objective| {
            let tested = &objective.prepared.test_users;
            assert_eq!(tested.len(), 5);
            let mut taught: Vec<usize> = (0..50)
                .flat_map(|step| objective.genre_windows.batch(step, 3))
                .map(|w| w.user)
                .collect();
            taught.sort_unstable();
            taught.dedup();
            assert_eq!(
                taught,
                (0..12)
                    .filter(|user| !tested.contains(user))
                    .collect::<Vec<_>>()
            );
            // Their next items are: of those, the last two are held out.
            let items: Vec<Window> = (0..50)
                .flat_map(|step| objective.windows.batch(step, 3))
                .collect();
            assert!(
                tested
                    .iter()
                    .all(|user| items.iter().any(|window| window.user == *user))
            );
        });
    }

    #[test]
    fn where_everybody_is_tested_no_genre_is_taught_and_every_step_teaches_items() {
        with_objective(&["evaluation.users=0"], |objective| {
            assert!((0..20).all(|step| objective.lesson(step) == Lesson::NextItem));
        });
    }

    #[test]
    fn steps_that_teach_genres_are_spread_evenly() {
        let steps = |share: &str| {
            let mut found = Vec::new();
            with_objective(&[&format!("tuning.genre_share={share}")], |objective| {
                found = (0..8)
                    .filter(|&step| objective.lesson(step) == Lesson::FavouriteGenre)
                    .collect();
            });
            found
        };
        assert_eq!(steps("0.25"), [3, 7]);
        assert_eq!(steps("0.5"), [1, 3, 5, 7]);
        assert_eq!(steps("0"), [0_usize; 0]);
        assert_eq!(steps("1"), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_history_without_a_genre_is_no_genre_lesson() {
        let _alone = toy::alone();
        let config = toy::config(&["tuning.training.batch_size=1", "tuning.genre_share=1"]);
        let mut dataset = toy::dataset();
        // All but one film lose their genres: most windows have no answer.
        for item in &mut dataset.catalogue.items[1..] {
            item.genres.clear();
        }
        let prepared = Prepared::new(dataset, &config).unwrap();
        let tasks = toy::tasks(&prepared, &config);
        let model = toy::user_llm(&prepared, &config);
        let teacher = model.encoder.valid();
        let tuning = config.language().unwrap().tuning;
        let objective = Answering::new(&model, teacher, &tasks, &prepared, &config, tuning);
        let mut objective = objective.unwrap();
        for step in 0..12 {
            assert!(
                objective
                    .loss(&model, step)
                    .into_scalar::<f32>()
                    .is_finite()
            );
        }
    }

    #[test]
    fn the_trunk_is_shared_where_the_language_model_below_the_fusion_is_frozen() {
        for (patches, is_shared) in [
            (&["tuning.strategy=enc"][..], true),
            (&["tuning.strategy=proj"], true),
            (&["tuning.strategy=lora"], false),
            (&["tuning.strategy=full"], false),
            (&["tuning.strategy=lora", "tuning.blocks.upper=1"], true),
            (&["tuning.strategy=full", "tuning.blocks.upper=1"], true),
            (&["tuning.strategy=full", "tuning.blocks.upper=2"], false),
            (&["fusion.blocks=all"], false),
            (&["fusion.kind=soft-prompt"], false),
            (&["tuning.normalisation=vocabulary"], false),
        ] {
            with_objective(patches, |objective| {
                assert_eq!(
                    objective.replicated[0].trunks.are_shared(),
                    is_shared,
                    "{patches:?}"
                );
            });
        }
    }

    const REVIEWS_ALONE: [&str; 3] = [
        "review={ prompt = \"On {title}:\", target = \"text\", max_tokens = 3, share = 1.0 }",
        "encoder.modalities=[{ name = \"item\", vocab_size = 0, d_embedding = 6, weight = 1.0 }]",
        "tuning.genre_share=0",
    ];

    /// People who wrote texts of one to four words.
    fn with_reviews(config: &RunConfig) -> (Prepared, Tasks) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Toys_5.json");
        toy::write_reviews(&path, |user, at| "w1 ".repeat(1 + (user + at) % 4));
        let dataset = datasets::reviews::load(&path).unwrap();
        let prepared = Prepared::new(dataset, config).unwrap();
        let texts = ReviewTexts::read(&path, &prepared.dataset).unwrap();
        let tasks = toy::tasks(&prepared, config).with_reviews(config, texts);
        (prepared, tasks.unwrap())
    }

    /// By the probability of each token in turn, as a decoder gives it.
    #[test]
    fn reviews_alone_are_validated_by_how_likely_they_are() {
        let _alone = toy::alone();
        let config = toy::config(&[&REVIEWS_ALONE[..], &["tuning.training.batch_size=3"]].concat());
        let (prepared, tasks) = with_reviews(&config);
        let model = toy::user_llm(&prepared, &config).valid();
        let tuning = config.language().unwrap().tuning;
        let teacher = model.encoder.clone();
        let objective = Answering::new(&model, teacher, &tasks, &prepared, &config, tuning);
        let mut objective = objective.unwrap();
        assert_eq!(Objective::validation_name(&objective), "likelihood");

        let task = tasks.reviews.clone().unwrap();
        let split = prepared.split();
        let (mut logs, mut n_people) = (Vec::new(), 0);
        for &user in &objective.validation_users {
            let (history, event) = split.validation(user).unwrap();
            let written = task.written(user, history.len()).unwrap().unwrap();
            let prompt = task.prompt(&tasks, &prepared, (user, 0), &history, event);
            let embeddings = model.read_user(&prepared.latest(&[history], &model.device()));
            let mut decoder = UserDecoder::new(&model, Some(&embeddings));
            let mut logits = decoder.push(&prompt.unwrap());
            for token in task.answer(&written) {
                let likely = log_softmax(logits, 0).into_data().convert::<f32>();
                logs.push(f64::from(likely.iter::<f32>().nth(token as usize).unwrap()));
                logits = decoder.push(&[token]);
            }
            n_people += 1;
        }
        assert!(
            n_people > 3 && logs.len() > 2 * n_people,
            "{n_people} people"
        );
        let expected = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
        let likelihood = objective.validate(&model);
        assert!(
            (likelihood / expected - 1.0).abs() < 1e-4,
            "{likelihood} is not {expected}"
        );
    }

    #[test]
    fn beside_next_items_these_are_what_is_validated() {
        let _alone = toy::alone();
        let review = REVIEWS_ALONE[0].replace("share = 1.0", "share = 0.5");
        let config = toy::config(&[&review, REVIEWS_ALONE[1], REVIEWS_ALONE[2]]);
        let (prepared, tasks) = with_reviews(&config);
        let model = toy::user_llm(&prepared, &config);
        let tuning = config.language().unwrap().tuning;
        let teacher = model.encoder.valid();
        let objective = Answering::new(&model, teacher, &tasks, &prepared, &config, tuning);
        assert_eq!(Objective::validation_name(&objective.unwrap()), "ndcg@10");
    }

    /// Losses and all gradients of four steps, of everything a strategy trains.
    fn gradients_of(patches: &[&str]) -> (Vec<f32>, Vec<f32>) {
        struct Gradients {
            of_step: GradientsParams,
            values: Vec<f32>,
        }
        impl ModuleVisitor for Gradients {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let gradient = self.of_step.get::<D>(param.id);
                assert_eq!(gradient.is_some(), param.is_require_grad());
                let values = gradient.map(|gradient| gradient.into_data());
                self.values
                    .extend(values.iter().flat_map(|values| values.iter::<f32>()));
            }
        }
        let plain = [
            "encoder.dropout=0",
            "encoder.dropout_input=0",
            "perceiver.dropout=0",
            "tuning.training.batch_size=5",
        ];
        let config = toy::config(&[&plain, patches].concat());
        let (prepared, tasks) = match config.review {
            Some(_) => with_reviews(&config),
            None => {
                let prepared = toy::prepared(&config);
                let tasks = toy::tasks(&prepared, &config);
                (prepared, tasks)
            }
        };
        let model = toy::user_llm(&prepared, &config);
        let teacher = model.encoder.valid();
        let tuning = config.language().unwrap().tuning;
        let model = tuning.apply(model);
        let objective = Answering::new(&model, teacher, &tasks, &prepared, &config, tuning);
        let mut objective = objective.unwrap();
        let (mut losses, mut values) = (Vec::new(), Vec::new());
        for step in 0..4 {
            let (loss, of_step) = objective.gradients(&model, step);
            losses.push(loss);
            let mut gradients = Gradients { of_step, values };
            model.visit(&mut gradients);
            values = gradients.values;
        }
        (losses, values)
    }

    /// Threads or devices on a part each against one on the whole, next items and genres in turns, or
    /// reviews of different lengths.
    #[test]
    fn parts_of_a_batch_give_the_loss_and_the_gradient_of_the_whole() {
        let _alone = toy::alone();
        for patches in [
            &["tuning.genre_share=0.5"][..],
            &["tuning.strategy=proj", "tuning.genre_share=0.5"],
            &["tuning.strategy=lora", "tuning.blocks.upper=1"],
            &["tuning.strategy=full", "fusion.kind=soft-prompt"],
            &["tuning.strategy=lora", "prompts.text_events=2"],
            &REVIEWS_ALONE,
        ] {
            let of = |parts: &str| gradients_of(&[patches, &[parts]].concat());
            let (losses, expected) = of("tuning.workers=1");
            assert!(expected.iter().any(|gradient| gradient.abs() > 1e-3));
            for parts in [
                "tuning.workers=2",
                "tuning.workers=3",
                "tuning.devices=[\"flex\", \"flex\"]",
                // Elsewhere: the language model and the trunk are kept there.
                #[cfg(feature = "ndarray")]
                "tuning.devices=[\"flex\", \"ndarray\"]",
            ] {
                let (in_parts, gradients) = of(parts);
                for (a, b) in in_parts.iter().zip(&losses) {
                    assert!((a - b).abs() < 1e-5, "{patches:?} {parts}: {a} is not {b}");
                }
                assert_eq!(gradients.len(), expected.len());
                for (a, b) in gradients.iter().zip(&expected) {
                    assert!((a - b).abs() < 1e-5, "{patches:?} {parts}: {a} is not {b}");
                }
            }
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_named_with_its_key() {
        let _alone = toy::alone();
        let config = toy::config(&[
            "tuning.devices=[\"flex\", \"abacus\"]",
            "perceiver.dropout=0",
        ]);
        let prepared = toy::prepared(&config);
        let tasks = toy::tasks(&prepared, &config);
        let model = toy::user_llm(&prepared, &config);
        let mut silent = crate::Silent;
        let tuned = tune(model, &tasks, &prepared, &config, Session::new(&mut silent));
        assert_eq!(tuned.unwrap_err().to_string(), "`tuning.devices`");
    }

    #[test]
    fn losses_with_and_without_the_trunk_are_the_same() {
        with_objective(
            &[
                "encoder.dropout=0",
                "encoder.dropout_input=0",
                "perceiver.dropout=0",
            ],
            |objective| {
                let model = toy::user_llm(objective.prepared, objective.config);
                let losses = |objective: &mut Answering<'_>| {
                    (0..4)
                        .map(|step| objective.loss(&model, step).into_scalar::<f32>())
                        .collect::<Vec<_>>()
                };
                objective.replicated[0].trunks =
                    Trunks::new(&model, objective.tasks, objective.tuning);
                let shared = losses(objective);
                objective.replicated[0].trunks = Trunks {
                    normalisation: objective.tuning.normalisation,
                    next_item: None,
                    favourite_genre: None,
                };
                for (shared, alone) in shared.iter().zip(losses(objective)) {
                    assert!((shared - alone).abs() < 1e-4, "{shared} is not {alone}");
                }
            },
        );
    }
}
