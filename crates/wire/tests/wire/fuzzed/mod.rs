//! What the fuzzers have found interesting, and the golden vectors, through the same bodies: `fuzz/README.md` says how it gets here.

macro_rules! corpus {
    ($($body:ident from $path:literal: $test:ident;)*) => {
        #[path = "../../../../../fuzz/replay.rs"]
        mod replay;
        $(
            #[path = $path]
            mod $body;

            #[test]
            fn $test() {
                replay::replay(stringify!($body), $body::run);
            }
        )*
    };
}

corpus! {
    announce from "../../../../../fuzz/bodies/announce.rs": the_corpus_of_announcements_holds;
    compress from "../../../../../fuzz/bodies/compress.rs": the_corpus_of_compressed_content_holds;
    content from "../../../../../fuzz/bodies/content.rs": the_corpus_of_contents_holds;
    files from "../../../../../fuzz/bodies/files.rs": the_corpus_of_file_transfers_holds;
    frames from "../../../../../fuzz/bodies/frames.rs": the_corpus_of_frames_holds;
    identity from "../../../../../fuzz/bodies/identity.rs": the_corpus_of_identities_holds;
    messages from "../../../../../fuzz/bodies/messages.rs": the_corpus_of_messages_holds;
}
