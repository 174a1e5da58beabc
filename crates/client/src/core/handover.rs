//! A history for a new device. The device asks in the own conversation; the first other device that says so answers with packs, the
//! newest messages first. If nobody answers, or there is nobody, the backup is tried.
//!
//! Everything that has been decided is in the database: a device that is killed goes on where it was, and what comes twice changes
//! nothing, because messages are known by their ids.

use std::time::Duration;

use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    api::{DevicesGet, DevicesGetAnswer},
};

use super::{
    Core, Reply, Ticket,
    own::{HistoryTalk, PackRef, Sync},
    pack::{self, Pack, PackedConversation, PackedMessage},
    session::{Pending, Timer},
};
use crate::{
    error::Error,
    event::Event,
    store::{Conversation, ConversationPhase, Handover, Parcel, Purpose, STEP, Wanted},
};

/// Other devices have so long to say that they will answer, before the backup is looked at.
const PATIENCE: Duration = Duration::from_secs(6);
/// A new device has so long to come into its conversations before it asks for a history all the same.
const COMING_IN: Duration = Duration::from_secs(20);
/// A device that has not read everything looks again so much later whether it can give a history.
const CATCHING_UP: Duration = Duration::from_millis(500);
/// A request that has brought nothing for so long is made again, in the next session.
const STALE_MS: u64 = 10 * 60 * 1000;

impl Core {
    /// This device is new and has nothing of the time before it: it wants a history.
    pub(super) fn want_history(&mut self) -> Result<(), Error> {
        let at_ms = self.now.unix_ms;
        self.store.want(Some(&Wanted { ask: None, at_ms, giver: None, from_backup: false, parts: None, taken: 0 }))
    }

    /// Asks for what is wanted, answers what others want.
    pub(super) fn tend_history(&mut self) -> Result<(), Error> {
        if !self.session.is_usable() || !self.session.synced {
            return Ok(());
        }
        for handover in self.store.handovers()? {
            self.tend_handover(&handover)?;
        }
        let Some(mut wanted) = self.store.wanted()? else { return Ok(()) };
        if wanted.from_backup {
            return self.pump_intake();
        }
        if !self.has_siblings()? {
            return if wanted.ask.is_some() || !self.session.backup_asked { self.ask_backup() } else { Ok(()) };
        }
        let stale = self.now.unix_ms.saturating_sub(wanted.at_ms) > STALE_MS;
        if wanted.ask.is_none() || stale {
            if self.is_coming_in()? {
                self.set_timer(Timer::Ask, COMING_IN);
                return self.pump_intake();
            }
            let ask = self.tell_own(&Sync { history: Some(HistoryTalk::Ask), ..Sync::default() }, None)?;
            wanted = Wanted { ask: Some(ask), at_ms: self.now.unix_ms, giver: None, parts: None, ..wanted };
            self.store.want(Some(&wanted))?;
        }
        if wanted.giver.is_none() && !self.session.backup_asked {
            self.set_timer(Timer::History, PATIENCE);
            if !std::mem::replace(&mut self.session.siblings_asked, true) {
                self.request(&DevicesGet {}, Pending::Siblings)?;
            }
        }
        self.pump_intake()
    }

    /// Whether this device is on its way into a conversation of its account. What is written there until it is in, another device has to
    /// give it, and that one gives what it has when it is asked.
    fn is_coming_in(&self) -> Result<bool, Error> {
        let session = &self.session;
        let coming = |it: &Conversation| match it.phase {
            ConversationPhase::Joining => true,
            ConversationPhase::Outside => {
                let begun = session.joining.contains(&it.id) || session.welcomes.contains_key(&it.id);
                begun && !session.full.contains(&it.id)
            }
            _ => false,
        };
        Ok(!session.asks_anyway && self.store.conversations()?.iter().any(coming))
    }

    /// Who of the other devices is there: if none is, there is nobody to wait for. A server that lies here makes a new device wait, or
    /// look at the backup first.
    pub(super) fn siblings_answered(&mut self, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let Ok(bytes) = result else { return Ok(()) };
        let answer: DevicesGetAnswer = parlour_wire::decode(&bytes)?;
        let me = self.signed_in()?.device;
        if answer.seen.iter().any(|seen| seen.online && seen.device != me) { Ok(()) } else { self.history_due() }
    }

    /// The other devices have had their time to answer.
    pub(super) fn history_due(&mut self) -> Result<(), Error> {
        match self.store.wanted()? {
            Some(wanted) if wanted.giver.is_none() && !wanted.from_backup => self.ask_backup(),
            _ => Ok(()),
        }
    }

