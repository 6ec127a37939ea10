//! What the files say of items beyond their titles.

use crate::movielens::Layout;
use crate::read::files::Files;
use crate::read::json::Scalar;
use crate::read::markup::plain;
use crate::{Catalogue, Error, ReadOptions, Source, reviews, sequences, tables};

impl Source {
    /// What the files say of each item of a catalogue that was read from them, in its order and
    /// without markup; empty where they say nothing. Metadata of Amazon's and Google Local's reviews
    /// have descriptions, and tables whose config names the column.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    ///
    /// # Example
    ///
    /// ```
    /// use datasets::{ReadOptions, Source};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path();
    /// std::fs::write(
    ///     folder.join("review-Oz.json"),
    ///     r#"{"user_id": "7", "gmap_id": "0x1", "rating": 5, "time": 1623001450558, "text": "!"}"#,
    /// )?;
    /// std::fs::write(
    ///     folder.join("meta-Oz.json"),
    ///     r#"{"gmap_id": "0x1", "name": "Emerald City", "description": "All is <i>green</i>."}"#,
    /// )?;
    /// let (source, options) = (Source::Path(folder.into()), ReadOptions::default());
    /// let catalogue = source.load(&options)?.catalogue;
    /// assert_eq!(source.descriptions(&catalogue, &options)?, ["All is green ."]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn descriptions(
        &self,
        catalogue: &Catalogue,
        options: &ReadOptions,
    ) -> Result<Vec<String>, Error> {
        match self {
            Self::Tables { config, folder } => {
                tables::descriptions(config, folder, catalogue, options)
            }
            Self::Path(path) => {
                let files = Files::open(path, options)?;
                match says_nothing(&files) {
                    true => Ok(Descriptions::new(catalogue).finish()),
                    false => reviews::descriptions(files, catalogue),
                }
            }
        }
    }
}

/// Whether these files are of a kind that has no texts of people: MovieLens, or sequences of visits.
pub(crate) fn says_nothing(files: &Files) -> bool {
    Layout::of(files).is_some() || files.has(&sequences::ITEMS_NAMES)
}

/// Collects descriptions by items' ids; the first that says something stays.
pub(crate) struct Descriptions<'a> {
    catalogue: &'a Catalogue,
    texts: Vec<String>,
}

impl<'a> Descriptions<'a> {
    pub(crate) fn new(catalogue: &'a Catalogue) -> Self {
        Self {
            catalogue,
            texts: vec![String::new(); catalogue.len()],
        }
    }

    /// A text, or paragraphs; nothing happens for an item that the catalogue does not have.
    pub(crate) fn add(&mut self, id: &str, description: &Scalar<'_>) {
        let Some(item) = self.catalogue.find(id) else {
            return;
        };
        let text = &mut self.texts[item as usize];
        if text.is_empty() {
            *text = match description {
                Scalar::Text(description) => plain(description).into_owned(),
                Scalar::List(paragraphs) => plain(&paragraphs.join(" ")).into_owned(),
                _ => return,
            };
        }
    }

    pub(crate) fn finish(self) -> Vec<String> {
        self.texts
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::tables::TableConfig;

    fn descriptions(source: &Source) -> Vec<(String, String)> {
        let options = ReadOptions::default();
        let catalogue = source.load(&options).unwrap().catalogue;
        let texts = source.descriptions(&catalogue, &options).unwrap();
        let ids = catalogue.items.into_iter().map(|item| item.id);
        ids.zip(texts).collect()
    }

    fn expect(source: &Source, expected: &[(&str, &str)]) {
        let found = descriptions(source);
        let found: Vec<(&str, &str)> = found.iter().map(|(id, text)| (&**id, &**text)).collect();
        assert_eq!(found, expected);
    }

    fn source(folder: &Path) -> Source {
        Source::Path(folder.into())
    }

    #[test]
    fn metadata_of_all_editions_describe_items_and_the_first_text_stays() {
        let folder = tempfile::tempdir().unwrap();
        let reviews = r#"{"reviewerID": "A", "asin": "B4", "unixReviewTime": 9}"#;
        fs::write(folder.path().join("X_5.json"), reviews).unwrap();
        let metadata = r#"{"asin": "B1", "description": ["One &amp; two.", "<p>Three.</p>"]}
{"parent_asin": "B2", "description": []}
{'asin': 'B3', 'description': u'It\'s fine.'}
{"asin": "B2", "description": "Late."}
{"asin": "B1", "description": "Later."}
"#;
        fs::write(folder.path().join("meta_X.json"), metadata).unwrap();
        let expected = [
            ("B1", "One & two. Three."),
            ("B2", "Late."),
            ("B3", "It's fine."),
            ("B4", ""),
        ];
        expect(&source(folder.path()), &expected);
    }

    #[test]
    fn a_table_describes_items_where_its_config_says_so() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("log.csv"), "who,what\nada,7\nada,8\n").unwrap();
        fs::write(
            folder.path().join("items.csv"),
            "sku,about\n7,\"Black, hot\"\n6,\n",
        )
        .unwrap();
        let with = |key: &str| {
            let config: TableConfig = serde_json::from_str(&format!(
                r#"{{"events": "log.csv", "user": "who", "item": "what",
                     "catalogue": {{"path": "items.csv", "id": "sku"{key}}}}}"#
            ))
            .unwrap();
            Source::Tables {
                config,
                folder: folder.path().into(),
            }
        };
        let described = with(r#", "description": "about""#);
        expect(&described, &[("7", "Black, hot"), ("6", ""), ("8", "")]);
        expect(&with(""), &[("7", ""), ("6", ""), ("8", "")]);
        let options = ReadOptions::default();
        let catalogue = described.load(&options).unwrap().catalogue;
        let wrong = with(r#", "description": "abuot""#);
        let error = wrong.descriptions(&catalogue, &options).unwrap_err();
        assert!(error.to_string().contains("no column \"abuot\""), "{error}");
    }

    #[test]
    fn where_nothing_is_said_all_are_empty() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("movies.dat"), "1::Heat (1995)::Crime\n").unwrap();
        fs::write(folder.path().join("ratings.dat"), "7::1::5::10\n").unwrap();
        expect(&source(folder.path()), &[("1", "")]);
    }
}
