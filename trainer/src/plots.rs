//! Pictures as SVG: what the contenders reach, how training went, and what the data is like.

use datasets::Dataset;
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use serde_json::Value;

use crate::efficiency::Cost;
use crate::evaluate::Row;
use crate::metrics::Figure;
use crate::run_folder::series;
use crate::train::{LIKELIHOOD, NDCG};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 560;
/// Height of a line of the caption, and how many characters one holds.
const LINE: u32 = 15;
const LINE_LENGTH: usize = 150;
const SMALL: (&str, u32) = ("sans-serif", 12);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Recall@1, @5 and @10 of every contender with their intervals; the protocol beneath.
pub fn recall(rows: &[Row], protocol: &str) -> String {
    let figures = |row: &Row| [row.recall_1, row.recall_5, row.recall_10];
    let ends = rows.iter().flat_map(figures).map(|figure| figure.high);
    let most = ends.fold(0.01, f64::max);
    svg(protocol, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(52)
            .build_cartesian_2d(-0.5..2.5, 0.0..most * 1.1)?;
        let name = |at: &f64| match (at.fract().abs() < 1e-9, at.round() as i64) {
            (true, 0) => "Recall@1".to_string(),
            (true, 1) => "Recall@5".to_string(),
            (true, 2) => "Recall@10".to_string(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .max_light_lines(1)
            .x_labels(7)
            .x_label_formatter(&name)
            .y_label_formatter(&|value| format!("{value:.2}"))
            .draw()?;
        for (place, row) in rows.iter().enumerate() {
            let colour = Palette99::pick(place).mix(1.0);
            // Side by side around each K.
            let offset = (place as f64 + 0.5) / rows.len() as f64 * 0.6 - 0.3;
            let bar = |(at, figure): (usize, Figure)| {
                let Figure { mean, low, high } = figure;
                ErrorBar::new_vertical(at as f64 + offset, low, mean, high, colour.filled(), 8)
            };
            chart
                .draw_series(figures(row).into_iter().enumerate().map(bar))?
                .label(&row.name)
                .legend(move |at| Circle::new((at.0 + 10, at.1), 4, colour.filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .border_style(BLACK)
            .background_style(WHITE.mix(0.8))
            .label_font(SMALL)
            .draw()?;
        Ok(())
    })
}

/// Loss and validation of each stage, and each tuning, by its steps, from the lines of
/// `metrics.jsonl`; the protocol beneath. `None` if no step was written down.
pub fn training(metrics: &[Value], protocol: &str) -> Option<String> {
    let mut stages: Vec<String> = Vec::new();
    for line in metrics.iter().filter(|line| line["loss"].is_number()) {
        stages.extend(series(line).filter(|stage| !stages.contains(stage)));
    }
    if stages.is_empty() {
        return None;
    }
    let draw = |area: &Area<'_>| {
        let cells = area.split_evenly((2, stages.len()));
        for (column, stage) in stages.iter().enumerate() {
            let figures = ["loss", NDCG, LIKELIHOOD].into_iter();
            let curves = figures.map(|key| (key, points(metrics, stage, key)));
            // The loss, and what the stage was validated by, if it was.
            let curves = curves.filter(|(_, points)| !points.is_empty());
            for (row, (key, points)) in curves.take(2).enumerate() {
                let cell = &cells[row * stages.len() + column];
                curve(cell, &format!("{stage}: {key}"), points)?;
            }
        }
        Ok(())
    };
    Some(svg(protocol, draw))
}

/// The gates of one tuning.
#[derive(Clone, Debug, PartialEq)]
pub struct Gates {
    /// Name of the tuning.
    pub name: String,
    /// Each fused block's number, and `tanh(gate)`.
    pub blocks: Vec<(usize, f64)>,
}

/// How far the gate of each fused block is open, `|tanh(gate)|`, of several tunings: the paper's
/// Figure 4.
pub fn gates(tunings: &[Gates]) -> String {
    let lines: Vec<Line<'_>> = tunings
        .iter()
        .map(|Gates { name, blocks }| Line {
            name,
            points: blocks
                .iter()
                .map(|&(block, gate)| (block as f64, gate.abs()))
                .collect(),
        })
        .collect();
    let caption = "|tanh(gate)|: the share that cross-attention to the user has in the residual \
                   stream, by block of the language model, the first of which is 0";
    svg(caption, |area| {
        lined(area, "|tanh(gate)|", "block", &lines, Scale::Linear)
    })
}

/// What each way to ask costs, by length of history, on a logarithmic axis: ways differ by a hundred
/// times and more.
pub fn costs(costs: &[Cost]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for cost in costs {
        if !names.contains(&cost.name.as_str()) {
            names.push(&cost.name);
        }
    }
    let titles = ["prompt tokens", "GFLOP", "ms to the first token"];
    let of = |panel: usize, cost: &Cost| match panel {
        0 => cost.prompt_tokens as f64,
        1 => cost.gflop,
        _ => cost.first_token_ms(),
    };
    let caption = "All but the text prompt read user embeddings. GFLOP by formula; times are medians, \
                   encoder and Perceiver included; the table has the figures";
    svg(caption, |area| {
        for (panel, area) in area.split_evenly((1, 3)).iter().enumerate() {
            let lines = names.iter().map(|name| Line {
                name: name.strip_prefix("user embeddings, ").unwrap_or(name),
                points: costs
                    .iter()
                    .filter(|cost| cost.name == **name)
                    .map(|cost| (cost.events as f64, of(panel, cost)))
                    .collect(),
            });
            let lines: Vec<Line<'_>> = lines.collect();
            lined(area, titles[panel], "events", &lines, Scale::Logarithmic)?;
        }
        Ok(())
    })
}

/// How long people's histories are, the longest first, both axes logarithmic.
pub fn histories(dataset: &Dataset) -> String {
    let lengths = dataset.histories.iter().map(|history| history.events.len());
    by_rank(
        dataset,
        lengths.collect(),
        "people, the longest history first",
    )
}

/// How many events items have, the most popular first, both axes logarithmic.
pub fn items(dataset: &Dataset) -> String {
    let mut counts = vec![0; dataset.catalogue.len()];
    for event in dataset.histories.iter().flat_map(|history| &history.events) {
        counts[event.item as usize] += 1;
    }
    by_rank(dataset, counts, "items, the most popular first")
}

/// Counts in descending order by their place; zeros have none on a logarithmic axis.
fn by_rank(dataset: &Dataset, mut counts: Vec<usize>, what: &str) -> String {
    counts.retain(|&count| count > 0);
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let most = counts.first().copied().unwrap_or(1).max(2) as f64;
    let last = counts.len().max(2) as f64;
    // A line through every place would make files of megabytes: places a hundredth apart will do.
    let mut at = 0;
    let mut points = Vec::new();
    while let Some(&count) = counts.get(at) {
        points.push(((at + 1) as f64, count as f64));
        at = (at + 1).max(at + at / 100);
    }
    let caption = format!("{}: {} {what}", dataset.name, counts.len());
    svg(&caption, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d((1.0..last).log_scale(), (1.0..most).log_scale())?;
        chart
            .configure_mesh()
            .max_light_lines(1)
            .x_label_formatter(&|place| format!("{place:.0}"))
            .y_label_formatter(&|count| format!("{count:.0}"))
            .x_desc(what)
            .y_desc("events")
            .draw()?;
        chart.draw_series(LineSeries::new(points, Palette99::pick(0).stroke_width(2)))?;
        Ok(())
    })
}

/// The values of a key by step. `stage` is what [`series`] gives.
fn points(metrics: &[Value], stage: &str, key: &str) -> Vec<(f64, f64)> {
    let of_stage = metrics
        .iter()
        .filter(|line| series(line).as_deref() == Some(stage));
    of_stage
        .filter_map(|line| Some((line["step"].as_f64()?, line[key].as_f64()?)))
        .collect()
}

/// Points of a curve; of more, neighbours are drawn as their mean.
const CURVE_POINTS: usize = 200;

fn curve(area: &Area<'_>, title: &str, points: Vec<(f64, f64)>) -> Drawn {
    let together = points.len().div_ceil(CURVE_POINTS);
    let title = match together {
        0 | 1 => title.to_string(),
        n => format!("{title}, means of {n}"),
    };
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        let [x, y] =
            [|p: &(f64, f64)| p.0, |p: &(f64, f64)| p.1].map(|of| part.iter().map(of).sum::<f64>());
        (x / n, y / n)
    };
    let points: Vec<(f64, f64)> = points.chunks(together.max(1)).map(mean).collect();
    let last = points.iter().map(|point| point.0).fold(1.0, f64::max);
    let most = points.iter().map(|point| point.1).fold(1e-3, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..last, 0.0..most * 1.05)?;
    let mut mesh = chart.configure_mesh();
    mesh.max_light_lines(1)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .x_desc("steps")
        .draw()?;
    chart.draw_series(LineSeries::new(points, Palette99::pick(0).stroke_width(2)))?;
    Ok(())
}

/// Points of one name.
struct Line<'a> {
    name: &'a str,
    points: Vec<(f64, f64)>,
}

