//! `user-llm export`.

use anyhow::Context;
use trainer::{LlmConfig, Precision, sources};

use crate::arguments::ExportArgs;
use crate::runs::Run;
use crate::workplace::Workplace;
use crate::{Ended, output};

pub(crate) fn run(workplace: &Workplace, args: &ExportArgs) -> anyhow::Result<Ended> {
    let run = Run::with_added_items(workplace, &args.run)?;
    let path = run.folder.path().display();
    let tuned = run.one_tuned(args.tuning.as_deref())?.with_context(|| {
        format!("{path} has no tuned model to export; `user-llm tune --run {path}` makes one")
    })?;
    let device = workplace.device()?;
    let as_it_is = LlmConfig {
        precision: Precision::F32,
        ..tuned.config.language()?.llm.clone()
    };
    let llm = sources::language_model(&as_it_is, &workplace.store, &device)?;
    let out = &args.out;
    let exported = trainer::export(&tuned.folder, &tuned.config, &run.prepared, llm, out)?;
    output::print(&format!(
        "exported {}: {} trained parameters, all accounted for; merged logits differ by at most {:.1e}",
        tuned.name, exported.n_trained, exported.distance
    ));
    output::note(&format!(
        "written to {0}; transformers agrees? python scripts/check_export.py {0}",
        out.display()
    ));
    Ok(Ended::Done)
}
