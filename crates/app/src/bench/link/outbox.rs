//! Actions through a durable queue: how fast they are on disk, and how fast they are delivered.

use std::path::Path;

use parlour_net::{DurableConfig, DurableQueue};

use super::{calls::Ask, ends::Ends};
use crate::bench::baseline::now;

/// Actions in all.
const ACTIONS: usize = 20_000;
/// Pushes that wait for the disk together.
const AT_ONCE: usize = 256;

/// Actions a second.
pub(super) struct Rates {
    /// Pushed and on disk.
    pub(super) pushed: f64,
    /// Sent, carried out, answered, and out of the queue.
    pub(super) delivered: f64,
}

pub(super) async fn run(ends: &Ends, path: &Path) -> anyhow::Result<Rates> {
    let queue = DurableQueue::open(path, DurableConfig::default()).await?;
    let start = now();
    for first in (0..ACTIONS).step_by(AT_ONCE) {
        let count = AT_ONCE.min(ACTIONS - first);
        let pushes: Vec<_> = (first..first + count).map(|number| queue.action("note", &Ask::new(number))).collect();
        for push in pushes {
            push.await?;
        }
    }
    let pushed = ACTIONS as f64 / start.elapsed().as_secs_f64();
    let start = now();
    let delivery = queue.attach(ends.agent.link());
    queue.drained().await?;
    let delivered = ACTIONS as f64 / start.elapsed().as_secs_f64();
    drop(delivery);
    queue.close().await;
    let noted: u64 = ends.agent.request("noted", &()).await?;
    anyhow::ensure!(noted == ACTIONS as u64, "{noted} of {ACTIONS} actions have taken effect");
    Ok(Rates { pushed, delivered })
}
