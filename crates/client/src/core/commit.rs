//! Commits: making a direct conversation, and keeping the devices of conversations in line with the device lists. A commit is applied
//! only when the server's receipt for it is here. What maintenance is for is never remembered but found again from the difference
//! between group and lists.

use std::time::Duration;

use parlour_e2ee::{Drift, E2eeError, HistoryPolicy, Member, NewConversation, PendingCommit};
use parlour_wire::{
    Code, ConversationId, DeviceId, MessageId,
    api::{self, Create, Role, Stored, Suite},
    identity::VerifiedList,
};

use super::{Core, session::Timer};
use crate::{
    error::Error,
    store::{Conversation, ConversationPhase, Intent, IntentRow, OutboxItem, OutboxKind},
};

/// From one conversation to the next when a device is taken out of all: what a commit takes to make in a group of middle size.
const PACE: Duration = Duration::from_millis(20);

impl Core {
    /// Makes a direct conversation, or the own one: key packages of all devices of its accounts, then the first commit.
    pub(super) fn create(&mut self, conversation: &Conversation) -> Result<(), Error> {
        let (id, peer) = (conversation.id, conversation.peer);
        let me = self.me()?;
        let own = self.store.list(&me)?.ok_or_else(|| Error::internal("no device list of our own"))?;
        let alone = own.certificates().len() < 2;
        let wanted: Vec<_> = peer.into_iter().chain((!alone).then_some(me)).collect();
        let Some(mut members) = self.gather(&id, &wanted, Suite::HYBRID)? else { return Ok(()) };
        if alone {
            members.push(Member { list: own, packages: Vec::new() });
        }
        self.session.creating.remove(&id);
        let receipt_key = self.signed_in()?.receipt_key;
        let (kind, suite) = (conversation.kind, Suite::HYBRID);
        let (name, history) = (None, HistoryPolicy::None);
        let new = NewConversation { conversation: id, kind, suite, name, history, receipt_key, members };
        // State of a conversation that the server no longer has.
        self.forget_state(&id)?;
        let (engine, store) = self.engine()?;
        let step = match engine.create(store, &new) {
            Ok(step) => step,
            Err(E2eeError::Storage(error)) => return Err(Error::internal(error)),
            Err(error) => {
                self.trouble(Error::new(error.code(), format!("a conversation could not be made: {error}")));
                self.rest(id);
                return Ok(());
            }
        };
        self.store.apply(&step.changes)?;
        self.store.set_phase(&id, ConversationPhase::Creating)?;
        let create = Create { kind, members: std::iter::once(me).chain(peer).collect(), name: None };
        self.queue_commit(step.output, Some(create))?;
        self.session.dirty.insert(id);
        Ok(())
    }

    /// Puts a commit into the outbox, in the transaction that holds it as pending.
    pub(super) fn queue_commit(&mut self, commit: PendingCommit, create: Option<Create>) -> Result<MessageId, Error> {
        let id = self.new_id();
        let commit = api::Commit {
            conversation: commit.conversation,
            id,
            parent_epoch: commit.parent_epoch,
            create,
            commit: commit.commit,
            welcome: commit.welcome,
            added: commit.added,
            removed: commit.removed,
            group_info: commit.group_info,
            external: commit.external,
            change: commit.change,
        };
        api::Call::check(&commit).map_err(Error::internal)?;
        let (epoch, wire) = (commit.parent_epoch, parlour_wire::encode(&commit));
        let (conversation, kind) = (commit.conversation, OutboxKind::Commit);
        self.store.enqueue(&OutboxItem { id, conversation, kind, epoch, wire, clear: None })?;
        Ok(id)
    }

    /// The commit that makes or joins a conversation has been taken: this device reads from there.
    pub(super) fn begin_here(&mut self, id: &ConversationId, stored: &Stored) -> Result<(), Error> {
        let Some(conversation) = self.store.conversation(id)? else { return Ok(()) };
        if !self.is_plausible(stored.seq) {
            return self.misbehaved(id, "it gave a commit a number that no log reaches");
        }
        self.store.set_joined_epoch(id, 0)?;
        self.entered(&conversation, stored.seq.saturating_sub(1), &stored.previous)
    }

