//! Rights, rules, sizes, quotas, numbers: each bound is told by name, and holds for transfers side by side.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use parlour_net::{Access, Agent, Code, CopyOptions, FileError, Files, KeySet, Rights, Root};

use crate::{
    over_every_carrier,
    world::{MIB, Way, World, agent_config, bounded, content, identity, names, open_box},
};

over_every_carrier! {
    a_file_that_is_too_large_is_refused_before_it_moves,
    a_quota_counts_what_was_there_and_what_comes,
    a_quota_notices_what_the_application_has_removed_or_replaced,
    a_file_whose_place_two_take_is_given_back_to_the_quota_once,
    pushes_side_by_side_do_not_exceed_a_quota_together,
    a_peer_has_so_many_transfers_and_no_more_while_others_have_theirs,
    empty_files_and_folders_are_counted_too,
    a_push_that_is_refused_is_not_counted,
    a_quota_of_bytes_bounds_the_number_of_files,
}

#[tokio::test]
async fn a_root_is_open_for_what_it_says_and_to_whom_it_says() {
    let world = World::with(|builder, there| {
        let root = |name: &str, rights, access| Root::new(name, there.path(), rights).allow(access);
        let members = KeySet::from([identity(7).key()]);
        builder
            .root(root("read", Rights::Read, Access::Authenticated))
            .root(root("write", Rights::Write, Access::Authenticated))
            .root(root("members", Rights::ReadWrite, Access::Keys(members)))
            .root(root("public", Rights::Read, Access::Anyone))
            .root(Root::new("nobody", there.path(), Rights::ReadWrite))
    })
    .await;
    std::fs::write(world.there("x"), b"x").unwrap();
    let local = world.here("y", b"y");
    let back = world.here.path().join("back");
    let member = world.another_agent(7).await;
    let mut config = agent_config(&world.station, 0);
    config.connect.identity = None;
    let stranger = Agent::connect(config);
    bounded(stranger.ready()).await.unwrap();

    let code = |result: Result<_, FileError>| result.err().map(|error| error.code());
    let cases = [
        (&world.agent, "read", None, Some(Code::FORBIDDEN)),
        (&world.agent, "write", Some(Code::FORBIDDEN), None),
        (&world.agent, "members", Some(Code::FORBIDDEN), Some(Code::FORBIDDEN)),
        (&world.agent, "nobody", Some(Code::FORBIDDEN), Some(Code::FORBIDDEN)),
        (&world.agent, "nowhere", Some(Code::FILE_NOT_FOUND), Some(Code::FILE_NOT_FOUND)),
        (&member, "members", None, None),
        (&stranger, "read", Some(Code::NOT_AUTHENTICATED), Some(Code::NOT_AUTHENTICATED)),
        (&stranger, "members", Some(Code::NOT_AUTHENTICATED), Some(Code::NOT_AUTHENTICATED)),
        (&stranger, "public", None, Some(Code::FORBIDDEN)),
    ];
    for (agent, root, pull, push) in cases {
        assert_eq!(code(bounded(agent.link().pull(format!("{root}/x"), &back)).await), pull, "{root}");
        let stat = bounded(agent.link().stat(format!("{root}/x"))).await;
        assert_eq!(stat.err().map(|error| error.code()), pull, "{root}");
        assert_eq!(code(bounded(agent.link().push(&local, format!("{root}/y"))).await), push, "{root}");
        let _ = std::fs::remove_file(&back);
        let _ = std::fs::remove_file(world.there("y"));
    }
}

async fn a_file_that_is_too_large_is_refused_before_it_moves(way: Way) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there).max_file(1000))).await;
    let local = world.here("x", &content(1001, 1));
    let refused = world.push(&local, "box/x").await.unwrap_err();
    assert_eq!((refused.code(), refused.is_from_peer()), (Code::TOO_LARGE, true));
    let local = world.here("y", &content(1000, 1));
    world.push(&local, "box/y").await.unwrap();
    assert_eq!(names(world.there.path()), ["y"]);

    let options = CopyOptions { max_file: 999, ..CopyOptions::default() };
    let back = world.here.path().join("back");
    let refused = bounded(world.agent.link().pull_with("box/y", &back, options)).await;
    assert_eq!(refused, Err(FileError::TooLarge { size: 1000, limit: 999 }));
    assert_eq!(names(world.here.path()), ["x", "y"]);
}

