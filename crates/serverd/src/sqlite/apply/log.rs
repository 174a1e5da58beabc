//! Writes about conversations: messages, commits, cursors.

use std::{collections::BTreeSet, sync::Arc};

use parlour_server::store::{Append, CommitWrite, Committed, Refusal, Written};
use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    api::{Cursor, EPOCH_WINDOW, Stored, Welcome},
    log::{Entry, EntryKind},
};

use super::{Apply, Head, Outcome, SENDERS};
use crate::sqlite::rows::{self, signed, unsigned};

/// The conversation that a commit is for, with what the checks have found.
struct Checked {
    /// Its key; `None` if the commit creates it.
    existing: Option<i64>,
    kind: u8,
    members: BTreeSet<AccountId>,
    /// The committer's device.
    device: i64,
    /// The added devices.
    added: Vec<i64>,
}

/// Stops a check with a refusal.
macro_rules! allowed {
    ($check:expr) => {
        match $check {
            Ok(value) => value,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}

impl Apply<'_> {
    pub(super) fn append(&mut self, append: &Append) -> rusqlite::Result<Outcome> {
        if !self.load_head(&append.conversation)? {
            return Ok(Err(Refusal::NoConversation));
        }
        if !self.is_sender(&append.conversation, &append.device)? {
            return Ok(Err(Refusal::NotMember));
        }
        let head = self.head(&append.conversation);
        if append.epoch > head.epoch || head.epoch - append.epoch > EPOCH_WINDOW || append.epoch < head.floor {
            // What was stored in time stays stored, however late its author asks again.
            let stored = self.find_stored(head.key, &append.id)?;
            return Ok(stored.ok_or(Refusal::StaleEpoch));
        }
        let entry = Entry {
            conversation: append.conversation,
            seq: head.seq + 1,
            previous: head.hash,
            id: append.id,
            kind: EntryKind::MESSAGE,
            stored_ms: append.now_ms,
            payload: append.payload.clone(),
            receipt: None,
        };
        let key = head.key;
        if !self.insert_entry(key, &entry)? {
            let stored = self.find_stored(key, &append.id)?;
            return stored.map(Ok).ok_or(rusqlite::Error::QueryReturnedNoRows);
        }
        self.advance(&entry, None)?;
        let stored = stored(&entry);
        self.changes.push(Committed::Entry {
            entry: Arc::new(entry),
            from: append.device,
            added: Vec::new(),
            removed: Vec::new(),
            created: None,
            joined: false,
        });
        Ok(Ok(stored))
    }

    pub(super) fn commit(&mut self, commit: &CommitWrite) -> rusqlite::Result<Outcome> {
        let exists = self.load_head(&commit.conversation)?;
        if exists && let Some(stored) = self.find_stored(self.head(&commit.conversation).key, &commit.id)? {
            return Ok(Ok(stored));
        }
        let checked = if exists { self.check_next(commit)? } else { self.check_first(commit)? };
        let mut checked = allowed!(checked);
        checked.added = allowed!(self.check_added(commit, &checked)?);
        let key = match checked.existing {
            Some(key) => key,
            None => self.create_conversation(commit, &checked)?,
        };
        let head = self.cache.heads.get(&commit.conversation);
        let entry = Entry {
            conversation: commit.conversation,
            seq: head.map_or(0, |head| head.seq) + 1,
            previous: head.map_or([0; 32], |head| head.hash),
            id: commit.id,
            kind: EntryKind::COMMIT,
            stored_ms: commit.now_ms,
            payload: commit.commit.clone(),
            receipt: Some(commit.receipt),
        };
        self.insert_entry(key, &entry)?;
        self.move_epoch(key, commit)?;
        self.move_members(key, commit, &checked, entry.seq)?;
        let hash = if checked.existing.is_some() {
            self.advance(&entry, Some(commit))?
        } else {
            self.begin_head(key, checked.kind, &entry, commit.parent_epoch + 1)
        };
        self.keep_welcome(key, commit, entry.seq, &hash)?;
        let stored = stored(&entry);
        self.tell_commit(commit, entry, hash, &checked);
        Ok(Ok(stored))
    }

    pub(super) fn move_cursors(&mut self, device: &DeviceId, cursors: &[Cursor]) -> rusqlite::Result<Outcome> {
        let Some(device) = self.device_key(device)? else { return Ok(Ok(Written::Done)) };
        for cursor in cursors {
            if !self.load_head(&cursor.conversation)? {
                continue;
            }
            let head = self.head(&cursor.conversation);
            let (key, seq) = (head.key, cursor.seq.min(head.seq));
            let at =
                self.one("SELECT seq, welcome FROM cursor WHERE conversation = ?1 AND device = ?2", (key, device), |row| {
                    Ok((unsigned(row, 0)?, row.get::<_, Option<i64>>(1)?))
                })?;
            let Some((at, welcome)) = at else { continue };
            let taken = welcome.filter(|welcome| *welcome <= signed(seq));
            if seq <= at && taken.is_none() {
                continue;
            }
            self.run(
                "UPDATE cursor SET seq = ?3, welcome = ?4 WHERE conversation = ?1 AND device = ?2",
                (key, device, signed(seq.max(at)), if taken.is_some() { None } else { welcome }),
            )?;
            if let Some(welcome) = taken {
                self.drop_unneeded_welcome(key, welcome)?;
            }
        }
        Ok(Ok(Written::Done))
    }

    /// Deletes a welcome that no device waits for.
    pub(super) fn drop_unneeded_welcome(&self, conversation: i64, seq: i64) -> rusqlite::Result<()> {
        self.run(
            "DELETE FROM welcome WHERE conversation = ?1 AND seq = ?2 AND NOT EXISTS \
             (SELECT 1 FROM cursor WHERE conversation = ?1 AND welcome = ?2)",
            (conversation, seq),
        )?;
        Ok(())
    }

    /// The head of a conversation that has been loaded.
    fn head(&self, conversation: &ConversationId) -> &Head {
        self.cache.heads.get(conversation).expect("loaded by the caller")
    }

    /// Whether a device may append to a conversation whose head is loaded.
    fn is_sender(&mut self, conversation: &ConversationId, device: &DeviceId) -> rusqlite::Result<bool> {
        let head = self.head(conversation);
        if head.senders.contains(device) {
            return Ok(true);
        }
        if self.cursor_of(head.key, device)?.is_none() {
            return Ok(false);
        }
        if let Some(head) = self.cache.heads.get_mut(conversation) {
            if head.senders.len() >= SENDERS {
                head.senders.clear();
            }
            head.senders.insert(*device);
        }
        Ok(true)
    }

    /// The key of a device that has a cursor in the conversation.
    fn cursor_of(&self, conversation: i64, device: &DeviceId) -> rusqlite::Result<Option<i64>> {
        self.one(
            "SELECT cursor.device FROM device JOIN cursor ON cursor.conversation = ?1 AND cursor.device = device.device \
             WHERE device.id = ?2 AND device.state = 0",
            (conversation, device.as_bytes()),
            |row| row.get(0),
        )
    }

    /// The answer for an entry that is in the log.
    fn find_stored(&self, conversation: i64, id: &MessageId) -> rusqlite::Result<Option<Written>> {
        self.one(
            "SELECT seq, previous, stored_ms, receipt FROM entry WHERE conversation = ?1 AND id = ?2",
            (conversation, &id.0),
            |row| {
                let stored =
                    Stored { seq: unsigned(row, 0)?, previous: row.get(1)?, stored_ms: unsigned(row, 2)?, receipt: row.get(3)? };
                Ok(Written::Stored { stored, duplicate: true })
            },
        )
    }

    /// Adds an entry; `false` if the log has one of this id.
    fn insert_entry(&self, conversation: i64, entry: &Entry) -> rusqlite::Result<bool> {
        let inserted = self.run(
            "INSERT INTO entry (conversation, seq, id, kind, stored_ms, previous, payload, receipt) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (conversation, id) DO NOTHING",
            (
                conversation,
                signed(entry.seq),
                &entry.id.0,
                entry.kind.0,
                signed(entry.stored_ms),
                &entry.previous,
                &entry.payload,
                &entry.receipt,
            ),
        )?;
        Ok(inserted == 1)
    }

    /// Moves the head to an entry that has been added. Answers the entry's hash.
    fn advance(&mut self, entry: &Entry, commit: Option<&CommitWrite>) -> rusqlite::Result<[u8; 32]> {
        let hash = entry.hash();
        let head = self.cache.heads.get_mut(&entry.conversation).expect("loaded by the caller");
        let undated = (!head.dated).then_some((head.key, head.stored_ms));
        head.seq = entry.seq;
        head.hash = hash;
        head.stored_ms = entry.stored_ms;
        head.dated = true;
        if let Some(commit) = commit {
            head.epoch = commit.parent_epoch + 1;
            if joins(commit) {
                head.floor = head.epoch;
            }
            for device in &commit.removed {
                head.senders.remove(device);
            }
        }
        if let Some((key, oldest_ms)) = undated {
            self.run("UPDATE conversation SET oldest_ms = ?2 WHERE conversation = ?1", (key, signed(oldest_ms)))?;
        }
        Ok(hash)
    }

    fn begin_head(&mut self, key: i64, kind: u8, entry: &Entry, epoch: u64) -> [u8; 32] {
        let hash = entry.hash();
        let head = Head {
            key,
            kind,
            seq: entry.seq,
            hash,
            epoch,
            floor: epoch,
            stored_ms: entry.stored_ms,
            dated: false,
            senders: std::collections::HashSet::new(),
        };
        self.cache.heads.insert(entry.conversation, head);
        hash
    }

    /// The rules for a commit that creates its conversation.
    fn check_first(&self, commit: &CommitWrite) -> rusqlite::Result<Result<Checked, Refusal>> {
        let Some((kind, members)) = &commit.create else { return Ok(Err(Refusal::NoConversation)) };
        let members: BTreeSet<AccountId> = members.iter().copied().collect();
        if commit.parent_epoch != 0 {
            return Ok(Err(Refusal::StaleEpoch));
        }
        if !members.contains(&commit.account) {
            return Ok(Err(Refusal::NotMember));
        }
        for member in &members {
            if self.account_key(member)?.is_none() {
                return Ok(Err(Refusal::NoAccount));
            }
        }
        let Some(device) = self.device_of(&commit.device, &commit.account)? else { return Ok(Err(Refusal::NoDevice)) };
        Ok(Ok(Checked { existing: None, kind: kind.0, members, device, added: Vec::new() }))
    }

    /// The rules for a commit to a conversation that exists; its head is loaded.
    fn check_next(&self, commit: &CommitWrite) -> rusqlite::Result<Result<Checked, Refusal>> {
        if commit.create.is_some() {
            return Ok(Err(Refusal::ConversationExists));
        }
        let head = self.head(&commit.conversation);
        let members: BTreeSet<AccountId> = self
            .all(
                "SELECT account.id FROM member JOIN account USING (account) WHERE member.conversation = ?1",
                [head.key],
                |row| rows::account_id(row, 0),
            )?
            .into_iter()
            .collect();
        if !members.contains(&commit.account) {
            return Ok(Err(Refusal::NotMember));
        }
        let Some(device) = self.device_of(&commit.device, &commit.account)? else { return Ok(Err(Refusal::NoDevice)) };
        if !commit.external && self.cursor_of(head.key, &commit.device)?.is_none() {
            return Ok(Err(Refusal::NotMember));
        }
        if commit.parent_epoch != head.epoch {
            return Ok(Err(Refusal::StaleEpoch));
        }
        Ok(Ok(Checked { existing: Some(head.key), kind: head.kind, members, device, added: Vec::new() }))
    }

    /// The keys of the added devices.
    fn check_added(&self, commit: &CommitWrite, checked: &Checked) -> rusqlite::Result<Result<Vec<i64>, Refusal>> {
        let mut keys = Vec::with_capacity(commit.added.len());
        for added in &commit.added {
            if !checked.members.contains(&added.account) {
                return Ok(Err(Refusal::NotMember));
            }
            if let Some(conversation) = checked.existing
                && !commit.removed.contains(&added.device)
                && self.cursor_of(conversation, &added.device)?.is_some()
            {
                return Ok(Err(Refusal::AlreadyIn));
            }
            let Some(key) = self.device_of(&added.device, &added.account)? else { return Ok(Err(Refusal::NoDevice)) };
            keys.push(key);
        }
        Ok(Ok(keys))
    }

    /// The key of a device that may speak for the account.
    fn device_of(&self, device: &DeviceId, account: &AccountId) -> rusqlite::Result<Option<i64>> {
        self.one(
            "SELECT device.device FROM device JOIN account USING (account) \
             WHERE device.id = ?1 AND device.state = 0 AND account.id = ?2",
            (device.as_bytes(), account.as_bytes()),
            |row| row.get(0),
        )
    }

    fn create_conversation(&self, commit: &CommitWrite, checked: &Checked) -> rusqlite::Result<i64> {
        self.run(
            "INSERT INTO conversation (id, kind, epoch, floor) VALUES (?1, ?2, 0, 0)",
            (commit.conversation.as_bytes(), checked.kind),
        )?;
        let key = self.db.last_insert_rowid();
        for member in &checked.members {
            self.run(
                "INSERT INTO member (conversation, account) SELECT ?1, account FROM account WHERE id = ?2",
                (key, member.as_bytes()),
            )?;
        }
        Ok(key)
    }

    fn move_epoch(&self, key: i64, commit: &CommitWrite) -> rusqlite::Result<()> {
        let epoch = signed(commit.parent_epoch + 1);
        self.run(
            "UPDATE conversation SET epoch = ?2, floor = iif(?3, ?2, floor) WHERE conversation = ?1",
            (key, epoch, joins(commit)),
        )?;
        self.run(
            "INSERT INTO group_info (conversation, bytes) VALUES (?1, ?2) \
             ON CONFLICT (conversation) DO UPDATE SET bytes = excluded.bytes",
            (key, &commit.group_info),
        )?;
        Ok(())
    }

    /// Cursors: removed devices lose theirs, added ones and a committer who joins get one at this entry.
    fn move_members(&self, key: i64, commit: &CommitWrite, checked: &Checked, seq: u64) -> rusqlite::Result<()> {
        for device in &commit.removed {
            let welcome: Option<Option<i64>> = self.one(
                "DELETE FROM cursor WHERE conversation = ?1 AND device = (SELECT device FROM device WHERE id = ?2) \
                 RETURNING welcome",
                (key, device.as_bytes()),
                |row| row.get(0),
            )?;
            if let Some(Some(welcome)) = welcome {
                self.drop_unneeded_welcome(key, welcome)?;
            }
        }
        let welcome = commit.welcome.as_ref().map(|_| signed(seq));
        for device in &checked.added {
            self.set_cursor(key, *device, seq, welcome)?;
        }
        if commit.external || checked.existing.is_none() {
            self.set_cursor(key, checked.device, seq, None)?;
        }
        Ok(())
    }

    fn set_cursor(&self, conversation: i64, device: i64, seq: u64, welcome: Option<i64>) -> rusqlite::Result<()> {
        let earlier: Option<Option<i64>> =
            self.one("SELECT welcome FROM cursor WHERE conversation = ?1 AND device = ?2", (conversation, device), |row| {
                row.get(0)
            })?;
        self.run(
            "INSERT INTO cursor (conversation, device, since, seq, welcome) VALUES (?1, ?2, ?3, ?3, ?4) \
             ON CONFLICT (conversation, device) DO UPDATE SET \
             since = excluded.since, seq = excluded.seq, welcome = excluded.welcome",
            (conversation, device, signed(seq), welcome),
        )?;
        match earlier {
            Some(Some(earlier)) => self.drop_unneeded_welcome(conversation, earlier),
            _ => Ok(()),
        }
    }

    fn keep_welcome(&self, key: i64, commit: &CommitWrite, seq: u64, hash: &[u8; 32]) -> rusqlite::Result<()> {
        if let Some(welcome) = &commit.welcome
            && !commit.added.is_empty()
        {
            self.run(
                "INSERT INTO welcome (conversation, seq, epoch, hash, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
                (key, signed(seq), signed(commit.parent_epoch + 1), hash, welcome),
            )?;
        }
        Ok(())
    }

    fn tell_commit(&mut self, commit: &CommitWrite, entry: Entry, hash: [u8; 32], checked: &Checked) {
        let seq = entry.seq;
        let added: Vec<DeviceId> = commit.added.iter().map(|added| added.device).collect();
        self.changes.push(Committed::Entry {
            entry: Arc::new(entry),
            from: commit.device,
            added: added.clone(),
            removed: commit.removed.iter().filter(|device| !added.contains(device)).copied().collect(),
            created: checked.existing.is_none().then(|| checked.members.iter().copied().collect()),
            joined: commit.external || checked.existing.is_none(),
        });
        let Some(bytes) = &commit.welcome else { return };
        let welcome = Arc::new(Welcome {
            conversation: commit.conversation,
            kind: parlour_wire::api::ConversationKind(checked.kind),
            seq,
            hash,
            welcome: bytes.clone(),
            members: checked.members.iter().copied().collect(),
            epoch: commit.parent_epoch + 1,
        });
        for device in added {
            self.changes.push(Committed::Welcome { device, welcome: Arc::clone(&welcome) });
        }
    }
}

/// Whether a device is in the new epoch that was not in the one before.
fn joins(commit: &CommitWrite) -> bool {
    commit.create.is_some() || commit.external || !commit.added.is_empty()
}

fn stored(entry: &Entry) -> Written {
    let stored = Stored { seq: entry.seq, previous: entry.previous, stored_ms: entry.stored_ms, receipt: entry.receipt };
    Written::Stored { stored, duplicate: false }
}
