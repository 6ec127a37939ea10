//! `user-llm embed`.

use anyhow::{Context, bail, ensure};
use burn::tensor::Device;
use clap::ValueEnum;
use datasets::EventSlice;
use trainer::embed::{self, Embedded, EncoderEmbedding, FusedEmbedding};
use trainer::{Monitor, sources};

use crate::arguments::EmbedArgs;
use crate::runs::Run;
use crate::vectors::{Format, Vectors};
use crate::workplace::Workplace;
use crate::{Ended, interrupt, output};

/// People that are embedded at once.
const PEOPLE_PER_BATCH: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// The encoder's embedding of the last event, which has read all of them: [people, d_model]
    Last,
    /// The mean of the encoder's event embeddings: [people, d_model]
    Mean,
    /// All of the encoder's event embeddings, oldest first: [events, d_model] a person
    Events,
    /// What the tuned Perceiver makes of them: [people, n_latents, d_model]
    Latents,
    /// What the tuned language model reads: [people, n_latents + n_recent, d_user]
    UserEmbeddings,
}

/// From histories to vectors; none if the model does not make them.
type Embed<'a> = Box<dyn Fn(&[EventSlice<'_>]) -> Option<Embedded> + 'a>;

pub(crate) fn run(workplace: &Workplace, args: &EmbedArgs) -> anyhow::Result<Ended> {
    let format = Format::of(args.format, &args.out)?;
    let run = Run::with_added_items(workplace, &args.run)?;
    let people = args.people.find(&run)?;
    ensure!(!people.is_empty(), "there is nobody to embed");
    let device = workplace.device()?;
    let embed = match args.what {
        What::Last => by_encoder(&run, EncoderEmbedding::Last, &device)?,
        What::Mean => by_encoder(&run, EncoderEmbedding::Mean, &device)?,
        What::Events => by_encoder(&run, EncoderEmbedding::Events, &device)?,
        What::Latents => by_user_llm(workplace, &run, args, FusedEmbedding::Latents, &device)?,
        What::UserEmbeddings => by_user_llm(
            workplace,
            &run,
            args,
            FusedEmbedding::UserEmbeddings,
            &device,
        )?,
    };

    let mut vectors = Vectors::begin(format, &args.out)?;
    let mut monitor = workplace.terminal();
    let _heard = interrupt::heard();
    let mut done = 0;
    monitor.begin("embed", done, people.len());
    for batch in people.chunks(PEOPLE_PER_BATCH) {
        let histories: Vec<EventSlice<'_>> =
            batch.iter().map(|person| person.events.slice(..)).collect();
        let Some(embedded) = embed(&histories) else {
            bail!(
                "this model has no Perceiver, and so no latents; --what user-embeddings is what \
                 its language model reads"
            );
        };
        vectors.write(batch.iter().map(|person| &*person.user), &embedded)?;
        done += batch.len();
        monitor.step(done, &[]);
        if interrupt::is_asked() {
            monitor.end("stopped, nothing is kept");
            return Ok(Ended::Interrupted);
        }
    }
    let what = args.what.to_possible_value().expect("no value is hidden");
    let is_one = matches!(args.what, What::Last | What::Mean);
    vectors.finish(what.get_name(), is_one)?;
    monitor.end(&format!("{done} people"));
    output::note(&format!("written to {}", args.out.display()));
    Ok(Ended::Done)
}

fn by_encoder<'a>(
    run: &'a Run,
    what: EncoderEmbedding,
    device: &Device,
) -> anyhow::Result<Embed<'a>> {
    ensure!(
        run.config.dual_encoder.is_none(),
        "a dual encoder embeds histories, not events: `--what user-embeddings` gives what a tuned model reads of them"
    );
    let encoder = run.folder.load_encoder(&run.prepared, device)?;
    let batcher = &run.prepared.batcher;
    Ok(Box::new(move |histories| {
        Some(embed::by_encoder(&encoder, what, batcher, histories))
    }))
}

fn by_user_llm<'a>(
    workplace: &Workplace,
    run: &'a Run,
    args: &EmbedArgs,
    what: FusedEmbedding,
    device: &Device,
) -> anyhow::Result<Embed<'a>> {
    let tuned = run.one_tuned(args.tuning.as_deref())?.with_context(|| {
        let path = run.folder.path().display();
        format!(
            "{path} has no tuned model, which these come from; `user-llm tune --run {path}` makes \
             one, and --what last does without"
        )
    })?;
    let (config, prepared) = (&tuned.config, &run.prepared);
    let llm = sources::language_model(config.language()?.llm, &workplace.store, device)?;
    let model = tuned
        .folder
        .load_user_llm(config, prepared, llm.model, &llm.sha256)?;
    Ok(Box::new(move |histories| {
        embed::by_user_llm(&model, what, &prepared.batcher, histories)
    }))
}
