//! What a Parlour server decides, without sockets, tasks, clocks or SQL.
//!
//! - [`Service`]: the handlers of every request and action, each with its access rule. A driver opens a [`Session`] for each
//!   link, hands over what arrives, and sends what comes back.
//! - [`Fanout`]: who is online and in which conversations; pushes what the store has committed.
//! - [`store`]: what a server keeps, as a trait with its conformance suite; [`store::memory`] keeps it in memory.
//! - [`throttle`]: how often somebody may try.
//! - [`Secrets`]: the keys that a server must never lose.
//! - [`Rejection`] and [`Fault`]: the client's mistakes and ours.
//!
//! Time comes in with each call as Unix milliseconds, randomness as a seed at birth.

mod failure;
mod fanout;
mod metrics;
mod opaque;
mod secrets;
mod service;
pub mod store;
pub mod throttle;
mod turns;

pub use failure::{Failure, Fault, Rejection};
pub use fanout::{Fanout, Sink, SinkFull};
pub use metrics::{Counters, RequestCount};
pub use secrets::{Secrets, SecretsError};
pub use service::{ACCOUNT_TOKEN, Answering, BlobRoom, Now, Service, ServiceConfig, Session, account_token_hash, invite_hash};
