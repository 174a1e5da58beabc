//! What a message costs a client: encrypt and store; receive, decrypt and store (with the delivery report that this encrypts).
//! Through the core, on a real encrypted file, one durable transaction each.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::{
    collections::VecDeque,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use parlour_client::{
    Code, KeySource, OpenOptions, Profile, Register, Registration,
    core::{Command, Core, Input, Now, Output, Ticket},
};
use parlour_server::{
    Fanout, Secrets, Service, ServiceConfig, Session, Sink, SinkFull, store,
    store::{memory::MemoryStore, suite::block_on},
};
use rand::{SeedableRng as _, rngs::StdRng};

const UNIX_MS: u64 = 1_700_000_000_000;
const NOW: Now = Now { unix_ms: UNIX_MS, steady: Duration::ZERO };
const SERVER_NOW: parlour_server::Now = parlour_server::Now { unix_ms: UNIX_MS };

#[derive(Default)]
struct Inbox(Mutex<VecDeque<Input>>);

impl Sink for Inbox {
    fn push(&self, name: &'static str, content: Bytes) -> Result<(), SinkFull> {
        self.0.lock().unwrap().push_back(Input::Push { name: name.to_owned(), content: content.to_vec() });
        Ok(())
    }

    fn close(&self, _: Code, _: &str) {}
}

struct Side {
    core: Core,
    session: Session,
    inbox: Arc<Inbox>,
    outbox: VecDeque<Output>,
    _home: tempfile::TempDir,
}

/// Two people and their server.
struct Pair {
    service: Service<MemoryStore>,
    sides: Vec<Side>,
}

impl Pair {
    fn new() -> Self {
        let fanout = Arc::new(Fanout::new());
        let store = Arc::new(MemoryStore::new(Arc::clone(&fanout) as Arc<dyn store::Observer>));
        let secrets = Secrets::generate(&mut StdRng::from_seed([1; 32]));
        let config =
            ServiceConfig { registration: Registration::OPEN, version: "bench".to_owned(), throttle: Default::default() };
        let service = Service::new(config, store, fanout, secrets, [2; 32]);
        let mut pair = Self { service, sides: Vec::new() };
        pair.register("alice");
        pair.register("bob");
        pair.write("hello");
        pair.settle();
        pair
    }

    fn register(&mut self, name: &str) {
        let home = tempfile::tempdir().unwrap();
        let options = OpenOptions { home: home.path().to_owned(), key: KeySource::File, create: true };
        let mut core = Core::open(Profile::open(&options).unwrap(), [3; 32]).unwrap();
        let inbox = Arc::new(Inbox::default());
        let session = self.service.open(IpAddr::V4(Ipv4Addr::LOCALHOST), [4; 32], [5; 32], Arc::clone(&inbox) as Arc<dyn Sink>);
        let register = Register {
            server: "wss://127.0.0.1:1".parse().unwrap(),
            name: name.to_owned(),
            password: "correct horse".to_owned().into(),
            invite: None,
            label: "bench".to_owned(),
        };
        drop(core.handle(Input::Command(Ticket(1), Command::Register(register)), NOW));
        let up = Input::Up { resumed: false, challenge: [4; 32], fingerprint: [5; 32], trusted_by_system: false };
        let outbox = core.handle(up, NOW).into();
        self.sides.push(Side { core, session, inbox, outbox, _home: home });
        self.settle();
    }

    /// Brings everything that waits at one side to the server.
    fn transmit(&mut self, side: usize) -> bool {
        let side = &mut self.sides[side];
        let mut moved = false;
        while let Some(output) = side.outbox.pop_front() {
            if let Output::Request { id, name, content } = output {
                let answer = block_on(self.service.request(&mut side.session, name, &content, SERVER_NOW)).unwrap();
                side.inbox.0.lock().unwrap().push_back(Input::Answer(id, Ok(answer.to_vec())));
                moved = true;
            }
        }
        moved
    }

    fn receive(&mut self, side: usize, input: Input) {
        let side = &mut self.sides[side];
        side.outbox.extend(side.core.handle(input, NOW));
    }

    fn next(&self, side: usize) -> Option<Input> {
        self.sides[side].inbox.0.lock().unwrap().pop_front()
    }

    fn settle(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for side in 0..self.sides.len() {
                moved |= self.transmit(side);
                while let Some(input) = self.next(side) {
                    self.receive(side, input);
                    moved = true;
                }
            }
        }
    }

    fn write(&mut self, text: &str) {
        let command = Command::Send { to: "bob".to_owned(), text: text.to_owned(), reply_to: None };
        self.receive(0, Input::Command(Ticket(2), command));
    }

    /// Has the first side write, up to the push that reaches the second.
    fn arriving(&mut self, text: &str) -> Input {
        self.settle();
        self.write(text);
        self.transmit(0);
        self.next(1).expect("a push")
    }
}

fn encrypt_and_store(c: &mut Criterion) {
    let pair = std::cell::RefCell::new(Pair::new());
    let text = "x".repeat(256);
    c.bench_function("encrypt and store 256 B", |b| {
        b.iter_batched(|| pair.borrow_mut().settle(), |()| pair.borrow_mut().write(black_box(&text)), BatchSize::PerIteration);
    });
}

fn decrypt_and_store(c: &mut Criterion) {
    let pair = std::cell::RefCell::new(Pair::new());
    let text = "x".repeat(256);
    c.bench_function("decrypt and store 256 B", |b| {
        let receive = |input| pair.borrow_mut().receive(1, black_box(input));
        b.iter_batched(|| pair.borrow_mut().arriving(&text), receive, BatchSize::PerIteration);
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(5)).sample_size(50);
    targets = encrypt_and_store, decrypt_and_store
}
criterion_main!(benches);
