//! A server with an identity, and clients with theirs, over the carrier of a scenario.

use std::{net::SocketAddr, time::Duration};

use parlour_net::{
    ConnectConfig, Events, Identity, KeepAlive, Link, LinkConfig, LinkEvent, ListenConfig, Listener, PeerKey, ServerIdentity,
    Trust,
};
#[cfg(feature = "iroh")]
use parlour_net::{IrohAddr, IrohConfig, IrohEndpoint, Target};

pub(crate) use crate::way::Way;

use crate::support::{Server, next};

/// Where the server is.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    WebSocket(SocketAddr),
    #[cfg(feature = "iroh")]
    Iroh(IrohAddr),
}

impl Address {
    /// What a client of that identity needs to reach the server here that it takes to be of this key.
    #[cfg_attr(not(feature = "iroh"), expect(clippy::unused_async, reason = "binding an endpoint is"))]
    pub(crate) async fn config(&self, client: u8, server: PeerKey) -> ConnectConfig {
        let mut config = match self {
            Self::WebSocket(address) => {
                let config = ConnectConfig::new(format!("wss://{address}").parse().unwrap(), Trust::Key(server));
                ConnectConfig { identity: Some(identity(client)), ..config }
            }
            #[cfg(feature = "iroh")]
            Self::Iroh(addr) => {
                let endpoint = IrohEndpoint::bind(&identity(client), &IrohConfig::loopback()).await.unwrap();
                ConnectConfig::iroh(endpoint, IrohAddr { key: server, ..addr.clone() })
            }
        };
        config.backoff.first = Duration::from_millis(5);
        config.backoff.longest = Duration::from_millis(20);
        config
    }
}

pub(crate) struct Rig {
    pub(crate) server: Server,
    pub(crate) key: PeerKey,
    pub(crate) address: Address,
    #[cfg(feature = "iroh")]
    pub(crate) endpoint: Option<IrohEndpoint>,
}

/// The place of a server that is no more.
pub(crate) struct Place {
    address: Address,
    #[cfg(feature = "iroh")]
    endpoint: Option<IrohEndpoint>,
}

/// A dead peer is noticed soon.
pub(crate) fn watchful() -> LinkConfig {
    let keep_alive = KeepAlive { idle: Duration::from_millis(200), interval: Duration::from_millis(200), fails: 4 };
    LinkConfig { keep_alive: Some(keep_alive), ..LinkConfig::default() }
}

pub(crate) fn identity(seed: u8) -> Identity {
    Identity::from_secret(&[seed; 32])
}

/// Who the server is in scenarios that do not care.
pub(crate) const SERVER: u8 = 200;
/// Who the client is in scenarios that do not care.
pub(crate) const CLIENT: u8 = 100;

impl Rig {
    pub(crate) async fn start(way: Way, config: ListenConfig) -> Self {
        match way {
            Way::WebSocket => Self::websocket("127.0.0.1:0".parse().unwrap(), config).await,
            #[cfg(feature = "iroh")]
            Way::Iroh => Self::iroh(IrohEndpoint::bind(&identity(SERVER), &IrohConfig::loopback()).await.unwrap(), config),
        }
    }

    /// The place of this server in a program that goes on.
    pub(crate) fn place(&self) -> Place {
        Place {
            address: self.address.clone(),
            #[cfg(feature = "iroh")]
            endpoint: self.endpoint.clone(),
        }
    }

    /// The same of a program that is gone.
    pub(crate) fn empty_place(&self) -> Place {
        Place {
            address: self.address.clone(),
            #[cfg(feature = "iroh")]
            endpoint: None,
        }
    }

    /// A server that knows nothing of the one before it.
    pub(crate) async fn successor(place: Place, config: ListenConfig) -> Self {
        match place.address {
            Address::WebSocket(address) => Self::websocket(address, config).await,
            #[cfg(feature = "iroh")]
            Address::Iroh(addr) => {
                let bind = IrohConfig { bind: addr.direct.into_iter().collect(), relays: Vec::new() };
                let endpoint = match place.endpoint {
                    Some(endpoint) => endpoint,
                    None => IrohEndpoint::bind(&identity(SERVER), &bind).await.unwrap(),
                };
                Self::iroh(endpoint, config)
            }
        }
    }

    async fn websocket(address: SocketAddr, config: ListenConfig) -> Self {
        let identity = identity(SERVER);
        let shown = ServerIdentity::from_identity(&identity).unwrap();
        let fingerprint = shown.fingerprint();
        let server = Server::serve(Listener::bind(address, shown).await.unwrap(), fingerprint, config);
        Self {
            key: identity.key(),
            address: Address::WebSocket(server.address),
            server,
            #[cfg(feature = "iroh")]
            endpoint: None,
        }
    }

    #[cfg(feature = "iroh")]
    pub(crate) fn iroh(endpoint: IrohEndpoint, config: ListenConfig) -> Self {
        let (key, address) = (endpoint.key(), Address::Iroh(endpoint.addr()));
        // What is shown is the bare key (RFC 7250).
        let shown = [&b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..], &key.0].concat();
        let fingerprint = parlour_net::tls::fingerprint(&shown.into());
        let server = Server::serve(Listener::over_iroh(endpoint.clone()), fingerprint, config);
        Self { server, key, address, endpoint: Some(endpoint) }
    }

    /// What a client of that identity needs to reach the server that it takes to be of this key.
    pub(crate) async fn config_for(&self, client: u8, server: PeerKey) -> ConnectConfig {
        self.address.config(client, server).await
    }

    pub(crate) async fn config(&self, client: u8) -> ConnectConfig {
        self.config_for(client, self.key).await
    }

    pub(crate) async fn connect(&self) -> (Link, Events) {
        Link::connect(self.config(CLIENT).await)
    }
}

/// The identity of the endpoint, if it is not that of the configuration.
pub(crate) fn client_key(config: &ConnectConfig) -> PeerKey {
    match &config.target {
        #[cfg(feature = "iroh")]
        Target::Iroh { endpoint, .. } => endpoint.key(),
        _ => config.identity.as_ref().unwrap().key(),
    }
}

/// Waits for the link to fail for good.
pub(crate) async fn failure(events: &mut Events) -> parlour_net::ConnectError {
    loop {
        match next(events).await {
            LinkEvent::Failed(error) => return error,
            LinkEvent::Down { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}
