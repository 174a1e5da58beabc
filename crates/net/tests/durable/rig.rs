//! The carriers over which queues deliver here: where a receiver is reached, and how a sender gets there.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use parlour_net::{ConnectConfig, Events, Identity, Link, Listener, ServerIdentity, Trust};
#[cfg(feature = "iroh")]
use parlour_net::{IrohAddr, IrohConfig, IrohEndpoint};

use crate::way::Way;

/// Who the receivers of a test are, one after the other.
fn receiver() -> Identity {
    Identity::from_secret(&[200; 32])
}

/// Who the senders are.
fn sender() -> Identity {
    Identity::from_secret(&[100; 32])
}

/// Where a receiver is. Its text is what a process is told that is to send to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    WebSocket(SocketAddr),
    #[cfg(feature = "iroh")]
    Iroh(IrohAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WebSocket(address) => address.fmt(f),
            #[cfg(feature = "iroh")]
            Self::Iroh(addr) => addr.fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        #[cfg(feature = "iroh")]
        if let Ok(addr) = text.parse() {
            return Ok(Self::Iroh(addr));
        }
        text.parse().map(Self::WebSocket)
    }
}

impl Address {
    /// One at which there will be a receiver, if there is to be any: at a port of loopback that the operating system chooses.
    pub(crate) fn new(way: Way) -> Self {
        Self::at(way, 0)
    }

    /// One at which there is nobody.
    pub(crate) fn of_nobody(way: Way) -> Self {
        Self::at(way, 1)
    }

    fn at(way: Way, port: u16) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        match way {
            Way::WebSocket => Self::WebSocket(address),
            #[cfg(feature = "iroh")]
            Way::Iroh => Self::Iroh(IrohAddr { key: receiver().key(), direct: [address].into(), relays: Default::default() }),
        }
    }

    /// A link to the receiver here.
    #[cfg_attr(not(feature = "iroh"), expect(clippy::unused_async, reason = "binding an endpoint is"))]
    pub(crate) async fn connect(&self) -> (Link, Events) {
        let mut config = match self {
            Self::WebSocket(address) => {
                ConnectConfig::new(format!("wss://{address}").parse().unwrap(), Trust::Key(receiver().key()))
            }
            #[cfg(feature = "iroh")]
            Self::Iroh(addr) => {
                let endpoint = IrohEndpoint::bind(&sender(), &IrohConfig::loopback()).await.unwrap();
                ConnectConfig::iroh(endpoint, addr.clone())
            }
        };
        config.identity = Some(sender());
        config.backoff.first = Duration::from_millis(5);
        config.backoff.longest = Duration::from_millis(20);
        Link::connect(config)
    }
}

/// The end of a receiver. The one that was closed before it gives its port back when its last packet is through, which nobody is told.
#[cfg(feature = "iroh")]
async fn bind(config: &IrohConfig) -> IrohEndpoint {
    loop {
        match IrohEndpoint::bind(&receiver(), config).await {
            Ok(endpoint) => return endpoint,
            Err(error) if error.to_string().contains("in use") => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The way in to a receiver.
pub(crate) struct Door {
    pub(crate) listener: Listener,
    pub(crate) address: Address,
    pub(crate) port: Port,
}

/// What of the way in outlives the listener, and must be given back before somebody else can listen there.
pub(crate) enum Port {
    Tcp,
    #[cfg(feature = "iroh")]
    Udp(IrohEndpoint),
}

impl Port {
    #[cfg_attr(not(feature = "iroh"), expect(clippy::unused_async, reason = "closing an endpoint is"))]
    pub(crate) async fn free(self) {
        match self {
            Self::Tcp => {}
            #[cfg(feature = "iroh")]
            Self::Udp(endpoint) => super::bounded(endpoint.close()).await,
        }
    }
}

impl Door {
    pub(crate) async fn open(at: &Address) -> Self {
        match at {
            Address::WebSocket(address) => {
                let shown = ServerIdentity::from_identity(&receiver()).unwrap();
                let listener = Listener::bind(*address, shown).await.unwrap();
                let address = Address::WebSocket(listener.local_addr().unwrap());
                Self { listener, address, port: Port::Tcp }
            }
            #[cfg(feature = "iroh")]
            Address::Iroh(addr) => {
                let config = IrohConfig { bind: addr.direct.iter().copied().collect(), relays: Vec::new() };
                let endpoint = super::bounded(bind(&config)).await;
                let address = Address::Iroh(IrohAddr { direct: endpoint.bound_sockets().into_iter().collect(), ..addr.clone() });
                Self { listener: Listener::over_iroh(endpoint.clone()), address, port: Port::Udp(endpoint) }
            }
        }
    }
}
