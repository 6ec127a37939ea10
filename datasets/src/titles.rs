//! Titles as MovieLens writes them, `Matrix, The (1999)`, and as people do, `The Matrix`.

/// Articles that MovieLens moves behind the title, as in `Haine, La`.
const ARTICLES: &[&str] = &[
    "The", "A", "An", // English
    "Le", "La", "Les", "L'", "L’", "Un", "Une", // French
    "El", "Los", "Las", "Una", // Spanish
    "Il", "Lo", "I", "Gli", "Uno", // Italian
    "Der", "Die", "Das", "Ein", "Eine", // German
    "De", "Het", "Een", // Dutch
    "Den", "Det", "En", "Ett", "Et", // Scandinavian
    "O", "Os", "As", "Um", "Uma", // Portuguese
];

/// Split a MovieLens title into the title proper and the year of release.
///
/// The article comes to the front. Groups in parentheses at the end, such as a foreign title or
/// an `a.k.a.`, are dropped; those inside the title stay. Of a range of years the first counts.
///
/// # Example
///
/// ```
/// use datasets::titles::parse;
///
/// assert_eq!(parse("Matrix, The (1999)"), ("The Matrix".to_string(), Some(1999)));
/// assert_eq!(parse("Avventura, L' (Adventure, The) (1960)"), ("L'Avventura".to_string(), Some(1960)));
/// assert_eq!(parse("(500) Days of Summer (2009)"), ("(500) Days of Summer".to_string(), Some(2009)));
/// assert_eq!(parse("unknown"), ("unknown".to_string(), None));
/// ```
pub fn parse(raw: &str) -> (String, Option<u16>) {
    let mut title = raw.trim();
    let mut year = None;
    while let Some((before, group)) = split_last_group(title) {
        year = year.or_else(|| parse_year(group));
        title = before;
    }
    (article_first(title), year)
}

/// `Foo (a) (b)` gives `Foo (a)` and `b`. Nothing if no group ends the title, or if nothing but
/// the group would be left: a film may well be called `(Untitled)`.
fn split_last_group(title: &str) -> Option<(&str, &str)> {
    let body = title.strip_suffix(')')?;
    let mut depth = 1;
    let open = body.bytes().rposition(|byte| {
        match byte {
            b')' => depth += 1,
            b'(' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    let before = body[..open].trim_end();
    (!before.is_empty()).then(|| (before, &body[open + 1..]))
}

/// `1999`, `2006–2007`, `2009-` and `2009– ` are years; `1999 remake` is not.
fn parse_year(group: &str) -> Option<u16> {
    let (digits, rest) = group.split_at_checked(4)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let is_range = |rest: &str| {
        rest.starts_with(['-', '–'])
            && rest
                .chars()
                .skip(1)
                .all(|c| c.is_ascii_digit() || c.is_whitespace())
    };
    (rest.is_empty() || is_range(rest)).then(|| digits.parse().ok())?
}

fn article_first(title: &str) -> String {
    let Some((rest, article)) = title.rsplit_once(", ") else {
        return title.to_string();
    };
    if rest.is_empty() || !ARTICLES.contains(&article) {
        return title.to_string();
    }
    let gap = if article.ends_with(['\'', '’']) {
        ""
    } else {
        " "
    };
    format!("{article}{gap}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_title(raw: &str, title: &str, year: impl Into<Option<u16>>) {
        assert_eq!(parse(raw), (title.to_string(), year.into()), "{raw}");
    }

    #[test]
    fn the_article_comes_to_the_front_in_every_language() {
        assert_title("Matrix, The (1999)", "The Matrix", 1999);
        assert_title(
            "Good, the Bad and the Ugly, The (1966)",
            "The Good, the Bad and the Ugly",
            1966,
        );
        assert_title("American in Paris, An (1951)", "An American in Paris", 1951);
        assert_title(
            "Fille seule, La (A Single Girl) (1995)",
            "La Fille seule",
            1995,
        );
        assert_title("Avventura, L' (1960)", "L'Avventura", 1960);
        assert_title("Boot, Das (Boat, The) (1981)", "Das Boot", 1981);
        assert_title("Mariachi, El (1992)", "El Mariachi", 1992);
        assert_title("Postino, Il (1994)", "Il Postino", 1994);
        assert_title("Vitelloni, I (1953)", "I Vitelloni", 1953);
    }

    #[test]
    fn a_comma_that_belongs_to_the_title_stays() {
        assert_title(
            "I, Worst of All (Yo, la peor de todas) (1990)",
            "I, Worst of All",
            1990,
        );
        assert_title(
            "Honey, I Shrunk the Kids (1989)",
            "Honey, I Shrunk the Kids",
            1989,
        );
        assert_title("Paris, Texas (1984)", "Paris, Texas", 1984);
        assert_title(
            "Maybe, Maybe Not (Bewegte Mann, Der) (1994)",
            "Maybe, Maybe Not",
            1994,
        );
        assert_title("Monsters, Inc. (2001)", "Monsters, Inc.", 2001);
    }

    #[test]
    fn other_titles_in_parentheses_are_dropped() {
        assert_title(
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
            "The City of Lost Children",
            1995,
        );
        assert_title(
            "Bicycle Thieves (a.k.a. The Bicycle Thief) (Ladri di biciclette) (1948)",
            "Bicycle Thieves",
            1948,
        );
        assert_title("Nested (one (two) three) (1990)", "Nested", 1990);
        let video = "Land Before Time III: The Time of the Great Giving (1995) (V)";
        assert_title(
            video,
            "Land Before Time III: The Time of the Great Giving",
            1995,
        );
    }

    #[test]
    fn parentheses_inside_a_title_stay() {
        assert_title("(500) Days of Summer (2009)", "(500) Days of Summer", 2009);
        assert_title(
            "Evangelion: 1.0 You Are (Not) Alone (Evangerion shin gekijôban: Jo) (2007)",
            "Evangelion: 1.0 You Are (Not) Alone",
            2007,
        );
        assert_title("(Untitled) (2009)", "(Untitled)", 2009);
    }

    #[test]
    fn years_may_be_absent_or_a_range() {
        assert_title("unknown", "unknown", None);
        assert_title("Babylon 5", "Babylon 5", None);
        assert_title(
            "Death Note: Desu nôto (2006–2007)",
            "Death Note: Desu nôto",
            2006,
        );
        assert_title("Fawlty Towers (1975-1979)", "Fawlty Towers", 1975);
        assert_title("Justice League: Doom (2012) ", "Justice League: Doom", 2012);
        assert_title("2012 (2009)", "2012", 2009);
    }

    #[test]
    fn no_text_makes_it_panic() {
        for raw in [
            "",
            ")",
            "(",
            "()",
            "((",
            "))",
            ", The",
            "é)",
            "(é",
            "x (ééé)",
            "x (199é)",
        ] {
            parse(raw);
        }
    }
}
