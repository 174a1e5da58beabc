//! What a server may not do, and what becomes of it: the client's link ends with a name, the server is told, and another link of the
//! same program goes on.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use parlour_net::{
    ConnectConfig, ConnectError, Events, Fault, KeepAlive, Link, LinkConfig, LinkEvent, LinkSessionId, ListenConfig,
};
use parlour_wire::{Code, Frame, Kind, encode, frame::ContentType, header::Welcome, limits};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_tungstenite::accept_async;

use crate::{
    over_every_carrier,
    raw::{Raw, certificate},
    rig::{Address, CLIENT, Rig, SERVER, Way, failure, identity},
    support::{BOUND, bounded, next, up},
};

over_every_carrier! {
    a_station_that_breaks_the_rules_is_named_and_told_so,
    a_station_that_announces_a_gigabyte_is_named_before_it_is_sent,
    what_a_station_says_that_is_not_known_is_ignored,
    a_station_that_opens_ten_thousand_requests_is_named,
    a_station_that_drips_a_frame_is_given_up_with_a_name,
    a_station_that_drips_its_welcome_is_given_up_with_a_name,
}

/// A server that speaks the protocol by hand.
struct Station {
    address: Address,
    door: Door,
}

enum Door {
    WebSocket(TcpListener, TlsAcceptor),
    #[cfg(feature = "iroh")]
    Iroh(::iroh::Endpoint),
}

impl Station {
    async fn start(way: Way) -> Self {
        match way {
            Way::WebSocket => {
                let (shown, key) = certificate(SERVER);
                let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_no_client_auth()
                    .with_single_cert(vec![shown], key.into())
                    .unwrap();
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = Address::WebSocket(listener.local_addr().unwrap());
                Self { address, door: Door::WebSocket(listener, TlsAcceptor::from(Arc::new(config))) }
            }
            #[cfg(feature = "iroh")]
            Way::Iroh => {
                let endpoint = crate::raw::raw_endpoint(SERVER).await;
                let direct = endpoint.bound_sockets().into_iter().collect();
                let addr = parlour_net::IrohAddr { key: identity(SERVER).key(), direct, relays: Default::default() };
                Self { address: Address::Iroh(addr), door: Door::Iroh(endpoint) }
            }
        }
    }

    /// Somebody who has connected and has said hello.
    async fn hear(&self) -> Raw {
        let mut raw = match &self.door {
            Door::WebSocket(listener, acceptor) => {
                let (tcp, _) = bounded(listener.accept()).await.unwrap();
                let stream = TlsStream::from(bounded(acceptor.accept(tcp)).await.unwrap());
                Raw::WebSocket(Box::new(bounded(accept_async(stream)).await.unwrap()))
            }
            #[cfg(feature = "iroh")]
            Door::Iroh(endpoint) => {
                let connection = bounded(bounded(endpoint.accept()).await.unwrap().accept().unwrap()).await.unwrap();
                let (send, recv) = bounded(connection.accept_bi()).await.unwrap();
                Raw::Iroh(Box::new(crate::raw::RawIroh { connection, send, recv, _endpoint: endpoint.clone() }))
            }
        };
        assert_eq!(raw.recv().await.expect("a hello").kind, Kind::HELLO);
        raw
    }

    /// Somebody who was made welcome, too.
    async fn greet(&self) -> Raw {
        let mut raw = self.hear().await;
        let welcome = Welcome {
            capabilities: Vec::new(),
            session: LinkSessionId([1; 16]),
            token: [2; 32],
            resumed: false,
            received: 0,
            grace_ms: 60_000,
            challenge: [3; 32],
        };
        assert!(raw.send(&Frame { header: Bytes::from(encode(&welcome)), ..Frame::new(Kind::WELCOME) }).await);
        raw
    }
}

/// A link to a station that means harm, and another one of this program to a server that does not.
struct Scene {
    rig: Rig,
    other: Link,
    _other_events: Events,
    session: Option<LinkSessionId>,
}

/// The end of the station, and the link to it.
struct Harmed {
    raw: Raw,
    _link: Link,
    events: Events,
    _station: Station,
}

