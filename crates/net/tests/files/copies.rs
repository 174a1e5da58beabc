//! What arrives is what was sent, whatever its size, whichever way, and however much goes on beside it.

use futures_util::{StreamExt, stream::FuturesUnordered};
use parlour_net::{
    Access, Agent, Code, CopyOptions, FileError, FileEvent, FileStage, Files, Progress, Rights, Root, Transfer, Way,
};

use crate::{
    over_every_carrier,
    way::Way as Carrier,
    world::{MIB, World, agent_config, bounded, content, hash, names, open_box, serving, station},
};

over_every_carrier! {
    files_of_every_size_arrive_as_they_are_both_ways,
    eight_files_go_side_by_side_while_requests_are_answered,
    a_file_that_is_there_is_replaced_only_if_that_is_wanted,
    a_file_that_is_being_replaced_is_the_old_one_whole_until_it_is_the_new_one,
    a_name_that_is_taken_while_the_file_is_on_its_way_is_not_replaced,
    the_time_of_the_last_change_is_kept_if_that_is_wanted,
    progress_is_told_to_the_one_who_asked_and_events_to_the_one_who_serves,
    a_push_that_has_ended_leaves_no_timer_behind,
}

async fn files_of_every_size_arrive_as_they_are_both_ways(way: Carrier) {
    let world = World::over(way).await;
    let chunk = 64 * 1024;
    let mark = 4 * MIB;
    let sizes = [0, 1, chunk - 1, chunk, chunk + 1, 4 * chunk, mark - 1, mark, mark + 1, 2 * mark, 64 * MIB, 64 * MIB + 12345];
    for size in sizes {
        let bytes = content(size, 1);
        let local = world.here("local", &bytes);
        let sent = world.push(&local, &format!("box/a/{size}")).await.unwrap();
        assert_eq!((sent.bytes, sent.hash, sent.moved), (size, hash(&bytes), size));
        assert!(std::fs::read(world.there(&format!("a/{size}"))).unwrap() == bytes, "{size}");
        let back = world.here.path().join(format!("back {size}"));
        let got = world.pull(&format!("box/a/{size}"), &back).await.unwrap();
        assert_eq!((got.bytes, got.hash, got.moved), (size, hash(&bytes), size));
        assert!(std::fs::read(&back).unwrap() == bytes, "{size}");
    }
    // Nothing but the files is left.
    assert_eq!(names(&world.there("a")).len(), sizes.len());
    assert_eq!(names(world.here.path()).len(), sizes.len() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_station_may_push_and_pull_too() {
    let outer = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let root = Root::new("mine", folder.path(), Rights::ReadWrite).allow(Access::Authenticated);
    let files = Files::builder().root(root).open().unwrap();
    let mut config = agent_config(&outer.station, 9);
    config.handlers = serving(&files);
    let agent = Agent::connect(config);
    bounded(agent.ready()).await.unwrap();
    let key = crate::world::identity(9).key();
    let peer = outer.station.peer(&key).unwrap();
    let bytes = content(3 * MIB + 7, 2);
    let local = outer.here("local", &bytes);
    bounded(peer.link().push(&local, "mine/x")).await.unwrap();
    assert!(std::fs::read(folder.path().join("x")).unwrap() == bytes);
    let back = outer.here.path().join("back");
    bounded(peer.link().pull("mine/x", &back)).await.unwrap();
    assert!(std::fs::read(back).unwrap() == bytes);
}

async fn eight_files_go_side_by_side_while_requests_are_answered(way: Carrier) {
    let world = World::over(way).await;
    let mut transfers = FuturesUnordered::new();
    for n in 0..8_u8 {
        let bytes = content(16 * MIB, n);
        let local = world.here(&format!("local {n}"), &bytes);
        std::fs::write(world.there(&format!("there {n}")), &bytes).unwrap();
        let (link, here) = (world.agent.link().clone(), world.here.path().join(format!("back {n}")));
        transfers.push(async move {
            let copied = if n % 2 == 0 {
                link.push(local, format!("box/{n}")).await
            } else {
                link.pull(format!("box/there {n}"), here).await
            };
            (n, copied, hash(&bytes))
        });
    }
    let asking = tokio::spawn({
        let agent = world.agent.clone();
        async move {
            let mut asked = 0;
            loop {
                assert_eq!(agent.request::<u64>("echo", &asked).await.unwrap(), asked);
                asked += 1;
                if asked > 500 {
                    return asked;
                }
            }
        }
    });
    while let Some((n, copied, expected)) = bounded(transfers.next()).await {
        assert_eq!(copied.unwrap().hash, expected, "{n}");
    }
    assert!(bounded(asking).await.unwrap() > 500);
    for n in 0..8_u8 {
        let path = if n % 2 == 0 { world.there(&n.to_string()) } else { world.here.path().join(format!("back {n}")) };
        assert!(std::fs::read(path).unwrap() == content(16 * MIB, n), "{n}");
    }
}

async fn a_file_that_is_there_is_replaced_only_if_that_is_wanted(way: Carrier) {
    let world = World::over(way).await;
    let (old, new) = (content(1000, 1), content(2000, 2));
    std::fs::write(world.there("x"), &old).unwrap();
    let local = world.here("x", &new);
    let refused = world.push(&local, "box/x").await.unwrap_err();
    assert_eq!((refused.code(), refused.is_from_peer()), (Code::FILE_EXISTS, true));
    assert_eq!(world.pull("box/x", &local).await, Err(FileError::Exists));
    assert_eq!((std::fs::read(world.there("x")).unwrap(), std::fs::read(&local).unwrap()), (old, new.clone()));

    let options = CopyOptions { replace: true, ..CopyOptions::default() };
    bounded(world.agent.link().push_with(&local, "box/x", options.clone())).await.unwrap();
    assert_eq!(std::fs::read(world.there("x")).unwrap(), new);
    std::fs::write(world.there("x"), b"third").unwrap();
    bounded(world.agent.link().pull_with("box/x", &local, options)).await.unwrap();
    assert_eq!(std::fs::read(&local).unwrap(), b"third");
    assert_eq!((names(world.there.path()), names(world.here.path())), (vec!["x".to_owned()], vec!["x".to_owned()]));
}

async fn a_file_that_is_being_replaced_is_the_old_one_whole_until_it_is_the_new_one(way: Carrier) {
    let world = World::over(way).await;
    let size = 128 * MIB;
    let (old, new) = (content(MIB, 1), content(size, 2));
    std::fs::write(world.there("x"), &old).unwrap();
    let local = world.here("x", &new);
    let options = CopyOptions { replace: true, ..CopyOptions::default() };
    let transfer = world.agent.link().push_with(&local, "box/x", options);
    crate::world::reached(&transfer, 1).await;
    let progress = transfer.progress();
    let mut looks = 0;
    bounded(async {
        loop {
            let read = std::fs::read(world.there("x")).unwrap();
            // What has not left this side cannot be under the name at the other.
            if progress.borrow().done == size {
                break assert!(read == old || read == new);
            }
            assert!(read == old, "half a file has the name");
            looks += 1;
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(looks > 0, "nobody looked while the file was on its way");
    bounded(transfer).await.unwrap();
    assert!(std::fs::read(world.there("x")).unwrap() == new);
    assert_eq!(names(world.there.path()), ["x"]);
}

async fn a_name_that_is_taken_while_the_file_is_on_its_way_is_not_replaced(way: Carrier) {
    let world = World::over(way).await;
    let local = world.here("x", &content(64 * MIB, 1));
    let transfer = world.agent.link().push(&local, "box/x");
    crate::world::reached(&transfer, 1).await;
    std::fs::write(world.there("x"), b"first").unwrap();
    let refused = bounded(transfer).await.unwrap_err();
    assert_eq!(refused.code(), Code::FILE_EXISTS, "{refused}");
    assert_eq!(std::fs::read(world.there("x")).unwrap(), b"first");
    assert_eq!(names(world.there.path()), ["x"]);
}

async fn the_time_of_the_last_change_is_kept_if_that_is_wanted(way: Carrier) {
    let world = World::over_with(way, |builder, there| builder.root(open_box(there)).keep_modified(true)).await;
    let local = world.here("x", b"old news");
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_234_567_890_123);
    std::fs::File::options().write(true).open(&local).unwrap().set_modified(then).unwrap();
    world.push(&local, "box/x").await.unwrap();
    assert_eq!(std::fs::metadata(world.there("x")).unwrap().modified().unwrap(), then);
    let info = bounded(world.agent.link().stat("box/x")).await.unwrap();
    assert_eq!((info.size, info.modified), (8, Some(then)));
    let back = world.here.path().join("back");
    let options = CopyOptions { keep_modified: true, ..CopyOptions::default() };
    bounded(world.agent.link().pull_with("box/x", &back, options)).await.unwrap();
    assert_eq!(std::fs::metadata(&back).unwrap().modified().unwrap(), then);
}

/// What the asker of a transfer is told of it, until it is over.
async fn watched(transfer: Transfer) -> Vec<Progress> {
    let mut progress = transfer.progress();
    let watching = tokio::spawn(async move {
        let mut seen = Vec::new();
        while progress.changed().await.is_ok() {
            seen.push(*progress.borrow_and_update());
        }
        seen
    });
    bounded(transfer).await.unwrap();
    bounded(watching).await.unwrap()
}

async fn progress_is_told_to_the_one_who_asked_and_events_to_the_one_who_serves(way: Carrier) {
    let mut world = World::over(way).await;
    let size = 10 * MIB;
    let bytes = content(size, 1);
    let local = world.here("x", &bytes);
    let peer = Some(crate::world::identity(1).key());
    let back = world.here.path().join("back");
    for way in [Way::In, Way::Out] {
        let link = world.agent.link();
        let seen = watched(if way == Way::In { link.push(&local, "box/x") } else { link.pull("box/x", &back) }).await;
        assert!(seen.is_sorted_by_key(|progress| progress.done));
        assert_eq!(seen.last(), Some(&Progress { done: size, total: Some(size) }), "{way:?}");
        let event = |stage| FileEvent { peer, path: "box/x".parse().unwrap(), way, stage };
        assert_eq!(bounded(world.events.recv()).await, Some(event(FileStage::Begun)));
        loop {
            match bounded(world.events.recv()).await.unwrap() {
                FileEvent { stage: FileStage::Moving(_), .. } => {}
                last => {
                    assert_eq!(last, event(FileStage::Done { bytes: size, hash: hash(&bytes) }));
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_peer_without_files_says_so() {
    let files = Files::builder().open().unwrap();
    let station = station(&files).await;
    let agent = Agent::connect(agent_config(&station, 1));
    bounded(agent.ready()).await.unwrap();
    let peer = station.peer(&crate::world::identity(1).key()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let local = folder.path().join("x");
    std::fs::write(&local, b"x").unwrap();
    let refused = bounded(peer.link().push(&local, "box/x")).await.unwrap_err();
    assert_eq!(refused.code(), Code::UNKNOWN_REQUEST);
    let refused = bounded(agent.link().push(&local, "box/x")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FILE_NOT_FOUND);
}

async fn a_push_that_has_ended_leaves_no_timer_behind(way: Carrier) {
    let hour = std::time::Duration::from_secs(3600);
    let world = World::over_with(way, |builder, there| builder.root(open_box(there)).idle(hour)).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let local = world.here("x", b"small");
    for n in 0..20 {
        world.push(&local, &format!("box/{n}")).await.unwrap();
    }
    // The timer that forgets an offer which nobody takes up is a task; each would stay for an hour.
    bounded(async {
        while tasks() > before + 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
