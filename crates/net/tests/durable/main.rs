//! Durable queues over real links of every carrier: lost connections, lost sessions, killed senders, restarted receivers.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; a child process talks to its test by its output")]

mod delivery;
mod full;
mod killed;
mod receiver;
mod restarts;
mod rig;
mod typed;
#[path = "../support/way.rs"]
mod way;

use std::{path::Path, time::Duration};

use parlour_net::{DurableConfig, DurableQueue};

/// Longer than anything here takes on a loaded machine.
const BOUND: Duration = Duration::from_secs(60);

/// Fails the test instead of hanging it.
async fn bounded<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(BOUND, future).await.expect("within the bound")
}

/// A queue that does not wait long between tries.
async fn open(path: &Path) -> DurableQueue {
    open_with(path, DurableConfig::default()).await
}

async fn open_with(path: &Path, config: DurableConfig) -> DurableQueue {
    let waits = (Duration::from_millis(1), Duration::from_millis(20));
    DurableQueue::open(path, DurableConfig { first_wait: waits.0, longest_wait: waits.1, ..config }).await.unwrap()
}
