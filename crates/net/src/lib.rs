//! Messages between programs: a station and its agents, or any two ends, over networks that break.
//!
#![doc = include_str!("guide.md")]

pub mod addresses;
mod allowance;
mod asked;
mod buffers;
mod carrier;
pub mod clock;
mod connect;
mod desk;
pub mod discovery;
mod door;
mod driver;
pub mod durable;
mod event;
mod files;
mod flows;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod identity;
#[cfg(feature = "iroh")]
mod iroh;
mod link;
mod listener;
mod mailbox;
mod port;
mod pump;
mod pusher;
mod queue;
mod registry;
mod service;
mod session;
mod shared;
mod socket;
mod spin;
mod streams;
pub mod tls;
mod toolkit;
mod tries;
mod websocket;

#[cfg(feature = "iroh")]
pub use self::iroh::{IrohAddr, IrohConfig, IrohEndpoint, IrohError};
pub use asked::{Ask, Asked, Progress};
pub use connect::{Backoff, ConnectConfig, ConnectError, Target};
pub use durable::{DurableConfig, DurableQueue, Marks, MarksConfig, QueueError};
pub use event::{Events, LinkEvent};
pub use files::*;
pub use identity::{Identity, IdentityError, KeySet, NotAKey, PeerKey};
pub use link::Link;
pub use listener::{Admission, ListenConfig, Listener, SessionInfo};
pub use parlour_proto::link::{Answer, KeepAlive, LinkConfig, OpenRequests, Remains, RequestId, StreamId, Unsent};
pub use parlour_wire::{code::Blame, compress::Encoding, header::Origin};
pub use port::SendError;
pub use pusher::{PushError, Pusher};
pub use service::{Incoming, IncomingAction, SessionService};
pub use streams::{Received, Sink, Source};
pub use tls::{PemPair, ServerIdentity, TlsError, Trust};
pub use toolkit::*;
