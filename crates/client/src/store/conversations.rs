//! Conversations: which there are, what state each is in, and how far its log has been taken.

use parlour_wire::{AccountId, ConversationId};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, int, uint};
use crate::error::Error;

/// What can be done in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConversationPhase {
    /// Not in it: it is to be made or joined as soon as there is a reason.
    Outside = 0,
    /// The commit that makes it is in the outbox.
    Creating = 1,
    /// The commit by which this device joins it is in the outbox.
    Joining = 2,
    /// In it.
    Active = 3,
    /// This device has been removed from it.
    Removed = 4,
    /// The server broke a promise about it; nothing is read or written any more.
    Stopped = 5,
}

impl ConversationPhase {
    fn from_int(value: i64) -> Self {
        match value {
            1 => Self::Creating,
            2 => Self::Joining,
            3 => Self::Active,
            4 => Self::Removed,
            5 => Self::Stopped,
            _ => Self::Outside,
        }
    }
}

/// A conversation.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) id: ConversationId,
    /// The other account of a direct conversation.
    pub(crate) peer: AccountId,
    pub(crate) phase: ConversationPhase,
    /// The last entry taken.
    pub(crate) seq: u64,
    /// Its hash.
    pub(crate) hash: [u8; 32],
    /// The epoch at which this device came in; what was encrypted before was not for it.
    pub(crate) joined_epoch: u64,
    /// Its devices did not fit the device lists when they were last compared.
    pub(crate) drifted: bool,
    /// Which version of our profile has been told in it.
    pub(crate) profile_sent: u64,
}

const COLUMNS: &str = "id, peer, phase, seq, hash, joined_epoch, drifted, profile_sent";

fn read(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    Ok(Conversation {
        id: ConversationId(row.get(0)?),
        peer: AccountId(row.get(1)?),
        phase: ConversationPhase::from_int(row.get(2)?),
        seq: uint(row.get(3)?),
        hash: row.get(4)?,
        joined_epoch: uint(row.get(5)?),
        drifted: row.get(6)?,
        profile_sent: uint(row.get(7)?),
    })
}

impl Store {
    pub(crate) fn conversation(&self, id: &ConversationId) -> Result<Option<Conversation>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM conversations WHERE id = ?1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([id.0], read).optional()?)
    }

    /// The direct conversation with `peer`, made if it is not there.
    pub(crate) fn direct_conversation(&self, id: &ConversationId, peer: &AccountId) -> Result<Conversation, Error> {
        let sql = "INSERT OR IGNORE INTO conversations (id, kind, peer, phase, hash) VALUES (?1, 0, ?2, 0, zeroblob(32))";
        self.conn.prepare_cached(sql)?.execute(params![id.0, peer.0])?;
        self.conversation(id)?.ok_or_else(|| Error::internal("a conversation vanished"))
    }

    pub(crate) fn conversations(&self) -> Result<Vec<Conversation>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM conversations ORDER BY id");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map([], read)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }

    pub(crate) fn set_phase(&self, id: &ConversationId, phase: ConversationPhase) -> Result<(), Error> {
        let sql = "UPDATE conversations SET phase = ?2 WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute(params![id.0, phase as i64])?;
        Ok(())
    }

    pub(crate) fn set_joined_epoch(&self, id: &ConversationId, epoch: u64) -> Result<(), Error> {
        let sql = "UPDATE conversations SET joined_epoch = ?2 WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute(params![id.0, int(epoch)])?;
        Ok(())
    }

    pub(crate) fn set_drifted(&self, id: &ConversationId, drifted: bool) -> Result<(), Error> {
        let sql = "UPDATE conversations SET drifted = ?2 WHERE id = ?1 AND drifted <> ?2";
        self.conn.prepare_cached(sql)?.execute(params![id.0, drifted])?;
        Ok(())
    }

    pub(crate) fn set_position(&self, id: &ConversationId, seq: u64, hash: &[u8; 32]) -> Result<(), Error> {
        let sql = "UPDATE conversations SET seq = ?2, hash = ?3 WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute(params![id.0, int(seq), hash])?;
        Ok(())
    }

    pub(crate) fn set_profile_sent(&self, id: &ConversationId, version: u64) -> Result<(), Error> {
        let sql = "UPDATE conversations SET profile_sent = ?2 WHERE id = ?1";
        self.conn.prepare_cached(sql)?.execute(params![id.0, int(version)])?;
        Ok(())
    }
}