    /// Whether this device has been behind the entry by which it makes or joins a conversation: then it did so once already, and this
    /// database is an older copy. Joins anew.
    pub(super) fn was_further(&mut self, item: &OutboxItem, stored: &Stored) -> Result<bool, Error> {
        let id = item.conversation;
        if self.session.acknowledged.remove(&id).is_none_or(|reached| reached <= stored.seq) {
            return Ok(false);
        }
        let intent = self.store.intent_of(&item.id)?;
        let Some(conversation) = self.store.conversation(&id)? else { return Ok(false) };
        self.begin_anew(&conversation)?;
        if let Some(intent) = intent {
            self.finish_intent(&intent, Ok(()))?;
        }
        Ok(true)
    }

    pub(super) fn commit_refused(&mut self, item: &OutboxItem, error: Error) -> Result<(), Error> {
        let id = item.conversation;
        let intent = self.store.intent_of(&item.id)?;
        self.drop_commit(&id)?;
        let Some(conversation) = self.store.conversation(&id)? else { return Ok(()) };
        let began = conversation.phase != ConversationPhase::Active;
        if began && conversation.phase != ConversationPhase::Stopped {
            self.store.set_phase(&id, ConversationPhase::Outside)?;
            let commit: api::Commit = parlour_wire::decode(&item.wire).map_err(Error::internal)?;
            if commit.external {
                // One that a session before has asked for is not on the list of this one yet.
                self.session.joining.insert(id);
            }
        }
        if error.code == Code::CONVERSATION_ENDED && conversation.is_group() {
            return self.ended_before_known(&conversation, intent);
        }
        let creates = intent.as_ref().is_some_and(|row| matches!(row.intent, Intent::Create { .. }));
        if creates && error.code == Code::ALREADY_EXISTS {
            return self.made_before(intent);
        }
        if let Some(intent) = intent
            && self.intent_refused(&intent, &error)?
        {
            return Ok(());
        }
        match error.code {
            // Somebody else made it first: the sync brings the welcome, or the need to join.
            Code::ALREADY_EXISTS => self.start_sync(),
            // Another commit was first.
            Code::STALE_EPOCH if began => {
                self.session.joining.insert(id);
                self.join_refused(id, item.epoch);
                Ok(())
            }
            Code::STALE_EPOCH => {
                self.change_refused(id, item.epoch);
                self.read_on(&conversation)
            }
            // The devices of somebody changed in between.
            Code::NOT_MEMBER | Code::DEVICE_NOT_FOUND | Code::NO_DEVICES | Code::CONVERSATION_NOT_FOUND => {
                self.rest(id);
                self.start_sync()
            }
            Code::QUOTA if conversation.is_group() => {
                self.rest(id);
                self.group_full(&id)
            }
            _ => {
                self.trouble(Error { message: format!("a change of a conversation was refused: {}", error.message), ..error });
                self.rest(id);
                Ok(())
            }
        }
    }

    /// The group that was to be made exists. Its id is its maker's choice alone, so this account has made it, by a later copy of this
    /// profile: what waits to be sent there stays, and the sync says how to come in, or that this account is not in it any more.
    fn made_before(&mut self, intent: Option<IntentRow>) -> Result<(), Error> {
        if let Some(intent) = intent {
            self.finish_intent(&intent, Ok(()))?;
        }
        self.start_sync()
    }

    /// The group was made by the commit that this device has offered again, and everybody has left it meanwhile, this account by
    /// another of its devices.
    fn ended_before_known(&mut self, group: &Conversation, intent: Option<IntentRow>) -> Result<(), Error> {
        self.store.set_phase(&group.id, ConversationPhase::Removed)?;
        if let Some(intent) = intent {
            self.finish_intent(&intent, Ok(()))?;
        }
        let text = format!("{} has ended: everybody has left it.", group.group_name().unwrap_or_default());
        self.close_group(group, None, &text, true)
    }

