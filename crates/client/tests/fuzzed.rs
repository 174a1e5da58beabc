//! What the fuzzers have found interesting, through the same bodies: `fuzz/README.md` says how it gets here.

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
