//! The Parlour server program: configuration, the SQLite store, composition, health and metrics.
//!
//! - [`start`] runs a server from a [`config::Config`]; [`Running`] is the handle to it.
//! - [`invite()`] makes an invitation beside a running server.
//! - [`sqlite`]: the store.
//! - [`metrics`]: what is counted, in OpenMetrics.

mod adapter;
mod admin;
mod blobs;
pub mod config;
mod data_dir;
mod dispatch;
mod error;
mod invite;
pub mod metrics;
mod run;
pub mod sqlite;

pub use data_dir::Record;
pub use error::StartError;
pub use invite::{Invite, InviteError, invite, invite_by_name};
pub use run::{Running, start};
