//! The server's end of the network: where it listens, whom it lets in, and how it stops.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use parlour_proto::link::{KeepAlive, LinkConfig};
use parlour_wire::{Code, LinkSessionId, header::Fault};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

#[cfg(feature = "iroh")]
use crate::iroh::IrohEndpoint;
use crate::{
    door::{Door, Porch},
    identity::{KeySet, PeerKey},
    pump::{GOODBYE, later, now},
    service::SessionService,
    tls::ServerIdentity,
};

/// Pause after the operating system refused to accept, as it does when it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is known of a session when it begins.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// The session.
    pub session: LinkSessionId,
    /// Where its first connection comes from; the unspecified address (`[::]:0`) for one over a relay.
    pub peer: SocketAddr,
    /// What a device signs to authenticate in this session.
    pub challenge: [u8; 32],
    /// The client's program, as it calls itself.
    pub agent: String,
    /// What the client can do.
    pub capabilities: Vec<String>,
    /// SHA-256 of the certificate that this server shows; over iroh, of its bare public key (RFC 7250).
    pub fingerprint: [u8; 32],
    /// The client's key, if it showed one: proven in the handshake of every connection of this session.
    pub peer_key: Option<PeerKey>,
}

/// Which clients a listener lets in, by the keys that they prove in the handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// All, with a key or without.
    #[default]
    Anyone,
    /// Those that have a key, whichever it is. The others are told `not_authenticated`.
    Authenticated,
    /// Those whose keys are in the set, which is asked at every connection. Those with another key are told `forbidden`, those
    /// without one `not_authenticated`.
    Keys(KeySet),
}

impl Admission {
    pub(crate) fn check(&self, key: Option<&PeerKey>) -> Result<(), Fault> {
        let (code, message) = match (self, key) {
            (Self::Anyone, _) | (Self::Authenticated, Some(_)) => return Ok(()),
            (Self::Keys(keys), Some(key)) if keys.contains(key) => return Ok(()),
            (Self::Keys(_), Some(_)) => (Code::FORBIDDEN, "this key is not admitted here"),
            (Self::Authenticated | Self::Keys(_), None) => {
                (Code::NOT_AUTHENTICATED, "only clients that show a key are admitted here")
            }
        };
        Err(Fault { code, message: message.to_owned(), retry_after_ms: None })
    }
}

/// Settings of a listener.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Settings of the links.
    pub link: LinkConfig,
    /// Who is let in.
    pub admit: Admission,
    /// How long a session survives without a connection. When it is over, what it was asked may run for as long again, in its place,
    /// for when it is asked again; after that, and five seconds at least, the handlers are told that nobody waits ([`crate::Context::cancelled`]).
    pub grace: Duration,
    /// Sessions at a time, those without a connection included. Beyond it whoever is here already may take the place of its old self, if
    /// the service has one session for each key: so there are more for as long as the old one takes to end.
    pub max_sessions: usize,
    /// How long a connection may take from TCP to hello. Whoever has come as far as the link and says no hello by then is told so
    /// (`timed_out`) before it is closed, and keeps its place for up to three seconds more for that.
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
            admit: Admission::Anyone,
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

/// Where a server is reached: a TCP address, with the identity that is shown there, an iroh endpoint, or both.
///
/// [The guide](crate#below-the-toolkit) has an example.
#[derive(Debug)]
pub struct Listener {
    tcp: Option<(TcpListener, ServerIdentity)>,
    #[cfg(feature = "iroh")]
    iroh: Option<IrohEndpoint>,
}

/// Somebody at one of the doors.
enum Knock {
    Tcp(TcpStream, SocketAddr),
    #[cfg(feature = "iroh")]
    Iroh(Box<crate::iroh::Arriving>),
}

