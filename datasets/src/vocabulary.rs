//! Numbers for the values of a modality, and for what is absent or unknown.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// The id that fills up a batch where a history is short.
pub const PADDING: u32 = 0;

/// The id of every value that the vocabulary does not hold.
pub const UNKNOWN: u32 = 1;

const N_SPECIAL: u32 = 2;

/// Numbers for the values of one modality: 0 is padding, 1 is unknown, then the values in order.
///
/// It is saved as the list of its values.
///
/// # Example
///
/// ```
/// use datasets::vocabulary::{UNKNOWN, Vocabulary};
///
/// let genres = Vocabulary::new(["Action", "Comedy"]);
/// assert_eq!(genres.len(), 4);
/// assert_eq!(genres.id_of("Comedy"), 3);
/// assert_eq!(genres.id_of("Western"), UNKNOWN);
/// assert_eq!(genres.value_of(2), Some("Action"));
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Vocabulary {
    values: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// Number the values in the order given. A value that comes again keeps its first number.
    pub fn new(values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut vocabulary = Self {
            values: Vec::new(),
            ids: HashMap::new(),
        };
        for value in values {
            let value = value.into();
            if !vocabulary.ids.contains_key(&value) {
                vocabulary
                    .ids
                    .insert(value.clone(), vocabulary.len() as u32);
                vocabulary.values.push(value);
            }
        }
        vocabulary
    }

    /// The id of a value, [`UNKNOWN`] if the vocabulary does not hold it.
    pub fn id_of(&self, value: &str) -> u32 {
        self.ids.get(value).copied().unwrap_or(UNKNOWN)
    }

    /// The value with this id; nothing for padding, unknown and ids beyond the last.
    pub fn value_of(&self, id: u32) -> Option<&str> {
        let index = id.checked_sub(N_SPECIAL)? as usize;
        self.values.get(index).map(String::as_str)
    }

    /// The values in order, without the two special ones.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Number of ids, padding and unknown included: the rows that an embedding table needs.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the two special ids are always there"
    )]
    pub fn len(&self) -> usize {
        self.values.len() + N_SPECIAL as usize
    }
}

impl TryFrom<Vec<String>> for Vocabulary {
    type Error = String;

    /// Unlike [`Vocabulary::new`], a value that comes twice is an error here: a file that was
    /// changed by hand would otherwise silently renumber what follows.
    fn try_from(values: Vec<String>) -> Result<Self, String> {
        let n_values = values.len();
        let vocabulary = Self::new(values);
        if vocabulary.values.len() < n_values {
            return Err("the vocabulary holds a value twice".to_string());
        }
        Ok(vocabulary)
    }
}

impl From<Vocabulary> for Vec<String> {
    fn from(vocabulary: Vocabulary) -> Self {
        vocabulary.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_the_two_special_ids() {
        let vocabulary = Vocabulary::new(["a", "b", "a", "c"]);
        assert_eq!(vocabulary.len(), 5);
        assert_eq!(
            ["a", "b", "c"].map(|value| vocabulary.id_of(value)),
            [2, 3, 4]
        );
        assert_eq!(
            [2, 3, 4].map(|id| vocabulary.value_of(id).unwrap()),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn special_ids_have_no_value() {
        let vocabulary = Vocabulary::new(["a"]);
        assert_eq!(vocabulary.id_of("b"), UNKNOWN);
        assert_eq!(
            [PADDING, UNKNOWN, 3, u32::MAX].map(|id| vocabulary.value_of(id)),
            [None; 4]
        );
    }

    #[test]
    fn a_vocabulary_survives_a_file() {
        let vocabulary = Vocabulary::new(["Film-Noir", "Children's", ""]);
        let text = serde_json::to_string(&vocabulary).unwrap();
        assert_eq!(text, r#"["Film-Noir","Children's",""]"#);
        assert_eq!(
            serde_json::from_str::<Vocabulary>(&text).unwrap(),
            vocabulary
        );
    }

    #[test]
    fn a_file_with_a_value_twice_is_refused() {
        let error = serde_json::from_str::<Vocabulary>(r#"["a","b","a"]"#).unwrap_err();
        assert!(error.to_string().contains("holds a value twice"), "{error}");
    }
}
