//! What a peer leaves behind that never comes back: neither its place nor its handlers for ever; and what who waits for a place hears.

use std::time::Duration;

use parlour_net::{Access, Agent, Code, Context, Fault, Station};

use crate::world::{agent_config, bounded, key, ready, reports, station_config, through_proxy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_what_never_ends_and_is_lost_keeps_no_place_and_its_handlers_are_told() {
    let (begun, mut has_begun) = reports();
    let (told, mut was_told) = reports();
    let deaf_begun = begun.clone();
    let mut config = station_config();
    (config.listen.grace, config.listen.max_sessions) = (Duration::from_millis(50), 1);
    let watch = config.handlers.on_request("watch", move |cx: Context, n: u32| {
        let (begun, told) = (begun.clone(), told.clone());
        async move {
            begun.send(n).unwrap();
            cx.cancelled().await;
            told.send(n).unwrap();
            Ok(())
        }
    });
    watch.allow(Access::Authenticated);
    let deaf = config.handlers.on_request("deaf", move |_cx, n: u32| {
        let begun = deaf_begun.clone();
        async move {
            begun.send(n).unwrap();
            std::future::pending::<Result<(), Fault>>().await
        }
    });
    deaf.allow(Access::Authenticated);
    let station = Station::bind(config).await.unwrap();
    let mut lost_config = agent_config(&station, 1);
    let proxy = through_proxy(&station, &mut lost_config).await;
    let lost = ready(lost_config).await;
    let watching = lost.request::<()>("watch", &7_u32).without_deadline().send();
    let unheard = lost.request::<()>("deaf", &8_u32).without_deadline().send();
    let mut both = has_begun.take(2).await;
    both.sort_unstable();
    assert_eq!(both, [7, 8]);
    proxy.set_open(false);
    proxy.cut();

    // It comes when the place is free, whether or not the handlers listen.
    let other = Agent::connect(agent_config(&station, 2));
    bounded(other.ready()).await.unwrap();
    assert_eq!(other.link().trouble(), None);
    assert_eq!(was_told.next().await, 7);
    drop((watching, unheard));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_not_let_in_says_why() {
    let mut config = station_config();
    config.listen.max_sessions = 1;
    let station = Station::bind(config).await.unwrap();
    let first = ready(agent_config(&station, 1)).await;
    let second = Agent::connect(agent_config(&station, 2));
    let refused = async {
        while second.link().trouble().is_none_or(|fault| fault.code != Code::OVERLOADED) {
            tokio::task::yield_now().await;
        }
    };
    bounded(refused).await;
    bounded(first.close()).await;
    bounded(second.ready()).await.unwrap();
    assert_eq!(second.link().trouble(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_starts_again_takes_its_own_place_at_a_full_station() {
    let (up, mut connected) = reports();
    let mut config = station_config();
    config.listen.max_sessions = 2;
    let (begun, mut has_begun) = reports();
    let deaf = config.handlers.on_request("deaf", move |_cx, ()| {
        begun.send(()).unwrap();
        std::future::pending::<Result<(), Fault>>()
    });
    deaf.allow(Access::Authenticated);
    config.hooks.on_connect(move |peer| {
        let _ = up.send(peer.key());
        async {}
    });
    let station = Station::bind(config).await.unwrap();
    let _neighbour = ready(agent_config(&station, 1)).await;
    let mut killed_config = agent_config(&station, 2);
    let proxy = through_proxy(&station, &mut killed_config).await;
    let killed = ready(killed_config).await;
    // What it was asked goes on, and keeps a place of its own.
    let unheard = killed.request::<()>("deaf", &()).without_deadline().send();
    has_begun.next().await;
    proxy.set_open(false);
    proxy.cut();

    let mut last = ready(agent_config(&station, 2)).await;
    for _ in 0..2 {
        let before = std::mem::replace(&mut last, ready(agent_config(&station, 2)).await);
        bounded(before.ended()).await;
        assert_eq!(before.link().trouble().map(|fault| fault.code), Some(Code::ALREADY_EXISTS));
    }
    assert_eq!(connected.take(5).await, [1, 2, 2, 2, 2].map(|n| Some(key(n))));
    let other = Agent::connect(agent_config(&station, 3));
    let refused = async {
        while other.link().trouble().is_none_or(|fault| fault.code != Code::OVERLOADED) {
            tokio::task::yield_now().await;
        }
    };
    bounded(refused).await;
    drop((unheard, last));
}
