//! Joining a conversation: by welcome, or by external commit when there is none.

use parlour_e2ee::{E2eeError, Joined, Step};
use parlour_wire::{
    Code, ConversationId,
    api::{self, GroupInfoAnswer, GroupInfoGet, Welcome},
};

use super::{
    Core,
    session::{Pending, Timer},
};
use crate::{
    error::Error,
    store::{Conversation, ConversationPhase},
};

impl Core {
    /// This device has been added to a conversation.
    pub(super) fn take_welcome(&mut self, welcome: Welcome) -> Result<(), Error> {
        let Some(conversation) = self.accept(&welcome.conversation, welcome.kind, &welcome.members)? else { return Ok(()) };
        if !self.is_plausible(welcome.seq) {
            return Ok(());
        }
        let head = self.session.heads.entry(conversation.id).or_default();
        *head = (*head).max(welcome.seq);
        self.session.expected.remove(&conversation.id);
        match conversation.phase {
            ConversationPhase::Stopped => return Ok(()),
            ConversationPhase::Active if welcome.seq <= conversation.seq => {
                self.moved(conversation.id, conversation.seq);
                return Ok(());
            }
            // The entry of the commit itself says whether the group was founded anew, and by which welcome it goes on.
            ConversationPhase::Active if conversation.is_group() => {
                self.read_up_to(welcome);
                return Ok(());
            }
            _ => {}
        }
        self.follow(&conversation, welcome)
    }

    /// Whoever made this welcome was first: what this device was about to do is void.
    pub(super) fn follow(&mut self, conversation: &Conversation, welcome: Welcome) -> Result<(), Error> {
        self.drop_commit(&conversation.id)?;
        self.session.creating.remove(&conversation.id);
        self.join(conversation, welcome)
    }

    fn join(&mut self, conversation: &Conversation, welcome: Welcome) -> Result<(), Error> {
        let id = conversation.id;
        if let Some(waiting) = self.session.welcomes.get_mut(&id) {
            // A push and the answer to a sync bring the same one. Each taken by itself, the second would find its keys used.
            if welcome.seq >= waiting.seq {
                *waiting = welcome;
            }
            return Ok(());
        }
        if conversation.is_group()
            && let Some(account) = self.look_up_members(&welcome.members)?
        {
            self.session.welcomes.insert(id, welcome);
            self.session.blocked.insert(id, account);
            return Ok(());
        }
        let receipt_key = self.signed_in()?.receipt_key;
        let (engine, store) = self.engine()?;
        // The server would be taken for a liar at the first commit, for what the founder has written into the group.
        let is_of_here = |step: &Step<Joined>| step.output.receipt_key == receipt_key;
        let joined = engine.join(store, &welcome, store);
        let step = match joined.and_then(|step| if is_of_here(&step) { Ok(step) } else { Err(E2eeError::BadReceipt) }) {
            Ok(step) => step,
            Err(E2eeError::Storage(error)) => return Err(Error::internal(error)),
            Err(E2eeError::UnknownDevice { account }) if self.session.may_refresh(id, 0, account) => {
                self.session.welcomes.insert(id, welcome);
                self.session.blocked.insert(id, account);
                return self.look_up_account(account);
            }
            Err(E2eeError::Duplicate) if conversation.phase == ConversationPhase::Active => {
                return self.invited_before(conversation);
            }
            Err(error) => {
                tracing::warn!(conversation = %id, %error, "a welcome could not be used");
                self.replace_key_packages();
                if conversation.phase != ConversationPhase::Active {
                    let text = "This device was invited in a way that it could not use, and joined by itself: what was written before is not here.";
                    self.note(conversation, text)?;
                }
                self.store.set_phase(&id, ConversationPhase::Outside)?;
                self.session.joining.insert(id);
                self.session.dirty.insert(id);
                return Ok(());
            }
        };
        self.store.apply(&step.changes)?;
        let (epoch, devices, adder) = (step.output.epoch, step.output.members.len(), step.output.adder);
        self.store.set_joined_epoch(&id, epoch)?;
        if conversation.is_group() {
            self.come_in(conversation)?;
        }
        let before = conversation;
        let Some(conversation) = self.store.conversation(&id)? else { return Ok(()) };
        if conversation.is_group() {
            self.expect_history(&conversation, (epoch, welcome.seq), adder)?;
        }
        let stock = self.session.stocks.entry(conversation.suite).or_default();
        stock.left = stock.left.map(|left| left.saturating_sub(1));
        self.entered(&conversation, welcome.seq, &welcome.hash)?;
        // What it was refused as a device from outside is over.
        self.session.resting.remove(&id);
        self.session.timers.remove(&Timer::Retry(id));
        self.set_warm_up(&conversation, devices);
        if conversation.is_group() {
            self.welcomed(before, epoch, adder)?;
            self.session.rosters.insert(id, welcome.members);
        }
        Ok(())
    }

    /// An invitation from ahead of where this device reads, whose keys it has not, to where it is in already: it was taken out and asked
    /// back after the copy was made that its profile is of. What stands between is for nobody who came in by the invitation. Told once a
    /// session, whatever the server makes up.
    fn invited_before(&mut self, conversation: &Conversation) -> Result<(), Error> {
        if self.session.rolled_back.insert(conversation.id) { self.begin_anew(conversation) } else { Ok(()) }
    }

