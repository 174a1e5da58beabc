//! Noticing a dead peer: ping after silence, give up after enough silence.

use std::time::Instant;

use super::config::KeepAlive;

/// What a tick of the keep-alive asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Nothing is due.
    Quiet,
    /// A ping with this nonce.
    Ping(u64),
    /// The peer is dead.
    Dead,
}

/// The keep-alive of one connection.
#[derive(Debug)]
pub(super) struct Heart {
    /// When the peer was last heard, or pinged.
    last: Instant,
    /// Pings since the peer was last heard.
    unanswered: u32,
    nonce: u64,
}

impl Heart {
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, unanswered: 0, nonce: 0 }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last = now;
        self.unanswered = 0;
    }

    pub(super) fn deadline(&self, config: &KeepAlive) -> Instant {
        self.last + if self.unanswered == 0 { config.idle } else { config.interval }
    }

    pub(super) fn tick(&mut self, config: &KeepAlive, now: Instant) -> Pulse {
        if self.deadline(config) > now {
            return Pulse::Quiet;
        }
        if self.unanswered >= config.fails {
            return Pulse::Dead;
        }
        self.unanswered += 1;
        self.nonce += 1;
        self.last = now;
        Pulse::Ping(self.nonce)
    }
}
