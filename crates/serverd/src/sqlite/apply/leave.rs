//! An account leaves a group.

use std::sync::Arc;

use parlour_server::store::{Committed, LeaveWrite, Refusal};
use parlour_wire::{
    DeviceId,
    api::ConversationKind,
    log::{Entry, EntryKind},
};

use super::{Apply, Outcome, log::stored};

impl Apply<'_> {
    pub(super) fn leave(&mut self, leave: &LeaveWrite) -> rusqlite::Result<Outcome> {
        if !self.load_head(&leave.conversation)? {
            return Ok(Err(Refusal::NoConversation));
        }
        let head = self.head(&leave.conversation);
        let (key, kind) = (head.key, ConversationKind(head.kind));
        let entry = Entry {
            conversation: leave.conversation,
            seq: head.seq + 1,
            previous: head.hash,
            id: leave.id,
            kind: EntryKind::LEAVE,
            stored_ms: leave.now_ms,
            payload: leave.statement.clone(),
            receipt: None,
        };
        let said: Option<Vec<u8>> =
            self.one("SELECT payload FROM entry WHERE conversation = ?1 AND id = ?2", (key, &leave.id.0), |row| row.get(0))?;
        if said.as_ref() == Some(&leave.statement) {
            return Ok(self.find_stored(key, &leave.id)?.ok_or(Refusal::NotMember));
        }
        let before = self.roster(key)?;
        let Some(member) = before.get(&leave.account) else { return Ok(Err(Refusal::NotMember)) };
        if self.device_of(&leave.device, &leave.account)?.is_none() {
            return Ok(Err(Refusal::NoDevice));
        }
        if kind != ConversationKind::GROUP || said.is_some() {
            return Ok(Err(Refusal::Forbidden));
        }
        if member.since != leave.since {
            return Ok(Err(Refusal::StaleEpoch));
        }
        let after = before.leave(&leave.account);
        let own = self.inside(key)?.into_iter().filter(|(_, account)| *account == leave.account);
        let removed: Vec<DeviceId> = own.map(|(device, _)| device).collect();
        self.insert_entry(key, &entry)?;
        if after.members().is_empty() {
            self.end_conversation(&leave.conversation, key)?;
        } else {
            self.keep_roster(key, &before, &after)?;
            for device in &removed {
                self.drop_cursor(key, device)?;
            }
            self.advance(&entry, None)?;
            self.forget_senders(&leave.conversation, &removed);
        }
        let stored = stored(&entry);
        self.changes.push(Committed::Entry {
            entry: Arc::new(entry),
            from: leave.device,
            added: Vec::new(),
            removed,
            members: Some(after.accounts()),
            parted: vec![leave.account],
            joined: false,
        });
        Ok(Ok(stored))
    }

    /// Devices that went may not append any more.
    pub(super) fn forget_senders(&mut self, conversation: &parlour_wire::ConversationId, devices: &[DeviceId]) {
        if let Some(head) = self.cache.heads.get_mut(conversation) {
            for device in devices {
                head.senders.remove(device);
            }
        }
    }
}
