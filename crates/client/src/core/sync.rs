//! What there is at the server, reading logs, and telling the server how far this device is.

use std::{collections::BTreeMap, time::Duration};

use parlour_wire::{
    AccountId, Code, ConversationId,
    api::{self, ConversationKind, ConversationState, Cursor, Cursors, CursorsSet, Notice as _, Read, ReadAnswer, SyncAnswer},
    limits,
};

use super::{
    Core, Output,
    session::{Invited, Pending, Timer},
};
use crate::{
    error::Error,
    event::Event,
    store::{Conversation, ConversationPhase},
};

/// Cursors wait so long for company: they only let the server delete, nothing waits for them.
const CURSOR_DELAY: Duration = Duration::from_millis(200);
/// What the server refuses for no reason that passes by itself is asked again after so long: somebody has to mend it.
const BROKEN: Duration = Duration::from_secs(30);
/// A conversation is joined anew at once so often, and then with pauses.
const REJOINS: u32 = 3;

impl Core {
    /// Asks for everything there is, page by page.
    pub(super) fn start_sync(&mut self) -> Result<(), Error> {
        if self.session.inflight.values().any(|pending| matches!(pending, Pending::Sync)) {
            self.session.sync_again = true;
            return Ok(());
        }
        self.session.synced = false;
        self.session.sync_again = false;
        (self.session.sync_after, self.session.sync_pages) = (None, 0);
        let known = self.store.conversations()?;
        self.session.reached = known.iter().map(|it| (it.id, it.seq)).collect();
        let known = known.into_iter();
        let inside = |phase| !matches!(phase, ConversationPhase::Creating | ConversationPhase::Removed);
        self.session.expected = known.filter(|it| it.is_group() && inside(it.phase)).map(|it| it.id).collect();
        self.request(&api::Sync { after: None }, Pending::Sync)
    }

    pub(super) fn sync_answered(&mut self, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let answer: SyncAnswer = match result {
            Ok(bytes) => parlour_wire::decode(&bytes)?,
            Err(error) => return self.later_or_tell(error),
        };
        let ids: Vec<_> = answer.conversations.iter().map(|state| state.conversation).collect();
        if !self.leads_on(&ids) {
            return Ok(());
        }
        let last = ids.last().copied();
        for state in answer.conversations {
            self.take_state(state)?;
        }
        if answer.more && last.is_some() {
            return self.request(&api::Sync { after: last }, Pending::Sync);
        }
        if self.session.sync_again {
            return self.start_sync();
        }
        self.session.synced = true;
        for gone in std::mem::take(&mut self.session.expected) {
            self.gone_from_server(&gone)?;
        }
        // A session that has just begun, or that the server could not keep up with, knows nothing of who is there.
        self.session.contacts_dirty = true;
        self.event(Event::Synced);
        self.tend_own()?;
        self.tend_shares()?;
        self.tend_backup()?;
        self.look_at_everything()
    }

    /// A request that the whole session needs has failed: tries again later if that may help.
    fn later_or_tell(&mut self, error: Error) -> Result<(), Error> {
        if error.is_transient() {
            self.set_timer(Timer::Restart, Duration::from_secs(1));
        } else {
            self.trouble(error);
            self.set_timer(Timer::Restart, BROKEN);
        }
        Ok(())
    }

    /// Marks every conversation that has something to do.
    pub(super) fn look_at_everything(&mut self) -> Result<(), Error> {
        let work = self.store.conversations_with_work()?;
        self.session.dirty.extend(work);
        let behind: Vec<_> = self.session.heads.keys().copied().collect();
        self.session.dirty.extend(behind);
        Ok(())
    }

