//! Texts from web pages as plain text.

use std::borrow::Cow;

/// A text without tags, entities and repeated spaces; nothing of it if it is a script. A tag that
/// does not end reaches to the end of the text.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let trimmed = text.trim();
    if trimmed.contains("getTime()") {
        return Cow::Borrowed("");
    }
    let is_plain = !trimmed.contains(['<', '&', '\n', '\r', '\t']) && !trimmed.contains("  ");
    if is_plain {
        return Cow::Borrowed(trimmed);
    }
    let mut plain = String::with_capacity(trimmed.len());
    let mut rest = trimmed;
    while let Some(at) = rest.find(['<', '&']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let is_tag = rest.starts_with('<')
            && rest[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
        if is_tag {
            // A line break in the page is a space in the text.
            plain.push(' ');
            rest = rest.find('>').map_or("", |end| &rest[end + 1..]);
        } else if let Some((c, length)) = entity(rest) {
            plain.push(c);
            rest = &rest[length..];
        } else {
            plain.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    plain.push_str(rest);
    let words: Vec<&str> = plain.split_whitespace().collect();
    Cow::Owned(words.join(" "))
}

/// The character that an entity stands for, and the entity's length in bytes.
fn entity(text: &str) -> Option<(char, usize)> {
    const LONGEST: usize = 10;
    let end = text.bytes().take(LONGEST).position(|byte| byte == b';')?;
    let name = text.get(1..end)?;
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    };
    Some((c, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_entities_and_scripts_go_and_text_stays() {
        for (text, expected) in [
            ("Plain & simple", "Plain & simple"),
            ("Disney &amp; Me", "Disney & Me"),
            ("<span class=\"a-size-medium a-color-secondary\"", ""),
            ("Read <b>this</b><br />now", "Read this now"),
            ("I <3 NY, 2 < 3", "I <3 NY, 2 < 3"),
            (
                "It&#39;s &#x41; &bogus; &#99999999;",
                "It's A &bogus; &#99999999;",
            ),
            (" a \n\t b ", "a b"),
            ("var t = new Date().getTime();", ""),
            ("&é;<é", "&é;<é"),
        ] {
            assert_eq!(plain(text), expected);
        }
    }
}
