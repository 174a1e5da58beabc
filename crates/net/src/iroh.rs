//! The carrier among devices: QUIC by iroh, which finds a way through address translation or over a relay, and knows peers by
//! their keys.
//!
//! An endpoint talks to nobody that its user did not name: no relays, no name service, no port mapping, no probes. Measured, it
//! keeps about four times the memory of a WebSocket for an idle connection, and timers besides: it is for devices among
//! themselves, not for a server with thousands of clients.

mod carrier;
mod distance;
mod door;
pub(crate) mod fuzzing;
mod streams;
mod ways;

use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use ::iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode, RelayUrl, SecretKey, TransportAddr,
    endpoint::{
        BindOpts, Builder, ConnectError as Failure, ConnectWithOptsError, ConnectingError, Connection, ConnectionError, Incoming,
        NetReportConfig, PortmapperConfig, QuicTransportConfig, VarInt, presets,
    },
};
use parlour_wire::limits;
use thiserror::Error;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    carrier::Carrier,
    connect::{ConnectError, Reached, ServerFacts},
    identity::{Identity, PeerKey},
    tls::{Trust, provider, raw_fingerprint},
};

use carrier::IrohCarrier;
pub(crate) use door::{Arriving, IrohDoor};

/// What both sides name in the handshake (ALPN).
const PROTOCOL: &[u8] = b"parlour/link/1";
/// Unread bytes of a stranger.
const STRANGER_WINDOW: u32 = 64 * 1024;
/// Unread bytes of a peer, and unacknowledged ones to it: what a session keeps for a resume, too.
const WINDOW: u32 = limits::UNACKED_BYTES as u32;
/// Unread bytes of one stream: over a long way no more than this comes in one round trip. With a peer that is near less is under way
/// ([`crate::allowance`]), because it stands before whatever is said next.
const STREAM_WINDOW: u32 = WINDOW / 4;
/// Connections that may wait for the listener.
const ARRIVALS: usize = 64;
/// The TLS alert of a server whose key is not the named one (RFC 8446, `unknown_ca`), as a QUIC error (RFC 9001, section 4.8).
const WRONG_KEY: u64 = 0x100 + 48;

/// Where a peer is and who it is: `iroh://KEY?at=IP:PORT&relay=URL`, with any number of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IrohAddr {
    /// The peer.
    pub key: PeerKey,
    /// Where it may be reached directly.
    pub direct: BTreeSet<SocketAddr>,
    /// Relays over which it may be reached.
    pub relays: BTreeSet<String>,
}

impl fmt::Display for IrohAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "iroh://{}", self.key)?;
        let direct = self.direct.iter().map(|address| format!("at={address}"));
        let relays = self.relays.iter().map(|relay| format!("relay={relay}"));
        direct.chain(relays).enumerate().try_for_each(|(n, part)| write!(f, "{}{part}", if n == 0 { '?' } else { '&' }))
    }
}

impl FromStr for IrohAddr {
    type Err = IrohError;

    fn from_str(text: &str) -> Result<Self, IrohError> {
        let invalid = || IrohError::Address(text.to_owned());
        let rest = text.trim().strip_prefix("iroh://").ok_or_else(invalid)?;
        let (key, parts) = rest.split_once('?').unwrap_or((rest, ""));
        let mut addr = Self { key: key.parse().map_err(|_| invalid())?, direct: BTreeSet::new(), relays: BTreeSet::new() };
        for part in parts.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("at", address)) => drop(addr.direct.insert(address.parse().map_err(|_| invalid())?)),
                Some(("relay", relay)) => drop(addr.relays.insert(relay_url(relay)?.to_string())),
                _ => return Err(invalid()),
            }
        }
        Ok(addr)
    }
}

impl IrohAddr {
    fn to_endpoint_addr(&self) -> Result<EndpointAddr, IrohError> {
        // A key for which everybody can sign names nobody.
        let id = EndpointId::from_bytes(&self.key.0).ok().filter(|_| self.key.is_sound());
        let id = id.ok_or_else(|| IrohError::Address(self.to_string()))?;
        let mut addr = EndpointAddr::new(id).with_addrs(self.direct.iter().copied().map(TransportAddr::Ip));
        for relay in &self.relays {
            addr = addr.with_relay_url(relay_url(relay)?);
        }
        Ok(addr)
    }
}

fn relay_url(text: &str) -> Result<RelayUrl, IrohError> {
    text.parse().map_err(|_| IrohError::Relay(text.to_owned()))
}

/// Why there is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IrohError {
    /// The sockets cannot be bound.
    #[error("cannot bind an iroh endpoint: {0}")]
    Bind(String),
    /// Not the URL of a relay.
    #[error("not the address of a relay: {0}")]
    Relay(String),
    /// Not the address of an endpoint.
    #[error("not the address of an iroh endpoint: {0}")]
    Address(String),
}

