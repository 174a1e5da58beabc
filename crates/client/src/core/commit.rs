//! Commits: making a direct conversation, and keeping its devices in line with the device lists. A commit is applied only when
//! the server's receipt for it is here; what it was for is never remembered but found again from the difference between group
//! and lists.

use parlour_e2ee::{Drift, E2eeError, Member, NewConversation, PendingCommit};
use parlour_wire::{
    AccountId, Code, ConversationId, DeviceId,
    api::{self, ConversationKind, Create, KeyPackagesClaim, KeyPackagesClaimAnswer, Stored, Suite},
    identity::VerifiedList,
};

use super::{
    Core,
    session::{Pending, Timer},
};
use crate::{
    error::Error,
    store::{Conversation, ConversationPhase, OutboxItem, OutboxKind},
};

impl Core {
    /// Makes a direct conversation: key packages of all devices of both accounts, then the first commit.
    pub(super) fn create(&mut self, conversation: &Conversation) -> Result<(), Error> {
        let id = conversation.id;
        if self.is_claiming(&id) {
            return Ok(());
        }
        let me = self.signed_in()?.account;
        let creation = self.session.creating.entry(id).or_default();
        let own_list = self.store.list(&me)?;
        let alone = own_list.as_ref().is_none_or(|list| list.certificates().len() < 2);
        for account in [conversation.peer, me] {
            let needed = account != me || !alone;
            if needed && !creation.claimed.contains_key(&account) {
                return self.request(&KeyPackagesClaim { account, suite: Suite::HYBRID }, Pending::Claim(id, account));
            }
        }
        let Some(creation) = self.session.creating.remove(&id) else { return Ok(()) };
        let own = own_list.ok_or_else(|| Error::internal("no device list of our own"))?;
        let mut claimed = creation.claimed;
        let own = claimed.remove(&me).unwrap_or((own, Vec::new()));
        let members =
            std::iter::once(own).chain(claimed.into_values()).map(|(list, packages)| Member { list, packages }).collect();
        let receipt_key = self.signed_in()?.receipt_key;
        let new = NewConversation { conversation: id, kind: ConversationKind::DIRECT, receipt_key, members };
        // State of a conversation that the server no longer has.
        let (engine, store) = self.engine()?;
        let step = engine.forget(store, &id).map_err(Error::internal)?;
        self.store.apply(&step.changes)?;
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
        let create = Create { kind: ConversationKind::DIRECT, members: vec![me, conversation.peer], name: None };
        self.queue_commit(step.output, Some(create))?;
        self.session.dirty.insert(id);
        Ok(())
    }

    fn is_claiming(&self, id: &ConversationId) -> bool {
        self.session.inflight.values().any(|pending| matches!(pending, Pending::Claim(other, _) if other == id))
    }

    pub(super) fn claim_answered(
        &mut self,
        id: ConversationId,
        account: AccountId,
        result: Result<Vec<u8>, Error>,
    ) -> Result<(), Error> {
        self.session.dirty.insert(id);
        let answer: KeyPackagesClaimAnswer = match result {
            Ok(bytes) => parlour_wire::decode(&bytes)?,
            Err(error) => {
                if !error.is_transient() {
                    self.trouble(Error { message: format!("a message waits: {}", error.message), ..error });
                }
                self.rest(id);
                return Ok(());
            }
        };
        let list = VerifiedList::parse(&answer.device_list)?;
        if list.account() != account {
            return Err(Error::new(Code::SERVER_MISBEHAVED, "the server sent the device list of another account"));
        }
        self.pin_list(&list)?;
        let own_device = self.signed_in()?.device;
        let packages: Vec<_> = answer.packages.into_iter().filter(|package| package.device != own_device).collect();
        let Some(conversation) = self.store.conversation(&id)? else { return Ok(()) };
        if conversation.phase == ConversationPhase::Active {
            return self.add_missing(&conversation, &list, packages);
        }
        if conversation.phase != ConversationPhase::Outside {
            return Ok(());
        }
        if packages.is_empty() && account == conversation.peer {
            let message = "the recipient has no device that could receive at the moment; the message stays queued";
            self.trouble(Error::new(Code::NO_DEVICES, message));
            self.rest(id);
            return Ok(());
        }
        self.session.creating.entry(id).or_default().claimed.insert(account, (list, packages));
        Ok(())
    }

