//! After a loss, a restart or a change a transfer goes on where it was, or begins again if it must.

use parlour_net::{Agent, Code, Fault, FileError, Files};

use crate::{
    over_every_carrier,
    world::{MIB, Placed, Way, World, bounded, config_to, content, hash, identity, open_box, parts, reached, station_config},
};

const SIZE: u64 = 128 * MIB;

over_every_carrier! {
    a_push_goes_on_after_every_cut,
    a_pull_goes_on_after_every_cut,
    a_cut_right_at_the_end_does_not_hide_that_the_file_is_there,
    a_push_goes_on_at_a_station_that_was_started_again,
    a_pull_goes_on_in_a_process_that_was_started_again,
    a_push_that_is_being_prepared_when_its_session_ends_does_not_mix_with_those_of_the_next_one,
    a_later_push_of_the_same_file_by_the_same_peer_takes_over,
    pushes_of_the_same_file_by_different_peers_do_not_mix,
}

fn sparing(moved: u64) -> bool {
    (SIZE..SIZE + SIZE / 2).contains(&moved)
}

async fn a_push_goes_on_after_every_cut(way: Way) {
    let world = World::over(way).await;
    let bytes = content(SIZE, 1);
    let local = world.here("x", &bytes);
    let transfer = world.agent.link().push(&local, "box/x");
    for cut in 1..=3 {
        reached(&transfer, cut * SIZE / 5).await;
        world.agent.link().reconnect();
    }
    let copied = bounded(transfer).await.unwrap();
    assert_eq!((copied.bytes, copied.hash), (SIZE, hash(&bytes)));
    assert!(sparing(copied.moved), "{}", copied.moved);
    assert!(std::fs::read(world.there("x")).unwrap() == bytes);
    assert!(parts(world.there.path()).is_empty());
}

async fn a_pull_goes_on_after_every_cut(way: Way) {
    let world = World::over(way).await;
    let bytes = content(SIZE, 1);
    std::fs::write(world.there("x"), &bytes).unwrap();
    let back = world.here.path().join("back");
    let transfer = world.agent.link().pull("box/x", &back);
    for cut in 1..=3 {
        reached(&transfer, cut * SIZE / 5).await;
        world.agent.link().reconnect();
    }
    let copied = bounded(transfer).await.unwrap();
    assert_eq!((copied.bytes, copied.hash), (SIZE, hash(&bytes)));
    assert!(copied.moved == SIZE, "what had arrived did not come again: {}", copied.moved);
    assert!(std::fs::read(&back).unwrap() == bytes);
    assert!(parts(world.here.path()).is_empty());
}

async fn a_cut_right_at_the_end_does_not_hide_that_the_file_is_there(way: Way) {
    let world = World::over(way).await;
    let bytes = content(8 * MIB, 1);
    for n in 0..20_u32 {
        let local = world.here("x", &bytes);
        let transfer = world.agent.link().push(&local, format!("box/{n}"));
        reached(&transfer, 8 * MIB).await;
        world.agent.link().reconnect();
        let copied = bounded(transfer).await.unwrap();
        assert_eq!(copied.hash, hash(&bytes));
        assert!(std::fs::read(world.there(&n.to_string())).unwrap() == bytes);
    }
}

async fn a_push_goes_on_at_a_station_that_was_started_again(way: Way) {
    let world = World::over(way).await;
    let bytes = content(SIZE, 1);
    let local = world.here("x", &bytes);
    let transfer = world.agent.link().push(&local, "box/x");
    reached(&transfer, SIZE / 2).await;
    let World { placed, agent, files, there, here: _here, .. } = world;
    drop((transfer, agent, files));
    let address = placed.address.clone();
    placed.stop().await;
    let kept = std::fs::metadata(there.path().join(&parts(there.path())[0])).unwrap().len();
    assert!(kept > 0 && kept < SIZE && !there.path().join("x").exists());

    let files = Files::builder().root(open_box(&there)).open().unwrap();
    let placed = Placed::at(&address, station_config(&files)).await;
    assert_eq!(placed.address, address);
    let agent = Agent::connect(config_to(&address, 1).await);
    let copied = bounded(agent.link().push(&local, "box/x")).await.unwrap();
    assert_eq!((copied.hash, copied.moved), (hash(&bytes), SIZE - kept));
    assert!(std::fs::read(there.path().join("x")).unwrap() == bytes);
    assert!(parts(there.path()).is_empty());
}

