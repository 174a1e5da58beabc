//! The table against a model that forgets nothing, and its bounds.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::HashMap;

use bytes::Bytes;
use parlour_wire::{Code, frame::ContentType};
use proptest::prelude::*;

use super::*;

fn answer(content: &[u8]) -> Result<Answer, Fault> {
    Ok(Answer { content_type: ContentType::CBOR, content: Bytes::copy_from_slice(content) })
}

fn origin(session: u8, number: u64) -> Origin {
    Origin { session: LinkSessionId([session; 16]), number }
}

fn key(n: u8) -> Option<PeerKey> {
    (n > 0).then_some(PeerKey([n; 32]))
}

#[derive(Clone, Debug)]
enum Step {
    Begin {
        peer: u8,
        session: u8,
        number: u64,
    },
    /// Finishes one of those that run.
    Finish {
        which: usize,
        size: usize,
    },
    GiveUp {
        which: usize,
    },
    Lost {
        peer: u8,
        session: u8,
        received: u64,
        running: BTreeSet<u64>,
    },
    Wait {
        seconds: u64,
    },
}

fn steps(peers: u8, sessions: u8, numbers: u64) -> impl Strategy<Value = Vec<Step>> {
    let number = 1..=numbers;
    let step = prop_oneof![
        6 => (0..peers, 0..sessions, number.clone()).prop_map(|(peer, session, number)| Step::Begin { peer, session, number }),
        4 => (any::<usize>(), 0_usize..400).prop_map(|(which, size)| Step::Finish { which, size }),
        1 => any::<usize>().prop_map(|which| Step::GiveUp { which }),
        1 => (0..peers, 0..sessions, number, proptest::collection::btree_set(1..=numbers, 0..4)).prop_map(
            |(peer, session, received, running)| {
                let running = running.into_iter().filter(|number| *number <= received).collect();
                Step::Lost { peer, session, received, running }
            }
        ),
        1 => (0_u64..4000).prop_map(|seconds| Step::Wait { seconds }),
    ];
    proptest::collection::vec(step, 0..200)
}

/// What happened to a request, by a memory without bounds.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Running,
    Done(Option<Result<Answer, Fault>>),
}

fn large() -> DedupeLimits {
    DedupeLimits { age: Duration::from_secs(u64::from(u32::MAX)), ..DedupeLimits::default() }
}

proptest! {
    #[test]
    fn within_its_bounds_the_table_forgets_nothing(steps in steps(3, 3, 20)) {
        let (mut table, mut now) = (Dedupe::new(large()), Instant::now());
        let mut model: HashMap<(u8, u8, u64), Fate> = HashMap::new();
        let mut running: Vec<(u8, u8, u64)> = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Begin { peer, session, number } => {
                    let expected = match model.get(&(peer, session, number)) {
                        None => Verdict::Run,
                        Some(Fate::Running) => Verdict::Running,
                        Some(Fate::Done(Some(result))) => Verdict::Done(result.clone()),
                        Some(Fate::Done(None)) => Verdict::Forgotten,
                    };
                    if expected == Verdict::Run {
                        model.insert((peer, session, number), Fate::Running);
                        running.push((peer, session, number));
                    }
                    prop_assert_eq!(table.begin(key(peer), origin(session, number), now), expected);
                }
                Step::Finish { which, .. } if !running.is_empty() => {
                    let (peer, session, number) = running.swap_remove(which % running.len());
                    let result = answer(&at.to_be_bytes());
                    model.insert((peer, session, number), Fate::Done(Some(result.clone())));
                    table.finish(key(peer), origin(session, number), result, now);
                }
                Step::GiveUp { which } if !running.is_empty() => {
                    let (peer, session, number) = running.swap_remove(which % running.len());
                    model.insert((peer, session, number), Fate::Done(None));
                    table.give_up(key(peer), origin(session, number));
                }
                Step::Lost { peer, session, received, running: still } => {
                    // A session is lost once, and nobody has named it as an origin before.
                    if model.keys().any(|(p, s, _)| (*p, *s) == (peer, session)) {
                        continue;
                    }
                    let kept: Vec<_> = (1..=received)
                        .filter(|number| !still.contains(number) && number % 3 == 0)
                        .map(|number| (number, answer(&number.to_be_bytes())))
                        .collect();
                    for number in 1..=received {
                        let found = kept.iter().find(|(kept, _)| *kept == number).map(|(_, result)| result.clone());
                        let fate = if still.contains(&number) { Fate::Running } else { Fate::Done(found) };
                        model.insert((peer, session, number), fate);
                    }
                    running.extend(still.iter().map(|number| (peer, session, *number)));
                    table.lost(key(peer), (LinkSessionId([session; 16]), received), kept, &still, now);
                }
                Step::Wait { seconds } => now += Duration::from_secs(seconds),
                Step::Finish { .. } | Step::GiveUp { .. } => {}
            }
        }
    }

    #[test]
    fn the_bounds_hold_and_what_runs_is_never_run_again(steps in steps(6, 6, 2000)) {
        let limits = DedupeLimits {
            peers: 3, origins: 2, answers: 4, peer_bytes: 2000, bytes: 4000, age: Duration::from_secs(3600),
        };
        let (mut table, mut now) = (Dedupe::new(limits), Instant::now());
        let mut running: Vec<(u8, u8, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Begin { peer, session, number }
                    if table.begin(key(peer), origin(session, number), now) == Verdict::Run => {
                        running.push((peer, session, number));
                    }
                Step::Finish { which, size } if !running.is_empty() => {
                    let (peer, session, number) = running.swap_remove(which % running.len());
                    table.finish(key(peer), origin(session, number), answer(&vec![0; size]), now);
                }
                Step::GiveUp { which } if !running.is_empty() => {
                    let (peer, session, number) = running.swap_remove(which % running.len());
                    table.give_up(key(peer), origin(session, number));
                }
                Step::Wait { seconds } => now += Duration::from_secs(seconds),
                _ => {}
            }
            prop_assert!(table.peers.len() <= limits.peers && table.bytes <= limits.bytes);
            let mut bytes = 0;
            for ledger in table.peers.values() {
                let kept: usize = ledger.origins.values().map(|book| book.answers.len()).sum();
                let answers: usize = ledger.origins.values().flat_map(|book| book.answers.values()).map(size_of_result).sum();
                let runs: usize = ledger.origins.values().map(|book| book.done.runs.len()).sum();
                let size = answers + 48 * runs + 256 * ledger.origins.len();
                prop_assert_eq!((ledger.answers, ledger.bytes), (kept, size));
                prop_assert!(ledger.origins.len() <= limits.origins && kept <= limits.answers && size <= limits.peer_bytes);
                prop_assert!(ledger.order.len() >= kept && ledger.order.len() <= kept + limits.answers);
                prop_assert!(ledger.origins.values().all(|book| book.done.runs.len() <= RUNS));
                bytes += size;
            }
            prop_assert_eq!(table.bytes, bytes);
        }
    }

    #[test]
    fn runs_are_a_set(inserted in proptest::collection::vec((1_u64..200, 0_u64..9), 0..60)) {
        let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
        for (first, more) in inserted {
            runs.insert(first, first + more);
            set.extend(first..=first + more);
        }
        for number in 0..220 {
            prop_assert_eq!(runs.contains(number), set.contains(&number), "{}", number);
        }
        let apart = runs.runs.iter().zip(runs.runs.iter().skip(1)).all(|((_, last), (first, _))| last + 1 < *first);
        prop_assert!(apart, "{:?}", runs);
    }
}

