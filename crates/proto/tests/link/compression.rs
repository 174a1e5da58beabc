//! Stories about compressed contents.

use std::time::Duration;

use bytes::Bytes;
use parlour_proto::link::{Command, Event, LinkConfig, Violation};
use parlour_wire::{
    Code, CompressError, Encoding, Frame, Kind, compress, encode,
    frame::{ContentType, ENCODING_FLAGS},
    header, limits,
};

use crate::pair::{Pair, Side, requests};

const SECOND: Duration = Duration::from_secs(1);

fn with(compression: &[Encoding]) -> LinkConfig {
    LinkConfig { compression: compression.to_vec(), ..LinkConfig::default() }
}

/// Bytes that no encoding makes smaller.
fn noise(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

fn action(content: Bytes) -> Command {
    Command::Action { name: "act".into(), content_type: ContentType::BYTES, content }
}

fn forged(kind: Kind, number: u16, content: Vec<u8>) -> Frame {
    let header = match kind {
        Kind::ACTION => Bytes::from(encode(&header::Action { name: "x".into() })),
        Kind::REQUEST => Bytes::from(encode(&header::Request { name: "x".into(), deadline_ms: 0, origin: None })),
        _ => Bytes::new(),
    };
    let seq = u64::from(kind.is_sequenced());
    Frame { seq, id: 1, flags: number, header, content: content.into(), ..Frame::new(kind) }
}

impl Pair {
    /// The encoding bits and the sizes of what a side sent of a kind.
    fn sent(&self, side: Side, kind: Kind) -> Vec<(u16, usize)> {
        let frames = self.frames.iter().filter(|(sender, frame)| *sender == side && frame.kind == kind);
        frames.map(|(_, frame)| (frame.flags & ENCODING_FLAGS, frame.content.len())).collect()
    }
}

#[test]
fn every_kind_with_content_travels_compressed_and_arrives_as_it_was() {
    for encoding in Encoding::ALL {
        let mut pair = Pair::up_with(with(&[encoding]), with(&[encoding]));
        let content = Bytes::from(b"to and fro ".repeat(1000));
        let content_type = ContentType::TEXT;
        pair.command(Side::Client, action(content.clone())).unwrap();
        let request = Command::Request {
            tag: 1,
            name: "ask".into(),
            content_type,
            content: content.clone(),
            timeout: None,
            origin: None,
            bound: false,
        };
        pair.command(Side::Client, request).unwrap();
        pair.command(Side::Server, Command::Sink { stream: 1, credit: 20_000 }).unwrap();
        pair.command(Side::Client, Command::Source { stream: 1, credit: 20_000 }).unwrap();
        let mark = Bytes::from_static(b"mark");
        pair.command(Side::Client, Command::Data { stream: 1, mark: mark.clone(), content: content.clone() }).unwrap();
        pair.run(SECOND);
        let events = pair.events(Side::Server);
        let [Event::Action { content: acted, .. }, Event::Request { id, content: asked, .. }, data] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((acted, asked), (&content, &content));
        assert_eq!(
            *data,
            Event::Data { stream: 1, mark, content: content.clone(), cost: 11_000 },
            "credit counts what comes out"
        );
        assert_eq!(pair.client.stream_room(1), 9_000);
        pair.answer(Side::Server, *id, content.clone());
        pair.run(SECOND);
        let answer = parlour_proto::link::Answer { content_type: ContentType::CBOR, content };
        assert_eq!(pair.events(Side::Client), [Event::Answer { tag: 1, result: Ok(answer) }]);
        for (side, kind) in [
            (Side::Client, Kind::ACTION),
            (Side::Client, Kind::REQUEST),
            (Side::Client, Kind::STREAM_DATA),
            (Side::Server, Kind::RESPONSE),
        ] {
            let sent = pair.sent(side, kind);
            assert!(
                matches!(sent[..], [(bits, size)] if bits == u16::from(encoding.number()) && size < 1000),
                "{kind:?} {sent:?}"
            );
        }
        assert!(pair.errors.is_empty());
    }
}

#[test]
fn each_side_sends_the_first_of_its_encodings_that_the_other_can_read() {
    use Encoding::{Bzip2, Gzip, Xz, Zstd};
    for (client, server, up, down) in [
        (&[Zstd, Gzip, Xz][..], &[Xz, Gzip][..], 2, 4),
        (&[Bzip2], &[Bzip2, Zstd], 3, 3),
        (&[Zstd], &[Gzip], 0, 0),
        (&[Zstd], &[], 0, 0),
    ] {
        let mut pair = Pair::up_with(with(client), with(server));
        for side in Side::BOTH {
            pair.command(side, action(Bytes::from(vec![0; 4096]))).unwrap();
        }
        pair.run(SECOND);
        assert_eq!((pair.sent(Side::Client, Kind::ACTION)[0].0, pair.sent(Side::Server, Kind::ACTION)[0].0), (up, down));
        assert!(pair.errors.is_empty());
    }
}

#[test]
fn what_is_short_or_would_not_shrink_travels_as_it_is() {
    let mut pair = Pair::up_with(with(&Encoding::ALL), with(&Encoding::ALL));
    for content in [vec![0; limits::COMPRESS_MIN - 1].into(), noise(4096), vec![0; limits::COMPRESS_MIN].into()] {
        pair.command(Side::Client, action(content)).unwrap();
    }
    let sent = pair.sent(Side::Client, Kind::ACTION);
    assert_eq!(sent[..2], [(0, limits::COMPRESS_MIN - 1), (0, 4096)]);
    assert_eq!(sent[2].0, 1);
}

#[test]
fn encodings_are_told_when_compression_is_on_and_by_nobody_else() {
    let named =
        |compression: &[Encoding]| LinkConfig { capabilities: vec!["xz".into(), "parlour/1".into()], ..with(compression) };
    let mut pair = Pair::new(named(&[Encoding::Zstd, Encoding::Gzip]), named(&[]));
    pair.connect();
    pair.run(SECOND);
    let told = |events: Vec<Event>| match &events[..] {
        [Event::Up(up)] => up.capabilities.clone(),
        events => panic!("{events:?}"),
    };
    assert_eq!(told(pair.events(Side::Server)), ["parlour/1", "zstd", "gzip"]);
    assert_eq!(told(pair.events(Side::Client)), ["parlour/1"]);
}

#[test]
fn a_frame_that_is_sent_again_is_compressed_again() {
    let mut pair = Pair::up_with(with(&[Encoding::Zstd]), with(&[Encoding::Zstd]));
    pair.act(Side::Client, 1).unwrap();
    pair.run(SECOND);
    pair.command(Side::Client, action(Bytes::from(vec![5; 9000]))).unwrap();
    pair.cut(0, 0);
    pair.connect();
    pair.run(SECOND);
    let sent = pair.sent(Side::Client, Kind::ACTION);
    assert!(sent[1].0 == 1 && sent[1] == sent[2], "{sent:?}");
    let events = pair.events(Side::Server);
    assert!(matches!(events.last(), Some(Event::Action { content, .. }) if content == &vec![5; 9000]), "{events:?}");
}

#[test]
fn a_bomb_is_a_violation_in_every_encoding() {
    for encoding in Encoding::ALL {
        for (kind, size) in [
            (Kind::ACTION, 64 * limits::FRAME),
            (Kind::REQUEST, limits::FRAME),
            (Kind::RESPONSE, limits::FRAME),
            (Kind::STREAM_DATA, limits::STREAM_CHUNK + 1),
        ] {
            let mut pair = Pair::up_with(with(&[encoding]), with(&[encoding]));
            let bomb = compress(&vec![0; size], encoding).unwrap();
            assert!(bomb.len() < limits::FRAME / 2);
            pair.forge(Side::Client, &forged(kind, encoding.number().into(), bomb));
            pair.run(SECOND);
            assert_eq!(pair.errors, [(Side::Server, Violation::Compressed(kind, CompressError::TooLarge).into())]);
            assert!(matches!(pair.events(Side::Client).last(), Some(Event::Ended(fault)) if fault.code == Code::TOO_LARGE));
        }
    }
}

#[test]
fn broken_compressed_contents_have_a_name_in_every_encoding() {
    for encoding in Encoding::ALL {
        let whole = compress(&noise(100).repeat(50), encoding).unwrap();
        let cut = whole[..whole.len() - 5].to_vec();
        let long = [&whole[..], b"!"].concat();
        for (content, error) in [
            (Vec::new(), CompressError::Truncated),
            (cut, CompressError::Truncated),
            (long, CompressError::Trailing),
            (vec![b'?'; 600], CompressError::Malformed),
        ] {
            let mut pair = Pair::up_with(with(&[encoding]), with(&[encoding]));
            pair.forge(Side::Client, &forged(Kind::ACTION, encoding.number().into(), content));
            pair.run(SECOND);
            assert_eq!(pair.errors, [(Side::Server, Violation::Compressed(Kind::ACTION, error).into())], "{encoding:?}");
            assert!(matches!(pair.events(Side::Client).last(), Some(Event::Ended(fault)) if fault.code == Code::BAD_FRAME));
        }
    }
}

#[test]
fn what_was_not_offered_is_a_violation() {
    let content = || compress(&[0; 4096], Encoding::Zstd).unwrap();
    for (offered, kind, number) in [
        (&[][..], Kind::ACTION, 1),
        (&[Encoding::Gzip], Kind::ACTION, 1),
        (&[Encoding::Zstd], Kind::ACTION, 5),
        (&[Encoding::Zstd], Kind::REQUEST, 7),
        (&[Encoding::Zstd], Kind::ERROR, 1),
        (&[Encoding::Zstd], Kind::CANCEL, 1),
        (&[], Kind::STREAM_DATA, 1),
        (&[Encoding::Zstd], Kind::STREAM_END, 1),
    ] {
        for side in Side::BOTH {
            let mut pair = Pair::up_with(with(offered), with(offered));
            pair.forge(side, &forged(kind, number, content()));
            pair.run(SECOND);
            assert_eq!(pair.errors, [(side.other(), Violation::NotOffered(kind).into())]);
        }
    }
}

#[test]
fn bits_of_frames_that_this_version_does_not_compress_mean_nothing() {
    let mut pair = Pair::up();
    pair.forge(Side::Client, &Frame { seq: 1, flags: 1, ..Frame::new(Kind(77)) });
    pair.forge(Side::Client, &Frame { id: 4, flags: 3, ..Frame::new(Kind::PING) });
    pair.forge(Side::Client, &Frame { seq: 2, ..forged(Kind::ACTION, 0x8008, vec![0, 0, 0, 5]) });
    pair.run(Duration::from_millis(15));
    assert_eq!(crate::pair::actions(&pair.events(Side::Server)), [5], "other flags are of no concern");
    assert!(pair.errors.is_empty());
}

#[test]
fn a_compressed_frame_is_acknowledged_by_what_its_sender_keeps() {
    let mut pair = Pair::up_with(with(&[Encoding::Zstd]), with(&[Encoding::Zstd]));
    for _ in 0..4 {
        pair.command(Side::Client, action(Bytes::from(vec![0; limits::FRAME / 2]))).unwrap();
    }
    pair.run(Duration::from_millis(25));
    assert_eq!(pair.client.unacknowledged(), (0, 0), "without waiting for company");
}

#[test]
fn compressed_requests_count_by_what_comes_out() {
    let mut pair = Pair::up_with(with(&[Encoding::Zstd]), with(&[Encoding::Zstd]));
    pair.puppet = Some(Side::Client);
    for n in 1..=5 {
        let content = compress(&vec![0; limits::FRAME - 200], Encoding::Zstd).unwrap();
        let frame = Frame { seq: n, id: n, ..forged(Kind::REQUEST, 1, content) };
        pair.forge(Side::Client, &frame);
    }
    pair.run(SECOND);
    assert_eq!(requests_given(&pair.events(Side::Server)), 4);
    assert_eq!(pair.errors, [(Side::Server, Violation::TooManyRequests.into())]);
}

fn requests_given(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Request { .. })).count()
}

#[test]
fn small_requests_are_read_alike_with_and_without_compression() {
    let mut pair = Pair::up_with(with(&[Encoding::Zstd]), with(&[Encoding::Zstd]));
    pair.ask(Side::Client, 9, None).unwrap();
    pair.run(SECOND);
    assert_eq!(requests(&pair.events(Side::Server)).len(), 1);
    assert_eq!(pair.sent(Side::Client, Kind::REQUEST), [(0, 4)]);
}