async fn a_pull_goes_on_in_a_process_that_was_started_again(way: Way) {
    let world = World::over(way).await;
    let bytes = content(SIZE, 1);
    std::fs::write(world.there("x"), &bytes).unwrap();
    let back = world.here.path().join("back");
    let transfer = world.agent.link().pull("box/x", &back);
    reached(&transfer, SIZE / 2).await;
    drop(transfer);
    bounded(world.agent.close()).await;
    assert!(!back.exists());
    let again = world.another_agent(1).await;
    let transfer = again.link().pull("box/x", &back);
    let copied = bounded(transfer).await.unwrap();
    assert_eq!(copied.hash, hash(&bytes));
    assert!(copied.moved <= SIZE / 2, "{}", copied.moved);
    assert!(std::fs::read(&back).unwrap() == bytes);
}

async fn a_push_that_is_being_prepared_when_its_session_ends_does_not_mix_with_those_of_the_next_one(way: Way) {
    let world = World::over(way).await;
    let contents = [content(SIZE, 1), content(SIZE, 2)];
    let [first, second] = [world.here("a", &contents[0]), world.here("b", &contents[1])];
    let part = loop {
        let begun = world.agent.link().push(&first, "box/a");
        reached(&begun, SIZE / 8).await;
        drop(begun);
        match parts(world.there.path()).first() {
            Some(part) => break world.there(part),
            // It had ended before it was dropped.
            None => std::fs::remove_file(world.there("a")).unwrap(),
        }
    };
    // What is there of the file is busy, so its next push waits before it is answered.
    let busy = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(part).unwrap();
        file.lock().unwrap();
        file
    });
    let busy = bounded(busy).await.unwrap();
    let waits = world.agent.link().push(&first, "box/a");
    let other = world.agent.link().push(&second, "box/b");
    reached(&other, 1).await;
    let peer = world.station.peer(&identity(1).key()).unwrap();
    bounded(peer.link().close_with(Fault::new(Code::LINK_LOST, "for now"))).await;
    reached(&other, SIZE / 8).await;
    drop(busy);
    let copied = bounded(async { [waits.await, other.await] }).await;
    for ((copied, bytes), name) in copied.into_iter().zip(&contents).zip(["a", "b"]) {
        assert_eq!(copied.unwrap().hash, hash(bytes));
        assert!(std::fs::read(world.there(name)).unwrap() == *bytes, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_another_file_is_of_no_use_and_does_no_harm() {
    let world = World::new().await;
    let local = world.here("x", &content(SIZE, 1));
    let transfer = world.agent.link().push(&local, "box/x");
    reached(&transfer, SIZE / 2).await;
    drop(transfer);
    let other = content(SIZE, 2);
    std::fs::write(&local, &other).unwrap();
    let copied = world.push(&local, "box/x").await.unwrap();
    assert_eq!((copied.hash, copied.moved), (hash(&other), SIZE));
    assert!(std::fs::read(world.there("x")).unwrap() == other);

    std::fs::remove_file(world.there("x")).unwrap();
    let transfer = world.agent.link().push(&local, "box/x");
    reached(&transfer, SIZE / 2).await;
    drop(transfer);
    // What lies there now is longer than the file.
    let short = content(1000, 3);
    std::fs::write(&local, &short).unwrap();
    let copied = world.push(&local, "box/x").await.unwrap();
    assert_eq!((copied.hash, copied.moved), (hash(&short), 1000));
    assert_eq!(std::fs::read(world.there("x")).unwrap(), short);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_file_that_was_damaged_is_begun_again() {
    let world = World::new().await;
    let bytes = content(SIZE, 1);
    let local = world.here("x", &bytes);
    let transfer = world.agent.link().push(&local, "box/x");
    reached(&transfer, SIZE / 2).await;
    drop(transfer);
    // A transfer that has ended lets go of its part file when the last block is written.
    let part = world.there(&parts(world.there.path())[0]);
    let file = std::fs::File::options().read(true).write(true).open(&part).unwrap();
    tokio::task::spawn_blocking(move || {
        file.lock().unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"damage", 1000).unwrap();
    })
    .await
    .unwrap();
    let copied = world.push(&local, "box/x").await.unwrap();
    assert_eq!((copied.hash, copied.moved), (hash(&bytes), SIZE));
    assert!(std::fs::read(world.there("x")).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_once_while_it_is_sent_is_sent_again() {
    let world = World::new().await;
    let mut bytes = content(SIZE, 1);
    let change = |path: &std::path::Path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"changed", SIZE - 3).unwrap();
    };
    let local = world.here("x", &bytes);
    std::fs::write(world.there("y"), &bytes).unwrap();
    bytes.truncate(bytes.len() - 3);
    bytes.extend_from_slice(b"changed");

    let transfer = world.agent.link().push(&local, "box/x");
    reached(&transfer, SIZE / 8).await;
    change(&local);
    let copied = bounded(transfer).await.unwrap();
    assert_eq!((copied.bytes, copied.hash), (SIZE + 4, hash(&bytes)));
    assert!(copied.moved > SIZE + SIZE / 8, "{}", copied.moved);
    assert!(std::fs::read(world.there("x")).unwrap() == bytes);

    let back = world.here.path().join("back");
    let transfer = world.agent.link().pull("box/y", &back);
    reached(&transfer, SIZE / 8).await;
    change(&world.there("y"));
    let copied = bounded(transfer).await.unwrap();
    assert_eq!(copied.hash, hash(&bytes));
    assert!(std::fs::read(&back).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_keeps_changing_is_given_up_by_name() {
    let world = World::new().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let local = world.here("x", &content(SIZE, 1));
    let there = world.there("y");
    std::fs::copy(&local, &there).unwrap();
    let restless = std::thread::spawn({
        let (stop, paths) = (stop.clone(), [local.clone(), there]);
        move || {
            let files = paths.map(|path| std::fs::File::options().write(true).open(path).unwrap());
            for n in 0.. {
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(n);
                files.iter().for_each(|file| file.set_modified(time).unwrap());
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        }
    });
    assert_eq!(world.push(&local, "box/x").await, Err(FileError::SourceChanged));
    let back = world.here.path().join("back");
    let error = world.pull("box/y", &back).await.unwrap_err();
    assert_eq!((error.code(), error.is_from_peer()), (Code::SOURCE_CHANGED, true));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    restless.join().unwrap();
    assert!(!world.there("x").exists() && !back.exists());
}

async fn a_later_push_of_the_same_file_by_the_same_peer_takes_over(way: Way) {
    let world = World::over(way).await;
    let bytes = content(SIZE, 1);
    let local = world.here("x", &bytes);
    let first = world.agent.link().push(&local, "box/x");
    reached(&first, SIZE / 8).await;
    let second = world.agent.link().push(&local, "box/x");
    let error = bounded(first).await.unwrap_err();
    assert_eq!(error.code(), Code::FILE_BUSY, "{error}");
    let copied = bounded(second).await.unwrap();
    assert!(copied.moved < SIZE && std::fs::read(world.there("x")).unwrap() == bytes);
}

async fn pushes_of_the_same_file_by_different_peers_do_not_mix(way: Way) {
    let world = World::over(way).await;
    let other = world.another_agent(2).await;
    let contents = [content(32 * MIB, 1), content(32 * MIB, 2)];
    let first = world.agent.link().push(world.here("a", &contents[0]), "box/x");
    let second = other.link().push(world.here("b", &contents[1]), "box/x");
    let (first, second) = bounded(async { (first.await, second.await) }).await;
    let winner = usize::from(second.is_ok());
    assert_eq!([&first, &second].iter().filter(|result| result.is_ok()).count(), 1, "{first:?} {second:?}");
    let loser = if winner == 1 { first } else { second };
    assert_eq!(loser.unwrap_err().code(), Code::FILE_EXISTS);
    assert!(std::fs::read(world.there("x")).unwrap() == contents[winner]);
}
