//! Costs of one frame and of one request through both machines, without a network.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::{hint::black_box, sync::Arc, time::Duration, time::Instant};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parlour_proto::link::{Answer, Command, Event, Input, Link, LinkConfig, Output, ServerSession, action_header};
use parlour_wire::{Frame, Kind, LinkSessionId, frame::ContentType};

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
        #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning")]
        let now = Instant::now();
        let config = Arc::new(LinkConfig::default());
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
                    };
                    pair.client.handle(Input::Command(command), pair.now).unwrap();
                }
                assert_eq!(pair.exchange() as u64, in_flight);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frames, requests);
criterion_main!(benches);
