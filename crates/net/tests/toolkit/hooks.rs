//! Who comes, goes and comes back is told once each, and has one row.

use std::time::Duration;

use parlour_net::{Access, Admission, Agent, AgentError, Code, ConnectError, Hooks, PeerKey, Station};
use tokio::sync::mpsc::UnboundedSender;

use crate::world::{agent_config, bounded, key, ready, reports, station_config, stranger_config, through_proxy};

#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    First(Option<PeerKey>),
    Connect(Option<PeerKey>),
    Resume(Option<PeerKey>),
    Disconnect(Option<PeerKey>),
    End(Option<PeerKey>, Code),
}
use Told::{Connect, Disconnect, End, First, Resume};

pub fn tell_all(hooks: &mut Hooks, told: &UnboundedSender<Told>) {
    let tell = |told: &UnboundedSender<Told>, what: Told| {
        told.send(what).unwrap();
        std::future::ready(())
    };
    let [a, b, c, d, e] = std::array::from_fn(|_| told.clone());
    hooks
        .on_first_connect(move |peer| tell(&a, First(peer.key())))
        .on_connect(move |peer| tell(&b, Connect(peer.key())))
        .on_resume(move |peer| tell(&c, Resume(peer.key())))
        .on_disconnect(move |peer, _| tell(&d, Disconnect(peer.key())))
        .on_end(move |peer, reason| tell(&e, End(peer.key(), reason.code)));
}

#[tokio::test]
async fn ten_reconnects_are_ten_resumes_at_both_ends_and_one_row() {
    let (told, mut tells) = reports();
    let mut config = station_config();
    tell_all(&mut config.hooks, &told);
    let station = Station::bind(config).await.unwrap();
    let (agent_told, mut agent_tells) = reports();
    let mut config = agent_config(&station, 1);
    tell_all(&mut config.hooks, &agent_told);
    let agent = ready(config).await;
    let who = Some(key(1));
    assert_eq!(tells.take(2).await, [First(who), Connect(who)]);
    let there = Some(station.key());
    assert_eq!(agent_tells.take(2).await, [First(there), Connect(there)]);
    for _ in 0..10 {
        agent.link().reconnect();
        assert_eq!(tells.take(2).await, [Disconnect(who), Resume(who)]);
        assert_eq!(agent_tells.take(2).await, [Disconnect(there), Resume(there)]);
        assert_eq!(station.peers().len(), 1);
    }
    agent.close().await;
    assert_eq!(tells.next().await, End(who, Code::CANCELLED));
    assert_eq!(agent_tells.next().await, End(there, Code::LINK_LOST));
    assert!(station.peers().is_empty() && station.peer(&key(1)).is_none());
    assert_eq!((tells.rest(), agent_tells.rest()), (vec![], vec![]));
}

#[tokio::test]
async fn a_lost_session_ends_and_the_next_one_is_no_first() {
    let (told, mut tells) = reports();
    let mut config = station_config();
    config.listen.grace = Duration::from_millis(20);
    tell_all(&mut config.hooks, &told);
    let station = Station::bind(config).await.unwrap();
    let (agent_told, mut agent_tells) = reports();
    let mut config = agent_config(&station, 1);
    tell_all(&mut config.hooks, &agent_told);
    let proxy = through_proxy(&station, &mut config).await;
    let agent = ready(config).await;
    let (who, there) = (Some(key(1)), Some(station.key()));
    assert_eq!(tells.take(2).await, [First(who), Connect(who)]);
    assert_eq!(agent_tells.take(2).await, [First(there), Connect(there)]);
    for _ in 0..3 {
        proxy.set_open(false);
        proxy.cut();
        assert_eq!(tells.take(2).await, [Disconnect(who), End(who, Code::LINK_LOST)]);
        assert!(station.peers().is_empty());
        proxy.set_open(true);
        assert_eq!(tells.next().await, Connect(who));
        assert_eq!(agent_tells.take(3).await, [Disconnect(there), End(there, Code::LINK_LOST), Connect(there)]);
        assert_eq!(station.peers().len(), 1);
        // A session in which nothing was said would end with its connection.
        bounded(agent.request::<()>("no such handler", &())).await.unwrap_err();
    }
}

#[tokio::test]
async fn an_agent_that_was_restarted_takes_the_place_of_its_old_self() {
    let (told, mut tells) = reports();
    let mut config = station_config();
    tell_all(&mut config.hooks, &told);
    let station = Station::bind(config).await.unwrap();
    let old = ready(agent_config(&station, 1)).await;
    let who = Some(key(1));
    assert_eq!(tells.take(2).await, [First(who), Connect(who)]);
    let new = ready(agent_config(&station, 1)).await;
    assert_eq!(tells.take(2).await, [End(who, Code::ALREADY_EXISTS), Connect(who)]);
    let AgentError::Connect(ConnectError::Refused(fault)) = bounded(old.ended()).await else { panic!("refused") };
    assert_eq!(fault.code, Code::ALREADY_EXISTS);
    assert_eq!(station.peers().len(), 1);
    assert_eq!(station.peer(&key(1)).unwrap().session(), new.link().session().unwrap());
    assert_eq!(tells.rest(), []);
}

