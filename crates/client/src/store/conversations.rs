//! Conversations: which there are, what state each is in, and how far its log has been taken.

use parlour_e2ee::HistoryPolicy;
use parlour_wire::{
    AccountId, ConversationId,
    api::{ConversationKind, Role, Suite},
};
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
    /// This device, or its account, is in it no more.
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
    pub(crate) kind: ConversationKind,
    /// The other account of a direct conversation.
    pub(crate) peer: Option<AccountId>,
    /// The name of a group, without the `#`.
    pub(crate) name: Option<String>,
    /// What this account may do in it.
    pub(crate) role: Role,
    pub(crate) suite: Suite,
    pub(crate) history: HistoryPolicy,
    pub(crate) phase: ConversationPhase,
    /// The last entry taken.
    pub(crate) seq: u64,
    /// Its hash.
    pub(crate) hash: [u8; 32],
    /// The epoch at which this device came in; what was encrypted before was not for it.
    pub(crate) joined_epoch: u64,
    /// Its devices did not fit the device lists when they were last compared.
    pub(crate) drifted: bool,
    /// Its keys may be those of an older copy, or are not those of the others: it is read to its end by what there is, nothing is
    /// encrypted in it, and this device joins it anew then.
    pub(crate) astray: bool,
    /// Which version of our profile has been told in it.
    pub(crate) profile_sent: u64,
}

impl Conversation {
    pub(crate) fn is_group(&self) -> bool {
        self.kind == ConversationKind::GROUP
    }

    /// The conversation of the account's devices among themselves.
    pub(crate) fn is_own(&self) -> bool {
        self.kind == ConversationKind::OWN
    }

    /// `#name` of a group.
    pub(crate) fn group_name(&self) -> Option<String> {
        self.is_group().then(|| format!("#{}", self.name.as_deref().unwrap_or("?")))
    }
}

const COLUMNS: &str = "id, peer, phase, seq, hash, joined_epoch, drifted, kind, name, role, suite, history, profile_sent, astray";

fn read(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    Ok(Conversation {
        id: ConversationId(row.get(0)?),
        peer: AccountId::try_from(row.get::<_, Vec<u8>>(1)?.as_slice()).ok(),
        phase: ConversationPhase::from_int(row.get(2)?),
        seq: uint(row.get(3)?),
        hash: row.get(4)?,
        joined_epoch: uint(row.get(5)?),
        drifted: row.get(6)?,
        kind: ConversationKind(row.get(7)?),
        name: row.get(8)?,
        role: Role(row.get(9)?),
        suite: Suite(row.get(10)?),
        history: history_from_int(row.get(11)?),
        profile_sent: uint(row.get(12)?),
        astray: row.get(13)?,
    })
}

pub(super) fn history_from_int(value: i64) -> HistoryPolicy {
    match value {
        0 => HistoryPolicy::None,
        last => u32::try_from(last).map_or(HistoryPolicy::All, HistoryPolicy::Last),
    }
}

pub(super) fn history_to_int(history: HistoryPolicy) -> i64 {
    match history {
        HistoryPolicy::None => 0,
        HistoryPolicy::Last(last) => i64::from(last),
        HistoryPolicy::All => -1,
    }
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

    /// The own conversation, made if it is not there.
    pub(crate) fn own_conversation(&self, id: &ConversationId) -> Result<Conversation, Error> {
        let sql = "INSERT OR IGNORE INTO conversations (id, kind, peer, phase, hash) VALUES (?1, 2, x'', 0, zeroblob(32))";
        self.conn.prepare_cached(sql)?.execute(params![id.0])?;
        self.conversation(id)?.ok_or_else(|| Error::internal("a conversation vanished"))
    }

    /// A group, made if it is not there.
    pub(crate) fn group_conversation(&self, id: &ConversationId) -> Result<Conversation, Error> {
        let sql = "INSERT OR IGNORE INTO conversations (id, kind, peer, phase, hash) VALUES (?1, 1, x'', 0, zeroblob(32))";
        self.conn.prepare_cached(sql)?.execute(params![id.0])?;
        self.conversation(id)?.ok_or_else(|| Error::internal("a conversation vanished"))
    }

    /// The conversations that an account takes part in, as far as known here.
    pub(crate) fn conversations_of(&self, account: &AccountId) -> Result<Vec<Conversation>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM conversations WHERE peer = ?1
             OR id IN (SELECT conversation FROM members WHERE account = ?1) ORDER BY id"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map([account.0], read)?.collect::<Result<_, _>>()?;
        Ok(rows)
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

    pub(crate) fn set_astray(&self, id: &ConversationId, astray: bool) -> Result<(), Error> {
        let sql = "UPDATE conversations SET astray = ?2 WHERE id = ?1 AND astray <> ?2";
        self.conn.prepare_cached(sql)?.execute(params![id.0, astray])?;
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
