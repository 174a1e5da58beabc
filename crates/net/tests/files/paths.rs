//! No name and no symbolic link leads out of a root.

use std::os::unix::fs::symlink;

use parlour_net::{Code, FileError, PathError, RemotePath};
use proptest::prelude::*;

use crate::world::{World, bounded, content, names};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_a_remote_path_stays_below_its_root(text in "[a-zA-Z0-9./\\\\: \u{0}\u{7f}~$ü-]{0,40}") {
        if let Ok(path) = text.parse::<RemotePath>() {
            prop_assert_eq!(path.as_str(), &text);
            prop_assert_eq!(format!("{}/{}", path.root(), path.below()), text);
            let below = std::path::Path::new(path.below());
            prop_assert!(below.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            let rebuilt: Vec<_> = path.folders().chain([path.name()]).collect();
            prop_assert_eq!(rebuilt.join("/"), path.below());
        }
    }

    #[test]
    fn plain_names_are_remote_paths(parts in proptest::collection::vec("[a-z0-9_-]{3,20}", 2..8)) {
        let text = parts.join("/");
        let reserved = parts.iter().any(|part| matches!(part.as_str(), "con" | "prn" | "aux" | "nul"));
        let numbered = parts.iter().any(|part| {
            part.len() == 4 && (part.starts_with("com") || part.starts_with("lpt")) && part.ends_with(|c: char| c.is_ascii_digit())
        });
        match text.parse::<RemotePath>() {
            Ok(path) => prop_assert_eq!(path.to_string(), text),
            Err(error) => prop_assert!(error == PathError::Device && (reserved || numbered)),
        }
    }

    #[test]
    fn a_part_that_leads_elsewhere_spoils_any_path(
        parts in proptest::collection::vec("[a-z]{3,5}x", 1..6),
        at in any::<prop::sample::Index>(),
        bad in prop::sample::select(vec!["", ".", "..", "a\\b", "c:", "a\0", "nul", "x.", "x ", "\u{1b}"]),
    ) {
        let mut parts = parts;
        parts.insert(at.index(parts.len() + 1), bad.to_owned());
        prop_assert!(parts.join("/").parse::<RemotePath>().is_err());
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_one_is_refused_before_anything_is_sent() {
    let world = World::new().await;
    let local = world.here("x", b"x");
    for (text, error) in [
        ("box/../x", PathError::Relative),
        ("/etc/passwd", PathError::Absolute),
        ("box", PathError::NoFile),
        ("box/a\\b", PathError::Character),
    ] {
        assert_eq!(world.push(&local, text).await, Err(FileError::Path(error)));
        assert_eq!(world.pull(text, &local).await, Err(FileError::Path(error)));
        assert_eq!(bounded(world.agent.link().stat(text)).await, Err(FileError::Path(error)));
    }
}

#[tokio::test]
async fn no_symbolic_link_leads_out() {
    let world = World::new().await;
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, b"secret").unwrap();
    symlink(outside.path(), world.there("folder")).unwrap();
    symlink(&secret, world.there("file")).unwrap();
    symlink("../..", world.there("up")).unwrap();
    std::fs::create_dir(world.there("sub")).unwrap();
    symlink("../../etc", world.there("sub/relative")).unwrap();
    symlink("loop", world.there("loop")).unwrap();
    let back = world.here.path().join("back");
    for path in ["box/folder/secret", "box/file", "box/up/x", "box/sub/relative/passwd", "box/loop"] {
        let refused = world.pull(path, &back).await.unwrap_err();
        assert_eq!((refused.code(), refused.is_from_peer()), (Code::PATH_REFUSED, true), "{path}: {refused}");
        let refused = bounded(world.agent.link().stat(path)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PATH_REFUSED, "{path}");
    }
    let local = world.here("x", b"x");
    for path in ["box/folder/x", "box/folder/deeper/x", "box/up/x", "box/sub/relative/x"] {
        let refused = world.push(&local, path).await.unwrap_err();
        assert_eq!(refused.code(), Code::PATH_REFUSED, "{path}: {refused}");
    }
    assert_eq!((names(outside.path()), std::fs::read(&secret).unwrap()), (vec!["secret".to_owned()], b"secret".to_vec()));
    assert_eq!(names(world.here.path()), ["x"]);
}

#[tokio::test]
async fn a_file_takes_the_place_of_a_symbolic_link_not_of_what_it_names() {
    let world = World::new().await;
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, b"secret").unwrap();
    symlink(&secret, world.there("x")).unwrap();
    let local = world.here("x", b"public");
    let refused = world.push(&local, "box/x").await.unwrap_err();
    assert_eq!(refused.code(), Code::FILE_EXISTS);
    let options = parlour_net::CopyOptions { replace: true, ..Default::default() };
    bounded(world.agent.link().push_with(&local, "box/x", options)).await.unwrap();
    assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
    assert!(std::fs::symlink_metadata(world.there("x")).unwrap().is_file());
    assert_eq!(std::fs::read(world.there("x")).unwrap(), b"public");
}

