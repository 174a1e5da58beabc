//! The store that keeps everything in memory: for tests, simulation, and servers that are meant to forget.

mod accounts;
mod blobs;
mod conversations;

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parlour_wire::{AccountId, BlobId, ConversationId, DeviceId, api::ConversationState, limits, name::Name};

use self::{accounts::Accounts, blobs::BlobTable, conversations::Conversations};
use super::{
    Account, Backup, Committed, Device, GroupInfo, LogPage, Observer, Opener, Refusal, Store, StoreError, Write, Written,
    page_bytes,
};

/// A [`Store`] in memory. Nothing survives it.
pub struct MemoryStore {
    state: Mutex<State>,
    observer: Arc<dyn Observer>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    accounts: Accounts,
    conversations: Conversations,
    blobs: BlobTable,
    settings: BTreeMap<&'static str, Vec<u8>>,
}

impl MemoryStore {
    /// An empty store that tells `observer` what it has taken.
    #[must_use]
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self { state: Mutex::default(), observer }
    }

    /// A panic in another thread leaves at worst a write half done in a store that keeps nothing anyway.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, write: Write, heard: &mut Vec<Committed>) -> Result<Written, Refusal> {
        match write {
            Write::CreateAccount { account, devices, invite, now_ms } => {
                self.accounts.create(account, &devices, invite, now_ms).map(|()| Written::Done)
            }
            Write::ReplacePassword { account, recovery, record, wrapped_root } => {
                self.accounts.replace_password(account, recovery, Opener { record, wrapped_root }).map(|()| Written::Done)
            }
            Write::ReplaceDeviceList { account, device_list, version, devices } => {
                let ended = self.accounts.replace_list(account, device_list, version, &devices)?;
                self.end(account, version, ended, heard);
                Ok(Written::Done)
            }
            Write::RemoveDevice { device } => {
                let (account, version) = self.accounts.log_out(device)?;
                self.end(account, version, vec![device], heard);
                Ok(Written::Done)
            }
            Write::PublishKeyPackages { device, suite, one_time, last_resort, replace } => {
                self.accounts.publish(device, suite, (one_time, last_resort), replace).map(|()| Written::Done)
            }
            Write::ClaimKeyPackages { account, suite } => self.accounts.claim(account, suite),
            Write::CreateInvite { token, uses, expires_ms } => {
                self.accounts.invite(token, uses, expires_ms);
                Ok(Written::Done)
            }
            Write::Append(append) => self.conversations.append(&self.accounts, &mut self.blobs, append, heard),
            Write::Commit(commit) => self.conversations.commit(&mut self.accounts, *commit, heard),
            Write::Leave(leave) => self.leave(leave, heard),
            Write::MoveCursors { device, cursors } => {
                self.conversations.move_cursors(device, &cursors);
                Ok(Written::Done)
            }
            Write::Seen { device, now_ms } => {
                self.accounts.seen(device, now_ms);
                Ok(Written::Done)
            }
            Write::Retain { before_ms, limit } => Ok(Written::Deleted(self.conversations.retain(before_ms, limit))),
            Write::InitSetting { key, value } => {
                self.settings.entry(key).or_insert(value);
                Ok(Written::Done)
            }
            other => self.apply_to_blobs(other),
        }
    }

    fn apply_to_blobs(&mut self, write: Write) -> Result<Written, Refusal> {
        match write {
            Write::BeginBlob { account, blob, size, quota, now_ms } => {
                self.accounts.get(&account).ok_or(Refusal::NoAccount)?;
                self.blobs.begin(&self.conversations, (account, blob), size, quota, now_ms)
            }
            Write::FinishBlob { account, blob, size, now_ms } => self.blobs.finish((account, blob), size, now_ms),
            Write::AbandonOldBlobs { before_ms, limit } => Ok(self.blobs.abandon_old(before_ms, limit)),
            Write::ReleaseBlobs { before_ms, limit } => Ok(self.blobs.release(before_ms, limit)),
            Write::DropBlob { blob, before_ms } => self.blobs.drop_one(&blob, before_ms),
            Write::SetBackup { account, version, index, blobs } => {
                self.accounts.get(&account).ok_or(Refusal::NoAccount)?;
                self.blobs.set_backup(&self.conversations, account, Backup { version, index }, blobs)
            }
            Write::DeleteBackup { account } => {
                self.blobs.delete_backup(&account);
                Ok(Written::Done)
            }
            _ => unreachable!("the other writes are applied by the caller"),
        }
    }

    fn leave(&mut self, leave: super::LeaveWrite, heard: &mut Vec<Committed>) -> Result<Written, Refusal> {
        let conversation = leave.conversation;
        let written = self.conversations.leave(&mut self.accounts, leave, heard)?;
        if !self.conversations.exists(&conversation) {
            self.blobs.forget_conversation(&conversation);
        }
        Ok(written)
    }

    fn end(&mut self, account: AccountId, version: u64, ended: Vec<DeviceId>, heard: &mut Vec<Committed>) {
        for device in &ended {
            self.conversations.end(device);
        }
        heard.push(Committed::Devices { account, version, ended });
    }

    fn conversations(
        &self,
        account: AccountId,
        device: DeviceId,
        after: Option<ConversationId>,
        limit: u32,
    ) -> (Vec<ConversationState>, bool) {
        let mut page = Vec::new();
        let mut bytes = 0;
        for state in self.conversations.states(account, device, after) {
            bytes += page_bytes(state.members.len(), state.welcome.as_ref().map(|welcome| welcome.welcome.len()));
            if page.len() as u64 >= u64::from(limit) || (!page.is_empty() && bytes > limits::READ_BYTES) {
                return (page, true);
            }
            page.push(state);
        }
        (page, false)
    }
}

