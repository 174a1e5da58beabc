//! Stations that announce themselves on a local network, and programs that find them. Off until a program starts it: nothing is
//! sent, and no socket opened, before [`Announce::start`] or [`find()`].
//!
//! A station announces itself:
//!
//! ```no_run
//! use parlour_net::{Identity, discovery::{Announce, AnnounceConfig, Endpoint}};
//!
//! # async fn example() -> std::io::Result<()> {
//! let identity = Identity::generate()?;
//! let config = AnnounceConfig::new("org.example.fleet", "station", vec![Endpoint::websocket(7443)]);
//! let announce = Announce::start(&identity, config)?;
//! // … until it is dropped, or:
//! announce.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! An agent finds it, and can be sure whom it found:
//!
//! ```no_run
//! use parlour_net::{Agent, AgentConfig, PeerKey, Trust, discovery::{Accept, Discovered, FindConfig, find}};
//!
//! # async fn example(station: PeerKey) -> std::io::Result<()> {
//! let mut finder = find(FindConfig::new("org.example.fleet", Accept::Keys([station].into())))?;
//! while let Some(event) = finder.next().await {
//!     match event {
//!         Discovered::Found(station) => {
//!             for url in station.urls() {
//!                 let agent = Agent::connect(AgentConfig::new(url, Trust::Key(station.key)));
//!                 // …
//!             }
//!         }
//!         Discovered::Gone(key) => println!("{key} is gone"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A station that listens on an iroh endpoint announces `Endpoint::iroh(port)`, and [`Found::iroh`] gives the address of it.
//!
//! Announcements are signed by the station's key. What is forged, damaged, recorded, or passed on from another address has no
//! effect; see [`parlour_proto::discovery`] for the rules and what remains. Whoever connects to an address that was found here
//! proves the key once more, on the link.
//!
//! Datagrams go by multicast to the local network only ([`GROUP_V4`], [`GROUP_V6`], [`PORT`]; one hop), or by unicast to named
//! addresses ([`Network::Unicast`]) where there is no multicast.

mod announce;
mod find;
mod socket;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

pub use announce::{Announce, AnnounceConfig, Policy, Rivalry};
pub use find::{Discovered, FindConfig, Finder, find};
pub use parlour_proto::discovery::{Asks, Counts, Ignored};
pub use parlour_wire::announce::{CarrierKind, Endpoint, Place};

use parlour_proto::discovery as machine;
use parlour_wire::address::ServerUrl;

use crate::identity::{KeySet, PeerKey};

/// Where announcements go by IPv4: a group of the block for one organisation (RFC 2365).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 80, 76);
/// Where announcements go by IPv6: a group of one link that nobody has assigned (RFC 4291, section 2.7).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0x504c, 0x4f55);
/// The UDP port of both.
pub const PORT: u16 = 7444;

/// Which network to use, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Everybody on the local network.
    Multicast(Multicast),
    /// Nobody but those who are named: for networks without multicast, and for one machine.
    Unicast {
        /// Where to listen and send from. Port 0 lets the operating system choose.
        bind: SocketAddr,
        /// Where announcements, or queries, go. A station without targets only answers.
        targets: Vec<SocketAddr>,
    },
}

impl Default for Network {
    fn default() -> Self {
        Self::Multicast(Multicast::default())
    }
}

/// Where multicast goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multicast {
    /// The IPv4 group; `None` for no IPv4.
    pub group_v4: Option<Ipv4Addr>,
    /// The IPv6 group; `None` for no IPv6.
    pub group_v6: Option<Ipv6Addr>,
    /// The UDP port.
    pub port: u16,
    /// The interfaces that have one of these addresses; empty for all there are, also those that come up later.
    pub interfaces: BTreeSet<IpAddr>,
}

impl Default for Multicast {
    fn default() -> Self {
        Self { group_v4: Some(GROUP_V4), group_v6: Some(GROUP_V6), port: PORT, interfaces: BTreeSet::new() }
    }
}

/// Whose announcements count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Those of these keys.
    Keys(BTreeSet<PeerKey>),
    /// Those of anyone who signs them: the program judges the key itself.
    Anyone,
}

impl From<Accept> for machine::Accept {
    fn from(accept: Accept) -> Self {
        match accept {
            Accept::Keys(keys) => Self::Keys(bytes_of(keys)),
            Accept::Anyone => Self::Anyone,
        }
    }
}

/// The keys that are in the set at this moment.
impl From<&KeySet> for Accept {
    fn from(keys: &KeySet) -> Self {
        Self::Keys(keys.keys())
    }
}

fn bytes_of(keys: BTreeSet<PeerKey>) -> BTreeSet<[u8; 32]> {
    keys.into_iter().map(|key| key.0).collect()
}

/// A station that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key, which signed the announcement and will be proven on the link.
    pub key: PeerKey,
    /// What its owner calls it.
    pub name: String,
    /// Where it can be reached, by what.
    pub addresses: BTreeSet<(CarrierKind, SocketAddr)>,
    /// How long it had been running when it was found.
    pub age: Duration,
}

impl Found {
    /// Its addresses for links over WebSocket, as [`crate::ConnectConfig`] takes them. Without those of IPv6 that mean something
    /// on one interface only.
    #[must_use]
    pub fn urls(&self) -> Vec<ServerUrl> {
        let of_one_link = |address: &SocketAddr| matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
        self.by(CarrierKind::WEBSOCKET)
            .filter(|address| !of_one_link(address))
            .map(|address| ServerUrl { host: address.ip().to_string(), port: address.port(), fingerprint: None })
            .collect()
    }

    /// Its address for links over iroh, as [`crate::ConnectConfig::iroh`] takes it: the station's key, and all the places at once
    /// where its endpoint is. `None` if it has announced no endpoint.
    #[cfg(feature = "iroh")]
    #[must_use]
    pub fn iroh(&self) -> Option<crate::IrohAddr> {
        let direct: BTreeSet<_> = self.by(CarrierKind::IROH).collect();
        (!direct.is_empty()).then(|| crate::IrohAddr { key: self.key, direct, relays: BTreeSet::new() })
    }

    fn by(&self, wanted: CarrierKind) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().filter(move |(carrier, _)| *carrier == wanted).map(|(_, address)| *address)
    }
}

impl From<machine::Found> for Found {
    fn from(found: machine::Found) -> Self {
        Self { key: PeerKey(found.key), name: found.name, addresses: found.addresses, age: found.age }
    }
}
