//! Whether a caller looks for its answer before it sleeps (adaptive spinning).
//!
//! Waking a thread that sleeps on another core takes longer than all that becomes of a small request between two programs of one
//! machine. So who awaits one looks for the answer a while, and sleeps then: with a bound that is what sleeping would cost, that
//! takes at most twice the time of whichever had been better (Karlin, Li, Manasse, Owicki, "Empirical studies of competitive
//! spinning for a shared-memory multiprocessor", SOSP 1991). On a link whose answers take longer nobody looks, and where
//! looking is in vain it is tried ever more rarely.

use std::{
    future::Future,
    num::NonZero,
    pin::pin,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    task::Context,
    thread::available_parallelism,
    time::{Duration, Instant},
};

/// How long a caller looks, at most, unless it is told otherwise: less than waking two threads takes on a slow virtual machine.
const USUAL: Duration = Duration::from_micros(100);
/// Quick answers before the first look, and after the first one in vain.
const FIRST: u32 = 2;
/// Quick answers between two looks that are in vain, at most.
const MOST: u32 = 1024;

/// How long to look by default: not at all where the peer could not run meanwhile.
static DEFAULT: LazyLock<Duration> =
    LazyLock::new(
        || if available_parallelism().is_ok_and(|cores| cores > NonZero::<usize>::MIN) { USUAL } else { Duration::ZERO },
    );

pub(crate) fn default_spin() -> Duration {
    *DEFAULT
}

/// What has come of looking for the answers of one link.
///
/// Callers that look at once may overwrite each other's account, which makes the next look a little sooner or later.
#[derive(Debug)]
pub(crate) struct Spin {
    longest: Duration,
    /// Quick answers to come before the next look.
    left: AtomicU32,
    /// As many as come after the next look that is in vain.
    pause: AtomicU32,
}

impl Spin {
    pub(crate) fn new(longest: Duration) -> Self {
        Self { longest, left: AtomicU32::new(FIRST), pause: AtomicU32::new(FIRST) }
    }

    /// Whether the caller that asks now is to look.
    pub(crate) fn looks(&self) -> bool {
        !self.longest.is_zero() && self.left.load(Ordering::Relaxed) == 0
    }

    /// A caller that did not look has its answer, `took` after it asked.
    pub(crate) fn answered(&self, took: Duration) {
        let left = if took <= self.longest {
            self.left.load(Ordering::Relaxed).saturating_sub(1)
        } else {
            self.pause.load(Ordering::Relaxed)
        };
        self.left.store(left, Ordering::Relaxed);
    }

    /// A caller that looked has its answer.
    pub(crate) fn found(&self) {
        self.pause.store(FIRST, Ordering::Relaxed);
    }

    /// Whether a caller that asked at `made` and has no answer at `now` looks again. The last time it does not, and has looked in vain.
    pub(crate) fn goes_on(&self, made: Instant, now: Instant) -> bool {
        let goes_on = now.saturating_duration_since(made) < self.longest;
        if !goes_on {
            let pause = self.pause.load(Ordering::Relaxed);
            self.left.store(pause, Ordering::Relaxed);
            self.pause.store((pause * 2).min(MOST), Ordering::Relaxed);
        }
        goes_on
    }
}

/// Has this poll's task polled again: on a worker thread of a runtime after its other tasks and, if no other thread waits for it, the
/// network; on any other thread at once.
pub(crate) fn again(cx: &mut Context<'_>) {
    // The first poll of it only arranges for that.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(30);
    const SLOW: Duration = Duration::from_millis(30);

    /// A call whose answer takes so long; whether its caller looked.
    fn answered(spin: &Spin, took: Duration) -> bool {
        let (looks, made) = (spin.looks(), crate::pump::now());
        match looks {
            false => spin.answered(took),
            true if spin.goes_on(made, made + took) => spin.found(),
            true => {}
        }
        looks
    }

    #[test]
    fn a_link_is_looked_at_once_its_answers_have_been_quick() {
        let spin = Spin::new(USUAL);
        assert_eq!([QUICK, QUICK, QUICK, QUICK].map(|took| answered(&spin, took)), [false, false, true, true]);
    }

    #[test]
    fn nobody_looks_at_a_link_whose_answers_are_slow() {
        let spin = Spin::new(USUAL);
        assert!((0..10_000).all(|_| !answered(&spin, SLOW)));
        assert_eq!(
            [QUICK, SLOW, QUICK, QUICK, QUICK].map(|took| answered(&spin, took)),
            [false, false, false, false, true],
            "one is not enough"
        );
    }

    #[test]
    fn looking_in_vain_is_tried_ever_more_rarely() {
        let spin = Spin::new(USUAL);
        // Quick for who sleeps, slow for who looks: as if both ends had one core.
        let looks = (0..100_000).filter(|_| answered(&spin, if spin.looks() { SLOW } else { QUICK })).count();
        assert!((90..110).contains(&looks), "{looks}");
        spin.left.store(0, Ordering::Relaxed);
        assert!(answered(&spin, QUICK), "it is of use again");
        assert_eq!(
            [SLOW, QUICK, QUICK, QUICK].map(|took| answered(&spin, took)),
            [true, false, false, true],
            "and the account is new"
        );
    }

    #[test]
    fn nobody_looks_who_is_told_not_to() {
        let spin = Spin::new(Duration::ZERO);
        assert!((0..10).all(|_| !answered(&spin, Duration::ZERO)));
    }

    #[test]
    fn a_look_ends() {
        let (spin, made) = (Spin::new(USUAL), crate::pump::now());
        assert!(spin.goes_on(made, made));
        assert!(!spin.goes_on(made, made + USUAL));
    }
}
