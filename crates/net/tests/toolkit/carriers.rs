//! The toolkit over QUIC: the same as over WebSockets, at the same station.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parlour_net::{
    Access, Admission, Agent, AgentConfig, AgentError, Code, ConnectConfig, Fault, FleetSecret, IrohConfig, IrohEndpoint,
    Station, StationError, Trust,
};
use tokio::sync::Semaphore;

use crate::{
    hooks::{
        Told::{Connect, Disconnect, End, First, Resume},
        tell_all,
    },
    once::counting,
    world::{STATION, agent_config, bounded, identity, key, ready, reports, station_config},
};

async fn endpoint(n: u8) -> IrohEndpoint {
    bounded(IrohEndpoint::bind(&identity(n), &IrohConfig::loopback())).await.unwrap()
}

/// An agent with the identity number `n` that comes over QUIC.
async fn agent_over(door: &IrohEndpoint, n: u8) -> AgentConfig {
    let mut config = AgentConfig::over(ConnectConfig::iroh(endpoint(n).await, door.addr()));
    config.connect.backoff.first = Duration::from_millis(5);
    config.connect.backoff.longest = Duration::from_millis(20);
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_has_two_doors_and_one_row_for_each_key() {
    let (told, mut tells) = reports();
    let mut config = station_config();
    let door = endpoint(STATION).await;
    config.iroh = Some(door.clone());
    config
        .handlers
        .on_request("who", |cx, ()| async move { Ok(cx.peer().key().map(|key| key.to_string())) })
        .allow(Access::Authenticated);
    config.hooks.on_connect(move |peer| {
        told.send(peer.key()).unwrap();
        async {}
    });
    let station = Station::bind(config).await.unwrap();

    let mut agents = vec![ready(agent_config(&station, 1)).await];
    assert_eq!(tells.next().await, Some(key(1)));
    let (heard, mut hears) = reports();
    let mut config = agent_over(&door, 2).await;
    config
        .handlers
        .on_action("hear", move |_cx, n: u32| {
            heard.send(n).unwrap();
            async {}
        })
        .allow(Access::Authenticated);
    agents.push(ready(config).await);
    assert_eq!(tells.next().await, Some(key(2)));
    for (agent, n) in agents.iter().zip(1..) {
        assert_eq!(bounded(agent.request::<String>("who", &())).await.unwrap(), key(n).to_string());
    }
    assert_eq!(station.broadcast("hear", &7).unwrap().reached, 2);
    assert_eq!(hears.next().await, 7);
    agents[1].link().reconnect();
    assert_eq!(bounded(agents[1].request::<String>("who", &())).await.unwrap(), key(2).to_string());
    assert_eq!(station.peers().len(), 2);
    bounded(station.stop()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_knows_its_members_on_either_way() {
    let mut config = station_config();
    let door = endpoint(STATION).await;
    config.iroh = Some(door.clone());
    config.listen.admit = Admission::Anyone;
    config.fleet = Some(FleetSecret::from_bytes(&[1; 32]));
    config.handlers.on_request("member", |_cx, ()| async { Ok(()) }).allow(Access::Authenticated);
    let station = Station::bind(config).await.unwrap();
    for (n, right) in [(2, true), (3, false)] {
        let mut config = agent_over(&door, n).await;
        config.fleet = Some(FleetSecret::from_bytes(&[if right { 1 } else { 9 }; 32]));
        let agent = Agent::connect(config);
        if right {
            bounded(agent.request::<()>("member", &())).await.unwrap();
        } else {
            assert!(matches!(bounded(agent.ended()).await, AgentError::SecretRefused(_)));
        }
    }
    let mut config = agent_config(&station, 4);
    config.connect.trust = Trust::FirstUse;
    config.fleet = Some(FleetSecret::from_bytes(&[1; 32]));
    bounded(Agent::connect(config).request::<()>("member", &())).await.unwrap();
}

#[tokio::test]
async fn both_doors_show_the_same_key() {
    let mut config = station_config();
    config.iroh = Some(endpoint(77).await);
    assert!(matches!(Station::bind(config).await, Err(StationError::OtherKey)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_hooks_tell_who_comes_goes_and_comes_back_at_both_ends() {
    let (told, mut tells) = reports();
    let mut config = station_config();
    let door = endpoint(STATION).await;
    config.iroh = Some(door.clone());
    tell_all(&mut config.hooks, &told);
    let station = Station::bind(config).await.unwrap();
    let (agent_told, mut agent_tells) = reports();
    let mut config = agent_over(&door, 1).await;
    tell_all(&mut config.hooks, &agent_told);
    let agent = ready(config).await;
    let (who, there) = (Some(key(1)), Some(station.key()));
    assert_eq!(tells.take(2).await, [First(who), Connect(who)]);
    assert_eq!(agent_tells.take(2).await, [First(there), Connect(there)]);
    for _ in 0..3 {
        agent.link().reconnect();
        assert_eq!(tells.take(2).await, [Disconnect(who), Resume(who)]);
        assert_eq!(agent_tells.take(2).await, [Disconnect(there), Resume(there)]);
        assert_eq!(station.peers().len(), 1);
    }
    // A session that is over is followed by one that is no first.
    bounded(station.peer(&key(1)).unwrap().link().close_with(Fault::new(Code::OVERLOADED, "for now"))).await;
    assert_eq!(tells.take(2).await, [End(who, Code::OVERLOADED), Connect(who)]);
    assert_eq!(agent_tells.take(3).await, [Disconnect(there), End(there, Code::LINK_LOST), Connect(there)]);
    agent.close().await;
    assert_eq!(tells.next().await, End(who, Code::CANCELLED));
    assert_eq!(agent_tells.next().await, End(there, Code::LINK_LOST));
    assert_eq!((tells.rest(), agent_tells.rest()), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_a_request_that_is_sent_again_takes_effect_once() {
    let (runs, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let (begun, mut begins) = reports();
    let (up, mut ups) = reports();
    let mut config = station_config();
    let door = endpoint(STATION).await;
    config.iroh = Some(door.clone());
    config.handlers.on_request("count", counting(&runs, begun, &gate)).allow(Access::Authenticated);
    config.hooks.on_connect(move |peer| {
        up.send(peer.session()).unwrap();
        async {}
    });
    let station = Station::bind(config).await.unwrap();
    let agent = ready(agent_over(&door, 1).await).await;
    let mut session = ups.next().await;
    for n in 0..3 {
        let reply = agent.request::<u32>("count", &n).send();
        assert_eq!(begins.next().await, n);
        // In its session it is not sent again, and in the next ones it is.
        agent.link().reconnect();
        for code in [Code::OVERLOADED, Code::LINK_LOST] {
            bounded(station.peer(&key(1)).unwrap().link().close_with(Fault::new(code, "for now"))).await;
            assert_ne!(std::mem::replace(&mut session, ups.next().await), session);
            // It has come again before what is asked now.
            bounded(agent.request::<()>("no such handler", &())).await.unwrap_err();
        }
        gate.add_permits(1);
        assert_eq!(bounded(reply).await.unwrap(), 1000 * (n + 1) + n);
        assert_eq!((runs.load(Ordering::SeqCst), begins.rest()), (n + 1, vec![]));
    }
}
