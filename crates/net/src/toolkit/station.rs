//! The end of a fleet that others connect to: listener, handlers, hooks and peers in one.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
};

use parlour_proto::link::KeepAlive;
use parlour_wire::{frame::ContentType, header::Fault};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::watch;

use super::{
    aftercare::Aftercare,
    codec::Codecs,
    dedupe::DedupeLimits,
    dispatch::Shared,
    fleet::FleetSecret,
    handlers::{Handlers, Registry},
    hooks::Hooks,
    ledger::Ledger,
    peer::Peer,
    reception::Reception,
    table::Table,
};
use crate::{
    identity::{Identity, PeerKey},
    listener::{Admission, ListenConfig, Listener},
    port::{Action, SendError},
    pump::{later, now},
    tls::{ServerIdentity, TlsError},
};

/// Settings of a [`Station`].
///
/// ```
/// use std::time::Duration;
/// use parlour_net::{Admission, Identity, KeySet, StationConfig};
///
/// # fn example(members: KeySet) -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = StationConfig::new(Identity::load_or_create("station.key")?, "0.0.0.0:7443".parse()?);
/// config.listen.admit = Admission::Keys(members);
/// config.listen.grace = Duration::from_secs(60);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StationConfig {
    /// Who the station is.
    pub identity: Identity,
    /// Where it listens for WebSockets.
    pub address: SocketAddr,
    /// Where it listens for QUIC, if it does: an endpoint with the same identity.
    #[cfg(feature = "iroh")]
    pub iroh: Option<crate::IrohEndpoint>,
    /// Who is let in, and the settings of the links.
    pub listen: ListenConfig,
    /// What it does for its peers.
    pub handlers: Handlers,
    /// What it wants to be told.
    pub hooks: Hooks,
    /// The content types.
    pub codecs: Codecs,
    /// If set, a peer is let in as one of the fleet once it has proven that it knows the secret. The others are strangers: they may
    /// call handlers of [`crate::Access::Anyone`], are told to nobody, and leave with their connection.
    pub fleet: Option<FleetSecret>,
    /// Whether a fresh session ends those that its key had before: an agent that was restarted does not leave its old self behind, and
    /// finds its place if there is no other ([`ListenConfig::max_sessions`]).
    /// The other one is told `already_exists` and does not come back. Set it to `false` if programs share a key.
    pub one_link_per_key: bool,
    /// How much is remembered of requests that may come again.
    pub dedupe: DedupeLimits,
}

impl StationConfig {
    /// A station that lets in whoever shows a key, notices a dead peer within seconds, and has no handlers yet.
    #[must_use]
    pub fn new(identity: Identity, address: SocketAddr) -> Self {
        let mut listen = ListenConfig { admit: Admission::Authenticated, ..ListenConfig::default() };
        listen.link.keep_alive = Some(KeepAlive::FLEET);
        Self {
            identity,
            address,
            #[cfg(feature = "iroh")]
            iroh: None,
            listen,
            handlers: Handlers::new(),
            hooks: Hooks::new(),
            codecs: Codecs::new(),
            fleet: None,
            one_link_per_key: true,
            dedupe: DedupeLimits::default(),
        }
    }
}

/// Why a station does not start.
#[derive(Debug, Error)]
pub enum StationError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The iroh endpoint has another identity than the station.
    #[error("the iroh endpoint has another key than the station")]
    OtherKey,
    /// The identity cannot be shown.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The end that others connect to. Clones share it; it stops when the last one is gone.
///
/// ```
/// use parlour_net::{Access, Agent, AgentConfig, Identity, Station, StationConfig, Trust};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = StationConfig::new(Identity::generate()?, "127.0.0.1:0".parse()?);
/// config.handlers.on_request("add", |_cx, (a, b): (i64, i64)| async move { Ok(a + b) }).allow(Access::Authenticated);
/// let station = Station::bind(config).await?;
///
/// let mut config = AgentConfig::new(station.url(), Trust::Key(station.key()));
/// config.connect.identity = Some(Identity::generate()?);
/// let agent = Agent::connect(config);
/// assert_eq!(agent.request::<i64>("add", &(2, 3)).await?, 5);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Station {
    inner: Arc<Inner>,
}

struct Inner {
    reception: Arc<Reception>,
    key: PeerKey,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
}

impl fmt::Debug for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Station").field("key", &self.key()).field("address", &self.local_addr()).finish_non_exhaustive()
    }
}

/// A station that may be gone.
#[derive(Clone)]
pub(crate) struct WeakStation(Weak<Inner>);

impl WeakStation {
    pub(crate) fn upgrade(&self) -> Option<Station> {
        self.0.upgrade().map(|inner| Station { inner })
    }
}

