//! Tables for people, in Markdown: they read well in a terminal, too.

use datasets::{Event, NO_RATING};
use serde::{Deserialize, Serialize};

use crate::efficiency::{self, Cost};
use crate::evaluate::{Answered, Row};
use crate::metrics::Figure;
use crate::plain_text::PlainTextRow;
use crate::review_writing::ReviewRow;
use crate::{Error, Prepared, RunConfig, RunFolder};

/// All that an evaluation says of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name of the run.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// The backend.
    pub backend: String,
    /// What the figures have in common, in one line.
    pub protocol: String,
    /// A row per contender.
    pub contenders: Vec<Row>,
    /// Of the reviews that they wrote, if they were asked for one.
    #[serde(default)]
    pub reviews: Vec<ReviewRow>,
    /// Of each tuned language model.
    #[serde(default)]
    pub plain_text: Vec<PlainTextRow>,
    /// What a question costs, if that was measured.
    #[serde(default)]
    pub costs: Vec<Cost>,
}

impl Report {
    /// The tables, those that there are.
    pub fn to_markdown(&self) -> String {
        let mut text = contenders(&self.contenders, &self.protocol);
        text += &of_texts(&self.reviews, &self.plain_text, &self.protocol);
        if !self.costs.is_empty() {
            text += &format!("\n{}", costs(&self.costs));
        }
        text
    }

    /// Keep it in a run's folder: `report.md` and `report.json`.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub fn write(&self, run: &RunFolder) -> Result<(), Error> {
        let text = format!("# {}\n\n{}", self.name, self.to_markdown());
        run.write("report.md", text.as_bytes())?;
        run.write_json("report.json", self)
    }
}

/// The contenders' table, with its protocol.
pub fn contenders(rows: &[Row], protocol: &str) -> String {
    with_last(rows, protocol, "favourite genre", |row| row.genre.as_ref())
}

/// The contenders' ranks of the next item, with their protocol. A language model ranks by a beam and
/// has no MRR: with one among them the last column is the favourite genre, which it is asked for.
pub fn rankings(rows: &[Row], protocol: &str) -> String {
    let by_beam = |row: &Row| row.mrr.is_none() && row.genre.is_some();
    match rows.iter().any(by_beam) {
        true => contenders(rows, protocol),
        false => with_last(rows, protocol, "MRR", |row| row.mrr.as_ref()),
    }
}

/// The tables about texts, those that there are, each behind an empty line.
pub(crate) fn of_texts(written: &[ReviewRow], plain: &[PlainTextRow], protocol: &str) -> String {
    let mut text = String::new();
    if !written.is_empty() {
        text += &format!("\n{}", reviews(written, protocol));
    }
    if !plain.is_empty() {
        text += &format!("\n{}", plain_text(plain));
    }
    text
}

/// What contenders' reviews have in common with what people wrote, with the protocol.
pub fn reviews(rows: &[ReviewRow], protocol: &str) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let figures = [row.rouge_1, row.rouge_2, row.rouge_l, row.rouge_lsum];
            let figures = figures.map(|figure| figure.to_string());
            [vec![row.name.clone()], figures.to_vec()].concat()
        })
        .collect();
    let header = ["reviews by", "ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum"];
    let people = rows.first().map_or(0, |row| row.people);
    format!(
        "{}\n{protocol}; ROUGE: F1 as rouge-score computes it, with stemming, over the {people} of \
         these users who wrote about the item that is tested\n",
        table(&header, &cells)
    )
}

/// What tuning did to the language model itself.
pub fn plain_text(rows: &[PlainTextRow]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let change = match row.is_untouched() {
                true => "none, to the last bit".into(),
                false => format!("{:+.1} %", 100.0 * (row.after / row.before - 1.0)),
            };
            let figures = [row.before, row.after].map(|figure| format!("{figure:.3}"));
            [vec![row.name.clone()], figures.to_vec(), vec![change]].concat()
        })
        .collect();
    let header = ["language model of", "before tuning", "after", "change"];
    format!(
        "{}\nperplexity on three paragraphs of plain English, no user attached\n",
        table(&header, &cells)
    )
}

