//! Clients over real sockets against a real listener.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use parlour_net::{
    Incoming, IncomingAction, ListenConfig, Listener, PemPair, PushError, Pusher, ServerIdentity, SessionInfo, SessionService,
};
use parlour_server::{Fanout, Now, Secrets, Service, ServiceConfig, Session, Sink, SinkFull, store, store::memory::MemoryStore};
use parlour_wire::{Code, address::ServerUrl, api::Registration, frame::ContentType, header::Fault};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::{Client, Event, KeySource, Login, OpenOptions, Page, Register, State};

pub(super) const WAIT: Duration = Duration::from_secs(20);

struct Pushes(Pusher);

impl Sink for Pushes {
    fn push(&self, name: &'static str, content: Bytes) -> Result<(), SinkFull> {
        self.0.push(name, content).map_err(|_: PushError| SinkFull)
    }

    fn close(&self, code: Code, message: &str) {
        self.0.close(Fault { code, message: message.to_owned(), retry_after_ms: None });
    }
}

pub(super) struct Host(Service<MemoryStore>);

#[expect(clippy::disallowed_methods, reason = "a server has a clock")]
fn now() -> Now {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    Now { unix_ms: u64::try_from(now.as_millis()).unwrap() }
}

impl SessionService for Host {
    type Session = Session;

    fn open(&self, info: SessionInfo, push: Pusher) -> Session {
        self.0.open(info.peer.ip(), info.challenge, info.fingerprint, Arc::new(Pushes(push)))
    }

    fn request(
        &self,
        session: &mut Session,
        request: Incoming,
    ) -> futures_util::future::BoxFuture<'static, Result<(ContentType, Bytes), Fault>> {
        let answering = self.0.request(session, &request.name, &request.content, now());
        Box::pin(async move { answering.await.map(|bytes| (ContentType::CBOR, bytes)).map_err(|failure| failure.to_wire()) })
    }

    fn action(&self, session: &mut Session, action: IncomingAction) {
        self.0.action(session, &action.name, &action.content, now());
    }

    fn connection(&self, session: &mut Session, up: bool) {
        self.0.connection(session, up, now());
    }

    fn close(&self, session: Session) {
        self.0.close(session, now());
    }
}

pub(super) struct Server {
    pub(super) url: ServerUrl,
    stop: watch::Sender<bool>,
    done: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Serves at this port of the loopback address; 0 for one that is free.
    pub(super) async fn start(host: &Arc<Host>, identity: ServerIdentity, port: u16) -> Self {
        let fingerprint = Some(identity.fingerprint());
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], port)), identity).await.unwrap();
        let url = ServerUrl { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port(), fingerprint };
        let (stop, stopped) = watch::channel(false);
        let done = tokio::spawn(listener.serve(Arc::clone(host), ListenConfig::default(), stopped));
        Self { url, stop, done }
    }

    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        self.done.await.unwrap();
    }
}

pub(super) fn host() -> Arc<Host> {
    let fanout = Arc::new(Fanout::new());
    let store = Arc::new(MemoryStore::new(Arc::clone(&fanout) as Arc<dyn store::Observer>));
    let mut rng = StdRng::from_seed([3; 32]);
    let config = ServiceConfig { registration: Registration::OPEN, version: "test".to_owned(), throttle: Default::default() };
    Arc::new(Host(Service::new(config, store, fanout, Secrets::generate(&mut rng), [4; 32])))
}

pub(super) fn self_signed() -> ServerIdentity {
    let PemPair { cert_pem, key_pem } = ServerIdentity::self_signed(&["localhost".to_owned()]).unwrap();
    ServerIdentity::load(&cert_pem, &key_pem).unwrap()
}

async fn server() -> Server {
    Server::start(&host(), self_signed(), 0).await
}

pub(super) fn open(home: &Path) -> Client {
    Client::open(OpenOptions { home: home.to_owned(), key: KeySource::File, create: true }).unwrap()
}

pub(super) fn password() -> Zeroizing<String> {
    Zeroizing::new("correct horse".to_owned())
}

