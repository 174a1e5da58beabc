//! The toolkit over QUIC: the same as over WebSockets, at the same station.

use parlour_net::{
    Access, Admission, Agent, AgentConfig, AgentError, ConnectConfig, FleetSecret, IrohConfig, IrohEndpoint, Station,
    StationError, Trust,
};

use crate::world::{STATION, agent_config, bounded, identity, key, ready, reports, station_config};

async fn endpoint(n: u8) -> IrohEndpoint {
    bounded(IrohEndpoint::bind(&identity(n), &IrohConfig::loopback())).await.unwrap()
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
    let mut config = AgentConfig::over(ConnectConfig::iroh(endpoint(2).await, door.addr()));
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
        let mut config = AgentConfig::over(ConnectConfig::iroh(endpoint(n).await, door.addr()));
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
