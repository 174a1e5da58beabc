//! Reaching a server: TCP, TLS, the WebSocket handshake, and what can go wrong on the way.

use std::{io, sync::Arc, time::Duration};

use parlour_proto::link::LinkConfig;
use parlour_wire::{Code, address::ServerUrl, header::Fault};
use rustls::pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::{self, protocol::WebSocketConfig};

#[cfg(feature = "iroh")]
use crate::iroh::{IrohAddr, IrohEndpoint};
use crate::{
    carrier::Carrier,
    http,
    identity::{Identity, PeerKey},
    socket,
    spin::default_spin,
    tls::{self, ClientTls, Mismatch, TlsError, Trust},
    websocket::WebSocket,
};

/// How a client reaches its server.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// The server, and the way to it.
    pub target: Target,
    /// How it is judged.
    pub trust: Trust,
    /// Who this side is, if it says so to servers that ask.
    pub identity: Option<Identity>,
    /// Settings of the link.
    pub link: LinkConfig,
    /// Waiting between tries.
    pub backoff: Backoff,
    /// How long one try may take, name resolution to WebSocket.
    pub connect_timeout: Duration,
    /// How long a caller that awaits a small request on an idle link looks for the answer before it sleeps, if the last answers came
    /// that quickly; zero to sleep at once. It keeps a core busy so long, and spares the time in which a thread wakes up.
    pub spin: Duration,
}

impl ConnectConfig {
    /// Default settings, and no identity. A fingerprint in the address wins over `trust`, unless that names keys.
    #[must_use]
    pub fn new(url: ServerUrl, trust: Trust) -> Self {
        let trust = match (trust, url.fingerprint) {
            (Trust::System | Trust::FirstUse | Trust::Fingerprint(_), Some(fingerprint)) => Trust::Fingerprint(fingerprint),
            (trust, _) => trust,
        };
        Self::with_defaults(Target::WebSocket(url), trust)
    }

    /// Default settings, to a peer over iroh: the one whose key is in the address, and no other. This side is known by the key of
    /// `endpoint`.
    #[cfg(feature = "iroh")]
    #[must_use]
    pub fn iroh(endpoint: IrohEndpoint, addr: IrohAddr) -> Self {
        let trust = Trust::Key(addr.key);
        Self::with_defaults(Target::Iroh { endpoint, addr }, trust)
    }

    fn with_defaults(target: Target, trust: Trust) -> Self {
        Self {
            target,
            trust,
            identity: None,
            link: LinkConfig::default(),
            backoff: Backoff::default(),
            connect_timeout: Duration::from_secs(10),
            spin: default_spin(),
        }
    }
}

/// Whereto and how a client connects.
#[derive(Clone, Debug)]
pub enum Target {
    /// By WebSocket over TLS.
    WebSocket(ServerUrl),
    /// By iroh.
    #[cfg(feature = "iroh")]
    Iroh {
        /// The end of this program.
        endpoint: IrohEndpoint,
        /// The peer.
        addr: IrohAddr,
    },
}

/// Waiting between tries to connect: doubles from `first` to `longest`, less a random part of up to a half. A link that was
/// up for two seconds, or for as long as the wait before it, ends the row of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// At most.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row; `random` spreads clients that lost the same server.
    pub(crate) fn delay(&self, failures: u32, random: u16) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let whole = doubled.min(self.longest);
        whole - whole.mul_f64(f64::from(random) / f64::from(u16::MAX) / 2.0)
    }
}

/// Why a server is not reached.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ConnectError {
    /// No connection to the address.
    #[error("cannot reach {address}: {reason}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the operating system says.
        reason: String,
    },
    /// The server did not answer in time.
    #[error("no answer from {0} in time")]
    TimedOut(String),
    /// TLS cannot be agreed on.
    #[error("no secure connection: {0}")]
    Tls(String),
    /// No authority that the system trusts vouches for the certificate.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(String),
    /// Another certificate than the expected one.
    #[error("the server's certificate has changed")]
    CertificateChanged {
        /// SHA-256 of the expected certificate.
        expected: [u8; 32],
        /// SHA-256 of the certificate that was shown.
        seen: [u8; 32],
    },
    /// Another key than the expected one, or none: a certificate with any other kind of key counts as none.
    #[error("the server has the wrong key: {}", .seen.map_or_else(|| "it has not shown the one that is expected".to_owned(), |key| key.to_string()))]
    WrongKey {
        /// The expected key; `None` if a set of keys is trusted.
        expected: Option<PeerKey>,
        /// The key that was shown, if one was.
        seen: Option<PeerKey>,
    },
    /// Something answers, but it is no Parlour server.
    #[error("no Parlour server at this address: {0}")]
    NotParlour(String),
    /// The target cannot be an address.
    #[error("{0}")]
    BadAddress(String),
    /// The TLS settings of this side cannot be used.
    #[error(transparent)]
    Setup(#[from] TlsError),
    /// The endpoint of this side has been closed.
    #[error("this program's endpoint is closed")]
    EndpointClosed,
    /// The server refused the link, or ended it for good.
    #[error("refused by the server: {}", .0.message)]
    Refused(Fault),
}

