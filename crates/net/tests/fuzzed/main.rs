//! What the fuzzers have found interesting, through the same bodies, and a short run with random changes to it: `fuzz/README.md`
//! says how it gets here.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

#[path = "../../../../fuzz/random.rs"]
mod random;
#[path = "../../../../fuzz/replay.rs"]
mod replay;

macro_rules! corpus {
    ($($body:ident from $path:literal: $test:ident, $changed:ident;)*) => {
        $(
            #[path = $path]
            mod $body;

            #[test]
            fn $test() {
                replay::replay(stringify!($body), $body::run);
            }

            #[test]
            fn $changed() {
                random::change(stringify!($body), $body::run);
            }
        )*
    };
}

corpus! {
    answer from "../../../../fuzz/bodies/answer.rs": the_corpus_of_answers_to_upgrades_holds, changed_answers_to_upgrades_hold;
    args from "../../../../fuzz/bodies/args.rs": the_corpus_of_arguments_holds, changed_arguments_hold;
    certificate from "../../../../fuzz/bodies/certificate.rs": the_corpus_of_certificates_holds, changed_certificates_hold;
    clock from "../../../../fuzz/bodies/clock.rs": the_corpus_of_times_holds, changed_times_hold;
    fleet from "../../../../fuzz/bodies/fleet.rs": the_corpus_of_proofs_holds, changed_proofs_hold;
    log from "../../../../fuzz/bodies/log.rs": the_corpus_of_logs_holds, changed_logs_hold;
    websocket from "../../../../fuzz/bodies/websocket.rs": the_corpus_of_websockets_holds, changed_websockets_hold;
}

#[test]
fn of_the_corpus_of_answers_those_agree_that_say_so() {
    let answered = |file: &PathBuf| parlour_net::fuzzing::answered(usize::MAX, &std::fs::read(file).unwrap()[1..]);
    let said = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().starts_with("agreed");
    let wrong: Vec<_> = replay::files("answer").into_iter().filter(|file| answered(file).is_ok() != said(file)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[cfg(feature = "iroh")]
corpus! {
    quic from "../../../../fuzz/bodies/quic.rs": the_corpus_of_quic_streams_holds, changed_quic_streams_hold;
}
