//! The conversation that the devices of one account have among themselves, at work: what this device changes is told there, what the
//! others tell is taken over. What it is about stands in `own`; histories are handed over in `handover`.
//!
//! Nothing said there is ever said elsewhere, and what comes as such from elsewhere means nothing.

use std::collections::{BTreeSet, VecDeque};

use parlour_wire::{
    AccountId, Code, ConversationId, DeviceId, MessageId,
    content::{Body, Content},
    id::BlobId,
    log::Entry,
};

use super::{
    Command, Core, Reply, Ticket,
    content::AHEAD_MS,
    own::{self, HistoryTalk, Kind, Meaning, Register, Stamp, Sync},
    target::Target,
};
use crate::{
    error::Error,
    event::Event,
    store::{ContactRow, Conversation, OutboxKind, OwnContent},
};

/// Registers and read marks told in one step; the rest follows in the next.
const AT_ONCE: usize = 1024;

impl Core {
    /// The own conversation of this account.
    pub(super) fn own_id(&self) -> Result<ConversationId, Error> {
        Ok(ConversationId::own(&self.me()?))
    }

    /// Whether the account has other devices, as far as is known here.
    pub(super) fn has_siblings(&self) -> Result<bool, Error> {
        let list = self.store.list(&self.me()?)?;
        Ok(list.is_some_and(|list| list.certificates().len() > 1))
    }

    /// Whether a device is one of the account's, by the pinned list.
    pub(super) fn is_sibling(&self, device: &DeviceId) -> Result<bool, Error> {
        let list = self.store.list(&self.me()?)?;
        Ok(list.is_some_and(|list| list.certificate(device).is_some()))
    }

    /// Looks after the own conversation: makes it when there is a second device, says what there is to say.
    pub(super) fn tend_own(&mut self) -> Result<(), Error> {
        if self.signed_in().is_err() {
            return Ok(());
        }
        // One that was said before registers held it, or that another device said in a conversation.
        self.agree_profile()?;
        if self.has_siblings()? {
            let id = self.own_id()?;
            self.store.own_conversation(&id)?;
            self.session.dirty.insert(id);
        }
        self.tend_history()
    }

    /// Notes that the owner of this profile has changed something; the other devices are told.
    pub(super) fn agree(&mut self, meaning: &Meaning) -> Result<(), Error> {
        let Ok(device) = self.signed_in().map(|account| account.device) else { return Ok(()) };
        let (kind, subject, value) = meaning.parts();
        if value.len() > own::VALUE {
            return Err(Error::new(Code::TOO_LARGE, format!("this is larger than the {} bytes that it may have", own::VALUE)));
        }
        let known = self.store.register(kind, &subject)?;
        if known.as_ref().is_some_and(|known| known.value == value) {
            return Ok(());
        }
        let stamp = Stamp::after(known.map(|known| known.stamp), self.now.unix_ms, device);
        self.store.set_register(&Register { kind, subject, value, stamp }, false)?;
        if self.has_siblings()? {
            let id = self.own_id()?;
            self.session.dirty.insert(id);
        }
        Ok(())
    }

    /// The same for what the owner said about a contact: whatever is not as the others know it.
    pub(super) fn contact_agreed(&mut self, contact: &ContactRow) -> Result<(), Error> {
        let account = contact.account;
        for (meaning, untold) in [
            (Meaning::Listed(account, true), !contact.added),
            (Meaning::Petname(account, contact.petname.clone()), contact.petname.is_none()),
            (Meaning::Blocked(account, contact.blocked), !contact.blocked),
            (Meaning::Verified(account, contact.verified), !contact.verified),
        ] {
            let (kind, subject, _) = meaning.parts();
            // What is as it would be anyway needs no word, unless another word has been said.
            if untold && (kind == Kind::LISTED || self.store.register(kind, &subject)?.is_none()) {
                continue;
            }
            self.agree(&meaning)?;
        }
        Ok(())
    }

    /// The owner has taken a contact from the list.
    pub(super) fn contact_forgotten(&mut self, account: AccountId) -> Result<(), Error> {
        self.agree(&Meaning::Listed(account, false))?;
        for meaning in [Meaning::Petname(account, None), Meaning::Blocked(account, false), Meaning::Verified(account, false)] {
            let (kind, subject, _) = meaning.parts();
            if self.store.register(kind, &subject)?.is_some() {
                self.agree(&meaning)?;
            }
        }
        Ok(())
    }

    /// Messages have been shown here, so they are nothing new on the other devices.
    pub(super) fn shown_here(&mut self, ids: &[MessageId]) -> Result<(), Error> {
        if ids.is_empty() || self.signed_in().is_err() || !self.has_siblings()? {
            return Ok(());
        }
        ids.iter().try_for_each(|id| self.store.add_own_shown(id))?;
        let id = self.own_id()?;
        self.session.dirty.insert(id);
        Ok(())
    }

