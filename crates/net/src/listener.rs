//! The server's door: accepts connections, greets them cheaply, and hands them to sessions.
//!
//! Before a client has said hello it is a stranger: it gets a bounded time, a small frame limit, and no memory by announcement.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use parlour_proto::link::{Input, KeepAlive, Link as Machine, LinkConfig, ServerSession};
use parlour_wire::{Code, Frame, Kind, LinkSessionId, decode, header, header::Fault, limits};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    carrier::{Carrier, CarrierError},
    http,
    mailbox::{Arrival, Mailbox},
    pump::{Pump, goodbye, now},
    service::SessionService,
    session::{SessionTask, stopping},
    tls::ServerIdentity,
    websocket::WebSocket,
};

/// Largest frame of a stranger: a hello fits.
const GREETING_MAX: usize = parlour_wire::frame::PROTO_HEADER + limits::FRAME_HEADER;
/// Pause after the operating system refused to accept, as it does when it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is known of a session when it begins.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// The session.
    pub session: LinkSessionId,
    /// Where its first connection comes from.
    pub peer: SocketAddr,
    /// What a device signs to authenticate in this session.
    pub challenge: [u8; 32],
    /// The client's program, as it calls itself.
    pub agent: String,
    /// SHA-256 of the certificate that this server shows.
    pub fingerprint: [u8; 32],
}

/// Settings of a listener.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Settings of the links.
    pub link: LinkConfig,
    /// How long a session survives without a connection.
    pub grace: Duration,
    /// Sessions at a time, those without a connection included.
    pub max_sessions: usize,
    /// How long a connection may take from TCP to hello.
    pub handshake_timeout: Duration,
    /// Connections at a time. Beyond it they are closed at once.
    pub max_connections: usize,
    /// How long a session may stay that the service does not keep ([`SessionService::is_kept`]).
    pub stranger_timeout: Duration,
    /// How long requests in flight may take when the server stops.
    pub stop_timeout: Duration,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            link: LinkConfig { keep_alive: Some(KeepAlive::PATIENT), ..LinkConfig::default() },
            grace: Duration::from_secs(300),
            max_sessions: 100_000,
            handshake_timeout: Duration::from_secs(10),
            max_connections: 100_000,
            // A password is stretched for seconds, and typed before anybody connects.
            stranger_timeout: Duration::from_secs(120),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

/// A bound address with the identity that is shown there.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    identity: ServerIdentity,
}

impl Listener {
    /// Binds a TCP address.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn bind(address: SocketAddr, identity: ServerIdentity) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await?, identity })
    }

    /// The address, with the port that the operating system chose.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `shutdown` becomes true or its sender is gone. Then: no more connections, requests in flight are finished,
    /// every client is told to go (`stopping`), and when all sessions are over this returns.
    pub async fn serve<S: SessionService>(self, service: Arc<S>, config: ListenConfig, mut shutdown: watch::Receiver<bool>) {
        let door = Arc::new(Door {
            acceptor: TlsAcceptor::from(self.identity.config()),
            fingerprint: self.identity.fingerprint(),
            link: Arc::new(config.link.clone()),
            registry: Arc::new(Registry { stranger_timeout: config.stranger_timeout, ..Registry::default() }),
            service,
            config,
        });
        let connections = Arc::new(Semaphore::new(door.config.max_connections.min(Semaphore::MAX_PERMITS)));
        let mut strangers = JoinSet::new();
        loop {
            tokio::select! {
                () = wanted(&mut shutdown) => break,
                Some(_) = strangers.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => match Arc::clone(&connections).try_acquire_owned() {
                        Ok(permit) => drop(strangers.spawn(Arc::clone(&door).admit(stream, peer, permit))),
                        Err(_) => tracing::warn!(%peer, "too many connections: closed"),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.socket);
        strangers.shutdown().await;
        door.registry.stop(now() + door.config.stop_timeout);
        let bound = door.config.stop_timeout + door.config.link.linger + Duration::from_secs(1);
        if tokio::time::timeout(bound, door.registry.wait_until_empty()).await.is_err() {
            tracing::warn!("sessions are left at the end of the time to stop");
        }
    }
}

/// A greeted connection that gets no session.
struct Refused {
    carrier: Box<dyn Carrier>,
    fault: Fault,
}

/// Waits until the flag is set, or nobody is left to set it.
async fn wanted(flag: &mut watch::Receiver<bool>) {
    drop(flag.wait_for(|set| *set).await);
}

/// What greets connections.
struct Door<S> {
    acceptor: TlsAcceptor,
    fingerprint: [u8; 32],
    link: Arc<LinkConfig>,
    registry: Arc<Registry>,
    service: Arc<S>,
    config: ListenConfig,
}

impl<S: SessionService> Door<S> {
    /// From a TCP connection to a session, within bounds.
    async fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let greeted = tokio::time::timeout(self.config.handshake_timeout, self.greet(stream, permit)).await;
        match greeted {
            Ok(Ok((carrier, frame))) => self.route(carrier, frame, peer).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "not a client"),
            Err(_) => tracing::debug!(%peer, "no hello in time"),
        }
    }

    async fn greet(&self, stream: TcpStream, permit: OwnedSemaphorePermit) -> Result<(Box<dyn Carrier>, Frame), CarrierError> {
        stream.set_nodelay(true)?;
        let mut stream = self.acceptor.accept(stream).await?;
        let Some(arrived) = http::upgrade(&mut stream).await? else { return Err(CarrierError::WebSocket("no upgrade")) };
        let mut carrier: Box<dyn Carrier> = Box::new(WebSocket::server(stream, arrived, permit));
        carrier.set_limit(GREETING_MAX);
        match std::future::poll_fn(|cx| carrier.poll_recv(cx)).await {
            Ok(frame) => {
                carrier.set_limit(limits::FRAME);
                Ok((carrier, frame))
            }
            Err(error) => {
                if let Some(fault) = error.fault() {
                    send_away(carrier, fault).await;
                }
                Err(error)
            }
        }
    }

    /// Hands a greeted connection to its session, or to a fresh one.
    async fn route(&self, carrier: Box<dyn Carrier>, frame: Frame, peer: SocketAddr) {
        let mut arrival = Arrival { carrier, frame };
        if arrival.frame.kind == Kind::RESUME
            && let Ok(resume) = decode::<header::Resume>(&arrival.frame.header)
            && let Some(mailbox) = self.registry.find(&resume)
        {
            match mailbox.arrive(arrival) {
                Ok(()) => return,
                Err(back) => arrival = back,
            }
        }
        if let Err(refused) = self.begin(arrival, peer) {
            let Refused { carrier, fault } = *refused;
            tracing::warn!(%peer, reason = %fault.message, "refused");
            send_away(carrier, fault).await;
        }
    }

    fn begin(&self, arrival: Arrival, peer: SocketAddr) -> Result<(), Box<Refused>> {
        let refuse = |arrival: Arrival, fault| Err(Box::new(Refused { carrier: arrival.carrier, fault }));
        let now = now();
        let mut random = [0; 80];
        if let Err(error) = getrandom::fill(&mut random) {
            tracing::error!(%error, "no random numbers from the operating system");
            let message = "no random numbers".to_owned();
            return refuse(arrival, Fault { code: Code::INTERNAL, message, retry_after_ms: None });
        }
        let identity = session_identity(&random, self.config.grace);
        let mailbox = Arc::new(Mailbox::new(identity.session, identity.token));
        if let Err(fault) = self.registry.insert(&mailbox, self.config.max_sessions) {
            return refuse(arrival, fault);
        }
        let info = SessionInfo {
            session: identity.session,
            peer,
            challenge: identity.challenge,
            agent: String::new(),
            fingerprint: self.fingerprint,
        };
        let mut pump = Pump::new(Machine::server(Arc::clone(&self.link), identity, now));
        pump.connect(arrival.carrier, now);
        pump.handle(Input::Frame(arrival.frame), now);
        tokio::spawn(SessionTask::new(pump, mailbox, Arc::clone(&self.registry), Arc::clone(&self.service), info));
        Ok(())
    }
}

