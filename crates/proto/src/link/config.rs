//! Settings of a link.

use std::time::Duration;

use parlour_wire::{Encoding, LinkSessionId, limits};

/// Settings of a [`super::Link`], shared by all links of a program.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// What this side can do; told to the peer.
    pub capabilities: Vec<String>,
    /// Program and version; told to a server.
    pub agent: String,
    /// How a silent peer is noticed; `None` to wait for the connection to break by itself.
    pub keep_alive: Option<KeepAlive>,
    /// How long a fresh connection may take to exchange hello and welcome.
    pub handshake_timeout: Duration,
    /// How long a close may wait for the frames before it to leave.
    pub linger: Duration,
    /// What becomes of requests that were sent when a session is lost. A setting of the end that connects; see [`OpenRequests`].
    pub open_requests: OpenRequests,
    /// What becomes of actions and requests that were never sent when a session is lost. A setting of the end that connects; see
    /// [`Unsent`].
    pub unsent: Unsent,
    /// Encodings for compressed content, in order of preference; empty for none. They are told to the peer as capabilities.
    pub compression: Vec<Encoding>,
    /// Whether the application is told what a lost session leaves behind ([`super::Event::Remains`]), so that requests that come
    /// again take effect once. Requests that run are not cancelled then.
    pub keep_remains: bool,
    /// Unacknowledged frames above which actions and requests are refused.
    pub unacked_frames: usize,
    /// Bytes of unacknowledged frames above which actions and requests are refused; one frame always finds room where nothing else is.
    /// Requests without an answer take no more than [`limits::UNACKED_BYTES`] of it, which is what a peer lets in.
    pub unacked_bytes: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            capabilities: Vec::new(),
            agent: concat!("parlour/", env!("CARGO_PKG_VERSION")).to_owned(),
            keep_alive: Some(KeepAlive::QUIET),
            handshake_timeout: Duration::from_secs(10),
            linger: Duration::from_secs(3),
            open_requests: OpenRequests::Fail,
            unsent: Unsent::Drop,
            compression: Vec::new(),
            keep_remains: false,
            unacked_frames: limits::UNACKED_FRAMES,
            unacked_bytes: limits::UNACKED_BYTES,
        }
    }
}

/// When a peer is asked whether it is there, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first ping.
    pub idle: Duration,
    /// Silence after a ping before the next one.
    pub interval: Duration,
    /// Unanswered pings after which the peer is given up.
    pub fails: u32,
}

impl KeepAlive {
    /// For clients of a chat server: cheap on batteries and on servers with many connections.
    pub const QUIET: Self = Self { idle: Duration::from_secs(30), interval: Duration::from_secs(5), fails: 3 };
    /// For servers of chat clients: the clients ping first, so that only half-open connections cost a ping.
    pub const PATIENT: Self = Self { idle: Duration::from_secs(75), interval: Duration::from_secs(10), fails: 3 };
    /// For fleets, where a dead peer must be noticed within seconds.
    pub const FLEET: Self = Self { idle: Duration::from_secs(1), interval: Duration::from_secs(3), fails: 5 };
}

/// What becomes of requests that were sent, and not answered, when the session is lost.
///
/// A setting of the end that connects. A server's session is over with its client, and whoever comes next may be another one: what the
/// server has asked fails with `link_lost`. What a server, or a station, must not lose belongs into a queue on disk (`DurableQueue` of
/// `parlour-net`), which asks again in the next session of the same peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenRequests {
    /// They fail with `link_lost`; the caller knows whether another try is safe.
    Fail,
    /// They are sent again in the next session, with their origin. A peer that keeps remains and looks origins up carries each out
    /// once; any other may carry it out twice.
    Resend,
}

/// What becomes of actions and requests that were never written to a connection when the session is lost. Those that wait because the
/// link is full are among them.
///
/// A setting of the end that connects, as [`OpenRequests`] is: what a server, or a station, had not sent is always dropped, and what it
/// must not lose belongs into a queue on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// Actions are dropped, requests fail with `link_lost`.
    Drop,
    /// They are sent in the next session.
    Keep,
}

/// What a server decides about a session before it begins.
#[derive(Clone, Debug)]
pub struct ServerSession {
    /// The id of the session.
    pub session: LinkSessionId,
    /// The secret to come back with.
    pub token: [u8; 32],
    /// What a device signs to authenticate.
    pub challenge: [u8; 32],
    /// How long the session survives without a connection.
    pub grace: Duration,
}
