//! Contacts: finding out who a name is, and noticing when the answer changes.

use parlour_e2ee::safety_number;
use parlour_wire::{
    AccountId, Code, ConversationId,
    api::{AccountAnswer, AccountByName},
    identity::VerifiedList,
    name::Name,
};

use super::{
    Command, Core, Reply, Ticket,
    session::{Pending, Then},
};
use crate::{
    api::{Contact, Presence},
    error::Error,
    event::Event,
    store::ContactRow,
};

impl Core {
    /// Who `to` is: a petname, a name, or `name@server` of the own server. Somebody who is not known here is looked up: then the
    /// answer is `None`, and `again` runs when the server has told.
    pub(super) fn resolve(&mut self, ticket: Ticket, to: &str, again: Command) -> Result<Option<ContactRow>, Error> {
        let (name, local) = self.split(to)?;
        if local && let Some(contact) = self.store.contact_by_name(to, name.as_str())? {
            return Ok(Some(contact));
        }
        if !local {
            return Err(not_found(to).hint("only users of your own server can be reached"));
        }
        self.signed_in()?;
        if self.is_own_name(name.as_str()) {
            return Err(this_is_you());
        }
        if self.needs_server(ticket, again.clone())? {
            self.look_up_name(name, Then::Run(ticket, again))?;
        }
        Ok(None)
    }

    /// The same before something is sent: once in each session the server is asked who the name is, and what devices they have.
    pub(super) fn resolve_checked(&mut self, ticket: Ticket, to: &str, again: Command) -> Result<Option<ContactRow>, Error> {
        let Some(contact) = self.resolve(ticket, to, again.clone())? else { return Ok(None) };
        if let Some(claimed) = contact.claimed {
            return Err(key_changed(&contact, &claimed));
        }
        let unchecked = !self.session.checked.contains(&contact.account) && !contact.name.is_empty();
        if self.session.is_usable() && unchecked && !self.session.lenient {
            let name = Name::parse(&contact.name).map_err(Error::internal)?;
            self.look_up_name(name, Then::Run(ticket, again))?;
            return Ok(None);
        }
        Ok(Some(contact))
    }

    /// Whether a contact has been asked about in this session; asks if not.
    pub(super) fn check_contact(&mut self, contact: &ContactRow) -> Result<bool, Error> {
        if self.session.checked.contains(&contact.account) {
            return Ok(true);
        }
        if self.session.absent.contains(&contact.account) {
            return Ok(false);
        }
        match Name::parse(&contact.name) {
            // The name of somebody who was taken from the list may be another's by now.
            Ok(name) if !contact.removed => {
                let asking = |pending: &Pending| matches!(pending, Pending::ByName(other, _) if *other == name);
                if !self.session.inflight.values().any(asking) {
                    self.look_up_name(name, Then::Nothing)?;
                }
            }
            _ => self.look_up_account(contact.account)?,
        }
        Ok(false)
    }

    fn look_up_name(&mut self, name: Name, then: Then) -> Result<(), Error> {
        self.request(&AccountByName { name: name.clone() }, Pending::ByName(name, then))
    }

    pub(super) fn name_answered(&mut self, name: &Name, then: Then, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let outcome = match result {
            Ok(bytes) => self.name_known(name, &parlour_wire::decode(&bytes)?, matches!(then, Then::Run(..)))?,
            Err(error) if error.code == Code::USER_NOT_FOUND => Err(not_found(name.as_str())),
            Err(error) => Err(error),
        };
        if let Some(contact) = self.store.contact_by_name("", name.as_str())? {
            self.session.dirty.insert(ConversationId::direct(&self.me()?, &contact.account));
        }
        match (then, outcome) {
            (Then::Run(ticket, command), Ok(())) => return self.rerun(ticket, command),
            // What is known here can be queued without the server.
            (Then::Run(ticket, command), Err(error)) if error.is_transient() => {
                if self.store.contact_by_name(name.as_str(), name.as_str())?.is_some() {
                    self.session.lenient = true;
                    let outcome = self.rerun(ticket, command);
                    self.session.lenient = false;
                    return outcome;
                }
                self.reply(ticket, Err(error));
            }
            (Then::Run(ticket, _), Err(error)) => self.reply(ticket, Err(error)),
            (Then::Nothing, Err(error)) => self.check_failed(name, error)?,
            (Then::Nothing, Ok(())) => {}
        }
        Ok(())
    }

    /// Messages wait for a contact about whom the server does not tell.
    fn check_failed(&mut self, name: &Name, error: Error) -> Result<(), Error> {
        let Some(contact) = self.store.contact_by_name("", name.as_str())? else { return Ok(()) };
        if error.is_transient() {
            let me = self.me()?;
            self.rest(ConversationId::direct(&me, &contact.account));
        } else {
            self.session.absent.insert(contact.account);
            self.trouble(error);
        }
        Ok(())
    }

