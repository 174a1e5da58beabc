//! Doing what the owner of this profile wants changed about a group. A change is a row until a commit with the server's receipt
//! has done it, or it is refused for good. When another commit was first, its outcome is read and the change is tried again on top
//! of it; a change that others have made by then is done.

use std::time::Duration;

use parlour_e2ee::{E2eeError, GroupChange, Member, NewConversation, PendingCommit, Step};
use parlour_wire::{
    AccountId, Code, ConversationId, MessageId,
    api::{self, ConversationKind, Create, Role, Suite},
    name::Name,
};

use super::{Core, Reply, commit::is_urgent, session::Timer};
use crate::{
    error::Error,
    store::{Conversation, ConversationPhase, Intent, IntentRow, MemberRow, OutboxItem, OutboxKind},
};

/// Refusals that may pass, such as that somebody's devices have just changed, before one is taken for good.
const TRIES: u32 = 20;

/// A leave waits so long for a message that does not get out, such as one before which the server does not tell whose devices are whose.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to do next about an intent.
enum Next {
    /// Nothing: it is so already.
    Done,
    /// Wait for an answer.
    Wait,
    /// This commit.
    Change(Box<GroupChange>),
    /// The suite has to change first.
    Refound,
    /// The statement that this account leaves.
    Leave,
}

impl Core {
    /// Takes the next step for the intent whose turn it is in a conversation that is read to its end.
    pub(super) fn drive_intents(&mut self, conversation: &Conversation) -> Result<(), Error> {
        let id = conversation.id;
        let Some(row) = self.store.first_intent(&id)? else { return Ok(()) };
        if let Some(entry) = &row.entry {
            if self.store.outbox_item(entry)?.is_some() {
                return Ok(());
            }
            self.store.detach_intent(entry)?;
        }
        if self.store.pending_commit(&id)?.is_some() {
            return Ok(());
        }
        let next = match self.next_for(conversation, &row.intent) {
            Ok(next) => next,
            Err(error) if error.is_local() => return Err(error),
            Err(error) => return self.finish_intent(&row, Err(error)),
        };
        match next {
            Next::Done => self.finish_intent(&row, Ok(())),
            Next::Wait => Ok(()),
            Next::Leave => self.queue_leave(conversation, &row),
            Next::Refound => self.refound(conversation, &row),
            Next::Change(change) => {
                let (engine, store) = self.engine()?;
                let step = engine.change_group(store, &id, &change, store);
                if let Some(commit) = self.take_step(&row, step)? {
                    let entry = self.queue_commit(commit, None)?;
                    self.store.set_intent_entry(row.id, Some(&entry))?;
                }
                Ok(())
            }
        }
    }

    fn next_for(&mut self, group: &Conversation, intent: &Intent) -> Result<Next, Error> {
        let members = self.store.members(&group.id)?;
        let is = |account: &AccountId| members.iter().any(|member| member.account == *account);
        let change = |change: GroupChange| Next::Change(Box::new(change));
        let next = match intent {
            Intent::Create { .. } => Next::Done,
            Intent::Leave if self.goes_out(group)? => Next::Wait,
            Intent::Leave => Next::Leave,
            Intent::Add(accounts) => {
                let new: Vec<_> = accounts.iter().filter(|account| !is(account)).copied().collect();
                if new.is_empty() { Next::Done } else { return self.next_for_add(group, &members, &new) }
            }
            Intent::Remove(accounts) => {
                let remove: Vec<_> = accounts.iter().filter(|account| is(account)).copied().collect();
                if remove.is_empty() { Next::Done } else { change(GroupChange { remove, ..GroupChange::default() }) }
            }
            Intent::Role(accounts, role) => {
                let other = |member: &&MemberRow| accounts.contains(&member.account) && member.role != *role;
                let roles: Vec<_> = members.iter().filter(other).map(|member| (member.account, *role)).collect();
                if roles.is_empty() { Next::Done } else { change(GroupChange { roles, ..GroupChange::default() }) }
            }
            Intent::Rename(name) if group.name.as_deref() == Some(name) => Next::Done,
            Intent::Rename(name) => {
                let name = Some(Name::parse(name).map_err(Error::internal)?);
                change(GroupChange { name, ..GroupChange::default() })
            }
            Intent::History(history) if group.history == *history => Next::Done,
            Intent::History(history) => change(GroupChange { history: Some(*history), ..GroupChange::default() }),
        };
        match next {
            Next::Change(_) if group.role != Role::ADMIN => Err(not_admin(group)),
            next => Ok(next),
        }
    }

