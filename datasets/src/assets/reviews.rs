//! Reviews by the name of their edition and part, from the homes of those who collected them.

use std::path::PathBuf;

use super::checked::{Expected, has_note};
use super::download::download;
use super::store::{AssetStore, lock};
use crate::Error;

/// Reviews that are published in parts: a file of reviews and one of metadata for each category of
/// products, or each state.
#[derive(Clone, Copy, Debug)]
pub struct Edition {
    /// What stands before the `/` of a name.
    pub name: &'static str,
    /// What it is, in one line.
    pub what: &'static str,
    /// What may be done with it.
    pub licence: &'static str,
    /// A part that there is.
    pub example: &'static str,
    /// Addresses of the reviews and of their metadata; `{}` is the part.
    files: [&'static str; 2],
}

/// The editions that have names. No hashes of their files are published: what arrives has to be as
/// long as its server says, and is checked against what arrived from then on.
pub const EDITIONS: &[Edition] = &[
    Edition {
        name: "amazon-2014",
        what: "Amazon reviews to July 2014, people and products with 5 reviews at least",
        licence: "research use; see jmcauley.ucsd.edu/data/amazon",
        example: "Musical_Instruments",
        files: [
            "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_{}_5.json.gz",
            "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/meta_{}.json.gz",
        ],
    },
    Edition {
        name: "amazon-2018",
        what: "Amazon reviews to October 2018, people and products with 5 reviews at least",
        licence: "research use; see nijianmo.github.io/amazon",
        example: "Magazine_Subscriptions",
        files: [
            "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/categoryFilesSmall/{}_5.json.gz",
            "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/metaFiles2/meta_{}.json.gz",
        ],
    },
    Edition {
        name: "amazon-2023",
        what: "Amazon reviews to September 2023, all of them",
        licence: "research use; see amazon-reviews-2023.github.io",
        example: "All_Beauty",
        files: [
            "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/review_categories/{}.jsonl.gz",
            "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/meta_categories/meta_{}.jsonl.gz",
        ],
    },
    Edition {
        name: "google-local-2021",
        what: "Google Local reviews to September 2021, people and places with 10 reviews at least",
        licence: "research use; see mcauleylab.ucsd.edu/public_datasets/gdrive/googlelocal",
        example: "Vermont",
        files: [
            "https://mcauleylab.ucsd.edu/public_datasets/gdrive/googlelocal/review-{}_10.json.gz",
            "https://mcauleylab.ucsd.edu/public_datasets/gdrive/googlelocal/meta-{}.json.gz",
        ],
    },
];

/// The edition and part of a name such as `amazon-2018/Magazine_Subscriptions`; `None` if it is the
/// name of something else.
pub fn edition_of(name: &str) -> Option<(&'static Edition, &str)> {
    let (edition, part) = name.split_once('/')?;
    let edition = EDITIONS.iter().find(|known| known.name == edition)?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!part.is_empty() && part.chars().all(is_part)).then_some((edition, part))
}

impl AssetStore {
    /// A folder with the reviews and the metadata of a part of an edition, fetched if they are not
    /// in the cache; [`load`](crate::load()) reads it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] with how to get the files by hand if a server cannot be reached or
    /// lacks a file. [`Error::Write`] if the cache cannot hold it; what has arrived is kept.
    pub fn fetch_reviews(&self, edition: &Edition, part: &str) -> Result<PathBuf, Error> {
        let folder = self.cache_dir.join(edition.name).join(part);
        let urls = edition.files.map(|url| url.replace("{}", part));
        let name_of = |url: &str| url.rsplit('/').next().unwrap_or_default().to_string();
        let is_here = |url: &String| has_note(&folder.join(name_of(url)));
        if urls.iter().all(is_here) {
            return Ok(folder);
        }
        let unavailable = |reason: String| Error::Unavailable {
            asset: format!("{}/{part}", edition.name),
            tried: vec![
                format!("the cache: not all in {}", folder.display()),
                reason,
            ],
            advice: format!(
                "Get {} and {} by hand, on any machine, into one folder, then give its path.",
                urls[0], urls[1]
            ),
        };
        if self.is_offline {
            let reason = "its home: not asked, because of --offline";
            return Err(unavailable(reason.to_string()));
        }
        let _lock = lock(&folder)?;
        for url in urls.iter().filter(|url| !is_here(url)) {
            let name = name_of(url);
            let expected = Expected {
                size: None,
                sha256: None,
            };
            let address = self.home(url);
            tracing::info!(url = address, "downloading");
            let report = |done, total| self.report(&name, done, total);
            match download(
                &self.agent,
                &address,
                &folder.join(&name),
                expected,
                &report,
            ) {
                Ok(()) => {}
                Err(error) if error.is_local() => return Err(error),
                Err(error) => return Err(unavailable(error.to_string())),
            }
        }
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_told_from_those_of_models_on_the_hub() {
        let (edition, part) = edition_of("amazon-2018/Magazine_Subscriptions").unwrap();
        assert_eq!((edition.name, part), ("amazon-2018", edition.example));
        for name in [
            "movielens-1m",
            "HuggingFaceTB/SmolLM2-135M",
            "amazon-2018/",
            "amazon-2018/../x",
        ] {
            assert!(edition_of(name).is_none(), "{name}");
        }
        for edition in EDITIONS {
            assert!(
                edition
                    .files
                    .iter()
                    .all(|url| url.matches("{}").count() == 1)
            );
        }
    }
}