    /// The server says who a name is. A name that was another account's before is a changed key: noted, told, and refused.
    fn name_known(&mut self, name: &Name, answer: &AccountAnswer, asked: bool) -> Result<Result<(), Error>, Error> {
        let list = VerifiedList::parse(&answer.device_list)?;
        let claimed = list.account();
        if let Some(mut known) = self.store.contact_by_name("", name.as_str())?
            && known.account != claimed
        {
            known.claimed = Some(claimed);
            known.verified = false;
            self.store.update_contact(&known)?;
            self.contact_agreed(&known)?;
            self.event(Event::KeyChanged { name: name.to_string(), known: known.account, claimed });
            return Ok(Err(key_changed(&known, &claimed)));
        }
        if claimed == self.me()? {
            return Ok(Err(this_is_you()));
        }
        self.pin_list(&list)?;
        self.name_account(&claimed, name.as_str())?;
        if asked {
            // Somebody who was known without being listed: a member of a group, or taken from the list before.
            self.store.list_contact(&claimed)?;
        }
        self.session.checked.insert(claimed);
        self.session.current.insert(claimed);
        Ok(Ok(()))
    }

    /// Makes sure that somebody is a contact, and asks for a name that is missing.
    pub(super) fn know(&mut self, account: &AccountId) -> Result<(), Error> {
        if self.store.know(account, "")? {
            self.session.contacts_dirty = true;
            self.event(Event::ContactsChanged);
        }
        let nameless = self.store.contact(account)?.is_some_and(|contact| contact.name.is_empty());
        if nameless && !self.session.absent.contains(account) {
            self.look_up_account(*account)?;
        }
        Ok(())
    }

    /// Notes the name that the server gives an account.
    pub(super) fn name_account(&mut self, account: &AccountId, name: &str) -> Result<(), Error> {
        if *account == self.me()? {
            return Ok(());
        }
        let new = self.store.know(account, name)?;
        let Some(mut contact) = self.store.contact(account)? else { return Ok(()) };
        if contact.name != name {
            name.clone_into(&mut contact.name);
            self.store.update_contact(&contact)?;
            self.event(Event::ContactsChanged);
        } else if new {
            self.event(Event::ContactsChanged);
        }
        self.session.contacts_dirty |= new;
        Ok(())
    }

    /// Splits `name@server`; whether the server is the own one.
    pub(super) fn split(&self, to: &str) -> Result<(Name, bool), Error> {
        let (name, server) = match to.split_once('@') {
            Some((name, server)) => (name, Some(server)),
            None => (to, None),
        };
        let name = Name::parse(name).map_err(|_| not_found(to))?;
        let local = match server {
            None => true,
            Some(server) => {
                let own = self.server_url()?;
                server == own.host || server == own.authority()
            }
        };
        Ok((name, local))
    }

    /// A contact by its names here only.
    pub(super) fn known(&self, to: &str) -> Result<Option<ContactRow>, Error> {
        let name = self.split(to).map(|(name, _)| name.to_string()).unwrap_or_default();
        self.store.contact_by_name(to, if name.is_empty() { to } else { &name })
    }

    pub(super) fn known_or_not_found(&self, to: &str) -> Result<ContactRow, Error> {
        match self.known(to)? {
            Some(contact) => Ok(contact),
            None if self.is_me(to) => Err(this_is_you()),
            None => Err(not_found(to)),
        }
    }

    pub(super) fn add_contact(&mut self, ticket: Ticket, to: String) -> Result<(), Error> {
        let again = Command::AddContact(to.clone());
        let Some(mut contact) = self.resolve_checked(ticket, &to, again)? else { return Ok(()) };
        if !contact.added {
            contact.added = true;
            self.store.update_contact(&contact)?;
            self.contact_agreed(&contact)?;
            self.event(Event::ContactsChanged);
        }
        self.reply_contact(ticket, contact)
    }

    pub(super) fn remove_contact(&mut self, ticket: Ticket, to: &str) -> Result<(), Error> {
        let contact = self.known_or_not_found(to)?;
        self.store.forget_contact(&contact.account)?;
        self.contact_forgotten(contact.account)?;
        self.session.checked.remove(&contact.account);
        self.event(Event::ContactsChanged);
        self.reply(ticket, Ok(Reply::Done));
        Ok(())
    }

    pub(super) fn block(&mut self, ticket: Ticket, to: &str, blocked: bool) -> Result<(), Error> {
        let again = Command::Block { to: to.to_owned(), blocked };
        let Some(contact) = self.resolve(ticket, to, again)? else { return Ok(()) };
        self.change_contact(ticket, ContactRow { blocked, ..contact })
    }