async fn a_quota_counts_what_was_there_and_what_comes(way: Way) {
    let there = tempfile::tempdir().unwrap();
    std::fs::create_dir(there.path().join("old")).unwrap();
    std::fs::write(there.path().join("old/x"), content(400, 1)).unwrap();
    let world = World::over_with(way, |builder, _| builder.root(open_box(&there).quota(1000))).await;
    assert_eq!(world.files.used("box"), Some((400, 0)));
    let file = |name: &str, size| world.here(name, &content(size, 2));
    world.push(&file("a", 500), "box/a").await.unwrap();
    assert_eq!(world.files.used("box"), Some((900, 0)));
    let refused = world.push(&file("b", 101), "box/b").await.unwrap_err();
    assert_eq!((refused.code(), refused.is_from_peer()), (Code::QUOTA, true));
    world.push(&file("c", 100), "box/c").await.unwrap();
    assert_eq!(world.files.used("box"), Some((1000, 0)));
    assert_eq!(names(there.path()), ["a", "c", "old"]);
}

async fn a_quota_notices_what_the_application_has_removed_or_replaced(way: Way) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there).quota(1000))).await;
    world.push(&world.here("a", &content(600, 1)), "box/a").await.unwrap();
    std::fs::remove_file(world.there("a")).unwrap();
    world.push(&world.here("b", &content(600, 2)), "box/b").await.unwrap();
    assert_eq!(world.files.used("box"), Some((600, 0)));
    // In the place of another there must be room for both, and then it is given back.
    let options = CopyOptions { replace: true, ..CopyOptions::default() };
    bounded(world.agent.link().push_with(world.here("c", &content(300, 3)), "box/b", options)).await.unwrap();
    assert_eq!(world.files.used("box"), Some((300, 0)));
}

async fn a_file_whose_place_two_take_is_given_back_to_the_quota_once(way: Way) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there).quota(100 * MIB))).await;
    world.push(&world.here("large", &content(40 * MIB, 1)), "box/x").await.unwrap();
    let other = world.another_agent(2).await;
    let options = || CopyOptions { replace: true, ..CopyOptions::default() };
    // Both are under way before either has its name: each has seen the large one in its place.
    let [a, b] = [world.here("a", &content(24 * MIB, 2)), world.here("b", &content(24 * MIB, 3))];
    let [a, b] = [world.agent.link().push_with(a, "box/x", options()), other.link().push_with(b, "box/x", options())];
    crate::world::reached(&a, 1).await;
    crate::world::reached(&b, 1).await;
    bounded(a).await.unwrap();
    bounded(b).await.unwrap();
    assert_eq!(world.files.used("box"), Some((24 * MIB, 0)));
}

async fn pushes_side_by_side_do_not_exceed_a_quota_together(way: Way) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there).quota(10 * MIB))).await;
    let pushes = (0..8).map(|n| {
        let local = world.here(&format!("x{n}"), &content(3 * MIB, n));
        let link = world.agent.link().clone();
        async move { bounded(link.push(local, format!("box/{n}"))).await }
    });
    let results = join_all(pushes).await;
    let passed = results.iter().filter(|result| result.is_ok()).count();
    let codes: Vec<_> = results.into_iter().filter_map(Result::err).map(|error| error.code()).collect();
    assert!((1..=3).contains(&passed) && codes.iter().all(|code| *code == Code::QUOTA), "{passed}, {codes:?}");
    assert_eq!(world.files.used("box"), Some((passed as u64 * 3 * MIB, 0)));
    assert_eq!(names(world.there.path()).len(), passed);
}

async fn a_peer_has_so_many_transfers_and_no_more_while_others_have_theirs(way: Way) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there)).max_transfers(2)).await;
    let local = world.here("x", &content(256 * MIB, 1));
    let link = world.agent.link();
    let [first, second] = [link.push(&local, "box/1"), link.push(&local, "box/2")];
    crate::world::reached(&first, 1).await;
    crate::world::reached(&second, 1).await;
    let refused = bounded(link.push(&local, "box/3")).await.unwrap_err();
    assert_eq!(refused.code(), Code::RATE_LIMITED);
    let other = world.another_agent(2).await;
    let small = world.here("small", b"small");
    bounded(other.link().push(&small, "box/4")).await.unwrap();
    first.cancel();
    assert_eq!(bounded(first).await, Err(FileError::Cancelled));
    bounded(second).await.unwrap();
    bounded(link.push(&small, "box/3")).await.unwrap();
}

