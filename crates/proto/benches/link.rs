//! Costs of one frame and of one request through both machines, without a network.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::{hint::black_box, sync::Arc, time::Duration, time::Instant};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parlour_proto::link::{Answer, Command, Event, Input, Link, LinkConfig, Output, ServerSession, StreamId, action_header};
use parlour_wire::{Encoding, Frame, Kind, LinkSessionId, frame::ContentType, limits};

fn frames(c: &mut Criterion) {
    let frame = Frame {
        seq: 7,
        id: 9,
        header: action_header("entries.push"),
        content: Bytes::from_static(&[7; 256]),
        ..Frame::new(Kind::ACTION)
    };
    let bytes = frame.to_bytes().unwrap();
    let mut group = c.benchmark_group("frame, 256 B");
    group.throughput(Throughput::Elements(1));
    let mut out = BytesMut::with_capacity(4096);
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            black_box(&frame).encode(&mut out).unwrap();
        });
    });
    group.bench_function("decode", |b| b.iter(|| Frame::decode(black_box(bytes.clone())).unwrap()));
    group.finish();
}

/// Two machines that are up.
struct Pair {
    client: Link,
    server: Link,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        Self::with(LinkConfig::default())
    }

    fn with(config: LinkConfig) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning")]
        let now = Instant::now();
        let config = Arc::new(config);
        let identity = ServerSession {
            session: LinkSessionId([1; 16]),
            token: [2; 32],
            challenge: [3; 32],
            grace: Duration::from_secs(300),
        };
        let mut pair = Self { client: Link::client(Arc::clone(&config)), server: Link::server(config, identity, now), now };
        pair.server.handle(Input::Connected, now).unwrap();
        pair.client.handle(Input::Connected, now).unwrap();
        pair.exchange();
        assert!(pair.client.is_up() && pair.server.is_up());
        pair
    }

    /// Carries frames until nothing moves; the server answers what it is asked. Gives the number of answers.
    fn exchange(&mut self) -> usize {
        let mut answers = 0;
        loop {
            let mut moved = false;
            while let Some(output) = self.client.poll() {
                moved = true;
                match output {
                    Output::Send(frame) => self.server.handle(Input::Frame(frame), self.now).unwrap(),
                    Output::Event(Event::Answer { .. }) => answers += 1,
                    _ => {}
                }
            }
            while let Some(output) = self.server.poll() {
                moved = true;
                match output {
                    Output::Send(frame) => self.client.handle(Input::Frame(frame), self.now).unwrap(),
                    Output::Event(Event::Request { id, content_type, content, .. }) => {
                        let result = Ok(Answer { content_type, content });
                        self.server.handle(Input::Command(Command::Answer { id, result }), self.now).unwrap();
                    }
                    _ => {}
                }
            }
            if !moved {
                return answers;
            }
        }
    }
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request through both machines");
    for in_flight in [1_u64, 64] {
        let mut pair = Pair::new();
        group.throughput(Throughput::Elements(in_flight));
        group.bench_function(format!("{in_flight} in flight"), |b| {
            b.iter(|| {
                for tag in 0..in_flight {
                    let command = Command::Request {
                        tag,
                        name: "echo".to_owned(),
                        content_type: ContentType::CBOR,
                        content: Bytes::from_static(&[7; 256]),
                        timeout: Some(Duration::from_secs(10)),
                        origin: None,
                        bound: false,
                    };
                    pair.client.handle(Input::Command(command), pair.now).unwrap();
                }
                assert_eq!(pair.exchange() as u64, in_flight);
            });
        });
    }
    group.finish();
}

fn actions(c: &mut Criterion) {
    let mut group = c.benchmark_group("action through both machines");
    let header = action_header("telemetry");
    for batch in [1_u64, 256] {
        let mut pair = Pair::new();
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("{batch} at a time"), |b| {
            b.iter(|| {
                for _ in 0..batch {
                    let content = Bytes::from_static(&[7; 256]);
                    pair.client.act_encoded(header.clone(), ContentType::CBOR, content).unwrap();
                }
                pair.exchange();
            });
        });
    }
    group.finish();
}

fn streams(c: &mut Criterion) {
    const WINDOW: u64 = 1024 * 1024;
    let mut group = c.benchmark_group("stream through both machines");
    for (length, chunks) in [(1024_usize, 1024_usize), (limits::STREAM_CHUNK, 64)] {
        let mut pair = Pair::new();
        let content = Bytes::from(vec![7; length]);
        let mut stream = 0;
        group.throughput(Throughput::Bytes((length * chunks) as u64));
        group.bench_function(format!("chunks of {length} B"), |b| {
            b.iter(|| {
                stream += 1;
                pair.server.handle(Input::Command(Command::Sink { stream, credit: WINDOW }), pair.now).unwrap();
                pair.client.handle(Input::Command(Command::Source { stream, credit: WINDOW }), pair.now).unwrap();
                assert_eq!(pair.stream(stream, &content, chunks), length * chunks);
            });
        });
    }
    group.finish();
}

fn compressed(c: &mut Criterion) {
    let mut group = c.benchmark_group("action through both machines, 4 KiB of JSON");
    let header = action_header("telemetry");
    let content = Bytes::from(br#"{"name":"drone-07","battery":87,"position":[12.5,3.25,40.0],"state":"flying"},"#.repeat(52));
    group.throughput(Throughput::Bytes(content.len() as u64));
    for encoding in [None].into_iter().chain(Encoding::ALL.map(Some)) {
        let mut pair = Pair::with(LinkConfig { compression: encoding.into_iter().collect(), ..LinkConfig::default() });
        group.bench_function(encoding.map_or("plain", Encoding::capability), |b| {
            b.iter(|| {
                pair.client.act_encoded(header.clone(), ContentType::JSON, content.clone()).unwrap();
                pair.exchange();
            });
        });
    }
    group.finish();
}

impl Pair {
    /// Sends so many chunks and the end, and grants what arrives at once. Gives the bytes that arrived.
    fn stream(&mut self, stream: StreamId, content: &Bytes, chunks: usize) -> usize {
        let (mut written, mut arrived) = (0, 0);
        loop {
            while written < chunks && self.client.stream_room(stream) >= content.len() {
                let data = Command::Data { stream, mark: Bytes::new(), content: content.clone() };
                self.client.handle(Input::Command(data), self.now).unwrap();
                written += 1;
                if written == chunks {
                    let end = Command::Finish { stream, content: Bytes::new() };
                    self.client.handle(Input::Command(end), self.now).unwrap();
                }
            }
            while let Some(Output::Send(frame)) = self.client.poll_transmit() {
                self.server.handle(Input::Frame(frame), self.now).unwrap();
            }
            while let Some(event) = self.server.poll_event() {
                match event {
                    Event::Data { content, cost, .. } => {
                        arrived += content.len();
                        let grant = Command::Grant { stream, credit: cost };
                        self.server.handle(Input::Command(grant), self.now).unwrap();
                    }
                    Event::StreamEnded { .. } => return arrived,
                    _ => {}
                }
            }
            while let Some(Output::Send(frame)) = self.server.poll_transmit() {
                self.client.handle(Input::Frame(frame), self.now).unwrap();
            }
            while self.client.poll_event().is_some() {}
        }
    }
}

criterion_group!(benches, frames, requests, actions, streams, compressed);
criterion_main!(benches);
