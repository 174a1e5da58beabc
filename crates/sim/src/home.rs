//! The server: its decisions over a store in memory that survives crashes, and an ear at the store that hears every write, so
//! that the check knows who had to get what without asking the clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use parlour_server::{
    BlobRoom, Failure, Fanout, Now, Secrets, Service, ServiceConfig, Session, Sink,
    store::{Committed, Observer, Store as _, Write, Written, memory::MemoryStore, suite::block_on},
};
use parlour_wire::{AccountId, ConversationId, DeviceId, MessageId, api::Registration, log::EntryKind};
use rand::rngs::StdRng;

/// Every link shows this certificate.
pub(crate) const FINGERPRINT: [u8; 32] = [7; 32];

/// One conversation as the server has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    /// Devices that read, with the entry that brought them in.
    pub(crate) devices: BTreeMap<DeviceId, u64>,
    pub(crate) members: BTreeSet<AccountId>,
    /// Messages by id, with their places.
    pub(crate) messages: BTreeMap<MessageId, u64>,
    /// The last member has left.
    pub(crate) ended: bool,
    /// How many commits there have been: the epoch for the server.
    pub(crate) epoch: u64,
    /// The number of the newest entry, and its hash.
    pub(crate) head: (u64, [u8; 32]),
}

/// A group was founded anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Founding {
    pub(crate) group: ConversationId,
    /// The entry that did it.
    pub(crate) seq: u64,
    /// The epoch that it began, as the server counts.
    pub(crate) epoch: u64,
}

/// What the server has taken.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) rooms: BTreeMap<ConversationId, Room>,
    pub(crate) owners: BTreeMap<DeviceId, AccountId>,
    /// Devices that joined a conversation in which they were.
    pub(crate) rejoins: Vec<(DeviceId, ConversationId)>,
    /// Groups that were founded anew.
    pub(crate) foundings: Vec<Founding>,
}

impl Log {
    /// How often a group had been founded anew by an epoch. Each time MLS counts its epochs anew.
    pub(crate) fn foundings_by(&self, group: &ConversationId, epoch: u64) -> usize {
        self.foundings.iter().filter(|founding| founding.group == *group && founding.epoch <= epoch).count()
    }

    fn note(&mut self, change: &Committed) {
        match change {
            Committed::Entry { entry, from, added, removed, members, parted, joined } => {
                let room = self.rooms.entry(entry.conversation).or_default();
                room.head = (entry.seq, entry.hash());
                room.epoch += u64::from(entry.kind == EntryKind::COMMIT);
                if *joined && room.devices.contains_key(from) {
                    self.rejoins.push((*from, entry.conversation));
                }
                // Who is taken out and brought in by one commit reads on from where it was.
                let stays = |device: &DeviceId| room.devices.get(device).copied();
                if added.iter().any(|device| stays(device).is_some()) {
                    self.foundings.push(Founding { group: entry.conversation, seq: entry.seq, epoch: room.epoch });
                }
                let coming: Vec<_> = added.iter().map(|device| (*device, stays(device).unwrap_or(entry.seq))).collect();
                let owners = &self.owners;
                room.devices.retain(|device, _| {
                    !removed.contains(device) && !owners.get(device).is_some_and(|owner| parted.contains(owner))
                });
                room.devices.extend(coming.into_iter().chain(joined.then_some((*from, entry.seq))));
                if let Some(members) = members {
                    room.members = members.iter().copied().collect();
                    room.ended = members.is_empty();
                }
                if entry.kind == EntryKind::MESSAGE {
                    room.messages.insert(entry.id, entry.seq);
                }
            }
            Committed::Devices { ended, .. } => {
                for room in self.rooms.values_mut() {
                    room.devices.retain(|device, _| !ended.contains(device));
                }
            }
            Committed::Welcome { .. } => {}
        }
    }
}

