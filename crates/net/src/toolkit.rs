//! The toolkit: handlers with types and access rules, stations and agents with hooks, and calls by name.

mod access;
mod codec;
mod dedupe;

pub use access::Access;
pub use codec::{Blob, Codec, CodecError, Codecs, Raw, Target, Value};
pub use dedupe::DedupeLimits;
pub use parlour_wire::{Code, frame::ContentType, header::Fault};
