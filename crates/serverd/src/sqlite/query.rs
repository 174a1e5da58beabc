//! The questions that the store answers, each in one snapshot.

use parlour_server::store::{Account, Backup, Device, GroupInfo, LogPage, Opener, Refusal, blobs::Upload, page_bytes};
use parlour_wire::{
    AccountId, BlobId, ConversationId, DeviceId,
    api::{ConversationKind, ConversationState, Suite, Welcome},
    limits,
    log::Entry,
    name::Name,
};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::rows::{self, Invite, signed, unsigned};

type Answer<T> = rusqlite::Result<T>;

fn one<T>(db: &Connection, sql: &str, params: impl Params, read: impl FnOnce(&Row<'_>) -> Answer<T>) -> Answer<Option<T>> {
    db.prepare_cached(sql)?.query_row(params, read).optional()
}

fn all<T>(db: &Connection, sql: &str, params: impl Params, read: impl FnMut(&Row<'_>) -> Answer<T>) -> Answer<Vec<T>> {
    db.prepare_cached(sql)?.query_map(params, read)?.collect()
}

pub(super) fn account_by_name(db: &Connection, name: &Name) -> Answer<Option<Account>> {
    one(
        db,
        "SELECT id, name, record, wrapped_root, device_list, list_version, disabled, seen_ms FROM account WHERE name = ?1",
        [name.as_str()],
        rows::account,
    )
}

pub(super) fn account(db: &Connection, id: &AccountId) -> Answer<Option<Account>> {
    one(
        db,
        "SELECT id, name, record, wrapped_root, device_list, list_version, disabled, seen_ms FROM account WHERE id = ?1",
        [id.as_bytes()],
        rows::account,
    )
}

/// The columns that [`read_device`] reads; 79 and 3 are the numbers of the hybrid and the classical suite.
const DEVICE: &str = "SELECT device.id, account.id, signature_key, device.seen_ms, \
     (SELECT count(*) FROM key_package WHERE key_package.device = device.device AND suite = 79), \
     EXISTS (SELECT 1 FROM last_resort WHERE last_resort.device = device.device AND suite = 79), \
     (SELECT count(*) FROM key_package WHERE key_package.device = device.device AND suite = 3), \
     EXISTS (SELECT 1 FROM last_resort WHERE last_resort.device = device.device AND suite = 3)";

const _: () = assert!(Suite::HYBRID.0 == 79 && Suite::CLASSICAL.0 == 3);

pub(super) fn device(db: &Connection, id: &DeviceId) -> Answer<Option<Device>> {
    one(
        db,
        &format!("{DEVICE} FROM device JOIN account USING (account) WHERE device.id = ?1 AND device.state = 0"),
        [id.as_bytes()],
        read_device,
    )
}

pub(super) fn devices(db: &Connection, account: &AccountId) -> Answer<Vec<Device>> {
    all(
        db,
        &format!(
            "{DEVICE} FROM account JOIN device USING (account) WHERE account.id = ?1 AND device.state = 0 ORDER BY device.id"
        ),
        [account.as_bytes()],
        read_device,
    )
}

fn read_device(row: &Row<'_>) -> Answer<Device> {
    Ok(Device {
        id: rows::device_id(row, 0)?,
        account: rows::account_id(row, 1)?,
        signature_key: row.get(2)?,
        seen_ms: unsigned(row, 3)?,
        key_packages: row.get(4)?,
        last_resort: row.get(5)?,
        classical_key_packages: row.get(6)?,
        classical_last_resort: row.get(7)?,
    })
}

pub(super) fn invite(db: &Connection, token: &[u8; 32], now_ms: u64) -> Answer<Result<(), Refusal>> {
    let found = one(db, "SELECT uses, expires_ms FROM invite WHERE token = ?1", [token], Invite::read)?;
    Ok(Invite::check(found, now_ms))
}

pub(super) fn log(
    db: &Connection,
    conversation: &ConversationId,
    device: &DeviceId,
    after: u64,
    limit: u32,
) -> Answer<Result<LogPage, Refusal>> {
    let Some(key) = conversation_key(db, conversation)? else { return Ok(Err(Refusal::NoConversation)) };
    let since = one(
        db,
        "SELECT cursor.since FROM device JOIN cursor ON cursor.conversation = ?1 AND cursor.device = device.device \
         WHERE device.id = ?2 AND device.state = 0",
        (key, device.as_bytes()),
        |row| unsigned(row, 0),
    )?;
    let Some(since) = since else { return Ok(Err(Refusal::NotMember)) };
    Ok(Ok(LogPage { entries: entries(db, key, conversation, after.max(since), limit)?, head: head(db, key)? }))
}

/// Entries after `after` until the page is full.
fn entries(db: &Connection, key: i64, conversation: &ConversationId, after: u64, limit: u32) -> Answer<Vec<Entry>> {
    let mut statement = db.prepare_cached(
        "SELECT seq, previous, id, kind, stored_ms, payload, receipt FROM entry \
         WHERE conversation = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let mut rows = statement.query((key, signed(after), limit))?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let length = row.get_ref(5)?.as_blob().map_or(0, <[u8]>::len);
        bytes += length;
        if bytes > limits::READ_BYTES && !entries.is_empty() {
            break;
        }
        entries.push(rows::entry(row, *conversation)?);
    }
    Ok(entries)
}

pub(super) fn group_info(
    db: &Connection,
    conversation: &ConversationId,
    account: &AccountId,
) -> Answer<Result<GroupInfo, Refusal>> {
    let Some(key) = conversation_key(db, conversation)? else { return Ok(Err(Refusal::NoConversation)) };
    let info = one(
        db,
        "SELECT conversation.epoch, group_info.bytes FROM account \
         JOIN member ON member.conversation = ?1 AND member.account = account.account \
         JOIN conversation ON conversation.conversation = ?1 JOIN group_info ON group_info.conversation = ?1 \
         WHERE account.id = ?2",
        (key, account.as_bytes()),
        |row| Ok(GroupInfo { epoch: unsigned(row, 0)?, group_info: row.get(1)? }),
    )?;
    Ok(info.ok_or(Refusal::NotMember))
}

pub(super) fn leaves(
    db: &Connection,
    conversation: &ConversationId,
    account: &AccountId,
) -> Answer<Result<Vec<Vec<u8>>, Refusal>> {
    let Some(key) = conversation_key(db, conversation)? else { return Ok(Err(Refusal::NoConversation)) };
    let member = one(
        db,
        "SELECT 1 FROM account JOIN member ON member.conversation = ?1 AND member.account = account.account WHERE account.id = ?2",
        (key, account.as_bytes()),
        |_| Ok(()),
    )?;
    if member.is_none() {
        return Ok(Err(Refusal::NotMember));
    }
    // The kind as a literal, or the partial index is not used.
    let found = all(
        db,
        "SELECT payload FROM entry WHERE conversation = ?1 AND kind = 3 ORDER BY seq DESC LIMIT ?2",
        (key, limits::LEAVE_STATEMENTS as i64),
        |row| row.get(0),
    )?;
    Ok(Ok(found))
}

pub(super) fn conversations(
    db: &Connection,
    account: &AccountId,
    device: &DeviceId,
    after: Option<&ConversationId>,
    limit: u32,
) -> Answer<(Vec<ConversationState>, bool)> {
    let found: Vec<(i64, ConversationId, ConversationKind)> = all(
        db,
        "SELECT conversation.conversation, conversation.id, conversation.kind \
         FROM account JOIN member USING (account) JOIN conversation USING (conversation) \
         WHERE account.id = ?1 AND conversation.id > ?2 ORDER BY conversation.id LIMIT ?3",
        (account.as_bytes(), after.map_or(&[][..], |id| &id.0[..]), i64::from(limit) + 1),
        |row| Ok((row.get(0)?, rows::conversation_id(row, 1)?, ConversationKind(row.get(2)?))),
    )?;
    let device: Option<i64> =
        one(db, "SELECT device FROM device WHERE id = ?1 AND state = 0", [device.as_bytes()], |row| row.get(0))?;
    let total = found.len();
    let mut states: Vec<ConversationState> = Vec::with_capacity(total);
    let mut bytes = 0;
    for (key, conversation, kind) in found.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        let members = members(db, key)?;
        let cursor = device.map(|device| cursor(db, key, device)).transpose()?.flatten();
        let length = cursor.and_then(|cursor| cursor.welcome).map(|(_, length)| length);
        bytes += page_bytes(members.len(), length);
        if bytes > limits::READ_BYTES && !states.is_empty() {
            break;
        }
        let welcome = match cursor.and_then(|cursor| cursor.welcome) {
            Some((seq, _)) => Some(welcome(db, key, conversation, kind, seq, &members)?),
            None => None,
        };
        let head = head(db, key)?;
        states.push(ConversationState { conversation, kind, members, head, cursor: cursor.map(|cursor| cursor.seq), welcome });
    }
    let more = states.len() < total;
    Ok((states, more))
}

/// How far a device is in a conversation.
#[derive(Clone, Copy)]
struct At {
    seq: u64,
    /// The commit whose welcome waits, and the length of the welcome.
    welcome: Option<(u64, usize)>,
}

fn cursor(db: &Connection, conversation: i64, device: i64) -> Answer<Option<At>> {
    one(
        db,
        "SELECT cursor.seq, welcome.seq, length(welcome.bytes) FROM cursor \
         LEFT JOIN welcome ON welcome.conversation = cursor.conversation AND welcome.seq = cursor.welcome \
         WHERE cursor.conversation = ?1 AND cursor.device = ?2",
        (conversation, device),
        |row| {
            let length: Option<u32> = row.get(2)?;
            let length = length.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
            let welcome = length.map(|length| unsigned(row, 1).map(|seq| (seq, length))).transpose()?;
            Ok(At { seq: unsigned(row, 0)?, welcome })
        },
    )
}

fn welcome(
    db: &Connection,
    key: i64,
    conversation: ConversationId,
    kind: ConversationKind,
    seq: u64,
    members: &[AccountId],
) -> Answer<Welcome> {
    let (hash, welcome, epoch) = db
        .prepare_cached("SELECT hash, bytes, epoch FROM welcome WHERE conversation = ?1 AND seq = ?2")?
        .query_row((key, signed(seq)), |row| Ok((row.get(0)?, row.get(1)?, unsigned(row, 2)?)))?;
    Ok(Welcome { conversation, kind, seq, hash, welcome, members: members.to_vec(), epoch })
}

fn members(db: &Connection, conversation: i64) -> Answer<Vec<AccountId>> {
    all(
        db,
        "SELECT account.id FROM member JOIN account USING (account) WHERE member.conversation = ?1 ORDER BY account.id",
        [conversation],
        |row| rows::account_id(row, 0),
    )
}

pub(super) fn peers(db: &Connection, account: &AccountId) -> Answer<Vec<AccountId>> {
    all(
        db,
        "SELECT id FROM account WHERE id <> ?1 AND account IN \
         (SELECT other.account FROM account JOIN member AS own USING (account) \
          JOIN member AS other ON other.conversation = own.conversation WHERE account.id = ?1) ORDER BY id",
        [account.as_bytes()],
        |row| rows::account_id(row, 0),
    )
}

pub(super) fn group_by_name(db: &Connection, name: &Name) -> Answer<Option<ConversationId>> {
    one(
        db,
        "SELECT conversation.id FROM name JOIN conversation USING (conversation) WHERE name.name = ?1",
        [name.as_str()],
        |row| rows::conversation_id(row, 0),
    )
}

pub(super) fn recovery(db: &Connection, account: &AccountId) -> Answer<Option<Opener>> {
    one(
        db,
        "SELECT recovery.record, recovery.wrapped_root FROM account JOIN recovery USING (account) WHERE account.id = ?1",
        [account.as_bytes()],
        |row| Ok(Opener { record: row.get(0)?, wrapped_root: row.get(1)? }),
    )
}

pub(super) fn readable_blob(db: &Connection, blob: &BlobId, account: &AccountId) -> Answer<Option<u64>> {
    one(db, rows::READABLE_BLOB, (blob.as_bytes(), account.as_bytes()), |row| unsigned(row, 1))
}

pub(super) fn unneeded_blobs(db: &Connection, before_ms: u64, limit: u32) -> Answer<Vec<BlobId>> {
    let sql = format!("SELECT id FROM blob WHERE touched_ms < ?1 AND {} ORDER BY touched_ms LIMIT ?2", rows::UNNEEDED_BLOB);
    all(db, &sql, (signed(before_ms), limit), |row| row.get(0).map(BlobId))
}

pub(super) fn unknown_blobs(db: &Connection, blobs: Vec<BlobId>) -> Answer<Vec<BlobId>> {
    without(blobs, |blob| one(db, "SELECT 1 FROM blob WHERE id = ?1", [blob.as_bytes()], |_| Ok(())))
}

pub(super) fn unknown_uploads(db: &Connection, uploads: Vec<Upload>) -> Answer<Vec<Upload>> {
    let sql = "SELECT 1 FROM upload JOIN account USING (account) WHERE account.id = ?1 AND upload.blob = ?2";
    without(uploads, |upload| one(db, sql, (upload.account.as_bytes(), upload.blob.as_bytes()), |_| Ok(())))
}

/// Those of which there is nothing.
fn without<T>(all: Vec<T>, find: impl Fn(&T) -> Answer<Option<()>>) -> Answer<Vec<T>> {
    let mut left = Vec::new();
    for one in all {
        if find(&one)?.is_none() {
            left.push(one);
        }
    }
    Ok(left)
}

pub(super) fn backup(db: &Connection, account: &AccountId) -> Answer<Option<Backup>> {
    one(
        db,
        "SELECT backup.version, backup.bytes FROM account JOIN backup USING (account) WHERE account.id = ?1",
        [account.as_bytes()],
        |row| Ok(Backup { version: unsigned(row, 0)?, index: row.get(1)? }),
    )
}

pub(super) fn setting(db: &Connection, key: &str) -> Answer<Option<Vec<u8>>> {
    one(db, "SELECT value FROM setting WHERE key = ?1", [key], |row| row.get(0))
}

fn conversation_key(db: &Connection, id: &ConversationId) -> Answer<Option<i64>> {
    one(db, "SELECT conversation FROM conversation WHERE id = ?1", [id.as_bytes()], |row| row.get(0))
}

fn head(db: &Connection, conversation: i64) -> Answer<u64> {
    db.prepare_cached("SELECT coalesce(max(seq), 0) FROM entry WHERE conversation = ?1")?
        .query_row([conversation], |row| unsigned(row, 0))
}
