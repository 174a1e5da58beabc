//! What time it is at a peer, with a bound on how wrong that may be, and doing something at a time that both agree on.
//!
//! [`Clock`] is the time that a program shows to its peers. [`ClockTracker`] asks a peer for its time over a link, a few times in a
//! row, and works out a [`ClockEstimate`]; [`Link::clock`] does it once. The rule is that of NTP (see [`parlour_proto::clock`]): the
//! error is half of the shortest round trip, which on a local network is well below a millisecond.
//!
//! A start at the same moment, on many agents. The station tells its time, and says when:
//!
//! ```no_run
//! # use parlour_net::{Access, Fault, Identity, Station, StationConfig, clock::Clock};
//! # async fn example(identity: Identity) -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = StationConfig::new(identity, "0.0.0.0:7443".parse()?);
//! config.handlers.tell_time(Clock::system()).allow(Access::Authenticated);
//! let station = Station::bind(config).await?;
//! station.broadcast("start", &(Clock::system().now_us() + 3_000_000))?;
//! # Ok(())
//! # }
//! ```
//!
//! Every agent waits for it:
//!
//! ```no_run
//! # use parlour_net::{AgentConfig, clock::TooLate};
//! # fn example(config: &mut AgentConfig) {
//! config.handlers.on_action("start", |cx, start_us: u64| async move {
//!     let Ok(estimate) = cx.link().clock(8).await else { return };
//!     match estimate.at(start_us).await {
//!         Ok(due) => println!("go, {:?} late, give or take {:?}", due.late, due.error),
//!         Err(TooLate { by, .. }) => println!("missed by {by:?}"),
//!     }
//! });
//! # }
//! ```

pub(crate) mod fuzzing;

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use minicbor::{Decode, Encode};
use parlour_proto::clock::{BadSample, Estimate, Estimator, Sample};
use parlour_wire::{DecodeError, decode, encode, frame::ContentType, header::Fault};
use thiserror::Error;

use crate::{
    link::Link,
    pump::now,
    toolkit::{Handlers, Rule},
};

/// The built-in request for the time. It has no arguments; the answer is an array of two numbers, when the question was there and
/// when the answer left, in microseconds.
pub const REQUEST: &str = "parlour.clock";
/// No arguments, in CBOR: an empty array.
const NO_ARGUMENTS: &[u8] = &[0x80];
/// How long one question may take: an answer that took longer would tell next to nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long before its time [`ClockEstimate::at`] wakes up, to wait out the rest without the timer, which has a resolution of one
/// millisecond and rounds up.
const EARLY: Duration = Duration::from_millis(2);

/// The time that a program shows to its peers: Unix time in microseconds, but steady. It is read from the system's clock once, and
/// from then on counts what has passed, so no correction of the system's clock makes it jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    start: Instant,
    start_us: u64,
}

impl Clock {
    /// The clock of this program: always the same one.
    #[must_use]
    pub fn system() -> Self {
        static SYSTEM: OnceLock<Clock> = OnceLock::new();
        *SYSTEM.get_or_init(|| Self { start: current(), start_us: unix_us() })
    }

    /// A clock of its own, which shows `us` at `instant`.
    #[must_use]
    pub const fn showing(us: u64, instant: Instant) -> Self {
        Self { start: instant, start_us: us }
    }

    /// What it shows.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.us_at(current())
    }

    /// What it shows at a moment; 0 before its epoch.
    #[must_use]
    pub fn us_at(&self, instant: Instant) -> u64 {
        match instant.checked_duration_since(self.start) {
            Some(after) => self.start_us.saturating_add(micros(after)),
            None => self.start_us.saturating_sub(micros(self.start.saturating_duration_since(instant))),
        }
    }

    /// The moment at which it shows a time; `None` beyond what the operating system can count.
    #[must_use]
    pub fn instant_at(&self, us: u64) -> Option<Instant> {
        match us.checked_sub(self.start_us) {
            Some(after) => self.start.checked_add(Duration::from_micros(after)),
            None => self.start.checked_sub(Duration::from_micros(self.start_us - us)),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "read once, to have an epoch that others share")]
fn unix_us() -> u64 {
    // A machine that believes to be before 1970 has a clock as good as any other: only the offset to it counts.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
}

