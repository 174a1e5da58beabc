//! Device lists: pinned, only ever replaced by higher ones, and acted on.

use std::collections::BTreeSet;

use parlour_wire::{
    AccountId,
    api::{AccountAnswer, AccountById, DeviceSeen, DevicesChanged, DevicesGetAnswer},
    identity::VerifiedList,
};

use super::{Core, Reply, Ticket, session::Pending};
use crate::{
    api::Device,
    error::Error,
    event::Event,
    store::{Conversation, ConversationPhase, Pin},
};

/// Members of a group at most whose lists are waited for before the first message of a session: a few packets there and back.
const AWAITED: usize = if cfg!(test) { 4 } else { 64 };
/// Lists that are asked for at the same time.
const LOOK_UPS: usize = 32;

impl Core {
    /// Pins a list if it is newer, and lets the conversations of its account follow.
    pub(super) fn pin_list(&mut self, list: &VerifiedList) -> Result<(), Error> {
        let account = list.account();
        let before = self.store.list(&account)?;
        match self.store.pin(list)? {
            Pin::Same => Ok(()),
            Pin::Refused => {
                tracing::warn!(%account, version = list.get().version, "a device list that does not follow the pinned one");
                // An older one may be a late answer, and changes nothing.
                if before.is_some_and(|before| list.get().version >= before.get().version) {
                    let who = self.shown_name(&account)?;
                    let message = format!(
                        "there are two device lists of {who} of one age: the server shows different people different devices"
                    );
                    self.trouble(
                        Error::new(parlour_wire::Code::SERVER_MISBEHAVED, message)
                            .hint("the list that was known first stays in force; compare safety numbers and devices with them"),
                    );
                }
                Ok(())
            }
            Pin::Contradicts => {
                let who = self.shown_name(&account)?;
                let message = format!(
                    "a newer device list of {who} brings back a device that was ended, or leaves one out without saying that it was ended"
                );
                self.trouble(Error::new(parlour_wire::Code::SERVER_MISBEHAVED, message).hint(
                    "the list that was known stays in force; somebody else may have the account's password or recovery code",
                ));
                Ok(())
            }
            Pin::Pinned => {
                self.event(Event::DevicesChanged { account });
                let own = self.signed_in().is_ok_and(|own| own.account == account);
                if own {
                    self.tend_own()?;
                }
                let all = if own { self.store.conversations()? } else { self.store.conversations_of(&account)? };
                if !own && before.is_some_and(|before| is_replaced(&before, list)) {
                    self.tell_replaced(&account, &all)?;
                }
                for conversation in all {
                    if conversation.phase == ConversationPhase::Active {
                        self.set_maintenance(&conversation)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Says in the conversations with an account that all its devices are others now. The key of the account is the same, so it is the
    /// same account; but who has its recovery code could have done this as well as its owner.
    fn tell_replaced(&mut self, account: &AccountId, conversations: &[Conversation]) -> Result<(), Error> {
        let name = self.shown_name(account)?;
        let text = format!(
            "{name}'s devices have changed: all that {name} had before were ended, and a new one stands for the account."
        );
        for conversation in conversations.iter().filter(|it| it.phase == ConversationPhase::Active) {
            self.note_by(conversation, account, &text, false)?;
        }
        Ok(())
    }

    pub(super) fn devices_changed(&mut self, changed: &DevicesChanged) -> Result<(), Error> {
        let known = self.store.list(&changed.account)?.map_or(0, |list| list.get().version);
        if changed.version > known { self.look_up_account(changed.account) } else { Ok(()) }
    }

    /// Whether the device lists by which a message to a group is encrypted are those of now, so far as the server tells: the first message of
    /// a session asks for the lists of the members. In a group of more than a few the message does not wait for them.
    pub(super) fn lists_are_current(&mut self, conversation: &Conversation) -> Result<bool, Error> {
        let me = self.me()?;
        let members = if conversation.is_group() { self.store.members(&conversation.id)? } else { Vec::new() };
        let waits = members.len() <= AWAITED;
        let others = members.into_iter().map(|member| member.account).filter(|account| *account != me);
        let old: BTreeSet<_> = others.filter(|account| !self.session.current.contains(account)).collect();
        if old.is_empty() {
            self.session.waiting.remove(&conversation.id);
            return Ok(true);
        }
        self.session.uncertain.extend(old);
        if waits {
            self.session.waiting.insert(conversation.id);
        }
        self.renew_lists()?;
        Ok(!waits)
    }

    /// Asks for lists that may be old, a few at a time.
    fn renew_lists(&mut self) -> Result<(), Error> {
        while self.session.is_usable()
            && self.session.renewing.len() < LOOK_UPS
            && let Some(account) = self.session.uncertain.pop_first()
        {
            if !self.session.looking.contains(&account) {
                self.look_up_account(account)?;
                self.session.renewing.insert(account);
            }
        }
        Ok(())
    }

    /// The server has said what there is to say of an account's list. What it does not tell is not asked again in this session: it can as
    /// well tell of an old one.
    fn list_asked(&mut self, account: AccountId) -> Result<(), Error> {
        self.session.current.insert(account);
        self.session.uncertain.remove(&account);
        self.session.dirty.extend(self.session.waiting.iter().copied());
        self.renew_lists()
    }

    /// Asks the server for an account's list and name, unless that is under way.
    pub(super) fn look_up_account(&mut self, account: AccountId) -> Result<(), Error> {
        // Somebody waits for the answer.
        self.session.renewing.remove(&account);
        if !self.session.is_usable() {
            self.session.unasked.insert(account);
            return Ok(());
        }
        if !self.session.looking.insert(account) {
            return Ok(());
        }
        self.request(&AccountById { account }, Pending::ById(account))
    }

    pub(super) fn account_answered(&mut self, account: AccountId, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        self.session.looking.remove(&account);
        let renewed = self.session.renewing.remove(&account);
        self.list_asked(account)?;
        match result {
            Ok(bytes) => {
                let answer: AccountAnswer = parlour_wire::decode(&bytes)?;
                let list = VerifiedList::parse(&answer.device_list)?;
                if list.account() == account {
                    self.pin_list(&list)?;
                    self.name_account(&account, answer.name.as_str())?;
                } else {
                    self.trouble(Error::new(
                        parlour_wire::Code::SERVER_MISBEHAVED,
                        "the server sent the device list of another account",
                    ));
                }
            }
            Err(error) if error.is_transient() => {
                let waiting: Vec<_> = self.session.blocked.iter().filter(|(_, a)| **a == account).map(|(id, _)| *id).collect();
                waiting.into_iter().for_each(|id| self.rest(id));
                return Ok(());
            }
            Err(error) => {
                tracing::debug!(%account, %error, "an account could not be looked up");
                self.session.absent.insert(account);
            }
        }
        if renewed {
            return Ok(());
        }
        let waiting: Vec<_> = self.store.conversations_of(&account)?.into_iter().map(|conversation| conversation.id).collect();
        self.session.dirty.extend(waiting);
        self.unblock(&account)
    }

    pub(super) fn devices_answered(&mut self, ticket: Ticket, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        match result {
            Ok(bytes) => {
                let answer: DevicesGetAnswer = parlour_wire::decode(&bytes)?;
                let list = VerifiedList::parse(&answer.device_list)?;
                if list.account() == self.me()? {
                    self.pin_list(&list)?;
                }
                self.reply_devices(ticket, &answer.seen)
            }
            Err(error) if error.is_transient() => self.reply_devices(ticket, &[]),
            Err(error) => {
                self.reply(ticket, Err(error));
                Ok(())
            }
        }
    }

    pub(super) fn reply_devices(&mut self, ticket: Ticket, seen: &[DeviceSeen]) -> Result<(), Error> {
        let account = self.signed_in()?;
        let (me, this) = (account.account, account.device);
        let list = self.store.list(&me)?;
        let devices = list.iter().flat_map(|list| list.certificates()).map(|certificate| {
            let certificate = certificate.get();
            let id = certificate.device();
            let seen = seen.iter().find(|seen| seen.device == id);
            Device {
                id,
                label: certificate.label.clone(),
                this: id == this,
                online: seen.is_some_and(|seen| seen.online),
                seen_ms: seen.map_or(0, |seen| seen.seen_ms),
                created_ms: certificate.created_ms,
            }
        });
        let devices = devices.collect();
        self.reply(ticket, Ok(Reply::Devices(devices)));
        Ok(())
    }
}

/// Whether of the devices of a list none is in a later one.
fn is_replaced(before: &VerifiedList, after: &VerifiedList) -> bool {
    let gone = |device| after.certificate(&device).is_none();
    !before.certificates().is_empty() && before.certificates().iter().all(|certificate| gone(certificate.get().device()))
}
