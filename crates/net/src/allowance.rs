//! What the receiver of a stream lets its sender send: how much may be under way, and when more is granted.
//!
//! Over QUIC what is under way of a stream stands before whatever the peer says next: it lies in the receiver's buffers and is to be
//! decrypted first. With a peer that is near a little under way is enough for all speed that there is, so more would only be in the
//! way. With one that is far it decides about the speed.

use std::time::Duration;

use parlour_wire::limits;

/// Least credit of a stream. A quarter of it may be taken and not granted again yet; what is left must let the largest chunk
/// through, or both ends would wait for each other.
const LEAST: u32 = 2 * limits::STREAM_CHUNK as u32;
/// Credit of a stream to a peer that is near, at most.
const NEAR: u32 = 256 * 1024;
/// Who answers sooner is near: [`NEAR`] in so much time is half a gigabit a second, and more where it is less.
const NEAR_ROUND_TRIP: Duration = Duration::from_millis(5);

/// Whether a peer with this round trip is near. `None` is a way on which nothing stands before what is said next: the more the better.
pub(crate) fn is_near(round_trip: Option<Duration>) -> bool {
    round_trip.is_some_and(|round_trip| round_trip < NEAR_ROUND_TRIP)
}

/// The credit of one stream, counted at its receiver. Units are those of the credit: bytes, and a little for every chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    begun: u32,
    /// What may be under way now.
    size: u32,
    /// What may be under way if the peer is far.
    full: u32,
    /// Taken by the reader, and not granted again.
    owed: u64,
}

impl Allowance {
    /// For a reader that allows for `wanted`, or what is the least.
    pub(crate) fn new(wanted: u32, near: bool) -> Self {
        let full = wanted.max(LEAST);
        let begun = if near { full.min(NEAR) } else { full };
        Self { begun, size: begun, full, owed: 0 }
    }

    /// What the sender begins with.
    pub(crate) fn begun(&self) -> u32 {
        self.begun
    }

    /// The reader has taken a chunk of this cost. What is to be granted now, if anything: several chunks share a grant, which is a
    /// frame and a wake of the driver.
    pub(crate) fn take(&mut self, cost: u64, near: bool) -> Option<u64> {
        self.owed += cost;
        if self.owed < u64::from(self.size / 4) {
            return None;
        }
        let more = if near { 0 } else { self.full - self.size };
        self.size += more;
        Some(std::mem::take(&mut self.owed) + u64::from(more))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u32 = 1024 * 1024;

    #[test]
    fn a_peer_that_is_near_has_little_under_way_until_it_is_far() {
        let mut near = Allowance::new(2 * MIB, true);
        assert_eq!(near.begun(), NEAR);
        assert_eq!(near.take(u64::from(NEAR / 4), true), Some(u64::from(NEAR / 4)), "and no more than it has taken");
        assert_eq!(near.take(u64::from(NEAR / 4), false), Some(u64::from(NEAR / 4 + 2 * MIB - NEAR)), "it is far now");
        assert_eq!(near.take(u64::from(NEAR / 4), false), None, "a quarter is more now");
        assert_eq!(near.begun(), NEAR, "which is what it was told");
        assert_eq!(Allowance::new(2 * MIB, false).begun(), 2 * MIB);
        assert_eq!(Allowance::new(NEAR / 2, true).begun(), NEAR / 2, "who wants less has less");
        assert_eq!(Allowance::new(0, true).begun(), LEAST);
    }

    #[test]
    fn who_answers_within_milliseconds_is_near() {
        let is_near = |ms| is_near(Some(Duration::from_millis(ms)));
        assert_eq!((is_near(0), is_near(4), is_near(5), is_near(100)), (true, true, false, false));
        assert!(!super::is_near(None));
    }

    proptest! {
        #[test]
        fn never_more_is_under_way_than_wanted_and_always_a_chunk_may_come(
            wanted in any::<u32>().prop_map(|wanted| wanted % (8 * MIB)),
            steps in prop::collection::vec((1..=limits::STREAM_CHUNK as u64, any::<bool>()), 1..500),
            near in any::<bool>(),
        ) {
            let mut allowance = Allowance::new(wanted, near);
            let mut credit = u64::from(allowance.begun());
            for (cost, near) in steps {
                prop_assert!(credit >= cost, "the sender can send");
                credit -= cost;
                credit += allowance.take(cost, near).unwrap_or(0);
                prop_assert!(credit <= u64::from(wanted.max(LEAST)));
            }
        }
    }
}
