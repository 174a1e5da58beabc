//! A drone's logbook: entries that must reach the station, whatever happens to the link or to the drone's program.

use std::{
    fmt::Display,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use parlour_net::{DurableConfig, DurableQueue, Link, durable::Attachment};

use crate::{Result, messages::Entry};

/// Entries are on disk before anything else is done, and leave it when the station has them.
pub(crate) struct Logbook {
    queue: DurableQueue,
    entries: AtomicU32,
    /// Goes on as long as this is there.
    _delivery: Attachment,
}

impl Logbook {
    pub(crate) async fn open(path: &Path, link: &Link) -> Result<Self> {
        let queue = DurableQueue::open(path, DurableConfig::default()).await?;
        let delivery = queue.attach(link);
        Ok(Self { queue, entries: AtomicU32::new(0), _delivery: delivery })
    }

    pub(crate) async fn note(&self, text: impl Display) {
        let number = self.entries.fetch_add(1, Ordering::SeqCst) + 1;
        let entry = Entry { number, text: text.to_string() };
        if let Err(error) = self.queue.action("log", &entry).await {
            eprintln!("entry {number} of a logbook is lost: {error}");
        }
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> u32 {
        self.entries.load(Ordering::SeqCst)
    }

    /// Waits until the station has everything.
    pub(crate) async fn close(&self) -> Result<()> {
        self.queue.drained().await?;
        self.queue.close().await;
        Ok(())
    }
}