/// Hears what the store has committed.
struct Ear {
    fanout: Mutex<Arc<Fanout>>,
    log: Mutex<Log>,
}

impl Observer for Ear {
    fn committed(&self, changes: Vec<Committed>) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        changes.iter().for_each(|change| log.note(change));
        drop(log);
        let fanout = Arc::clone(&self.fanout.lock().unwrap_or_else(PoisonError::into_inner));
        fanout.committed(changes);
    }
}

/// The server.
pub(crate) struct Home {
    service: Service<MemoryStore>,
    store: Arc<MemoryStore>,
    ear: Arc<Ear>,
    /// On its disk, like the store.
    room: BlobRoom,
    secrets: Vec<u8>,
    lives: u8,
}

impl Home {
    pub(crate) fn new(rng: &mut StdRng) -> Self {
        let fanout = Arc::new(Fanout::new());
        let ear = Arc::new(Ear { fanout: Mutex::new(Arc::clone(&fanout)), log: Mutex::default() });
        let store = Arc::new(MemoryStore::new(Arc::clone(&ear) as Arc<dyn Observer>));
        let secrets = Secrets::generate(rng).to_bytes().to_vec();
        let room = BlobRoom::in_memory();
        let service = service((&store, &fanout), &room, &secrets, 0);
        Self { service, store, ear, room, secrets, lives: 0 }
    }

    /// Everything that was in memory is gone: sessions, and what was being pushed. What was answered is in the store; what
    /// had arrived and was not yet applied is lost with the connections.
    pub(crate) fn crash(&mut self) {
        let fanout = Arc::new(Fanout::new());
        *self.ear.fanout.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fanout);
        self.lives = self.lives.wrapping_add(1);
        self.service = service((&self.store, &fanout), &self.room, &self.secrets, self.lives);
    }

    pub(crate) fn receipt_key(&self) -> [u8; 32] {
        secrets(&self.secrets).receipt_key()
    }

    pub(crate) fn log<T>(&self, look: impl FnOnce(&mut Log) -> T) -> T {
        look(&mut self.ear.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes past the service, as somebody with a password would through it.
    pub(crate) fn apply(&self, write: Write) -> Written {
        let written = block_on(self.store.apply(write)).expect("the store in memory always works");
        written.expect("the simulation writes nothing that is refused")
    }

    pub(crate) fn open(&self, challenge: [u8; 32], sink: Arc<dyn Sink>) -> Session {
        self.service.open(IpAddr::V4(Ipv4Addr::LOCALHOST), challenge, FINGERPRINT, sink)
    }

    pub(crate) fn request(&self, session: &mut Session, name: &str, content: &[u8], unix_ms: u64) -> Result<Bytes, Failure> {
        block_on(self.service.request(session, name, content, Now { unix_ms }))
    }

    pub(crate) fn action(&self, session: &mut Session, name: &str, content: &[u8], unix_ms: u64) {
        self.service.action(session, name, content, Now { unix_ms });
    }

    pub(crate) fn connection(&self, session: &mut Session, up: bool, unix_ms: u64) {
        self.service.connection(session, up, Now { unix_ms });
    }

    pub(crate) fn drained(&self, session: &Session) {
        self.service.drained(session);
    }

    pub(crate) fn close(&self, session: Session, unix_ms: u64) {
        self.service.close(session, Now { unix_ms });
    }
}

fn secrets(bytes: &[u8]) -> Secrets {
    Secrets::from_bytes(bytes).expect("they were made by this version")
}

fn service((store, fanout): (&Arc<MemoryStore>, &Arc<Fanout>), room: &BlobRoom, bytes: &[u8], life: u8) -> Service<MemoryStore> {
    let config = ServiceConfig { registration: Registration::OPEN, version: "sim".to_owned(), throttle: Default::default() };
    Service::with_blobs(config, Arc::clone(store), Arc::clone(fanout), secrets(bytes), [life; 32], room.clone())
}