async fn register(home: &Path, server: &ServerUrl, name: &str) -> Client {
    let client = open(home);
    let register =
        Register { server: server.clone(), name: name.to_owned(), password: password(), invite: None, label: "live".to_owned() };
    client.register(register).await.unwrap();
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_talk_over_real_sockets_and_survive_cuts() {
    let server = server().await;
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let facts = Client::server_info(&server.url.without_fingerprint(), WAIT).await.unwrap();
    assert_eq!((facts.registration.word(), &facts.server), ("open", &server.url));
    let alice = register(homes[0].path(), &server.url, "alice").await;
    let bob = register(homes[1].path(), &server.url, "bob").await;
    let mut events = bob.events();

    let first = alice.send("bob", "hello", None).await.unwrap();
    assert_eq!(alice.wait_state(first.id, State::Delivered, WAIT).await, Ok(State::Delivered));
    let heard = tokio::time::timeout(WAIT, async {
        loop {
            if let Some(Event::Message(message)) = events.next().await {
                break message;
            }
        }
    });
    assert_eq!(heard.await.unwrap().text, "hello");

    let mut last = first.id;
    for n in 0..60 {
        if n % 20 == 10 {
            alice.cut().await.unwrap();
            bob.cut().await.unwrap();
        }
        last = alice.send("bob", &n.to_string(), None).await.unwrap().id;
    }
    alice.wait_state(last, State::Delivered, WAIT).await.unwrap();
    let history = bob.history("alice", Page { limit: 100, ..Page::default() }).await.unwrap();
    let texts: Vec<_> = history.iter().skip(1).map(|message| message.text.clone()).collect();
    assert_eq!(texts, (0..60).map(|n| n.to_string()).collect::<Vec<_>>());

    let second = open(homes[2].path());
    let login = Login { server: server.url.clone(), name: "alice".to_owned(), password: password(), label: "2".to_owned() };
    second.login(login).await.unwrap();
    second.wait_synced(WAIT).await.unwrap();
    let read: Vec<_> = bob.unshown(None, 100).await.unwrap().iter().map(|message| message.id).collect();
    bob.mark_shown(&read).await.unwrap();
    alice.wait_state(last, State::Read, WAIT).await.unwrap();
    let answer = bob.send("alice", "answer", None).await.unwrap();
    bob.wait_state(answer.id, State::Delivered, WAIT).await.unwrap();
    second.wait_synced(WAIT).await.unwrap();

    for client in [&alice, &bob, &second] {
        client.close().await.unwrap();
    }
    let error = alice.send("bob", "x", None).await.unwrap_err();
    assert_eq!(error.code, Code::CANCELLED);
    // The profile is free again, and everything is there.
    let alice = open(homes[0].path());
    assert_eq!(alice.history("bob", Page::default()).await.unwrap().len(), 50);
    alice.go_online().await.unwrap();
    alice.wait_synced(WAIT).await.unwrap();
    alice.close().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn without_a_server_messages_to_known_people_are_queued_and_say_so() {
    let server = server().await;
    let home = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let alice = register(home.path(), &server.url, "alice").await;
    let bob = register(other.path(), &server.url, "bob").await;
    alice.add_contact("bob").await.unwrap();
    bob.close().await.unwrap();
    alice.close().await.unwrap();
    server.stop().await;

    let alice = open(home.path());
    assert_eq!(alice.go_online().await.unwrap_err().code, Code::UNREACHABLE);
    let message = alice.send("bob", "later", None).await.unwrap();
    assert_eq!(message.state, State::Queued);
    let waited = alice.wait_state(message.id, State::Stored, Duration::from_millis(50)).await;
    assert_eq!(waited.unwrap_err().code, Code::TIMED_OUT);
    assert_eq!(alice.send("carol", "x", None).await.unwrap_err().code, Code::UNREACHABLE);
    alice.close().await.unwrap();
}

#[tokio::test]
async fn another_certificate_at_the_same_address_is_refused() {
    let server = server().await;
    let wrong = ServerUrl { fingerprint: Some([9; 32]), ..server.url.clone() };
    let error = Client::server_info(&wrong, WAIT).await.unwrap_err();
    assert_eq!(error.code, Code::CERTIFICATE_CHANGED);
    server.stop().await;
}
