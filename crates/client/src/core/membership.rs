//! What commits and leave statements do to a group here: its members and name are taken over, and the history says what happened.

use std::collections::BTreeSet;

use parlour_e2ee::{GroupEvent, HistoryPolicy};
use parlour_wire::{
    AccountId, ConversationId, DeviceId,
    api::{ConversationKind, Role},
    log::Entry,
};

use super::{Core, intents::not_member};
use crate::{
    api::MessageKind,
    error::Error,
    event::Event,
    store::{Conversation, ConversationPhase, Intent, MemberRow, MessageRow, OutboxKind},
};

/// Accounts that are looked up at the same time.
const LOOK_UPS: usize = 32;
/// Messages whose fate is looked at again when somebody has gone who had not reported yet.
const UNREPORTED: u32 = 1000;

/// Devices that came or went, with their accounts.
type Leaves<'a> = &'a [(AccountId, DeviceId)];

impl Core {
    /// Takes over what the group's policy says now.
    pub(super) fn refresh_view(&mut self, id: &ConversationId) -> Result<(), Error> {
        let me = self.me()?;
        let (engine, store) = self.engine()?;
        let view = engine.view(store, id).map_err(Error::internal)?;
        if view.kind != ConversationKind::GROUP {
            return Ok(());
        }
        for member in view.members.iter().filter(|member| member.account != me) {
            self.store.know_of(&member.account)?;
        }
        self.store.set_view(id, &me, &view)?;
        let name = view.name.map(|name| name.to_string());
        self.event(Event::GroupChanged { conversation: *id, name });
        Ok(())
    }

    /// Takes over what a group is into which this device has come by what the server gave it, and says what is other than when it was
    /// last inside. No commit has shown who did that, and a server with an account of its own could have made it up.
    pub(super) fn come_in(&mut self, before: &Conversation) -> Result<(), Error> {
        let old = self.store.members(&before.id)?;
        self.refresh_view(&before.id)?;
        let Some(group) = self.store.conversation(&before.id)? else { return Ok(()) };
        if old.is_empty() || before.phase == ConversationPhase::Removed {
            return Ok(());
        }
        let new = self.store.members(&before.id)?;
        let role = |of: &[MemberRow], who: &AccountId| of.iter().find(|it| it.account == *who).map(|it| it.role);
        let names = |of: &[MemberRow], wanted: &dyn Fn(&AccountId) -> bool| -> Result<String, Error> {
            let found: Vec<_> = of.iter().map(|it| it.account).filter(wanted).collect();
            Ok(found.iter().map(|it| self.object_in_text(it)).collect::<Result<Vec<_>, _>>()?.join(", "))
        };
        let became = |who: &AccountId, now| role(&old, who).is_some_and(|was| was != now) && role(&new, who) == Some(now);
        let mut said = vec![
            ("came in", names(&new, &|who| role(&old, who).is_none())?),
            ("went out", names(&old, &|who| role(&new, who).is_none())?),
            ("admin now", names(&new, &|who| became(who, Role::ADMIN))?),
            ("admin no more", names(&new, &|who| became(who, Role::MEMBER))?),
        ];
        if group.name != before.name {
            said.push(("its name", group.group_name().unwrap_or_default()));
        }
        if group.history != before.history {
            said.push(("newcomers get", history_text(group.history)));
        }
        let said: Vec<_> = said.iter().filter(|(_, what)| !what.is_empty()).map(|(how, what)| format!("{how}: {what}")).collect();
        if said.is_empty() {
            return Ok(());
        }
        let name = before.group_name().unwrap_or_default();
        self.note(
            &group,
            &format!("{name} is not as this device knew it, and it did not see who changed it. {}.", said.join("; ")),
        )
    }