    /// This device is in the conversation, and reads on from here.
    pub(super) fn entered(&mut self, conversation: &Conversation, seq: u64, hash: &[u8; 32]) -> Result<(), Error> {
        let id = conversation.id;
        self.store.set_phase(&id, ConversationPhase::Active)?;
        self.store.set_astray(&id, false)?;
        self.store.set_position(&id, seq, hash)?;
        self.unseal_all(&id)?;
        self.session.joining.remove(&id);
        self.session.creating.remove(&id);
        // Only who shares a conversation may know who is there.
        self.session.contacts_dirty |= conversation.peer.is_some_and(|peer| !self.session.watched.contains(&peer));
        if let Some(held) = self.session.held.get_mut(&id) {
            held.retain(|held, _| *held > seq);
        }
        self.moved(id, seq);
        if conversation.is_own() {
            self.own_entered()?;
        }
        self.set_maintenance(conversation)?;
        if let Some(mut conversation) = self.store.conversation(&id)? {
            self.drain(&mut conversation)?;
        }
        self.session.dirty.insert(id);
        self.tend_shares()?;
        self.tend_history()
    }

    /// A device list that something waited for is here: tries again.
    pub(super) fn unblock(&mut self, account: &parlour_wire::AccountId) -> Result<(), Error> {
        let waiting: Vec<ConversationId> =
            self.session.blocked.iter().filter(|(_, waits)| *waits == account).map(|(id, _)| *id).collect();
        for id in waiting {
            self.session.blocked.remove(&id);
            let Some(mut conversation) = self.store.conversation(&id)? else { continue };
            match self.session.welcomes.remove(&id) {
                Some(welcome) => self.join(&conversation, welcome)?,
                None => self.drain(&mut conversation)?,
            }
            self.session.dirty.insert(id);
        }
        Ok(())
    }

    /// Asks for what an external commit needs, unless that is under way.
    pub(super) fn ask_group_info(&mut self, id: ConversationId) -> Result<(), Error> {
        if self.session.inflight.values().any(|pending| matches!(pending, Pending::GroupInfo(other) if *other == id)) {
            return Ok(());
        }
        self.request(&GroupInfoGet { conversation: id }, Pending::GroupInfo(id))
    }

    pub(super) fn group_info_answered(&mut self, id: ConversationId, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let Some(conversation) = self.store.conversation(&id)? else { return Ok(()) };
        if conversation.phase != ConversationPhase::Outside && conversation.phase != ConversationPhase::Removed {
            return Ok(());
        }
        if self.session.welcomes.contains_key(&id) {
            // An invitation came meanwhile and waits for somebody's devices to be known. Joining twice would throw this device out again.
            return Ok(());
        }
        let answer: GroupInfoAnswer = match result {
            Ok(bytes) => parlour_wire::decode(&bytes)?,
            Err(error) if error.code == Code::NOT_MEMBER && conversation.is_group() => {
                self.session.joining.remove(&id);
                return self.gone_from_server(&id);
            }
            Err(error) if error.code == Code::CONVERSATION_NOT_FOUND => {
                self.session.joining.remove(&id);
                self.session.heads.remove(&id);
                self.session.dirty.insert(id);
                // A group that the last sync named has ended since.
                return self.gone_from_server(&id);
            }
            Err(error) => {
                if !error.is_transient() {
                    self.trouble(error);
                }
                self.rest(id);
                return Ok(());
            }
        };
        self.join_external(&conversation, &answer)
    }

    fn join_external(&mut self, conversation: &Conversation, answer: &GroupInfoAnswer) -> Result<(), Error> {
        let id = conversation.id;
        let roster = self.session.rosters.get(&id).cloned().unwrap_or_default();
        if let Some(account) = self.look_up_members(&roster)? {
            self.session.blocked.insert(id, account);
            return Ok(());
        }
        let receipt_key = self.signed_in()?.receipt_key;
        let (engine, store) = self.engine()?;
        let step = match engine.join_external(store, &id, &answer.group_info, answer.epoch, &receipt_key, store) {
            Ok(step) => step,
            Err(E2eeError::Storage(error)) => return Err(Error::internal(error)),
            Err(E2eeError::UnknownDevice { account }) if self.session.may_refresh(id, u64::MAX, account) => {
                self.session.blocked.insert(id, account);
                return self.look_up_account(account);
            }
            Err(E2eeError::GroupFull) => return self.group_full(&id),
            Err(error) => {
                if self.session.unjoinable.insert(id) {
                    let message = format!("a conversation cannot be joined on this device: {error}");
                    self.trouble(
                        Error::new(Code::SERVER_MISBEHAVED, message).hint("who made it may have done that, or the server"),
                    );
                }
                if error == E2eeError::BadReceipt && conversation.is_group() {
                    // It was founded for the signatures of another server, and stays so.
                    self.session.joining.remove(&id);
                }
                self.rest(id);
                return Ok(());
            }
        };
        self.store.apply(&step.changes)?;
        self.store.set_phase(&id, ConversationPhase::Joining)?;
        self.queue_commit(step.output, None)?;
        self.session.dirty.insert(id);
        Ok(())
    }

    /// Whether a commit of ours makes the conversation or joins it; then its entry is where this device begins to read.
    pub(super) fn begins_here(commit: &api::Commit) -> bool {
        commit.create.is_some() || commit.external
    }
}
