//! Stations on a real network stack: loopback by unicast and by multicast, and a network of the test's own for IPv6.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parlour_net::{
    ConnectConfig, Identity, Incoming, IncomingAction, Link, LinkEvent, ListenConfig, Listener, Pusher, ServerIdentity,
    SessionInfo, SessionService, Trust,
    discovery::{
        Accept, Announce, AnnounceConfig, CarrierKind, Discovered, Endpoint, FindConfig, Finder, Found, Ignored, Multicast,
        Network, Policy, find,
    },
};
use parlour_wire::{
    Code,
    announce::{Datagram, Query},
    frame::ContentType,
    header::Fault,
};
use tokio::{net::UdpSocket, sync::watch};

use crate::{
    bounded,
    own_network::{is_inside, run_in_own_network},
};

const SERVICE: &str = "org.example.test";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn identity(number: u8) -> Identity {
    Identity::from_secret(&[number; 32])
}

/// Unicast on loopback.
fn unicast(port: u16, targets: &[SocketAddr]) -> Network {
    Network::Unicast { bind: (LOOPBACK, port).into(), targets: targets.to_vec() }
}

fn config(network: Network) -> AnnounceConfig {
    AnnounceConfig { network, ..AnnounceConfig::new(SERVICE, "station", vec![Endpoint::websocket(7443)]) }
}

fn look(network: Network, accept: Accept) -> Finder {
    find(FindConfig { network, ..FindConfig::new(SERVICE, accept) }).unwrap()
}

fn only(number: u8) -> Accept {
    Accept::Keys([identity(number).key()].into())
}

/// UDP ports of loopback that were free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| std::net::UdpSocket::bind((LOOPBACK, 0)).unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

async fn next(finder: &mut Finder) -> Discovered {
    bounded(finder.next()).await.expect("the runtime is there")
}

async fn next_found(finder: &mut Finder) -> Found {
    match next(finder).await {
        Discovered::Found(found) => found,
        Discovered::Gone(key) => panic!("{key} is gone"),
    }
}

/// Waits until something was ignored so often.
async fn ignored(finder: &Finder, reason: Ignored, times: u64) {
    let mut counts = finder.ignored();
    bounded(counts.wait_for(|counts| counts.get(&reason).is_some_and(|count| *count >= times))).await.unwrap();
}

#[tokio::test]
async fn a_station_on_loopback_is_found_and_gone_when_it_stops() {
    let [station_port, finder_port] = free_ports();
    let [station_address, finder_address] = [station_port, finder_port].map(|port| SocketAddr::from((LOOPBACK, port)));
    let mut finder = look(unicast(finder_port, &[station_address]), only(1));
    let announce = Announce::start(&identity(1), config(unicast(station_port, &[finder_address]))).unwrap();
    assert_eq!(announce.local_addr(), Some(station_address));
    let found = next_found(&mut finder).await;
    assert_eq!(found.key, identity(1).key());
    assert_eq!(found.name, "station");
    assert_eq!(found.addresses, BTreeSet::from([(CarrierKind::WEBSOCKET, (LOOPBACK, 7443).into())]));
    assert_eq!(found.urls()[0].to_string(), "wss://127.0.0.1:7443");
    announce.stop().await;
    assert_eq!(next(&mut finder).await, Discovered::Gone(identity(1).key()));
}

#[tokio::test]
async fn a_dropped_announcement_says_goodbye_too() {
    let [station_port, finder_port] = free_ports();
    let mut finder = look(unicast(finder_port, &[(LOOPBACK, station_port).into()]), only(1));
    let announce = Announce::start(&identity(1), config(unicast(station_port, &[(LOOPBACK, finder_port).into()]))).unwrap();
    next_found(&mut finder).await;
    drop(announce);
    assert_eq!(next(&mut finder).await, Discovered::Gone(identity(1).key()));
}

