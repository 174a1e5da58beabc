//! Retention: entries go when every cursor has passed them and they are old enough.

use parlour_server::store::Written;
use parlour_wire::ConversationId;

use super::{Apply, Outcome};
use crate::sqlite::rows::{self, signed, unsigned};

/// Conversations that one write looks at. Those that wait for a device that never comes are looked at in vain, and other writes
/// wait meanwhile.
const LOOKED_AT: u32 = 2000;

/// Where in the order of their oldest entries retention has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    oldest_ms: i64,
    key: i64,
}

/// A conversation whose oldest entry is old.
struct Candidate {
    at: Position,
    id: ConversationId,
}

impl Apply<'_> {
    /// Goes on where the last call stopped, and begins again at the end, so that every conversation has its turn.
    pub(super) fn retain(&mut self, before_ms: u64, limit: u32) -> rusqlite::Result<Outcome> {
        let ended = self.retain_ended(limit)?;
        let limit = limit - ended;
        let from = self.cache.retained;
        let candidates = self.all(
            "SELECT oldest_ms, conversation, id FROM conversation \
             WHERE oldest_ms < ?1 AND (oldest_ms, conversation) > (?2, ?3) ORDER BY oldest_ms, conversation LIMIT ?4",
            (signed(before_ms), from.oldest_ms, from.key, LOOKED_AT),
            |row| Ok(Candidate { at: Position { oldest_ms: row.get(0)?, key: row.get(1)? }, id: rows::conversation_id(row, 2)? }),
        )?;
        let mut left = u64::from(limit);
        let mut reached = if candidates.len() < LOOKED_AT as usize { None } else { candidates.last().map(|last| last.at) };
        let mut before = from;
        for candidate in candidates {
            if left == 0 {
                reached = Some(before);
                break;
            }
            left -= self.retain_one(&candidate, before_ms, left)?;
            before = candidate.at;
        }
        self.cache.retained = reached.unwrap_or_default();
        Ok(Ok(Written::Deleted(u64::from(ended) + u64::from(limit) - left)))
    }

    /// Deletes entries of conversations that have ended. Nobody can read them.
    fn retain_ended(&self, limit: u32) -> rusqlite::Result<u32> {
        let mut deleted = 0;
        while deleted < limit {
            let Some(key) = self.one("SELECT conversation FROM ended LIMIT 1", (), |row| row.get::<_, i64>(0))? else { break };
            let gone = self.run(
                "DELETE FROM entry WHERE conversation = ?1 AND seq IN \
                 (SELECT seq FROM entry WHERE conversation = ?1 ORDER BY seq LIMIT ?2)",
                (key, limit - deleted),
            )?;
            let gone = u32::try_from(gone).unwrap_or(u32::MAX);
            if gone < limit - deleted {
                self.run("DELETE FROM ended WHERE conversation = ?1", [key])?;
            }
            deleted = deleted.saturating_add(gone);
        }
        Ok(deleted.min(limit))
    }

    /// Deletes from the beginning of a log, so that what is left has no gaps.
    fn retain_one(&mut self, candidate: &Candidate, before_ms: u64, limit: u64) -> rusqlite::Result<u64> {
        let passed = self.one(
            "SELECT coalesce((SELECT min(seq) FROM cursor WHERE conversation = ?1), 9223372036854775807)",
            [candidate.at.key],
            |row| unsigned(row, 0),
        )?;
        let newest =
            self.one("SELECT max(seq) FROM entry WHERE conversation = ?1", [candidate.at.key], |row| unsigned(row, 0))?;
        let (Some(passed), Some(newest)) = (passed, newest) else { return Ok(0) };
        let deletable = self.all(
            "SELECT seq, stored_ms FROM entry WHERE conversation = ?1 AND seq <= ?2 AND seq < ?3 ORDER BY seq LIMIT ?4",
            (candidate.at.key, signed(passed), signed(newest), signed(limit)),
            |row| Ok((unsigned(row, 0)?, unsigned(row, 1)?)),
        )?;
        let Some(last) = deletable.iter().take_while(|(_, stored_ms)| *stored_ms < before_ms).last() else { return Ok(0) };
        let deleted = self.run("DELETE FROM entry WHERE conversation = ?1 AND seq <= ?2", (candidate.at.key, signed(last.0)))?;
        self.run(
            "UPDATE conversation SET oldest_ms = \
             (SELECT stored_ms FROM entry WHERE conversation = ?1 AND seq < ?2 ORDER BY seq LIMIT 1) WHERE conversation = ?1",
            (candidate.at.key, signed(newest)),
        )?;
        if last.0 + 1 == newest
            && let Some(head) = self.cache.heads.get_mut(&candidate.id)
        {
            head.dated = false;
        }
        Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
    }
}
