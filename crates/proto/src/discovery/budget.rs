//! So much a second, and no more.

use std::time::{Duration, Instant};

/// A bucket that holds as much as fits a second, and fills up steadily.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    per_second: u32,
    left: u32,
    /// Up to when it has been filled.
    filled: Instant,
}

impl Budget {
    pub(super) const fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, left: per_second, filled: now }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / self.per_second;
        let elapsed = now.saturating_duration_since(self.filled);
        let gained = u32::try_from(elapsed.as_nanos() / each.as_nanos()).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(gained).min(self.per_second);
        // A full bucket gains nothing, however long it waits.
        self.filled = if gained >= self.per_second { now } else { self.filled + each * gained };
        let taken = self.left > 0;
        self.left -= u32::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "only a starting point")]
    fn a_budget_is_kept_in_every_second_and_filled_in_the_next() {
        let start = Instant::now();
        let mut budget = Budget::new(10, start);
        let mut taken = |from: u64, to: u64| (from..to).filter(|ms| budget.take(start + Duration::from_millis(*ms))).count();
        assert_eq!(taken(0, 1000), 19, "what was in it, and what came in");
        assert_eq!(taken(1000, 2000), 10);
        assert_eq!(taken(60_000, 60_001), 1);
        assert_eq!(taken(3_600_000, 3_600_005), 5);
    }
}