#[tokio::test]
async fn a_station_that_falls_silent_is_gone_after_a_while() {
    let interval = Duration::from_millis(50);
    // Without targets its goodbye reaches nobody, as if it had lost its power.
    let announce = Announce::start(&identity(1), AnnounceConfig { interval, ..config(unicast(0, &[])) }).unwrap();
    let mut finder = look(unicast(0, &[announce.local_addr().unwrap()]), only(1));
    next_found(&mut finder).await;
    drop(announce);
    assert_eq!(next(&mut finder).await, Discovered::Gone(identity(1).key()));
}

#[tokio::test]
async fn what_cannot_be_announced_or_looked_for_is_refused_at_once() {
    let bad = [
        AnnounceConfig { service: String::new(), ..config(unicast(0, &[])) },
        AnnounceConfig { name: "two\nlines".to_owned(), ..config(unicast(0, &[])) },
        AnnounceConfig { endpoints: vec![], ..config(unicast(0, &[])) },
        AnnounceConfig { endpoints: vec![Endpoint::iroh(0)], ..config(unicast(0, &[])) },
        AnnounceConfig { interval: Duration::ZERO, ..config(unicast(0, &[])) },
        AnnounceConfig { interval: Duration::from_secs(200), ..config(unicast(0, &[])) },
        AnnounceConfig { interval: Duration::MAX, ..config(unicast(0, &[])) },
    ];
    for config in bad {
        let error = Announce::start(&identity(1), config).expect_err("out of bounds");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
    let error = find(FindConfig::new("x".repeat(1000), Accept::Anyone)).expect_err("out of bounds");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

/// The answer of a station to a nonce, as somebody records it who asked for it.
async fn recorded(station: SocketAddr) -> Vec<u8> {
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let query = Query { service: SERVICE.to_owned(), nonce: [7; 16] };
    socket.send_to(&query.to_datagram().unwrap(), station).await.unwrap();
    let mut room = [0; 2000];
    let size = bounded(socket.recv(&mut room)).await.unwrap();
    assert!(matches!(Datagram::decode(&room[..size]), Ok(Datagram::Announcement(_))));
    room[..size].to_vec()
}

#[tokio::test]
async fn forged_damaged_and_recorded_announcements_are_ignored_until_the_true_one_comes() {
    let announce = Announce::start(&identity(1), config(unicast(0, &[]))).unwrap();
    let stranger = Announce::start(&identity(2), config(unicast(0, &[]))).unwrap();
    let other_service = AnnounceConfig { service: "org.example.other".to_owned(), ..config(unicast(0, &[])) };
    assert!(Announce::start(&identity(1), other_service).is_ok());
    let [true_one, strange] = [announce.local_addr().unwrap(), stranger.local_addr().unwrap()];

    // A finder that asks the stranger: nothing that it says of itself counts.
    let finder = look(unicast(0, &[strange]), only(1));
    ignored(&finder, Ignored::UnknownKey, 1).await;

    let attacker = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let genuine = recorded(true_one).await;
    let mut moved = genuine.clone();
    let port = moved.windows(2).position(|bytes| bytes == 7443u16.to_be_bytes()).expect("the port is in it");
    moved[port..port + 2].copy_from_slice(&6666u16.to_be_bytes());
    let here = finder.local_addr().unwrap();
    for (datagram, reason) in
        [(&genuine[..], Ignored::Unconfirmed), (&moved, Ignored::BadSignature), (b"PLD\x01\x02junk", Ignored::Malformed)]
    {
        attacker.send_to(datagram, here).await.unwrap();
        ignored(&finder, reason, 1).await;
    }
    drop(finder);

    // The same things, and then the station itself.
    let mut finder = look(unicast(0, &[strange, true_one]), only(1));
    let here = finder.local_addr().unwrap();
    attacker.send_to(&genuine, here).await.unwrap();
    attacker.send_to(&moved, here).await.unwrap();
    let found = next_found(&mut finder).await;
    assert_eq!(found.key, identity(1).key());
    assert_eq!(found.addresses, BTreeSet::from([(CarrierKind::WEBSOCKET, (LOOPBACK, 7443).into())]));
}

#[tokio::test]
async fn a_station_is_found_behind_a_flood_of_garbage() {
    let announce = Announce::start(&identity(1), config(unicast(0, &[]))).unwrap();
    let station = announce.local_addr().unwrap();
    let genuine = recorded(station).await;
    let mut finder = look(unicast(0, &[station]), only(1));
    let here = finder.local_addr().unwrap();
    let flood = tokio::spawn(async move {
        let attacker = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        let garbage = [vec![0; 1400], b"PLD\x01".to_vec(), genuine[..100].to_vec(), genuine];
        loop {
            for datagram in &garbage {
                for to in [here, station] {
                    // A full buffer of the kernel is part of the flood.
                    drop(attacker.send_to(datagram, to).await);
                }
            }
            tokio::task::yield_now().await;
        }
    });
    let found = next_found(&mut finder).await;
    assert_eq!(found.addresses, BTreeSet::from([(CarrierKind::WEBSOCKET, (LOOPBACK, 7443).into())]));
    ignored(&finder, Ignored::Malformed, 1000).await;
    flood.abort();
}

#[tokio::test]
async fn of_two_stations_the_younger_steps_down_if_older_wins() {
    let [a, b] = free_ports();
    let [to_a, to_b] = [a, b].map(|port| SocketAddr::from((LOOPBACK, port)));
    let keys = || Policy::OlderWins([identity(1).key(), identity(2).key()].into());
    let older = Announce::start(&identity(1), AnnounceConfig { policy: keys(), ..config(unicast(a, &[to_b])) }).unwrap();
    // Until the older one is certainly running.
    let mut finder = look(unicast(0, &[to_a]), only(1));
    while next_found(&mut finder).await.age < Duration::from_millis(1) {
        finder = look(unicast(0, &[to_a]), only(1));
    }
    let younger = Announce::start(&identity(2), AnnounceConfig { policy: keys(), ..config(unicast(b, &[to_a])) }).unwrap();
    let mut rivalry = younger.rivalry();
    let seen = bounded(rivalry.wait_for(|rivalry| rivalry.stepped_down_for.is_some())).await.unwrap().clone();
    assert_eq!(seen.stepped_down_for, Some(identity(1).key()));
    assert_eq!(seen.rivals[&identity(1).key()].name, "station");
    assert_eq!(older.rivalry().borrow().stepped_down_for, None);

    // It is silent: whoever asks both finds the older one only.
    let mut finder = look(unicast(0, &[to_b, to_a]), Accept::Anyone);
    assert_eq!(next_found(&mut finder).await.key, identity(1).key());
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let query = Query { service: SERVICE.to_owned(), nonce: [1; 16] }.to_datagram().unwrap();
    for to in [to_b, to_a] {
        socket.send_to(&query, to).await.unwrap();
    }
    let mut room = [0; 2000];
    let (_, from) = bounded(socket.recv_from(&mut room)).await.unwrap();
    assert_eq!(from, to_a);
}

#[tokio::test]
async fn two_stations_that_both_stay_know_of_each_other() {
    let [a, b] = free_ports();
    let [to_a, to_b] = [a, b].map(|port| SocketAddr::from((LOOPBACK, port)));
    let first = Announce::start(&identity(1), config(unicast(a, &[to_b]))).unwrap();
    let second = Announce::start(&identity(2), config(unicast(b, &[to_a]))).unwrap();
    for (station, other) in [(&first, 2), (&second, 1)] {
        let mut rivalry = station.rivalry();
        let seen = bounded(rivalry.wait_for(|rivalry| !rivalry.rivals.is_empty())).await.unwrap().clone();
        assert_eq!(seen.rivals.keys().copied().collect::<Vec<_>>(), [identity(other).key()]);
        assert_eq!(seen.stepped_down_for, None);
    }
    second.stop().await;
    let mut rivalry = first.rivalry();
    bounded(rivalry.wait_for(|rivalry| rivalry.rivals.is_empty())).await.unwrap();
}

#[tokio::test]
async fn a_forged_rival_moves_nobody() {
    let [a, b] = free_ports();
    let [to_a, to_b] = [a, b].map(|port| SocketAddr::from((LOOPBACK, port)));
    let forger = Announce::start(&identity(9), config(unicast(b, &[to_a]))).unwrap();
    let policy = Policy::OlderWins([identity(1).key()].into());
    let station = Announce::start(&identity(1), AnnounceConfig { policy, ..config(unicast(a, &[to_b])) }).unwrap();
    // The forger notices the station, so the two have talked.
    let mut rivalry = forger.rivalry();
    bounded(rivalry.wait_for(|rivalry| !rivalry.rivals.is_empty())).await.unwrap();
    let mut finder = look(unicast(0, &[to_a]), only(1));
    next_found(&mut finder).await;
    assert_eq!(*station.rivalry().borrow(), parlour_net::discovery::Rivalry::default());
}

/// Multicast that nobody else on this machine uses, on the interfaces with these addresses.
fn multicast(interfaces: &[&str]) -> Network {
    let [port] = free_ports();
    let [high, low] = port.to_be_bytes();
    Network::Multicast(Multicast {
        group_v4: Some(Ipv4Addr::new(239, 255, high, low)),
        port,
        interfaces: interfaces.iter().map(|ip| ip.parse().unwrap()).collect(),
        ..Multicast::default()
    })
}

async fn finds_by_multicast(network: Network) -> BTreeSet<SocketAddr> {
    let mut finder = look(network.clone(), only(1));
    let announce = Announce::start(&identity(1), config(network.clone())).unwrap();
    // Two on one machine share the port.
    let mut other = look(network.clone(), only(1));
    let found = next_found(&mut finder).await;
    assert_eq!(next_found(&mut other).await.key, found.key);
    let rival = Announce::start(&identity(2), config(network)).unwrap();
    let mut rivalry = announce.rivalry();
    bounded(rivalry.wait_for(|rivalry| rivalry.rivals.contains_key(&identity(2).key()))).await.unwrap();
    rival.stop().await;
    announce.stop().await;
    loop {
        match next(&mut finder).await {
            Discovered::Found(_) => {}
            Discovered::Gone(key) => {
                assert_eq!(key, identity(1).key());
                return found.addresses.into_iter().map(|(_, address)| address).collect();
            }
        }
    }
}

#[test]
fn a_station_is_found_by_multicast_on_loopback() {
    let name = "discovery::a_station_is_found_by_multicast_on_loopback";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let network = multicast(&["127.0.0.1"]);
    // Whether the kernel lets loopback have multicast, asked without any code of ours.
    let probe = std::net::UdpSocket::bind((LOOPBACK, 0)).unwrap();
    match probe.join_multicast_v4(&Ipv4Addr::new(239, 255, 0, 1), &Ipv4Addr::LOCALHOST) {
        Err(refused) if !is_inside() => {
            eprintln!("no multicast on loopback here ({refused}): in a network of its own");
            run_in_own_network(name, "ip link set lo up && ip link set lo multicast on");
        }
        joined => {
            joined.unwrap();
            let addresses = runtime.block_on(finds_by_multicast(network));
            assert_eq!(addresses, BTreeSet::from(["127.0.0.1:7443".parse().unwrap()]));
        }
    }
}

#[test]
fn a_station_is_found_by_multicast_over_ipv4_and_ipv6() {
    if !is_inside() {
        run_in_own_network(
            "discovery::a_station_is_found_by_multicast_over_ipv4_and_ipv6",
            "ip link set lo up && ip link add eth7 type veth peer name eth8 && \
             ip addr add 10.9.8.7/24 dev eth7 && ip -6 addr add fd00:9::7/64 dev eth7 nodad && ip link set eth8 up && \
             ip link set eth7 up",
        );
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let v4 = match multicast(&["10.9.8.7"]) {
        Network::Multicast(network) => Network::Multicast(Multicast { group_v6: None, ..network }),
        unicast => unicast,
    };
    let addresses = runtime.block_on(finds_by_multicast(v4));
    assert_eq!(addresses, BTreeSet::from(["10.9.8.7:7443".parse().unwrap()]));
    let v6 = match multicast(&[]) {
        Network::Multicast(network) => Network::Multicast(Multicast { group_v4: None, ..network }),
        unicast => unicast,
    };
    let addresses = runtime.block_on(finds_by_multicast(v6));
    assert!(addresses.iter().all(|address| address.is_ipv6() && address.port() == 7443) && !addresses.is_empty());
    // And over everything there is, as it is by default.
    runtime.block_on(finds_by_multicast(multicast(&[])));
}

#[test]
fn a_network_that_comes_up_later_is_used_too() {
    if !is_inside() {
        let setup = "ip link set lo up && ip link set lo multicast on && ip link add eth7 type veth peer name eth8";
        run_in_own_network("discovery::a_network_that_comes_up_later_is_used_too", setup);
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let network = multicast(&[]);
        let mut finder = look(network.clone(), only(1));
        let announce = Announce::start(&identity(1), config(network)).unwrap();
        let at = |ip: [u8; 4]| (CarrierKind::WEBSOCKET, SocketAddr::from((ip, 7443)));
        assert_eq!(next_found(&mut finder).await.addresses, BTreeSet::from([at([127, 0, 0, 1])]));
        let up = "ip addr add 10.9.8.7/24 dev eth7 && ip link set eth8 up && ip link set eth7 up";
        assert!(std::process::Command::new("sh").args(["-c", up]).status().unwrap().success());
        while !next_found(&mut finder).await.addresses.contains(&at([10, 9, 8, 7])) {}
        announce.stop().await;
    });
}

#[test]
fn without_any_network_multicast_is_refused_by_name() {
    if !is_inside() {
        run_in_own_network("discovery::without_any_network_multicast_is_refused_by_name", "true");
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let error = find(FindConfig::new(SERVICE, Accept::Anyone)).expect_err("there is no interface that is up");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable, "{error}");
    });
}