    /// Members whose list or name is not known here are looked up, a few at a time. The first of them, if there is any.
    pub(super) fn look_up_members(&mut self, members: &[AccountId]) -> Result<Option<AccountId>, Error> {
        let me = self.me()?;
        let mut missing = Vec::new();
        for account in members.iter().filter(|account| **account != me && !self.session.absent.contains(account)) {
            self.store.know_of(account)?;
            let named = self.store.contact(account)?.is_some_and(|contact| !contact.name.is_empty());
            if !named || self.store.list(account)?.is_none() {
                missing.push(*account);
                if missing.len() == LOOK_UPS {
                    break;
                }
            }
        }
        missing.iter().try_for_each(|account| self.look_up_account(*account))?;
        Ok(missing.first().copied())
    }

    /// A commit of another device has been applied to a group.
    pub(super) fn group_changed(
        &mut self,
        conversation: &Conversation,
        entry: &Entry,
        actor: AccountId,
        events: &[GroupEvent],
        (added, removed): (Leaves<'_>, Leaves<'_>),
    ) -> Result<(), Error> {
        if let Some(creation) = self.session.creating.get_mut(&conversation.id) {
            // Their devices are others than those whose key packages are here.
            creation.claimed.retain(|account, _| !added.iter().any(|(owner, _)| owner == account));
        }
        let lines = self.narrate(&actor, events)?;
        if !events.is_empty() {
            self.session.gone.remove(&conversation.id);
            self.refresh_view(&conversation.id)?;
            self.report_again(&conversation.id)?;
        }
        if !lines.is_empty() {
            let shown = actor == self.me()?;
            return self.tell(conversation, entry, &actor, &lines.join(" "), shown);
        }
        let devices: BTreeSet<_> = added.iter().chain(removed).map(|(account, _)| *account).collect();
        let whose: Result<Vec<_>, _> = devices.iter().map(|account| self.name_in_text(account)).collect();
        let whose = whose?;
        if whose.is_empty() {
            return Ok(());
        }
        self.tell(conversation, entry, &actor, &format!("Devices changed: {}.", whose.join(", ")), true)
    }

    /// A commit of this device has been applied to a group.
    pub(super) fn own_group_commit(
        &mut self,
        conversation: &Conversation,
        entry: &Entry,
        events: &[GroupEvent],
        joins: bool,
    ) -> Result<(), Error> {
        self.session.gone.remove(&conversation.id);
        if joins {
            self.come_in(conversation)?
        } else {
            self.refresh_view(&conversation.id)?
        }
        self.report_again(&conversation.id)?;
        let me = self.me()?;
        let done = self.intent_done(&entry.id)?;
        let Some(conversation) = self.store.conversation(&conversation.id)? else { return Ok(()) };
        let text = match done {
            Some(Intent::Create { .. }) => self.created_text(&conversation)?,
            _ => self.narrate(&me, events)?.join(" "),
        };
        if text.is_empty() { Ok(()) } else { self.tell(&conversation, entry, &me, &text, true) }
    }

    fn created_text(&self, conversation: &Conversation) -> Result<String, Error> {
        let me = self.me()?;
        let group = conversation.group_name().unwrap_or_default();
        let others = self.store.members(&conversation.id)?.into_iter().filter(|member| member.account != me);
        let names: Result<Vec<_>, _> = others.map(|member| self.shown_name(&member.account)).collect();
        let mut names = names?;
        names.sort();
        Ok(if names.is_empty() {
            format!("You created {group}.")
        } else {
            format!("You created {group} with {}.", names.join(", "))
        })
    }

    /// This device has come into a group by a welcome: says so if its account is new there, and if the group that it was in is founded
    /// anew by that.
    pub(super) fn welcomed(&mut self, before: &Conversation, epoch: u64, adder: AccountId) -> Result<(), Error> {
        let Some(conversation) = self.store.conversation(&before.id)? else { return Ok(()) };
        let me = self.me()?;
        let members = self.store.members(&conversation.id)?;
        let mine = members.iter().find(|member| member.account == me);
        if mine.is_none_or(|mine| mine.since != epoch) {
            if before.phase != ConversationPhase::Active || before.suite == conversation.suite {
                return Ok(());
            }
            let lines = self.narrate(&adder, &[GroupEvent::Refounded(conversation.suite)])?;
            return self.note_by(&conversation, &adder, &lines.join(" "), adder == me);
        }
        let group = conversation.group_name().unwrap_or_default();
        let founder = mine.is_some_and(|mine| mine.role == Role::ADMIN) && members.iter().all(|member| member.since == epoch);
        let text = if founder { format!("You created {group}.") } else { format!("You were added to {group}.") };
        self.note_by(&conversation, &me, &text, founder)
    }