impl ConnectError {
    /// The wire code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Unreachable { .. } | Self::TimedOut(_) | Self::Tls(_) => Code::UNREACHABLE,
            Self::CertificateChanged { .. } | Self::Untrusted(_) => Code::CERTIFICATE_CHANGED,
            Self::WrongKey { .. } => Code::KEY_CHANGED,
            Self::NotParlour(_) => Code::INCOMPATIBLE,
            Self::BadAddress(_) => Code::USAGE,
            Self::Setup(_) => Code::INTERNAL,
            Self::EndpointClosed => Code::CANCELLED,
            Self::Refused(fault) => fault.code,
        }
    }

    /// The same as a fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused(fault) => fault.clone(),
            error => Fault { code: error.code(), message: error.to_string(), retry_after_ms: None },
        }
    }

    /// Whether another try is pointless until somebody changes something.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut(_) | Self::Tls(_) | Self::NotParlour(_) => false,
            Self::CertificateChanged { .. }
            | Self::WrongKey { .. }
            | Self::Untrusted(_)
            | Self::BadAddress(_)
            | Self::Setup(_)
            | Self::EndpointClosed => true,
            Self::Refused(fault) => !fault.code.retry(),
        }
    }
}

/// A carrier to the server, with what is known of who that is.
pub(crate) struct Reached {
    pub(crate) carrier: Box<dyn Carrier>,
    pub(crate) server: ServerFacts,
}

/// What a connection has shown of its server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerFacts {
    pub(crate) fingerprint: [u8; 32],
    pub(crate) trusted_by_system: bool,
    pub(crate) peer_key: Option<PeerKey>,
}

/// The way to a server, ready to be taken again and again.
#[derive(Debug)]
pub(crate) enum Route {
    WebSocket {
        url: ServerUrl,
        tls: ClientTls,
    },
    #[cfg(feature = "iroh")]
    Iroh {
        endpoint: IrohEndpoint,
        addr: IrohAddr,
        trust: Trust,
    },
}

impl Route {
    pub(crate) fn new(config: &ConnectConfig) -> Result<Self, TlsError> {
        let trust = config.trust.clone();
        Ok(match &config.target {
            Target::WebSocket(url) => Self::WebSocket { url: url.clone(), tls: ClientTls::new(trust, config.identity.as_ref())? },
            #[cfg(feature = "iroh")]
            Target::Iroh { endpoint, addr } => Self::Iroh { endpoint: endpoint.clone(), addr: addr.clone(), trust },
        })
    }

    /// Connects once.
    pub(crate) async fn reach(self: Arc<Self>, timeout: Duration) -> Result<Reached, ConnectError> {
        let reached = async {
            match &*self {
                Self::WebSocket { url, tls } => reach_websocket(url, tls).await,
                #[cfg(feature = "iroh")]
                Self::Iroh { endpoint, addr, trust } => crate::iroh::reach(endpoint, addr, trust).await,
            }
        };
        tokio::time::timeout(timeout, reached).await.unwrap_or_else(|_| Err(ConnectError::TimedOut(self.address())))
    }

    fn address(&self) -> String {
        match self {
            Self::WebSocket { url, .. } => url.authority(),
            #[cfg(feature = "iroh")]
            Self::Iroh { addr, .. } => addr.to_string(),
        }
    }
}

async fn reach_websocket(url: &ServerUrl, tls: &ClientTls) -> Result<Reached, ConnectError> {
    let unreachable = |error: io::Error| ConnectError::Unreachable { address: url.authority(), reason: error.to_string() };
    let name = ServerName::try_from(url.host.clone())
        .map_err(|_| ConnectError::Unreachable { address: url.authority(), reason: "not a host name".to_owned() })?;
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(unreachable)?;
    socket::tune(&stream).map_err(unreachable)?;
    let stream = TlsConnector::from(Arc::clone(&tls.config)).connect(name, stream).await.map_err(|error| tls_error(&error))?;
    let server = facts(tls, stream.get_ref().1.peer_certificates())?;
    let stream = upgrade(&url.authority(), stream).await.map_err(|error| match error {
        tungstenite::Error::Io(error) => unreachable(error),
        error => ConnectError::NotParlour(error.to_string()),
    })?;
    Ok(Reached { carrier: Box::new(WebSocket::client(stream, ())), server })
}

/// Asks for the upgrade to WebSocket, and reads the answer. The stream again, if the server agrees.
pub(crate) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(authority: &str, stream: S) -> Result<S, tungstenite::Error> {
    let target = format!("wss://{authority}{}", http::PATH);
    // The handshake's buffers only; frames have their own.
    let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(1024);
    let (socket, _) = tokio_tungstenite::client_async_with_config(target, stream, Some(config)).await?;
    // A server speaks after it has heard hello; what can have come before that it waits no longer, and this connection ends in any case.
    Ok(socket.into_inner())
}

/// What a finished handshake has proven.
fn facts(tls: &ClientTls, certificates: Option<&[CertificateDer<'_>]>) -> Result<ServerFacts, ConnectError> {
    let leaf = certificates.and_then(<[_]>::first).ok_or_else(|| ConnectError::Tls("no certificate".to_owned()))?;
    let fingerprint = tls::fingerprint(leaf);
    let trusted_by_system = tls.confirm(fingerprint);
    Ok(ServerFacts { fingerprint, trusted_by_system, peer_key: tls::proven_key(certificates) })
}

fn tls_error(error: &io::Error) -> ConnectError {
    match tls::mismatch(error) {
        Some(Mismatch::Certificate { expected, seen }) => return ConnectError::CertificateChanged { expected, seen },
        Some(Mismatch::Key { expected, seen }) => return ConnectError::WrongKey { expected, seen },
        None => {}
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner @ rustls::Error::InvalidCertificate(_)) => ConnectError::Untrusted(inner.to_string()),
        _ => ConnectError::Tls(error.to_string()),
    }
}