/// What the values of lines stand on.
#[derive(Clone, Copy)]
enum Scale {
    /// From 0.
    Linear,
    /// Of values above 0.
    Logarithmic,
}

/// Lines with their points and names.
fn lined(area: &Area<'_>, title: &str, along: &str, lines: &[Line<'_>], scale: Scale) -> Drawn {
    let points = || lines.iter().flat_map(|line| &line.points);
    let last = points().map(|point| point.0).fold(1.0, f64::max) * 1.02;
    let most = points().map(|point| point.1).fold(1e-3, f64::max);
    let mut chart = ChartBuilder::on(area);
    let chart = chart
        .caption(title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(56);
    // The legend stands above the lines.
    let legend = 0.1 + 0.09 * lines.len() as f64;
    match scale {
        Scale::Linear => {
            let chart = chart.build_cartesian_2d(0.0..last, 0.0..most * (1.0 + legend))?;
            draw_lines(chart, along, lines)
        }
        Scale::Logarithmic => {
            let least = points().map(|point| point.1).fold(most, f64::min);
            let least = least.max(most / 1e6) / 1.5;
            let above = most * (most / least).powf(legend);
            let chart = chart.build_cartesian_2d(0.0..last, (least..above).log_scale())?;
            draw_lines(chart, along, lines)
        }
    }
}

fn draw_lines<'a, 'b: 'a, Y>(
    mut chart: ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>,
    along: &str,
    lines: &[Line<'_>],
) -> Drawn
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .max_light_lines(1)
        .x_labels(6)
        // Blocks and events are counted.
        .x_label_formatter(&|x| match x.fract().abs() < 1e-9 {
            true => format!("{x:.0}"),
            false => String::new(),
        })
        .x_desc(along)
        .draw()?;
    for (place, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(place).mix(1.0);
        let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(series.point_size(3))?
            .label(line.name)
            .legend(move |at| Circle::new((at.0 + 10, at.1), 4, colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(SMALL)
        .draw()?;
    Ok(())
}

/// A drawing with a caption beneath, which is broken into lines.
fn svg(caption: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut lines = vec![String::new()];
    for word in caption.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        match line.chars().count() + word.chars().count() < LINE_LENGTH {
            true => *line += &format!("{word} "),
            false => lines.push(format!("{word} ")),
        }
    }
    let mut text = String::new();
    let size = (WIDTH, HEIGHT + LINE * (lines.len() as u32 + 1));
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    let drawn = (|| {
        area.fill(&WHITE)?;
        let (above, below) = area.split_vertically(HEIGHT);
        draw(&above)?;
        for (at, line) in lines.iter().enumerate() {
            let place = (12, at as i32 * LINE as i32);
            below.draw(&Text::new(line.trim_end(), place, SMALL))?;
        }
        area.present()
    })();
    drop(area);
    drawn.expect("a string takes any drawing");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, mean: f64) -> Row {
        let figure = Figure {
            mean,
            low: mean / 2.0,
            high: mean * 1.5,
        };
        Row {
            name: name.into(),
            recall_1: figure,
            recall_5: figure,
            recall_10: figure,
            ndcg_10: figure,
            mrr_10: figure,
            mrr: Some(figure),
            genre: None,
        }
    }

    #[test]
    fn recall_shows_every_contender_every_k_and_the_whole_protocol() {
        let protocol = "seed 42, and so on; ".repeat(20);
        let svg = recall(&[row("popularity", 0.1), row("a < b & c", 0.3)], &protocol);
        assert!(
            svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
            "{svg}"
        );
        for text in [
            "popularity",
            "a &lt; b &amp; c",
            "Recall@1\n",
            "Recall@5\n",
            "Recall@10\n",
        ] {
            assert!(svg.contains(text), "{text:?} is missing in {svg}");
        }
        assert_eq!(svg.matches("seed 42,").count(), 20);
        // Per contender three means, and one in the legend.
        assert_eq!(svg.matches("<circle").count(), 2 * 4);
    }

    #[test]
    fn gates_and_costs_have_a_point_a_block_and_a_length_for_each_name() {
        let tuned = |name: &str| Gates {
            name: name.into(),
            blocks: vec![(22, 0.01), (23, -0.2)],
        };
        let svg = gates(&[tuned("enc-cross-attention"), tuned("proj-cross-attention")]);
        assert!(
            svg.contains("enc-cross-attention") && svg.contains("|tanh(gate)|"),
            "{svg}"
        );
        assert_eq!(svg.matches("<circle").count(), 2 * (2 + 1));

        let cost = |name: &str, events| Cost {
            events,
            name: name.into(),
            prompt_tokens: events * 10,
            gflop: 1.0,
            encoder_ms: 0.3,
            perceiver_ms: 0.2,
            prefill_ms: 2.0,
            runs: 3,
        };
        let svg = super::costs(&[cost("text", 50), cost("text", 100), cost("user", 50)]);
        assert!(
            svg.contains("ms to the first token") && svg.contains("GFLOP"),
            "{svg}"
        );
        // Three panels, each with three points and two names.
        assert_eq!(svg.matches("<circle").count(), 3 * (3 + 2));
    }

    #[test]
    fn data_is_drawn_with_a_point_for_each_of_the_first_places() {
        let dataset = crate::toy::dataset();
        let svg = histories(&dataset);
        let line = svg.split("<polyline").last().unwrap();
        let points = line.split("points=\"").nth(1).unwrap();
        let points = points.split('"').next().unwrap().split_whitespace();
        assert_eq!(points.count(), dataset.histories.len());
        assert!(
            svg.contains("12 people, the longest history first"),
            "{svg}"
        );
        assert!(items(&dataset).contains("items, the most popular first"));
    }

    #[test]
    fn training_has_a_panel_for_what_was_written_down() {
        let line = |stage: &str, step: usize, key: &str, value: f64| serde_json::json!({ "stage": stage, "step": step, key: value });
        assert_eq!(training(&[], "p"), None);
        let mut metrics = vec![
            line("pretraining", 1, "loss", 2.0),
            line("pretraining", 2, "loss", 1.0),
        ];
        let one = training(&metrics, "p").unwrap();
        assert!(
            one.contains("pretraining: loss") && !one.contains("tuning"),
            "{one}"
        );
        metrics.push(line("tuning", 1, "loss", 3.0));
        metrics.push(line("tuning", 1, "ndcg@10", 0.1));
        let two = training(&metrics, "p").unwrap();
        assert!(two.contains("tuning: ndcg@10"), "{two}");
        assert!(two.matches("<polyline").count() > one.matches("<polyline").count());
    }
}
