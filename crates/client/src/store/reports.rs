//! Reports: what became of messages, ours at other devices (receipts) and others' here (reports to send).

use parlour_wire::{
    ConversationId, DeviceId, MessageId,
    content::{Report, Status},
};
use rusqlite::params;

use super::{Store, int, uint};
use crate::{
    api::{DeviceStatus, State},
    error::Error,
    store::messages::state_from_int,
};

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

    /// Notes what a device says about one of our messages. States only move forward.
    pub(crate) fn add_receipt(&self, message: &MessageId, device: &DeviceId, state: State, at_ms: u64) -> Result<(), Error> {
        let sql = "INSERT INTO receipts (message, device, state, at_ms) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (message, device) DO UPDATE SET state = excluded.state, at_ms = excluded.at_ms
            WHERE excluded.state > state";
        self.conn.prepare_cached(sql)?.execute(params![message.0, device.0, state as i64, int(at_ms)])?;
        Ok(())
    }

    pub(crate) fn receipts(&self, message: &MessageId) -> Result<Vec<DeviceStatus>, Error> {
        let sql = "SELECT device, state, at_ms FROM receipts WHERE message = ?1 ORDER BY at_ms, device";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([message.0], |row| {
            Ok(DeviceStatus { device: DeviceId(row.get(0)?), state: state_from_int(row.get(1)?), at_ms: uint(row.get(2)?) })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
