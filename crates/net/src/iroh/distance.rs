//! How far a peer is: the least round trip of the path in use.
//!
//! What is under way makes the round trip longer, so a later one says how full the path is rather than how long.

use std::time::Duration;

/// See the module's documentation. `P` names paths.
#[derive(Debug)]
pub(super) struct Distance<P> {
    least: Option<(P, Duration)>,
}

impl<P> Default for Distance<P> {
    fn default() -> Self {
        Self { least: None }
    }
}

impl<P: PartialEq> Distance<P> {
    /// Takes in the path in use and its round trip at the moment, if there is one, and gives the least one. Nothing is near until it
    /// is known to be far.
    pub(super) fn note(&mut self, now: Option<(P, Duration)>) -> Duration {
        match (now, &mut self.least) {
            (Some((path, round_trip)), Some((before, least))) if path == *before => *least = round_trip.min(*least),
            (Some(other), least) => *least = Some(other),
            (None, _) => {}
        }
        self.least.as_ref().map_or(Duration::ZERO, |(_, least)| *least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Duration = Duration::from_micros(300);
    const FAR: Duration = Duration::from_millis(80);

    #[test]
    fn a_path_that_is_full_is_no_longer_than_before() {
        let mut distance = Distance::default();
        assert_eq!([FAR, NEAR, FAR].map(|round_trip| distance.note(Some((1, round_trip)))), [FAR, NEAR, NEAR]);
    }

    #[test]
    fn another_path_is_another_distance_and_none_is_the_last_one() {
        let mut distance = Distance::default();
        assert_eq!(distance.note(None), Duration::ZERO);
        assert_eq!(distance.note(Some((1, NEAR))), NEAR);
        assert_eq!(distance.note(Some((2, FAR))), FAR);
        assert_eq!(distance.note(None), FAR);
    }
}
