//! Records of JSON lines as they are found: numbers as texts, lists as texts, Python's spelling.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value of which it does not matter whether it was written as a number or as a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Scalar<'a> {
    /// Absent, or null.
    #[default]
    Missing,
    Text(Cow<'a, str>),
    Whole(i64),
    Real(f64),
    /// The texts in a list, and in the lists in it.
    List(Vec<String>),
    /// A time, in seconds since 1970 UTC, from a file that says so.
    Seconds(i64),
    /// An object or a truth value.
    Other,
}

impl Scalar<'_> {
    /// The value as a file without types would write it; nothing if there is none.
    pub(crate) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Missing => None,
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Whole(number) => Some(Cow::Owned(number.to_string())),
            Self::Real(number) => Some(Cow::Owned(number.to_string())),
            Self::Seconds(seconds) => Some(Cow::Owned(seconds.to_string())),
            Self::List(_) => Some(Cow::Borrowed("a list")),
            Self::Other => Some(Cow::Borrowed("neither text nor number")),
        }
    }

    /// The value as an id. One too large for a whole number would have lost its last digits.
    pub(crate) fn id(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(_) | Self::Whole(_) => self.text(),
            _ => None,
        }
    }

    /// The names that it lists; a list may be written as a text.
    pub(crate) fn names(&self) -> Names {
        match self {
            Self::List(names) => Names {
                names: names.clone(),
                was_text: false,
            },
            Self::Text(text) => Names::of_text(text),
            _ => Names::default(),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Missing)
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Other)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Whole(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                let text = || Scalar::Text(Cow::Owned(number.to_string()));
                Ok(number.try_into().map_or_else(|_| text(), Scalar::Whole))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Real(number))
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_string())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut names = Vec::new();
                while let Some(inner) = list.next_element::<Scalar<'de>>()? {
                    match inner {
                        Scalar::Text(name) => names.push(name.into_owned()),
                        Scalar::List(inner) => names.extend(inner),
                        _ => {}
                    }
                }
                Ok(Scalar::List(names))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Names in a list, which may be written as a text; any other text is one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Names {
    pub(crate) names: Vec<String>,
    /// Whether a list was written as a text.
    pub(crate) was_text: bool,
}

impl Names {
    pub(crate) fn of_text(text: &str) -> Self {
        if text.trim_start().starts_with('[') {
            let list = python_to_json(text);
            if let Ok(Scalar::List(names)) = serde_json::from_str(&list) {
                let was_text = true;
                return Self { names, was_text };
            }
        }
        let names = match text.trim() {
            "" => Vec::new(),
            name => vec![name.to_string()],
        };
        Self {
            names,
            was_text: false,
        }
    }
}

/// Whether an object is written in Python's way: its first key in single quotes.
pub(crate) fn is_python(line: &str) -> bool {
    let inside = line.trim_start().strip_prefix('{').unwrap_or_default();
    inside.trim_start().starts_with(['\'', 'u'])
}

/// A Python literal, as `repr` writes dictionaries and lists, in JSON. What is no such literal
/// comes out as something that is no JSON either.
pub(crate) fn python_to_json(python: &str) -> String {
    let mut json = String::with_capacity(python.len() + 16);
    let mut rest = python;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '\'' | '"' => string(&rest[1..], first, &mut json),
            '(' | ')' | ']' | '}' => {
                if first != '(' && json.trim_end().ends_with(',') {
                    json.truncate(json.trim_end().len() - 1);
                }
                json.push(match first {
                    '(' => '[',
                    ')' => ']',
                    other => other,
                });
                &rest[1..]
            }
            _ if first.is_ascii_alphanumeric() => {
                let end = rest
                    .find(|c: char| !c.is_ascii_alphanumeric())
                    .unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                match word {
                    "None" => json.push_str("null"),
                    "True" => json.push_str("true"),
                    "False" => json.push_str("false"),
                    "u" | "b" | "r" if behind.starts_with(['\'', '"']) => {}
                    _ => {
                        let is_digit = |c: char| c.is_ascii_digit();
                        let digits = word.strip_suffix('L').filter(|n| n.chars().all(is_digit));
                        json.push_str(digits.unwrap_or(word));
                    }
                }
                behind
            }
            other => {
                json.push(other);
                &rest[other.len_utf8()..]
            }
        };
    }
    json
}

/// A text up to its closing quote. Returns what is behind.
fn string<'t>(text: &'t str, quote: char, json: &mut String) -> &'t str {
    json.push('"');
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => {
                json.push('"');
                return &text[at + c.len_utf8()..];
            }
            '"' => json.push_str("\\\""),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", c as u32)),
            '\\' => match chars.next().map(|(_, escaped)| escaped) {
                Some('\'') => json.push('\''),
                Some('x') => json.push_str("\\u00"),
                Some('U') => {
                    let digits: String = chars.by_ref().take(8).map(|(_, digit)| digit).collect();
                    let code = u32::from_str_radix(&digits, 16).ok();
                    json.push(code.and_then(char::from_u32).unwrap_or('\u{fffd}'));
                }
                Some(c @ ('\\' | '"' | 'n' | 'r' | 't' | 'b' | 'f' | 'u')) => {
                    json.extend(['\\', c])
                }
                Some(other) => json.extend(['\\', '\\', other]),
                None => json.push('\\'),
            },
            c => json.push(c),
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_dictionary_becomes_json() {
        let python = r#"{'a': u'It\'s "so"', "b": (1, 2.5, 12L,), 'c': None, 'd': [True, False], 'e': '\xe9\U0001f600\d', 'f': ()}"#;
        let value: serde_json::Value = serde_json::from_str(&python_to_json(python)).unwrap();
        let expected = serde_json::json!({
            "a": "It's \"so\"", "b": [1, 2.5, 12], "c": null, "d": [true, false],
            "e": "é😀\\d", "f": []
        });
        assert_eq!(value, expected);
        assert!(is_python(python) && is_python("{u'a': 1}") && !is_python(r#"{"a": 'x'}"#));
    }

    #[test]
    fn names_come_out_of_lists_however_they_are_written() {
        let names = |json: &str| serde_json::from_str::<Scalar<'_>>(json).unwrap().names();
        assert_eq!(
            names(r#"[["Books", "Crime"], ["Art"]]"#).names,
            ["Books", "Crime", "Art"]
        );
        let text = names(r#""['Tire shop', \"Jo's\"]""#);
        assert_eq!(
            (text.names, text.was_text),
            (vec!["Tire shop".into(), "Jo's".into()], true)
        );
        assert_eq!(names(r#""Church""#).names, ["Church"]);
        assert_eq!(names("null"), names(r#""""#));
        assert_eq!(names(r#""[not closed""#).names, ["[not closed"]);
    }

    #[test]
    fn a_scalar_may_be_anything() {
        let text = |json: &str| {
            let scalar: Scalar<'_> = serde_json::from_str(json).unwrap();
            scalar.text().map(Cow::into_owned)
        };
        assert_eq!(text("12").as_deref(), Some("12"));
        let long: Scalar<'_> = serde_json::from_str("102139132344244081573").unwrap();
        assert_eq!(long.id(), None, "its last digits are lost");
        assert_eq!(text(r#""a\"b""#).as_deref(), Some("a\"b"));
        assert_eq!(text("null"), None);
        assert_eq!(text("[1, {\"a\": 2}]").as_deref(), Some("a list"));
    }
}