/// A table whose last column not every contender has.
fn with_last(
    rows: &[Row],
    protocol: &str,
    name: &str,
    last: impl Fn(&Row) -> Option<&Figure>,
) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                row.recall_1.to_string(),
                row.recall_5.to_string(),
                row.recall_10.to_string(),
                row.ndcg_10.to_string(),
                last(row).map_or("–".into(), Figure::to_string),
            ]
        })
        .collect();
    let header = [
        "contender",
        "Recall@1",
        "Recall@5",
        "Recall@10",
        "NDCG@10",
        name,
    ];
    format!("{}\n{protocol}\n", table(&header, &cells))
}

/// The table of costs, each against the text prompt of the same history.
pub fn costs(costs: &[Cost]) -> String {
    let mut by_length: Vec<&Cost> = costs.iter().collect();
    by_length.sort_by_key(|cost| cost.events);
    let text = |events: usize| {
        let mut of_text = costs.iter().filter(|cost| cost.name == efficiency::TEXT);
        of_text.find(|cost| cost.events == events)
    };
    let cells: Vec<Vec<String>> = by_length
        .into_iter()
        .map(|cost| {
            let ratio = |of: &dyn Fn(&Cost) -> f64| {
                text(cost.events)
                    .map_or(String::new(), |text| format!("{:.1}×", of(text) / of(cost)))
            };
            vec![
                cost.events.to_string(),
                cost.name.clone(),
                cost.prompt_tokens.to_string(),
                ratio(&|cost| cost.prompt_tokens as f64),
                format!("{:.2}", cost.gflop),
                ratio(&|cost| cost.gflop),
                format!("{:.1}", cost.encoder_ms),
                format!("{:.1}", cost.perceiver_ms),
                format!("{:.1}", cost.first_token_ms()),
                ratio(&Cost::first_token_ms),
            ]
        })
        .collect();
    let header = [
        "events",
        "history as",
        "prompt tokens",
        "fewer",
        "GFLOP",
        "fewer",
        "encoder ms",
        "Perceiver ms",
        "first token ms",
        "faster",
    ];
    let runs = costs.first().map_or(0, |cost| cost.runs);
    format!(
        "{}\nGFLOP by formula, forward only, encoder and cross-attention counted; milliseconds are \
         medians of {runs} runs, encoder, Perceiver and projector included in the first token; prompt \
         tokens count a soft prompt's positions\n",
        table(&header, &cells)
    )
}

/// One person: their latest events, what each contender recommends, what came next.
pub fn person(prepared: &Prepared, config: &RunConfig, answered: &[Answered], at: usize) -> String {
    let user = prepared.test_users[at];
    let Some((history, target)) = prepared.split().test(user) else {
        return String::new();
    };
    let catalogue = &prepared.dataset.catalogue;
    let genre = prepared
        .favourite_genre(&prepared.batcher.latest(history))
        .map_or("none", |genre| catalogue.genres[genre].as_str());
    let mut text = format!(
        "One person of the test users. Favourite genre of the last {} events: {genre}\n\n",
        config.data.history_len.min(history.len())
    );
    let latest: Vec<&Event> = history.iter().rev().take(8).collect();
    text += "Latest, newest first:\n";
    for event in latest {
        let rating = match event.rating {
            NO_RATING => String::new(),
            rating => rating.to_string(),
        };
        text += &format!("  {rating:>3}  {}\n", catalogue.display_title(event.item));
    }
    text += "\nRecommended next:\n";
    for contender in answered {
        let items: Vec<String> = contender.recommended[at]
            .iter()
            .take(5)
            .map(|&item| {
                let hit = if item == target.item as usize {
                    " ✓"
                } else {
                    ""
                };
                format!("{}{hit}", catalogue.display_title(item as u32))
            })
            .collect();
        let place = contender.recommended[at]
            .iter()
            .position(|&item| item == target.item as usize);
        let place = place.map_or(String::new(), |place| format!(" (right at {})", place + 1));
        text += &format!(
            "  {}{place}:\n      {}\n",
            contender.name,
            items.join(" · ")
        );
    }
    text += &format!(
        "\nWhat came next: {}\n",
        catalogue.display_title(target.item)
    );
    text
}

