//! What the fuzzers have found interesting, through the same bodies, and a short run with random changes to it: `fuzz/README.md`
//! says how it gets here.
#![allow(clippy::unwrap_used, reason = "tests")]

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
    args from "../../../../fuzz/bodies/args.rs": the_corpus_of_arguments_holds, changed_arguments_hold;
    certificate from "../../../../fuzz/bodies/certificate.rs": the_corpus_of_certificates_holds, changed_certificates_hold;
    clock from "../../../../fuzz/bodies/clock.rs": the_corpus_of_times_holds, changed_times_hold;
    fleet from "../../../../fuzz/bodies/fleet.rs": the_corpus_of_proofs_holds, changed_proofs_hold;
    log from "../../../../fuzz/bodies/log.rs": the_corpus_of_logs_holds, changed_logs_hold;
    quic from "../../../../fuzz/bodies/quic.rs": the_corpus_of_quic_streams_holds, changed_quic_streams_hold;
    websocket from "../../../../fuzz/bodies/websocket.rs": the_corpus_of_websockets_holds, changed_websockets_hold;
}
