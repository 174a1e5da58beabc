//! The server's end of the network: where it listens, whom it lets in, and how it stops.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use parlour_proto::link::{KeepAlive, LinkConfig};
use parlour_wire::{Code, LinkSessionId, header::Fault};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    door::{Door, Porch},
    identity::{KeySet, PeerKey},
    pump::now,
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
    /// Where its first connection comes from.
    pub peer: SocketAddr,
    /// What a device signs to authenticate in this session.
    pub challenge: [u8; 32],
    /// The client's program, as it calls itself.
    pub agent: String,
    /// SHA-256 of the certificate that this server shows.
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
        let porch =
            Arc::new(Porch { acceptor: TlsAcceptor::from(self.identity.config()), fingerprint: self.identity.fingerprint() });
        let door = Arc::new(Door::new(service, config));
        let connections = Arc::new(Semaphore::new(door.config.max_connections.min(Semaphore::MAX_PERMITS)));
        let mut strangers = JoinSet::new();
        loop {
            tokio::select! {
                () = wanted(&mut shutdown) => break,
                Some(_) = strangers.join_next() => {}
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => match Arc::clone(&connections).try_acquire_owned() {
                        Ok(permit) => drop(strangers.spawn(Arc::clone(&door).admit(Arc::clone(&porch).enter(stream, peer, permit), peer))),
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

/// Waits until the flag is set, or nobody is left to set it.
async fn wanted(flag: &mut watch::Receiver<bool>) {
    drop(flag.wait_for(|set| *set).await);
}