/// What an endpoint may use of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IrohConfig {
    /// Addresses to bind. If there is none, all of the machine, at ports that the operating system chooses. Peers that know an
    /// endpoint by its address alone find it again after a restart if it has the same key and the same ports.
    pub bind: Vec<SocketAddr>,
    /// Relays (`https://…`) over which this endpoint can be reached, and reaches others. Without any, both ends have to reach each
    /// other directly.
    pub relays: Vec<String>,
}

impl IrohConfig {
    /// An endpoint that only programs on the same machine can reach, and that sends nothing beyond it.
    #[must_use]
    pub fn loopback() -> Self {
        Self { bind: vec![(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()], relays: Vec::new() }
    }

    fn builder(&self, identity: &Identity) -> Result<Builder, IrohError> {
        let mut builder = Endpoint::builder(presets::Minimal)
            .crypto_provider(provider())
            .secret_key(SecretKey::from_bytes(identity.signing_key().as_bytes()))
            .alpns(vec![PROTOCOL.to_vec()])
            .transport_config(transport())
            .clear_address_lookup()
            .portmapper_config(PortmapperConfig::Disabled)
            .relay_mode(RelayMode::Disabled)
            .net_report_config(NetReportConfig::minimal());
        if !self.relays.is_empty() {
            let relays = self.relays.iter().map(|relay| relay_url(relay)).collect::<Result<Vec<_>, _>>()?;
            // Without probes of the relays that the user named, none is ever chosen.
            let mut probes = NetReportConfig::minimal();
            probes.https_probes = true;
            builder = builder.relay_mode(RelayMode::custom(relays)).net_report_config(probes);
        }
        if !self.bind.is_empty() {
            builder = builder.clear_ip_transports();
        }
        for address in &self.bind {
            builder = builder
                .bind_addr_with_opts(*address, bind_options(address))
                .map_err(|error| IrohError::Bind(format!("{address}: {error}")))?;
        }
        Ok(builder)
    }
}

/// What is bound to loopback takes no part in routes to anywhere else.
fn bind_options(address: &SocketAddr) -> BindOpts {
    let options = BindOpts::default();
    match address {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => options.set_prefix_len(8).set_is_default_route(false),
        // Containers without IPv6 have no such address; nobody counts on a port that is not named.
        SocketAddr::V6(v6) if v6.ip().is_loopback() => {
            options.set_prefix_len(128).set_is_default_route(false).set_is_required(v6.port() != 0)
        }
        _ => options,
    }
}

fn transport() -> QuicTransportConfig {
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        // Those of a peer are let in once it has been greeted.
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW))
        .send_window(u64::from(WINDOW))
        .datagram_receive_buffer_size(None)
        .build()
}

/// The end of this program in a network of devices. It dials ([`crate::ConnectConfig::iroh`]) and, given to a listener
/// ([`crate::Listener::with_iroh`]), is dialed. Clones share it; when the last is gone, it closes.
#[derive(Clone, Debug)]
pub struct IrohEndpoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Endpoint,
    identity: Identity,
    /// The listener that takes connections, if there is one.
    listener: Arc<Mutex<Option<mpsc::Sender<Incoming>>>>,
    usher: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.usher.abort();
        let endpoint = self.endpoint.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !endpoint.is_closed()
        {
            runtime.spawn(async move { endpoint.close().await });
        }
    }
}

impl IrohEndpoint {
    /// Binds an endpoint with the key of `identity`.
    ///
    /// # Errors
    /// [`IrohError`].
    pub async fn bind(identity: &Identity, config: &IrohConfig) -> Result<Self, IrohError> {
        let endpoint = config.builder(identity)?.bind().await.map_err(|error| IrohError::Bind(format!("{error:#}")))?;
        let listener = Arc::new(Mutex::new(None));
        let usher = tokio::spawn(usher(endpoint.clone(), Arc::clone(&listener)));
        Ok(Self { inner: Arc::new(Inner { endpoint, identity: identity.clone(), listener, usher }) })
    }

    /// The key by which peers know this endpoint.
    #[must_use]
    pub fn key(&self) -> PeerKey {
        self.inner.identity.key()
    }

    /// Where this endpoint can be reached, as far as it knows by now.
    #[must_use]
    pub fn addr(&self) -> IrohAddr {
        let addr = self.inner.endpoint.addr();
        let (direct, relays) = (addr.ip_addrs().copied(), addr.relay_urls().map(ToString::to_string));
        IrohAddr { key: self.key(), direct: direct.collect(), relays: relays.collect() }
    }

