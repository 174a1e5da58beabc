//! Taking entries of a log: in order, each once, each in the same transaction as its ratchet, its plaintext and the cursor.

use parlour_e2ee::{E2eeError, GroupEvent, Opened};
use parlour_wire::{
    AccountId, ConversationId, api,
    log::{Entry, EntryKind},
};

use super::{Core, doubt::twin};
use crate::{
    api::State,
    error::Error,
    store::{Conversation, ConversationPhase, OutboxKind},
};

/// Entries that may wait for their predecessors before they are read again from the server.
const HELD: usize = 1024;

/// What became of an entry.
enum Taken {
    /// It is done with; the cursor moves.
    Done,
    /// It waits for a device list.
    Waits,
    /// The conversation has been left behind by it.
    Gone,
}

/// Whether the message of an entry is here already.
pub(super) enum Known {
    No,
    Yes,
    /// It is of this device, which does not know that it has encrypted it like this.
    Undone,
}

impl Core {
    /// Entries that the server pushed.
    pub(super) fn take_push(&mut self, entries: Vec<Entry>) -> Result<(), Error> {
        let mut entries = entries.into_iter().peekable();
        while let Some(first) = entries.next() {
            let id = first.conversation;
            let mut run = vec![first];
            while let Some(entry) = entries.next_if(|entry| entry.conversation == id) {
                run.push(entry);
            }
            self.take_entries(&id, run)?;
        }
        Ok(())
    }

    /// Takes what fits, holds what came early, asks for what is missing.
    pub(super) fn take_entries(&mut self, id: &ConversationId, entries: Vec<Entry>) -> Result<(), Error> {
        let Some(mut conversation) = self.store.conversation(id)? else { return Ok(()) };
        if entries.iter().any(|entry| !self.is_plausible(entry.seq)) {
            return Ok(());
        }
        if let Some(newest) = entries.iter().map(|entry| entry.seq).max() {
            let head = self.session.heads.entry(*id).or_default();
            *head = (*head).max(newest);
        }
        if conversation.phase != ConversationPhase::Active {
            return Ok(());
        }
        let held = self.session.held.entry(*id).or_default();
        for entry in entries {
            if entry.conversation == *id && entry.seq > conversation.seq {
                held.insert(entry.seq, entry);
            }
        }
        if held.len() > HELD {
            held.clear();
        }
        self.drain(&mut conversation)
    }

    /// Takes held entries as long as each follows the last.
    pub(super) fn drain(&mut self, conversation: &mut Conversation) -> Result<(), Error> {
        let id = conversation.id;
        self.session.dirty.insert(id);
        let before = conversation.seq;
        self.session.trails.note(id, conversation.seq, &conversation.hash);
        while conversation.phase == ConversationPhase::Active && !self.session.blocked.contains_key(&id) {
            let Some(entry) = self.session.held.get_mut(&id).and_then(|held| held.remove(&conversation.seq.saturating_add(1)))
            else {
                break;
            };
            if entry.previous != conversation.hash {
                return self.misbehaved(&id, "an entry does not name its predecessor");
            }
            match self.take_entry(conversation, &entry)? {
                Taken::Done => {
                    (conversation.seq, conversation.hash) = (entry.seq, entry.hash());
                    self.session.trails.note(id, conversation.seq, &conversation.hash);
                }
                Taken::Waits => {
                    self.session.held.entry(id).or_default().insert(entry.seq, entry);
                    break;
                }
                Taken::Gone => return Ok(()),
            }
        }
        if conversation.seq > before {
            self.store.set_position(&id, conversation.seq, &conversation.hash)?;
            self.moved(id, conversation.seq);
        }
        Ok(())
    }