    fn take_state(&mut self, state: ConversationState) -> Result<(), Error> {
        self.session.expected.remove(&state.conversation);
        let Some(conversation) = self.accept(&state.conversation, state.kind, &state.members)? else { return Ok(()) };
        if !self.is_plausible(state.head) {
            return Ok(());
        }
        let head = self.session.heads.entry(state.conversation).or_default();
        *head = (*head).max(state.head);
        if let Some(welcome) = state.welcome {
            return self.take_welcome(welcome);
        }
        let pending = self.store.pending_commit(&conversation.id)?.is_some();
        match conversation.phase {
            ConversationPhase::Stopped => {}
            // The server has an acknowledgement that this database knows nothing of: an old copy has been put back. Its
            // ratchets must not be used again.
            ConversationPhase::Active if state.cursor.is_some_and(|cursor| cursor > conversation.seq) => {
                self.begin_anew(&conversation)?;
            }
            ConversationPhase::Active if self.has_shrunk(&conversation.id, state.head) => self.shrunk(&conversation)?,
            // The outbox will find out.
            _ if pending => {
                self.session.acknowledged.extend(state.cursor.map(|cursor| (conversation.id, cursor)));
            }
            ConversationPhase::Active => match state.cursor {
                Some(cursor) => {
                    if cursor < conversation.seq {
                        self.session.moved.insert(conversation.id, conversation.seq);
                        self.set_timer(Timer::Cursors, CURSOR_DELAY);
                    }
                    // Comparing costs the loading of the group, so only where the last session left something to do.
                    if conversation.drifted {
                        self.set_maintenance(&conversation)?;
                    }
                }
                None => self.rejoin(&conversation, "this device was not in the conversation any more")?,
            },
            _ => {
                self.session.joining.insert(conversation.id);
            }
        }
        if conversation.is_group() {
            self.session.rosters.insert(conversation.id, state.members);
        }
        self.session.dirty.insert(conversation.id);
        Ok(())
    }

    /// Joins a conversation again of which this database is an older copy.
    pub(super) fn begin_anew(&mut self, conversation: &Conversation) -> Result<(), Error> {
        self.note(conversation, "This profile is an older copy of itself: messages after this one may be missing here.")?;
        self.replace_key_packages();
        self.rejoin(conversation, "the profile is an older copy of itself")
    }

    /// The conversation that the server names, made here if it is new; `None` for one whose members do not fit, or of a kind that
    /// this version does not know.
    pub(super) fn accept(
        &mut self,
        id: &ConversationId,
        kind: ConversationKind,
        members: &[AccountId],
    ) -> Result<Option<Conversation>, Error> {
        let me = self.me()?;
        let conversation = match kind {
            ConversationKind::DIRECT => {
                let peer = members.iter().find(|member| **member != me).copied();
                match peer {
                    Some(peer) if members.len() == 2 && *id == ConversationId::direct(&me, &peer) => {
                        let conversation = self.store.direct_conversation(id, &peer)?;
                        self.know(&peer)?;
                        Some(conversation)
                    }
                    _ => None,
                }
            }
            ConversationKind::GROUP if id.is_group() && members.contains(&me) => Some(self.store.group_conversation(id)?),
            ConversationKind::GROUP => None,
            ConversationKind::OWN if *id == ConversationId::own(&me) && members == [me] => Some(self.store.own_conversation(id)?),
            ConversationKind::OWN => None,
            other => {
                tracing::debug!(?id, ?other, "a conversation of a kind that this version does not know");
                return Ok(None);
            }
        };
        if conversation.is_none() {
            let message = "the server listed a conversation whose members do not fit its id";
            self.trouble(Error::new(Code::SERVER_MISBEHAVED, message));
        }
        Ok(conversation)
    }

    /// Reads a log from where this device is, unless that is under way.
    pub(super) fn read_on(&mut self, conversation: &Conversation) -> Result<(), Error> {
        if !self.session.is_usable() || !self.session.reading.insert(conversation.id) {
            return Ok(());
        }
        let read = Read { conversation: conversation.id, after: conversation.seq, limit: limits::READ_ENTRIES as u32 };
        self.request(&read, Pending::Read(conversation.id))
    }

    pub(super) fn read_answered(&mut self, id: ConversationId, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        self.session.reading.remove(&id);
        let answer: ReadAnswer = match result {
            Ok(bytes) => parlour_wire::decode(&bytes)?,
            Err(error) if error.is_transient() => {
                self.rest(id);
                return Ok(());
            }
            Err(error) => {
                if let Some(invited) = self.session.invited.remove(&id) {
                    return self.stop_reading(&id, invited);
                }
                if matches!(error.code, Code::NOT_MEMBER | Code::CONVERSATION_NOT_FOUND) {
                    return self.start_sync();
                }
                self.trouble(error);
                self.session.resting.insert(id);
                self.set_timer(Timer::Retry(id), BROKEN);
                return Ok(());
            }
        };
        if !self.is_plausible(answer.head) {
            self.rest(id);
            return Ok(());
        }
        let before = self.store.conversation(&id)?.map_or(0, |conversation| conversation.seq);
        let head = self.session.heads.entry(id).or_default();
        // The answer is the newest word: entries behind it that were promised earlier do not exist.
        *head = answer.head;
        self.session.dirty.insert(id);
        // Taken out here, because what ends the group here forgets all that is under way in it.
        let invited = self.session.invited.remove(&id);
        self.take_entries(&id, answer.entries)?;
        if let Some(invited) = invited {
            // An entry that waits for a device list is not taken yet.
            let waits = self.session.held.get(&id).is_some_and(|held| held.contains_key(&before.saturating_add(1)));
            let goes_on = waits || self.store.conversation(&id)?.is_some_and(|conversation| conversation.seq > before);
            return self.read_towards(&id, invited, goes_on);
        }
        self.after_read(id, before, answer.head)
    }

