//! `user-llm generate`.

use std::ops::ControlFlow;

use anyhow::{Context, ensure};
use llm::generate::{GenerationConfig, Sampling, generate};
use llm::{Message, Tokenizer};
use llm_fusion::UserDecoder;
use trainer::sources;

use crate::arguments::GenerateArgs;
use crate::runs::{Run, in_precision};
use crate::workplace::Workplace;
use crate::{Ended, interrupt, output};

pub(crate) fn run(workplace: &Workplace, args: &GenerateArgs) -> anyhow::Result<Ended> {
    ensure!(
        !args.prompt.trim().is_empty(),
        "--prompt is empty: there is nothing to go on from"
    );
    let run = Run::with_added_items(workplace, &args.run)?;
    let history = &run.history(&args.user)?.events;
    let device = workplace.device()?;
    let tuned = run.one_tuned(args.tuning.as_deref())?.with_context(|| {
        let path = run.folder.path().display();
        format!("{path} has no tuned model; `user-llm tune --run {path}` makes one")
    })?;
    let (config, prepared) = (&tuned.config, &run.prepared);
    let llm = sources::language_model(config.language()?.llm, &workplace.store, &device)?;
    let tokenizer = llm.tokenizer;
    let model = tuned
        .folder
        .load_user_llm(config, prepared, llm.model, &llm.sha256)?;
    let model = in_precision(model, args.precision)?;

    let latest = prepared.batcher.latest(history.slice(..));
    // What the tuning reads as text, it reads here.
    let prompts = config.language()?.prompts;
    let told = match prompts.text_events {
        0 => String::new(),
        n => {
            let told = &latest[latest.len().saturating_sub(n)..];
            prompts.history_text(&prepared.dataset.catalogue, told)
        }
    };
    let asked = told + &args.prompt;
    let prompt = match args.raw {
        true => tokenizer.encode(&asked)?,
        false => {
            let turn = [Message::user(asked.as_str())];
            let text = tokenizer
                .chat(&turn, true)
                .context("--raw gives the prompt as it is")?;
            tokenizer.encode_bare(&text)?
        }
    };
    ensure!(
        !prompt.is_empty(),
        "--prompt has nothing that the tokenizer knows"
    );

    let user = model.read_user(&prepared.batcher.batch(&[latest], &model.device()));
    let mut decoder = UserDecoder::new(&model, Some(&user));
    let sampling = match args.temperature > 0.0 {
        false => Sampling::Greedy,
        true => Sampling::TopP {
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            seed: args.seed,
        },
    };
    let generation = GenerationConfig::new(args.max_tokens as usize)
        .with_sampling(sampling)
        .with_stop(tokenizer.stop().to_vec());

    let _heard = interrupt::heard();
    let mut stream = Stream::new(&tokenizer);
    generate(&mut decoder, &prompt, &generation, |token| {
        output::write(&stream.push(token));
        match interrupt::is_asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    output::write(&format!("{}\n", stream.rest()));
    Ok(if interrupt::is_asked() {
        Ended::Interrupted
    } else {
        Ended::Done
    })
}

/// Turns tokens into text as they come: a character may take several.
struct Stream<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<u32>,
    n_shown: usize,
}

impl<'a> Stream<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            tokens: Vec::new(),
            n_shown: 0,
        }
    }

    /// The text that this token completes.
    fn push(&mut self, token: u32) -> String {
        self.tokens.push(token);
        let text = self.text();
        match text.ends_with(char::REPLACEMENT_CHARACTER) {
            true => String::new(),
            false => self.show(&text),
        }
    }

    /// What was held back and is not a character after all.
    fn rest(&mut self) -> String {
        let text = self.text();
        self.show(&text)
    }

    fn text(&self) -> String {
        self.tokenizer.decode(&self.tokens).unwrap_or_default()
    }

    fn show(&mut self, text: &str) -> String {
        let new = text.get(self.n_shown..).unwrap_or_default().to_string();
        self.n_shown = self.n_shown.max(text.len());
        new
    }
}