    /// Waits until one of the relays of this endpoint is reached. For ever, if it has none.
    pub async fn online(&self) {
        self.inner.endpoint.online().await;
    }

    /// The addresses of its sockets.
    #[must_use]
    pub fn bound_sockets(&self) -> Vec<SocketAddr> {
        self.inner.endpoint.bound_sockets()
    }

    /// Closes every connection of this endpoint, tells the peers, and takes no more. Its ports are free a moment after the last clone is
    /// gone, those of a station and of links included: who binds one of them again tries again.
    pub async fn close(&self) {
        self.inner.endpoint.close().await;
    }

    /// SHA-256 of what this endpoint shows in handshakes.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        raw_fingerprint(&self.key())
    }

    /// From here on, connections come to this receiver; when it is dropped, they are refused again.
    pub(crate) fn listen(&self) -> mpsc::Receiver<Incoming> {
        let (sender, receiver) = mpsc::channel(ARRIVALS);
        *self.inner.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    async fn dial(&self, addr: EndpointAddr) -> Result<Connection, Failure> {
        self.inner.endpoint.connect(addr, PROTOCOL).await
    }
}

/// Takes every connection at once and refuses those that nobody wants, so that none waits in memory.
async fn usher(endpoint: Endpoint, listener: Arc<Mutex<Option<mpsc::Sender<Incoming>>>>) {
    while let Some(incoming) = endpoint.accept().await {
        let listener = listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match listener {
            Some(listener) => {
                if let Err(error) = listener.try_send(incoming) {
                    error.into_inner().refuse();
                }
            }
            None => incoming.refuse(),
        }
    }
}

/// Connects once.
pub(crate) async fn reach(endpoint: &IrohEndpoint, addr: &IrohAddr, trust: &Trust) -> Result<Reached, ConnectError> {
    let trusted = match trust {
        Trust::Key(key) => *key == addr.key,
        Trust::Keys(keys) => keys.contains(&addr.key),
        // The address names the key, and the handshake proves it.
        Trust::Fingerprint(_) | Trust::System | Trust::FirstUse => true,
    };
    if !trusted {
        let expected = if let Trust::Key(key) = trust { Some(*key) } else { None };
        return Err(ConnectError::WrongKey { expected, seen: Some(addr.key) });
    }
    let target = addr.to_endpoint_addr().map_err(|error| ConnectError::BadAddress(error.to_string()))?;
    let connection = endpoint.dial(target).await.map_err(|error| failure(addr, error))?;
    let (send, recv) = connection.open_bi().await.map_err(|error| connection_failure(addr, error))?;
    // An endpoint that closes takes its connections with it; so it stays until the last has said goodbye.
    let mut carrier = IrohCarrier::new(connection, send, recv, endpoint.clone());
    carrier.set_limit(limits::FRAME);
    let server = ServerFacts { fingerprint: raw_fingerprint(&addr.key), trusted_by_system: false, peer_key: Some(addr.key) };
    Ok(Reached { carrier: Box::new(carrier), server })
}

fn unreachable(addr: &IrohAddr, reason: &dyn fmt::Display) -> ConnectError {
    ConnectError::Unreachable { address: addr.to_string(), reason: format!("{reason:#}") }
}

fn failure(addr: &IrohAddr, error: Failure) -> ConnectError {
    match error {
        Failure::Connect { source: ConnectWithOptsError::EndpointClosed { .. }, .. } => ConnectError::EndpointClosed,
        Failure::Connection { source, .. }
        | Failure::Connecting { source: ConnectingError::ConnectionError { source, .. }, .. } => connection_failure(addr, source),
        error => unreachable(addr, &error),
    }
}

fn connection_failure(addr: &IrohAddr, error: ConnectionError) -> ConnectError {
    match error {
        ConnectionError::TransportError(error) if u64::from(error.code) == WRONG_KEY => {
            ConnectError::WrongKey { expected: Some(addr.key), seen: None }
        }
        ConnectionError::TimedOut => ConnectError::TimedOut(addr.to_string()),
        error => unreachable(addr, &error),
    }
}

#[cfg(test)]
mod tests {
    use ::iroh::Watcher;

    use super::*;

    #[tokio::test]
    async fn an_endpoint_knows_no_relay_and_no_name_service_of_its_own() {
        for config in [IrohConfig::default(), IrohConfig::loopback()] {
            let endpoint = IrohEndpoint::bind(&Identity::from_secret(&[1; 32]), &config).await.unwrap();
            let inner = &endpoint.inner.endpoint;
            assert!(inner.home_relay_status().get().is_empty());
            assert!(inner.address_lookup().unwrap().is_empty());
            assert!(endpoint.addr().relays.is_empty());
            endpoint.close().await;
        }
    }
}