    /// A welcome to a group in which this device is, from ahead of where it reads. Who founds a group anew takes everybody out and
    /// brings them in by one commit, and what stands before is for this device too, so it is read first. If the device was taken out
    /// before, the server does not give it out.
    pub(super) fn read_up_to(&mut self, welcome: api::Welcome) {
        let id = welcome.conversation;
        let reading = self.session.reading.contains(&id);
        self.session.invited.insert(id, Invited { welcome, reading });
        self.session.dirty.insert(id);
    }

    /// A part of the log before a welcome has been read, if it goes on from where this device was.
    fn read_towards(&mut self, id: &ConversationId, invited: Invited, goes_on: bool) -> Result<(), Error> {
        let Some(conversation) = self.store.conversation(id)? else { return Ok(()) };
        let next = invited.welcome.seq;
        let more = conversation.phase == ConversationPhase::Active && (goes_on || invited.reading);
        if !more {
            return self.stop_reading(id, invited);
        }
        if conversation.seq < next {
            let head = self.session.heads.entry(*id).or_default();
            *head = (*head).max(next);
            self.session.invited.insert(*id, Invited { reading: false, ..invited });
        }
        Ok(())
    }

    /// There is nothing more to read before a welcome: follows it.
    fn stop_reading(&mut self, id: &ConversationId, invited: Invited) -> Result<(), Error> {
        match self.store.conversation(id)? {
            Some(conversation) if conversation.phase != ConversationPhase::Stopped => self.follow(&conversation, invited.welcome),
            _ => Ok(()),
        }
    }

    /// Lets a conversation pause before it tries again.
    pub(super) fn rest(&mut self, id: ConversationId) {
        self.session.resting.insert(id);
        self.set_timer(Timer::Retry(id), Duration::from_secs(1));
    }

    /// Notes that a log has been taken further; the server is told a little later.
    pub(super) fn moved(&mut self, id: ConversationId, seq: u64) {
        self.session.moved.insert(id, seq);
        self.set_timer(Timer::Cursors, CURSOR_DELAY);
    }

    pub(super) fn send_cursors(&mut self) {
        if !self.session.is_usable() {
            return;
        }
        let cursors = cursors(std::mem::take(&mut self.session.moved));
        for page in cursors.chunks(limits::READ_ENTRIES) {
            let content = parlour_wire::encode(&Cursors { cursors: page.to_vec() });
            self.outputs.push(Output::Action { name: Cursors::NAME, content });
        }
    }

    /// The same with an answer.
    pub(super) fn set_cursors(&mut self) -> Result<(), Error> {
        let cursors = cursors(std::mem::take(&mut self.session.moved));
        for page in cursors.chunks(limits::READ_ENTRIES) {
            self.request(&CursorsSet { cursors: page.to_vec() }, Pending::Cursors)?;
        }
        Ok(())
    }

    pub(super) fn cursors_answered(&mut self, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        // The next sync finds cursors that the server has not heard of.
        if let Err(error) = result {
            tracing::debug!(%error, "cursors were not taken");
        }
        Ok(())
    }

    /// Sets a conversation up again on this device by an external commit.
    pub(super) fn rejoin(&mut self, conversation: &Conversation, why: &str) -> Result<(), Error> {
        tracing::warn!(conversation = %conversation.id, why, "joining a conversation again");
        self.drop_commit(&conversation.id)?;
        self.unseal_all(&conversation.id)?;
        self.store.set_phase(&conversation.id, ConversationPhase::Outside)?;
        self.session.forget(&conversation.id);
        self.session.joining.insert(conversation.id);
        self.session.dirty.insert(conversation.id);
        let count = self.session.rejoined.entry(conversation.id).or_default();
        *count = count.saturating_add(1);
        if *count > REJOINS {
            // Thrown out again and again: at leisure from here on.
            self.rest(conversation.id);
        }
        Ok(())
    }
}

fn cursors(moved: BTreeMap<ConversationId, u64>) -> Vec<Cursor> {
    moved.into_iter().map(|(conversation, seq)| Cursor { conversation, seq }).collect()
}
