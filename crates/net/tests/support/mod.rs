//! A server with a small service on loopback, and a proxy that cuts connections.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "tests; each test binary uses a part of this")]

pub mod door;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parlour_net::{
    Answer, ConnectConfig, Events, Incoming, IncomingAction, Link, LinkEvent, ListenConfig, Listener, PemPair, Pusher, Remains,
    RequestId, ServerIdentity, SessionInfo, SessionService, Trust,
};
use parlour_wire::{Code, LinkSessionId, frame::ContentType, header::Fault};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::{JoinHandle, JoinSet},
};

/// Longer than anything here takes on a loaded machine.
pub const BOUND: Duration = Duration::from_secs(30);

/// Fails the test instead of hanging it.
pub async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BOUND, future).await.expect("within the bound")
}

#[derive(Debug)]
pub enum Seen {
    Opened(SessionInfo, Pusher),
    Action(IncomingAction),
    Connection(bool),
    Drained,
    Cancelled(RequestId),
    Remains(Remains),
    Late(LinkSessionId, u64, Result<Answer, Fault>),
    Closed,
}

/// Answers `echo`, holds `hold` until the gate opens, counts how often each content arrives with `tally`, reports three steps of
/// `steps` before it holds that, too. Gives `large` answers at once, and `large later` ones when the gate opens.
pub struct Service {
    seen: mpsc::UnboundedSender<Seen>,
    pub gate: Arc<Semaphore>,
    pub tally: Mutex<BTreeMap<Bytes, u32>>,
    pub held: mpsc::UnboundedSender<()>,
    /// Whether sessions are kept.
    pub keep: AtomicBool,
    /// Why connections were lost and sessions ended, in order.
    pub reasons: Mutex<Vec<Fault>>,
    /// Whether more is taken.
    room: AtomicBool,
    sleeper: Mutex<Option<Waker>>,
}

impl Service {
    /// Whether requests and actions are taken from here on.
    pub fn set_room(&self, room: bool) {
        self.room.store(room, Ordering::SeqCst);
        let sleeper = self.sleeper.lock().unwrap().take();
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }
}

impl SessionService for Service {
    type Session = Pusher;

    fn open(&self, info: SessionInfo, pusher: Pusher) -> Pusher {
        self.seen.send(Seen::Opened(info, pusher.clone())).ok();
        pusher
    }

    fn request(&self, session: &mut Pusher, request: Incoming) -> BoxFuture<'static, Result<(ContentType, Bytes), Fault>> {
        let Incoming { id, name, content_type, content, .. } = request;
        match name.as_str() {
            "echo" => Box::pin(async move { Ok((content_type, content)) }),
            "large" => Box::pin(async move { Ok((content_type, large(&content))) }),
            "large later" => {
                let gate = Arc::clone(&self.gate);
                self.held.send(()).ok();
                Box::pin(async move {
                    drop(gate.acquire().await.unwrap());
                    Ok((content_type, large(&content)))
                })
            }
            "tally" => {
                *self.tally.lock().unwrap().entry(content.clone()).or_default() += 1;
                Box::pin(async move {
                    tokio::task::yield_now().await;
                    Ok((content_type, content))
                })
            }
            "hold" | "steps" => {
                if name == "steps" {
                    (1..=3).for_each(|step| session.link().progress(id, step, Some(3)).unwrap());
                }
                let gate = Arc::clone(&self.gate);
                self.held.send(()).ok();
                Box::pin(async move {
                    gate.acquire().await.unwrap().forget();
                    Ok((content_type, content))
                })
            }
            _ => {
                let fault = Fault { code: Code::UNKNOWN_REQUEST, message: name, retry_after_ms: None };
                Box::pin(async move { Err(fault) })
            }
        }
    }

    fn action(&self, _session: &mut Pusher, action: IncomingAction) {
        self.seen.send(Seen::Action(action)).ok();
    }

    fn connection(&self, _session: &mut Pusher, up: bool) {
        self.seen.send(Seen::Connection(up)).ok();
    }

    fn drained(&self, _session: &mut Pusher) {
        self.seen.send(Seen::Drained).ok();
    }

    fn is_kept(&self, _session: &Pusher) -> bool {
        self.keep.load(Ordering::SeqCst)
    }

    fn cancelled(&self, _session: &mut Pusher, id: RequestId) {
        self.seen.send(Seen::Cancelled(id)).ok();
    }

    fn poll_room(&self, _session: &mut Pusher, cx: &mut Context<'_>) -> bool {
        *self.sleeper.lock().unwrap() = Some(cx.waker().clone());
        self.room.load(Ordering::SeqCst)
    }

    fn remains(&self, _session: &mut Pusher, remains: Remains) {
        self.seen.send(Seen::Remains(remains)).ok();
    }

    fn finished_late(&self, session: LinkSessionId, number: u64, result: Result<Answer, Fault>) {
        self.seen.send(Seen::Late(session, number, result)).ok();
    }

    fn disconnected(&self, session: &mut Pusher, reason: &Fault) {
        self.reasons.lock().unwrap().push(reason.clone());
        self.connection(session, false);
    }

    fn ended(&self, _session: &mut Pusher, reason: &Fault) {
        self.reasons.lock().unwrap().push(reason.clone());
    }

    fn close(&self, _session: Pusher) {
        self.seen.send(Seen::Closed).ok();
    }
}