    /// Puts something into the queue of the own conversation; its id.
    pub(super) fn tell_own(&mut self, sync: &Sync, blob: Option<BlobId>) -> Result<MessageId, Error> {
        let item = OwnContent { id: self.new_id(), content: sync.to_bytes(), blob: blob.map(|blob| blob.0) };
        self.store.queue_own(&item)?;
        let id = self.own_id()?;
        self.session.dirty.insert(id);
        Ok(item.id)
    }

    /// Encrypts what there is to say in the own conversation, at most `room` messages.
    pub(super) fn seal_own(&mut self, conversation: &Conversation, room: usize) -> Result<(), Error> {
        self.gather_own()?;
        for item in self.store.unsealed_own(room)? {
            let content = Content::new(self.now.unix_ms, Body::Sync(item.content));
            let blobs = item.blob.map(BlobId).into_iter().collect();
            if !self.seal_with(&conversation.id, item.id, &content, OutboxKind::Own, blobs)? {
                return Ok(());
            }
            self.store.set_own_sealed(&item.id, true)?;
        }
        Ok(())
    }

    /// Puts what has changed here into the queue.
    fn gather_own(&mut self) -> Result<(), Error> {
        let mut untold: VecDeque<_> = self.store.untold_registers(AT_ONCE)?.into();
        loop {
            let registers = own::batch(&mut untold);
            if registers.is_empty() {
                break;
            }
            registers.iter().try_for_each(|register| self.store.set_register(register, true))?;
            self.tell_own(&Sync { registers, ..Sync::default() }, None)?;
        }
        let shown = self.store.take_own_shown(AT_ONCE)?;
        if !shown.is_empty() {
            self.tell_own(&Sync { shown, ..Sync::default() }, None)?;
        }
        Ok(())
    }