#[tokio::test]
async fn links_within_a_root_may_be_followed() {
    let world = World::new().await;
    std::fs::create_dir(world.there("real")).unwrap();
    std::fs::write(world.there("real/x"), b"inside").unwrap();
    symlink("real", world.there("alias")).unwrap();
    symlink("real/x", world.there("short")).unwrap();
    for path in ["box/alias/x", "box/short"] {
        let back = world.here.path().join("back");
        world.pull(path, &back).await.unwrap();
        assert_eq!(std::fs::read(&back).unwrap(), b"inside");
        std::fs::remove_file(back).unwrap();
    }
    let local = world.here("y", b"y");
    world.push(&local, "box/alias/y").await.unwrap();
    assert_eq!(std::fs::read(world.there("real/y")).unwrap(), b"y");
}

/// Somebody on the machine of the station changes a folder into a link and back, all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_turns_into_a_link_at_any_moment_leads_nowhere() {
    let world = World::new().await;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("x"), b"secret").unwrap();
    std::fs::create_dir(world.there("a")).unwrap();
    std::fs::write(world.there("a/x"), b"public").unwrap();
    symlink(outside.path(), world.there("b")).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swapping = std::thread::spawn({
        let (stop, a, b, c) = (stop.clone(), world.there("a"), world.there("b"), world.there("c"));
        move || {
            let mut swaps = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::rename(&a, &c).unwrap();
                std::fs::rename(&b, &a).unwrap();
                std::fs::rename(&a, &b).unwrap();
                std::fs::rename(&c, &a).unwrap();
                swaps += 1;
            }
            swaps
        }
    });
    let local = world.here("new", b"new");
    let (mut refused, mut passed) = (0, 0);
    for n in 0..300 {
        let back = world.here.path().join(format!("back {n}"));
        match world.pull("box/a/x", &back).await {
            Ok(_) => {
                passed += 1;
                assert_eq!(std::fs::read(&back).unwrap(), b"public");
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(error.code(), Code::PATH_REFUSED | Code::FILE_NOT_FOUND), "{error}");
            }
        }
        // Wherever it lands is the folder `a` under one of its names, or a folder of the root that was made because there was none.
        let _ = world.push(&local, &format!("box/a/new {n}")).await;
        if refused > 0 && passed > 0 && n > 50 {
            break;
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapping.join().ok();
    assert_eq!(names(outside.path()), ["x"]);
}

#[tokio::test]
async fn what_is_no_file_is_neither_sent_nor_replaced() {
    let world = World::new().await;
    std::fs::create_dir(world.there("folder")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(world.there("pipe")).status().unwrap();
    assert!(made.success());
    let back = world.here.path().join("back");
    for path in ["box/folder", "box/pipe"] {
        let refused = world.pull(path, &back).await.unwrap_err();
        assert_eq!(refused.code(), Code::PATH_REFUSED, "{path}: {refused}");
    }
    let local = world.here("x", &content(100, 1));
    let options = parlour_net::CopyOptions { replace: true, ..Default::default() };
    let refused = bounded(world.agent.link().push_with(&local, "box/folder", options)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PATH_REFUSED);
    let refused = world.push(&local, "box/x/y").await;
    assert!(refused.is_ok());
    std::fs::write(world.there("plain"), b"").unwrap();
    let refused = world.push(&local, "box/plain/y").await.unwrap_err();
    assert_eq!(refused.code(), Code::PATH_REFUSED);
    assert_eq!(world.push(world.here.path(), "box/z").await, Err(FileError::NotAFile));
    assert_eq!(world.push(&world.here.path().join("nothing"), "box/z").await, Err(FileError::NotFound));
    assert_eq!(world.pull("box/x/y", &world.here.path().join("no folder/x")).await, Err(FileError::NotFound));
    assert_eq!(names(world.here.path()), ["x"]);
}
