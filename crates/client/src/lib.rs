//! The Parlour client SDK: an encrypted local store, end-to-end encrypted conversations, an outbox that loses nothing, and
//! events. Faces, bots and bindings use this crate and nothing below it.
//!
//! ```no_run
//! # async fn example() -> Result<(), parlour_client::Error> {
//! use parlour_client::{Client, KeySource, OpenOptions};
//! let client = Client::open(OpenOptions { home: "/tmp/alice".into(), key: KeySource::File, create: false })?;
//! client.go_online().await?;
//! let message = client.send("bob", "hello", None).await?;
//! println!("{} is {}", message.id, message.state.word());
//! # Ok(()) }
//! ```
//!
//! - [`Client`]: the handle; [`Events`]: what it tells.
//! - [`mod@core`]: the machine behind it, without sockets or clocks; for simulations.
//!
//! Everything that is acknowledged to a caller or to the server is on disk before.

mod api;
mod client;
pub mod core;
mod error;
mod event;
#[doc(hidden)]
pub mod fuzzing;
mod key;
mod profile;
mod run;
mod store;
#[cfg(test)]
mod tests;

pub use api::*;
pub use client::Client;
pub use error::Error;
pub use event::{Event, Events};
pub use key::{KeySource, Protection};
pub use parlour_wire::{
    AccountId, Code, ConversationId, DeviceId, MessageId,
    address::{InviteLink, ServerUrl},
    api::{Registration, Role, Suite},
    content::{Expiry, safe_name},
    limits,
    name::Name,
};
pub use profile::Profile;
