//! What a peer says about its time, for the fuzz target `clock`.

use std::{
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use parlour_proto::clock::Estimator;

use super::{Clock, ClockEstimate, take_in};

/// The clock of a peer that gave these answers to questions which left and were answered at these times of `clock`: for each what
/// it said on its own, if it can be true; and the best of all, when `clock` shows `now_us`.
#[must_use]
pub fn peer_clock(
    clock: Clock,
    answers: &[(u64, &[u8], u64)],
    now_us: u64,
) -> (Vec<Option<ClockEstimate>>, Option<ClockEstimate>) {
    let mut estimator = Estimator::default();
    let estimate = |estimate| ClockEstimate { clock, estimate };
    let each = answers
        .iter()
        .map(|&(asked_us, answer, heard_us)| take_in(&mut estimator, asked_us, answer, heard_us).ok().map(estimate))
        .collect();
    (each, estimator.estimate(now_us).map(estimate))
}

/// Begins to wait for a time of the peer, as an agent does that was told one: `None` if it has to wait, otherwise how much too late
/// it is.
#[must_use]
pub fn wait(estimate: &ClockEstimate, peer_us: u64) -> Option<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _inside = runtime.enter();
    let mut waiting = pin!(estimate.at(peer_us));
    match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(Ok(due)) => Some(due.late),
        std::task::Poll::Ready(Err(late)) => Some(late.by),
        std::task::Poll::Pending => None,
    }
}
