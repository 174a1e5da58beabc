//! How long a client waits before it tries to connect again.

use std::time::{Duration, Instant};

use crate::connect::Backoff;

/// A link that was up for this long was a good one, as is one that was up for as long as the wait before it: the next wait is a short
/// one again. So losses alone do not keep a link away for longer than it is there, but for a second or so.
const STEADY: Duration = Duration::from_secs(2);

/// The tries of a link to connect.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// In a row.
    failures: u32,
    /// The wait before the last one.
    waited: Duration,
    /// Since when the link is up. A connection that does not come as far counts as a failure however long it lasts.
    up: Option<Instant>,
}

impl Tries {
    /// The link is up.
    pub(crate) fn succeeded(&mut self, now: Instant) {
        self.up = Some(now);
    }

    /// The connection is gone.
    pub(crate) fn lost(&mut self, now: Instant) {
        if self.up.take().is_some_and(|up| now.saturating_duration_since(up) >= STEADY.min(self.waited)) {
            self.failures = 0;
        }
    }

    /// The wait before the next one, at least as long as the server `asked`. See [`Backoff`] for `random`.
    pub(crate) fn wait(&mut self, backoff: Backoff, asked: Duration, random: u16) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.waited = backoff.delay(self.failures, random).max(asked);
        self.waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pump::now;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(30) };

    fn wait(tries: &mut Tries) -> u128 {
        tries.wait(BACKOFF, Duration::ZERO, 0).as_millis()
    }

    /// The waits of a link that is up for so many milliseconds each time.
    fn waits(tries: &mut Tries, up_ms: u64) -> [u128; 4] {
        [(); 4].map(|()| {
            let now = now();
            tries.succeeded(now);
            tries.lost(now + Duration::from_millis(up_ms));
            wait(tries)
        })
    }

    #[test]
    fn who_is_cut_again_and_again_does_not_wait_longer_each_time_and_who_is_hung_up_on_does() {
        assert_eq!(waits(&mut Tries::default(), 100), [100; 4], "as long as the wait before");
        assert_eq!(waits(&mut Tries::default(), 10), [100, 200, 400, 800]);
        let mut tries = Tries::default();
        let outage: Vec<_> = (0..10).map(|_| wait(&mut tries)).collect();
        assert_eq!(outage.last(), Some(&30_000));
        assert_eq!(waits(&mut tries, 2000), [100; 4], "after a long wait two seconds are enough");
    }

    #[test]
    fn a_connection_that_does_not_come_up_is_a_failure_however_long_it_lasts() {
        let (mut tries, now) = (Tries::default(), now());
        assert_eq!(wait(&mut tries), 100);
        tries.lost(now + Duration::from_secs(60));
        assert_eq!(wait(&mut tries), 200);
    }
}
