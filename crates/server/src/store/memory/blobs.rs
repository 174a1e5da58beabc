//! Blobs, what keeps them, and backups in memory. The bytes themselves are elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use parlour_wire::{AccountId, BlobId, ConversationId};

use super::conversations::Conversations;
use crate::store::{BLOB_CONVERSATIONS, Backup, Refusal, UPLOADS, Written};

/// A blob that is whole.
struct Kept {
    size: u64,
    /// When somebody last stored it.
    touched_ms: u64,
    owners: BTreeSet<AccountId>,
}

/// A blob that is not whole yet.
struct Begun {
    size: u64,
    begun_ms: u64,
}

#[derive(Default)]
pub(super) struct BlobTable {
    blobs: BTreeMap<BlobId, Kept>,
    begun: BTreeMap<(AccountId, BlobId), Begun>,
    /// When a message last named a blob in a conversation.
    named: BTreeMap<(BlobId, ConversationId), u64>,
    backups: BTreeMap<AccountId, (Backup, BTreeSet<BlobId>)>,
}

impl BlobTable {
    fn conversations_of(&self, blob: &BlobId) -> impl Iterator<Item = &ConversationId> {
        let range = (*blob, ConversationId([0; 32]))..=(*blob, ConversationId([0xff; 32]));
        self.named.range(range).map(|((_, conversation), _)| conversation)
    }

    /// The size of a blob that is whole and that the account may read.
    pub(super) fn readable(&self, conversations: &Conversations, blob: &BlobId, account: &AccountId) -> Option<u64> {
        let kept = self.blobs.get(blob)?;
        let may = kept.owners.contains(account)
            || self.backups.get(account).is_some_and(|(_, blobs)| blobs.contains(blob))
            || self.conversations_of(blob).any(|conversation| conversations.is_member(conversation, account));
        may.then_some(kept.size)
    }

    fn used(&self, account: &AccountId) -> u64 {
        let owned = self.blobs.values().filter(|kept| kept.owners.contains(account)).map(|kept| kept.size);
        let begun = self.begun_by(account).map(|begun| begun.size);
        owned.chain(begun).fold(0, u64::saturating_add)
    }

    fn begun_by(&self, account: &AccountId) -> impl Iterator<Item = &Begun> {
        self.begun.range((*account, BlobId([0; 32]))..=(*account, BlobId([0xff; 32]))).map(|(_, begun)| begun)
    }

    pub(super) fn begin(
        &mut self,
        conversations: &Conversations,
        (account, blob): (AccountId, BlobId),
        size: u64,
        quota: u64,
        now_ms: u64,
    ) -> Result<Written, Refusal> {
        if let Some(size) = self.readable(conversations, &blob, &account) {
            let used = self.used(&account);
            if let Some(kept) = self.blobs.get_mut(&blob) {
                if !kept.owners.contains(&account) && used.saturating_add(size) > quota {
                    return Err(Refusal::Quota);
                }
                kept.owners.insert(account);
                kept.touched_ms = kept.touched_ms.max(now_ms);
            }
            return Ok(Written::Whole { size });
        }
        if let Some(begun) = self.begun.get_mut(&(account, blob)) {
            if begun.size != size {
                return Err(Refusal::OtherSize);
            }
            begun.begun_ms = begun.begun_ms.max(now_ms);
            return Ok(Written::Done);
        }
        if self.begun_by(&account).count() >= UPLOADS || self.used(&account).saturating_add(size) > quota {
            return Err(Refusal::Quota);
        }
        self.begun.insert((account, blob), Begun { size, begun_ms: now_ms });
        Ok(Written::Done)
    }

    pub(super) fn finish(&mut self, (account, blob): (AccountId, BlobId), size: u64, now_ms: u64) -> Result<Written, Refusal> {
        if self.begun.get(&(account, blob)).is_none_or(|begun| begun.size != size) {
            return Err(Refusal::NoBlob);
        }
        self.begun.remove(&(account, blob));
        let kept = self.blobs.entry(blob).or_insert(Kept { size, touched_ms: now_ms, owners: BTreeSet::new() });
        kept.touched_ms = kept.touched_ms.max(now_ms);
        kept.owners.insert(account);
        Ok(Written::Done)
    }

