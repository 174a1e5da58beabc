//! A small world for tests: devices with transactional rows, and a server that orders commits and signs receipts.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer, SigningKey};
use parlour_e2ee::{
    AccountKey, Changes, DeviceKeys, E2eeError, Engine, HistoryPolicy, Member, NewConversation, Opened, PendingCommit, Root,
    Rows, RowsError, Step,
};
use parlour_wire::{
    api::{ConversationKind, DeviceKeyPackage, EPOCH_WINDOW, Suite, Welcome},
    id::{AccountId, ConversationId, DeviceId, MessageId},
    identity::{VerifiedCertificate, VerifiedList},
    log::{Entry, EntryKind, RECEIPT_CONTEXT, receipt_bytes},
};

pub type Pinned = BTreeMap<AccountId, VerifiedList>;

/// The rows of a device.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Disk {
    pub rows: BTreeMap<Vec<u8>, Vec<u8>>,
    pub broken: bool,
}

impl Rows for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        if self.broken { Err(RowsError("broken disk".into())) } else { Ok(self.rows.get(key).cloned()) }
    }
}

impl Disk {
    pub fn apply(&mut self, changes: &Changes) {
        for (key, value) in &changes.rows {
            match value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(key),
            };
        }
    }
}

/// An account with its key at hand.
pub struct Account {
    pub key: AccountKey,
    pub list: Option<VerifiedList>,
}

impl Account {
    pub fn new() -> Self {
        Self { key: AccountKey::from(&Root::generate()), list: None }
    }

    pub fn id(&self) -> AccountId {
        self.key.account_id()
    }

    pub fn list(&self) -> VerifiedList {
        self.list.clone().expect("an account with a device")
    }

    /// A device of the account, in its list.
    pub fn device(&mut self) -> Client {
        let client = self.unlisted_device();
        self.list = Some(match &self.list {
            None => self.key.first_list(&client.certificate, 1).unwrap(),
            Some(list) => self.key.add_device(list, &client.certificate, 2).unwrap(),
        });
        client
    }

    pub fn unlisted_device(&self) -> Client {
        let keys = DeviceKeys::generate();
        let certificate = self.key.certify(&keys.public(), "a device", 1).unwrap();
        Client::new(keys, certificate)
    }

    pub fn revoke(&mut self, device: &DeviceId) {
        self.list = Some(self.key.revoke_device(&self.list(), device, 3).unwrap());
    }
}

/// Every account's current list.
pub fn lists(accounts: &[&Account]) -> Pinned {
    accounts.iter().filter_map(|account| Some((account.id(), account.list.clone()?))).collect()
}

/// A device: engine and disk.
pub struct Client {
    pub secret: [u8; 32],
    pub certificate: VerifiedCertificate,
    pub engine: Engine,
    pub disk: Disk,
}

impl Client {
    pub fn new(keys: DeviceKeys, certificate: VerifiedCertificate) -> Self {
        let secret = *keys.secret();
        let engine = Engine::new(keys, certificate.clone()).unwrap();
        Self { secret, certificate, engine, disk: Disk::default() }
    }

    pub fn id(&self) -> DeviceId {
        self.engine.device()
    }

    pub fn account(&self) -> AccountId {
        self.engine.account()
    }

    /// As after a crash of the process.
    pub fn restart(&mut self) {
        self.engine = Engine::new(DeviceKeys::from_secret(&self.secret), self.certificate.clone()).unwrap();
    }

    /// One step in a transaction of its own.
    pub fn step<T>(&mut self, step: impl FnOnce(&mut Engine, &Disk) -> Result<Step<T>, E2eeError>) -> Result<T, E2eeError> {
        match step(&mut self.engine, &self.disk) {
            Ok(step) => {
                self.disk.apply(&step.changes);
                self.engine.committed();
                Ok(step.output)
            }
            Err(error) => {
                self.engine.rolled_back();
                Err(error)
            }
        }
    }

    pub fn package(&mut self) -> DeviceKeyPackage {
        let packages = self.step(|engine, rows| engine.key_packages(rows, Suite::HYBRID, 1, 1)).unwrap();
        DeviceKeyPackage { device: self.id(), package: packages.into_iter().next().unwrap() }
    }