    /// This device has come into the own conversation. What was said there before it did not hear.
    pub(super) fn own_entered(&mut self) -> Result<(), Error> {
        match self.store.wanted()? {
            None => drop(self.tell_own(&Sync { history: Some(HistoryTalk::AskRegisters), ..Sync::default() }, None)?),
            // What answered the request may have been missed.
            Some(wanted)
                if !wanted.from_backup && wanted.ask.is_some_and(|ask| !self.store.own_queued(&ask).unwrap_or(false)) =>
            {
                self.store.want(Some(&Wanted { ask: None, giver: None, parts: None, ..wanted }))?;
                self.session.intake = None;
            }
            Some(_) => {}
        }
        self.tend_history()
    }

    /// Whether a history is on its way, so that waiting for it makes sense.
    pub(super) fn awaits_history(&self) -> Result<bool, Error> {
        let Some(wanted) = self.store.wanted()? else { return Ok(false) };
        Ok(wanted.from_backup || wanted.giver.is_some() || !self.session.backup_asked)
    }

    pub(super) fn wait_history(&mut self, ticket: Ticket) -> Result<(), Error> {
        self.signed_in()?;
        self.waiters.history.push(ticket);
        Ok(())
    }

    /// Replies to those who wait for a history that is here, or that nobody is sending.
    pub(super) fn settle_history(&mut self) -> Result<(), Error> {
        if self.waiters.history.is_empty() || self.awaits_history()? {
            return Ok(());
        }
        for ticket in std::mem::take(&mut self.waiters.history) {
            self.reply(ticket, Ok(Reply::Done));
        }
        Ok(())
    }

    pub(super) fn take_history_talk(&mut self, id: &MessageId, device: DeviceId, talk: HistoryTalk) -> Result<(), Error> {
        let me = self.signed_in()?.device;
        match talk {
            HistoryTalk::Ask | HistoryTalk::AskRegisters if device == me => Ok(()),
            HistoryTalk::Ask | HistoryTalk::AskRegisters => {
                self.store.add_handover(id, &device, talk == HistoryTalk::Ask)?;
                self.tend_history()
            }
            HistoryTalk::Take { ask } => self.somebody_takes(&ask, device),
            HistoryTalk::Part { ask, number, last, pack } => self.take_part(&ask, device, (number, last), pack.as_ref()),
        }
    }

    /// A device says that it answers a request. The first in the log does.
    fn somebody_takes(&mut self, ask: &MessageId, device: DeviceId) -> Result<(), Error> {
        if let Some(wanted) = self.store.wanted()?.filter(|wanted| wanted.ask == Some(*ask) && wanted.giver.is_none()) {
            self.store.set_wanted(&Wanted { giver: Some(device), at_ms: self.now.unix_ms, ..wanted })?;
        }
        let me = self.signed_in()?.device;
        if self.store.set_giver(ask, &device)? && device == me {
            // Whoever asks for a history knows nothing of contacts and settings either.
            self.store.tell_all_registers()?;
            let own = self.own_id()?;
            self.session.dirty.insert(own);
        }
        self.tend_history()
    }

    fn take_part(
        &mut self,
        ask: &MessageId,
        device: DeviceId,
        (number, last): (u32, bool),
        pack: Option<&PackRef>,
    ) -> Result<(), Error> {
        let Some(wanted) = self.store.wanted()?.filter(|wanted| wanted.ask == Some(*ask)) else { return Ok(()) };
        if wanted.giver.is_some_and(|giver| giver != device) || pack.is_some_and(|pack| pack.size as usize > pack::SEALED) {
            return Ok(());
        }
        // Own devices know more than the backup does.
        let base = if wanted.from_backup { Wanted { from_backup: false, parts: None, ..wanted } } else { wanted };
        if wanted.from_backup {
            self.store.want(Some(&base))?;
            self.session.intake = None;
        }
        let parts = if last { Some(number.saturating_add(1)) } else { base.parts };
        self.store.add_intake(number, pack)?;
        self.store.set_wanted(&Wanted { giver: Some(device), at_ms: self.now.unix_ms, parts, ..base })?;
        self.pump_intake()
    }