    /// An account has left a group.
    pub(super) fn somebody_left(&mut self, conversation: &Conversation, entry: &Entry, account: AccountId) -> Result<(), Error> {
        if account == self.me()? {
            let group = conversation.group_name().unwrap_or_default();
            return self.close_group(conversation, Some(entry), &format!("You left {group}."), true);
        }
        if self.store.members(&conversation.id)?.iter().all(|member| member.account != account) {
            // It was told already, when this device came in.
            return Ok(());
        }
        self.drop_member(conversation, &account)?;
        let text = format!("{} left.", self.name_in_text(&account)?);
        self.tell(conversation, entry, &account, &text, false)
    }

    /// A commit of a group has taken this device out.
    pub(super) fn taken_out(
        &mut self,
        conversation: &Conversation,
        entry: &Entry,
        actor: AccountId,
        events: &[GroupEvent],
    ) -> Result<(), Error> {
        let me = self.me()?;
        let gone = |event: &GroupEvent| matches!(event, GroupEvent::Removed(who) | GroupEvent::Left(who) if *who == me);
        if events.iter().any(gone) {
            let group = conversation.group_name().unwrap_or_default();
            let text = format!("{} removed you from {group}.", self.name_in_text(&actor)?);
            return self.close_group(conversation, Some(entry), &text, false);
        }
        let lines = self.narrate(&actor, events)?;
        if !lines.is_empty() {
            self.tell(conversation, entry, &actor, &lines.join(" "), actor == me)?;
        }
        // The account stays: a welcome of the same commit brings this device back, or the next sync says that it should join.
        self.store.set_phase(&conversation.id, ConversationPhase::Outside)?;
        self.drop_commit(&conversation.id)?;
        self.unseal_all(&conversation.id)?;
        self.session.forget(&conversation.id);
        self.session.heads.remove(&conversation.id);
        self.start_sync()
    }

    /// This account is in a group no more: nothing is tried there again.
    pub(super) fn close_group(
        &mut self,
        conversation: &Conversation,
        entry: Option<&Entry>,
        text: &str,
        own: bool,
    ) -> Result<(), Error> {
        let id = conversation.id;
        self.drop_commit(&id)?;
        self.unseal_all(&id)?;
        for item in self.store.outbox_of(&id, usize::MAX >> 1)? {
            if self.session.taken_back.contains(&item.id) {
                continue;
            }
            self.store.dequeue(&item.id)?;
            self.session.sending.remove(&item.id);
            self.session.answered.remove(&item.id);
        }
        self.store.drop_reports(&id)?;
        self.store.end_shares_in(&id)?;
        self.forget_state(&id)?;
        self.store.set_phase(&id, ConversationPhase::Removed)?;
        self.store.drop_member(&id, &self.me()?)?;
        self.session.forget(&id);
        self.session.heads.remove(&id);
        self.session.expected.remove(&id);
        self.session.moved.remove(&id);
        let me = self.me()?;
        match entry {
            Some(entry) => {
                self.store.set_position(&id, entry.seq, &entry.hash())?;
                self.tell(conversation, entry, &me, text, own)?;
            }
            None => self.note_by(conversation, &me, text, own)?,
        }
        while let Some(intent) = self.store.first_intent(&id)? {
            let outcome = if intent.intent == Intent::Leave { Ok(()) } else { Err(not_member(conversation)) };
            self.finish_intent(&intent, outcome)?;
        }
        let queued = self.store.queued(&id)?;
        let (over, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiters.states).into_iter().partition(|(_, waited, _)| queued.contains(waited));
        self.waiters.states = waiting;
        for (ticket, ..) in over {
            self.reply(ticket, Err(not_member(conversation)));
        }
        self.event(Event::GroupChanged { conversation: id, name: conversation.name.clone() });
        Ok(())
    }