impl Scene {
    async fn new(way: Way) -> Self {
        let rig = Rig::start(way, ListenConfig::default()).await;
        let (other, mut other_events) = rig.connect().await;
        assert!(!up(&mut other_events).await);
        Self { session: other.session(), rig, other, _other_events: other_events }
    }

    async fn link(way: Way, settings: LinkConfig) -> Harmed {
        let station = Station::start(way).await;
        let config = station.address.config(CLIENT + 1, identity(SERVER).key()).await;
        let (link, mut events) = Link::connect(ConnectConfig { link: settings, ..config });
        let raw = station.greet().await;
        assert!(!up(&mut events).await);
        Harmed { raw, _link: link, events, _station: station }
    }

    /// The other link is what it was.
    async fn goes_on(&self) {
        let content = Bytes::from_static(b"well");
        let answer = bounded(self.other.request_raw("echo", ContentType::CBOR, content.clone(), BOUND)).await.unwrap();
        assert_eq!(answer.content, content);
        assert!(
            self.other.is_up()
                && self.other.session() == self.session
                && self.rig.server.service.reasons.lock().unwrap().is_empty()
        );
    }
}

impl Harmed {
    /// Both ends have the name.
    async fn ends_with(&mut self, code: Code, what: &str) {
        match failure(&mut self.events).await {
            ConnectError::Refused(fault) => assert_eq!(fault.code, code, "{what}: {}", fault.message),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(self.raw.closed_at_last_with().await, Some(code), "{what}");
    }

    /// Why the link is down, for as long as it takes to connect again.
    async fn down(&mut self) -> Fault {
        match next(&mut self.events).await {
            LinkEvent::Down { fault, .. } => fault,
            other => panic!("{other:?}"),
        }
    }

    /// Why the link has ended, without having been down before, and how many requests nobody needs to answer any more.
    async fn ended(&mut self) -> (Fault, usize) {
        let mut cancelled = 0;
        loop {
            match next(&mut self.events).await {
                LinkEvent::Cancelled { .. } => cancelled += 1,
                LinkEvent::Failed(ConnectError::Refused(fault)) => return (fault, cancelled),
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn a_station_that_breaks_the_rules_is_named_and_told_so(way: Way) {
    let scene = Scene::new(way).await;
    let bytes = |frame: Frame| frame.to_bytes().unwrap();
    let request = || Raw::request(1, "ask", Bytes::new());
    let mut large = BytesMut::new();
    request().encode(&mut large).unwrap();
    large.resize(limits::FRAME + 1, 0);
    for (what, message, code) in [
        ("a gap", bytes(Frame { seq: 5, ..request() }), Code::BAD_FRAME),
        ("a second welcome", bytes(Frame::new(Kind::WELCOME)), Code::BAD_FRAME),
        ("a hello", bytes(Frame::new(Kind::HELLO)), Code::BAD_FRAME),
        ("no number", bytes(Frame { seq: 0, ..request() }), Code::BAD_FRAME),
        ("a wrong header", bytes(Frame { header: Bytes::from_static(b"\xff\xff"), ..request() }), Code::BAD_FRAME),
        (
            "a header of the wrong type",
            bytes(Frame { header: Bytes::from_static(b"\xa1\x00\x07"), ..request() }),
            Code::BAD_FRAME,
        ),
        ("what was never sent", bytes(Frame { id: 9, ..Frame::new(Kind::ACK) }), Code::BAD_FRAME),
        ("half a frame", bytes(request()).slice(..20), Code::BAD_FRAME),
        ("no frame", Bytes::from_static(b"HTTP/1.1 500 Internal Server Error\r\n\r\n"), Code::BAD_FRAME),
        ("too large a frame", large.freeze(), Code::TOO_LARGE),
    ] {
        let mut harmed = Scene::link(way, LinkConfig::default()).await;
        harmed.raw.send_message(message).await;
        harmed.ends_with(code, what).await;
        scene.goes_on().await;
    }
}

async fn a_station_that_announces_a_gigabyte_is_named_before_it_is_sent(way: Way) {
    let scene = Scene::new(way).await;
    let mut harmed = Scene::link(way, LinkConfig::default()).await;
    harmed.raw.announce(1 << 30).await;
    harmed.ends_with(Code::TOO_LARGE, "a gigabyte").await;
    scene.goes_on().await;
}

async fn what_a_station_says_that_is_not_known_is_ignored(way: Way) {
    let Harmed { mut raw, _link: link, mut events, _station } = Scene::link(way, LinkConfig::default()).await;
    raw.send(&Frame { content: Bytes::from_static(b"?"), flags: 0xff00, ..Frame::new(Kind(99)) }).await;
    raw.send(&Frame { id: 3, ..Frame::new(Kind::PING) }).await;
    assert_eq!(raw.recv().await, Some(Frame { id: 3, ..Frame::new(Kind::PONG) }));
    // A header with a field more than this version knows: {0: "ask", 1: 0, 77: "new"}.
    let header = Bytes::from_static(b"\xa3\x00\x63ask\x01\x00\x18\x4d\x63new");
    raw.send(&Frame { header, ..Raw::request(1, "", Bytes::from_static(b"well")) }).await;
    match next(&mut events).await {
        LinkEvent::Request { name, content, .. } => assert_eq!((&*name, &content[..]), ("ask", &b"well"[..])),
        other => panic!("{other:?}"),
    }
    assert!(link.is_up());
}

async fn a_station_that_opens_ten_thousand_requests_is_named(way: Way) {
    let scene = Scene::new(way).await;
    let mut harmed = Scene::link(way, LinkConfig::default()).await;
    let most = limits::REQUESTS_IN_FLIGHT;
    // All that may be open are, and the other link has its turn.
    for n in 1..=most as u64 {
        harmed.raw.send(&Raw::request(n, "ask", Bytes::new())).await;
        assert!(matches!(next(&mut harmed.events).await, LinkEvent::Request { .. }));
    }
    scene.goes_on().await;
    for n in most as u64 + 1..=10_000 {
        if !harmed.raw.send(&Raw::request(n, "ask", Bytes::new())).await {
            break;
        }
    }
    // None of those above the bound comes to the application. Whoever opens them breaks a rule that it knows, so the link ends for good as it
    // does for a frame that cannot be read, although to try again helps where a server says of itself that it is overloaded.
    let (fault, cancelled) = harmed.ended().await;
    assert_eq!((fault.code, cancelled), (Code::OVERLOADED, most), "{}", fault.message);
    assert_eq!(harmed.raw.closed_at_last_with().await, Some(Code::OVERLOADED));
    scene.goes_on().await;
}

async fn a_station_that_drips_a_frame_is_given_up_with_a_name(way: Way) {
    let scene = Scene::new(way).await;
    let keep_alive = KeepAlive { idle: Duration::from_millis(30), interval: Duration::from_millis(30), fails: 2 };
    let mut harmed = Scene::link(way, LinkConfig { keep_alive: Some(keep_alive), ..LinkConfig::default() }).await;
    harmed.raw.announce(64 * 1024).await;
    bounded(harmed.raw.drip()).await;
    let fault = harmed.down().await;
    assert_eq!((fault.code, &*fault.message), (Code::LINK_LOST, "the peer is silent"));
    scene.goes_on().await;
}

async fn a_station_that_drips_its_welcome_is_given_up_with_a_name(way: Way) {
    let scene = Scene::new(way).await;
    let station = Station::start(way).await;
    let config = station.address.config(CLIENT + 1, identity(SERVER).key()).await;
    let settings = LinkConfig { handshake_timeout: Duration::from_millis(300), ..LinkConfig::default() };
    let (_link, mut events) = Link::connect(ConnectConfig { link: settings, ..config });
    let mut raw = station.hear().await;
    raw.announce(4096).await;
    let (told, ()) = tokio::join!(next(&mut events), bounded(raw.drip()));
    match told {
        LinkEvent::Down { fault, .. } => {
            assert_eq!((fault.code, &*fault.message), (Code::TIMED_OUT, "no greeting within the deadline"))
        }
        other => panic!("{other:?}"),
    }
    scene.goes_on().await;
}
