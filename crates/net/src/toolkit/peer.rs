//! Who is at the other end of a link, as handlers and hooks see it.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parlour_wire::{LinkSessionId, header::Fault};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    call::Call,
    station::{Station, WeakStation},
};
use crate::{identity::PeerKey, link::Link};

/// The other end of a link, for the length of one session. Cheap to clone.
#[derive(Clone)]
pub struct Peer {
    facts: Arc<Facts>,
}

/// What is known of a peer.
pub(crate) struct Facts {
    pub(crate) link: Link,
    pub(crate) key: Option<PeerKey>,
    pub(crate) session: LinkSessionId,
    pub(crate) agent: String,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) authenticated: AtomicBool,
    /// The end of the session has been told.
    pub(crate) ended: AtomicBool,
    pub(crate) station: Option<WeakStation>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { key, session, agent, .. } = &*self.facts;
        f.debug_struct("Peer").field("key", key).field("session", session).field("agent", agent).finish_non_exhaustive()
    }
}

impl Peer {
    pub(crate) fn new(facts: Facts) -> Self {
        Self { facts: Arc::new(facts) }
    }

    /// The link to the peer.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.facts.link
    }

    /// The key that the peer has proven in the handshake, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<PeerKey> {
        self.facts.key
    }

    /// The session. A peer that comes back after its session was lost has another one.
    #[must_use]
    pub fn session(&self) -> LinkSessionId {
        self.facts.session
    }

    /// The peer's program, as it calls itself ([`crate::LinkConfig::agent`]). Empty for a station.
    #[must_use]
    pub fn agent(&self) -> &str {
        &self.facts.agent
    }

    /// Where the session's first connection comes from; only a station knows.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.facts.address
    }

    /// Whether the peer has proven who it is ([`crate::Access::Authenticated`]).
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.facts.authenticated.load(Ordering::Acquire)
    }

    pub(crate) fn set_authenticated(&self) {
        self.facts.authenticated.store(true, Ordering::Release);
    }

    /// Notes that the end of the session is told; `false` if it was before.
    pub(crate) fn end(&self) -> bool {
        !self.facts.ended.swap(true, Ordering::AcqRel)
    }

    /// Whether the end of the session has been told.
    pub(crate) fn is_over(&self) -> bool {
        self.facts.ended.load(Ordering::Acquire)
    }

    /// The station that this is a peer of; `None` at an agent, and when the station has stopped.
    #[must_use]
    pub fn station(&self) -> Option<Station> {
        self.facts.station.as_ref().and_then(WeakStation::upgrade)
    }

    /// As [`Link::request`].
    pub fn request<'a, T: DeserializeOwned>(&'a self, name: &'a str, args: &'a impl Serialize) -> Call<'a, T> {
        self.link().request(name, args)
    }

    /// As [`Link::action`].
    ///
    /// # Errors
    /// As [`Link::action`].
    pub fn action(&self, name: &str, args: &impl Serialize) -> Result<(), Fault> {
        self.link().action(name, args)
    }
}