    /// Gives up a pending commit.
    pub(super) fn drop_commit(&mut self, id: &ConversationId) -> Result<(), Error> {
        let Some(item) = self.store.pending_commit(id)? else { return Ok(()) };
        let (engine, store) = self.engine()?;
        let step = engine.abandon(store, id, item.epoch).map_err(Error::internal)?;
        self.store.apply(&step.changes)?;
        self.session.sending.remove(&item.id);
        self.session.answered.remove(&item.id);
        self.store.detach_intent(&item.id)?;
        self.store.dequeue(&item.id)
    }

    /// Looks after a random pause whether the devices of a conversation fit the lists. One's own devices come first, and a new
    /// device joins by itself, so that most of the time nothing is left to do. In a group the admins go before the others.
    pub(super) fn set_maintenance(&mut self, conversation: &Conversation) -> Result<(), Error> {
        let (drift, outgrown) = self.drift(&conversation.id)?;
        if drift == Drift::default() && !outgrown {
            return Ok(());
        }
        let me = self.me()?;
        let urgent = is_urgent(&drift);
        let (from, to) = match (urgent, drift.missing.iter().any(|(account, _)| *account == me)) {
            (true, _) if conversation.is_group() && conversation.role != Role::ADMIN => (1_000, 4_000),
            (true, _) => (50, 1_000),
            (false, _) if outgrown => (2_000, 10_000),
            (false, true) => (2_000, 5_000),
            (false, false) => (6_000, 12_000),
        };
        let after = if self.session.ending.contains(&conversation.id) { Duration::ZERO } else { self.jitter(from, to) };
        let (now, timer) = (self.now.steady, Timer::Maintain(conversation.id));
        // One that waits for a founding to be tried again is too late for somebody who has to go.
        if self.session.timers.get(&timer).is_some_and(|at| urgent && *at > now + Duration::from_millis(to)) {
            self.session.timers.remove(&timer);
        }
        self.set_timer(timer, after);
        Ok(())
    }

    /// This device has ended another one of its account. Nobody else is about to take it out, so no pause keeps commits apart: only as
    /// long as one of them takes to make. A close waits for them.
    pub(super) fn take_out_ended(&mut self) -> Result<(), Error> {
        let mut at = self.now.steady;
        for conversation in self.store.conversations()? {
            if conversation.phase == ConversationPhase::Active && conversation.drifted {
                self.session.ending.insert(conversation.id);
                self.session.timers.insert(Timer::Maintain(conversation.id), at);
                at += PACE;
            }
        }
        Ok(())
    }

    /// A device that has come in by a welcome has given the group no keys of its own yet; until it does, commits are larger than they
    /// need be. It does so once, some time later, and later in large groups.
    pub(super) fn set_warm_up(&mut self, conversation: &Conversation, devices: usize) {
        if conversation.is_group() {
            let span = 1_000 * u64::try_from(devices).unwrap_or(u64::MAX).clamp(30, 1_000);
            let after = Duration::from_secs(60) + self.jitter(0, 2 * span);
            self.set_timer(Timer::WarmUp(conversation.id), after);
        }
    }

    pub(super) fn warm_up(&mut self, id: &ConversationId) -> Result<(), Error> {
        let Some(conversation) = self.store.conversation(id)? else { return Ok(()) };
        let idle = conversation.phase == ConversationPhase::Active && self.store.pending_commit(id)?.is_none();
        if !idle || !self.session.is_usable() {
            return Ok(());
        }
        let (engine, store) = self.engine()?;
        let step = engine.update(store, id, store);
        self.queue_change(id, step)
    }

    /// How a conversation differs from the lists, and whether it has outgrown its suite.
    pub(super) fn drift(&mut self, id: &ConversationId) -> Result<(Drift, bool), Error> {
        let outgrown = self.has_outgrown(id)?;
        let (engine, store) = self.engine()?;
        match engine.compare_devices(store, id, store) {
            Ok(step) => {
                self.store.apply(&step.changes)?;
                self.store.set_drifted(id, outgrown || step.output != Drift::default())?;
                if step.output.revoked.is_empty() {
                    self.session.ending.remove(id);
                }
                Ok((step.output, outgrown))
            }
            Err(E2eeError::Storage(error)) => Err(Error::internal(error)),
            // A conversation that is only being made or joined.
            Err(_) => Ok((Drift::default(), false)),
        }
    }