/// The largest answer that begins like that.
pub fn large(begin: &[u8]) -> Bytes {
    let mut content = begin.to_vec();
    content.resize(parlour_wire::limits::FRAME - 1024, 7);
    content.into()
}

pub struct Server {
    pub address: SocketAddr,
    pub fingerprint: [u8; 32],
    pub service: Arc<Service>,
    pub seen: mpsc::UnboundedReceiver<Seen>,
    pub held: mpsc::UnboundedReceiver<()>,
    pub stop: watch::Sender<bool>,
    pub task: JoinHandle<()>,
}

impl Server {
    pub async fn start(config: ListenConfig) -> Self {
        let PemPair { cert_pem, key_pem } = ServerIdentity::self_signed(&["localhost".to_owned()]).unwrap();
        Self::start_as(ServerIdentity::load(&cert_pem, &key_pem).unwrap(), config).await
    }

    pub async fn start_as(identity: ServerIdentity, config: ListenConfig) -> Self {
        let fingerprint = identity.fingerprint();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), identity).await.unwrap();
        Self::serve(listener, fingerprint, config)
    }

    pub fn serve(listener: Listener, fingerprint: [u8; 32], config: ListenConfig) -> Self {
        let address = listener.local_addr().unwrap_or_else(|_| "0.0.0.0:0".parse().unwrap());
        let (seen_sender, seen) = mpsc::unbounded_channel();
        let (held_sender, held) = mpsc::unbounded_channel();
        let service = Arc::new(Service {
            seen: seen_sender,
            gate: Arc::new(Semaphore::new(0)),
            tally: Mutex::default(),
            held: held_sender,
            keep: AtomicBool::new(true),
            reasons: Mutex::default(),
            room: AtomicBool::new(true),
            sleeper: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(listener.serve(Arc::clone(&service), config, stopped));
        Self { address, fingerprint, service, seen, held, stop, task }
    }

    pub fn config(&self, address: SocketAddr) -> ConnectConfig {
        let url = format!("wss://{address}").parse().unwrap();
        let mut config = ConnectConfig::new(url, Trust::Fingerprint(self.fingerprint));
        config.backoff.first = Duration::from_millis(5);
        config.backoff.longest = Duration::from_millis(20);
        config
    }

    pub fn connect(&self) -> (Link, Events) {
        Link::connect(self.config(self.address))
    }

    pub async fn opened(&mut self) -> (SessionInfo, Pusher) {
        loop {
            if let Seen::Opened(info, pusher) = self.next().await {
                return (info, pusher);
            }
        }
    }

    pub async fn next(&mut self) -> Seen {
        bounded(self.seen.recv()).await.expect("the server runs")
    }
}

/// Passes connections on to the server, and cuts them on demand.
pub struct Proxy {
    pub address: SocketAddr,
    cut: watch::Sender<u64>,
    target: watch::Sender<SocketAddr>,
    open: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, cuts) = watch::channel(0);
        let (open, opened) = watch::channel(true);
        let (target, targets) = watch::channel(target);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut passed = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                if !*opened.borrow() {
                    continue;
                }
                let mut cuts = cuts.clone();
                cuts.borrow_and_update();
                let target = *targets.borrow();
                passed.spawn(async move {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, cut, target, open, _task: task }
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }

    /// Where connections lead from here on.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// Whether connections are let through from here on.
    pub fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

pub async fn next(events: &mut Events) -> LinkEvent {
    bounded(events.next()).await.expect("the link lives")
}

/// Waits for the link to come up; gives whether the session was resumed.
pub async fn up(events: &mut Events) -> bool {
    loop {
        match next(events).await {
            LinkEvent::Up { resumed, .. } => return resumed,
            LinkEvent::Failed(error) => panic!("failed: {error}"),
            _ => {}
        }
    }
}
