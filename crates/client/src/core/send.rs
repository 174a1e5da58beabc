//! The outbox at work: what is written is encrypted once, in the order of writing, and goes out byte for byte until the server
//! has it.

use parlour_e2ee::{E2eeError, Place};
use parlour_wire::{
    Code, ConversationId, MessageId,
    api::{self, Stored},
    content::{Body, Content},
    id::BlobId,
    log::{Entry, EntryKind},
};

use super::{Core, compose::blobs, session::Pending, transfers::not_kept};
use crate::{
    api::State,
    error::Error,
    store::{Conversation, ConversationPhase, Intent, MessageRow, OutboxItem, OutboxKind},
};

/// Items of one conversation at the server at the same time. The server takes requests in order, so more than one keeps the
/// order; a window keeps what has to be encrypted anew after a stale epoch small.
const WINDOW: usize = 16;
/// Told so often that an epoch is stale which the log says is current, a device has lost its place.
const STALE_TRIES: u32 = 3;
/// Sent so often for one message, a blob that the server does not have afterwards is not sent again in this session.
const BLOB_TRIES: u32 = 3;

impl Core {
    /// Does what can be done in one conversation.
    pub(super) fn pump_conversation(&mut self, id: &ConversationId) -> Result<(), Error> {
        let Some(conversation) = self.store.conversation(id)? else { return Ok(()) };
        if self.session.resting.contains(id) || self.session.blocked.contains_key(id) || !self.session.synced {
            return Ok(());
        }
        match conversation.phase {
            ConversationPhase::Stopped => Ok(()),
            ConversationPhase::Outside | ConversationPhase::Removed => {
                self.unseal_all(id)?;
                self.pump_outside(&conversation)
            }
            ConversationPhase::Creating | ConversationPhase::Joining => {
                self.unseal_all(id)?;
                self.send_outbox(id)
            }
            ConversationPhase::Active => {
                let held = self.session.held.get(id).is_some_and(|held| !held.is_empty());
                let head = self.session.heads.get(id).copied().unwrap_or(0);
                // What is missing may be an entry of ours whose answer is under way.
                let own = self.session.sending.values().any(|sending| sending == id);
                if conversation.astray && (head <= conversation.seq || self.is_refused_entries(id)) {
                    return self.rejoin(&conversation, "its keys are older than the log, or not those of the others");
                }
                if (head > conversation.seq || held) && !own {
                    self.read_on(&conversation)?;
                }
                if !self.session.reading.contains(id) && !conversation.astray {
                    if conversation.is_group() && head <= conversation.seq {
                        self.compare_roster(&conversation)?;
                        self.drive_intents(&conversation)?;
                        self.go_on_founding(&conversation)?;
                    }
                    self.tell_profile(&conversation)?;
                    self.seal(&conversation)?;
                }
                if conversation.astray {
                    self.unseal_all(id)?;
                }
                self.send_outbox(id)
            }
        }
    }

    /// Not in the conversation: joins it if it exists, makes it if there is something to say.
    fn pump_outside(&mut self, conversation: &Conversation) -> Result<(), Error> {
        let id = conversation.id;
        if conversation.is_group() {
            return self.pump_outside_group(conversation);
        }
        if self.session.joining.contains(&id) || self.session.heads.contains_key(&id) {
            return self.ask_group_info(id);
        }
        let idle = if conversation.is_own() { !self.has_siblings()? } else { self.store.unsealed(&id, 1)?.is_empty() };
        if idle || !self.may_write(conversation)? {
            return Ok(());
        }
        self.create(conversation)
    }

    fn pump_outside_group(&mut self, conversation: &Conversation) -> Result<(), Error> {
        match self.store.first_intent(&conversation.id)? {
            Some(row) if matches!(row.intent, Intent::Create { .. }) => self.create_group(conversation, &row),
            _ if self.session.joining.contains(&conversation.id) => self.ask_group_info(conversation.id),
            _ => Ok(()),
        }
    }

    /// Whether the peer is who we think, so far as this session has asked. Asks otherwise.
    pub(super) fn may_write(&mut self, conversation: &Conversation) -> Result<bool, Error> {
        let Some(peer) = conversation.peer else { return Ok(true) };
        let Some(contact) = self.store.contact(&peer)? else { return Ok(true) };
        if contact.blocked || contact.claimed.is_some() {
            return Ok(false);
        }
        self.check_contact(&contact)
    }

