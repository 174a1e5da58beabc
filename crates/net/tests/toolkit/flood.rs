//! A peer that sends faster than it is served has to wait, and the others do not notice.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicUsize, Ordering},
};

use parlour_net::{Access, Blob, Code, Context};
use tokio::sync::Semaphore;

use crate::world::{agent_config, bounded, pair, ready};

const SIZE: usize = 64 * 1024;
const COUNT: u32 = 1600;
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
