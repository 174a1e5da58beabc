//! Parlour's pure protocol machines: no socket, no clock, no task, no randomness.
//!
//! - [`link`]: the protocol between any two of our programs, with sessions that survive the loss of their connection.
//! - [`clock`]: how far a peer's clock is from ours, with a bound.
//! - [`discovery`]: stations that announce themselves on a local network, and those who look for them.

pub mod clock;
pub mod discovery;
pub mod link;
