//! Commands about groups: what can be said at once is refused at once, the rest becomes an intent.

use parlour_wire::{
    AccountId, Code, ConversationId,
    api::{GroupByName, Role},
};
use rand::Rng as _;

use super::{
    Command, Core, Reply, Ticket,
    intents::{not_admin, not_member},
    session::Pending,
    target::group_name,
};
use crate::{
    api::{Group, GroupMember, HistoryPolicy},
    error::Error,
    store::{Conversation, ConversationPhase, Intent},
};

/// What a caller wants of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupCommand {
    /// Make a group; this account is its first admin.
    Create {
        /// Its name, with or without the `#`.
        name: String,
        /// The other members.
        members: Vec<String>,
        /// What people who come in later get of the messages before.
        history: HistoryPolicy,
    },
    /// Bring people in.
    Add {
        /// Which group.
        group: String,
        /// Whom.
        members: Vec<String>,
    },
    /// Take people out.
    Remove {
        /// Which group.
        group: String,
        /// Whom.
        members: Vec<String>,
    },
    /// Say what a member may do.
    SetRole {
        /// Which group.
        group: String,
        /// Who.
        member: String,
        /// What they may do from then on.
        role: Role,
    },
    /// Give a group another name.
    Rename {
        /// Which group.
        group: String,
        /// The name.
        name: String,
    },
    /// Say what people who come in get of the messages before.
    SetHistory {
        /// Which group.
        group: String,
        /// How much.
        history: HistoryPolicy,
    },
    /// Leave a group.
    Leave(String),
    /// The groups of this account.
    List,
    /// The members of a group.
    Members(String),
    /// Whether the server has a group of this name.
    Exists(String),
}

impl Core {
    pub(super) fn group_command(&mut self, ticket: Ticket, command: GroupCommand) -> Result<(), Error> {
        self.signed_in()?;
        match &command {
            GroupCommand::List => {
                let reply = self.groups()?;
                self.reply(ticket, Ok(reply));
                return Ok(());
            }
            GroupCommand::Members(group) => {
                let reply = self.group_members(&self.group(group)?)?;
                self.reply(ticket, Ok(reply));
                return Ok(());
            }
            GroupCommand::Exists(name) => {
                let name = group_name(name)?;
                if self.needs_server(ticket, Command::Group(command.clone()))? {
                    self.request(&GroupByName { name: name.clone() }, Pending::GroupByName(ticket, name))?;
                }
                return Ok(());
            }
            _ => {}
        }
        if !self.needs_server(ticket, Command::Group(command.clone()))? {
            return Ok(());
        }
        let Some((conversation, intent)) = self.intent_for(ticket, &command)? else { return Ok(()) };
        let intent = self.store.add_intent(&conversation, &intent)?;
        self.waiters.intents.push((ticket, intent));
        self.session.dirty.insert(conversation);
        Ok(())
    }

    /// Checks a command; `None` while somebody is being looked up.
    fn intent_for(&mut self, ticket: Ticket, command: &GroupCommand) -> Result<Option<(ConversationId, Intent)>, Error> {
        let (group, intent) = match command {
            GroupCommand::Create { name, members, history } => {
                return self.new_group(ticket, command, (name, members), *history);
            }
            GroupCommand::Add { group, members } => {
                let group = self.group_to_change(group)?;
                let Some(accounts) = self.people(ticket, members, command)? else { return Ok(None) };
                if let Some(present) = self.first_present(&group, &accounts)? {
                    let name = group.group_name().unwrap_or_default();
                    return Err(Error::new(Code::ALREADY_EXISTS, format!("{} is in {name} already", self.shown_name(&present)?)));
                }
                (group, Intent::Add(accounts))
            }
            GroupCommand::Remove { group, members } => {
                let group = self.group_to_change(group)?;
                let accounts: Result<Vec<_>, _> = members.iter().map(|member| self.member(&group, member)).collect();
                let accounts = accounts?;
                if accounts.contains(&self.me()?) {
                    return Err(Error::new(Code::USAGE, "this is you").hint("`group leave` takes you out"));
                }
                (group, Intent::Remove(accounts))
            }
            GroupCommand::SetRole { group, member, role } => {
                let group = self.group_to_change(group)?;
                let account = self.member(&group, member)?;
                self.check_last_admin(&group, &account, *role)?;
                (group, Intent::Role(vec![account], *role))
            }
            GroupCommand::Rename { group, name } => {
                let group = self.group_to_change(group)?;
                let name = group_name(name)?;
                (group, Intent::Rename(name.to_string()))
            }
            GroupCommand::SetHistory { group, history } => (self.group_to_change(group)?, Intent::History(*history)),
            GroupCommand::Leave(group) => (self.group_inside(group)?, Intent::Leave),
            other => return Err(Error::internal(format!("{other:?} is no change"))),
        };
        Ok(Some((group.id, intent)))
    }

