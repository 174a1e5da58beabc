//! Between rows and the types of the store. SQLite's integers are signed; ours are not.

use parlour_server::store::{Account, Refusal};
use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    log::{Entry, EntryKind},
    name::Name,
};
use rusqlite::{
    Row,
    types::{FromSqlError, Type},
};

/// The columns that [`entry`] reads, for the newest entry of a log.
pub(super) const NEWEST_ENTRY: &str = "SELECT seq, previous, id, kind, stored_ms, payload, receipt \
     FROM entry WHERE conversation = ?1 ORDER BY seq DESC LIMIT 1";

/// Key and size of the blob `?1` if the account `?2` may read it.
pub(super) const READABLE_BLOB: &str = "SELECT blob.blob, blob.size FROM blob, account WHERE blob.id = ?1 AND account.id = ?2 AND ( \
     EXISTS (SELECT 1 FROM blob_owner WHERE blob_owner.blob = blob.blob AND blob_owner.account = account.account) \
     OR EXISTS (SELECT 1 FROM backup_blob WHERE backup_blob.blob = blob.blob AND backup_blob.account = account.account) \
     OR EXISTS (SELECT 1 FROM blob_named JOIN member ON member.conversation = blob_named.conversation \
                AND member.account = account.account WHERE blob_named.blob = blob.blob))";

/// Holds for a blob that no message and no backup names.
pub(super) const UNNEEDED_BLOB: &str = "NOT EXISTS (SELECT 1 FROM blob_named WHERE blob_named.blob = blob.blob) \
     AND NOT EXISTS (SELECT 1 FROM backup_blob WHERE backup_blob.blob = blob.blob)";

/// A number for SQLite. Times and sequence numbers beyond 2^63 do not occur; a claimed one is as good as the largest.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A number from SQLite.
pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

pub(super) fn account_id(row: &Row<'_>, column: usize) -> rusqlite::Result<AccountId> {
    row.get(column).map(AccountId)
}

pub(super) fn device_id(row: &Row<'_>, column: usize) -> rusqlite::Result<DeviceId> {
    row.get(column).map(DeviceId)
}

pub(super) fn conversation_id(row: &Row<'_>, column: usize) -> rusqlite::Result<ConversationId> {
    row.get(column).map(ConversationId)
}

/// An entry from the columns of [`NEWEST_ENTRY`].
pub(super) fn entry(row: &Row<'_>, conversation: ConversationId) -> rusqlite::Result<Entry> {
    Ok(Entry {
        conversation,
        seq: unsigned(row, 0)?,
        previous: row.get(1)?,
        id: MessageId(row.get(2)?),
        kind: EntryKind(row.get(3)?),
        stored_ms: unsigned(row, 4)?,
        payload: row.get(5)?,
        receipt: row.get(6)?,
    })
}

/// An account from `id, name, record, wrapped_root, device_list, list_version, disabled, seen_ms`.
pub(super) fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    let name: String = row.get(1)?;
    Ok(Account {
        id: account_id(row, 0)?,
        name: Name::parse(&name)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, FromSqlError::other(error).into()))?,
        record: row.get(2)?,
        wrapped_root: row.get(3)?,
        device_list: row.get(4)?,
        list_version: unsigned(row, 5)?,
        disabled: row.get(6)?,
        seen_ms: unsigned(row, 7)?,
    })
}

/// What an invitation allows, from `uses, expires_ms`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Invite {
    uses: u64,
    expires_ms: u64,
}

impl Invite {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { uses: unsigned(row, 0)?, expires_ms: unsigned(row, 1)? })
    }

    /// Whether an invitation, if there is one, may be used.
    pub(super) fn check(invite: Option<Self>, now_ms: u64) -> Result<(), Refusal> {
        match invite {
            None => Err(Refusal::InviteUnknown),
            Some(invite) if now_ms >= invite.expires_ms => Err(Refusal::InviteExpired),
            Some(invite) if invite.uses == 0 => Err(Refusal::InviteUsedUp),
            Some(_) => Ok(()),
        }
    }
}
