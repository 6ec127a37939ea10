//! `user-llm recommend`.

use burn::tensor::Device;
use burn::tensor::activation::log_softmax;
use datasets::Event;
use llm::ranking::{BeamConfig, beam_search};
use llm_fusion::UserReader;
use trainer::{EventBatcher, Tasks, sources};
use user_encoder::UserEncoder;

use crate::arguments::{RecommendArgs, Recommender};
use crate::runs::{Run, Tuned};
use crate::workplace::Workplace;
use crate::{Ended, output};

/// Events of the history that are shown.
const SHOWN: usize = 8;

/// An item, and the logarithm of its probability.
type Scored = (usize, f32);

pub(crate) fn run(workplace: &Workplace, args: &RecommendArgs) -> anyhow::Result<Ended> {
    let run = Run::find(workplace, &args.run)?;
    let history = run.history(&args.user)?;
    let device = workplace.device()?;
    let mut excluded: Vec<usize> = match args.include_seen || !run.config.evaluation.exclude_seen {
        true => Vec::new(),
        false => history.iter().map(|event| event.item as usize).collect(),
    };
    excluded.sort_unstable();
    excluded.dedup();
    let k = usize::from(args.k).min(run.prepared.dataset.catalogue.len() - excluded.len());

    let tuned = match args.model {
        Some(Recommender::Encoder) => None,
        Some(Recommender::UserLlm) | None => run.one_tuned(args.tuning.as_deref())?,
    };
    if tuned.is_none() && matches!(args.model, Some(Recommender::UserLlm)) {
        anyhow::bail!(
            "{} has no tuned model; `user-llm tune --run {0}` makes one, and --model encoder does \
             without",
            run.folder.path().display()
        );
    }
    let (who, ranked) = match &tuned {
        Some(tuned) => {
            let ranked = by_user_llm(workplace, &run, tuned, history, &excluded, k, &device)?;
            (tuned.name.as_str(), ranked)
        }
        None => {
            let encoder = run.folder.load_encoder(&run.prepared, &device)?;
            (
                "encoder",
                by_encoder(&run, &encoder, history, &excluded, k, &device),
            )
        }
    };
    match args.json {
        true => output::print(&json(&run, who, &ranked)),
        false => output::print(&text(&run, who, history, &ranked)),
    }
    Ok(Ended::Done)
}

fn by_encoder(
    run: &Run,
    encoder: &UserEncoder,
    history: &[Event],
    excluded: &[usize],
    k: usize,
    device: &Device,
) -> Vec<Scored> {
    let batcher = &run.prepared.batcher;
    let events = batcher.batch(&[batcher.latest(history)], device);
    let logits = encoder.next_event_logits(&events, 0);
    let [_, vocab_size] = logits.dims();
    let items = logits.slice([0..1, EventBatcher::first_item()..vocab_size]);
    let scores: Vec<f32> = log_softmax(items, 1).into_data().iter().collect();
    let mut ranked: Vec<Scored> = scores
        .into_iter()
        .enumerate()
        .filter(|(item, _)| excluded.binary_search(item).is_err())
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked.truncate(k);
    ranked
}

fn by_user_llm(
    workplace: &Workplace,
    run: &Run,
    tuned: &Tuned,
    history: &[Event],
    excluded: &[usize],
    k: usize,
    device: &Device,
) -> anyhow::Result<Vec<Scored>> {
    let (config, prepared) = (&tuned.config, &run.prepared);
    let language = config.language()?;
    let llm = sources::language_model(&language.llm.model, &workplace.store, device)?;
    let tasks = Tasks::new(prepared, config, &llm.tokenizer)?;
    let model = tuned
        .folder
        .load_user_llm(config, prepared, llm.model, &llm.sha256)?;
    let latest = prepared.batcher.latest(history);
    let user = model.read_user(&prepared.batcher.batch(&[latest], &model.device()));
    let task = &tasks.next_item;
    let mut reader = UserReader::new(&model, &user, None);
    let forest = reader.forest(std::slice::from_ref(&task.prompt));
    let search = BeamConfig {
        width: config.evaluation.beam_width.max(3 * k),
        k,
        normalisation: language.tuning.normalisation,
    };
    let mut rows = beam_search(
        &mut reader,
        forest,
        &task.answers.trie,
        &[excluded.to_vec()],
        &search,
    );
    let answers = rows.pop().unwrap_or_default();
    Ok(answers
        .into_iter()
        .map(|answer| (answer.sequence, answer.log_likelihood))
        .collect())
}

fn text(run: &Run, who: &str, history: &[Event], ranked: &[Scored]) -> String {
    let catalogue = &run.prepared.dataset.catalogue;
    let mut text = format!("Last of {} events, newest first:\n", history.len());
    for event in history.iter().rev().take(SHOWN) {
        text += &format!(
            "  {:>3}  {}\n",
            event.rating,
            catalogue.display_title(event.item)
        );
    }
    text += &format!("\nNext, by {who}:\n");
    for (place, (item, score)) in ranked.iter().enumerate() {
        let share = 100.0 * score.exp();
        let title = catalogue.display_title(*item as u32);
        text += &format!("  {:>3}. {title}  ({share:.2} %)\n", place + 1);
    }
    text
}

fn json(run: &Run, who: &str, ranked: &[Scored]) -> String {
    let catalogue = &run.prepared.dataset.catalogue;
    let items: Vec<_> = ranked
        .iter()
        .map(|(item, score)| {
            serde_json::json!({
                "id": catalogue.items[*item].id,
                "title": catalogue.display_title(*item as u32),
                "log_likelihood": score,
            })
        })
        .collect();
    serde_json::json!({ "model": who, "items": items }).to_string()
}