    fn next_for_add(&mut self, group: &Conversation, members: &[MemberRow], new: &[AccountId]) -> Result<Next, Error> {
        if group.role != Role::ADMIN {
            return Err(not_admin(group));
        }
        let all = members.iter().map(|member| member.account).chain(new.iter().copied());
        let suite = self.suite_of(all)?;
        if suite != group.suite && group.suite == Suite::HYBRID {
            return Ok(Next::Refound);
        }
        let Some(add) = self.gather(&group.id, new, group.suite)? else { return Ok(Next::Wait) };
        Ok(Next::Change(Box::new(GroupChange { add, ..GroupChange::default() })))
    }

    /// Makes a group: key packages of all devices, then the first commit.
    pub(super) fn create_group(&mut self, group: &Conversation, row: &IntentRow) -> Result<(), Error> {
        let Intent::Create { name, members, history } = &row.intent else { return Ok(()) };
        let id = group.id;
        let me = self.me()?;
        let own = self.store.list(&me)?.ok_or_else(|| Error::internal("no device list of our own"))?;
        let suite = match self.suite_of(members.iter().copied().chain([me])) {
            Ok(suite) => suite,
            Err(error) if error.is_local() => return Err(error),
            Err(error) => return self.finish_intent(row, Err(error)),
        };
        let mut wanted = members.clone();
        wanted.extend((own.certificates().len() > 1).then_some(me));
        let Some(mut gathered) = self.gather(&id, &wanted, suite)? else { return Ok(()) };
        if wanted.len() == members.len() {
            gathered.push(Member { list: own, packages: Vec::new() });
        }
        let name = Name::parse(name).map_err(Error::internal)?;
        let new = NewConversation {
            conversation: id,
            kind: ConversationKind::GROUP,
            suite,
            name: Some(name.clone()),
            history: *history,
            receipt_key: self.signed_in()?.receipt_key,
            members: gathered,
        };
        self.forget_state(&id)?;
        let (engine, store) = self.engine()?;
        let step = engine.create(store, &new);
        let Some(commit) = self.take_step(row, step)? else { return Ok(()) };
        let accounts = std::iter::once(me).chain(members.iter().copied()).collect();
        let create = Create { kind: ConversationKind::GROUP, members: accounts, name: Some(name) };
        self.store.set_phase(&id, ConversationPhase::Creating)?;
        let entry = self.queue_commit(commit, Some(create))?;
        self.store.set_intent_entry(row.id, Some(&entry))
    }

    /// Takes over the engine's state of a group; what it refuses is the end of the intent, unless another device list helps.
    fn take_step(
        &mut self,
        row: &IntentRow,
        step: Result<Step<PendingCommit>, E2eeError>,
    ) -> Result<Option<PendingCommit>, Error> {
        let id = row.conversation;
        match step {
            Ok(step) => {
                self.store.apply(&step.changes)?;
                self.session.dirty.insert(id);
                Ok(Some(step.output))
            }
            Err(E2eeError::Storage(error)) => Err(Error::internal(error)),
            Err(E2eeError::CommitPending | E2eeError::AwaitingReceipt) => Ok(None),
            Err(E2eeError::UnknownDevice { account } | E2eeError::RevokedDevice { account, .. }) if self.may_try(row.id) => {
                self.session.creating.remove(&id);
                self.look_up_account(account)?;
                self.rest(id);
                Ok(None)
            }
            Err(error) => {
                self.finish_intent(row, Err(Error::new(error.code(), format!("the group stays as it is: {error}"))))?;
                Ok(None)
            }
        }
    }

    /// Founds a group anew in the suite for many devices; the intent goes on after it.
    fn refound(&mut self, group: &Conversation, row: &IntentRow) -> Result<(), Error> {
        // Who has left goes first: this account may be an admin by that only.
        if is_urgent(&self.drift(&group.id)?.0) {
            self.maintain(&group.id)?;
            if self.store.pending_commit(&group.id)?.is_some() {
                return Ok(());
            }
        }
        let Some(members) = self.gather_all(group)? else { return Ok(()) };
        let (engine, store) = self.engine()?;
        let step = engine.refound(store, &group.id, Suite::CLASSICAL, &members);
        self.session.creating.remove(&group.id);
        if let Some(commit) = self.take_step(row, step)? {
            self.queue_commit(commit, None)?;
        }
        Ok(())
    }

    /// Whether something that was written here is still going out: who has left sends nothing any more. A file comes to an end by
    /// itself, unless the server has no room for it.
    fn goes_out(&mut self, group: &Conversation) -> Result<bool, Error> {
        let id = group.id;
        let sealed = self.store.outbox_of(&id, usize::MAX >> 1)?.into_iter().find(|item| item.kind == OutboxKind::Message);
        let next = match sealed {
            Some(item) => Some(item.id),
            None => self.store.unsealed(&id, 1)?.first().map(|message| message.id),
        };
        self.set_timer(Timer::Retry(id), Duration::from_secs(1));
        let Some(next) = next else {
            self.session.leaving.remove(&id);
            return Ok(!self.session.no_room && self.store.has_upload(&id)?);
        };
        let now = self.now.steady;
        let since = match self.session.leaving.get(&id) {
            Some((waited, since)) if *waited == next => *since,
            _ => now,
        };
        self.session.leaving.insert(id, (next, since));
        Ok(now.saturating_sub(since) < PATIENCE)
    }