    pub fn classical_package(&mut self) -> DeviceKeyPackage {
        let packages = self.step(|engine, rows| engine.key_packages(rows, Suite::CLASSICAL, 1, 1)).unwrap();
        DeviceKeyPackage { device: self.id(), package: packages.into_iter().next().unwrap() }
    }

    pub fn open(&mut self, entry: &Entry, lists: &Pinned) -> Result<Opened, E2eeError> {
        self.step(|engine, rows| engine.open(rows, entry, lists))
    }

    pub fn join(&mut self, welcome: &Welcome, lists: &Pinned) -> Result<u64, E2eeError> {
        self.step(|engine, rows| engine.join(rows, welcome, lists)).map(|joined| joined.epoch)
    }
}

/// The home server of one conversation.
pub struct Server {
    key: SigningKey,
    pub conversation: ConversationId,
    pub kind: ConversationKind,
    pub epoch: Option<u64>,
    pub log: Vec<Entry>,
    pub group_info: Vec<u8>,
    pub welcome: Option<Welcome>,
    members: Vec<AccountId>,
    ids: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Stale;

impl Server {
    pub fn new(a: &AccountId, b: &AccountId) -> Self {
        Self {
            key: SigningKey::from_bytes(&[9; 32]),
            conversation: if a == b { ConversationId::own(a) } else { ConversationId::direct(a, b) },
            kind: if a == b { ConversationKind::OWN } else { ConversationKind::DIRECT },
            epoch: None,
            log: Vec::new(),
            group_info: Vec::new(),
            welcome: None,
            members: vec![*a, *b],
            ids: 0,
        }
    }

    pub fn receipt_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// A group instead.
    pub fn group(members: &[AccountId]) -> Self {
        let mut server = Self::new(&members[0], &members[0]);
        server.conversation = ConversationId::group([7; 32]);
        server.kind = ConversationKind::GROUP;
        server.members = members.to_vec();
        server
    }

    /// What a device needs to join by external commit.
    pub fn to_join(&self) -> (Vec<u8>, u64, [u8; 32]) {
        (self.group_info.clone(), self.epoch.unwrap_or(0), self.receipt_key())
    }

    /// Appends what is no commit of ours with a good receipt, as a server does that cannot look inside.
    pub fn append_commit(&mut self, payload: &[u8]) -> Entry {
        let (id, parent) = (self.next_id(), self.epoch.unwrap_or(0));
        self.epoch = Some(parent + 1);
        self.append(id, EntryKind::COMMIT, payload, Some(self.receipt(parent, payload)))
    }

    /// Appends a leave statement.
    pub fn leave(&mut self, statement: &[u8]) -> Entry {
        let id = self.next_id();
        self.append(id, EntryKind::LEAVE, statement, None)
    }

    pub fn next_id(&mut self) -> MessageId {
        self.ids += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.ids.to_be_bytes());
        MessageId::new(self.ids, &random)
    }

    pub fn receipt(&self, parent_epoch: u64, commit: &[u8]) -> [u8; 64] {
        let bytes = receipt_bytes(&self.conversation, parent_epoch, commit);
        self.key.sign(&[RECEIPT_CONTEXT, &bytes].concat()).to_bytes()
    }

    fn append(&mut self, id: MessageId, kind: EntryKind, payload: &[u8], receipt: Option<[u8; 64]>) -> Entry {
        let entry = Entry {
            conversation: self.conversation,
            seq: self.log.len() as u64 + 1,
            previous: self.log.last().map_or([0; 32], Entry::hash),
            id,
            kind,
            stored_ms: 0,
            payload: payload.to_vec(),
            receipt,
        };
        self.log.push(entry.clone());
        entry
    }

    fn stored(&self, id: MessageId) -> Option<Entry> {
        self.log.iter().find(|entry| entry.id == id).cloned()
    }

