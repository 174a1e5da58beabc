//! What every carrier must do: each scenario runs over WebSocket and over iroh, on loopback, with both ends known by their keys.
#![allow(clippy::unwrap_used, reason = "tests")]

mod keys;
mod large;
mod links;
#[cfg(feature = "iroh")]
mod quic;
mod raw;
mod rig;
mod stations;
mod strangers;
mod streams;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/way.rs"]
mod way;

use way::over_every_carrier;
