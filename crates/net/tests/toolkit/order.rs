//! In which order handlers start and end.

use std::sync::{Arc, Mutex};

use parlour_net::Access;
use tokio::sync::Barrier;

use crate::world::{agent_config, bounded, key, pair, ready};

/// Notes numbers, after a few turns of the runtime.
fn noting(
    notes: &Arc<Mutex<Vec<u32>>>,
) -> impl Fn(parlour_net::Context, u32) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync + 'static + use<> {
    let notes = Arc::clone(notes);
    move |_cx, n| {
        let notes = Arc::clone(&notes);
        Box::pin(async move {
            for _ in 0..n % 4 {
                tokio::task::yield_now().await;
            }
            notes.lock().unwrap().push(n);
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_ends_before_what_comes_after_it_starts() {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&notes);
    let (station, agent) = pair(|config| {
        config.handlers.allow_by_default(Access::Authenticated);
        config.handlers.on_action("note", noting(&notes));
        config.handlers.on_request("noted", move |_cx, ()| {
            let noted = seen.lock().unwrap().len();
            async move { Ok(noted) }
        });
    })
    .await;
    let mut replies = Vec::new();
    for n in 0..2000 {
        agent.link().send("note", &n).await.unwrap();
        if n % 50 == 0 {
            replies.push((n, agent.request::<u32>("noted", &()).send()));
        }
    }
    for (n, reply) in replies {
        assert_eq!(bounded(reply).await.unwrap(), n + 1);
    }
    assert_eq!(agent.request::<u32>("noted", &()).await.unwrap(), 2000);
    assert!(notes.lock().unwrap().iter().copied().eq(0..2000));

    // The same at the other end.
    let notes = Arc::new(Mutex::new(Vec::new()));
    let mut config = agent_config(&station, 2);
    config.handlers.allow_by_default(Access::Authenticated);
    config.handlers.on_action("note", noting(&notes));
    config.handlers.on_request("sync", |_cx, ()| async { Ok(()) });
    let _other = ready(config).await;
    let peer = station.peer(&key(2)).unwrap();
    for n in 0..500 {
        peer.link().send("note", &n).await.unwrap();
    }
    bounded(peer.request::<()>("sync", &())).await.unwrap();
    assert!(notes.lock().unwrap().iter().copied().eq(0..500));
}

#[tokio::test]
async fn requests_run_side_by_side() {
    let barrier = Arc::new(Barrier::new(100));
    let (_station, agent) = pair(|config| {
        config
            .handlers
            .on_request("meet", move |_cx, n: u32| {
                let barrier = Arc::clone(&barrier);
                async move {
                    barrier.wait().await;
                    Ok(n)
                }
            })
            .allow(Access::Authenticated);
    })
    .await;
    let replies: Vec<_> = (0..100).map(|n| agent.request::<u32>("meet", &n).send()).collect();
    for (n, reply) in (0..100).zip(replies) {
        assert_eq!(bounded(reply).await.unwrap(), n);
    }
}

#[tokio::test]
async fn handlers_of_requests_start_in_order_of_arrival() {
    let begun = Arc::new(Mutex::new(Vec::new()));
    let begins = Arc::clone(&begun);
    let (_station, agent) = pair(|config| {
        config.handlers.allow_by_default(Access::Authenticated);
        config.handlers.on_action("pause", |_cx, ()| async { tokio::task::yield_now().await });
        config.handlers.on_request("begin", move |_cx, n: u32| {
            let begins = Arc::clone(&begins);
            async move {
                begins.lock().unwrap().push(n);
                for _ in 0..n % 3 {
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        });
    })
    .await;
    let mut replies = Vec::new();
    for n in 0..900 {
        if n % 7 == 0 {
            agent.link().send("pause", &()).await.unwrap();
        }
        replies.push(agent.request::<()>("begin", &n).send());
    }
    for reply in replies {
        bounded(reply).await.unwrap();
    }
    assert!(begun.lock().unwrap().iter().copied().eq(0..900));
}
