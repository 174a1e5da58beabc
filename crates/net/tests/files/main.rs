//! Files over links from end to end on loopback: copies, losses, restarts, bounds, and peers that mean harm.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "tests; a child process talks to its test by its output"
)]

mod bounds;
mod cancel;
#[cfg(feature = "iroh")]
mod carriers;
mod copies;
mod crowded;
mod full;
mod heap;
mod hostile;
mod kill;
mod liars;
mod memory;
mod paths;
mod progress;
mod raw;
mod resume;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/way.rs"]
mod way;
mod world;

use way::over_every_carrier;

#[test]
fn transfers_may_be_sent_to_other_threads() {
    fn sent<T: Send + 'static>() {}
    sent::<parlour_net::Transfer>();
    sent::<parlour_net::FileError>();
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<parlour_net::Files>();
}
