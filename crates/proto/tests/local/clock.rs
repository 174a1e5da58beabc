//! The clock estimate against simulated clocks and networks, and against peers that lie.

use parlour_proto::clock::{BadSample, Estimator, Sample};
use proptest::prelude::*;

/// A peer's clock in picoseconds of true time, so that rounding to microseconds is part of the simulation.
#[derive(Clone, Copy, Debug)]
struct PeerClock {
    offset_us: i64,
    drift_ppm: i32,
}

const PS: i128 = 1_000_000;

impl PeerClock {
    /// The exact offset at `own_ps`, in picoseconds.
    fn offset_ps(&self, own_ps: i128) -> i128 {
        i128::from(self.offset_us) * PS + own_ps * i128::from(self.drift_ppm) / 1_000_000
    }

    fn read(&self, own_ps: i128) -> u64 {
        us(own_ps + self.offset_ps(own_ps))
    }
}

fn us(ps: i128) -> u64 {
    u64::try_from(ps.div_euclid(PS)).unwrap()
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    pause_ps: u64,
    there_ps: u64,
    held_ps: u64,
    back_ps: u64,
}

fn exchange() -> impl Strategy<Value = Exchange> {
    // From a loopback to a bad satellite, each way on its own.
    let way = || prop_oneof![0u64..1_000_000, 0u64..1_000_000_000_000, 0u64..10_000_000_000_000];
    (0u64..60_000_000_000_000, way(), way(), way()).prop_map(|(pause_ps, there_ps, held_ps, back_ps)| Exchange {
        pause_ps,
        there_ps,
        held_ps,
        back_ps,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_true_offset_is_always_within_the_bound(
        offset_us in -1_000_000_000_000_000i64..1_000_000_000_000_000,
        drift_ppm in -100i32..=100,
        exchanges in proptest::collection::vec(exchange(), 1..20),
        later_ps in 0u64..3_600_000_000_000_000,
    ) {
        let peer = PeerClock { offset_us, drift_ppm };
        let mut estimator = Estimator::new(100);
        let mut now_ps = 2_000_000_000_000_000i128 * PS;
        for exchange in exchanges {
            now_ps += i128::from(exchange.pause_ps);
            let asked_us = us(now_ps);
            now_ps += i128::from(exchange.there_ps);
            let received_us = peer.read(now_ps);
            now_ps += i128::from(exchange.held_ps);
            let answered_us = peer.read(now_ps);
            now_ps += i128::from(exchange.back_ps);
            let sample = Sample { asked_us, received_us, answered_us, heard_us: us(now_ps) };
            estimator.add(sample).expect("clocks within the bounds");
        }
        for at_ps in [now_ps, now_ps + i128::from(later_ps)] {
            let estimate = estimator.estimate(us(at_ps)).unwrap();
            let off_ps = (i128::from(estimate.offset_us) * PS - peer.offset_ps(at_ps)).abs();
            prop_assert!(off_ps <= i128::from(estimate.error_us(us(at_ps))) * PS, "{off_ps} ps off, {estimate:?}");
        }
    }

    #[test]
    fn whatever_a_peer_says_is_judged_without_panic(stamps in any::<[u64; 4]>(), now in any::<u64>(), drift in any::<u32>()) {
        let mut estimator = Estimator::new(drift);
        let [asked_us, received_us, answered_us, heard_us] = stamps;
        let taken = estimator.add(Sample { asked_us, received_us, answered_us, heard_us });
        prop_assert_eq!(taken.is_ok(), estimator.estimate(now).is_some());
        if let Some(estimate) = estimator.estimate(now) {
            let _ = (estimate.own_us(received_us), estimate.peer_us(asked_us), estimate.error_us(now));
        }
    }
}

const SECOND: u64 = 1_000_000;

/// A sample of a clock that is `ahead_us` ahead, asked at `at_us`, with `way_us` for each way.
fn sample(at_us: u64, ahead_us: u64, way_us: u64) -> Sample {
    let there = at_us + way_us;
    Sample { asked_us: at_us, received_us: there + ahead_us, answered_us: there + ahead_us, heard_us: there + way_us }
}

#[test]
fn a_peer_that_answers_before_it_is_asked_is_refused() {
    let good = sample(SECOND, 5, 100);
    let mut estimator = Estimator::default();
    let refuse = |estimator: &mut Estimator, sample| estimator.add(sample).unwrap_err();
    assert_eq!(refuse(&mut estimator, Sample { answered_us: good.received_us - 1, ..good }), BadSample::PeerBackwards);
    assert_eq!(refuse(&mut estimator, Sample { heard_us: good.asked_us - 1, ..good }), BadSample::OwnBackwards);
    assert_eq!(refuse(&mut estimator, Sample { answered_us: good.received_us + SECOND, ..good }), BadSample::Impossible);
    assert_eq!(refuse(&mut estimator, Sample { answered_us: u64::MAX, ..good }), BadSample::OutOfRange);
    assert_eq!(estimator.estimate(SECOND), None, "nothing of it was kept");
}

#[test]
fn the_sample_with_the_shortest_trip_wins_until_it_is_too_old() {
    let mut estimator = Estimator::default();
    let short = estimator.add(sample(SECOND, 1_000, 50)).unwrap();
    let long = estimator.add(sample(2 * SECOND, 1_000, 2_000)).unwrap();
    assert!(short.error_us(2 * SECOND) < long.error_us(2 * SECOND));
    assert_eq!(estimator.estimate(3 * SECOND).unwrap().taken_us, short.taken_us);
    // At 100 µs a second, 2 ms of a trip are worth 20 seconds of age.
    let late = estimator.add(sample(60 * SECOND, 1_000, 2_000)).unwrap();
    assert_eq!(estimator.estimate(60 * SECOND).unwrap().taken_us, late.taken_us);
}

#[test]
fn an_estimate_grows_worse_as_the_clocks_may_drift() {
    let mut estimator = Estimator::default();
    let fresh = estimator.add(sample(SECOND, 0, 50)).unwrap();
    let error = fresh.error_us(fresh.taken_us);
    assert_eq!(fresh.error_us(fresh.taken_us + 1000 * SECOND), error + 100_000);
    assert_eq!(fresh.error_us(0), error, "earlier than it was taken, it is as good as then");
}

#[test]
fn a_clock_that_was_stepped_is_noticed_by_its_next_sample() {
    let mut estimator = Estimator::default();
    estimator.add(sample(SECOND, 1_000, 50)).unwrap();
    estimator.add(sample(2 * SECOND, 30 * SECOND, 5_000)).unwrap();
    let estimate = estimator.estimate(2 * SECOND).unwrap();
    assert_eq!(estimate.offset_us, 30_000_000, "the sharper sample from before the step is gone");
}

#[test]
fn only_the_last_samples_are_kept() {
    let mut estimator = Estimator::default();
    estimator.add(sample(SECOND, 0, 10)).unwrap();
    for n in 2..=9 {
        estimator.add(sample(n * SECOND, 0, 1_000)).unwrap();
    }
    assert!(estimator.estimate(9 * SECOND).unwrap().taken_us > 2 * SECOND);
}

#[test]
fn times_are_carried_from_one_clock_to_the_other() {
    let mut estimator = Estimator::default();
    estimator.add(sample(SECOND, 7 * SECOND, 0)).unwrap();
    let estimate = estimator.estimate(SECOND).unwrap();
    assert_eq!((estimate.own_us(10 * SECOND), estimate.peer_us(3 * SECOND)), (Some(3 * SECOND), Some(10 * SECOND)));
    assert_eq!(estimate.own_us(6 * SECOND), None, "before our epoch");
}