impl Station {
    /// Binds the address and serves on the current Tokio runtime.
    ///
    /// # Errors
    /// [`StationError`].
    pub async fn bind(config: StationConfig) -> Result<Self, StationError> {
        let StationConfig { identity, address, mut listen, handlers, hooks, codecs, fleet, one_link_per_key, dedupe, .. } =
            config;
        listen.link.keep_remains = true;
        let shown = ServerIdentity::from_identity(&identity)?;
        let failed = |source| StationError::Bind { address, source };
        let listener = Listener::bind(address, shown).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        #[cfg(feature = "iroh")]
        let listener = match config.iroh {
            Some(endpoint) if endpoint.key() != identity.key() => return Err(StationError::OtherKey),
            Some(endpoint) => listener.with_iroh(endpoint),
            None => listener,
        };
        let (stop_timeout, grace) = (listen.stop_timeout, listen.grace);
        let reception = Arc::new(Reception {
            shared: Arc::new(Shared { registry: Registry::new(handlers, codecs), ledger: Arc::new(Ledger::new(dedupe)) }),
            table: Table::new(Arc::new(hooks), one_link_per_key),
            aftercare: Aftercare::default(),
            grace,
            key: identity.key(),
            fleet,
            home: OnceLock::new(),
        });
        let (stop, wanted) = watch::channel(false);
        let (done, stopped) = watch::channel(false);
        let inner = Arc::new(Inner { reception: Arc::clone(&reception), key: identity.key(), address: bound, stop, stopped });
        reception.home.get_or_init(|| WeakStation(Arc::downgrade(&inner)));
        tokio::spawn(async move {
            let mut asked = wanted.clone();
            // Who could stop it may have gone, which stops it as well.
            let asked = async {
                drop(asked.wait_for(|wanted| *wanted).await);
                now()
            };
            let ((), asked) = tokio::join!(listener.serve(Arc::clone(&reception), listen, wanted), asked);
            // Handlers of sessions that are over have run meanwhile.
            reception.aftercare.finish(later(asked, stop_timeout).saturating_duration_since(now())).await;
            done.send_replace(true);
        });
        Ok(Self { inner })
    }

    /// The address, with the port that the operating system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.address
    }

    /// The address as agents of this machine take it.
    #[must_use]
    pub fn url(&self) -> parlour_wire::address::ServerUrl {
        let mut reachable = self.inner.address;
        if reachable.ip().is_unspecified() {
            reachable.set_ip(match reachable {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        // The zone of an address is this machine's business, and no address of the web has one.
        if let SocketAddr::V6(address) = &mut reachable {
            address.set_scope_id(0);
        }
        format!("wss://{reachable}").parse().expect("an address and a port")
    }

    /// The station's key, which agents trust ([`crate::Trust::Key`]).
    #[must_use]
    pub fn key(&self) -> PeerKey {
        self.inner.key
    }

    /// The peers that have a session, each once: connected, or away for no longer than the grace. [`crate::Link::is_up`] of their
    /// link tells which.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.inner.reception.table.peers()
    }

    /// The peer with this key, if it has a session.
    #[must_use]
    pub fn peer(&self, key: &PeerKey) -> Option<Peer> {
        self.inner.reception.table.peer(key)
    }

    /// Sends an action to all peers. It is encoded once; a peer that takes no more is reported, and does not hold up the others.
    ///
    /// # Errors
    /// `bad_request` if the content type cannot hold the value, `too_large`.
    pub fn broadcast(&self, name: &str, args: &impl Serialize) -> Result<Broadcast, Fault> {
        self.broadcast_to(self.peers(), name, args)
    }

    /// As [`Station::broadcast`], to a selection of peers.
    ///
    /// ```no_run
    /// # fn example(station: parlour_net::Station) -> Result<(), parlour_net::Fault> {
    /// let drones = station.peers().into_iter().filter(|peer| peer.agent().starts_with("drone/"));
    /// let sent = station.broadcast_to(drones, "start", &42)?;
    /// for missed in sent.missed {
    ///     println!("{:?}: {}", missed.peer.key(), missed.error);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Station::broadcast`].
    pub fn broadcast_to(
        &self,
        peers: impl IntoIterator<Item = Peer>,
        name: &str,
        args: &impl Serialize,
    ) -> Result<Broadcast, Fault> {
        let codecs = &self.inner.reception.shared.registry.codecs;
        let content_type: ContentType = codecs.default_type();
        let action = Action::new(name, content_type, codecs.encode(content_type, args)?)?;
        let mut sent = Broadcast::default();
        for peer in peers {
            match peer.link().port.act(action.clone()) {
                Ok(()) => sent.reached += 1,
                Err(error) => sent.missed.push(Missed { peer, error }),
            }
        }
        Ok(sent)
    }

    /// Stops: nobody is let in any more, handlers come to their ends within [`ListenConfig::stop_timeout`], peers are told to go.
    /// They come back to a station that is started again at the same address. Peers that do not hang up, or do not read, may make it
    /// some seconds more.
    pub async fn stop(&self) {
        self.inner.stop.send_replace(true);
        self.stopped().await;
    }

    /// Waits until the station has stopped.
    pub async fn stopped(&self) {
        let mut stopped = self.inner.stopped.clone();
        // The sender goes when the station has stopped, one way or another.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

/// What became of a broadcast.
#[derive(Debug, Default)]
pub struct Broadcast {
    /// Peers whose links took the action.
    pub reached: usize,
    /// The others.
    pub missed: Vec<Missed>,
}

/// A peer that a broadcast did not reach.
#[derive(Debug)]
pub struct Missed {
    /// The peer.
    pub peer: Peer,
    /// Why.
    pub error: SendError,
}