fn session_identity(random: &[u8; 80], grace: Duration) -> ServerSession {
    let mut identity = ServerSession { session: LinkSessionId([0; 16]), token: [0; 32], challenge: [0; 32], grace };
    identity.session.0.copy_from_slice(&random[..16]);
    identity.token.copy_from_slice(&random[16..48]);
    identity.challenge.copy_from_slice(&random[48..]);
    identity
}

/// Tells a stranger why it is not let in.
async fn send_away(mut carrier: Box<dyn Carrier>, fault: Fault) {
    let frame = Frame { header: Bytes::from(parlour_wire::encode(&fault)), ..Frame::new(Kind::CLOSE) };
    if carrier.send(&frame).is_ok() {
        goodbye(carrier).await;
    }
}

/// The sessions of a listener.
#[derive(Default)]
pub(crate) struct Registry {
    sessions: Mutex<Sessions>,
    empty: Notify,
    /// See [`ListenConfig::stranger_timeout`].
    pub(crate) stranger_timeout: Duration,
}

#[derive(Default)]
struct Sessions {
    by_id: BTreeMap<LinkSessionId, Arc<Mailbox>>,
    stopping: bool,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Nothing that runs under the lock can panic half-way.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, mailbox: &Arc<Mailbox>, limit: usize) -> Result<(), Fault> {
        let mut sessions = self.lock();
        if sessions.stopping {
            return Err(stopping());
        }
        if sessions.by_id.len() >= limit {
            let message = "too many sessions".to_owned();
            return Err(Fault { code: Code::OVERLOADED, message, retry_after_ms: Some(1000) });
        }
        sessions.by_id.insert(mailbox.session, Arc::clone(mailbox));
        Ok(())
    }

    /// The session that a client may come back to.
    fn find(&self, resume: &header::Resume) -> Option<Arc<Mailbox>> {
        let mailbox = Arc::clone(self.lock().by_id.get(&resume.session)?);
        let difference = mailbox.token.iter().zip(&resume.token).fold(0, |difference, (a, b)| difference | (a ^ b));
        (std::hint::black_box(difference) == 0).then_some(mailbox)
    }

    pub(crate) fn remove(&self, session: &LinkSessionId) {
        let mut sessions = self.lock();
        sessions.by_id.remove(session);
        let empty = sessions.by_id.is_empty();
        drop(sessions);
        if empty {
            self.empty.notify_waiters();
        }
    }

    fn stop(&self, until: std::time::Instant) {
        let mut sessions = self.lock();
        sessions.stopping = true;
        let all: Vec<Arc<Mailbox>> = sessions.by_id.values().cloned().collect();
        drop(sessions);
        for mailbox in all {
            mailbox.stop(until);
        }
    }

    async fn wait_until_empty(&self) {
        loop {
            let empty = self.empty.notified();
            if self.lock().by_id.is_empty() {
                return;
            }
            empty.await;
        }
    }
}
