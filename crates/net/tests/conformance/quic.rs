//! What only iroh can get wrong: the QUIC streams beside the main one, and where its packets go.

use bytes::Bytes;
use futures_util::FutureExt;
use iroh::endpoint::SendStream;
use parlour_net::{ConnectError, IrohAddr, IrohConfig, IrohEndpoint, IrohError, Link, LinkEvent, ListenConfig, Listener};
use parlour_wire::{Code, Frame, Kind, decode, frame::ContentType, header::Credit, limits};

use crate::{
    raw::{Raw, RawIroh, endpoint_addr, raw_endpoint},
    rig::{Address, CLIENT, Rig, Way, failure, identity, watchful},
    support::{BOUND, bounded, up},
};

/// A peer that has been greeted.
async fn greeted(rig: &Rig) -> Box<RawIroh> {
    let mut raw = Raw::connect(rig, CLIENT).await;
    raw.greet().await;
    match raw {
        Raw::Iroh(raw) => raw,
        Raw::WebSocket(_) => panic!("not iroh"),
    }
}

/// What goes onto a stream of its own.
fn message(frame: &Frame) -> Vec<u8> {
    let bytes = frame.to_bytes().unwrap();
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), &bytes[..]].concat()
}

async fn open(raw: &RawIroh, number: u64) -> SendStream {
    let mut send = bounded(raw.connection.open_uni()).await.unwrap();
    bounded(send.write_all(&number.to_be_bytes())).await.unwrap();
    send
}

fn data(number: u64, content: &'static [u8]) -> Frame {
    Frame { id: number, content: Bytes::from_static(content), ..Frame::new(Kind::STREAM_DATA) }
}

#[tokio::test]
async fn a_stream_that_nobody_asked_for_is_stopped() {
    let rig = Rig::start(Way::Iroh, ListenConfig::default()).await;
    let raw = greeted(&rig).await;
    let mut stream = open(&raw, 7).await;
    bounded(stream.write_all(&message(&data(7, b"unasked")))).await.unwrap();
    assert!(bounded(stream.stopped()).await.unwrap().is_some());
    let mut raw = Raw::Iroh(raw);
    let credit = raw.recv().await.unwrap();
    assert_eq!((credit.kind, credit.id), (Kind::STREAM_CREDIT, 7));
    assert!(decode::<Credit>(&credit.header).unwrap().stop.is_some());
}

#[tokio::test]
async fn what_does_not_belong_on_a_stream_of_its_own_ends_the_session() {
    let rig = Rig::start(Way::Iroh, ListenConfig::default()).await;
    let large = Frame { content: Bytes::from(vec![0; limits::STREAM_CHUNK + 1024]), ..data(7, b"") };
    for (bytes, code) in [
        (message(&Raw::request(1, "echo", Bytes::new())), Code::BAD_FRAME),
        (message(&data(8, b"the number of another stream")), Code::BAD_FRAME),
        (message(&large), Code::TOO_LARGE),
        (vec![0xff; 4], Code::TOO_LARGE),
        (message(&data(7, b"cut short"))[..20].to_vec(), Code::BAD_FRAME),
    ] {
        let raw = greeted(&rig).await;
        let mut stream = open(&raw, 7).await;
        bounded(stream.write_all(&bytes)).await.unwrap();
        stream.finish().unwrap();
        assert_eq!(Raw::Iroh(raw).closed_with().await, Some(code));
    }
}

#[tokio::test]
async fn a_stream_that_ends_twice_ends_the_session() {
    let rig = Rig::start(Way::Iroh, ListenConfig::default()).await;
    let raw = greeted(&rig).await;
    let mut stream = open(&raw, 7).await;
    let end = message(&Frame { id: 7, ..Frame::new(Kind::STREAM_END) });
    bounded(stream.write_all(&[&end[..], &end[..]].concat())).await.unwrap();
    assert_eq!(Raw::Iroh(raw).closed_with().await, Some(Code::BAD_FRAME));
}