    /// The next thing to do for somebody who asked.
    fn tend_handover(&mut self, handover: &Handover) -> Result<(), Error> {
        if !self.is_sibling(&handover.device)? {
            return self.store.end_handover(&handover.ask);
        }
        match handover.giver {
            None => {
                let after = self.jitter(100, 1_500);
                self.set_timer(Timer::Handover(handover.ask), after);
                Ok(())
            }
            Some(giver) if giver == self.signed_in()?.device => self.next_part(handover),
            Some(_) => Ok(()),
        }
    }

    /// Nobody has said so far that they answer a request: this device does, once it has read what there is. What it took only after it
    /// had packed would be given to nobody, and who asks can read nothing from before it came in.
    pub(super) fn offer_handover(&mut self, ask: MessageId) -> Result<(), Error> {
        let open = self.store.handovers()?.into_iter().any(|handover| handover.ask == ask && handover.giver.is_none());
        if open && self.is_behind()? {
            self.set_timer(Timer::Handover(ask), CATCHING_UP);
            return Ok(());
        }
        if open && self.session.offered.insert(ask) {
            self.tell_own(&Sync { history: Some(HistoryTalk::Take { ask }), ..Sync::default() }, None)?;
        }
        Ok(())
    }

    /// Whether there are entries that this device has not taken and is about to. A log that it gets no further in for now keeps nothing
    /// else back.
    fn is_behind(&self) -> Result<bool, Error> {
        let session = &self.session;
        let goes_on = |id: &ConversationId| !session.resting.contains(id);
        let behind = |it: &Conversation| {
            let head = session.heads.get(&it.id).copied().unwrap_or(0);
            it.phase == ConversationPhase::Active && head > it.seq && goes_on(&it.id)
        };
        let coming = !session.synced || session.welcomes.keys().any(goes_on);
        Ok(coming || self.store.conversations()?.iter().any(behind))
    }

    /// Packs the next part and puts it on its way, unless one is.
    fn next_part(&mut self, handover: &Handover) -> Result<(), Error> {
        let purpose = Purpose::Handover(handover.ask);
        if self.store.has_parcel(purpose)? {
            return self.pump_parcels();
        }
        let mut pack = Pack::default();
        let (mut size, mut before) = (0, handover.before);
        for row in self.store.packable_before(handover.before, pack::MESSAGES)? {
            if size > pack::BYTES {
                break;
            }
            size += row.message.size();
            before = row.position;
            pack.push(row.conversation, row.message);
        }
        if pack.is_empty() {
            return self.say_part(handover, None, true);
        }
        let parcel = self.parcel(&pack, purpose, before);
        self.store.add_parcel(&parcel)?;
        self.pump_parcels()
    }

    /// Seals a pack for its way to the server.
    pub(super) fn parcel(&self, pack: &Pack, purpose: Purpose, before: i64) -> Parcel {
        let messages = u32::try_from(pack.messages.len()).unwrap_or(u32::MAX);
        let sealed = pack.seal();
        let size = u32::try_from(sealed.bytes.len()).unwrap_or(u32::MAX);
        let pack = PackRef { blob: sealed.blob, key: *sealed.key, size, messages };
        Parcel { purpose, pack, before, bytes: sealed.bytes, again: false }
    }

    /// A part is at the server: says so, and goes on with the next.
    pub(super) fn part_sent(&mut self, ask: &MessageId, parcel: &Parcel) -> Result<(), Error> {
        let handover = self.store.handovers()?.into_iter().find(|handover| handover.ask == *ask);
        let Some(handover) = handover else { return Ok(()) };
        let last = self.store.packable_before(parcel.before, 1)?.is_empty();
        self.say_part(&Handover { before: parcel.before, ..handover }, Some(parcel.pack), last)?;
        self.tend_history()
    }

    /// The server does not take more of this account: what has been handed over is all there is.
    pub(super) fn part_refused(&mut self, ask: &MessageId) -> Result<(), Error> {
        let handover = self.store.handovers()?.into_iter().find(|handover| handover.ask == *ask);
        handover.map_or(Ok(()), |handover| self.say_part(&handover, None, true))
    }

    fn say_part(&mut self, handover: &Handover, pack: Option<PackRef>, last: bool) -> Result<(), Error> {
        let Handover { ask, number, before, .. } = *handover;
        let part = HistoryTalk::Part { ask, number, last, pack };
        self.tell_own(&Sync { history: Some(part), ..Sync::default() }, pack.map(|pack| pack.blob))?;
        if last { self.store.end_handover(&ask) } else { self.store.handed_over(&ask, before) }
    }