    fn take_entry(&mut self, conversation: &mut Conversation, entry: &Entry) -> Result<Taken, Error> {
        if entry.kind == EntryKind::MESSAGE {
            match self.is_known(entry)? {
                Known::Undone if self.session.rolled_back.insert(conversation.id) => return self.older_copy(conversation, entry),
                Known::Undone | Known::Yes => return Ok(Taken::Done),
                Known::No => {}
            }
        }
        let pending = self.store.pending_commit(&conversation.id)?;
        let own_commit = pending.as_ref().is_some_and(|pending| pending.id == entry.id);
        if entry.kind == EntryKind::COMMIT && pending.is_some() && !own_commit {
            // Another commit has this epoch. What ours was for is found again from the device lists.
            self.drop_commit(&conversation.id)?;
        }
        let (engine, store) = self.engine()?;
        let step = match engine.open(store, entry, store) {
            Ok(step) => step,
            Err(E2eeError::UnknownDevice { account }) if self.session.may_refresh(entry.conversation, entry.seq, account) => {
                self.session.blocked.insert(conversation.id, account);
                self.look_up_account(account)?;
                return Ok(Taken::Waits);
            }
            // Nobody stands for a device that it brings in, whatever list the server shows: it is void.
            Err(error @ E2eeError::UnknownDevice { .. }) if entry.kind == EntryKind::COMMIT => {
                let (engine, store) = self.engine()?;
                match engine.pass_over(store, entry, error) {
                    Ok(step) => step,
                    Err(error) => return self.unreadable(conversation, entry, &error),
                }
            }
            Err(error) => return self.unreadable(conversation, entry, &error),
        };
        self.store.apply(&step.changes)?;
        let own_leave = entry.kind == EntryKind::LEAVE && self.store.outbox_item(&entry.id)?.is_some();
        if own_leave || (own_commit && !matches!(step.output, Opened::Void { .. })) {
            self.store.dequeue(&entry.id)?;
            self.session.answered.remove(&entry.id);
        }
        match step.output {
            Opened::Message { sender, device, content, place, .. } => {
                self.compare_place(conversation, entry, (sender, device), place)?;
                self.take_under_free_id(conversation, entry, (sender, device), &content)?;
            }
            Opened::Commit { committer: (actor, _), added, removed, events, .. } => {
                let me = self.signed_in()?.device;
                let ends = events.iter().any(|event| matches!(event, GroupEvent::Refounded(_)));
                if ends || removed.iter().any(|(_, device)| *device == me) {
                    if conversation.is_group() {
                        self.taken_out(conversation, entry, actor, &events)?;
                    } else {
                        self.store.set_phase(&conversation.id, ConversationPhase::Removed)?;
                        self.session.forget(&conversation.id);
                    }
                    return Ok(Taken::Gone);
                }
                if conversation.is_group() {
                    self.group_changed(conversation, entry, actor, &events, (&added, &removed))?;
                    self.welcome_newcomers(conversation, &events)?;
                }
                self.set_maintenance(conversation)?;
            }
            Opened::OwnCommit { epoch, events } => self.own_commit_stands(conversation, entry, epoch, &events)?,
            Opened::Left { account } => {
                let me = self.me()?;
                self.somebody_left(conversation, entry, account)?;
                if account == me {
                    return Ok(Taken::Gone);
                }
                if let Some(conversation) = self.store.conversation(&conversation.id)? {
                    self.set_maintenance(&conversation)?;
                }
            }
            Opened::Void { committer, why } => {
                self.void_commit(conversation, entry, committer.map(|(account, _)| account), &why.to_string())?;
                if own_commit {
                    self.drop_commit(&conversation.id)?;
                }
                self.set_maintenance(conversation)?;
            }
            Opened::Own if self.session.rolled_back.insert(conversation.id) => return self.older_copy(conversation, entry),
            Opened::Own if conversation.astray => {}
            Opened::Own => {
                let text = "A message that was written on this device has been lost from it; the others have it.";
                self.say(conversation, entry, text)?;
            }
        }
        Ok(Taken::Done)
    }

    /// A commit of this device is in the log.
    fn own_commit_stands(
        &mut self,
        conversation: &mut Conversation,
        entry: &Entry,
        epoch: u64,
        events: &[GroupEvent],
    ) -> Result<(), Error> {
        let begins = conversation.joined_epoch == 0;
        let joins = begins && entry.seq > 1;
        if begins {
            self.store.set_joined_epoch(&conversation.id, epoch)?;
            conversation.joined_epoch = epoch;
        }
        if conversation.is_group() {
            self.own_group_commit(conversation, entry, events, joins)?;
            if joins {
                self.ask_who_left(conversation)?;
            }
            self.welcome_newcomers(conversation, events)?;
            self.owe_history(&conversation.id, entry, events)?;
        }
        self.set_maintenance(conversation)
    }