#[tokio::test]
async fn a_peer_may_open_so_many_streams_and_a_stranger_none() {
    let rig = Rig::start(Way::Iroh, ListenConfig::default()).await;
    let mut raw = Raw::connect(&rig, CLIENT).await;
    let Raw::Iroh(stranger) = &raw else { panic!("not iroh") };
    assert!(stranger.connection.open_uni().now_or_never().is_none());
    raw.greet().await;
    let Raw::Iroh(known) = &raw else { panic!("not iroh") };
    let mut silent = Vec::new();
    for _ in 0..limits::STREAMS {
        let mut stream = bounded(known.connection.open_uni()).await.unwrap();
        bounded(stream.write_all(b"half")).await.unwrap();
        silent.push(stream);
    }
    assert!(known.connection.open_uni().now_or_never().is_none());
    raw.send(&Raw::request(1, "echo", Bytes::from_static(b"well"))).await;
    while raw.recv().await.unwrap().kind != Kind::RESPONSE {}
}

#[tokio::test]
async fn a_stranger_may_leave_little_unread() {
    let rig = Rig::start(Way::Iroh, ListenConfig::default()).await;
    let Raw::Iroh(mut raw) = Raw::connect(&rig, CLIENT).await else { panic!("not iroh") };
    // Frames of a stranger are read as far as the first; everything behind it stays where it is.
    let mut written = 0;
    while let Some(wrote) = raw.send.write(&[b'P'; 1024]).now_or_never() {
        let Ok(wrote) = wrote else { break };
        written += wrote;
    }
    assert!(written <= 64 * 1024, "{written}");
}

/// What is under way of a stream stands before whatever is said next: when its receiver reads nothing, all its credit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_matters_waits_for_little_of_a_stream_that_is_under_way() {
    let mut rig = Rig::start(Way::Iroh, ListenConfig::default()).await;
    let raw = greeted(&rig).await;
    let (_, pusher) = rig.server.opened().await;
    let mut sink = pusher.link().sink(8 << 20);
    assert_eq!(sink.credit(), 256 * 1024, "to a peer that is near");
    rig.server.service.set_room(false);
    let mut stream = open(&raw, sink.id()).await;
    let chunk = Bytes::from(message(&Frame { content: vec![0; limits::STREAM_CHUNK].into(), ..data(sink.id(), b"") }));
    for _ in 0..sink.credit() as usize / limits::STREAM_CHUNK {
        bounded(stream.write_all(&chunk)).await.unwrap();
    }
    let mut raw = Raw::Iroh(raw);
    assert!(raw.send(&Raw::request(1, "echo", Bytes::from_static(b"now"))).await, "there is room beside the stream");
    rig.server.service.set_room(true);
    while raw.recv().await.unwrap().kind != Kind::RESPONSE {}
    assert!(bounded(sink.recv()).await.is_ok(), "the stream goes on");
}

#[tokio::test]
async fn a_loopback_endpoint_has_no_other_sockets() {
    let endpoint = IrohEndpoint::bind(&identity(CLIENT), &IrohConfig::loopback()).await.unwrap();
    let (bound, addr) = (endpoint.bound_sockets(), endpoint.addr());
    assert!(!bound.is_empty() && bound.iter().all(|address| address.ip().is_loopback()), "{bound:?}");
    assert!(!addr.direct.is_empty() && addr.direct.iter().all(|address| address.ip().is_loopback()), "{addr}");
    assert!(addr.relays.is_empty());
    assert_eq!(addr.key, identity(CLIENT).key());
}

#[tokio::test]
async fn an_endpoint_without_a_listener_refuses_connections() {
    let endpoint = IrohEndpoint::bind(&identity(1), &IrohConfig::loopback()).await.unwrap();
    let stranger = raw_endpoint(CLIENT).await;
    let refused = bounded(stranger.connect(endpoint_addr(&endpoint.addr()), b"parlour/link/1")).await;
    assert!(refused.is_err());
    let other = bounded(stranger.connect(endpoint_addr(&endpoint.addr()), b"another protocol")).await;
    assert!(other.is_err());
}

