//! The server's door: greets connections cheaply and hands them to sessions.
//!
//! Before a client has said hello it is a stranger: it gets a bounded time, a small frame limit, and no memory by announcement.

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use parlour_proto::link::{Input, Link as Machine, LinkConfig, ServerSession};
use parlour_wire::{Code, Frame, Kind, LinkSessionId, decode, header, header::Fault, limits};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};
use tokio_rustls::TlsAcceptor;

use crate::{
    carrier::{Carrier, CarrierError},
    http,
    identity::PeerKey,
    listener::{ListenConfig, SessionInfo},
    mailbox::{Arrival, Mailbox},
    pump::{Pump, goodbye, now},
    registry::Registry,
    service::SessionService,
    session::SessionTask,
    socket, tls,
    websocket::WebSocket,
};

/// Largest frame of a stranger: a hello fits.
const GREETING_MAX: usize = parlour_wire::frame::PROTO_HEADER + limits::FRAME_HEADER;

/// Whoever has made a connection.
pub(crate) struct Guest {
    pub(crate) carrier: Box<dyn Carrier>,
    pub(crate) peer: SocketAddr,
    /// The key that the handshake has proven.
    pub(crate) key: Option<PeerKey>,
    /// What this server has shown.
    pub(crate) fingerprint: [u8; 32],
}

/// The way in over TCP: TLS, then the upgrade to WebSocket.
pub(crate) struct Porch {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) fingerprint: [u8; 32],
}

impl Porch {
    pub(crate) async fn enter(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) -> Result<Guest, CarrierError> {
        socket::tune(&stream)?;
        let mut stream = self.acceptor.accept(stream).await?;
        let key = tls::proven_key(stream.get_ref().1.peer_certificates());
        let Some(arrived) = http::upgrade(&mut stream).await? else { return Err(CarrierError::WebSocket("no upgrade")) };
        let carrier = Box::new(WebSocket::server(stream, arrived, permit));
        Ok(Guest { carrier, peer, key, fingerprint: self.fingerprint })
    }
}

/// What greets connections.
pub(crate) struct Door<S> {
    link: Arc<LinkConfig>,
    pub(crate) registry: Arc<Registry>,
    service: Arc<S>,
    pub(crate) config: ListenConfig,
}

impl<S: SessionService> Door<S> {
    pub(crate) fn new(service: Arc<S>, config: ListenConfig) -> Self {
        let link = Arc::new(config.link.clone());
        let registry = Arc::new(Registry::new(config.stranger_timeout, config.grace));
        Self { link, registry, service, config }
    }

    /// From a connection that is being made to a session, within bounds.
    pub(crate) async fn admit(self: Arc<Self>, entering: impl Future<Output = Result<Guest, CarrierError>>, peer: SocketAddr) {
        let mut over = pin!(tokio::time::sleep(self.config.handshake_timeout));
        // What has come counts, however late somebody looks.
        let entered = tokio::select! {
            biased;
            entered = entering => entered,
            () = &mut over => return tracing::debug!(%peer, "no connection in time"),
        };
        let mut guest = match entered {
            Ok(guest) => guest,
            Err(error) => return tracing::debug!(%peer, %error, "not a client"),
        };
        guest.carrier.set_limit(GREETING_MAX);
        let heard = tokio::select! {
            biased;
            heard = std::future::poll_fn(|cx| guest.carrier.poll_recv(cx)) => heard,
            () = &mut over => {
                tracing::debug!(%peer, "no hello in time");
                return send_away(guest.carrier, Fault::new(Code::TIMED_OUT, "no hello in time")).await;
            }
        };
        match heard {
            Ok(frame) => self.greet(guest, frame).await,
            Err(error) => {
                tracing::debug!(%peer, %error, "not a client");
                if let Some(fault) = error.fault() {
                    send_away(guest.carrier, fault).await;
                }
            }
        }
    }

    /// Lets a guest in who may come in. Whoever may not is told so after its first frame, as it expects to be: a server does not
    /// speak first, unless it has waited in vain.
    async fn greet(&self, mut guest: Guest, frame: Frame) {
        if let Err(fault) = self.config.admit.check(guest.key.as_ref()) {
            tracing::info!(peer = %guest.peer, key = ?guest.key, reason = %fault.message, "not admitted");
            return send_away(guest.carrier, fault).await;
        }
        guest.carrier.set_limit(limits::FRAME);
        self.route(guest, frame).await;
    }

    /// Hands a greeted connection to its session, or to a fresh one.
    async fn route(&self, guest: Guest, frame: Frame) {
        let Guest { carrier, peer, key, fingerprint } = guest;
        let mut arrival = Arrival { carrier, frame };
        if arrival.frame.kind == Kind::RESUME
            && let Ok(resume) = decode::<header::Resume>(&arrival.frame.header)
            && let Some(mailbox) = self.registry.find(&resume, key)
        {
            match mailbox.arrive(arrival) {
                Ok(()) => return,
                Err(back) => arrival = back,
            }
        }
        if let Err(refused) = self.begin(arrival, peer, key, fingerprint) {
            let Refused { carrier, fault } = *refused;
            tracing::info!(%peer, reason = %fault.message, "refused");
            send_away(carrier, fault).await;
        }
    }

    fn begin(&self, arrival: Arrival, peer: SocketAddr, key: Option<PeerKey>, fingerprint: [u8; 32]) -> Result<(), Box<Refused>> {
        let refuse = |arrival: Arrival, fault| Err(Box::new(Refused { carrier: arrival.carrier, fault }));
        let now = now();
        let mut random = [0; 80];
        if let Err(error) = getrandom::fill(&mut random) {
            tracing::error!(%error, "no random numbers from the operating system");
            let message = "no random numbers".to_owned();
            return refuse(arrival, Fault { code: Code::INTERNAL, message, retry_after_ms: None });
        }
        let identity = session_identity(&random, self.config.grace);
        let mailbox = Arc::new(Mailbox::new(identity.session, identity.token, key));
        if let Err(fault) = self.registry.insert(&mailbox, self.config.max_sessions, self.service.has_one_session_per_key()) {
            return refuse(arrival, fault);
        }
        let info = SessionInfo {
            session: identity.session,
            peer,
            challenge: identity.challenge,
            agent: String::new(),
            capabilities: Vec::new(),
            fingerprint,
            peer_key: key,
        };
        let mut pump = Pump::new(Machine::server(Arc::clone(&self.link), identity, now));
        pump.connect(arrival.carrier, now);
        pump.handle(Input::Frame(arrival.frame), now);
        tokio::spawn(SessionTask::new(pump, mailbox, Arc::clone(&self.registry), Arc::clone(&self.service), info));
        Ok(())
    }
}

/// A greeted connection that gets no session.
struct Refused {
    carrier: Box<dyn Carrier>,
    fault: Fault,
}

fn session_identity(random: &[u8; 80], grace: Duration) -> ServerSession {
    let mut identity = ServerSession { session: LinkSessionId([0; 16]), token: [0; 32], challenge: [0; 32], grace };
    identity.session.0.copy_from_slice(&random[..16]);
    identity.token.copy_from_slice(&random[16..48]);
    identity.challenge.copy_from_slice(&random[48..]);
    identity
}

/// Tells a stranger why it is not let in, within [`crate::pump::GOODBYE`] of its own.
async fn send_away(mut carrier: Box<dyn Carrier>, fault: Fault) {
    let frame = Frame { header: Bytes::from(parlour_wire::encode(&fault)), ..Frame::new(Kind::CLOSE) };
    if carrier.send(&frame).is_ok() {
        goodbye(carrier).await;
    }
}