    /// Takes a message; one whose id a message of another conversation has gets an id of its own here.
    fn take_under_free_id(
        &mut self,
        conversation: &Conversation,
        entry: &Entry,
        (sender, device): (AccountId, parlour_wire::DeviceId),
        content: &[u8],
    ) -> Result<(), Error> {
        if self.store.message(&entry.id)?.is_some() {
            let entry = Entry { id: twin(entry), ..entry.clone() };
            return self.take_message(conversation, &entry, sender, device, content);
        }
        self.take_message(conversation, entry, sender, device, content)
    }

    /// A commit that breaks the rules has changed nothing; who made it is named.
    fn void_commit(
        &mut self,
        conversation: &Conversation,
        entry: &Entry,
        committer: Option<AccountId>,
        why: &str,
    ) -> Result<(), Error> {
        tracing::warn!(conversation = %conversation.id, seq = entry.seq, why, "a commit is void");
        let who = committer.map_or_else(|| Ok("somebody".to_owned()), |account| self.shown_name(&account))?;
        let actor = match committer.or(conversation.peer) {
            Some(actor) => actor,
            None => self.me()?,
        };
        self.tell(conversation, entry, &actor, &format!("A change by {who} was refused: {why}."), false)
    }

    /// The log has what this device has encrypted since the copy was taken that its profile is of. The ratchet of the copy would give
    /// the same keys again.
    fn older_copy(&mut self, conversation: &mut Conversation, entry: &Entry) -> Result<Taken, Error> {
        self.say_older_copy(conversation, entry)?;
        self.go_astray(conversation)?;
        Ok(Taken::Done)
    }

    fn say_older_copy(&mut self, conversation: &Conversation, entry: &Entry) -> Result<(), Error> {
        let text = "This profile is an older copy of itself: what was written here since is with the others only.";
        // The entry's own id may be that of a message which is here.
        let notice = Entry { id: self.new_id(), ..entry.clone() };
        self.say(conversation, &notice, text)?;
        self.replace_key_packages();
        Ok(())
    }

    /// From here on nothing is encrypted by these keys. Whoever can write here can make it look as if they were old, or of another
    /// epoch, so what others wrote behind that entry is read first, as far as these keys go; then this device joins anew.
    fn go_astray(&mut self, conversation: &mut Conversation) -> Result<(), Error> {
        self.drop_commit(&conversation.id)?;
        self.unseal_all(&conversation.id)?;
        self.store.set_astray(&conversation.id, true)?;
        conversation.astray = true;
        Ok(())
    }

    /// Whether an entry's message is here already: ours, which the server has stored, or one that came before.
    pub(super) fn is_known(&mut self, entry: &Entry) -> Result<Known, Error> {
        let item = self.store.outbox_item(&entry.id)?.filter(|item| item.conversation == entry.conversation);
        let mut undone = false;
        if let Some(item) = &item {
            let send = parlour_wire::decode::<api::Send>(&item.wire).ok();
            undone = send.as_ref().is_none_or(|send| send.payload != entry.payload);
            // Named in the log, they stay at the server as long as the message.
            send.iter().flat_map(|send| &send.blobs).try_for_each(|blob| self.store.drop_parcel(blob))?;
            self.store.dequeue(&item.id)?;
            self.session.answered.remove(&item.id);
            match item.kind {
                OutboxKind::Report => return Ok(known(undone)),
                OutboxKind::Own => return self.own_passed(entry).map(|()| known(undone)),
                _ => {}
            }
        }
        let message = self.store.message(&entry.id)?.filter(|message| message.conversation == entry.conversation);
        let Some(message) = message else { return Ok(Known::No) };
        if message.outgoing {
            undone |= item.is_none() && !self.store.is_sealed(&entry.id)?;
            self.store.set_stored(&entry.id, entry.seq, entry.stored_ms)?;
            self.store.remove_upload(&entry.id)?;
            if self.store.advance(&entry.id, State::Stored)? {
                self.message_moved(entry.id, State::Stored);
            }
            self.settle_own(&message, entry.stored_ms)?;
        }
        Ok(known(undone))
    }

