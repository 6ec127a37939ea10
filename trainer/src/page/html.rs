//! From our Markdown to HTML: headings, tables, paragraphs.

/// Text as HTML shows it.
pub(super) fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// Headings of the first level, tables, and paragraphs of a line each.
pub(super) fn from_markdown(text: &str) -> String {
    let mut html = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("# ") {
            html += &format!("<h2>{}</h2>\n", escaped(heading));
        } else if let Some(header) = cells(line) {
            html += "<div class=\"table\"><table>\n<thead>";
            html += &row("th", &header);
            html += "</thead>\n<tbody>\n";
            while let Some(cells) = lines.peek().copied().and_then(cells) {
                lines.next();
                let is_rule = cells.iter().all(|cell| cell.chars().all(|c| c == '-'));
                if !is_rule {
                    html += &row("td", &cells);
                }
            }
            html += "</tbody>\n</table></div>\n";
        } else if !line.trim().is_empty() {
            html += &format!("<p>{}</p>\n", escaped(line));
        }
    }
    html
}

/// Cells of a table's line, if it is one.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

fn row(tag: &str, cells: &[&str]) -> String {
    let cells = cells
        .iter()
        .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)));
    format!("<tr>{}</tr>\n", cells.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_tables_become_html_and_nothing_in_them_does() {
        let header = ["name", "Recall@10"];
        let rows = [vec!["a <b> & \"c\"".to_string(), "0.5".into()]];
        let markdown = crate::report::table(&header, &rows);
        let html = from_markdown(&format!("# Title\n\n{markdown}\nAll 19 items.\n"));
        let expected = "<h2>Title</h2>\n\
            <div class=\"table\"><table>\n\
            <thead><tr><th>name</th><th>Recall@10</th></tr>\n</thead>\n\
            <tbody>\n\
            <tr><td>a &lt;b&gt; &amp; &quot;c&quot;</td><td>0.5</td></tr>\n\
            </tbody>\n</table></div>\n\
            <p>All 19 items.</p>\n";
        assert_eq!(html, expected);
    }
}
