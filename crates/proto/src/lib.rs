//! Parlour's pure protocol machines: no socket, no clock, no task, no randomness.
//!
//! - [`link`]: the protocol between any two of our programs, with sessions that survive the loss of their connection.
//! - [`clock`]: how far a peer's clock is from ours, with a bound.
//! - [`discovery`]: stations that announce themselves on a local network, and those who look for them.

pub mod clock;
pub mod discovery;
pub mod link;

use std::time::{Duration, Instant};

/// Further away than any program runs, and nearer than any clock ends.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The point in time so long after another one. A setting may say "never" by [`Duration::MAX`], which no clock reaches.
#[must_use]
pub fn later(than: Instant, wait: Duration) -> Instant {
    than + wait.min(FAR)
}