#[tokio::test]
async fn a_listener_takes_over_and_gives_back_an_endpoint() {
    let endpoint = IrohEndpoint::bind(&identity(1), &IrohConfig::loopback()).await.unwrap();
    let client = IrohEndpoint::bind(&identity(2), &IrohConfig::loopback()).await.unwrap();
    for _ in 0..2 {
        let listener = Listener::over_iroh(endpoint.clone());
        assert!(listener.local_addr().is_err());
        let server = crate::support::Server::serve(listener, [0; 32], ListenConfig::default());
        let config = parlour_net::ConnectConfig::iroh(client.clone(), endpoint.addr());
        let (link, mut events) = Link::connect(config);
        assert!(!up(&mut events).await);
        link.request_raw("echo", ContentType::CBOR, Bytes::new(), BOUND).await.unwrap();
        server.stop.send_replace(true);
        bounded(server.task).await.unwrap();
        bounded(link.close()).await;
    }
}

#[tokio::test]
async fn a_link_fails_for_good_when_its_endpoint_is_closed() {
    let rig = Rig::start(Way::Iroh, ListenConfig::default()).await;
    let Address::Iroh(addr) = rig.address.clone() else { panic!("not iroh") };
    let endpoint = IrohEndpoint::bind(&identity(CLIENT), &IrohConfig::loopback()).await.unwrap();
    let (_link, mut events) = Link::connect(parlour_net::ConnectConfig::iroh(endpoint.clone(), addr));
    assert!(!up(&mut events).await);
    bounded(endpoint.close()).await;
    assert_eq!(failure(&mut events).await, ConnectError::EndpointClosed);
}

#[tokio::test]
async fn a_listener_with_two_doors_takes_a_client_back_through_the_other() {
    let server_identity = identity(1);
    let endpoint = IrohEndpoint::bind(&server_identity, &IrohConfig::loopback()).await.unwrap();
    let shown = parlour_net::ServerIdentity::from_identity(&server_identity).unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), shown).await.unwrap().with_iroh(endpoint.clone());
    let by_tcp = Address::WebSocket(listener.local_addr().unwrap());
    let server = crate::support::Server::serve(listener, [0; 32], ListenConfig::default());
    let mut rig = Rig { server, key: server_identity.key(), address: by_tcp, endpoint: None };
    let mut first = Raw::connect(&rig, CLIENT).await;
    let welcome = first.greet().await;
    first.send(&first.action(1)).await;
    while first.recv().await.unwrap().kind != Kind::ACK {}
    rig.address = Address::Iroh(endpoint.addr());
    for (client, resumed) in [(CLIENT + 1, false), (CLIENT, true)] {
        let mut second = Raw::connect(&rig, client).await;
        second.send(&crate::raw::resume(&welcome, 0)).await;
        assert_eq!(second.welcome().await.resumed, resumed);
    }
}

#[tokio::test]
async fn a_session_outlives_the_address_of_its_client() {
    let rig = Rig::start(Way::Iroh, ListenConfig::default()).await;
    let Address::Iroh(addr) = rig.address.clone() else { panic!("not iroh") };
    // The client sits behind a router that forgets which of its ports it was given.
    let server = *addr.direct.iter().find(|address| address.is_ipv4()).unwrap();
    let (forget, forgetting) = tokio::sync::watch::channel(());
    let front = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let known = IrohAddr { direct: [front.local_addr().unwrap()].into(), ..addr };
    let _router = AbortOnDropHandle(tokio::spawn(route(front, server, forgetting)));
    let endpoint = IrohEndpoint::bind(&identity(CLIENT), &IrohConfig::loopback()).await.unwrap();
    let config = parlour_net::ConnectConfig { link: watchful(), ..parlour_net::ConnectConfig::iroh(endpoint, known) };
    let (link, mut events) = Link::connect(config);
    assert!(!up(&mut events).await);
    for n in 0_u32..300 {
        if n % 100 == 50 {
            forget.send_replace(());
        }
        let number = Bytes::copy_from_slice(&n.to_be_bytes());
        let answer = link.request_raw("tally", ContentType::CBOR, number.clone(), BOUND).await;
        assert_eq!(answer.unwrap().content, number);
    }
    assert!(rig.server.service.tally.lock().unwrap().values().all(|count| *count == 1));
}