    /// Encrypts what waits: messages in order, then reports. Each gets its ratchet step and its outbox row in this transaction.
    fn seal(&mut self, conversation: &Conversation) -> Result<(), Error> {
        let id = conversation.id;
        let items = self.store.outbox_of(&id, WINDOW)?;
        let room = WINDOW.saturating_sub(items.len());
        if room == 0 || items.iter().any(|item| matches!(item.kind, OutboxKind::Commit | OutboxKind::Leave)) {
            return Ok(());
        }
        let (engine, store) = self.engine()?;
        let epoch = engine.epoch(store, &id).map_err(Error::internal)?;
        // An item of an older epoch may come back to be encrypted anew; what is written later must stay behind it. So does one that has
        // been taken back under way, and under its id nothing else may go out before its answer is here.
        if items.iter().any(|item| item.epoch < epoch || self.session.taken_back.contains(&item.id)) {
            return Ok(());
        }
        if conversation.is_own() {
            return self.seal_own(conversation, room);
        }
        let messages = self.store.unsealed(&id, room)?;
        if messages.is_empty() {
            self.session.waiting.remove(&id);
        } else if self.may_write(conversation)? && self.lists_are_current(conversation)? {
            for message in messages {
                if !self.seal_message(&message)? {
                    return Ok(());
                }
            }
        }
        if items.iter().any(|item| item.kind == OutboxKind::Report) {
            return Ok(());
        }
        self.seal_reports(conversation)
    }

    fn seal_message(&mut self, message: &MessageRow) -> Result<bool, Error> {
        let Some(bytes) = message.content.as_deref() else {
            // It was deleted or expired before the server had it, so it need not go out any more.
            self.store.set_sealed(&message.id, true)?;
            return Ok(true);
        };
        let content = Content::from_bytes(bytes).map_err(Error::internal)?;
        let sealed = self.seal_content(&message.conversation, message.id, &content, OutboxKind::Message)?;
        if sealed {
            self.store.set_sealed(&message.id, true)?;
        }
        Ok(sealed)
    }

    /// Encrypts a content into the outbox; `false` if the conversation is not in a state to.
    pub(super) fn seal_content(
        &mut self,
        conversation: &ConversationId,
        id: MessageId,
        content: &Content,
        kind: OutboxKind,
    ) -> Result<bool, Error> {
        self.seal_with(conversation, id, content, kind, blobs(content))
    }

    /// The same for a content that names these blobs.
    pub(super) fn seal_with(
        &mut self,
        conversation: &ConversationId,
        id: MessageId,
        content: &Content,
        kind: OutboxKind,
        blobs: Vec<BlobId>,
    ) -> Result<bool, Error> {
        for blob in &blobs {
            if self.store.awaits_parcel(blob)? {
                return Ok(false);
            }
        }
        let bytes = content.to_bytes().map_err(Error::internal)?;
        let at = self.store.conversation(conversation)?;
        let place = at.map_or_else(|| Place::new(0, &[0; 32]), |at| Place::new(at.seq, &at.hash));
        let (engine, store) = self.engine()?;
        let step = match engine.encrypt_at(store, conversation, id, &place, &bytes) {
            Ok(step) => step,
            Err(E2eeError::Storage(error)) => return Err(Error::internal(error)),
            Err(E2eeError::RevokedDevice { account, device }) => {
                tracing::debug!(%account, %device, "a revoked device is removed before anything is sent");
                self.maintain(conversation)?;
                return Ok(false);
            }
            Err(error) => {
                let Some(conversation) = self.store.conversation(conversation)? else { return Ok(false) };
                self.rejoin(&conversation, &error.to_string())?;
                return Ok(false);
            }
        };
        self.store.apply(&step.changes)?;
        let send =
            api::Send { conversation: *conversation, id, epoch: step.output.epoch, payload: step.output.payload.clone(), blobs };
        let clear = (kind == OutboxKind::Report).then_some(bytes);
        let wire = parlour_wire::encode(&send);
        self.store.enqueue(&OutboxItem { id, conversation: *conversation, kind, epoch: send.epoch, wire, clear })?;
        Ok(true)
    }

    /// Hands items to the link, in order, each once until it is answered.
    fn send_outbox(&mut self, id: &ConversationId) -> Result<(), Error> {
        for item in self.store.outbox_of(id, WINDOW)? {
            if self.session.sending.contains_key(&item.id) || self.session.answered.contains(&item.id) {
                continue;
            }
            self.session.sending.insert(item.id, *id);
            let name = match item.kind {
                OutboxKind::Commit => <api::Commit as api::Call>::NAME,
                OutboxKind::Leave => <api::Leave as api::Call>::NAME,
                OutboxKind::Message | OutboxKind::Report | OutboxKind::Own => <api::Send as api::Call>::NAME,
            };
            self.request_bytes(name, item.wire, Pending::Outbox(item.id));
        }
        Ok(())
    }

