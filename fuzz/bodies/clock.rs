//! What a peer says about its time: whatever the answers are, an estimate holds what an honest peer can have meant, and no time that a
//! peer names makes anything panic.

use std::time::{Duration, Instant};

use parlour_net::{
    clock::{Clock, ClockEstimate},
    fuzzing::{peer_clock, wait},
};

/// Takes a number of so many bytes from the front; what is missing is zero.
fn number(data: &mut &[u8], bytes: usize) -> u64 {
    let (taken, rest) = data.split_at(bytes.min(data.len()));
    *data = rest;
    taken.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The times of the peer in an answer, which this body has made itself.
type Times = (u64, u64);

/// A question: when it left and when the answer was there, by our clock, and the answer, with its times if it is one.
struct Asked {
    left_us: u64,
    heard_us: u64,
    answer: Vec<u8>,
    times: Option<Times>,
}

fn asked(data: &mut &[u8], start_us: u64) -> Asked {
    let way = number(data, 1);
    let left_us = start_us.saturating_add(number(data, 3) << (way & 7));
    let heard_us = left_us.saturating_add(number(data, 3));
    if way & 128 == 0 {
        // About right, as far as two signed numbers say.
        let (there, held) = (number(data, 4), number(data, 2));
        let received = (if way & 64 == 0 { left_us.wrapping_add(there) } else { left_us.wrapping_sub(there) }, held);
        let times = (received.0, received.0.wrapping_add(received.1));
        let answer = [&[0x82, 0x1b][..], &times.0.to_be_bytes(), &[0x1b], &times.1.to_be_bytes()].concat();
        return Asked { left_us, heard_us, answer, times: Some(times) };
    }
    let (answer, rest) = data.split_at(usize::from(way as u8 & 63).min(data.len()));
    *data = rest;
    Asked { left_us, heard_us, answer: answer.to_vec(), times: None }
}

/// The true offset of an honest peer is between these two, so neither is further away than the error.
fn holds(estimate: &ClockEstimate, asked: &Asked, (received_us, answered_us): Times, clock: &Clock) {
    let Some(heard) = clock.instant_at(asked.heard_us) else { return };
    assert_eq!(estimate.taken(), Some(heard));
    let error = estimate.error_at(heard).as_micros();
    for bound in [i128::from(received_us) - i128::from(asked.left_us), i128::from(answered_us) - i128::from(asked.heard_us)] {
        let apart = (bound - i128::from(estimate.offset_us())).unsigned_abs();
        assert!(apart <= error, "{apart} µs away, and an error of {error} µs");
    }
    if let Some(later) = heard.checked_add(Duration::from_secs(1000)) {
        assert!(estimate.error_at(later) > estimate.error_at(heard), "clocks drift apart");
    }
}

pub(crate) fn run(mut data: &[u8]) {
    let data = &mut data;
    #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning; everything after it is counted")]
    let start = Instant::now();
    let settings = number(data, 1);
    let start_us = number(data, 8) >> (settings & 63);
    let peer_us = number(data, 8) >> (settings & 63);
    let clock = Clock::showing(start_us, start);
    let questions: Vec<Asked> = (0..12).take_while(|_| !data.is_empty()).map(|_| asked(&mut *data, start_us)).collect();
    let answers: Vec<_> = questions.iter().map(|asked| (asked.left_us, &asked.answer[..], asked.heard_us)).collect();
    let now_us = questions.last().map_or(start_us, |asked| asked.heard_us);
    let (each, best) = peer_clock(clock, &answers, now_us);
    for (estimate, asked) in each.iter().zip(&questions) {
        if let (Some(estimate), Some(times)) = (estimate, asked.times) {
            holds(estimate, asked, times, &clock);
        }
    }
    assert_eq!(best.is_some(), each.iter().any(Option::is_some));
    let Some(best) = best else { return };
    assert!(each.contains(&Some(best)), "the best is one of them");
    if let (Some(now), Some(last)) = (clock.instant_at(now_us), each.iter().flatten().last()) {
        assert!(best.error_at(now) <= last.error_at(now));
    }
    if let Some(instant) = best.local_instant(peer_us) {
        assert_eq!(best.peer_us(instant), Some(peer_us));
    }
    let _ = wait(&best, peer_us);
}
