//! Writes about logs: messages, cursors, the heads of logs.

use std::sync::Arc;

use parlour_server::store::{Append, CommitWrite, Committed, Refusal, Written};
use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    api::{Cursor, EPOCH_WINDOW, Stored},
    log::{Entry, EntryKind},
};

use super::{Apply, Head, Outcome, SENDERS};
use crate::sqlite::rows::{signed, unsigned};

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
        let key = head.key;
        let blobs = if append.blobs.is_empty() { Some(Vec::new()) } else { self.named_by(append)? };
        let Some(blobs) = blobs else {
            let stored = self.find_stored(key, &append.id)?;
            return Ok(stored.ok_or(Refusal::NoBlob));
        };
        if !self.may_name(key, &blobs)? {
            let stored = self.find_stored(key, &append.id)?;
            return Ok(stored.ok_or(Refusal::Quota));
        }
        let head = self.head(&append.conversation);
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
        if !self.insert_entry(key, &entry)? {
            let stored = self.find_stored(key, &append.id)?;
            return stored.map(Ok).ok_or(rusqlite::Error::QueryReturnedNoRows);
        }
        self.name_blobs(key, &blobs, append.now_ms)?;
        self.advance(&entry, None)?;
        let stored = stored(&entry);
        self.changes.push(Committed::Entry {
            entry: Arc::new(entry),
            from: append.device,
            added: Vec::new(),
            removed: Vec::new(),
            members: None,
            parted: Vec::new(),
            joined: false,
        });
        Ok(Ok(stored))
    }

    /// The keys of the blobs that a message names; `None` if its sender may not name one of them.
    fn named_by(&self, append: &Append) -> rusqlite::Result<Option<Vec<i64>>> {
        let account = self.one(
            "SELECT account.id FROM device JOIN account USING (account) WHERE device.id = ?1",
            [append.device.as_bytes()],
            |row| row.get(0).map(AccountId),
        )?;
        account.map_or(Ok(None), |account| self.readable_blobs(&append.blobs, &account))
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
    pub(super) fn head(&self, conversation: &ConversationId) -> &Head {
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
    pub(super) fn cursor_of(&self, conversation: i64, device: &DeviceId) -> rusqlite::Result<Option<i64>> {
        self.one(
            "SELECT cursor.device FROM device JOIN cursor ON cursor.conversation = ?1 AND cursor.device = device.device \
             WHERE device.id = ?2 AND device.state = 0",
            (conversation, device.as_bytes()),
            |row| row.get(0),
        )
    }

    /// The answer for an entry that is in the log.
    pub(super) fn find_stored(&self, conversation: i64, id: &MessageId) -> rusqlite::Result<Option<Written>> {
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
    pub(super) fn insert_entry(&self, conversation: i64, entry: &Entry) -> rusqlite::Result<bool> {
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
    pub(super) fn advance(&mut self, entry: &Entry, commit: Option<&CommitWrite>) -> rusqlite::Result<[u8; 32]> {
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

    pub(super) fn begin_head(&mut self, key: i64, kind: u8, entry: &Entry, epoch: u64) -> [u8; 32] {
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

    /// The key of a device that may speak for the account.
    pub(super) fn device_of(&self, device: &DeviceId, account: &AccountId) -> rusqlite::Result<Option<i64>> {
        self.one(
            "SELECT device.device FROM device JOIN account USING (account) \
             WHERE device.id = ?1 AND device.state = 0 AND account.id = ?2",
            (device.as_bytes(), account.as_bytes()),
            |row| row.get(0),
        )
    }

    /// A device that joins by itself reads from here, wherever it was.
    pub(super) fn set_cursor(&self, conversation: i64, device: i64, seq: u64) -> rusqlite::Result<()> {
        self.put_cursor(
            "INSERT INTO cursor (conversation, device, since, seq, welcome) VALUES (?1, ?2, ?3, ?3, ?4) \
             ON CONFLICT (conversation, device) DO UPDATE SET \
             since = excluded.since, seq = excluded.seq, welcome = excluded.welcome",
            (conversation, device, seq, None),
        )
    }

    /// A device that is brought in reads from here; one that has a cursor reads on from that.
    pub(super) fn invite(&self, conversation: i64, device: i64, seq: u64, welcome: Option<i64>) -> rusqlite::Result<()> {
        self.put_cursor(
            "INSERT INTO cursor (conversation, device, since, seq, welcome) VALUES (?1, ?2, ?3, ?3, ?4) \
             ON CONFLICT (conversation, device) DO UPDATE SET welcome = excluded.welcome",
            (conversation, device, seq, welcome),
        )
    }

    fn put_cursor(&self, sql: &str, cursor: (i64, i64, u64, Option<i64>)) -> rusqlite::Result<()> {
        let (conversation, device, seq, welcome) = cursor;
        let earlier: Option<Option<i64>> =
            self.one("SELECT welcome FROM cursor WHERE conversation = ?1 AND device = ?2", (conversation, device), |row| {
                row.get(0)
            })?;
        self.run(sql, (conversation, device, signed(seq), welcome))?;
        match earlier {
            Some(Some(earlier)) => self.drop_unneeded_welcome(conversation, earlier),
            _ => Ok(()),
        }
    }
}

/// Whether a device is in the new epoch that was not in the one before.
pub(super) fn joins(commit: &CommitWrite) -> bool {
    commit.create.is_some() || commit.external || !commit.added.is_empty()
}

pub(super) fn stored(entry: &Entry) -> Written {
    let stored = Stored { seq: entry.seq, previous: entry.previous, stored_ms: entry.stored_ms, receipt: entry.receipt };
    Written::Stored { stored, duplicate: false }
}