    fn queue_leave(&mut self, group: &Conversation, row: &IntentRow) -> Result<(), Error> {
        let id = group.id;
        let (engine, store) = self.engine()?;
        let step = match engine.leave(store, &id) {
            Ok(step) => step,
            Err(E2eeError::Storage(error)) => return Err(Error::internal(error)),
            Err(error) => return self.finish_intent(row, Err(Error::new(error.code(), format!("cannot leave: {error}")))),
        };
        self.store.apply(&step.changes)?;
        let leave = api::Leave { conversation: id, id: self.new_id(), statement: step.output };
        let wire = parlour_wire::encode(&leave);
        let (entry, kind) = (leave.id, OutboxKind::Leave);
        self.store.enqueue(&OutboxItem { id: entry, conversation: id, kind, epoch: u64::MAX, wire, clear: None })?;
        self.store.set_intent_entry(row.id, Some(&entry))?;
        self.session.dirty.insert(id);
        Ok(())
    }

    /// The server has refused the commit of an intent, for a reason that may pass or for good. Whether this was all there is to do
    /// about the refusal.
    pub(super) fn intent_refused(&mut self, row: &IntentRow, error: &Error) -> Result<bool, Error> {
        match error.code {
            Code::STALE_EPOCH => Ok(false),
            Code::NOT_MEMBER | Code::DEVICE_NOT_FOUND | Code::NO_DEVICES | Code::CONVERSATION_NOT_FOUND
                if self.may_try(row.id) =>
            {
                self.session.creating.remove(&row.conversation);
                Ok(false)
            }
            _ => {
                self.finish_intent(row, Err(error.clone()))?;
                Ok(true)
            }
        }
    }

    fn may_try(&mut self, intent: i64) -> bool {
        let tries = self.session.tries.entry(intent).or_default();
        *tries += 1;
        *tries <= TRIES
    }

    /// An entry of this device is in the log: the intent that it was for is done.
    pub(super) fn intent_done(&mut self, entry: &MessageId) -> Result<Option<Intent>, Error> {
        let Some(row) = self.store.intent_of(entry)? else { return Ok(None) };
        self.finish_intent(&row, Ok(()))?;
        Ok(Some(row.intent))
    }

    /// Ends an intent and tells who waits for it.
    pub(super) fn finish_intent(&mut self, row: &IntentRow, outcome: Result<(), Error>) -> Result<(), Error> {
        let id = row.conversation;
        self.store.drop_intent(row.id)?;
        self.session.tries.remove(&row.id);
        self.session.creating.remove(&id);
        self.session.dirty.insert(id);
        let (over, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiters.intents).into_iter().partition(|(_, intent)| *intent == row.id);
        self.waiters.intents = waiting;
        let never = matches!(row.intent, Intent::Create { .. }) && outcome.is_err();
        if never && self.store.conversation(&id)?.is_some_and(|group| group.phase != ConversationPhase::Active) {
            self.forget_state(&id)?;
            self.session.forget(&id);
            self.erase_kept_of(&id)?;
            self.store.delete_group(&id)?;
        }
        if over.is_empty()
            && let Err(error) = &outcome
        {
            self.trouble(Error { message: format!("a group stays as it is: {}", error.message), ..error.clone() });
        }
        for (ticket, _) in over {
            let reply = match &outcome {
                Ok(()) => self.group_reply(&id),
                Err(error) => Err(error.clone()),
            };
            self.reply(ticket, reply);
        }
        Ok(())
    }

    fn group_reply(&self, id: &ConversationId) -> Result<Reply, Error> {
        let group = self.store.conversation(id)?.ok_or_else(|| Error::internal("a group vanished"))?;
        Ok(Reply::Group(self.shown_group(&group)?))
    }

    /// Forgets the engine's state of a conversation.
    pub(super) fn forget_state(&mut self, id: &ConversationId) -> Result<(), Error> {
        let (engine, store) = self.engine()?;
        let step = engine.forget(store, id).map_err(Error::internal)?;
        self.store.apply(&step.changes)
    }
}

pub(super) fn not_admin(group: &Conversation) -> Error {
    let name = group.group_name().unwrap_or_default();
    Error::new(Code::FORBIDDEN, format!("only an admin of {name} may do this"))
        .hint("`group members` shows who is one; an admin can give you the role")
}

pub(super) fn not_member(group: &Conversation) -> Error {
    let name = group.group_name().unwrap_or_default();
    Error::new(Code::NOT_MEMBER, format!("you are not in {name} any more"))
        .hint("an admin of the group can add you again; its history stays here")
}
