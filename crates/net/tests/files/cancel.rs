//! Transfers that are given up: nothing half-done is left under a name.

use parlour_net::{Agent, Code, FileError, FileStage, Link, Target, Way};

use crate::{
    over_every_carrier,
    support::Proxy,
    way::Way as Carrier,
    world::{MIB, World, agent_config, bounded, content, hash, names, parts, reached},
};

const SIZE: u64 = 256 * MIB;

over_every_carrier! {
    a_cancelled_push_leaves_nothing,
    a_cancelled_pull_leaves_nothing,
    a_cancelled_transfer_has_its_name_at_the_other_end_and_those_beside_it_go_on,
    a_dropped_transfer_keeps_its_part_file_and_nothing_else,
    a_transfer_can_be_cancelled_while_it_waits_for_the_link,
    a_pull_that_is_cancelled_before_it_goes_on_leaves_nothing_of_what_was_there,
    a_transfer_over_a_closed_link_fails_by_name,
}

async fn a_cancelled_push_leaves_nothing(way: Carrier) {
    let mut world = World::over(way).await;
    let local = world.here("x", &content(SIZE, 1));
    let transfer = world.agent.link().push(&local, "box/x");
    reached(&transfer, 8 * MIB).await;
    transfer.cancel();
    assert_eq!(bounded(transfer).await, Err(FileError::Cancelled));
    settled(&mut world).await;
    assert!(names(world.there.path()).is_empty(), "{:?}", names(world.there.path()));
}

async fn a_cancelled_pull_leaves_nothing(way: Carrier) {
    let world = World::over(way).await;
    std::fs::write(world.there("x"), content(SIZE, 1)).unwrap();
    let transfer = world.agent.link().pull("box/x", world.here.path().join("back"));
    reached(&transfer, 8 * MIB).await;
    transfer.cancel();
    assert_eq!(bounded(transfer).await, Err(FileError::Cancelled));
    assert!(names(world.here.path()).is_empty());
}

async fn a_cancelled_transfer_has_its_name_at_the_other_end_and_those_beside_it_go_on(way: Carrier) {
    let mut world = World::over(way).await;
    let other = world.another_agent(2).await;
    let (large, small) = (content(SIZE, 1), content(SIZE / 4, 2));
    for (name, bytes) in [("large", &large), ("small", &small)] {
        world.here(name, bytes);
        std::fs::write(world.there(name), bytes).unwrap();
    }
    let here = world.here.path().to_owned();
    for way in [Way::In, Way::Out] {
        let begin = |link: &Link, file: &str, name: &str| match way {
            Way::In => link.push(here.join(file), format!("box/{name}")),
            Way::Out => link.pull(format!("box/{file}"), here.join(name)),
        };
        let given_up = begin(world.agent.link(), "large", "given up");
        reached(&given_up, MIB).await;
        let beside = [(&world.agent, "same"), (&other, "other")]
            .map(|(agent, name)| begin(agent.link(), "small", &format!("{name} {way:?}")));
        for transfer in &beside {
            reached(transfer, 1).await;
        }
        given_up.cancel();
        assert_eq!(bounded(given_up).await, Err(FileError::Cancelled));
        for agent in [&world.agent, &other] {
            assert_eq!(bounded(agent.request::<u64>("echo", &7).send()).await.unwrap(), 7);
        }
        for transfer in beside {
            assert_eq!(bounded(transfer).await.unwrap().hash, hash(&small));
        }
        let (failed, error) = failure(&mut world).await;
        assert_eq!(failed, way);
        match way {
            // The one who receives is told to forget what it has.
            Way::In => assert_eq!(error, FileError::Cancelled),
            // Of the one who sends, the stream is stopped and the request is cancelled: either may be heard first.
            Way::Out => {
                let FileError::Lost(fault) = error else { panic!("{error:?}") };
                assert_eq!(fault.code, Code::LINK_LOST);
                assert!(["the transfer was cancelled", "the peer waits no longer"].contains(&&*fault.message), "{fault:?}");
            }
        }
        assert!(!world.there("given up").exists() && parts(world.there.path()).is_empty());
        assert!(!here.join("given up").exists() && parts(&here).is_empty());
    }
}