    pub fn commit(&mut self, id: MessageId, commit: &PendingCommit) -> Result<Entry, Stale> {
        if let Some(entry) = self.stored(id) {
            return Ok(entry);
        }
        if self.epoch.unwrap_or(0) != commit.parent_epoch || (commit.parent_epoch == 0 && self.epoch.is_some()) {
            return Err(Stale);
        }
        self.epoch = Some(commit.parent_epoch + 1);
        self.group_info.clone_from(&commit.group_info);
        let entry = self.append(id, EntryKind::COMMIT, &commit.commit, Some(self.receipt(commit.parent_epoch, &commit.commit)));
        if let Some(welcome) = &commit.welcome {
            self.welcome = Some(Welcome {
                conversation: self.conversation,
                epoch: commit.parent_epoch + 1,
                kind: self.kind,
                seq: entry.seq,
                hash: entry.hash(),
                welcome: welcome.clone(),
                members: self.members.clone(),
            });
        }
        Ok(entry)
    }

    pub fn message(&mut self, id: MessageId, epoch: u64, payload: &[u8]) -> Result<Entry, Stale> {
        if let Some(entry) = self.stored(id) {
            return Ok(entry);
        }
        if epoch + EPOCH_WINDOW < self.epoch.unwrap_or(0) {
            return Err(Stale);
        }
        Ok(self.append(id, EntryKind::MESSAGE, payload, None))
    }

    /// Commits at once and gives everybody the entry.
    pub fn accept(&mut self, commit: &PendingCommit) -> Entry {
        let id = self.next_id();
        self.commit(id, commit).expect("the commit is of the current epoch")
    }

    /// Encrypts on a device and stores.
    pub fn say(&mut self, from: &mut Client, text: &[u8]) -> Entry {
        let (id, conversation) = (self.next_id(), self.conversation);
        let sealed = from.step(|engine, rows| engine.encrypt(rows, &conversation, id, text)).unwrap();
        self.message(id, sealed.epoch, &sealed.payload).expect("a current epoch")
    }

    pub fn new_conversation(&self, members: Vec<Member>) -> NewConversation {
        NewConversation {
            conversation: self.conversation,
            kind: self.kind,
            suite: Suite::HYBRID,
            name: None,
            history: HistoryPolicy::None,
            receipt_key: self.receipt_key(),
            members,
        }
    }
}

/// What `text` from `client` must look like when it is opened.
pub fn message(client: &Client, text: &[u8]) -> Opened {
    Opened::Message { sender: client.account(), device: client.id(), content: text.to_vec(), revoked: false, place: None }
}

/// Alice and Bob with some devices each, in a conversation that Alice's first device has made.
pub struct Pair {
    pub alice: Account,
    pub bob: Account,
    pub a: Vec<Client>,
    pub b: Vec<Client>,
    pub server: Server,
}

impl Pair {
    pub fn new(alice_devices: usize, bob_devices: usize) -> Self {
        let (mut alice, mut bob) = (Account::new(), Account::new());
        let mut a: Vec<Client> = (0..alice_devices).map(|_| alice.device()).collect();
        let mut b: Vec<Client> = (0..bob_devices).map(|_| bob.device()).collect();
        let mut server = Server::new(&alice.id(), &bob.id());
        let pinned = lists(&[&alice, &bob]);
        let own = Member { list: alice.list(), packages: a[1..].iter_mut().map(Client::package).collect() };
        let other = Member { list: bob.list(), packages: b.iter_mut().map(Client::package).collect() };
        let new = server.new_conversation(vec![own, other]);
        let pending = a[0].step(|engine, rows| engine.create(rows, &new)).unwrap();
        let entry = server.accept(&pending);
        assert_eq!(a[0].open(&entry, &pinned), Ok(Opened::OwnCommit { epoch: 1, events: vec![] }));
        let welcome = server.welcome.clone().unwrap();
        for client in a[1..].iter_mut().chain(&mut b) {
            assert_eq!(client.join(&welcome, &pinned), Ok(1));
        }
        Self { alice, bob, a, b, server }
    }

    pub fn lists(&self) -> Pinned {
        lists(&[&self.alice, &self.bob])
    }

    pub fn conversation(&self) -> ConversationId {
        self.server.conversation
    }
}