    pub(super) fn outbox_answered(&mut self, id: &MessageId, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let conversation = self.session.sending.remove(id);
        let taken_back = self.session.taken_back.remove(id);
        let Some(item) = self.store.outbox_item(id)? else {
            // Its entry came first.
            self.session.dirty.extend(conversation);
            return Ok(());
        };
        self.session.dirty.insert(item.conversation);
        match result {
            Ok(bytes) => {
                let stored: Stored = parlour_wire::decode(&bytes)?;
                self.stored(&item, stored)
            }
            Err(error) if taken_back => {
                // It was about a ciphertext of keys that are given up, and says nothing of what its content will be encrypted as next.
                if error.is_transient() {
                    self.rest(item.conversation);
                }
                self.unseal(&item)
            }
            Err(error) if error.is_transient() => {
                self.rest(item.conversation);
                Ok(())
            }
            Err(error) if item.kind == OutboxKind::Commit => self.commit_refused(&item, error),
            Err(error) if item.kind == OutboxKind::Leave => self.leave_refused(&item, error),
            Err(error) if error.code == Code::STALE_EPOCH => self.stale(&item),
            Err(error) if matches!(error.code, Code::NOT_MEMBER | Code::CONVERSATION_NOT_FOUND) => {
                let Some(conversation) = self.store.conversation(&item.conversation)? else { return Ok(()) };
                self.rejoin(&conversation, &error.message)?;
                self.session.joining.remove(&conversation.id);
                self.session.heads.remove(&conversation.id);
                self.start_sync()
            }
            Err(error) if error.code == Code::FILE_NOT_FOUND => self.blobs_gone(&item, error),
            Err(error) => self.never_taken(&item, error),
        }
    }

    /// It will never be taken. A message stays in the history, to show what was not sent.
    fn never_taken(&mut self, item: &OutboxItem, error: Error) -> Result<(), Error> {
        self.store.dequeue(&item.id)?;
        if item.kind == OutboxKind::Message && self.store.message(&item.id)?.is_some() {
            return self.message_failed(&item.id, error);
        }
        if item.kind == OutboxKind::Own {
            self.store.own_stored(&item.id)?;
        }
        self.trouble(Error { message: format!("a message was refused: {}", error.message), ..error });
        Ok(())
    }

    /// The server does not have what a message names any more. What is still known here is sent once more, and the message after it.
    fn blobs_gone(&mut self, item: &OutboxItem, error: Error) -> Result<(), Error> {
        let too_often = self.gone_too_often(&item.id);
        let file = item.kind == OutboxKind::Message && self.store.upload(&item.id)?.is_some();
        if too_often && file {
            self.store.dequeue(&item.id)?;
            return self.upload_failed(&item.id, not_kept());
        }
        let send: api::Send = parlour_wire::decode(&item.wire).map_err(Error::internal)?;
        let mut again = file;
        for blob in &send.blobs {
            again |= !too_often && !file && self.store.parcel_gone(blob)?;
        }
        if !again {
            return self.never_taken(item, error);
        }
        self.unseal(item)?;
        if file {
            self.upload_again(&item.id)?;
        }
        self.pump_parcels()
    }

    /// What a message names, or what there was of it, is gone from the server: whether that was once too often in this session.
    pub(super) fn gone_too_often(&mut self, message: &MessageId) -> bool {
        let tries = self.session.blobs_again.entry(*message).or_default();
        *tries += 1;
        *tries > BLOB_TRIES
    }