/// Answers nothing: it is enough that links are let in.
struct Silent;

impl SessionService for Silent {
    type Session = ();

    fn open(&self, _info: SessionInfo, _pusher: Pusher) {}

    fn request(&self, _session: &mut (), request: Incoming) -> BoxFuture<'static, Result<(ContentType, Bytes), Fault>> {
        let fault = Fault { code: Code::UNKNOWN_REQUEST, message: request.name, retry_after_ms: None };
        Box::pin(async move { Err(fault) })
    }

    fn action(&self, _session: &mut (), _action: IncomingAction) {}

    fn close(&self, _session: ()) {}
}

/// A listener on loopback that shows this identity; its port, and what stops it.
async fn listener(number: u8) -> (u16, watch::Sender<bool>) {
    let shown = ServerIdentity::from_identity(&identity(number)).unwrap();
    let listener = Listener::bind((LOOPBACK, 0).into(), shown).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(listener.serve(Arc::new(Silent), ListenConfig::default(), stopped));
    (port, stop)
}

#[tokio::test]
async fn who_is_found_is_connected_to_and_proves_its_key_there() {
    let (port, _stop) = listener(1).await;
    let endpoints = vec![Endpoint::websocket(port)];
    let announce = Announce::start(&identity(1), AnnounceConfig { endpoints, ..config(unicast(0, &[])) }).unwrap();
    let mut finder = look(unicast(0, &[announce.local_addr().unwrap()]), only(1));
    let found = next_found(&mut finder).await;
    let (_link, mut events) = Link::connect(ConnectConfig::new(found.urls()[0].clone(), Trust::Key(found.key)));
    match bounded(events.next()).await {
        Some(LinkEvent::Up { peer_key, .. }) => assert_eq!(peer_key, Some(identity(1).key())),
        other => panic!("{other:?}"),
    }

    // A station that sits at the same address with another key is found out on the link.
    let (port, _stop) = listener(2).await;
    let url = format!("wss://127.0.0.1:{port}").parse().unwrap();
    let (_link, mut events) = Link::connect(ConnectConfig::new(url, Trust::Key(found.key)));
    assert!(matches!(bounded(events.next()).await, Some(LinkEvent::Failed(_))));
}
