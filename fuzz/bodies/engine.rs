//! What others can send into the engine: entries of every kind, welcomes, group infos, signals, policies, key packages. The first byte says where the
//! rest goes. From 16 on, the rest changes something real: triples of a position, in two bytes, and what to flip there. Nothing panics;
//! and whatever was not taken as a whole has changed nothing that the device would put on disk.

use std::{cell::RefCell, collections::BTreeMap};

use ed25519_dalek::{Signer as _, SigningKey};
use parlour_e2ee::{
    AccountKey, DeviceKeys, Engine, HistoryPolicy, Member, NewConversation, Opened, PendingCommit, Root, Rows, RowsError, Step,
    engine::is_policy,
};
use parlour_wire::{
    api::{ConversationKind, DeviceKeyPackage, Suite, Welcome},
    id::{AccountId, ConversationId, MessageId},
    identity::{VerifiedCertificate, VerifiedList},
    log::{Entry, EntryKind, RECEIPT_CONTEXT, receipt_bytes},
    name::Name,
};

#[derive(Clone, Default)]
struct Disk(BTreeMap<Vec<u8>, Vec<u8>>);

impl Rows for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(self.0.get(key).cloned())
    }
}

struct Device {
    secret: [u8; 32],
    certificate: VerifiedCertificate,
    list: VerifiedList,
    disk: Disk,
}

impl Device {
    fn new() -> Self {
        let account = AccountKey::from(&Root::generate());
        let keys = DeviceKeys::generate();
        let certificate = account.certify(&keys.public(), "fuzzed", 1).expect("a short label");
        let list = account.first_list(&certificate, 1).expect("one device");
        Self { secret: *keys.secret(), certificate, list, disk: Disk::default() }
    }

    fn engine(&self) -> Engine {
        Engine::new(DeviceKeys::from_secret(&self.secret), self.certificate.clone()).expect("its own certificate")
    }

    fn keep<T>(&mut self, step: Step<T>) -> T {
        for (key, value) in &step.changes.rows {
            match value {
                Some(value) => drop(self.disk.0.insert(key.clone(), value.clone())),
                None => drop(self.disk.0.remove(key)),
            }
        }
        step.output
    }
}

/// Two members of a group and somebody who has not opened the welcome yet, and one real thing of every kind.
struct World {
    conversation: ConversationId,
    server: SigningKey,
    lists: BTreeMap<AccountId, VerifiedList>,
    member: Device,
    newcomer: Device,
    welcome: Vec<u8>,
    group_info: Vec<u8>,
    message: Vec<u8>,
    commit: Vec<u8>,
    leave: Vec<u8>,
    signal: Vec<u8>,
    package: Vec<u8>,
}

/// Where a key package goes; every other number counts modulo seven.
const PACKAGE: [u8; 2] = [7, 23];
const ID: MessageId = MessageId([1; 16]);

impl World {
    fn new() -> Self {
        let (mut founder, mut member, mut newcomer) = (Device::new(), Device::new(), Device::new());
        let server = SigningKey::from_bytes(&[9; 32]);
        let conversation = ConversationId::group([7; 32]);
        let lists = [&founder, &member, &newcomer].map(|device| (device.list.account(), device.list.clone())).into();
        let invited = |device: &mut Device| {
            let mut engine = device.engine();
            let step = engine.key_packages(&device.disk, Suite::CLASSICAL, 1, 1).expect("a package");
            let package = device.keep(step).remove(0);
            Member { list: device.list.clone(), packages: vec![DeviceKeyPackage { device: engine.device(), package }] }
        };
        let package = invited(&mut newcomer).packages.remove(0).package;
        let members = vec![invited(&mut member), invited(&mut newcomer)];
        let new = NewConversation {
            conversation,
            kind: ConversationKind::GROUP,
            suite: Suite::CLASSICAL,
            name: Some(Name::parse("fuzzed").expect("a name")),
            history: HistoryPolicy::All,
            receipt_key: server.verifying_key().to_bytes(),
            members,
        };
        let mut engine = founder.engine();
        let step = engine.create(&founder.disk, &new).expect("a group");
        let first = founder.keep(step);
        let mut world = Self {
            conversation,
            server,
            lists,
            member,
            newcomer,
            welcome: first.welcome.clone().expect("a welcome"),
            group_info: first.group_info.clone(),
            message: Vec::new(),
            commit: Vec::new(),
            leave: Vec::new(),
            signal: Vec::new(),
            package,
        };
        world.go_on(founder, engine, &first);
        world
    }

