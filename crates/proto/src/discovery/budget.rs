//! So much a second, and no more.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Checks of one address in a second that do not count against the others.
const FIRSTS: u32 = 2;
/// Addresses that have such checks in a second.
const ADDRESSES: usize = 100;

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

/// A few for every address in a second, so that no address uses up what is there for all. More addresses than there is room for have
/// none; a [lottery](super::lottery) is left to them.
#[derive(Clone, Debug)]
pub(super) struct Firsts {
    since: Instant,
    taken: BTreeMap<IpAddr, u32>,
}

impl Firsts {
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, taken: BTreeMap::new() }
    }

    /// Takes one of an address, if it has one left.
    pub(super) fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        let room = self.taken.len() < ADDRESSES;
        match self.taken.get_mut(&address) {
            Some(taken) => {
                let left = *taken < FIRSTS;
                *taken += u32::from(left);
                left
            }
            None if room => {
                self.taken.insert(address, 1);
                true
            }
            None => false,
        }
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
