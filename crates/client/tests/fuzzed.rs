//! What the fuzzers have found interesting, through the same bodies, and a short run with random changes to it: `fuzz/README.md`
//! says how it gets here.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../../fuzz/random.rs"]
mod random;
#[path = "../../../fuzz/bodies/records.rs"]
mod records;
#[path = "../../../fuzz/replay.rs"]
mod replay;
#[path = "../../../fuzz/bodies/text.rs"]
mod text;

#[test]
fn the_corpus_of_records_holds() {
    replay::replay("records", records::run);
}

#[test]
fn the_corpus_of_texts_holds() {
    replay::replay("text", text::run);
}

#[test]
fn changed_records_hold() {
    random::change("records", records::run);
}

#[test]
fn changed_texts_hold() {
    random::change("text", text::run);
}
