//! What the fuzzers have found interesting, through the same body, and a short run with random changes to it: `fuzz/README.md` says
//! how it gets here.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "tests, and the body is shared")]

#[path = "../../../fuzz/bodies/engine.rs"]
mod engine;
#[path = "../../../fuzz/random.rs"]
mod random;
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn the_corpus_of_the_engine_holds() {
    replay::replay("engine", engine::run);
}

#[test]
fn changed_input_of_the_engine_holds() {
    random::change("engine", engine::run);
}

/// Not only the corpus: something real of every kind with each of its first bytes flipped.
#[test]
fn no_flipped_bit_of_anything_real_makes_the_engine_panic() {
    for way in 21..27_u8 {
        for place in (0..600_u16).step_by(7) {
            let [high, low] = place.to_be_bytes();
            engine::run(&[way, high, low, 1 << (place % 8)]);
        }
    }
}
