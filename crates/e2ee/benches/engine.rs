//! What a message costs: encrypting and decrypting 256 bytes between two devices, with rows in memory.
#![allow(clippy::unwrap_used, missing_docs, reason = "benchmarks")]

use std::{collections::BTreeMap, hint::black_box};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ed25519_dalek::{Signer, SigningKey};
use parlour_e2ee::{AccountKey, DeviceKeys, Engine, HistoryPolicy, Member, NewConversation, Root, Rows, RowsError, Step};
use parlour_wire::{
    api::{ConversationKind, DeviceKeyPackage, Suite, Welcome},
    id::{AccountId, ConversationId, MessageId},
    identity::VerifiedList,
    log::{Entry, EntryKind, RECEIPT_CONTEXT, receipt_bytes},
};

#[derive(Default)]
struct Disk(BTreeMap<Vec<u8>, Vec<u8>>);

impl Rows for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(self.0.get(key).cloned())
    }
}

struct Client {
    engine: Engine,
    disk: Disk,
    list: VerifiedList,
}

impl Client {
    fn new() -> Self {
        let account = AccountKey::from(&Root::generate());
        let keys = DeviceKeys::generate();
        let certificate = account.certify(&keys.public(), "bench", 1).unwrap();
        let list = account.first_list(&certificate, 1).unwrap();
        Self { engine: Engine::new(keys, certificate).unwrap(), disk: Disk::default(), list }
    }

    fn keep<T>(&mut self, step: Step<T>) -> T {
        for (key, value) in &step.changes.rows {
            match value {
                Some(value) => self.disk.0.insert(key.clone(), value.clone()),
                None => self.disk.0.remove(key),
            };
        }
        self.engine.committed();
        step.output
    }
}

struct Pair {
    a: Client,
    b: Client,
    conversation: ConversationId,
    lists: BTreeMap<AccountId, VerifiedList>,
    sent: u64,
}

impl Pair {
    fn new() -> Self {
        let (mut a, mut b) = (Client::new(), Client::new());
        let lists: BTreeMap<_, _> = [&a, &b].map(|client| (client.list.account(), client.list.clone())).into();
        let conversation = ConversationId::direct(&a.list.account(), &b.list.account());
        let server = SigningKey::from_bytes(&[9; 32]);
        let step = b.engine.key_packages(&b.disk, Suite::HYBRID, 1, 1).unwrap();
        let package = DeviceKeyPackage { device: b.engine.device(), package: b.keep(step).remove(0) };
        let new = NewConversation {
            conversation,
            kind: ConversationKind::DIRECT,
            suite: Suite::HYBRID,
            name: None,
            history: HistoryPolicy::None,
            receipt_key: server.verifying_key().to_bytes(),
            members: vec![Member { list: b.list.clone(), packages: vec![package] }],
        };
        let step = a.engine.create(&a.disk, &new).unwrap();
        let pending = a.keep(step);
        let bytes = receipt_bytes(&conversation, 0, &pending.commit);
        let receipt = server.sign(&[RECEIPT_CONTEXT, &bytes].concat()).to_bytes();
        let commit = entry(conversation, MessageId([0; 16]), EntryKind::COMMIT, pending.commit, Some(receipt));
        let step = a.engine.open(&a.disk, &commit, &lists).unwrap();
        a.keep(step);
        let welcome = Welcome {
            conversation,
            kind: ConversationKind::DIRECT,
            seq: 1,
            epoch: 1,
            hash: commit.hash(),
            welcome: pending.welcome.unwrap(),
            members: lists.keys().copied().collect(),
        };
        let step = b.engine.join(&b.disk, &welcome, &lists).unwrap();
        b.keep(step);
        Self { a, b, conversation, lists, sent: 0 }
    }

    fn seal(&mut self) -> Entry {
        self.sent += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.sent.to_be_bytes());
        let id = MessageId::new(self.sent, &random);
        let step = self.a.engine.encrypt(&self.a.disk, &self.conversation, id, &[7; 256]).unwrap();
        let sealed = self.a.keep(step);
        entry(self.conversation, id, EntryKind::MESSAGE, sealed.payload, None)
    }

    fn open(&mut self, entry: &Entry) {
        let step = self.b.engine.open(&self.b.disk, entry, &self.lists).unwrap();
        black_box(self.b.keep(step));
    }
}

fn entry(conversation: ConversationId, id: MessageId, kind: EntryKind, payload: Vec<u8>, receipt: Option<[u8; 64]>) -> Entry {
    Entry { conversation, seq: 1, previous: [0; 32], id, kind, stored_ms: 0, payload, receipt }
}

fn messages(criterion: &mut Criterion) {
    let mut pair = Pair::new();
    criterion.bench_function("encrypt 256 B", |bencher| bencher.iter(|| black_box(pair.seal())));
    let pair = std::cell::RefCell::new(Pair::new());
    criterion.bench_function("decrypt 256 B", |bencher| {
        bencher.iter_batched(|| pair.borrow_mut().seal(), |entry| pair.borrow_mut().open(&entry), BatchSize::PerIteration);
    });
    let mut pair = Pair::new();
    criterion.bench_function("encrypt 256 B, group loaded from rows", |bencher| {
        bencher.iter(|| {
            pair.a.engine.rolled_back();
            let step = pair.a.engine.encrypt(&pair.a.disk, &pair.conversation, MessageId([1; 16]), &[7; 256]).unwrap();
            black_box(step)
        });
    });
}

criterion_group!(benches, messages);
criterion_main!(benches);
