//! A profile of 1,000 conversations and 100,000 messages: opening it up to the first screen, and searching in it. Through the core, on a
//! real encrypted file.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::{
    collections::{BTreeMap, VecDeque},
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use parlour_client::{
    AccountId, Code, Imported, ImportedPlace, KeySource, MessageId, MessageKind, OpenOptions, Page, Profile, Register,
    Registration, State,
    core::{Command, Core, Input, Now, Output, Reply, Ticket},
};
use parlour_server::{
    Fanout, Secrets, Service, ServiceConfig, Session, Sink, SinkFull, store,
    store::{memory::MemoryStore, suite::block_on},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

const UNIX_MS: u64 = 1_700_000_000_000;
const NOW: Now = Now { unix_ms: UNIX_MS, steady: Duration::ZERO };
const SERVER_NOW: parlour_server::Now = parlour_server::Now { unix_ms: UNIX_MS };
const CONVERSATIONS: u32 = 1000;
const MESSAGES: u32 = 100_000;
/// As many words as a person uses day by day.
const VOCABULARY: u32 = 5000;

struct Deaf;

impl Sink for Deaf {
    fn push(&self, _: &'static str, _: Bytes) -> Result<(), SinkFull> {
        Ok(())
    }

    fn close(&self, _: Code, _: &str) {}
}

fn open(home: &Path) -> Core {
    let options = OpenOptions { home: home.to_owned(), key: KeySource::File, create: true };
    Core::open(Profile::open(&options).unwrap(), [3; 32]).unwrap()
}

fn ask(core: &mut Core, command: Command) -> Reply {
    let outputs = core.handle(Input::Command(Ticket(1), command), NOW);
    let reply = outputs.into_iter().find_map(|output| match output {
        Output::Reply(_, reply) => Some(reply.unwrap()),
        _ => None,
    });
    reply.expect("a query is answered at once")
}

/// Makes an account at a server in memory, which then goes away.
fn register(core: &mut Core) {
    let fanout = Arc::new(Fanout::new());
    let store = Arc::new(MemoryStore::new(Arc::clone(&fanout) as Arc<dyn store::Observer>));
    let secrets = Secrets::generate(&mut StdRng::from_seed([1; 32]));
    let config = ServiceConfig { registration: Registration::OPEN, version: "bench".to_owned(), throttle: Default::default() };
    let service = Service::new(config, store, fanout, secrets, [2; 32]);
    let mut session: Session = service.open(IpAddr::V4(Ipv4Addr::LOCALHOST), [4; 32], [5; 32], Arc::new(Deaf));
    let register = Register {
        server: "wss://127.0.0.1:1".parse().unwrap(),
        name: "alice".to_owned(),
        password: "correct horse".to_owned().into(),
        invite: None,
        label: "bench".to_owned(),
    };
    drop(core.handle(Input::Command(Ticket(1), Command::Register(register)), NOW));
    let up = Input::Up { resumed: false, challenge: [4; 32], fingerprint: [5; 32], trusted_by_system: false };
    let waiting = Mutex::new(VecDeque::from(core.handle(up, NOW)));
    let mut waiting = waiting.into_inner().unwrap();
    while let Some(output) = waiting.pop_front() {
        if let Output::Request { id, name, content } = output {
            let answer = block_on(service.request(&mut session, name, &content, SERVER_NOW)).unwrap();
            waiting.extend(core.handle(Input::Answer(id, Ok(answer.to_vec())), NOW));
        }
    }
}

/// Words are used as in a language: few of them often, most of them seldom.
fn text(rng: &mut StdRng) -> String {
    let word = |rng: &mut StdRng| {
        let rank = f64::from(VOCABULARY).powf(rng.r#gen::<f64>());
        format!("w{}", rank as u32)
    };
    (0..12).map(|_| word(rng)).collect::<Vec<_>>().join(" ")
}

fn fill(core: &mut Core) {
    let mut rng = StdRng::from_seed([6; 32]);
    let account = |n: u32| {
        let mut id = [7; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        AccountId(id)
    };
    let message = |n: u32| {
        let peer = account(n % CONVERSATIONS);
        Imported {
            id: MessageId::new(UNIX_MS - u64::from(MESSAGES - n), &rng.r#gen()),
            place: ImportedPlace::Direct { peer, name: format!("person{}", n % CONVERSATIONS) },
            sender: peer,
            sender_name: String::new(),
            outgoing: n.is_multiple_of(2),
            kind: MessageKind::Text,
            text: text(&mut rng),
            file: None,
            reply_to: None,
            sent_ms: UNIX_MS,
            stored_ms: Some(UNIX_MS),
            edited_ms: None,
            deleted: false,
            expires_ms: None,
            state: State::Read,
            reactions: Vec::new(),
            shared_by: None,
        }
    };
    let all: Vec<_> = (0..MESSAGES).map(message).collect();
    for batch in all.chunks(5000) {
        assert_eq!(ask(core, Command::Import(batch.to_vec(), BTreeMap::new())), Reply::Count(batch.len() as u64));
    }
}

/// What a face shows first: all conversations with their newest messages, and the last page of the first.
fn first_screen(core: &mut Core) {
    let Reply::Conversations(conversations) = ask(core, Command::Conversations) else { panic!("not asked for") };
    assert_eq!(conversations.len(), CONVERSATIONS as usize);
    black_box(ask(core, Command::Page { conversation: conversations[0].conversation, page: Page::default() }));
}

fn search(core: &mut Core, text: &str, within: Option<&str>) -> usize {
    let command = Command::Search { text: text.to_owned(), within: within.map(str::to_owned), limit: 50 };
    let Reply::Messages(messages) = ask(core, command) else { panic!("not asked for") };
    messages.len()
}

fn large_profile(c: &mut Criterion) {
    let home = tempfile::tempdir().unwrap();
    let mut core = open(home.path());
    register(&mut core);
    fill(&mut core);
    drop(core);
    c.bench_function("open 100,000 messages to the first screen", |b| {
        b.iter(|| first_screen(&mut open(home.path())));
    });
    let mut core = open(home.path());
    for (name, text, within) in [
        ("search a common word", "w1 ", None),
        ("search a rare word", "w4321 ", None),
        ("search two words, the last a beginning", "w7 w3", None),
        ("search the beginning of one letter", "w", None),
        ("search a common word in one conversation", "w1 ", Some("person77")),
        ("search two seldom words that never meet", "w4999 w4998 ", None),
    ] {
        c.bench_function(name, |b| b.iter(|| search(&mut core, black_box(text), within)));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).sample_size(10);
    targets = large_profile
}
criterion_main!(benches);
