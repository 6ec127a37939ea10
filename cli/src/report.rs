//! `user-llm report`.

use std::io::Write;
use std::path::Path;

use trainer::page::{GRID_TABLE, Page};
use trainer::{RunConfig, Tasks, evaluate, report, sources};

use crate::arguments::{ReportArgs, RunArgs};
use crate::evaluate::{baselines, thin};
use crate::files::WholeFile;
use crate::runs::{Run, Tuned};
use crate::workplace::Workplace;
use crate::{Ended, output};

pub(crate) fn run(workplace: &Workplace, args: &ReportArgs) -> anyhow::Result<Ended> {
    let mut page = Page::new();
    for path in &args.runs {
        if path.join(GRID_TABLE).exists() {
            page.add_grid(path)?;
            continue;
        }
        page.add_run(path)?;
        if args.users > 0 {
            page.add_people(&people(workplace, args, path)?);
        }
    }
    let file = WholeFile::begin(&args.out)?;
    file.writer()?
        .write_all(page.to_html("User-LLM").as_bytes())?;
    file.keep()?;
    output::note(&format!("written to {}", args.out.display()));
    Ok(Ended::Done)
}

/// Some test users of a run, and what each contender recommends to them.
fn people(workplace: &Workplace, args: &ReportArgs, path: &Path) -> anyhow::Result<String> {
    let which = RunArgs {
        run: Some(path.to_path_buf()),
        data: args.data.clone(),
    };
    let mut run = Run::find(workplace, &which)?;
    thin(&mut run.prepared, args.users);
    let device = workplace.device()?;
    let mut answered = baselines(&run, &device)?;
    let (config, prepared, tuned) = (&run.config, &run.prepared, run.tuned()?);
    if let (Ok(language), false) = (config.language(), tuned.is_empty()) {
        let llm = sources::language_model(language.llm, &workplace.store, &device)?;
        let mut monitor = workplace.terminal();
        for Tuned { config, folder, .. } in tuned {
            let own = RunConfig {
                evaluation: run.config.evaluation.clone(),
                ..config
            };
            let tasks = Tasks::new(prepared, &own, &llm.tokenizer)?;
            let model = folder.load_user_llm(&own, prepared, llm.model.clone(), &llm.sha256)?;
            let found = evaluate::user_llm(prepared, &own, &model, &tasks, &mut monitor)?;
            answered.push(found);
        }
    }
    let people = 0..prepared.test_users.len();
    let people = people.map(|at| report::person(prepared, config, &answered, at));
    Ok(people.collect::<Vec<_>>().join("\n\n"))
}