    /// The server has it: its entry is taken like any other, in its place in the log. Until then it stays in the outbox, so that
    /// the entry is known for ours whenever it comes.
    fn stored(&mut self, item: &OutboxItem, stored: Stored) -> Result<(), Error> {
        self.session.stale.remove(&item.conversation);
        if !matches!(item.kind, OutboxKind::Commit | OutboxKind::Leave) {
            self.session.rejoined.remove(&item.conversation);
        }
        let (kind, payload) = match item.kind {
            OutboxKind::Leave => {
                let leave: api::Leave = parlour_wire::decode(&item.wire).map_err(Error::internal)?;
                (EntryKind::LEAVE, leave.statement)
            }
            OutboxKind::Commit => {
                let commit: api::Commit = parlour_wire::decode(&item.wire).map_err(Error::internal)?;
                if Self::begins_here(&commit) {
                    if self.was_further(item, &stored)? {
                        return Ok(());
                    }
                    self.begin_here(&item.conversation, &stored)?;
                }
                (EntryKind::COMMIT, commit.commit)
            }
            OutboxKind::Message | OutboxKind::Report | OutboxKind::Own => {
                let send: api::Send = parlour_wire::decode(&item.wire).map_err(Error::internal)?;
                if item.kind == OutboxKind::Message {
                    self.store.set_stored(&item.id, stored.seq, stored.stored_ms)?;
                    if self.store.advance(&item.id, State::Stored)? {
                        self.message_moved(item.id, State::Stored);
                    }
                }
                (EntryKind::MESSAGE, send.payload)
            }
        };
        let entry = Entry {
            conversation: item.conversation,
            seq: stored.seq,
            previous: stored.previous,
            id: item.id,
            kind,
            stored_ms: stored.stored_ms,
            payload,
            receipt: stored.receipt,
        };
        let conversation = self.store.conversation(&item.conversation)?;
        let reads_on = conversation.as_ref().is_some_and(|it| it.phase == ConversationPhase::Active);
        let behind = conversation.is_some_and(|it| it.seq >= entry.seq);
        if kind == EntryKind::MESSAGE && (behind || !reads_on) {
            // This device has joined again behind it or is about to, so the entry will not come. Left in the outbox, the item would hold
            // up everything that is written in a later epoch.
            return self.is_known(&entry).map(drop);
        }
        if kind == EntryKind::LEAVE && behind {
            // The account has left, and been brought back before it heard that the server knew: this is another stay.
            self.store.dequeue(&item.id)?;
            return self.intent_done(&item.id).map(drop);
        }
        self.session.answered.insert(item.id);
        self.take_entries(&item.conversation, vec![entry])?;
        // Who has left gets no entries before its statement that were still under way.
        if item.kind == OutboxKind::Leave { self.gone_from_server(&item.conversation) } else { Ok(()) }
    }

    fn leave_refused(&mut self, item: &OutboxItem, error: Error) -> Result<(), Error> {
        if matches!(error.code, Code::NOT_MEMBER | Code::CONVERSATION_NOT_FOUND) {
            return self.gone_from_server(&item.conversation);
        }
        self.store.dequeue(&item.id)?;
        match self.store.intent_of(&item.id)? {
            Some(intent) => self.finish_intent(&intent, Err(error)),
            None => Ok(()),
        }
    }

    /// The group has moved on too far: what the server has not taken is encrypted anew under the same id, once the log has been
    /// read.
    fn stale(&mut self, item: &OutboxItem) -> Result<(), Error> {
        let id = item.conversation;
        self.unseal(item)?;
        let Some(conversation) = self.store.conversation(&id)? else { return Ok(()) };
        if conversation.phase != ConversationPhase::Active {
            return Ok(());
        }
        let (engine, store) = self.engine()?;
        let epoch = engine.epoch(store, &id).map_err(Error::internal)?;
        let tries = match self.session.stale.get(&id) {
            Some((at, tries)) if *at == epoch => tries + 1,
            _ => 1,
        };
        self.session.stale.insert(id, (epoch, tries));
        if tries > WINDOW as u32 {
            self.rest(id);
        }
        if tries > STALE_TRIES * WINDOW as u32 {
            return self.rejoin(&conversation, "the server has another epoch than its log");
        }
        self.read_on(&conversation)
    }

    /// Takes an item out of the outbox and notes that its content is to be encrypted anew.
    fn unseal(&mut self, item: &OutboxItem) -> Result<(), Error> {
        self.store.dequeue(&item.id)?;
        self.session.answered.remove(&item.id);
        match item.kind {
            OutboxKind::Message => self.store.set_sealed(&item.id, false),
            OutboxKind::Report => {
                let content = item.clear.as_deref().map(Content::from_bytes).transpose().map_err(Error::internal)?;
                if let Some(Content { body: Body::Report(reports), .. }) = content {
                    for report in reports {
                        self.store.add_report(&item.conversation, report)?;
                    }
                }
                Ok(())
            }
            OutboxKind::Own => self.store.set_own_sealed(&item.id, false),
            OutboxKind::Commit | OutboxKind::Leave => Ok(()),
        }
    }

    /// The same for everything of a conversation: its group is another one from here on. What is at the server stays until its answer is
    /// here: that names the message only, and would be taken for one about the next ciphertext of it.
    pub(super) fn unseal_all(&mut self, id: &ConversationId) -> Result<(), Error> {
        for item in self.store.outbox_of(id, usize::MAX >> 1)? {
            if !matches!(item.kind, OutboxKind::Message | OutboxKind::Report | OutboxKind::Own) {
                continue;
            }
            if self.session.sending.contains_key(&item.id) {
                self.session.taken_back.insert(item.id);
            } else {
                self.unseal(&item)?;
            }
        }
        Ok(())
    }
}
