//! A peer that sends faster than it is served has to wait, and the others do not notice.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use parlour_net::{Access, Blob, Code, Context};
use tokio::sync::Semaphore;

use crate::world::{agent_config, bounded, key, pair, ready, reports, station_config};

const SIZE: usize = 64 * 1024;
const COUNT: u32 = 1600;
/// Requests that a peer may have open at a time.
const OPEN: usize = 1024;
/// Actions that do not find room in a link whose peer acknowledges nothing.
const TOLD: u32 = 10_000;
/// Queues at both ends, what the link keeps unacknowledged, and what the kernel's sockets hold.
const BOUND: usize = 48 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_actions_at_a_slow_handler_is_held_back_and_other_links_go_on() {
    let gate = Arc::new(Semaphore::new(0));
    let next = Arc::new(AtomicU32::new(0));
    let (gated, served) = (Arc::clone(&gate), Arc::clone(&next));
    let (station, flooder) = pair(|config| {
        config.handlers.allow_by_default(Access::Authenticated);
        config.handlers.on_action("load", move |_cx, (n, _): (u32, Blob)| {
            let (gate, next) = (Arc::clone(&gated), Arc::clone(&served));
            async move {
                gate.acquire().await.unwrap().forget();
                assert_eq!(next.fetch_add(1, Ordering::SeqCst), n, "in order");
            }
        });
        config.handlers.on_request("ping", |_cx, n: u32| async move { Ok(n) });
    })
    .await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let link = flooder.link().clone();
    let full = Arc::new(Semaphore::new(0));
    let filled = Arc::clone(&full);
    let flood = tokio::spawn(async move {
        let load = Blob::from(vec![7; SIZE]);
        for n in 0..COUNT {
            while let Err(fault) = link.action("load", &(n, load.clone())) {
                assert_eq!(fault.code, Code::OVERLOADED);
                filled.add_permits(1);
                link.ready().await.unwrap();
            }
            counter.fetch_add(SIZE, Ordering::SeqCst);
        }
    });
    bounded(full.acquire()).await.unwrap().forget();
    let other = ready(agent_config(&station, 2)).await;
    for n in 0..500 {
        assert_eq!(bounded(other.request::<u32>("ping", &n)).await.unwrap(), n);
    }
    let held = sent.load(Ordering::SeqCst);
    assert!(held < BOUND, "{held} bytes were taken although nobody was served");
    assert!(flooder.link().is_up());
    gate.add_permits(COUNT as usize);
    bounded(flood).await.unwrap();
    assert_eq!(bounded(flooder.request::<u32>("ping", &1)).await.unwrap(), 1);
    assert_eq!(next.load(Ordering::SeqCst), COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_may_ask_its_sender_back_while_more_actions_come() {
    let (station, _) = pair(|config| {
        config.handlers.allow_by_default(Access::Authenticated);
        config.handlers.on_action("ask-back", |cx: Context, n: u32| async move {
            assert_eq!(cx.link().request::<u32>("twice", &n).await.unwrap(), 2 * n);
        });
        config.handlers.on_request("done", |_cx, ()| async { Ok(()) });
    })
    .await;
    let mut config = agent_config(&station, 2);
    config.handlers.on_request("twice", |_cx, n: u32| async move { Ok(2 * n) }).allow(Access::Authenticated);
    let agent = ready(config).await;
    for n in 0..5000 {
        agent.link().send("ask-back", &n).await.unwrap();
    }
    bounded(agent.request::<()>("done", &())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_handlers_as_may_be_open_can_all_ask_their_caller_back() {
    let (station, _first) = pair(|config| {
        let back = |cx: Context, n: u32| async move { cx.link().request::<u32>("double", &n).await };
        config.handlers.on_request("back", back).allow(Access::Authenticated);
    })
    .await;
    let mut config = agent_config(&station, 2);
    config.handlers.on_request("double", |_cx, n: u32| async move { Ok(2 * n) }).allow(Access::Anyone);
    let agent = ready(config).await;
    // More than may be open at a time: the rest wait for their turn.
    let calls = (0..3000_u32).map(|n| agent.request::<u32>("back", &n).send());
    for (n, answer) in bounded(join_all(calls)).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap() as usize, 2 * n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_that_asks_and_cancels_again_and_again_does_not_pile_up_handlers_at_an_agent() {
    let station = parlour_net::Station::bind(station_config()).await.unwrap();
    let (started, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let mut config = agent_config(&station, 2);
    let (counted, gated) = (Arc::clone(&started), Arc::clone(&gate));
    // It does not care whether anybody waits.
    let stubborn = config.handlers.on_request("stubborn", move |_cx, ()| {
        counted.fetch_add(1, Ordering::SeqCst);
        let gate = Arc::clone(&gated);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    stubborn.allow(Access::Anyone);
    let agent = ready(config).await;
    let peer = station.peers().pop().unwrap();
    for _ in 0..40 {
        let calls: Vec<_> = (0..250).map(|_| peer.request::<()>("stubborn", &()).send()).collect();
        // All have left when one behind them is answered, or cannot be because the agent takes nothing more.
        let marker = peer.request::<()>("none", &()).deadline(std::time::Duration::from_millis(200));
        let _ = marker.await;
        drop(calls);
    }
    let running = started.load(Ordering::SeqCst);
    assert!(running <= 2048 + 256, "{running} handlers");
    gate.add_permits(20_000);
    assert_eq!(bounded(agent.request::<()>("none", &())).await.unwrap_err().code, Code::UNKNOWN_REQUEST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_whose_handlers_all_hang_still_hears_what_its_own_messages_wait_for() {
    let (begun, mut begins) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let gated = Arc::clone(&gate);
    let mut config = station_config();
    // It does not care whether anybody waits.
    let hang = config.handlers.on_request("hang", move |_cx, n: usize| {
        begun.send(()).unwrap();
        let gate = Arc::clone(&gated);
        async move {
            drop(gate.acquire().await.unwrap());
            Ok(n)
        }
    });
    hang.allow(Access::Authenticated);
    let station = parlour_net::Station::bind(config).await.unwrap();
    let (told, mut tells) = reports();
    let mut config = agent_config(&station, 1);
    let tell = config.handlers.on_action("tell", move |_cx, n: u32| {
        told.send(n).unwrap();
        async {}
    });
    tell.allow(Access::Anyone);
    let agent = ready(config).await;
    let ask = || (0..OPEN).map(|n| agent.request::<usize>("hang", &n).send()).collect::<Vec<_>>();
    let given_up = ask();
    begins.take(OPEN).await;
    drop(given_up);
    let waited_for = ask();
    begins.take(OPEN).await;
    // More than a link keeps without an acknowledgement.
    let peer = station.peer(&key(1)).unwrap();
    for n in 0..TOLD {
        bounded(peer.link().send("tell", &n)).await.unwrap();
    }
    gate.add_permits(1);
    for (n, reply) in bounded(join_all(waited_for)).await.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), n);
    }
    assert!(tells.take(TOLD as usize).await.into_iter().eq(0..TOLD));
}
