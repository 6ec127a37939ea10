//! `user-llm recommend`.

use std::io::Write;

use anyhow::{bail, ensure};
use burn::tensor::Device;
use datasets::{Catalogue, Event, EventSlice, History, ItemIndex};
use trainer::recommend::{
    EncoderRecommender, Recommend, Recommendation, UserLlmRecommender, Wanted,
};
use trainer::{Monitor, Precision, Tasks, sources};

use crate::arguments::{RecommendArgs, Recommender};
use crate::files::WholeFile;
use crate::people::{self, PeopleArgs};
use crate::runs::{Run, Tuned, in_precision};
use crate::table::{Format, Row, Table};
use crate::workplace::Workplace;
use crate::{Ended, interrupt, output};

/// Events of the history that are shown.
const SHOWN: usize = 8;

/// From so many people on, what they have in common is computed first.
const MANY: usize = 5;

type People<'a> = [std::borrow::Cow<'a, History>];

pub(crate) fn run(workplace: &Workplace, args: &RecommendArgs) -> anyhow::Result<Ended> {
    // What is wrong with the command is told before anything is computed.
    let format = match &args.out {
        Some(path) => Format::of(args.format, path)?,
        None => args.format.unwrap_or(Format::Csv),
    };
    if format == Format::Parquet && args.out.is_none() {
        bail!("Parquet is no text: name a file with --out");
    }
    let run = Run::with_added_items(workplace, &args.run)?;
    let people = args.people.find(&run)?;
    let wanted = wanted(&run, args)?;
    let device = workplace.device()?;
    let tuned = match args.model {
        Some(Recommender::Encoder) => None,
        Some(Recommender::UserLlm) | None => run.one_tuned(args.tuning.as_deref())?,
    };
    if tuned.is_none() && matches!(args.model, Some(Recommender::UserLlm)) {
        bail!(
            "{} has no tuned model; `user-llm tune --run {0}` makes one, and --model encoder does \
             without",
            run.folder.path().display()
        );
    }
    let answer = |who: &str, recommender: &dyn Recommend| {
        let is_for_reading = is_one(&args.people) && args.out.is_none() && args.format.is_none();
        if is_for_reading {
            let history = &people[0].events;
            let ranked = recommender
                .recommend(&[history.slice(..)], &wanted)
                .remove(0);
            match args.json {
                true => output::print(&json(&run, who, &ranked)),
                false => output::print(&text(&run, who, history, &ranked)),
            }
            return Ok(Ended::Done);
        }
        let Some(path) = &args.out else {
            let table = Table::new(format, output::Results)?;
            return write(workplace, &run, recommender, &people, &wanted, table);
        };
        let file = WholeFile::begin(path)?;
        let table = Table::new(format, std::io::BufWriter::new(file.writer()?))?;
        let ended = write(workplace, &run, recommender, &people, &wanted, table)?;
        if ended == Ended::Done {
            file.keep()?;
            output::note(&format!("written to {}", path.display()));
        }
        Ok(ended)
    };
    match &tuned {
        Some(tuned) => with_user_llm(
            workplace,
            &run,
            tuned,
            &people,
            (&device, args.precision),
            |recommender| answer(&tuned.name, recommender),
        ),
        None => {
            let encoder = run.encoder(&device)?;
            let recommender = EncoderRecommender::new(&run.prepared, &encoder, &device);
            answer("encoder", &recommender)
        }
    }
}

fn with_user_llm(
    workplace: &Workplace,
    run: &Run,
    tuned: &Tuned,
    people: &People<'_>,
    (device, precision): (&Device, Option<Precision>),
    answer: impl FnOnce(&dyn Recommend) -> anyhow::Result<Ended>,
) -> anyhow::Result<Ended> {
    let (config, prepared) = (&tuned.config, &run.prepared);
    let llm = sources::language_model(config.language()?.llm, &workplace.store, device)?;
    let tasks = Tasks::new(prepared, config, &llm.tokenizer)?;
    let model = tuned
        .folder
        .load_user_llm(config, prepared, llm.model, &llm.sha256)?;
    let model = in_precision(model, precision)?;
    let recommender = UserLlmRecommender::new(prepared, config, &model, &tasks)?;
    match people.len() >= MANY {
        true => answer(&recommender.sharing_trunk()),
        false => answer(&recommender),
    }
}

