//! Programs on one network: stations that are found, clocks that are compared, addresses that are known. Everything on loopback,
//! or in a network of the test's own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod addresses;
mod clock;
mod discovery;
#[cfg(feature = "iroh")]
mod iroh;
#[cfg(target_os = "linux")]
mod off;
mod own_network;

use std::time::Duration;

/// Longer than anything here takes on a loaded machine.
const BOUND: Duration = Duration::from_secs(60);

/// Fails the test instead of hanging it.
async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BOUND, future).await.expect("within the bound")
}
