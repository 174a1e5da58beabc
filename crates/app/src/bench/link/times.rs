//! Many times of the same thing, and where most of them lie.

use std::time::Duration;

/// Times of the same thing.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    /// One more.
    pub(super) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time below which so many of a hundred lie, in microseconds.
    pub(super) fn percentile_us(&self, percent: usize) -> f64 {
        let mut times = self.0.clone();
        times.sort_unstable();
        let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let mut times = Times::default();
        assert_eq!(times.percentile_us(50), 0.0);
        for us in (0..100).rev() {
            times.push(Duration::from_micros(us));
        }
        assert_eq!((times.percentile_us(50), times.percentile_us(99), times.percentile_us(100)), (50.0, 99.0, 99.0));
    }
}
