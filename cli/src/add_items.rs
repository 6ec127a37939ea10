//! `user-llm add-items`.

use datasets::read_items;

use crate::arguments::AddItemsArgs;
use crate::runs::Run;
use crate::workplace::Workplace;
use crate::{Ended, output};

/// Trained items that are shown beside a new one.
const SHOWN: usize = 3;

pub(crate) fn run(workplace: &Workplace, args: &AddItemsArgs) -> anyhow::Result<Ended> {
    let run = Run::find(workplace, &args.run)?;
    let (prepared, folder) = (&run.prepared, &run.folder);
    let added = folder.added_items(prepared)?;
    let known = prepared.dataset.catalogue.with(added)?;
    let items = read_items(&args.file, &known)?;
    folder.add_items(prepared, items.clone())?;
    let mut rows = Vec::new();
    for (item, neighbours) in items.iter().zip(prepared.neighbours(&items)) {
        let like = neighbours.into_iter().take(SHOWN);
        let like: Vec<String> = like.map(|index| known.display_title(index)).collect();
        rows.push(vec![
            item.id.clone(),
            item.title.clone(),
            format!("like {}", like.join(", ")),
        ]);
    }
    output::print(&output::columns(&rows));
    output::note(&format!(
        "{} items added; `user-llm recommend` knows them now",
        items.len()
    ));
    Ok(Ended::Done)
}
