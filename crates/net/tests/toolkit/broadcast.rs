//! One message to many.

use parlour_net::{Access, Blob, Code, SendError, Station};

use crate::world::{agent_config, bounded, key, ready, reports, station_config, through_proxy};

#[tokio::test]
async fn a_broadcast_reaches_all_or_those_selected_and_nobody_else() {
    let station = Station::bind(station_config()).await.unwrap();
    let (heard, mut hears) = reports();
    let mut agents = Vec::new();
    for n in 1..=5 {
        let heard = heard.clone();
        let mut config = agent_config(&station, n);
        config.connect.link.agent = format!("drone/{n}");
        config.handlers.allow_by_default(Access::Authenticated);
        config.handlers.on_action("fly", move |_cx, height: u32| {
            heard.send((n, height)).unwrap();
            async {}
        });
        config.handlers.on_request("sync", |_cx, ()| async { Ok(()) });
        agents.push(ready(config).await);
    }
    let sent = station.broadcast("fly", &10).unwrap();
    assert_eq!((sent.reached, sent.missed.len()), (5, 0));
    let mut all = hears.take(5).await;
    all.sort_unstable();
    assert_eq!(all, [(1, 10), (2, 10), (3, 10), (4, 10), (5, 10)]);

    let even = station.peers().into_iter().filter(|peer| peer.agent() == "drone/2" || peer.key() == Some(key(4)));
    assert_eq!(station.broadcast_to(even, "fly", &20).unwrap().reached, 2);
    for peer in station.peers() {
        bounded(peer.request::<()>("sync", &())).await.unwrap();
    }
    let mut selected = hears.rest();
    selected.sort_unstable();
    assert_eq!(selected, [(2, 20), (4, 20)]);
    assert_eq!(station.broadcast(&"x".repeat(200), &()).unwrap_err().code, Code::TOO_LARGE);
}

#[tokio::test]
async fn a_peer_that_is_full_is_named_and_does_not_hold_up_the_others() {
    let station = Station::bind(station_config()).await.unwrap();
    let (heard, mut hears) = reports();
    let mut config = agent_config(&station, 1);
    config
        .handlers
        .on_action("load", move |_cx, (n, _): (u32, Blob)| {
            heard.send(n).unwrap();
            async {}
        })
        .allow(Access::Authenticated);
    let _good = ready(config).await;
    let mut config = agent_config(&station, 2);
    let proxy = through_proxy(&station, &mut config).await;
    let _stuck = ready(config).await;
    proxy.set_open(false);
    proxy.cut();

    let load = Blob::from(vec![7; 64 * 1024]);
    let mut missed = None;
    for n in 0..1000 {
        let sent = station.broadcast("load", &(n, load.clone())).unwrap();
        assert_eq!(hears.next().await, n, "the others are served");
        assert!(sent.missed.iter().all(|missed| missed.peer.key() == Some(key(2))));
        missed = sent.missed.into_iter().next();
        assert_eq!(sent.reached, 2 - usize::from(missed.is_some()));
        if missed.is_some() {
            break;
        }
    }
    assert_eq!(missed.expect("bounded").error, SendError::Full);
}
