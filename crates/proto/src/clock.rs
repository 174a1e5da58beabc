//! How far a peer's clock is from ours, and how wrong that may be: the estimate of RFC 5905 (NTP), section 8, as a pure function
//! of time stamps.
//!
//! A [`Sample`] is one question and its answer. Whatever the two ways took, the true offset lies within half of what both took
//! together; to that comes what the two clocks may drift apart while the estimate is used. An [`Estimator`] keeps a few samples
//! and answers with the one that is best at the moment.
//!
//! A peer that lies about its time is believed: the bound holds for honest clocks of which neither is stepped meanwhile. What no
//! honest clock can say is refused by name, and a peer whose clock was stepped is noticed by its next sample.

use std::collections::VecDeque;

use thiserror::Error;

/// How fast two clocks may drift apart, in millionths: quartz is within 50 each, and what slews a clock is usually gentler.
const DRIFT_PPM: u32 = 100;
/// Samples that an estimator keeps, as many as an NTP client does.
const KEPT: usize = 8;
/// What reading four clocks in whole microseconds and halving twice can add up to, in microseconds.
const RESOLUTION_US: u64 = 3;
/// The last time stamp that is taken, in microseconds: differences of two fit a signed number.
const LAST_US: u64 = i64::MAX as u64;

/// One question and its answer. `asked_us` and `heard_us` are read from our clock, the other two from the peer's; each counts
/// microseconds from an epoch of its own choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Our clock when the question left.
    pub asked_us: u64,
    /// The peer's clock when the question was there.
    pub received_us: u64,
    /// The peer's clock when the answer left.
    pub answered_us: u64,
    /// Our clock when the answer was there.
    pub heard_us: u64,
}

/// Why a sample tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadSample {
    /// The peer answered before it was asked, by its own clock.
    #[error("the peer's clock ran backwards")]
    PeerBackwards,
    /// The answer was heard before the question was asked, by our own clock.
    #[error("the clock of this program ran backwards")]
    OwnBackwards,
    /// The peer says that it held the question for longer than question and answer took together.
    #[error("the peer claims a time that cannot have passed")]
    Impossible,
    /// A time stamp beyond any calendar.
    #[error("a time beyond all bounds")]
    OutOfRange,
}

/// How far the peer's clock is ahead of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// What to add to our clock to get the peer's, in microseconds.
    pub offset_us: i64,
    /// Our clock when it was measured.
    pub taken_us: u64,
    /// How wrong it was then.
    error_us: u64,
    drift_ppm: u32,
}

impl Estimate {
    /// Our clock when the peer's shows `peer_us`; `None` before the epoch of ours, or beyond all bounds.
    #[must_use]
    pub fn own_us(&self, peer_us: u64) -> Option<u64> {
        let own = i128::from(peer_us) - i128::from(self.offset_us);
        u64::try_from(own).ok()
    }

    /// The peer's clock when ours shows `own_us`.
    #[must_use]
    pub fn peer_us(&self, own_us: u64) -> Option<u64> {
        let peer = i128::from(own_us) + i128::from(self.offset_us);
        u64::try_from(peer).ok()
    }

    /// When our clock shows `own_us`, the true offset is no further away than this, in microseconds.
    #[must_use]
    pub fn error_us(&self, own_us: u64) -> u64 {
        self.error_us.saturating_add(drift(own_us.saturating_sub(self.taken_us), self.drift_ppm))
    }

    /// Whether both can be true when our clock shows `own_us`.
    fn agrees(&self, other: &Self, own_us: u64) -> bool {
        let apart = (i128::from(self.offset_us) - i128::from(other.offset_us)).unsigned_abs();
        apart <= u128::from(self.error_us(own_us)) + u128::from(other.error_us(own_us))
    }
}

/// What clocks may drift apart in `elapsed_us`, rounded up.
fn drift(elapsed_us: u64, ppm: u32) -> u64 {
    let drift = (u128::from(elapsed_us) * u128::from(ppm)).div_ceil(1_000_000);
    u64::try_from(drift).unwrap_or(u64::MAX)
}

/// Keeps the last samples of one peer's clock.
#[derive(Clone, Debug)]
pub struct Estimator {
    drift_ppm: u32,
    kept: VecDeque<Estimate>,
}

impl Default for Estimator {
    fn default() -> Self {
        Self::new(DRIFT_PPM)
    }
}

impl Estimator {
    /// An estimator for clocks that drift apart by at most `drift_ppm` microseconds a second.
    #[must_use]
    pub const fn new(drift_ppm: u32) -> Self {
        Self { drift_ppm, kept: VecDeque::new() }
    }

    /// Takes a sample; returns what it says on its own. Samples that it contradicts are forgotten: then one of the clocks was
    /// stepped, and what was measured before holds no longer.
    ///
    /// # Errors
    /// [`BadSample`] for what no clock can show; nothing has changed then.
    pub fn add(&mut self, sample: Sample) -> Result<Estimate, BadSample> {
        let estimate = self.judge(sample)?;
        self.kept.retain(|kept| kept.agrees(&estimate, estimate.taken_us));
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(estimate);
        Ok(estimate)
    }

    fn judge(&self, sample: Sample) -> Result<Estimate, BadSample> {
        let Sample { asked_us, received_us, answered_us, heard_us } = sample;
        if [asked_us, received_us, answered_us, heard_us].iter().any(|stamp| *stamp > LAST_US) {
            return Err(BadSample::OutOfRange);
        }
        let trip = heard_us.checked_sub(asked_us).ok_or(BadSample::OwnBackwards)?;
        let held = answered_us.checked_sub(received_us).ok_or(BadSample::PeerBackwards)?;
        // While the question was held, and while the trip lasted, the offset itself may have changed.
        let moved = drift(trip, self.drift_ppm).saturating_mul(2);
        if held > trip.saturating_add(moved).saturating_add(RESOLUTION_US) {
            return Err(BadSample::Impossible);
        }
        let error_us = (trip.saturating_sub(held) / 2 + RESOLUTION_US).saturating_add(moved);
        let there = i128::from(received_us) - i128::from(asked_us);
        let back = i128::from(answered_us) - i128::from(heard_us);
        let offset_us = i64::try_from((there + back).div_euclid(2)).map_err(|_| BadSample::OutOfRange)?;
        Ok(Estimate { offset_us, taken_us: heard_us, error_us, drift_ppm: self.drift_ppm })
    }

    /// The best estimate when our clock shows `now_us`; `None` before the first sample.
    #[must_use]
    pub fn estimate(&self, now_us: u64) -> Option<Estimate> {
        self.kept.iter().min_by_key(|estimate| estimate.error_us(now_us)).copied()
    }
}
