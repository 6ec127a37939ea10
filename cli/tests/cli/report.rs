//! Runs as one HTML file.

use super::*;

#[test]
fn runs_and_grids_become_one_file_that_shows_people_only_when_asked() {
    let place = Place::new();
    place.pretrain("r", 12, 3).ok();
    let ask = |words: &[&str]| place.run(&[words, &["--data", "ml"]].concat());
    ask(&["tune", "--run", "r"]).ok();
    let page = |more: &[&str]| {
        place.run(&[&["report", "r"], more].concat()).ok();
        fs::read_to_string(place.path("report.html")).unwrap()
    };
    let before = page(&[]);
    assert!(
        before.contains("Not evaluated: `user-llm evaluate --run r`"),
        "{before}"
    );
    assert!(
        before.contains("tuning enc-cross-attention: loss"),
        "{before}"
    );

    ask(&["evaluate", "--run", "r", "--no-text", "--costs"]).ok();
    fs::create_dir(place.path("grid")).unwrap();
    fs::write(
        place.path("grid/table.md"),
        "# a grid\n\n| cell |\n| --- |\n| one |\n",
    )
    .unwrap();
    let html = page(&["grid"]);
    for part in [
        "<td>User-LLM, cross-attention, Enc</td>",
        "leave-one-out",
        "<h3>Gates by block</h3>",
        "<h3>Costs by length of history</h3>",
        "<h2>a grid</h2>",
        "d_user = 8",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    // Nothing is fetched, and nobody is shown.
    let namespace = "http://www.w3.org/2000/svg";
    assert_eq!(
        html.matches("http").count(),
        html.matches(namespace).count()
    );
    assert!(
        !html.contains("<script") && !html.contains("What came next"),
        "{html}"
    );

    let html = page(&["--users", "12", "--data", "ml"]);
    assert_eq!(
        html.matches("What came next").count(),
        6,
        "those who are tested"
    );
    assert!(
        !html.contains(CANARY_USER) && html.contains("new big"),
        "{html}"
    );

    let bench = [
        "bench", "--run", "r", "--runs", "1", "--tokens", "4", "--events",
    ];
    let table = ask(&[&bench[..], &["5"]].concat()).ok().out;
    for part in [
        "encoder ",
        "Perceiver",
        "cross-attention, next token",
        "10 of ",
        "GFLOP/s",
        "5 events",
    ] {
        assert!(table.contains(part), "{part} is missing in {table}");
    }
    ask(&[&bench[..], &["21"]].concat()).fails(&["--events 21", "from 1 to 20"]);
    place
        .run(&["report", "nowhere"])
        .fails(&["nowhere", "holds no run"]);
}
