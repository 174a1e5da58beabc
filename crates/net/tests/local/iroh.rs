//! The same over iroh: an endpoint that is announced is found and dialed, and clocks are compared.

use parlour_net::{
    Access, Agent, AgentConfig, AgentError, ConnectConfig, ConnectError, Identity, IrohConfig, IrohEndpoint, Station,
    StationConfig,
    clock::Clock,
    discovery::{Accept, Announce, AnnounceConfig, CarrierKind, Discovered, Endpoint, FindConfig, Found, Network, find},
};

use crate::{
    bounded,
    clock::{ahead, assert_within},
};

const SERVICE: &str = "org.example.iroh";

fn identity(number: u8) -> Identity {
    Identity::from_secret(&[number; 32])
}

async fn endpoint(number: u8) -> IrohEndpoint {
    IrohEndpoint::bind(&identity(number), &IrohConfig::loopback()).await.unwrap()
}

/// A station with both doors, that tells the time of this clock.
async fn station(door: &IrohEndpoint, clock: Clock) -> Station {
    let mut config = StationConfig::new(identity(1), "127.0.0.1:0".parse().unwrap());
    config.iroh = Some(door.clone());
    config.handlers.tell_time(clock).allow(Access::Authenticated);
    Station::bind(config).await.unwrap()
}

fn unicast(targets: Vec<std::net::SocketAddr>) -> Network {
    Network::Unicast { bind: "127.0.0.1:0".parse().unwrap(), targets }
}

/// What a finder hears of a station that announces this.
async fn found(endpoints: Vec<Endpoint>) -> Found {
    let config = AnnounceConfig { network: unicast(Vec::new()), ..AnnounceConfig::new(SERVICE, "station", endpoints) };
    let announce = Announce::start(&identity(1), config).unwrap();
    let network = unicast(vec![announce.local_addr().unwrap()]);
    let mut finder = find(FindConfig { network, ..FindConfig::new(SERVICE, Accept::Keys([identity(1).key()].into())) }).unwrap();
    match bounded(finder.next()).await {
        Some(Discovered::Found(found)) => found,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_endpoint_that_is_announced_is_found_and_proves_its_key_on_the_link() {
    let door = endpoint(1).await;
    let station = station(&door, ahead()).await;
    let port = door.bound_sockets().into_iter().find(std::net::SocketAddr::is_ipv4).unwrap().port();
    let found = found(vec![Endpoint::websocket(station.local_addr().port()), Endpoint::iroh(port)]).await;
    let addr = found.iroh().unwrap();
    assert_eq!((addr.key, addr.direct.iter().copied().collect()), (identity(1).key(), vec![([127, 0, 0, 1], port).into()]));
    assert_eq!(found.urls(), [station.url()], "each carrier has its own");
    let agent = Agent::connect(AgentConfig::over(ConnectConfig::iroh(endpoint(2).await, addr.clone())));
    bounded(agent.ready()).await.unwrap();
    assert_eq!(station.peers().len(), 1);

    // An endpoint with another key is found out on the link, although it sits where the station says that it is.
    let other = endpoint(3).await;
    let mut config = StationConfig::new(identity(3), "127.0.0.1:0".parse().unwrap());
    config.iroh = Some(other.clone());
    let _impostor = Station::bind(config).await.unwrap();
    let places = other.bound_sockets().into_iter().map(|socket| (CarrierKind::IROH, socket));
    let addr = Found { addresses: places.collect(), ..found }.iroh().unwrap();
    let agent = Agent::connect(AgentConfig::over(ConnectConfig::iroh(endpoint(2).await, addr)));
    let ended = bounded(agent.ended()).await;
    assert!(matches!(ended, AgentError::Connect(ConnectError::WrongKey { expected, .. }) if expected == Some(identity(1).key())));
}

#[tokio::test]
async fn a_station_that_announces_no_endpoint_has_no_address_for_iroh() {
    assert_eq!(found(vec![Endpoint::websocket(7443)]).await.iroh(), None);
}

#[tokio::test]
async fn clocks_are_compared_over_quic_from_either_end() {
    let (station_clock, agent_clock) = (ahead(), Clock::showing(5_000_000, crate::clock::instant()));
    let door = endpoint(1).await;
    let station = station(&door, station_clock).await;
    let mut config = AgentConfig::over(ConnectConfig::iroh(endpoint(2).await, door.addr()));
    config.handlers.tell_time(agent_clock).allow(Access::Authenticated);
    let agent = Agent::connect(config);
    bounded(agent.ready()).await.unwrap();
    assert_within(bounded(agent.link().clock(4)).await.unwrap(), station_clock);
    let peer = station.peer(&identity(2).key()).unwrap();
    assert_within(bounded(peer.link().clock(4)).await.unwrap(), agent_clock);
}