    pub(super) fn abandon_old(&mut self, before_ms: u64, limit: u32) -> Written {
        let old = self.begun.iter().filter(|(_, begun)| begun.begun_ms < before_ms).map(|(upload, _)| *upload);
        let old: Vec<_> = old.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
        for upload in &old {
            self.begun.remove(upload);
        }
        Written::Abandoned(old)
    }

    /// Whether a message of a conversation may name a blob that its sender may read.
    pub(super) fn may_name(&self, conversation: ConversationId, blob: BlobId) -> bool {
        self.named.contains_key(&(blob, conversation)) || self.conversations_of(&blob).count() < BLOB_CONVERSATIONS
    }

    pub(super) fn name(&mut self, conversation: ConversationId, blobs: &[BlobId], now_ms: u64) {
        for blob in blobs {
            let named = self.named.entry((*blob, conversation)).or_default();
            *named = (*named).max(now_ms);
        }
    }

    pub(super) fn release(&mut self, before_ms: u64, limit: u32) -> Written {
        let mut left = u64::from(limit);
        self.named.retain(|_, stored_ms| {
            let goes = *stored_ms < before_ms && left > 0;
            left -= u64::from(goes);
            !goes
        });
        Written::Deleted(u64::from(limit) - left)
    }

    pub(super) fn forget_conversation(&mut self, conversation: &ConversationId) {
        self.named.retain(|(_, other), _| other != conversation);
    }

    fn is_unneeded(&self, blob: &BlobId, before_ms: u64) -> bool {
        self.blobs.get(blob).is_some_and(|kept| kept.touched_ms < before_ms)
            && self.conversations_of(blob).next().is_none()
            && self.backups.values().all(|(_, blobs)| !blobs.contains(blob))
    }

    pub(super) fn unneeded(&self, before_ms: u64, limit: u32) -> Vec<BlobId> {
        let unneeded = self.blobs.keys().filter(|blob| self.is_unneeded(blob, before_ms)).copied();
        unneeded.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
    }

    pub(super) fn drop_one(&mut self, blob: &BlobId, before_ms: u64) -> Result<Written, Refusal> {
        if !self.is_unneeded(blob, before_ms) {
            return Err(Refusal::NoBlob);
        }
        self.blobs.remove(blob);
        Ok(Written::Done)
    }

    pub(super) fn backup(&self, account: &AccountId) -> Option<&Backup> {
        self.backups.get(account).map(|(backup, _)| backup)
    }

    pub(super) fn set_backup(
        &mut self,
        conversations: &Conversations,
        account: AccountId,
        backup: Backup,
        blobs: Vec<BlobId>,
    ) -> Result<Written, Refusal> {
        let current = self.backups.get(&account).map_or(0, |(backup, _)| backup.version);
        if current.checked_add(1) != Some(backup.version) {
            return Err(Refusal::StaleList);
        }
        if blobs.iter().any(|blob| self.readable(conversations, blob, &account).is_none()) {
            return Err(Refusal::NoBlob);
        }
        let before = self.backups.insert(account, (backup, blobs.into_iter().collect()));
        self.let_go(&account, before.map(|(_, blobs)| blobs).unwrap_or_default());
        Ok(Written::Done)
    }

    pub(super) fn delete_backup(&mut self, account: &AccountId) {
        if let Some((_, blobs)) = self.backups.remove(account) {
            self.let_go(account, blobs);
        }
    }

    /// Blobs that were kept for a backup: what nothing else needs, of anybody, is not the account's any more.
    fn let_go(&mut self, account: &AccountId, blobs: BTreeSet<BlobId>) {
        for blob in blobs {
            let named = self.conversations_of(&blob).next().is_some();
            if named || self.backups.values().any(|(_, blobs)| blobs.contains(&blob)) {
                continue;
            }
            if let Some(kept) = self.blobs.get_mut(&blob) {
                kept.owners.remove(account);
                if kept.owners.is_empty() {
                    kept.touched_ms = 0;
                }
            }
        }
    }
}