    /// Takes a pack in: what is not here yet, in its place before everything that is.
    pub(super) fn take_pack(&mut self, pack: Pack) -> Result<u64, Error> {
        let mut taken = 0;
        let mut position = self.store.position_below()?;
        let mut places = Vec::with_capacity(pack.conversations.len());
        for conversation in &pack.conversations {
            places.push(self.place(conversation)?);
        }
        for message in pack.messages {
            let place = usize::try_from(message.conversation).ok().and_then(|at| places.get(at).copied().flatten());
            let Some(conversation) = place else { continue };
            if self.take_packed(&conversation, position, &message)? {
                taken += 1;
                position -= STEP;
            }
        }
        for agreed in pack.agreed {
            match Sync::from_bytes(&agreed) {
                Ok(sync) => self.take_registers(sync.registers)?,
                Err(error) => tracing::warn!(%error, "what a pack says beside messages cannot be read"),
            }
        }
        Ok(taken)
    }

    /// The conversation that a pack speaks of, made if it is not here; `None` for one that cannot be this account's.
    fn place(&mut self, conversation: &PackedConversation) -> Result<Option<ConversationId>, Error> {
        let id = conversation.id;
        match conversation.peer {
            Some(peer) if id == ConversationId::direct(&self.me()?, &peer) => {
                self.store.direct_conversation(&id, &peer)?;
                self.know(&peer)?;
                Ok(Some(id))
            }
            None if id.is_group() => {
                if self.store.conversation(&id)?.is_none() {
                    // The server did not name it, so this account is in it no more.
                    self.store.group_conversation(&id)?;
                    self.store.set_phase(&id, ConversationPhase::Removed)?;
                    if let Some(name) = conversation.name.as_deref().and_then(|name| parlour_wire::name::Name::parse(name).ok()) {
                        self.store.set_group_name(&id, name.as_str())?;
                    }
                }
                Ok(Some(id))
            }
            _ => Ok(None),
        }
    }

    fn take_packed(&mut self, conversation: &ConversationId, position: i64, message: &PackedMessage) -> Result<bool, Error> {
        let shown_kind = matches!(message.kind, 0 | 2 | 3);
        let over = message.expires_ms.is_some_and(|at| at <= self.now.unix_ms);
        if !shown_kind || over || message.stored_ms.is_none() {
            return Ok(false);
        }
        // What others say that this account wrote is not for its outbox.
        let outgoing = message.sender == self.me()? && message.shared_by.is_none();
        let place = (conversation, outgoing);
        let new = self.store.put_packed(position, place, message)?;
        if !new && !self.store.fill_in(conversation, outgoing, message)? {
            if message.shown {
                self.store.set_shown(&message.id)?;
            }
            return Ok(false);
        }
        if self.store.take_early_mark(&message.id)? {
            self.store.set_shown(&message.id)?;
        }
        if conversation.is_group() {
            self.know_writer(&message.sender, outgoing)?;
        }
        for reaction in &message.reactions {
            self.store.put_packed_reaction(&message.id, reaction)?;
        }
        self.expires(message.expires_ms);
        self.apply_pending(&message.id)?;
        Ok(new)
    }

    fn know_writer(&mut self, account: &AccountId, outgoing: bool) -> Result<(), Error> {
        if outgoing { Ok(()) } else { self.store.know_of(account) }
    }

    /// A part has been taken in, or could not be.
    pub(super) fn part_taken(&mut self, number: u32, messages: u64) -> Result<(), Error> {
        self.store.intake_done(number)?;
        let Some(wanted) = self.store.wanted()? else { return Ok(()) };
        let wanted = Wanted { taken: wanted.taken + messages, at_ms: self.now.unix_ms, ..wanted };
        self.store.set_wanted(&wanted)?;
        self.event(Event::HistoryTaken { messages, from_backup: wanted.from_backup });
        self.check_history_end()
    }

    /// Whether that was all. After a backup, other devices may still know more.
    pub(super) fn check_history_end(&mut self) -> Result<(), Error> {
        let Some(wanted) = self.store.wanted()? else { return Ok(()) };
        let done = self.store.intake_count()?;
        if wanted.parts.is_none_or(|parts| done < parts) {
            return Ok(());
        }
        self.store.settle_order()?;
        if wanted.from_backup && self.has_siblings()? {
            let (ask, at_ms) = (wanted.ask, self.now.unix_ms);
            self.session.backup_asked = true;
            return self.store.want(Some(&Wanted { ask, at_ms, giver: None, from_backup: false, parts: None, taken: 0 }));
        }
        self.store.want(None)
    }
}