    fn go_on(&mut self, mut founder: Device, mut engine: Engine, first: &PendingCommit) {
        let entry = self.entry(EntryKind::COMMIT, &first.commit, 0);
        let step = engine.open(&founder.disk, &entry, &self.lists).expect("its own commit");
        founder.keep(step);
        let welcome = self.welcome(&self.welcome);
        let step = self.member.engine().join(&self.member.disk, &welcome, &self.lists).expect("a good welcome");
        self.member.keep(step);
        let step = engine.encrypt(&founder.disk, &self.conversation, ID, b"hello").expect("a message");
        self.message = founder.keep(step).payload;
        self.signal = engine.seal_signal(&founder.disk, &self.conversation, b"typing").expect("a signal");
        let step = engine.leave(&founder.disk, &self.conversation).expect("a statement");
        self.leave = founder.keep(step);
        let step = engine.update(&founder.disk, &self.conversation, &self.lists).expect("a commit");
        self.commit = founder.keep(step).commit;
    }

    fn entry(&self, kind: EntryKind, payload: &[u8], parent_epoch: u64) -> Entry {
        let bytes = receipt_bytes(&self.conversation, parent_epoch, payload);
        let receipt = Some(self.server.sign(&[RECEIPT_CONTEXT, &bytes].concat()).to_bytes());
        let (conversation, payload) = (self.conversation, payload.to_vec());
        Entry { conversation, seq: 1, previous: [0; 32], id: ID, kind, stored_ms: 0, payload, receipt }
    }

    fn welcome(&self, welcome: &[u8]) -> Welcome {
        Welcome {
            conversation: self.conversation,
            kind: ConversationKind::GROUP,
            seq: 1,
            hash: [0; 32],
            welcome: welcome.to_vec(),
            members: self.lists.keys().copied().collect(),
            epoch: 1,
        }
    }

    fn open(&self, kind: EntryKind, payload: &[u8]) {
        let mut engine = self.member.engine();
        let entry = self.entry(kind, payload, 1);
        match engine.open(&self.member.disk, &entry, &self.lists) {
            Ok(step) if matches!(step.output, Opened::Void { .. }) => {
                assert!(step.changes.rows.len() <= 1, "more than the count")
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// A member begins a group with the newcomer, for whom the server gave this.
    fn invite(&self, package: &[u8]) {
        let packages = vec![DeviceKeyPackage { device: self.newcomer.engine().device(), package: package.to_vec() }];
        let new = NewConversation {
            conversation: ConversationId::group([8; 32]),
            kind: ConversationKind::GROUP,
            suite: Suite::CLASSICAL,
            name: Some(Name::parse("invited").expect("a name")),
            history: HistoryPolicy::All,
            receipt_key: self.server.verifying_key().to_bytes(),
            members: vec![Member { list: self.newcomer.list.clone(), packages }],
        };
        let begun = self.member.engine().create(&self.member.disk, &new);
        assert_eq!(begun.is_ok(), package == self.package, "only what was signed is a package");
    }

    fn run(&self, way: u8, bytes: &[u8]) {
        let (member, newcomer) = (&self.member, &self.newcomer);
        if PACKAGE.contains(&way) {
            return self.invite(bytes);
        }
        match way % 7 {
            0 => self.open(EntryKind::MESSAGE, bytes),
            1 => self.open(EntryKind::COMMIT, bytes),
            2 => self.open(EntryKind::LEAVE, bytes),
            3 => drop(newcomer.engine().join(&newcomer.disk, &self.welcome(bytes), &self.lists)),
            4 => {
                let key = self.server.verifying_key().to_bytes();
                let disk = Disk::default();
                drop(newcomer.engine().join_external(&disk, &self.conversation, bytes, 1, &key, &self.lists));
            }
            5 => drop(member.engine().open_signal(&member.disk, &self.conversation, bytes)),
            _ => {
                let _ = is_policy(bytes);
            }
        }
    }

    fn real(&self, way: u8) -> &[u8] {
        if PACKAGE.contains(&way) {
            return &self.package;
        }
        match way % 7 {
            0 => &self.message,
            1 => &self.commit,
            2 => &self.leave,
            3 => &self.welcome,
            4 => &self.group_info,
            5 => &self.signal,
            _ => &[],
        }
    }
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

pub(crate) fn run(data: &[u8]) {
    let Some((way, rest)) = data.split_first() else { return };
    WORLD.with_borrow_mut(|world| {
        let world = world.get_or_insert_with(World::new);
        if *way < 16 {
            return world.run(*way, rest);
        }
        let mut bytes = world.real(*way).to_vec();
        for flip in rest.chunks_exact(3) {
            let place = usize::from(u16::from_be_bytes([flip[0], flip[1]]));
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= flip[2];
            }
        }
        world.run(*way, &bytes);
    });
}
