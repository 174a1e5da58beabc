//! Groups, for callers. A change returns when the server has its commit; one that takes longer than `timeout` is kept and goes on by
//! itself.

use std::time::Duration;

use parlour_wire::api::Role;

use super::Client;
use crate::{
    api::{Group, GroupMember, HistoryPolicy},
    core::{Command, GroupCommand, Reply},
    error::Error,
};

fn owned(names: &[impl AsRef<str>]) -> Vec<String> {
    names.iter().map(|name| name.as_ref().to_owned()).collect()
}

impl Client {
    /// Makes a group with these people; this account is its first admin.
    ///
    /// # Errors
    /// `name_taken` by a user or another group; `user_not_found`, `no_devices`, `key_changed`, `blocked` for a member; `quota` for too
    /// many devices; `unreachable`, `timed_out`.
    pub async fn create_group(&self, name: &str, members: &[impl AsRef<str>], timeout: Duration) -> Result<Group, Error> {
        self.create_group_with(name, members, HistoryPolicy::None, timeout).await
    }

    /// The same with a history policy: what people who come in later are given of the messages before.
    ///
    /// # Errors
    /// As [`Self::create_group`].
    pub async fn create_group_with(
        &self,
        name: &str,
        members: &[impl AsRef<str>],
        history: HistoryPolicy,
        timeout: Duration,
    ) -> Result<Group, Error> {
        self.change(GroupCommand::Create { name: name.to_owned(), members: owned(members), history }, timeout).await
    }

    /// Brings people into a group.
    ///
    /// # Errors
    /// `conversation_not_found`, `not_member`, `forbidden` for whoever is no admin, `already_exists` for somebody who is in it; as
    /// [`Self::create_group`].
    pub async fn add_members(&self, group: &str, members: &[impl AsRef<str>], timeout: Duration) -> Result<Group, Error> {
        self.change(GroupCommand::Add { group: group.to_owned(), members: owned(members) }, timeout).await
    }

    /// Takes people out of a group. They read nothing that is written after.
    ///
    /// # Errors
    /// `conversation_not_found`, `not_member`, `forbidden`, `user_not_found` for somebody who is not in it; `unreachable`, `timed_out`.
    pub async fn remove_members(&self, group: &str, members: &[impl AsRef<str>], timeout: Duration) -> Result<Group, Error> {
        self.change(GroupCommand::Remove { group: group.to_owned(), members: owned(members) }, timeout).await
    }

    /// Says what a member may do.
    ///
    /// # Errors
    /// As [`Self::remove_members`]; `forbidden` too for the last admin.
    pub async fn set_role(&self, group: &str, member: &str, role: Role, timeout: Duration) -> Result<Group, Error> {
        let (group, member) = (group.to_owned(), member.to_owned());
        self.change(GroupCommand::SetRole { group, member, role }, timeout).await
    }

    /// Gives a group another name.
    ///
    /// # Errors
    /// `name_taken`, `conversation_not_found`, `not_member`, `forbidden`, `unreachable`, `timed_out`.
    pub async fn rename_group(&self, group: &str, name: &str, timeout: Duration) -> Result<Group, Error> {
        self.change(GroupCommand::Rename { group: group.to_owned(), name: name.to_owned() }, timeout).await
    }

    /// Says what people who come in from now on get of the messages before.
    ///
    /// # Errors
    /// As [`Self::rename_group`].
    pub async fn set_group_history(&self, group: &str, history: HistoryPolicy, timeout: Duration) -> Result<Group, Error> {
        self.change(GroupCommand::SetHistory { group: group.to_owned(), history }, timeout).await
    }

    /// Leaves a group. If the last admin leaves, the member that has been in longest is admin; the last member ends the group.
    ///
    /// # Errors
    /// `conversation_not_found`, `not_member`, `unreachable`, `timed_out`.
    pub async fn leave_group(&self, group: &str, timeout: Duration) -> Result<Group, Error> {
        self.change(GroupCommand::Leave(group.to_owned()), timeout).await
    }

    /// The groups that this account is in, by name.
    ///
    /// # Errors
    /// `profile_not_found` without an account.
    pub async fn groups(&self) -> Result<Vec<Group>, Error> {
        reply!(self.ask(Command::Group(GroupCommand::List)).await, Reply::Groups(groups) => groups)
    }

    /// The members of a group, as last known here; those who have been in longest come first.
    ///
    /// # Errors
    /// `conversation_not_found`.
    pub async fn group_members(&self, group: &str) -> Result<Vec<GroupMember>, Error> {
        let command = Command::Group(GroupCommand::Members(group.to_owned()));
        reply!(self.ask(command).await, Reply::Members(members) => members)
    }

    /// Whether the server has a group of this name, whoever is in it.
    ///
    /// # Errors
    /// `usage` for what cannot be a name; `unreachable`, `rate_limited`.
    pub async fn group_exists(&self, name: &str) -> Result<bool, Error> {
        let command = Command::Group(GroupCommand::Exists(name.to_owned()));
        reply!(self.ask(command).await, Reply::Exists(exists) => exists)
    }

    async fn change(&self, command: GroupCommand, timeout: Duration) -> Result<Group, Error> {
        let what = "the server has not taken the change; it is kept and goes on by itself";
        reply!(self.bounded(Command::Group(command), timeout, what).await, Reply::Group(group) => group)
    }
}