fn is_one(people: &PeopleArgs) -> bool {
    people.user.is_some()
}

fn wanted(run: &Run, args: &RecommendArgs) -> anyhow::Result<Wanted> {
    let exclude_seen = match (args.exclude_seen, args.include_seen) {
        (false, false) => run.config.evaluation.exclude_seen,
        (exclude, _) => exclude,
    };
    let catalogue = &run.prepared.dataset.catalogue;
    let available = args.available_items.as_deref().map(|path| {
        let items = people::lines(path)?.into_iter().map(|(line, id)| {
            let Some(item) = catalogue.find(&id) else {
                let path = path.display();
                bail!("{path}:{line}: the catalogue has no item {id:?}; ids are spelled as in the data files");
            };
            Ok(item)
        });
        items.collect::<anyhow::Result<Vec<ItemIndex>>>()
    });
    Ok(Wanted {
        k: usize::from(args.k),
        exclude_seen,
        available: available.transpose()?,
    })
}

/// Recommend to all of them, a batch at a time, as long as nobody asks to stop.
fn write<W: Write + Send>(
    workplace: &Workplace,
    run: &Run,
    recommender: &dyn Recommend,
    people: &People<'_>,
    wanted: &Wanted,
    mut table: Table<W>,
) -> anyhow::Result<Ended> {
    ensure!(!people.is_empty(), "there is nobody to recommend to");
    let catalogue = &run.prepared.dataset.catalogue;
    let mut monitor = workplace.terminal();
    let _heard = interrupt::heard();
    let mut done = 0;
    monitor.begin("recommend", done, people.len());
    for batch in people.chunks(recommender.batch_size()) {
        let histories: Vec<EventSlice<'_>> =
            batch.iter().map(|person| person.events.slice(..)).collect();
        let recommended = recommender.recommend(&histories, wanted);
        let rows = batch.iter().zip(&recommended);
        let rows = rows.flat_map(|(person, ranked)| rows_of(catalogue, &person.user, ranked));
        table.write(rows.collect())?;
        done += batch.len();
        monitor.step(done, &[]);
        if interrupt::is_asked() {
            monitor.end("stopped, nothing is kept");
            return Ok(Ended::Interrupted);
        }
    }
    table.finish()?;
    monitor.end(&format!("{done} people"));
    Ok(Ended::Done)
}

fn rows_of<'a>(
    catalogue: &'a Catalogue,
    user: &'a str,
    ranked: &'a [Recommendation],
) -> impl Iterator<Item = Row> + 'a {
    (1..).zip(ranked).map(move |(rank, recommended)| Row {
        user: user.to_string(),
        rank,
        item: catalogue.items[recommended.item as usize].id.clone(),
        title: catalogue.display_title(recommended.item),
        score: recommended.score,
    })
}

fn text(run: &Run, who: &str, history: &[Event], ranked: &[Recommendation]) -> String {
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
    for (place, recommended) in (1..).zip(ranked) {
        let share = 100.0 * recommended.score.exp();
        let title = catalogue.display_title(recommended.item);
        text += &format!("  {place:>3}. {title}  ({share:.2} %)\n");
    }
    text
}

fn json(run: &Run, who: &str, ranked: &[Recommendation]) -> String {
    let catalogue = &run.prepared.dataset.catalogue;
    let items: Vec<_> = ranked
        .iter()
        .map(|recommended| {
            serde_json::json!({
                "id": catalogue.items[recommended.item as usize].id,
                "title": catalogue.display_title(recommended.item),
                "log_likelihood": recommended.score,
            })
        })
        .collect();
    serde_json::json!({ "model": who, "items": items }).to_string()
}