/// Tokio's time, which tests can move.
fn current() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The answer to [`REQUEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Reading {
    #[n(0)]
    received_us: u64,
    #[n(1)]
    answered_us: u64,
}

/// What to answer to a [`REQUEST`] that was there at `received`, with the time of `clock`.
#[must_use]
pub fn answer(clock: &Clock, received: Instant) -> (ContentType, Bytes) {
    let reading = Reading { received_us: clock.us_at(received), answered_us: clock.now_us() };
    (ContentType::CBOR, encode(&reading).into())
}

/// Reads what a peer has answered to a question that left and was answered at these times of our clock.
fn take_in(estimator: &mut Estimator, asked_us: u64, answer: &[u8], heard_us: u64) -> Result<Estimate, ClockError> {
    let Reading { received_us, answered_us } = decode(answer)?;
    Ok(estimator.add(Sample { asked_us, received_us, answered_us, heard_us })?)
}

impl Handlers {
    /// Tells peers the time of `clock`, when they ask with [`Link::clock`].
    pub fn tell_time(&mut self, clock: Clock) -> Rule<'_> {
        self.on_own_request(REQUEST, move |_cx, ()| async move {
            let now_us = clock.now_us();
            Ok((now_us, now_us))
        })
    }
}

/// Why a peer's clock is not known.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ClockError {
    /// The peer did not answer.
    #[error("the peer did not tell its time: {}", .0.message)]
    NoAnswer(Fault),
    /// The peer's answer is no time.
    #[error("the peer's answer is no time: {0}")]
    Malformed(#[from] DecodeError),
    /// The peer's answer is no time that a clock can show.
    #[error("the peer's answer cannot be true: {0}")]
    Impossible(#[from] BadSample),
}

/// Measures a peer's clock over a link, again and again.
#[derive(Clone, Debug)]
pub struct ClockTracker {
    link: Link,
    clock: Clock,
    estimator: Estimator,
}

impl ClockTracker {
    /// A tracker of the clock at the other end of `link`, against [`Clock::system`].
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self::against(link, Clock::system())
    }

    /// A tracker against a clock of one's own.
    #[must_use]
    pub fn against(link: Link, clock: Clock) -> Self {
        Self { link, clock, estimator: Estimator::default() }
    }

    /// Asks `samples` times (at least once), one after the other; returns the best estimate of these and the last ones before.
    ///
    /// # Errors
    /// [`ClockError`] for the first answer that did not come or cannot be true. What was measured before is kept.
    pub async fn measure(&mut self, samples: u32) -> Result<ClockEstimate, ClockError> {
        let mut last = self.sample().await?;
        for _ in 1..samples {
            last = self.sample().await?;
        }
        Ok(self.estimate().unwrap_or(last))
    }

    async fn sample(&mut self) -> Result<ClockEstimate, ClockError> {
        let asked_us = self.clock.now_us();
        let asked = self.link.request_raw(REQUEST, ContentType::CBOR, Bytes::from_static(NO_ARGUMENTS), ANSWER_WITHIN);
        let answer = asked.await.map_err(ClockError::NoAnswer)?;
        let heard_us = self.clock.now_us();
        let estimate = take_in(&mut self.estimator, asked_us, &answer.content, heard_us)?;
        Ok(ClockEstimate { clock: self.clock, estimate })
    }

    /// The best estimate at this moment; `None` before the first measurement.
    #[must_use]
    pub fn estimate(&self) -> Option<ClockEstimate> {
        let estimate = self.estimator.estimate(self.clock.now_us())?;
        Some(ClockEstimate { clock: self.clock, estimate })
    }
}

impl Link {
    /// Asks the peer `samples` times for its time, against [`Clock::system`]. Eight are plenty.
    ///
    /// # Errors
    /// As [`ClockTracker::measure`].
    pub async fn clock(&self, samples: u32) -> Result<ClockEstimate, ClockError> {
        ClockTracker::new(self.clone()).measure(samples).await
    }
}

/// How far a peer's clock is from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockEstimate {
    clock: Clock,
    estimate: Estimate,
}

impl ClockEstimate {
    /// What to add to our clock to get the peer's, in microseconds.
    #[must_use]
    pub const fn offset_us(&self) -> i64 {
        self.estimate.offset_us
    }

    /// The true offset is no further away than this at the moment. It grows, because clocks drift apart.
    #[must_use]
    pub fn error(&self) -> Duration {
        self.error_at(current())
    }

    /// The same at another moment.
    #[must_use]
    pub fn error_at(&self, instant: Instant) -> Duration {
        Duration::from_micros(self.estimate.error_us(self.clock.us_at(instant)))
    }

    /// When it was measured.
    #[must_use]
    pub fn taken(&self) -> Option<Instant> {
        self.clock.instant_at(self.estimate.taken_us)
    }

    /// The moment at which the peer's clock shows `peer_us`; `None` for a time beyond what this machine can count.
    #[must_use]
    pub fn local_instant(&self, peer_us: u64) -> Option<Instant> {
        self.clock.instant_at(self.estimate.own_us(peer_us)?)
    }

    /// What the peer's clock shows at a moment; `None` before its epoch.
    #[must_use]
    pub fn peer_us(&self, instant: Instant) -> Option<u64> {
        self.estimate.peer_us(self.clock.us_at(instant))
    }

    /// Waits until the peer's clock shows `peer_us`. The last two milliseconds are spent giving way to other tasks over and over,
    /// which is more exact than the timer.
    ///
    /// # Errors
    /// [`TooLate`] if it shows more already, or if the time is out of reach in either direction.
    pub async fn at(&self, peer_us: u64) -> Result<Due, TooLate> {
        let start = current();
        let Some(due) = self.local_instant(peer_us) else {
            let peer_now = self.peer_us(start).unwrap_or(0);
            return Err(TooLate { by: Duration::from_micros(peer_now.saturating_sub(peer_us)), error: self.error_at(start) });
        };
        if due < start {
            return Err(TooLate { by: start.saturating_duration_since(due), error: self.error_at(start) });
        }
        if let Some(early) = due.checked_sub(EARLY).filter(|early| *early > start) {
            tokio::time::sleep_until(early.into()).await;
        }
        let impatient = now() + EARLY;
        while current() < due && now() < impatient {
            tokio::task::yield_now().await;
        }
        // Only where Tokio's time stands still while tasks run, as in tests.
        if current() < due {
            tokio::time::sleep_until(due.into()).await;
        }
        Ok(Due { late: current().saturating_duration_since(due), error: self.error_at(due) })
    }
}

/// A time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// How much later than wanted this is, by the estimate.
    pub late: Duration,
    /// How wrong the estimate may be at this moment.
    pub error: Duration,
}

/// A time has passed already, by the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("that time passed {by:?} ago, give or take {error:?}")]
pub struct TooLate {
    /// How long ago.
    pub by: Duration,
    /// How wrong that may be.
    pub error: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_US: u64 = 3_600_000_000;

    /// The estimate of a clock that is an hour ahead, taken at this moment over a trip of one millisecond.
    fn hour_ahead() -> ClockEstimate {
        let clock = Clock::showing(10 * HOUR_US, current());
        let asked_us = clock.now_us();
        let there = asked_us + 500 + HOUR_US;
        let sample = Sample { asked_us, received_us: there, answered_us: there, heard_us: asked_us + 1000 };
        let estimate = Estimator::default().add(sample).expect("a good sample");
        ClockEstimate { clock, estimate }
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_of_the_peer_is_waited_for_and_reported_with_its_error() {
        let estimate = hour_ahead();
        let start = current();
        let due = estimate.at(11 * HOUR_US + 60_000_000).await.expect("in a minute");
        assert!(current().saturating_duration_since(start) >= Duration::from_secs(60));
        assert_eq!(estimate.peer_us(current() - due.late), Some(11 * HOUR_US + 60_000_000));
        // A minute of drift is up to 6 ms, beside half a trip.
        assert!(due.error >= Duration::from_micros(6500) && due.error < Duration::from_micros(6600), "{due:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_has_passed_is_too_late_by_so_much() {
        let estimate = hour_ahead();
        let late = estimate.at(11 * HOUR_US - 1_000_000).await.expect_err("a second ago");
        assert_eq!((late.by, late.error), (Duration::from_secs(1), estimate.error()));
        // Before our own clock began to count, and before the machine did.
        for peer_us in [0, HOUR_US / 2] {
            let late = estimate.at(peer_us).await.expect_err("long ago");
            assert_eq!(late.by, Duration::from_micros(11 * HOUR_US - peer_us));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_shows_and_finds_the_same_times() {
        let clock = Clock::showing(HOUR_US, current());
        assert_eq!(clock.instant_at(HOUR_US + 5).map(|instant| clock.us_at(instant)), Some(HOUR_US + 5));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(clock.now_us(), HOUR_US + 7_000_000);
        assert_eq!(Clock::system(), Clock::system(), "one for the whole program");
    }
}
