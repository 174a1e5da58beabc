//! The toolkit: handlers with types and access rules, stations and agents with hooks, and calls by name.

mod access;
mod aftercare;
mod agent;
mod call;
mod codec;
mod context;
mod dedupe;
mod dispatch;
mod fleet;
pub(crate) mod fuzzing;
mod handlers;
mod hooks;
mod ledger;
mod peer;
mod reception;
mod station;
mod table;

pub use access::Access;
pub use agent::{Agent, AgentConfig, AgentError};
pub use call::{Call, Reply};
pub use codec::{Blob, Codec, CodecError, Codecs, Raw, Reader, Value};
pub use context::Context;
pub use dedupe::DedupeLimits;
pub(crate) use dispatch::text_of;
pub use fleet::{FleetSecret, SecretError};
pub use handlers::{Handlers, Rule, refuse};
pub use hooks::Hooks;
pub use peer::Peer;
pub use station::{Broadcast, Missed, Station, StationConfig, StationError};

pub use parlour_wire::{Code, LinkSessionId, address::ServerUrl, frame::ContentType, header::Fault};