impl Store for MemoryStore {
    fn apply(&self, write: Write) -> impl Future<Output = Result<Result<Written, Refusal>, StoreError>> + Send + 'static {
        let mut state = self.state();
        let mut heard = Vec::new();
        let result = state.apply(write, &mut heard);
        if !heard.is_empty() {
            // Under the lock, so that observers hear in the order of the writes.
            self.observer.committed(heard);
        }
        ready(Ok(result))
    }

    fn account_by_name(&self, name: &Name) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send + 'static {
        ready(Ok(self.state().accounts.by_name(name).cloned()))
    }

    fn account(&self, id: AccountId) -> impl Future<Output = Result<Option<Account>, StoreError>> + Send + 'static {
        ready(Ok(self.state().accounts.get(&id).cloned()))
    }

    fn device(&self, id: DeviceId) -> impl Future<Output = Result<Option<Device>, StoreError>> + Send + 'static {
        ready(Ok(self.state().accounts.device(&id)))
    }

    fn devices(&self, account: AccountId) -> impl Future<Output = Result<Vec<Device>, StoreError>> + Send + 'static {
        ready(Ok(self.state().accounts.devices(&account)))
    }

    fn invite(
        &self,
        token: [u8; 32],
        now_ms: u64,
    ) -> impl Future<Output = Result<Result<(), Refusal>, StoreError>> + Send + 'static {
        ready(Ok(self.state().accounts.check_invite(&token, now_ms)))
    }

    fn log(
        &self,
        conversation: ConversationId,
        device: DeviceId,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Result<LogPage, Refusal>, StoreError>> + Send + 'static {
        ready(Ok(self.state().conversations.log(&conversation, &device, after, limit)))
    }

    fn leaves(
        &self,
        conversation: ConversationId,
        account: AccountId,
    ) -> impl Future<Output = Result<Result<Vec<Vec<u8>>, Refusal>, StoreError>> + Send + 'static {
        ready(Ok(self.state().conversations.leaves(&conversation, &account)))
    }

    fn group_info(
        &self,
        conversation: ConversationId,
        account: AccountId,
    ) -> impl Future<Output = Result<Result<GroupInfo, Refusal>, StoreError>> + Send + 'static {
        ready(Ok(self.state().conversations.group_info(&conversation, &account)))
    }

    fn conversations(
        &self,
        account: AccountId,
        device: DeviceId,
        after: Option<ConversationId>,
        limit: u32,
    ) -> impl Future<Output = Result<(Vec<ConversationState>, bool), StoreError>> + Send + 'static {
        ready(Ok(self.state().conversations(account, device, after, limit)))
    }

    fn peers(&self, account: AccountId) -> impl Future<Output = Result<Vec<AccountId>, StoreError>> + Send + 'static {
        ready(Ok(self.state().conversations.peers(&account)))
    }

    fn group_by_name(&self, name: &Name) -> impl Future<Output = Result<Option<ConversationId>, StoreError>> + Send + 'static {
        ready(Ok(self.state().accounts.group_by_name(name)))
    }

    fn recovery(&self, account: AccountId) -> impl Future<Output = Result<Option<Opener>, StoreError>> + Send + 'static {
        ready(Ok(self.state().accounts.recovery(&account).cloned()))
    }

    fn blob(&self, blob: BlobId, account: AccountId) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send + 'static {
        let state = self.state();
        ready(Ok(state.blobs.readable(&state.conversations, &blob, &account)))
    }

    fn unneeded_blobs(
        &self,
        before_ms: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<BlobId>, StoreError>> + Send + 'static {
        ready(Ok(self.state().blobs.unneeded(before_ms, limit)))
    }

    fn backup(&self, account: AccountId) -> impl Future<Output = Result<Option<Backup>, StoreError>> + Send + 'static {
        ready(Ok(self.state().blobs.backup(&account).cloned()))
    }

    fn setting(&self, key: &'static str) -> impl Future<Output = Result<Option<Vec<u8>>, StoreError>> + Send + 'static {
        ready(Ok(self.state().settings.get(key).cloned()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::MemoryStore;
    use crate::store::{Observer, suite::Place};

    struct Memory;

    impl Place for Memory {
        type Store = MemoryStore;
        const PERSISTS: bool = false;
        fn open(&self, observer: Arc<dyn Observer>) -> MemoryStore {
            MemoryStore::new(observer)
        }
    }

    crate::store_suite!(|| Memory);
}
