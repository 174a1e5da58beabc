//! What a name on the command line means: a petname, a user name, `name@server`, or `#group`.

use parlour_wire::{AccountId, Code, ConversationId, address::ServerUrl, name::Name};

use super::{
    Command, Core, Ticket,
    contacts::{not_found, this_is_you},
    session::Phase,
};
use crate::{
    error::Error,
    store::{ContactRow, Conversation},
};

/// Where something goes.
pub(super) enum Target {
    /// To a person.
    Person(ContactRow),
    /// To a group that this profile is in, or was in.
    Group(Conversation),
}

impl Core {
    /// What `to` means before something is sent. Somebody who has to be looked up first: `None`, and `again` runs when the server
    /// has told.
    pub(super) fn target(&mut self, ticket: Ticket, to: &str, again: Command) -> Result<Option<Target>, Error> {
        if to.starts_with('#') {
            return match self.group(to) {
                Ok(group) => Ok(Some(Target::Group(group))),
                // This account may be in it since it was last here.
                Err(_) if self.may_learn_more() => {
                    self.waiters.unsettled.push((ticket, again));
                    Ok(None)
                }
                Err(error) => Err(error),
            };
        }
        Ok(self.resolve_checked(ticket, to, again)?.map(Target::Person))
    }

    /// Whether what the server has is on its way here.
    fn may_learn_more(&self) -> bool {
        let connecting = self.session.phase != Phase::Off && !self.waiters.online.is_empty();
        !self.session.settled && (self.session.is_usable() || connecting)
    }

    /// A group by its name, with or without the `#`. Groups are known here or not at all.
    pub(super) fn group(&self, to: &str) -> Result<Conversation, Error> {
        let unknown = || {
            let name = to.strip_prefix('#').unwrap_or(to);
            Error::new(Code::CONVERSATION_NOT_FOUND, format!("there is no group #{name} here"))
                .hint("`group list` shows the groups of this account")
        };
        let name = group_name(to).map_err(|_| unknown())?;
        self.store.group_by_name(name.as_str())?.ok_or_else(unknown)
    }

    /// The conversation that `to` means, as far as it is known here.
    pub(super) fn conversation_with(&self, to: &str) -> Result<ConversationId, Error> {
        if to.starts_with('#') {
            return self.group(to).map(|group| group.id);
        }
        let account = self.account.as_ref().ok_or_else(|| not_found(to))?;
        let contact = match self.known(to)? {
            Some(contact) => Some(contact),
            None => match self.split(to) {
                Ok(_) if self.is_me(to) => return Err(this_is_you()),
                Ok((name, true)) => self.store.contact_before(name.as_str())?,
                _ => None,
            },
        };
        let contact = contact.ok_or_else(|| not_found(to))?;
        Ok(ConversationId::direct(&account.account, &contact.account))
    }

    /// Everybody else in a conversation.
    pub(super) fn others_in(&self, conversation: &Conversation) -> Result<Vec<AccountId>, Error> {
        if let Some(peer) = conversation.peer {
            return Ok(vec![peer]);
        }
        let me = self.me()?;
        let members = self.store.members(&conversation.id)?.into_iter().map(|member| member.account);
        Ok(members.filter(|account| *account != me).collect())
    }

    /// Whether this account has this name at the server.
    pub(super) fn is_own_name(&self, typed: &str) -> bool {
        let name = Name::parse(typed).ok();
        self.account.as_ref().is_some_and(|account| name.is_some_and(|name| account.name == name.as_str()))
    }

    /// The same for what may name the server too.
    pub(super) fn is_me(&self, to: &str) -> bool {
        self.split(to).is_ok_and(|(name, local)| local && self.is_own_name(name.as_str()))
    }

    /// How somebody is shown: by petname, or else by the name at the server. Where that is what another contact was given as petname,
    /// the server stands behind it, which is also how they are reached.
    pub(super) fn name_of(&self, contact: &ContactRow) -> Result<String, Error> {
        let name = contact.name.as_str();
        if let Some(petname) = &contact.petname {
            return Ok(petname.clone());
        }
        if name.is_empty() {
            return Ok(short(&contact.account));
        }
        // Whoever has the name now is another one than who was taken from the list by it.
        if contact.removed && self.store.contact_by_name("", name)?.is_some() {
            return Ok(short(&contact.account));
        }
        if !self.store.is_petname_of_another(name, &contact.account)? {
            return Ok(name.to_owned());
        }
        let server = self.account.as_ref().and_then(|account| account.server.parse::<ServerUrl>().ok());
        Ok(server.map_or_else(|| format!("{name} (server name)"), |server| format!("{name}@{}", server.authority())))
    }

    /// A member of a group by petname or user name; this account by its own.
    pub(super) fn member(&self, group: &Conversation, who: &str) -> Result<AccountId, Error> {
        let stranger = || {
            let group = group.group_name().unwrap_or_default();
            Error::new(Code::USER_NOT_FOUND, format!("{who} is no member of {group}")).hint("`group members` lists who is in it")
        };
        let name = self.split(who).map(|(name, _)| name.to_string()).map_err(|_| stranger())?;
        let account = self.signed_in()?;
        if account.name == name {
            return Ok(account.account);
        }
        self.store.member_by_name(&group.id, who, &name)?.ok_or_else(stranger)
    }
}

/// Somebody whose name is not known.
pub(super) fn short(account: &AccountId) -> String {
    format!("{:.8}", account.to_string())
}

/// The name of a group as somebody typed it, with or without the `#`.
pub(super) fn group_name(typed: &str) -> Result<Name, Error> {
    let name = typed.strip_prefix('#').unwrap_or(typed);
    Name::parse(name).map_err(|_| {
        Error::new(Code::USAGE, format!("{typed:?} cannot be the name of a group"))
            .hint("letters, digits, - and . work; spaces and @ / : do not; at most 64 bytes")
    })
}