impl Listener {
    /// Binds a TCP address.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn bind(address: SocketAddr, identity: ServerIdentity) -> io::Result<Self> {
        Ok(Self {
            tcp: Some((TcpListener::bind(address).await?, identity)),
            #[cfg(feature = "iroh")]
            iroh: None,
        })
    }

    /// Listens on an iroh endpoint alone.
    #[cfg(feature = "iroh")]
    #[must_use]
    pub fn over_iroh(endpoint: IrohEndpoint) -> Self {
        Self { tcp: None, iroh: Some(endpoint) }
    }

    /// Listens on an iroh endpoint, too. A session may be resumed through either door by a client that shows the same key at both.
    #[cfg(feature = "iroh")]
    #[must_use]
    pub fn with_iroh(self, endpoint: IrohEndpoint) -> Self {
        Self { iroh: Some(endpoint), ..self }
    }

    /// The TCP address, with the port that the operating system chose.
    ///
    /// # Errors
    /// What the operating system says; [`io::ErrorKind::NotConnected`] without a TCP address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.as_ref().ok_or(io::ErrorKind::NotConnected)?.0.local_addr()
    }

    /// Serves until `shutdown` becomes true or its sender is gone. Then: no more connections, requests in flight are finished,
    /// every client is told to go (`stopping`), and when all sessions are over this returns.
    pub async fn serve<S: SessionService>(self, service: Arc<S>, config: ListenConfig, mut shutdown: watch::Receiver<bool>) {
        let door = Arc::new(Door::new(service, config));
        let connections = Arc::new(Semaphore::new(door.config.max_connections.min(Semaphore::MAX_PERMITS)));
        let mut strangers = JoinSet::new();
        let mut doors = Doors::new(self);
        loop {
            tokio::select! {
                () = wanted(&mut shutdown) => break,
                Some(_) = strangers.join_next() => {}
                knocked = doors.knock() => match knocked {
                    Ok(knock) => match Arc::clone(&connections).try_acquire_owned() {
                        Ok(permit) => doors.let_in(knock, permit, &door, &mut strangers),
                        Err(_) => knock.turn_away(),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(doors);
        strangers.shutdown().await;
        door.registry.stop(later(now(), door.config.stop_timeout));
        let last_words = door.config.link.linger.saturating_add(GOODBYE + Duration::from_secs(1));
        let bound = door.config.stop_timeout.saturating_add(last_words);
        if tokio::time::timeout(bound, door.registry.wait_until_empty()).await.is_err() {
            tracing::warn!("sessions are left at the end of the time to stop");
        }
    }
}

impl Knock {
    fn turn_away(self) {
        match self {
            Self::Tcp(_, peer) => tracing::info!(%peer, "too many connections: closed"),
            #[cfg(feature = "iroh")]
            Self::Iroh(arriving) => {
                tracing::info!(peer = %arriving.peer(), "too many connections: refused");
                arriving.refuse();
            }
        }
    }
}

/// The doors of a listener that serves.
struct Doors {
    tcp: Option<(TcpListener, Arc<Porch>)>,
    #[cfg(feature = "iroh")]
    iroh: Option<crate::iroh::IrohDoor>,
}

impl Doors {
    fn new(listener: Listener) -> Self {
        let tcp = listener.tcp.map(|(socket, identity)| {
            let porch = Porch { acceptor: TlsAcceptor::from(identity.config()), fingerprint: identity.fingerprint() };
            (socket, Arc::new(porch))
        });
        Self {
            tcp,
            #[cfg(feature = "iroh")]
            iroh: listener.iroh.map(crate::iroh::IrohDoor::open),
        }
    }

    /// Waits for somebody.
    async fn knock(&mut self) -> io::Result<Knock> {
        let tcp = async {
            match &self.tcp {
                Some((socket, _)) => socket.accept().await.map(|(stream, peer)| Knock::Tcp(stream, peer)),
                None => std::future::pending().await,
            }
        };
        #[cfg(feature = "iroh")]
        let iroh = async {
            match &mut self.iroh {
                Some(door) => Ok(Knock::Iroh(Box::new(door.next().await))),
                None => std::future::pending().await,
            }
        };
        #[cfg(not(feature = "iroh"))]
        let iroh = std::future::pending();
        tokio::select! {
            knock = tcp => knock,
            knock = iroh => knock,
        }
    }

    /// Has somebody greeted.
    fn let_in<S: SessionService>(
        &self,
        knock: Knock,
        permit: OwnedSemaphorePermit,
        door: &Arc<Door<S>>,
        strangers: &mut JoinSet<()>,
    ) {
        let door = Arc::clone(door);
        match (knock, &self.tcp) {
            (Knock::Tcp(stream, peer), Some((_, porch))) => {
                strangers.spawn(door.admit(Arc::clone(porch).enter(stream, peer, permit), peer));
            }
            (Knock::Tcp(..), None) => {}
            #[cfg(feature = "iroh")]
            (Knock::Iroh(arriving), _) => {
                if let Some(arriving) = arriving.or_prove_address(strangers.len()) {
                    let peer = arriving.peer();
                    strangers.spawn(door.admit(arriving.enter(permit), peer));
                }
            }
        }
    }
}

/// Waits until the flag is set, or nobody is left to set it.
async fn wanted(flag: &mut watch::Receiver<bool>) {
    drop(flag.wait_for(|set| *set).await);
}