#[tokio::test]
async fn stale_part_files_are_removed_when_a_root_is_opened_and_fresh_ones_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let make = |name: &str, old: bool| {
        let path = folder.path().join(name);
        std::fs::write(&path, b"half").unwrap();
        if old {
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(now).unwrap();
        }
    };
    make("sub/.x.0123456789abcdef.part", true);
    make(".y.0123456789abcdef.part", true);
    make(".z.0123456789abcdef.part", false);
    make("old.part", true);
    make("sub/old", true);
    let root = Root::new("box", folder.path(), Rights::Write).quota(1000);
    let files = Files::builder().root(root).open().unwrap();
    assert_eq!(names(folder.path()), [".z.0123456789abcdef.part", "old.part", "sub"]);
    assert_eq!(names(&folder.path().join("sub")), ["old"]);
    assert_eq!(files.used("box"), Some((12, 0)));
}

#[tokio::test]
async fn roots_that_cannot_be_served_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let open = |roots: Vec<Root>| roots.into_iter().fold(Files::builder(), |builder, root| builder.root(root)).open();
    let root = |name: &str| Root::new(name, folder.path(), Rights::Read);
    assert!(matches!(open(vec![root("a/b")]), Err(parlour_net::FilesError::Name { .. })));
    assert!(matches!(open(vec![root("..")]), Err(parlour_net::FilesError::Name { .. })));
    assert!(matches!(open(vec![root("a"), root("a")]), Err(parlour_net::FilesError::Twice(_))));
    let missing = Root::new("a", folder.path().join("none"), Rights::Read);
    assert!(matches!(open(vec![missing]), Err(parlour_net::FilesError::Folder { .. })));
}

async fn empty_files_and_folders_are_counted_too(way: Way) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there).max_entries(6))).await;
    let (empty, full) = (world.here("empty", b""), world.here("full", b"full"));
    world.push(&empty, "box/a/b/x").await.unwrap();
    assert_eq!((world.files.entries("box"), world.files.used("box")), (Some((3, 0)), Some((0, 0))));
    // Folders, too, are made only if there is room for them and for what is to lie in them.
    let refused = world.push(&empty, "box/c/d/e/x").await.unwrap_err();
    assert_eq!((refused.code(), refused.is_from_peer()), (Code::QUOTA, true));
    assert_eq!(names(world.there.path()), ["a"]);
    world.push(&full, "box/a/y").await.unwrap();
    // One in the place of another is no more, though it has to fit beside it while it comes.
    let options = || CopyOptions { replace: true, ..CopyOptions::default() };
    bounded(world.agent.link().push_with(&empty, "box/a/y", options())).await.unwrap();
    assert_eq!(world.files.entries("box"), Some((4, 0)));
    world.push(&empty, "box/z").await.unwrap();
    world.push(&empty, "box/w").await.unwrap();
    assert_eq!(world.push(&empty, "box/v").await.unwrap_err().code(), Code::QUOTA);
    assert_eq!(names(world.there.path()), ["a", "w", "z"]);
    assert_eq!(world.files.entries("box"), Some((6, 0)));
}

async fn a_quota_of_bytes_bounds_the_number_of_files(way: Way) {
    let there = tempfile::tempdir().unwrap();
    for n in 0..1024 {
        std::fs::write(there.path().join(n.to_string()), b"").unwrap();
    }
    let world = World::over_with(way, |builder, _| builder.root(open_box(&there).quota(1 << 20))).await;
    assert_eq!((world.files.entries("box"), world.files.used("box")), (Some((1024, 0)), Some((0, 0))));
    assert_eq!(world.push(&world.here("x", b""), "box/x").await.unwrap_err().code(), Code::QUOTA);
}

async fn a_push_that_is_refused_is_not_counted(way: Way) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there).quota(1000))).await;
    let local = world.here("x", &content(1001, 1));
    // The refusal counts again what is there, while the push has its part file already.
    let refused = world.push(&local, "box/x").await.unwrap_err();
    assert_eq!(refused.code(), Code::QUOTA);
    assert_eq!((world.files.used("box"), world.files.entries("box")), (Some((0, 0)), Some((0, 0))));
}