struct AbortOnDropHandle(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDropHandle {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Passes datagrams between a client and a server, which sees them come from another port whenever this router forgets.
async fn route(front: tokio::net::UdpSocket, server: std::net::SocketAddr, mut forget: tokio::sync::watch::Receiver<()>) {
    let mut back = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut client, mut there, mut here) = (None, vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            Ok(()) = forget.changed() => back = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            Ok((size, from)) = front.recv_from(&mut there) => {
                client = Some(from);
                drop(back.send_to(&there[..size], server).await);
            }
            Ok((size, _)) = back.recv_from(&mut here) => {
                if let Some(client) = client {
                    drop(front.send_to(&here[..size], client).await);
                }
            }
            else => {}
        }
    }
}

#[tokio::test]
async fn addresses_survive_their_text() {
    let endpoint = IrohEndpoint::bind(&identity(CLIENT), &IrohConfig::loopback()).await.unwrap();
    let mut addr = endpoint.addr();
    assert_eq!(addr.to_string().parse(), Ok(addr.clone()));
    addr.relays.insert("https://relay.example/".to_owned());
    assert_eq!(addr.to_string().parse(), Ok(addr.clone()));
    addr.direct.clear();
    addr.relays.clear();
    assert_eq!(addr.to_string(), format!("iroh://{}", addr.key));
    assert_eq!(addr.to_string().parse(), Ok(addr.clone()));
    let key = addr.key;
    for text in
        ["", "iroh://", "iroh://12", &format!("wss://{key}"), &format!("iroh://{key}?at=here"), &format!("iroh://{key}?x=1")]
    {
        assert!(matches!(text.parse::<IrohAddr>(), Err(IrohError::Address(_))), "{text}");
    }
    assert!(matches!(format!("iroh://{key}?relay=::").parse::<IrohAddr>(), Err(IrohError::Relay(_))));
}

#[tokio::test]
async fn a_link_to_what_is_no_address_fails_for_good() {
    let endpoint = IrohEndpoint::bind(&identity(CLIENT), &IrohConfig::loopback()).await.unwrap();
    let good = IrohAddr { key: identity(1).key(), ..endpoint.addr() };
    // Everybody can make signatures under the key of zeros.
    let nobody = IrohAddr { key: parlour_net::PeerKey([0; 32]), ..good.clone() };
    let relay = IrohAddr { relays: ["not a relay".to_owned()].into(), ..good };
    for addr in [nobody, relay] {
        let (_link, mut events) = Link::connect(parlour_net::ConnectConfig::iroh(endpoint.clone(), addr));
        assert!(matches!(bounded(events.next()).await, Some(LinkEvent::Failed(ConnectError::BadAddress(_)))));
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_bound_says_why() {
    let taken = IrohEndpoint::bind(&identity(1), &IrohConfig::loopback()).await.unwrap();
    let bind = taken.bound_sockets();
    let again = IrohEndpoint::bind(&identity(2), &IrohConfig { bind, relays: Vec::new() }).await;
    assert!(matches!(again, Err(IrohError::Bind(_))));
    let relays = vec!["not a relay".to_owned()];
    let wrong = IrohEndpoint::bind(&identity(2), &IrohConfig { relays, ..IrohConfig::loopback() }).await;
    assert!(matches!(wrong, Err(IrohError::Relay(_))));
}