#[tokio::test]
async fn programs_may_share_a_key_if_the_station_is_told_so() {
    let (told, mut tells) = reports();
    let mut config = station_config();
    config.one_link_per_key = false;
    tell_all(&mut config.hooks, &told);
    let station = Station::bind(config).await.unwrap();
    let old = ready(agent_config(&station, 1)).await;
    let new = ready(agent_config(&station, 1)).await;
    let who = Some(key(1));
    assert_eq!(tells.take(3).await, [First(who), Connect(who), Connect(who)]);
    assert!(old.link().is_up() && new.link().is_up());
    assert_eq!(station.peers().len(), 1, "one row");
    assert_eq!(station.peer(&key(1)).unwrap().session(), new.link().session().unwrap());
    new.close().await;
    assert_eq!(tells.next().await, End(who, Code::CANCELLED));
    assert_eq!(station.peer(&key(1)).unwrap().session(), old.link().session().unwrap());
}

#[tokio::test]
async fn handlers_start_after_the_hooks_of_their_session() {
    let mut config = station_config();
    let (told, mut tells) = reports();
    let from_hook = told.clone();
    config.hooks.on_connect(move |_peer| {
        let told = from_hook.clone();
        async move {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            told.send("hook").unwrap();
        }
    });
    config
        .handlers
        .on_action("act", move |_cx, ()| {
            told.send("handler").unwrap();
            async {}
        })
        .allow(Access::Authenticated);
    let station = Station::bind(config).await.unwrap();
    let agent = Agent::connect(agent_config(&station, 1));
    agent.action("act", &()).unwrap();
    assert_eq!(tells.take(2).await, ["hook", "handler"]);
}

#[tokio::test]
async fn a_hook_that_panics_harms_nobody() {
    let (told, mut tells) = reports();
    let mut config = station_config();
    config.hooks.on_connect(|_peer| async { assert!(!std::hint::black_box(true), "in a hook") });
    tell_all(&mut config.hooks, &told);
    config.handlers.on_request("fine", |_cx, ()| async { Ok(()) }).allow(Access::Authenticated);
    let station = Station::bind(config).await.unwrap();
    let agent = ready(agent_config(&station, 1)).await;
    bounded(agent.request::<()>("fine", &())).await.unwrap();
    assert_eq!(tells.take(2).await, [First(Some(key(1))), Connect(Some(key(1)))]);
}

#[tokio::test]
async fn peers_without_a_key_have_a_row_for_their_session() {
    let (told, mut tells) = reports();
    let mut config = station_config();
    config.listen.admit = Admission::Anyone;
    tell_all(&mut config.hooks, &told);
    let station = Station::bind(config).await.unwrap();
    let one = ready(stranger_config(&station)).await;
    let _two = ready(stranger_config(&station)).await;
    assert_eq!(tells.take(4).await, [First(None), Connect(None), First(None), Connect(None)]);
    assert_eq!(station.peers().len(), 2);
    one.close().await;
    assert_eq!(tells.next().await, End(None, Code::CANCELLED));
    assert_eq!(station.peers().len(), 1);
}

#[tokio::test]
async fn a_station_that_stops_ends_every_session_and_its_agents_come_back_to_the_next() {
    let (told, mut tells) = reports();
    let mut config = station_config();
    tell_all(&mut config.hooks, &told);
    let station = Station::bind(config).await.unwrap();
    let (agent_told, mut agent_tells) = reports();
    let mut config = agent_config(&station, 1);
    tell_all(&mut config.hooks, &agent_told);
    let agent = ready(config).await;
    let (who, there) = (Some(key(1)), Some(station.key()));
    let address = station.local_addr();
    bounded(station.stop()).await;
    assert_eq!(tells.take(3).await, [First(who), Connect(who), End(who, Code::STOPPING)]);
    let mut config = station_config();
    config.address = address;
    config.handlers.on_request("here", |_cx, ()| async { Ok(()) }).allow(Access::Authenticated);
    let _next = Station::bind(config).await.unwrap();
    bounded(agent.request::<()>("here", &())).await.unwrap();
    let told = agent_tells.take(5).await;
    assert_eq!(told, [First(there), Connect(there), Disconnect(there), End(there, Code::LINK_LOST), Connect(there)]);
}