    /// A group that this account was in when a sync began, and that the sync did not name.
    pub(super) fn gone_from_server(&mut self, id: &ConversationId) -> Result<(), Error> {
        let Some(conversation) = self.store.conversation(id)? else { return Ok(()) };
        let creating = self.store.first_intent(id)?.is_some_and(|row| matches!(row.intent, Intent::Create { .. }));
        let inside = !matches!(conversation.phase, ConversationPhase::Removed | ConversationPhase::Stopped);
        if !conversation.is_group() || creating || !inside {
            return Ok(());
        }
        let left = self.store.outbox_of(id, usize::MAX >> 1)?.iter().any(|item| item.kind == OutboxKind::Leave);
        let group = conversation.group_name().unwrap_or_default();
        let text = if left { format!("You left {group}.") } else { format!("You are not in {group} any more.") };
        self.close_group(&conversation, None, &text, left)
    }

    /// Looks again how far messages are, when the members that count have become others.
    pub(super) fn report_again(&mut self, id: &ConversationId) -> Result<(), Error> {
        for message in self.store.unreported(id, UNREPORTED)? {
            self.advance_in_group(&message)?;
        }
        Ok(())
    }

    /// What happened, a sentence for each event.
    fn narrate(&self, actor: &AccountId, events: &[GroupEvent]) -> Result<Vec<String>, Error> {
        let who = self.name_in_text(actor)?;
        let names = |wanted: fn(&GroupEvent) -> Option<&AccountId>| -> Result<Vec<String>, Error> {
            events.iter().filter_map(wanted).map(|account| self.object_in_text(account)).collect()
        };
        let added = names(|event| if let GroupEvent::Added(account) = event { Some(account) } else { None })?;
        let removed = names(|event| if let GroupEvent::Removed(account) = event { Some(account) } else { None })?;
        let mut lines = Vec::new();
        if !added.is_empty() {
            lines.push(format!("{who} added {}.", added.join(", ")));
        }
        if !removed.is_empty() {
            lines.push(format!("{who} removed {}.", removed.join(", ")));
        }
        for event in events {
            lines.extend(match event {
                GroupEvent::Role(account, role) => {
                    let role = if *role == Role::ADMIN { "an admin" } else { "a member" };
                    let verb = if account == actor && role == "an admin" { "became" } else { "made" };
                    Some(match verb {
                        "became" => format!("{who} became {role}."),
                        _ => format!("{who} made {} {role}.", self.object_in_text(account)?),
                    })
                }
                GroupEvent::Renamed(name) => Some(format!("{who} named the group #{name}.")),
                GroupEvent::History(history) => Some(format!("{who} decided what newcomers get: {}.", history_text(*history))),
                GroupEvent::Refounded(suite) => Some(format!("{who} founded the group anew with {} encryption.", suite.word())),
                _ => None,
            });
        }
        Ok(lines)
    }

    pub(super) fn name_in_text(&self, account: &AccountId) -> Result<String, Error> {
        if *account == self.me()? { Ok("You".to_owned()) } else { self.shown_name(account) }
    }

    fn object_in_text(&self, account: &AccountId) -> Result<String, Error> {
        if *account == self.me()? { Ok("you".to_owned()) } else { self.shown_name(account) }
    }

    /// Stores what happened in a group, in the entry's place.
    pub(super) fn tell(
        &mut self,
        conversation: &Conversation,
        entry: &Entry,
        actor: &AccountId,
        text: &str,
        shown: bool,
    ) -> Result<(), Error> {
        let row = MessageRow {
            sender: *actor,
            sent_ms: entry.stored_ms,
            stored_ms: Some(entry.stored_ms),
            seq: Some(entry.seq),
            shown,
            ..MessageRow::new(entry.id, conversation.id, MessageKind::System, text.to_owned())
        };
        self.add_message(conversation, row)
    }
}

fn history_text(history: HistoryPolicy) -> String {
    match history {
        HistoryPolicy::None => "nothing that was written before".to_owned(),
        HistoryPolicy::Last(count) => format!("the last {count} messages"),
        HistoryPolicy::All => "all messages".to_owned(),
    }
}