    /// Puts a commit into the outbox, in the transaction that holds it as pending.
    pub(super) fn queue_commit(&mut self, commit: PendingCommit, create: Option<Create>) -> Result<(), Error> {
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
            change: None,
        };
        api::Call::check(&commit).map_err(Error::internal)?;
        let (epoch, wire) = (commit.parent_epoch, parlour_wire::encode(&commit));
        let (conversation, kind) = (commit.conversation, OutboxKind::Commit);
        self.store.enqueue(&OutboxItem { id, conversation, kind, epoch, wire, clear: None })
    }

    /// The commit that makes or joins a conversation has been taken: this device reads from there.
    pub(super) fn begin_here(&mut self, id: &ConversationId, stored: &Stored) -> Result<(), Error> {
        let Some(conversation) = self.store.conversation(id)? else { return Ok(()) };
        self.store.set_joined_epoch(id, 0)?;
        self.entered(&conversation, stored.seq.saturating_sub(1), &stored.previous)
    }

    pub(super) fn commit_refused(&mut self, item: &OutboxItem, error: Error) -> Result<(), Error> {
        let id = item.conversation;
        self.drop_commit(&id)?;
        let Some(conversation) = self.store.conversation(&id)? else { return Ok(()) };
        let began = conversation.phase != ConversationPhase::Active;
        if began && conversation.phase != ConversationPhase::Stopped {
            self.store.set_phase(&id, ConversationPhase::Outside)?;
        }
        match error.code {
            // Somebody else made it first: the sync brings the welcome, or the need to join.
            Code::ALREADY_EXISTS => self.start_sync(),
            // Another commit was first.
            Code::STALE_EPOCH if began => {
                self.session.joining.insert(id);
                Ok(())
            }
            Code::STALE_EPOCH => self.read_on(&conversation),
            // The devices of somebody changed in between.
            Code::NOT_MEMBER | Code::DEVICE_NOT_FOUND | Code::NO_DEVICES | Code::CONVERSATION_NOT_FOUND => {
                self.rest(id);
                self.start_sync()
            }
            _ => {
                self.trouble(Error { message: format!("a change of a conversation was refused: {}", error.message), ..error });
                self.rest(id);
                Ok(())
            }
        }
    }

    /// Gives up a pending commit.
    pub(super) fn drop_commit(&mut self, id: &ConversationId) -> Result<(), Error> {
        let Some(item) = self.store.pending_commit(id)? else { return Ok(()) };
        let (engine, store) = self.engine()?;
        let step = engine.abandon(store, id, item.epoch).map_err(Error::internal)?;
        self.store.apply(&step.changes)?;
        self.session.sending.remove(&item.id);
        self.session.answered.remove(&item.id);
        self.store.dequeue(&item.id)
    }

    /// Looks after a random pause whether the devices of a conversation fit the lists. One's own devices come first, and a new
    /// device joins by itself, so that most of the time nothing is left to do.
    pub(super) fn set_maintenance(&mut self, conversation: &Conversation) -> Result<(), Error> {
        let drift = self.drift(&conversation.id)?;
        if drift == Drift::default() {
            return Ok(());
        }
        let me = self.me()?;
        let (from, to) = match (drift.revoked.is_empty(), drift.missing.iter().any(|(account, _)| *account == me)) {
            (false, _) => (50, 1_000),
            (true, true) => (2_000, 5_000),
            (true, false) => (6_000, 12_000),
        };
        let after = self.jitter(from, to);
        self.set_timer(Timer::Maintain(conversation.id), after);
        Ok(())
    }

    fn drift(&mut self, id: &ConversationId) -> Result<Drift, Error> {
        let (engine, store) = self.engine()?;
        match engine.compare_devices(store, id, store) {
            Ok(step) => {
                self.store.apply(&step.changes)?;
                self.store.set_drifted(id, step.output != Drift::default())?;
                Ok(step.output)
            }
            Err(E2eeError::Storage(error)) => Err(Error::internal(error)),
            // A conversation that is only being made or joined.
            Err(_) => Ok(Drift::default()),
        }
    }

    /// Removes devices that are in no list any more, then adds those that are missing.
    pub(super) fn maintain(&mut self, id: &ConversationId) -> Result<(), Error> {
        let Some(conversation) = self.store.conversation(id)? else { return Ok(()) };
        let busy = self.store.pending_commit(id)?.is_some() || self.is_claiming(id) || self.session.reading.contains(id);
        if conversation.phase != ConversationPhase::Active || !self.session.is_usable() || busy {
            return Ok(());
        }
        let drift = self.drift(id)?;
        if !drift.revoked.is_empty() {
            let devices: Vec<DeviceId> = drift.revoked.iter().map(|(_, device)| *device).collect();
            let (engine, store) = self.engine()?;
            let step = engine.remove_devices(store, id, &devices, store);
            return self.queue_change(id, step);
        }
        match drift.missing.first() {
            Some((account, _)) => {
                self.request(&KeyPackagesClaim { account: *account, suite: Suite::HYBRID }, Pending::Claim(*id, *account))
            }
            None => Ok(()),
        }
    }

    fn add_missing(
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

    fn queue_change(
        &mut self,
        id: &ConversationId,
        step: Result<parlour_e2ee::Step<PendingCommit>, E2eeError>,
    ) -> Result<(), Error> {
        match step {
            Ok(step) => {
                self.store.apply(&step.changes)?;
                self.queue_commit(step.output, None)?;
                self.session.dirty.insert(*id);
                Ok(())
            }
            Err(E2eeError::Storage(error)) => Err(Error::internal(error)),
            Err(error) => {
                tracing::debug!(conversation = %id, %error, "the devices of a conversation stay as they are");
                Ok(())
            }
        }
    }
}
