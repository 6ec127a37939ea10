//! Porter's stemmer as NLTK has it, which `rouge-score` uses: his algorithm of 1980 with NLTK's
//! extensions. (Snowball's English stemmer, which crates have, is Porter's second, and another.)

/// Words that no rule gets right.
const IRREGULAR: &[(&str, &str)] = &[
    ("skies", "sky"),
    ("sky", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// An ending, and what takes its place. Of a list the first counts that a word has.
type Rule = (&'static str, &'static str);

const STEP_1A: &[Rule] = &[("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")];

const STEP_1B: &[Rule] = &[("at", "ate"), ("bl", "ble"), ("iz", "ize")];

const STEP_2: &[Rule] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

const STEP_3: &[Rule] = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

const STEP_4: &[Rule] = &[
    ("al", ""),
    ("ance", ""),
    ("ence", ""),
    ("er", ""),
    ("ic", ""),
    ("able", ""),
    ("ible", ""),
    ("ant", ""),
    ("ement", ""),
    ("ment", ""),
    ("ent", ""),
    ("ion", ""),
    ("ou", ""),
    ("ism", ""),
    ("ate", ""),
    ("iti", ""),
    ("ous", ""),
    ("ive", ""),
    ("ize", ""),
];

/// The stem of a word of lower-case letters and digits.
pub(super) fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_string();
    }
    if word.len() <= 2 {
        return word.to_string();
    }
    let word = step_1a(word);
    let word = step_1b(&word);
    let word = step_1c(&word);
    let word = step_2(&word);
    let word = replaced(&word, STEP_3, |stem, _| measure(stem) > 0);
    let word = replaced(&word, STEP_4, |stem, ending| {
        measure(stem) > 1 && (ending != "ion" || stem.ends_with(['s', 't']))
    });
    step_5(&word)
}

/// Plurals.
fn step_1a(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(stem) if stem.len() == 1 => format!("{stem}ie"),
        _ => replaced(word, STEP_1A, |_, _| true),
    }
}

/// Past and participles.
fn step_1b(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return format!("{stem}{}", if stem.len() == 1 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 {
            format!("{stem}ee")
        } else {
            word.to_string()
        };
    }
    let endings = ["ed", "ing"].into_iter();
    let mut stems = endings.filter_map(|ending| word.strip_suffix(ending));
    let Some(stem) = stems.find(|stem| has_vowel(stem)) else {
        return word.to_string();
    };
    if STEP_1B.iter().any(|(ending, _)| stem.ends_with(ending)) {
        return replaced(stem, STEP_1B, |_, _| true);
    }
    if ends_in_double_consonant(stem) {
        let keeps_both = stem.ends_with(['l', 's', 'z']);
        return stem[..stem.len() - usize::from(!keeps_both)].to_string();
    }
    let is_short = measure(stem) == 1 && ends_in_cvc(stem);
    format!("{stem}{}", if is_short { "e" } else { "" })
}

/// A last y behind a consonant.
fn step_1c(word: &str) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && is_consonant(stem).ends_with(&[true]) => format!("{stem}i"),
        _ => word.to_string(),
    }
}

/// Double endings.
fn step_2(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("alli").filter(|stem| measure(stem) > 0) {
        return step_2(&format!("{stem}al"));
    }
    match word.strip_suffix("ogi") {
        // The l counts as a part of what is measured.
        Some(stem) if stem.ends_with('l') && measure(stem) > 0 => format!("{stem}og"),
        _ => replaced(word, STEP_2, |stem, _| measure(stem) > 0),
    }
}

/// A last e, and a double l.
fn step_5(word: &str) -> String {
    let is_left_out = |stem: &&str| {
        let measure = measure(stem);
        measure > 1 || (measure == 1 && !ends_in_cvc(stem))
    };
    let word = word.strip_suffix('e').filter(is_left_out).unwrap_or(word);
    match word.strip_suffix('l') {
        Some(stem) if stem.ends_with('l') && measure(stem) > 1 => stem.to_string(),
        _ => word.to_string(),
    }
}

/// The word with its ending replaced by the first rule whose ending it has, if what stands before
/// it meets the condition.
fn replaced(word: &str, rules: &[Rule], condition: impl Fn(&str, &str) -> bool) -> String {
    let stems = |(ending, by): &Rule| Some((word.strip_suffix(ending)?, *ending, *by));
    match rules.iter().find_map(stems) {
        Some((stem, ending, by)) if condition(stem, ending) => format!("{stem}{by}"),
        _ => word.to_string(),
    }
}

/// For each letter whether it is a consonant: none of a, e, i, o, u, and no y behind a consonant.
fn is_consonant(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word.bytes() {
        flags.push(match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => flags.last().is_none_or(|before| !before),
            _ => true,
        });
    }
    flags
}

/// How often a consonant follows a vowel.
fn measure(word: &str) -> usize {
    let flags = is_consonant(word);
    let follows = |pair: &&[bool]| !pair[0] && pair[1];
    flags.windows(2).filter(follows).count()
}

fn has_vowel(word: &str) -> bool {
    is_consonant(word).contains(&false)
}

fn ends_in_double_consonant(word: &str) -> bool {
    let is_double = matches!(word.as_bytes(), [.., a, b] if a == b);
    is_double && is_consonant(word).ends_with(&[true])
}

/// Consonant, vowel, consonant but w, x and y; or a word of vowel and consonant.
fn ends_in_cvc(word: &str) -> bool {
    let flags = is_consonant(word);
    let is_long = flags.ends_with(&[true, false, true]) && !word.ends_with(['w', 'x', 'y']);
    is_long || flags == [false, true]
}