/// A Markdown table with aligned columns.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([header[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&mut header.iter().copied());
    let dashes: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    text += &line(&mut dashes.iter().map(String::as_str));
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy;

    fn row(name: &str, genre: Option<f64>) -> Row {
        let figure = |mean: f64| Figure {
            mean,
            low: mean / 2.0,
            high: mean * 1.5,
        };
        Row {
            name: name.into(),
            recall_1: figure(0.02),
            recall_5: figure(0.1),
            recall_10: figure(0.2),
            ndcg_10: figure(0.11),
            mrr_10: figure(0.08),
            mrr: None,
            genre: genre.map(figure),
        }
    }

    #[test]
    fn the_contenders_stand_in_an_aligned_table_above_their_protocol() {
        let rows = [row("user encoder", None), row("User-LLM", Some(0.6))];
        let text = contenders(&rows, "protocol");
        let expected = "\
| contender    | Recall@1             | Recall@5             | Recall@10            | NDCG@10              | favourite genre      |
| ------------ | -------------------- | -------------------- | -------------------- | -------------------- | -------------------- |
| user encoder | 0.020 [0.010, 0.030] | 0.100 [0.050, 0.150] | 0.200 [0.100, 0.300] | 0.110 [0.055, 0.165] | –                    |
| User-LLM     | 0.020 [0.010, 0.030] | 0.100 [0.050, 0.150] | 0.200 [0.100, 0.300] | 0.110 [0.055, 0.165] | 0.600 [0.300, 0.900] |

protocol
";
        assert_eq!(text, expected);
        // Who answers by a beam has no MRR.
        assert_eq!(rankings(&rows, "protocol"), expected);
        let mut encoder = row("user encoder", None);
        encoder.mrr = Some(encoder.mrr_10);
        assert!(rankings(&[encoder], "protocol").contains("| MRR"));
    }

    #[test]
    fn costs_are_set_against_the_text_prompt_of_the_same_history() {
        let cost = |name: &str,
                    prompt_tokens,
                    gflop,
                    [encoder_ms, perceiver_ms, prefill_ms]: [f64; 3]| Cost {
            events: 50,
            name: name.into(),
            prompt_tokens,
            gflop,
            encoder_ms,
            perceiver_ms,
            prefill_ms,
            runs: 3,
        };
        let longer = Cost {
            events: 100,
            ..cost("text prompt", 1600, 400.0, [0.0, 0.0, 2500.0])
        };
        let text = costs(&[
            cost("text prompt", 800, 200.0, [0.0, 0.0, 1000.0]),
            longer,
            cost("user embeddings", 32, 10.0, [3.0, 2.0, 45.0]),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "| events | history as      | prompt tokens | fewer | GFLOP  | fewer | encoder ms | Perceiver ms | first token ms | faster |",
            "| ------ | --------------- | ------------- | ----- | ------ | ----- | ---------- | ------------ | -------------- | ------ |",
            "| 50     | text prompt     | 800           | 1.0×  | 200.00 | 1.0×  | 0.0        | 0.0          | 1000.0         | 1.0×   |",
            "| 50     | user embeddings | 32            | 25.0× | 10.00  | 20.0× | 3.0        | 2.0          | 50.0           | 20.0×  |",
            "| 100    | text prompt     | 1600          | 1.0×  | 400.00 | 1.0×  | 0.0        | 0.0          | 2500.0         | 1.0×   |",
        ];
        assert_eq!(lines[..5], expected);
        assert!(text.contains("medians of 3 runs"));
    }

    #[test]
    fn costs_of_before_are_read_with_the_perceiver_s_time_in_the_encoder_s() {
        let before = r#"{"events": 50, "name": "text prompt", "prompt_tokens": 32, "gflop": 1.0,
            "encode_ms": 2.5, "prefill_ms": 4.0, "runs": 3}"#;
        let cost: Cost = serde_json::from_str(before).unwrap();
        assert_eq!((cost.encoder_ms, cost.perceiver_ms), (2.5, 0.0));
        assert_eq!(cost.first_token_ms(), 6.5);
    }

    #[test]
    fn a_person_s_page_shows_events_recommendations_and_what_came_next() {
        let config = toy::config(&[]);
        let prepared = toy::prepared(&config);
        let (_, target) = prepared.split().test(prepared.test_users[1]).unwrap();
        let target = target.item as usize;
        let answered = Answered {
            name: "made up".into(),
            recommended: vec![vec![(target + 1) % 19, target]; 5],
            ranks: None,
            genres: None,
        };
        let text = person(&prepared, &config, &[answered], 1);
        assert!(text.contains("made up (right at 2):"), "{text}");
        let next = prepared.dataset.catalogue.display_title(target as u32);
        assert!(text.contains(&format!("{next} ✓")), "{text}");
        assert!(
            text.ends_with(&format!("What came next: {next}\n")),
            "{text}"
        );
    }
}
