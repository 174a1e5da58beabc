//! A store over the memory store, whose answers wait when they are told to, and which remembers what was written.

use std::{
    collections::BTreeSet,
    future::{Future, poll_fn},
    sync::{Arc, Mutex},
    task::Poll,
};

use parlour_server::{
    Fanout,
    store::{
        Account, Backup, Device, GroupInfo, LogPage, Opener, Refusal, Store, StoreError, Write, Written, memory::MemoryStore,
    },
};
use parlour_wire::{AccountId, BlobId, ConversationId, DeviceId, api::ConversationState, name::Name};

/// See the module.
pub struct GatedStore {
    inner: MemoryStore,
    gate: Arc<Mutex<Gate>>,
}

#[derive(Default)]
struct Gate {
    /// Methods whose answers wait.
    shut: BTreeSet<&'static str>,
    asked: Vec<&'static str>,
    written: Vec<Write>,
}

impl GatedStore {
    pub fn new(fanout: &Arc<Fanout>) -> Self {
        Self { inner: MemoryStore::new(Arc::clone(fanout) as Arc<_>), gate: Arc::default() }
    }

    /// Answers of this method wait until [`Self::open`]. Whoever waits is not woken.
    pub fn shut(&self, method: &'static str) {
        self.gate.lock().unwrap().shut.insert(method);
    }

    pub fn open(&self) {
        self.gate.lock().unwrap().shut.clear();
    }

    /// How often this question was asked.
    pub fn asked(&self, method: &'static str) -> usize {
        self.gate.lock().unwrap().asked.iter().filter(|asked| **asked == method).count()
    }

    /// Takes what was written since the last time.
    pub fn take_written(&self) -> Vec<Write> {
        std::mem::take(&mut self.gate.lock().unwrap().written)
    }

    fn pass<T>(
        &self,
        method: &'static str,
        answer: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        self.gate.lock().unwrap().asked.push(method);
        let gate = Arc::clone(&self.gate);
        async move {
            poll_fn(|_| if gate.lock().unwrap().shut.contains(method) { Poll::Pending } else { Poll::Ready(()) }).await;
            answer.await
        }
    }
}

macro_rules! gated {
    ($($method:ident($($argument:ident: $type:ty),*) -> $output:ty;)*) => {
        $(fn $method(&self, $($argument: $type),*) -> impl Future<Output = Result<$output, StoreError>> + Send + 'static {
            self.pass(stringify!($method), self.inner.$method($($argument),*))
        })*
    };
}

impl Store for GatedStore {
    fn apply(&self, write: Write) -> impl Future<Output = Result<Result<Written, Refusal>, StoreError>> + Send + 'static {
        self.gate.lock().unwrap().written.push(write.clone());
        self.inner.apply(write)
    }

    gated! {
        account(id: AccountId) -> Option<Account>;
        device(id: DeviceId) -> Option<Device>;
        devices(account: AccountId) -> Vec<Device>;
        invite(token: [u8; 32], now_ms: u64) -> Result<(), Refusal>;
        log(conversation: ConversationId, device: DeviceId, after: u64, limit: u32) -> Result<LogPage, Refusal>;
        group_info(conversation: ConversationId, account: AccountId) -> Result<GroupInfo, Refusal>;
        leaves(conversation: ConversationId, account: AccountId) -> Result<Vec<Vec<u8>>, Refusal>;
        conversations(account: AccountId, device: DeviceId, after: Option<ConversationId>, limit: u32)
            -> (Vec<ConversationState>, bool);
        peers(account: AccountId) -> Vec<AccountId>;
        recovery(account: AccountId) -> Option<Opener>;
        blob(blob: BlobId, account: AccountId) -> Option<u64>;
        unneeded_blobs(before_ms: u64, limit: u32) -> Vec<BlobId>;
        backup(account: AccountId) -> Option<Backup>;
        setting(key: &'static str) -> Option<Vec<u8>>;
    }

    fn group_by_name(&self, name: &Name) -> impl Future<Output = Result<Option<ConversationId>, StoreError>> + Send + 'static {
        self.pass("group_by_name", self.inner.group_by_name(name))
    }

    fn account_by_name(&self, name: &Name) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send + 'static {
        self.pass("account_by_name", self.inner.account_by_name(name))
    }
}