    /// A message of the own conversation. What makes no sense is left out; nobody but own devices could have said it.
    pub(super) fn take_own(&mut self, entry: &Entry, device: DeviceId, content: &[u8]) -> Result<(), Error> {
        let bytes = match Content::from_bytes(content) {
            Ok(Content { body: Body::Sync(bytes), .. }) => bytes,
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::warn!(%device, %error, "another device of this account said something that cannot be read");
                return Ok(());
            }
        };
        match Sync::from_bytes(&bytes) {
            Ok(sync) => self.take_sync(entry, device, sync),
            Err(error) => {
                tracing::warn!(%device, %error, "another device of this account said something that cannot be read");
                Ok(())
            }
        }
    }

    fn take_sync(&mut self, entry: &Entry, device: DeviceId, sync: Sync) -> Result<(), Error> {
        self.take_registers_of(sync.registers, entry.stored_ms)?;
        let mut seen = Vec::new();
        for message in sync.shown {
            match self.store.message(&message)? {
                Some(row) if row.shown => {}
                Some(_) => {
                    self.store.set_shown(&message)?;
                    seen.push(message);
                }
                None => self.store.add_early_mark(&message)?,
            }
        }
        if !seen.is_empty() {
            self.event(Event::ShownElsewhere { messages: seen });
        }
        match sync.history {
            None => Ok(()),
            Some(talk) => self.take_history_talk(&entry.id, device, talk),
        }
    }

    /// An entry of this very device has its place in the own log: from here on it counts as said.
    pub(super) fn own_passed(&mut self, entry: &Entry) -> Result<(), Error> {
        let Some(item) = self.store.own_stored(&entry.id)? else { return Ok(()) };
        let device = self.signed_in()?.device;
        let Ok(sync) = Sync::from_bytes(&item.content) else { return Ok(()) };
        // With a clock that is far ahead, this device has given stamps that the others do not take as they are.
        for register in sync.registers {
            let bounded = register.clone().not_after(entry.stored_ms.saturating_add(AHEAD_MS));
            if bounded != register && self.store.register(register.kind, &register.subject)?.as_ref() == Some(&register) {
                self.store.set_register(&bounded, true)?;
            }
        }
        match sync.history {
            Some(talk @ HistoryTalk::Take { .. }) => self.take_history_talk(&entry.id, device, talk),
            _ => Ok(()),
        }
    }

    /// Takes over what stands in a pack, register by register.
    pub(super) fn take_registers(&mut self, registers: Vec<Register>) -> Result<(), Error> {
        self.take_registers_of(registers, self.now.unix_ms)
    }

    /// Takes over what others have written by a time, register by register. Nobody could override a stamp of the far future, so it counts as
    /// of then; as the time is that of the entry, on all devices alike.
    fn take_registers_of(&mut self, registers: Vec<Register>, by_ms: u64) -> Result<(), Error> {
        let registers = registers.into_iter().map(|register| register.not_after(by_ms.saturating_add(AHEAD_MS)));
        let mut contacts = BTreeSet::new();
        let mut petnames = BTreeSet::new();
        for register in registers {
            let known = self.store.register(register.kind, &register.subject)?;
            let full = known.is_none() && !self.store.has_room_for_registers()?;
            if full || !register.wins(known.as_ref()) {
                continue;
            }
            self.store.set_register(&register, true)?;
            if register.kind == Kind::PETNAME {
                petnames.extend(known.map(|known| known.value));
                petnames.insert(register.value.clone());
            }
            match register.meaning() {
                Some(
                    Meaning::Listed(account, _)
                    | Meaning::Petname(account, _)
                    | Meaning::Blocked(account, _)
                    | Meaning::Verified(account, _),
                ) => drop(contacts.insert(account)),
                Some(Meaning::Setting(name, value)) => self.take_setting(&name, &value)?,
                Some(Meaning::Profile(profile)) => self.take_own_profile(profile)?,
                Some(Meaning::Draft(conversation, _)) => self.event(Event::DraftChanged { conversation }),
                None => {}
            }
        }
        // Whoever shares a petname is looked at again, too.
        for register in self.store.registers(Some(Kind::PETNAME))? {
            if petnames.contains(&register.value)
                && let Some(Meaning::Petname(account, Some(_))) = register.meaning()
            {
                contacts.insert(account);
            }
        }
        self.recompute_contacts(&contacts)
    }

    /// Brings contacts in line with their registers.
    fn recompute_contacts(&mut self, contacts: &BTreeSet<AccountId>) -> Result<(), Error> {
        let me = self.me()?;
        let mut changed = false;
        for account in contacts.iter().filter(|account| **account != me) {
            let value = |kind| self.store.register(kind, &account.0).map(|known| known.map(|known| known.value));
            let flag = |kind| value(kind).map(|value| value.is_some_and(|value| value == [1]));
            let (blocked, verified) = (flag(Kind::BLOCKED)?, flag(Kind::VERIFIED)?);
            let listed = value(Kind::LISTED)?;
            let petname = self.petname_of(account)?;
            if listed.as_deref() == Some(&[0]) && !blocked {
                self.store.know_of(account)?;
                self.store.forget_contact(account)?;
            } else {
                self.know(account)?;
                let Some(contact) = self.store.contact(account)? else { continue };
                let added = listed.as_deref() == Some(&[1]);
                if let Some(petname) = &petname {
                    self.store.free_petname(petname, account)?;
                }
                self.store.update_contact(&ContactRow { petname, blocked, verified, added, ..contact })?;
                self.store.list_contact(account)?;
            }
            changed = true;
            let conversation = ConversationId::direct(&me, account);
            self.session.dirty.insert(conversation);
        }
        if changed {
            self.session.contacts_dirty = true;
            self.event(Event::ContactsChanged);
        }
        Ok(())
    }

    /// The petname that a contact goes by: of several contacts to whom it was given, the last one has it.
    fn petname_of(&self, account: &AccountId) -> Result<Option<String>, Error> {
        let Some(own) = self.store.register(Kind::PETNAME, &account.0)? else { return Ok(None) };
        let Some(Meaning::Petname(_, Some(petname))) = own.meaning() else { return Ok(None) };
        let mine = (own.stamp, own.subject.clone());
        for other in self.store.registers(Some(Kind::PETNAME))? {
            if other.value == own.value && (other.stamp, other.subject.clone()) > mine {
                return Ok(None);
            }
        }
        Ok(Some(petname))
    }

    /// A setting that another device wrote. One that this version does not know stays in its register.
    fn take_setting(&mut self, name: &str, value: &[u8]) -> Result<(), Error> {
        match name {
            super::profiles::READ_RECEIPTS | super::profiles::DELIVERY_RECEIPTS if value.len() == 1 => {
                self.store.set_setting(name, value)
            }
            super::backup::KEEPER => self.backup_keeper_changed(value),
            super::backup::VERSION => self.backup_version_told(value),
            _ => Ok(()),
        }
    }

    /// Keeps a text that has not been sent, here and on the other devices.
    pub(super) fn set_draft(&mut self, ticket: Ticket, to: &str, text: &str) -> Result<(), Error> {
        let again = Command::SetDraft { to: to.to_owned(), text: text.to_owned() };
        let Some(target) = self.target(ticket, to, again)? else { return Ok(()) };
        let conversation = match target {
            Target::Person(contact) => ConversationId::direct(&self.me()?, &contact.account),
            Target::Group(group) => group.id,
        };
        self.agree(&Meaning::Draft(conversation, text.to_owned()))?;
        self.reply(ticket, Ok(Reply::Done));
        Ok(())
    }

    /// The text that has not been sent; empty if there is none.
    pub(super) fn draft(&self, to: &str) -> Result<Reply, Error> {
        let conversation = self.conversation_with(to)?;
        let register = self.store.register(Kind::DRAFT, &conversation.0)?;
        let text = match register.and_then(|register| register.meaning()) {
            Some(Meaning::Draft(_, text)) => text,
            _ => String::new(),
        };
        Ok(Reply::Draft(text))
    }
}