#[test]
fn a_peer_that_counts_in_leaps_takes_no_more_memory_than_another() {
    let (mut table, now) = (Dedupe::new(large()), Instant::now());
    let limits = DedupeLimits::default();
    for peer in 1..=30 {
        for session in 0..64 {
            for number in (1..=2001).step_by(2) {
                if table.begin(key(peer), origin(session, number), now) == Verdict::Run {
                    table.give_up(key(peer), origin(session, number));
                }
            }
        }
    }
    let books = table.peers.values().flat_map(|ledger| ledger.origins.values());
    let (count, runs) = books.fold((0, 0), |(count, runs), book| (count + 1, runs + book.done.runs.len()));
    assert!(256 * count + 48 * runs <= limits.bytes, "{count} books with {runs} runs");
    // What has been here is not carried out again, however much was to be remembered.
    assert_eq!(table.begin(key(30), origin(63, 1), now), Verdict::Forgotten);
    assert_eq!(table.begin(key(30), origin(63, 2001), now), Verdict::Forgotten);
}

#[test]
fn an_answer_that_fell_out_is_not_computed_again() {
    let now = Instant::now();
    let mut table = Dedupe::new(DedupeLimits { answers: 2, ..large() });
    for number in 1..=3 {
        assert_eq!(table.begin(key(1), origin(1, number), now), Verdict::Run);
        table.finish(key(1), origin(1, number), answer(&[7]), now);
    }
    assert_eq!(table.begin(key(1), origin(1, 1), now), Verdict::Forgotten);
    assert_eq!(table.begin(key(1), origin(1, 3), now), Verdict::Done(answer(&[7])));
}

#[test]
fn a_fault_is_an_answer_too() {
    let now = Instant::now();
    let mut table = Dedupe::new(large());
    let fault = || Err(Fault::new(Code::QUOTA, "enough"));
    assert_eq!(table.begin(None, origin(1, 1), now), Verdict::Run);
    table.finish(None, origin(1, 1), fault(), now);
    assert_eq!(table.begin(None, origin(1, 1), now), Verdict::Done(fault()));
}

#[test]
fn peers_do_not_share_origins() {
    let now = Instant::now();
    let mut table = Dedupe::new(large());
    assert_eq!(table.begin(key(1), origin(1, 1), now), Verdict::Run);
    assert_eq!(table.begin(key(2), origin(1, 1), now), Verdict::Run);
    assert_eq!(table.begin(None, origin(1, 1), now), Verdict::Run);
}