    fn new_group(
        &mut self,
        ticket: Ticket,
        command: &GroupCommand,
        (name, members): (&str, &[String]),
        history: HistoryPolicy,
    ) -> Result<Option<(ConversationId, Intent)>, Error> {
        let name = group_name(name)?;
        let known = self.store.group_by_name(name.as_str())?;
        if known.is_some_and(|group| group.phase != ConversationPhase::Removed) {
            return Err(Error::new(Code::NAME_TAKEN, format!("there is a group #{name} already")).hint("choose another name"));
        }
        let Some(members) = self.people(ticket, members, command)? else { return Ok(None) };
        let id = ConversationId::group(self.rng.r#gen());
        self.store.group_conversation(&id)?;
        self.store.set_group_name(&id, name.as_str())?;
        Ok(Some((id, Intent::Create { name: name.to_string(), members, history })))
    }

    /// The accounts of names, each once; `None` while one is being looked up.
    fn people(&mut self, ticket: Ticket, names: &[String], command: &GroupCommand) -> Result<Option<Vec<AccountId>>, Error> {
        let mut accounts = Vec::with_capacity(names.len());
        for name in names {
            let again = Command::Group(command.clone());
            let Some(contact) = self.resolve_checked(ticket, name, again)? else { return Ok(None) };
            if contact.blocked {
                return Err(Error::new(Code::BLOCKED, format!("{} is blocked", self.name_of(&contact)?)));
            }
            if !accounts.contains(&contact.account) {
                accounts.push(contact.account);
            }
        }
        Ok(Some(accounts))
    }

    fn first_present(&self, group: &Conversation, accounts: &[AccountId]) -> Result<Option<AccountId>, Error> {
        for account in accounts {
            if self.store.is_member(&group.id, account)? {
                return Ok(Some(*account));
            }
        }
        Ok(None)
    }

    /// A group has an admin as long as it has members.
    fn check_last_admin(&self, group: &Conversation, account: &AccountId, role: Role) -> Result<(), Error> {
        let members = self.store.members(&group.id)?;
        let mut admins = members.iter().filter(|member| member.role == Role::ADMIN);
        let only = admins.next().is_some_and(|admin| admin.account == *account) && admins.next().is_none();
        if only && role != Role::ADMIN {
            return Err(Error::new(Code::FORBIDDEN, "a group has an admin, and this is the last one")
                .hint("make another member an admin first"));
        }
        Ok(())
    }

    /// A group that this account is in.
    pub(super) fn group_inside(&self, name: &str) -> Result<Conversation, Error> {
        let group = self.group(name)?;
        match group.phase {
            ConversationPhase::Removed => Err(not_member(&group)),
            ConversationPhase::Stopped => {
                Err(Error::new(Code::SERVER_MISBEHAVED, "the conversation was stopped, because the server broke its log"))
            }
            _ => Ok(group),
        }
    }

    fn group_to_change(&self, name: &str) -> Result<Conversation, Error> {
        let group = self.group_inside(name)?;
        if group.role == Role::ADMIN { Ok(group) } else { Err(not_admin(&group)) }
    }

    fn groups(&self) -> Result<Reply, Error> {
        let inside = |group: &Conversation| group.is_group() && group.phase != ConversationPhase::Removed && group.name.is_some();
        let mut groups: Vec<_> = self.store.conversations()?.into_iter().filter(inside).collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups.iter().map(|group| self.shown_group(group)).collect::<Result<_, _>>().map(Reply::Groups)
    }

    /// A group as callers see it.
    pub(super) fn shown_group(&self, group: &Conversation) -> Result<Group, Error> {
        Ok(Group {
            id: group.id,
            name: group.name.clone().unwrap_or_default(),
            role: group.role,
            suite: group.suite,
            history: group.history,
            members: self.store.members(&group.id)?.len(),
            left: group.phase == ConversationPhase::Removed,
        })
    }

    fn group_members(&self, group: &Conversation) -> Result<Reply, Error> {
        let me = self.me()?;
        let rows = self.store.members(&group.id)?;
        let members = rows.into_iter().map(|member| {
            Ok(GroupMember {
                account: member.account,
                name: self.shown_name(&member.account)?,
                user: self.user_name(&member.account)?,
                role: member.role,
                devices: self.store.list(&member.account)?.map_or(0, |list| list.certificates().len()),
                this: member.account == me,
                suite: group.suite,
            })
        });
        members.collect::<Result<_, Error>>().map(Reply::Members)
    }

    /// The name of an account at the server; empty if it is not known yet.
    fn user_name(&self, account: &AccountId) -> Result<String, Error> {
        match &self.account {
            Some(own) if own.account == *account => Ok(own.name.clone()),
            _ => Ok(self.store.contact(account)?.map(|contact| contact.name).unwrap_or_default()),
        }
    }

    pub(super) fn group_exists_answered(&mut self, ticket: Ticket, result: Result<Vec<u8>, Error>) -> Result<(), Error> {
        let reply = match result {
            Ok(_) => Ok(Reply::Exists(true)),
            Err(error) if error.code == Code::CONVERSATION_NOT_FOUND => Ok(Reply::Exists(false)),
            Err(error) => Err(error),
        };
        self.reply(ticket, reply);
        Ok(())
    }
}