    pub(super) fn rename_contact(&mut self, ticket: Ticket, to: &str, petname: &str) -> Result<(), Error> {
        let again = Command::RenameContact { to: to.to_owned(), petname: petname.to_owned() };
        let Some(contact) = self.resolve(ticket, to, again)? else { return Ok(()) };
        let petname = (!petname.is_empty()).then(|| petname.to_owned());
        if let Some(petname) = &petname {
            let Ok(name) = Name::parse(petname) else {
                return Err(Error::new(Code::USAGE, format!("{petname:?} cannot be a petname"))
                    .hint("letters, digits, - and . work; spaces and @ # / : do not"));
            };
            if self.is_own_name(petname) {
                return Err(
                    Error::new(Code::ALREADY_EXISTS, format!("you go by {petname} yourself")).hint("choose another petname")
                );
            }
            let taken = self.store.contact_by_name(petname, name.as_str())?;
            if taken.is_some_and(|other| other.account != contact.account) {
                return Err(Error::new(Code::ALREADY_EXISTS, format!("somebody else goes by {petname}"))
                    .hint("choose another petname, or give them one first; `contacts` lists who goes by what"));
            }
        }
        self.change_contact(ticket, ContactRow { petname, ..contact })
    }

    pub(super) fn set_verified(&mut self, ticket: Ticket, to: &str, verified: bool) -> Result<(), Error> {
        let again = Command::SetVerified { to: to.to_owned(), verified };
        let Some(contact) = self.resolve(ticket, to, again)? else { return Ok(()) };
        self.change_contact(ticket, ContactRow { verified, ..contact })
    }

    fn change_contact(&mut self, ticket: Ticket, contact: ContactRow) -> Result<(), Error> {
        self.store.update_contact(&contact)?;
        self.contact_agreed(&contact)?;
        let dirty = self.store.conversations_of(&contact.account)?.into_iter().map(|conversation| conversation.id);
        self.session.dirty.extend(dirty);
        self.event(Event::ContactsChanged);
        self.reply_contact(ticket, contact)
    }

    fn reply_contact(&mut self, ticket: Ticket, contact: ContactRow) -> Result<(), Error> {
        let contact = self.shown_contact(contact)?;
        self.reply(ticket, Ok(Reply::Contact(contact)));
        Ok(())
    }

    pub(super) fn contact_key(&mut self, ticket: Ticket, to: &str) -> Result<(), Error> {
        let Some(contact) = self.resolve(ticket, to, Command::ContactKey(to.to_owned()))? else { return Ok(()) };
        if let Some(key) = self.key_of(ticket, &contact, Command::ContactKey(to.to_owned()))? {
            self.reply(ticket, Ok(Reply::Key(key)));
        }
        Ok(())
    }

    pub(super) fn safety_number(&mut self, ticket: Ticket, to: &str) -> Result<(), Error> {
        let own = self.signed_in()?.account_key;
        let Some(contact) = self.resolve(ticket, to, Command::SafetyNumber(to.to_owned()))? else { return Ok(()) };
        if let Some(key) = self.key_of(ticket, &contact, Command::SafetyNumber(to.to_owned()))? {
            let number = safety_number(&own, &key).to_string();
            self.reply(ticket, Ok(Reply::Safety(number, contact.verified)));
        }
        Ok(())
    }

    /// The account key of a contact, from its pinned list; looked up if none is pinned yet.
    fn key_of(&mut self, ticket: Ticket, contact: &ContactRow, again: Command) -> Result<Option<[u8; 32]>, Error> {
        if let Some(list) = self.store.list(&contact.account)? {
            return Ok(Some(list.get().account_key));
        }
        let name = Name::parse(&contact.name).map_err(|_| not_found(&contact.name))?;
        if self.session.checked.contains(&contact.account) {
            return Err(Error::internal("a contact without a device list"));
        }
        if self.needs_server(ticket, again.clone())? {
            self.look_up_name(name, Then::Run(ticket, again))?;
        }
        Ok(None)
    }

    /// A contact as callers see it.
    pub(super) fn shown_contact(&self, contact: ContactRow) -> Result<Contact, Error> {
        let known = self.session.presence.get(&contact.account).copied();
        let presence = if self.session.is_usable() { known.unwrap_or(Presence::Unknown) } else { Presence::Unknown };
        let list = self.store.list(&contact.account).ok().flatten();
        let devices = list.iter().flat_map(|list| list.certificates()).map(|certificate| certificate.get().device()).collect();
        let said = self.store.profile(&contact.account).ok().flatten();
        let (display_name, status) = said.map(|(said, _)| (said.display_name, said.status)).unwrap_or_default();
        Ok(Contact {
            shown: self.name_of(&contact)?,
            account: contact.account,
            name: contact.name,
            petname: contact.petname,
            blocked: contact.blocked,
            verified: contact.verified,
            added: contact.added,
            presence,
            seen_ms: contact.seen_ms,
            devices,
            display_name,
            status,
        })
    }
}

pub(super) fn this_is_you() -> Error {
    Error::new(Code::USAGE, "this is you").hint("name somebody else")
}

pub(super) fn not_found(to: &str) -> Error {
    Error::new(Code::USER_NOT_FOUND, format!("there is no user {to}"))
}

fn key_changed(contact: &ContactRow, claimed: &AccountId) -> Error {
    let message = format!(
        "the server says that {} is another account than the one known here ({:.8}… is not {:.8}…); nothing was sent",
        contact.name,
        claimed.to_string(),
        contact.account.to_string(),
    );
    Error::new(Code::KEY_CHANGED, message)
        .hint("ask them over another channel; if they made a new account, `contacts remove` and `contacts add` the name")
}
