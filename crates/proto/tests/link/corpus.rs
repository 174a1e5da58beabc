//! The seeds of the fuzz target `link`: written by `UPDATE_CORPUS=1`, replayed always.

use std::{collections::BTreeSet, fs, path::PathBuf};

use parlour_wire::Kind;
use proptest::prelude::*;

use crate::bytes::{COMMANDS, Seen, op, run, setting};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/link")
}

/// A script for the machine.
#[derive(Clone)]
struct Script(Vec<u8>);

const ACT: u8 = 0;
const ASK: u8 = 1;
const ANSWER: u8 = 2;
const PROGRESS: u8 = 3;
const CANCEL: u8 = 4;
const SINK: u8 = 5;
const GRANT: u8 = 6;
const STOP: u8 = 7;
const SOURCE: u8 = 8;
const DATA: u8 = 9;
const FINISH: u8 = 10;
const ABORT: u8 = 11;
const CLOSE: u8 = 12;

impl Script {
    /// A link that is up.
    fn up(settings: u8) -> Self {
        let greeting = if settings & setting::SERVER != 0 { Kind::HELLO } else { Kind::WELCOME };
        Self(vec![settings, op::CONNECTED]).leave(4).good(greeting, 0).leave(4)
    }

    fn good(mut self, kind: Kind, argument: u8) -> Self {
        self.0.extend([op::GOOD, kind.0, argument]);
        self
    }

    fn command(mut self, which: u8, argument: u8) -> Self {
        assert!(which < COMMANDS);
        self.0.extend([op::COMMAND, which, argument]);
        self
    }

    fn leave(mut self, count: u8) -> Self {
        self.0.extend([op::TRANSMIT, count]);
        self
    }

    fn hold(mut self, on: u8) -> Self {
        self.0.extend([op::HOLD, on]);
        self
    }

    fn op(mut self, op: u8) -> Self {
        self.0.push(op);
        self
    }

    fn frame(mut self, kind: u8, flags: u8, seq: u8, header: &[u8], content: &[u8]) -> Self {
        self.0.extend([op::FRAME, kind, flags, seq, 1, u8::try_from(header.len()).unwrap()]);
        self.0.extend_from_slice(header);
        self.0.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        self.0.extend_from_slice(content);
        self
    }