async fn a_dropped_transfer_keeps_its_part_file_and_nothing_else(way: Carrier) {
    let mut world = World::over(way).await;
    let local = world.here("x", &content(SIZE, 1));
    let transfer = world.agent.link().push(&local, "box/x");
    reached(&transfer, 8 * MIB).await;
    drop(transfer);
    settled(&mut world).await;
    assert_eq!((names(world.there.path()).len(), parts(world.there.path()).len()), (1, 1));
}

async fn a_transfer_can_be_cancelled_while_it_waits_for_the_link(way: Carrier) {
    let world = World::over(way).await;
    let local = world.here("x", &content(1000, 1));
    bounded(world.station.stop()).await;
    let transfer = world.agent.link().push(&local, "box/x");
    transfer.cancel();
    assert_eq!(bounded(transfer).await, Err(FileError::Cancelled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_is_cancelled_while_the_link_is_down_leaves_nothing() {
    let world = World::new().await;
    std::fs::write(world.there("x"), content(SIZE, 1)).unwrap();
    let proxy = Proxy::start(world.station.local_addr()).await;
    let mut config = agent_config(&world.station, 2);
    config.connect.target = Target::WebSocket(format!("wss://{}", proxy.address).parse().unwrap());
    let agent = Agent::connect(config);
    let transfer = agent.link().pull("box/x", world.here.path().join("back"));
    reached(&transfer, 8 * MIB).await;
    proxy.set_open(false);
    proxy.cut();
    // Nobody writes it any more: the transfer waits for the link.
    let part = world.here.path().join(&parts(world.here.path())[0]);
    bounded(async {
        while std::fs::File::open(&part).unwrap().try_lock().is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    transfer.cancel();
    assert_eq!(bounded(transfer).await, Err(FileError::Cancelled));
    assert!(names(world.here.path()).is_empty(), "{:?}", names(world.here.path()));
}

async fn a_pull_that_is_cancelled_before_it_goes_on_leaves_nothing_of_what_was_there(way: Carrier) {
    let world = World::over(way).await;
    std::fs::write(world.there("x"), content(SIZE, 1)).unwrap();
    let pull = || world.agent.link().pull("box/x", world.here.path().join("back"));
    let transfer = pull();
    reached(&transfer, SIZE / 2).await;
    drop(transfer);
    // The thread that writes keeps its part on its own time.
    bounded(async {
        while parts(world.here.path()).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let transfer = pull();
    tokio::task::yield_now().await;
    transfer.cancel();
    assert_eq!(bounded(transfer).await, Err(FileError::Cancelled));
    assert!(names(world.here.path()).is_empty(), "{:?}", names(world.here.path()));
}

async fn a_transfer_over_a_closed_link_fails_by_name(way: Carrier) {
    let world = World::over(way).await;
    let local = world.here("x", &content(1000, 1));
    bounded(world.agent.close()).await;
    let error = world.push(&local, "box/x").await.unwrap_err();
    assert!(matches!(error, FileError::Lost(_)), "{error:?}");
    let error = world.pull("box/x", &world.here.path().join("back")).await.unwrap_err();
    assert!(matches!(error, FileError::Lost(_)), "{error:?}");
}

/// Waits until the station says that the transfer has failed.
async fn settled(world: &mut World) {
    failure(world).await;
}

/// The next failure that the station tells of.
async fn failure(world: &mut World) -> (Way, FileError) {
    loop {
        let event = bounded(world.events.recv()).await.unwrap();
        if let FileStage::Failed(error) = event.stage {
            return (event.way, error);
        }
    }
}