    /// Removes devices that are in no list any more or whose account has left, then founds a group anew that has outgrown its suite, or
    /// adds devices that are missing.
    pub(super) fn maintain(&mut self, id: &ConversationId) -> Result<(), Error> {
        let Some(conversation) = self.store.conversation(id)? else { return Ok(()) };
        let busy = self.store.pending_commit(id)?.is_some() || self.is_claiming(id) || self.session.reading.contains(id);
        if conversation.phase != ConversationPhase::Active || !self.session.is_usable() || busy {
            if busy && conversation.phase == ConversationPhase::Active {
                // What it is busy with may end without a change of the group, and then nothing else would look again.
                let after = if self.session.ending.contains(id) { 5 * PACE } else { self.jitter(1_000, 4_000) };
                self.set_timer(Timer::Maintain(*id), after);
            }
            return Ok(());
        }
        let (drift, outgrown) = self.drift(id)?;
        // First, because nothing can be said before it, and a founding may fail by what members have put at the server. By it, too, an
        // account becomes an admin that is the successor of one who has left.
        if is_urgent(&drift) {
            let devices: Vec<DeviceId> = drift.revoked.iter().map(|(_, device)| *device).collect();
            let (engine, store) = self.engine()?;
            match engine.change_devices(store, id, &[], &devices, store) {
                Err(E2eeError::Storage(error)) => return Err(Error::internal(error)),
                // Too large perhaps in a suite that is not made for so many; a founding takes out who is to go as well.
                Err(_) if outgrown => {}
                step => return self.queue_change(id, step),
            }
        }
        if outgrown {
            return self.outgrow(&conversation);
        }
        // Devices of an account that the server does not have as a member would be refused, again and again.
        let gone = self.session.gone.get(id);
        match drift.missing.iter().find(|(account, _)| gone.is_none_or(|gone| !gone.contains(account))) {
            Some(&(account, _)) if self.has_room(&conversation, &account)? => self.claim(id, account, conversation.suite),
            _ => Ok(()),
        }
    }

    pub(super) fn add_missing(
        &mut self,
        conversation: &Conversation,
        list: &VerifiedList,
        packages: Vec<api::DeviceKeyPackage>,
    ) -> Result<(), Error> {
        let id = conversation.id;
        if self.store.pending_commit(&id)?.is_some() {
            return Ok(());
        }
        let account = list.account();
        let (engine, store) = self.engine()?;
        let members = engine.members(store, &id).map_err(Error::internal)?;
        let packages: Vec<_> = packages.into_iter().filter(|package| !members.contains(&(account, package.device))).collect();
        if packages.is_empty() {
            return Ok(());
        }
        let (engine, store) = self.engine()?;
        let step = engine.add_devices(store, &id, &[Member { list: list.clone(), packages }], store);
        self.queue_change(&id, step)
    }

    pub(super) fn queue_change(
        &mut self,
        id: &ConversationId,
        step: Result<parlour_e2ee::Step<PendingCommit>, E2eeError>,
    ) -> Result<(), Error> {
        match step {
            // Encrypted by keys that may have been used; it is found again once this device has joined anew.
            Ok(_) if self.store.conversation(id)?.is_none_or(|conversation| conversation.astray) => Ok(()),
            Ok(step) => {
                self.store.apply(&step.changes)?;
                self.queue_commit(step.output, None)?;
                self.session.dirty.insert(*id);
                Ok(())
            }
            Err(E2eeError::Storage(error)) => Err(Error::internal(error)),
            Err(E2eeError::GroupFull) => self.group_full(id),
            Err(error) => {
                tracing::debug!(conversation = %id, %error, "the devices of a conversation stay as they are");
                Ok(())
            }
        }
    }
}

/// Whether somebody is to be taken out of a group, or a commit set right, before anything else.
pub(super) fn is_urgent(drift: &Drift) -> bool {
    !drift.revoked.is_empty() || !drift.left.is_empty() || drift.repair
}
