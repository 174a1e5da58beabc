//! Noticing a dead peer: ping after silence, give up after enough silence.

use std::time::Instant;

use super::config::KeepAlive;
use crate::later;

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
    /// Nothing is read on purpose: the peer's silence means nothing, and ours would.
    paused: bool,
}

impl Heart {
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, unanswered: 0, nonce: 0, paused: false }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last = now;
        self.unanswered = 0;
    }

    pub(super) fn set_paused(&mut self, paused: bool, now: Instant) {
        if self.paused != paused {
            self.paused = paused;
            self.heard(now);
        }
    }

    pub(super) fn deadline(&self, config: &KeepAlive) -> Instant {
        later(self.last, if self.unanswered == 0 && !self.paused { config.idle } else { config.interval })
    }

    pub(super) fn tick(&mut self, config: &KeepAlive, now: Instant) -> Pulse {
        if self.deadline(config) > now {
            return Pulse::Quiet;
        }
        if !self.paused {
            if self.unanswered >= config.fails {
                return Pulse::Dead;
            }
            self.unanswered += 1;
        }
        self.nonce += 1;
        self.last = now;
        Pulse::Ping(self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CONFIG: KeepAlive = KeepAlive { idle: Duration::from_secs(30), interval: Duration::from_secs(5), fails: 1 };

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any point in time will do")]
    fn a_side_that_reads_nothing_on_purpose_is_heard_and_gives_nobody_up() {
        let start = Instant::now();
        let mut heart = Heart::new(start);
        heart.set_paused(true, start);
        for ping in 1..20 {
            let now = start + CONFIG.interval * ping;
            assert_eq!(heart.deadline(&CONFIG), now);
            assert_eq!(heart.tick(&CONFIG, now), Pulse::Ping(u64::from(ping)));
        }
        let resumed = start + Duration::from_secs(100);
        heart.set_paused(false, resumed);
        assert_eq!(heart.tick(&CONFIG, resumed), Pulse::Quiet);
        assert!(matches!(heart.tick(&CONFIG, resumed + CONFIG.idle), Pulse::Ping(_)));
        assert_eq!(heart.tick(&CONFIG, resumed + CONFIG.idle + CONFIG.interval), Pulse::Dead);
    }
}
