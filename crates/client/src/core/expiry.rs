//! Expiry: messages whose time is over are deleted, at the moment if the program runs, else before anything else when it runs again.

use std::time::Duration;

use super::Core;
use crate::{error::Error, event::Event};

/// Messages deleted in one step; what is left goes in the next.
const BATCH: u32 = 500;
/// The wall clock may jump, so it is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// A change may wait so long for the message that it is about: as long as a server keeps messages by default.
const PENDING_MS: u64 = 30 * 24 * 3600 * 1000;

impl Core {
    /// Notes that a message expires.
    pub(super) fn expires(&mut self, at_ms: Option<u64>) {
        self.next_expiry = [self.next_expiry, at_ms].into_iter().flatten().min();
    }

    /// Reads from the database when the next message expires.
    pub(super) fn load_expiry(&mut self) -> Result<(), Error> {
        self.next_expiry = self.store.next_expiry()?;
        Ok(())
    }

    /// Deletes what has expired.
    pub(super) fn expire(&mut self) -> Result<(), Error> {
        if !self.swept {
            self.store.sweep(self.now.unix_ms.saturating_sub(PENDING_MS))?;
        }
        if self.next_expiry.is_none_or(|at| at > self.now.unix_ms) {
            return Ok(());
        }
        for expired in self.store.expired(self.now.unix_ms, BATCH)? {
            self.erase_kept(&expired.id)?;
            self.store.forget_message(&expired)?;
            self.event(Event::MessageGone { conversation: expired.conversation, id: expired.id });
        }
        self.load_expiry()
    }

    /// When to look again, on the steady clock.
    pub(super) fn expiry_deadline(&self) -> Option<Duration> {
        let left = self.next_expiry?.saturating_sub(self.now.unix_ms);
        Some(self.now.steady + Duration::from_millis(left).min(LOOK_AGAIN))
    }
}