#[test]
fn a_session_is_forgotten_when_it_is_old_and_nothing_of_it_runs() {
    let now = Instant::now();
    let mut table = Dedupe::new(DedupeLimits { age: Duration::from_secs(60), ..large() });
    assert_eq!(table.begin(key(1), origin(1, 1), now), Verdict::Run);
    assert_eq!(table.begin(key(1), origin(2, 1), now), Verdict::Run);
    table.finish(key(1), origin(1, 1), answer(&[1]), now);
    let later = now + Duration::from_secs(61);
    assert_eq!(table.begin(key(1), origin(3, 1), later), Verdict::Run);
    assert_eq!(table.begin(key(1), origin(1, 1), later), Verdict::Run, "forgotten");
    assert_eq!(table.begin(key(1), origin(2, 1), later), Verdict::Running, "it runs, however long");
}

#[test]
fn a_message_of_a_queue_that_is_put_off_runs_when_it_comes_again() {
    let (mut table, now) = (Dedupe::new(large()), Instant::now());
    let queue = Origin { session: LinkSessionId(*b"PLQ1 of somebody"), number: 1 };
    for _ in 0..3 {
        assert_eq!(table.begin(key(1), queue, now), Verdict::Run);
        table.finish(key(1), queue, Err(Fault::new(Code::OVERLOADED, "later")), now);
    }
}

#[test]
fn a_request_of_a_link_whose_handler_has_failed_is_answered_with_that_whatever_it_says() {
    let (mut table, now) = (Dedupe::new(large()), Instant::now());
    let codes =
        [Code::OVERLOADED, Code::TIMED_OUT, Code::LINK_LOST, Code::DISK_FULL, Code::CANCELLED, Code::STOPPING, Code::FORBIDDEN];
    let faults = codes.map(|code| Err(Fault::new(code, "later")));
    for (number, fault) in (1..).zip(faults.clone()) {
        assert_eq!(table.begin(key(1), origin(1, number), now), Verdict::Run);
        table.finish(key(1), origin(1, number), fault.clone(), now);
        assert_eq!(table.begin(key(1), origin(1, number), now), Verdict::Done(fault));
    }
    let (session, received) = (LinkSessionId([2; 16]), u64::try_from(faults.len()).unwrap());
    table.lost(key(1), (session, received), (1..).zip(faults.clone()).collect(), &BTreeSet::new(), now);
    for (number, fault) in (1..).zip(faults) {
        assert_eq!(table.begin(key(1), origin(2, number), now), Verdict::Done(fault));
    }
}

#[test]
fn a_request_whose_handler_never_began_runs_when_it_comes_again() {
    let (mut table, now) = (Dedupe::new(large()), Instant::now());
    for refusal in [stopping(), unauthenticated()] {
        assert_eq!(table.begin(key(1), origin(1, 1), now), Verdict::Run);
        table.finish(key(1), origin(1, 1), Err(refusal.clone()), now);
        let answers = vec![(1, answer(b"one")), (2, Err(refusal.clone()))];
        table.lost(key(1), (LinkSessionId([2; 16]), 2), answers, &BTreeSet::new(), now);
        assert_eq!(table.begin(key(1), origin(2, 1), now), Verdict::Done(answer(b"one")));
        assert_eq!(table.begin(key(1), origin(2, 2), now), Verdict::Run, "{refusal:?}");
        table = Dedupe::new(large());
    }
}

#[test]
fn a_durable_queue_does_not_grow_old() {
    let (mut table, start) = (Dedupe::new(DedupeLimits::default()), Instant::now());
    let queue = Origin { session: LinkSessionId(*b"PLQ1 of somebody"), number: 1 };
    for origin in [queue, origin(1, 1)] {
        assert_eq!(table.begin(key(1), origin, start), Verdict::Run);
        table.finish(key(1), origin, answer(b"once"), start);
    }
    let later = start + Duration::from_secs(1_000_000);
    // Somebody else makes the table look at what is old, and then another session of the same peer.
    table.begin(key(2), origin(1, 1), later);
    table.begin(key(1), origin(2, 1), later);
    assert_eq!(table.begin(key(1), queue, later), Verdict::Done(answer(b"once")));
    assert_eq!(table.begin(key(1), origin(1, 1), later), Verdict::Run);
}

#[test]
fn what_was_given_up_of_a_durable_queue_is_carried_out_again_and_of_a_session_not() {
    let (mut table, now) = (Dedupe::new(large()), Instant::now());
    let queue = Origin { session: LinkSessionId(*b"PLQ1 of somebody"), number: 1 };
    for (origin, then) in [(queue, Verdict::Run), (origin(1, 1), Verdict::Forgotten)] {
        assert_eq!(table.begin(key(1), origin, now), Verdict::Run);
        table.give_up(key(1), origin);
        assert_eq!(table.begin(key(1), origin, now), then);
    }
}
