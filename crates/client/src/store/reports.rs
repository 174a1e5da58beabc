//! Reports: what became of messages, ours at other devices (receipts) and others' here (reports to send).

use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    content::{Report, Status},
};
use rusqlite::params;

use super::{Store, int, uint};
use crate::{api::State, error::Error, store::messages::state_from_int};

/// What a device said about a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt {
    pub(crate) device: DeviceId,
    pub(crate) account: Option<AccountId>,
    pub(crate) state: State,
    pub(crate) at_ms: u64,
}

impl Store {
    /// Notes a report to send; a later state of the same message replaces an earlier one.
    pub(crate) fn add_report(&self, conversation: &ConversationId, report: Report) -> Result<(), Error> {
        let sql = "INSERT INTO reports (message, conversation, status) VALUES (?1, ?2, ?3)
            ON CONFLICT (message) DO UPDATE SET status = max(status, excluded.status)";
        self.conn.prepare_cached(sql)?.execute(params![report.message.0, conversation.0, i64::from(report.status.0)])?;
        Ok(())
    }

    pub(crate) fn reports(&self, conversation: &ConversationId, limit: usize) -> Result<Vec<Report>, Error> {
        let sql = "SELECT message, status FROM reports WHERE conversation = ?1 ORDER BY message LIMIT ?2";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map(params![conversation.0, limit as i64], |row| {
            Ok(Report { message: MessageId(row.get(0)?), status: Status(row.get(1)?) })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn drop_report(&self, message: &MessageId) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM reports WHERE message = ?1")?.execute([message.0])?;
        Ok(())
    }

    /// Forgets what there was to say in a conversation.
    pub(crate) fn drop_reports(&self, conversation: &ConversationId) -> Result<(), Error> {
        self.conn.prepare_cached("DELETE FROM reports WHERE conversation = ?1")?.execute([conversation.0])?;
        Ok(())
    }

    /// Notes what a device says about one of our messages. States only move forward.
    pub(crate) fn add_receipt(
        &self,
        message: &MessageId,
        (account, device): (&AccountId, &DeviceId),
        state: State,
        at_ms: u64,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO receipts (message, device, state, at_ms, account) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (message, device) DO UPDATE SET state = excluded.state, at_ms = excluded.at_ms, account = excluded.account
            WHERE excluded.state > state";
        self.conn.prepare_cached(sql)?.execute(params![message.0, device.0, state as i64, int(at_ms), account.0])?;
        Ok(())
    }

    /// What devices said, with the account of each where that is known, in order of time.
    pub(crate) fn receipts(&self, message: &MessageId) -> Result<Vec<Receipt>, Error> {
        let sql = "SELECT device, state, at_ms, account FROM receipts WHERE message = ?1 ORDER BY at_ms, device";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([message.0], |row| {
            Ok(Receipt {
                device: DeviceId(row.get(0)?),
                state: state_from_int(row.get(1)?),
                at_ms: uint(row.get(2)?),
                account: row.get::<_, Option<[u8; 32]>>(3)?.map(AccountId),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How far a message has come with everybody: the state that at least one device of each other account has reported that is in
    /// the group now and was when the message was written. `None` if there is no such account, or one has not reported.
    pub(crate) fn state_with_all(&self, message: &MessageId, me: &AccountId) -> Result<Option<State>, Error> {
        let sql = "SELECT min(state) FROM (
                SELECT coalesce((SELECT max(r.state) FROM receipts r WHERE r.message = m.id AND r.account = p.account), 0) AS state
                FROM messages m JOIN members p ON p.conversation = m.conversation
                WHERE m.id = ?1 AND p.account <> ?2 AND p.after < m.position)";
        let state: Option<i64> = self.conn.prepare_cached(sql)?.query_row(params![message.0, me.0], |row| row.get(0))?;
        Ok(state.filter(|state| *state > 0).map(state_from_int))
    }

    /// Messages of ours in a conversation that somebody still has to report on, the newest `limit` of them.
    pub(crate) fn unreported(&self, conversation: &ConversationId, limit: u32) -> Result<Vec<MessageId>, Error> {
        let sql = "SELECT id FROM messages WHERE conversation = ?1 AND outgoing = 1 AND state IN (1, 2)
            ORDER BY position DESC LIMIT ?2";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map(params![conversation.0, limit], |row| row.get(0).map(MessageId))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
