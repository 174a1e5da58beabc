//! Groups: what their policy says, kept so that it can be listed without the network and without the encryption engine.

use parlour_e2ee::{GroupMember, GroupView};
use parlour_wire::{AccountId, ConversationId, api::Role};
use rusqlite::{OptionalExtension as _, params};

use super::{Conversation, Store, conversations::history_to_int, int, uint};
use crate::error::Error;

/// Somebody in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberRow {
    pub(crate) account: AccountId,
    pub(crate) role: Role,
    /// The epoch at which the account came in.
    pub(crate) since: u64,
}

impl Store {
    /// Takes over what the group's policy says.
    pub(crate) fn set_view(&self, id: &ConversationId, me: &AccountId, view: &GroupView) -> Result<(), Error> {
        let name = view.name.as_ref().map(ToString::to_string);
        let role = view.members.iter().find(|member| member.account == *me).map_or(Role::MEMBER, |member| member.role);
        let sql = "UPDATE conversations SET name = ?2, role = ?3, suite = ?4, history = ?5 WHERE id = ?1";
        let history = history_to_int(view.history);
        self.conn.prepare_cached(sql)?.execute(params![id.0, name, role.0, view.suite.0, history])?;
        let present: Vec<_> = view.members.iter().filter(|member| !view.left.contains(&member.account)).collect();
        for gone in self.members(id)? {
            if !present.iter().any(|member| member.account == gone.account) {
                self.drop_member(id, &gone.account)?;
            }
        }
        present.into_iter().try_for_each(|member| self.put_member(id, member))?;
        self.succeed(id, me)
    }

    /// If the last admin has left, the member that has been in longest is one, as the next commit will say.
    pub(crate) fn succeed(&self, id: &ConversationId, me: &AccountId) -> Result<(), Error> {
        let sql = "UPDATE members SET role = 1 WHERE conversation = ?1
            AND account = (SELECT account FROM members WHERE conversation = ?1 ORDER BY since, account LIMIT 1)
            AND NOT EXISTS (SELECT 1 FROM members WHERE conversation = ?1 AND role = 1)";
        self.conn.prepare_cached(sql)?.execute([id.0])?;
        let sql = "UPDATE conversations SET role = coalesce(
            (SELECT role FROM members WHERE conversation = ?1 AND account = ?2), role) WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute(params![id.0, me.0])?;
        Ok(())
    }

    /// An account that comes again counts as new.
    fn put_member(&self, id: &ConversationId, member: &GroupMember) -> Result<(), Error> {
        let sql = "INSERT INTO members (conversation, account, role, since, after)
            VALUES (?1, ?2, ?3, ?4, coalesce((SELECT max(position) FROM messages), 0))
            ON CONFLICT (conversation, account) DO UPDATE SET role = excluded.role, since = excluded.since,
                after = CASE WHEN since = excluded.since OR since = 0 THEN after ELSE excluded.after END";
        let values = params![id.0, member.account.0, member.role.0, int(member.since)];
        self.conn.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    pub(crate) fn drop_member(&self, id: &ConversationId, account: &AccountId) -> Result<(), Error> {
        let sql = "DELETE FROM members WHERE conversation = ?1 AND account = ?2";
        self.conn.prepare_cached(sql)?.execute(params![id.0, account.0])?;
        Ok(())
    }

    /// The members of a group, those who came first at the beginning.
    pub(crate) fn members(&self, id: &ConversationId) -> Result<Vec<MemberRow>, Error> {
        let sql = "SELECT account, role, since FROM members WHERE conversation = ?1 ORDER BY since, account";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([id.0], |row| {
            Ok(MemberRow { account: AccountId(row.get(0)?), role: Role(row.get(1)?), since: uint(row.get(2)?) })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn is_member(&self, id: &ConversationId, account: &AccountId) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM members WHERE conversation = ?1 AND account = ?2";
        Ok(self.conn.prepare_cached(sql)?.exists(params![id.0, account.0])?)
    }

    /// The account of a member by petname or server name. A petname is nobody else, in the group or not.
    pub(crate) fn member_by_name(&self, id: &ConversationId, petname: &str, name: &str) -> Result<Option<AccountId>, Error> {
        let given = self.account_by_petname(petname)?;
        let sql = "SELECT c.account FROM contacts c JOIN members m ON m.account = c.account
            WHERE m.conversation = ?1 AND CASE WHEN ?2 IS NULL THEN c.name = ?3 ELSE c.account = ?2 END LIMIT 1";
        let bound = params![id.0, given.map(|account| account.0), name];
        let found = self.conn.prepare_cached(sql)?.query_row(bound, |row| row.get(0).map(AccountId));
        Ok(found.optional()?)
    }

    /// The group of a name; one that this account is in goes before one that it was in.
    pub(crate) fn group_by_name(&self, name: &str) -> Result<Option<Conversation>, Error> {
        let sql = "SELECT id FROM conversations WHERE name = ?1 AND kind = 1 ORDER BY phase = 4, rowid DESC LIMIT 1";
        let id = self.conn.prepare_cached(sql)?.query_row([name], |row| row.get(0).map(ConversationId)).optional()?;
        id.map_or(Ok(None), |id| self.conversation(&id))
    }

    pub(crate) fn set_group_name(&self, id: &ConversationId, name: &str) -> Result<(), Error> {
        self.conn.prepare_cached("UPDATE conversations SET name = ?2 WHERE id = ?1")?.execute(params![id.0, name])?;
        Ok(())
    }

    /// Forgets a group that never came to be.
    pub(crate) fn delete_group(&self, id: &ConversationId) -> Result<(), Error> {
        for table in ["outbox", "reports", "intents", "members", "messages"] {
            self.conn.prepare_cached(&format!("DELETE FROM {table} WHERE conversation = ?1"))?.execute([id.0])?;
        }
        self.conn.prepare_cached("DELETE FROM conversations WHERE id = ?1")?.execute([id.0])?;
        Ok(())
    }

    /// Messages of ours in a conversation that have not reached the server.
    pub(crate) fn queued(&self, id: &ConversationId) -> Result<Vec<parlour_wire::MessageId>, Error> {
        let sql = "SELECT id FROM messages WHERE conversation = ?1 AND outgoing = 1 AND state = 0";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([id.0], |row| row.get(0).map(parlour_wire::MessageId))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