    fn pass(mut self, ms: u16) -> Self {
        self.0.push(op::PASS);
        self.0.extend(ms.to_be_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.push(op::RAW);
        self.0.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }
}

/// Every header that is pinned, by its kind, in a frame of its own.
fn pinned() -> Vec<(String, Script)> {
    let vectors = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/vectors");
    let read = |name: &str| {
        let text = fs::read_to_string(vectors.join(format!("{name}.hex"))).unwrap();
        let digits = text.trim().as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect::<Vec<u8>>()
    };
    let mut all = Vec::new();
    for (name, kind, settings) in
        [("hello", Kind::HELLO, setting::SERVER), ("resume", Kind::RESUME, setting::SERVER), ("welcome", Kind::WELCOME, 0)]
    {
        let script = Script(vec![settings, op::CONNECTED]).frame(kind.0, 0, 0, &read(&format!("header.{name}")), &[]).leave(9);
        all.push((format!("pinned-{name}"), script));
    }
    for (name, kind) in [
        ("action", Kind::ACTION),
        ("request", Kind::REQUEST),
        ("request.again", Kind::REQUEST),
        ("fault", Kind::ERROR),
        ("progress", Kind::PROGRESS),
        ("credit", Kind::STREAM_CREDIT),
        ("credit.stop", Kind::STREAM_CREDIT),
    ] {
        let seq = u8::from(kind.is_sequenced());
        let script = Script::up(setting::SERVER).command(ASK, 4).command(SOURCE, 1);
        all.push((format!("pinned-{name}"), script.frame(kind.0, 0, seq, &read(&format!("header.{name}")), b"content").leave(9)));
    }
    all.push(("pinned-frame".into(), Script::up(setting::SERVER).raw(&read("frame.request")).command(ANSWER, 0).leave(9)));
    all
}

fn stories() -> Vec<(&'static str, Script)> {
    use setting::{COMPRESSION, KEEP_ALIVE, REMAINS, RESEND, SERVER, SHORT_GRACE, SMALL};
    let both =
        |settings| Script::up(settings).command(ACT, 3).command(ASK, 8).leave(9).good(Kind::ACTION, 1).good(Kind::REQUEST, 2);
    vec![
        (
            "client",
            both(0).command(ANSWER, 0).leave(9).good(Kind::RESPONSE, 1).op(op::DEADLINE).leave(9).command(CLOSE, 1).leave(9),
        ),
        ("server", both(SERVER).command(PROGRESS, 0).command(ANSWER, 128).leave(9).good(Kind::ERROR, 1).good(Kind::CLOSE, 0)),
        (
            "resume",
            both(SERVER)
                .op(op::LOST)
                .op(op::CONNECTED)
                .good(Kind::RESUME, 1)
                .leave(9)
                .good(Kind::ACK, 9)
                .good(Kind::PING, 3)
                .leave(9),
        ),
        ("resumed", both(0).op(op::LOST).op(op::CONNECTED).leave(1).good(Kind::WELCOME, 64).leave(9).good(Kind::ACK, 9)),
        ("fresh", both(RESEND).op(op::LOST).command(ASK, 5).op(op::CONNECTED).leave(1).good(Kind::WELCOME, 129).leave(9)),
        ("remains", both(SERVER | REMAINS).good(Kind::REQUEST, 3).command(ANSWER, 0).op(op::LOST).op(op::DEADLINE)),
        ("remains-client", both(REMAINS | RESEND).op(op::LOST).op(op::CONNECTED).good(Kind::WELCOME, 130).leave(9)),
        ("no-grace", both(SERVER | SHORT_GRACE).op(op::LOST).op(op::DEADLINE)),
        ("timeout", both(0).command(ASK, 9).leave(3).pass(100).leave(9)),
        ("cancel", both(0).command(CANCEL, 0).good(Kind::CANCEL, 2).leave(9)),
        (
            "silent",
            both(KEEP_ALIVE).op(op::DEADLINE).leave(1).op(op::DEADLINE).leave(1).op(op::DEADLINE).op(op::DEADLINE).leave(1),
        ),
        ("late", Script(vec![0, op::CONNECTED]).leave(1).pass(10_001).leave(1)),
        (
            "small",
            (0..8)
                .fold(Script::up(SERVER | SMALL), |script, n| script.command(ACT, n).good(Kind::REQUEST, 2 * n + 2))
                .leave(20)
                .good(Kind::ACK, 4),
        ),
        (
            "sink",
            Script::up(SERVER)
                .command(SINK, 249)
                .good(Kind::STREAM_DATA, 9)
                .command(GRANT, 41)
                .leave(1)
                .good(Kind::STREAM_DATA, 1)
                .good(Kind::STREAM_END, 1),
        ),
        (
            "sink-stopped",
            Script::up(0).command(SINK, 249).command(STOP, 1).good(Kind::STREAM_DATA, 1).leave(9).good(Kind::STREAM_END, 129),
        ),
        (
            "source",
            Script::up(SERVER).command(SOURCE, 249).command(DATA, 65).command(DATA, 1).leave(1).command(FINISH, 1).leave(9),
        ),
        (
            "source-credit",
            Script::up(0)
                .command(SOURCE, 1)
                .command(DATA, 1)
                .good(Kind::STREAM_CREDIT, 1)
                .command(DATA, 1)
                .leave(2)
                .good(Kind::STREAM_CREDIT, 129),
        ),
        (
            "source-lost",
            Script::up(SERVER).command(SOURCE, 249).command(DATA, 65).command(ABORT, 1).command(SOURCE, 250).op(op::LOST),
        ),
        (
            "turns",
            (0..8)
                .fold(Script::up(0), |script, n| script.command(SOURCE, 248 + n).command(DATA, 248 + n).command(ACT, n))
                .leave(30),
        ),
        ("held", Script::up(0).command(SOURCE, 249).command(DATA, 1).hold(1).command(ACT, 1).leave(9).hold(0).leave(9)),
        (
            "held-peer",
            Script::up(SERVER)
                .hold(2)
                .leave(1)
                .good(Kind::HOLD, 1)
                .command(ACT, 1)
                .command(ASK, 1)
                .good(Kind::HOLD, 0)
                .command(ASK, 1)
                .hold(0)
                .leave(9),
        ),
        ("over-credit", Script::up(SERVER).command(SINK, 1).good(Kind::STREAM_DATA, 9).leave(9)),
        (
            "unknown-stream",
            Script::up(SERVER).good(Kind::STREAM_DATA, 7).good(Kind::STREAM_CREDIT, 7).good(Kind::STREAM_END, 7).leave(9),
        ),
        (
            "compressed",
            Script::up(SERVER | COMPRESSION)
                .good(Kind::ACTION, 17)
                .good(Kind::REQUEST, 34)
                .good(Kind::ACTION, 51)
                .good(Kind::ACTION, 66)
                .command(ACT, 200)
                .leave(9),
        ),
        ("not-offered", Script::up(SERVER).good(Kind::ACTION, 17).leave(9)),
        ("broken-zstd", Script::up(COMPRESSION).frame(4, 1, 1, &[0xa1, 0, 0x61, b'x'], &[0x28, 0xb5, 0x2f, 0xfd, 0, 0, 1])),
        ("broken-xz", Script::up(COMPRESSION).frame(4, 4, 1, &[0xa1, 0, 0x61, b'x'], &[0xfd, b'7', b'z', b'X', b'Z', 0, 0, 4])),
        ("gap", Script::up(0).frame(4, 0, 9, &[0xa1, 0, 0x61, b'x'], &[])),
        ("malformed", Script::up(SERVER).frame(5, 0, 1, &[0x9f, 0x9f], &[]).leave(9)),
        ("unknown-kind", Script::up(SERVER).frame(99, 255, 1, b"?", b"?").frame(10, 0, 0, b"", b"")),
        ("ack-beyond", Script::up(SERVER).frame(14, 0, 0, b"", b"").leave(9)),
        ("second-hello", Script::up(SERVER).good(Kind::HELLO, 0).leave(9)),
    ]
}

fn seeds() -> Vec<(String, Script)> {
    let stories = stories().into_iter().map(|(name, script)| (name.to_owned(), script));
    stories.chain(pinned()).map(|(name, script)| (format!("seed-{name}"), script)).collect()
}

#[test]
fn the_corpus_is_replayed_and_reaches_what_it_is_for() {
    if std::env::var_os("UPDATE_CORPUS").is_some() {
        fs::create_dir_all(folder()).unwrap();
        for (name, script) in seeds() {
            fs::write(folder().join(name), script.0).unwrap();
        }
    }
    let mut all = Seen::default();
    let mut names = BTreeSet::new();
    for file in fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        let Seen { up, resumed, events, sent, errors } = run(&fs::read(&path).unwrap());
        names.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
        all.up = [all.up[0] | up[0], all.up[1] | up[1]];
        all.resumed |= resumed;
        all.events.extend(events);
        all.sent.extend(sent);
        all.errors.extend(errors);
    }
    assert!(all.up == [true; 2] && all.resumed);
    assert_eq!(all.events.len(), 13, "every event: {:?}", all.events);
    assert_eq!(all.sent, (1..=9).chain(11..=18).collect::<BTreeSet<u8>>(), "every kind");
    for error in
        ["credit of stream", "not offered", "where 1 is next", "malformed CBOR", "never sent", "out of state", "too much waits"]
    {
        assert!(all.errors.iter().any(|text| text.contains(error)), "{error}: {:?}", all.errors);
    }
    for (name, _) in seeds() {
        assert!(names.contains(&name), "{name} is not in the corpus: UPDATE_CORPUS=1 writes it");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn random_scripts_neither_break_the_machine_nor_its_bounds(
        settings in any::<u8>(),
        steps in proptest::collection::vec((0..op::COUNT, any::<u8>(), any::<u8>()), 0..200),
    ) {
        let mut script = Script::up(settings & 127).0;
        for (op, first, second) in steps {
            let sensible = if first < 128 { first % 19 } else { first };
            script.extend([op, sensible, second]);
        }
        run(&script);
    }
}