    /// What cannot be read stays visible. A commit that cannot be applied leaves this device behind the others, so it joins
    /// again.
    fn unreadable(&mut self, conversation: &mut Conversation, entry: &Entry, error: &E2eeError) -> Result<Taken, Error> {
        match error {
            E2eeError::Storage(error) => return Err(Error::internal(error)),
            E2eeError::BadReceipt => {
                self.misbehaved(&conversation.id, "a commit has no valid receipt")?;
                return Ok(Taken::Gone);
            }
            E2eeError::Forked => {
                self.misbehaved(&conversation.id, "it has signed two commits for one epoch")?;
                return Ok(Taken::Gone);
            }
            E2eeError::AlreadyRead | E2eeError::Duplicate => return Ok(Taken::Done),
            E2eeError::Forgotten => {
                self.session.rolled_back.insert(conversation.id);
                self.say_older_copy(conversation, entry)?;
                self.store.set_position(&conversation.id, entry.seq, &entry.hash())?;
                // What comes after a commit is for those who have applied it.
                self.rejoin(conversation, "the log has a commit of this device that it does not know")?;
                return Ok(Taken::Gone);
            }
            E2eeError::WrongEpoch { .. } if entry.kind == EntryKind::MESSAGE => return self.ahead(conversation, entry),
            // What the server lets through without a valid signature changes nothing.
            _ if entry.kind == EntryKind::LEAVE => return Ok(Taken::Done),
            _ => {}
        }
        tracing::warn!(conversation = %conversation.id, seq = entry.seq, %error, "an entry could not be read");
        let lost =
            matches!(error, E2eeError::WrongEpoch { .. } | E2eeError::Diverged | E2eeError::Removed | E2eeError::NoConversation);
        if entry.kind == EntryKind::COMMIT || lost {
            self.say(conversation, entry, "The encryption of this conversation had to be set up again on this device.")?;
            self.store.set_position(&conversation.id, entry.seq, &entry.hash())?;
            self.rejoin(conversation, "an entry could not be followed")?;
            return Ok(Taken::Gone);
        }
        let before = *error == E2eeError::BeforeJoin
            || payload_epoch(&entry.payload).is_some_and(|epoch| epoch < conversation.joined_epoch);
        let text = if before {
            "A message was sent before this device could read here.".to_owned()
        } else {
            format!("A message could not be read on this device: {error}.")
        };
        self.say(conversation, entry, &text)?;
        Ok(Taken::Done)
    }

    /// A message of an epoch that this device has not reached: it has lost its place, or somebody makes it look so.
    fn ahead(&mut self, conversation: &mut Conversation, entry: &Entry) -> Result<Taken, Error> {
        tracing::warn!(conversation = %conversation.id, seq = entry.seq, "a message is of a later epoch");
        if !conversation.astray {
            self.say(conversation, entry, "The encryption of this conversation had to be set up again on this device.")?;
            self.go_astray(conversation)?;
        }
        Ok(Taken::Done)
    }

    /// Stores something that this program says about an entry, in the entry's place.
    pub(super) fn say(&mut self, conversation: &Conversation, entry: &Entry, text: &str) -> Result<(), Error> {
        let sender = conversation.peer.map_or_else(|| self.me(), Ok)?;
        self.tell(conversation, entry, &sender, text, false)
    }

    /// The same about the conversation as a whole.
    pub(super) fn note(&mut self, conversation: &Conversation, text: &str) -> Result<(), Error> {
        let sender = conversation.peer.map_or_else(|| self.me(), Ok)?;
        self.note_by(conversation, &sender, text, false)
    }

    /// The same about what somebody did; `shown`: the owner of this profile knows.
    pub(super) fn note_by(
        &mut self,
        conversation: &Conversation,
        actor: &AccountId,
        text: &str,
        shown: bool,
    ) -> Result<(), Error> {
        let entry = Entry {
            conversation: conversation.id,
            seq: conversation.seq,
            previous: [0; 32],
            id: self.new_id(),
            kind: EntryKind::MESSAGE,
            stored_ms: self.now.unix_ms,
            payload: Vec::new(),
            receipt: None,
        };
        self.tell(conversation, &entry, actor, text, shown)
    }
}

const fn known(undone: bool) -> Known {
    if undone { Known::Undone } else { Known::Yes }
}

/// The epoch of an MLS private message (RFC 9420, section 6): version, wire format, group id of 32 bytes, epoch.
fn payload_epoch(payload: &[u8]) -> Option<u64> {
    let rest = payload.strip_prefix(&[0, 1, 0, 2, 32])?;
    Some(u64::from_be_bytes(*rest.get(32..)?.first_chunk()?))
}
