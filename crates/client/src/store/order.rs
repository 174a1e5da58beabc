//! Where messages stand that came later than they were written: before everything that came live, in order of time.
//!
//! Live messages have positions from 1 upward. Those that were handed over have negative ones, with room between them, so that one that
//! turns up later than its neighbours still finds its place.

use parlour_wire::{ConversationId, MessageId};
use rusqlite::{OptionalExtension as _, params};

use super::{Store, uint};
use crate::error::Error;

/// Positions between two messages that were handed over one after the other.
pub(crate) const STEP: i64 = 1 << 16;

/// A migration of its own: the index of words and the backup follow a message that moves.
pub(super) const TRIGGERS: &str = "
CREATE TRIGGER search_before_move BEFORE UPDATE OF position ON messages WHEN old.kind IN (0, 2) AND old.hidden = 0 BEGIN
    INSERT INTO search (search, rowid, body, place)
        VALUES ('delete', old.position, old.body, lower(hex(substr(old.conversation, 1, 8))));
END;
CREATE TRIGGER search_after_move AFTER UPDATE OF position ON messages WHEN new.kind IN (0, 2) AND new.hidden = 0 BEGIN
    INSERT INTO search (rowid, body, place) VALUES (new.position, new.body, lower(hex(substr(new.conversation, 1, 8))));
END;
CREATE TRIGGER backup_message_moved AFTER UPDATE OF position ON messages BEGIN
    UPDATE OR IGNORE backup_dirty SET message = new.position WHERE message = old.position;
END;
";

/// What the order goes by: when the home stored it, then its number there, then its id.
type Key = (i64, i64, [u8; 16]);

impl Store {
    /// A position below all that are taken, for a message that is older than what is here.
    pub(crate) fn position_below(&self) -> Result<i64, Error> {
        let sql = "SELECT min(0, coalesce(min(position), 0)) FROM messages";
        let lowest: i64 = self.conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok((lowest.div_euclid(STEP) - 1) * STEP)
    }

    /// Puts what came live among what was handed over: messages are to come that are newer than it. [`Self::settle_order`] has the rest.
    pub(crate) fn make_old(&self) -> Result<(), Error> {
        // Only what is indexed may be moved.
        self.index()?;
        let below = self.position_below()?;
        let mut statement =
            self.conn.prepare_cached("SELECT position FROM messages WHERE position > 0 ORDER BY position DESC")?;
        let live: Vec<i64> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut statement = self.conn.prepare_cached("UPDATE messages SET position = ?2 WHERE position = ?1")?;
        for (n, position) in (0..).zip(live) {
            statement.execute([position, below - n * STEP])?;
        }
        Ok(())
    }

    /// The time of the message that stands last in a conversation, Unix milliseconds.
    pub(crate) fn newest_ms(&self, conversation: &ConversationId) -> Result<Option<u64>, Error> {
        let sql = "SELECT coalesce(stored_ms, sent_ms) FROM messages WHERE conversation = ?1 ORDER BY position DESC LIMIT 1";
        Ok(self.conn.prepare_cached(sql)?.query_row([conversation.0], |row| row.get(0).map(uint)).optional()?)
    }

    /// Moves handed-over messages that stand in the wrong place. Most stand right, so little is to be moved.
    pub(crate) fn settle_order(&self) -> Result<(), Error> {
        let sql = "SELECT DISTINCT conversation FROM messages WHERE position < 0";
        let mut statement = self.conn.prepare_cached(sql)?;
        let conversations: Vec<_> = statement.query_map([], |row| row.get(0).map(ConversationId))?.collect::<Result<_, _>>()?;
        conversations.iter().try_for_each(|conversation| self.settle_order_of(conversation))
    }

    /// The same in one conversation.
    pub(crate) fn settle_order_of(&self, conversation: &ConversationId) -> Result<(), Error> {
        let sql = "SELECT position, coalesce(stored_ms, sent_ms), coalesce(seq, 0), id FROM messages
            WHERE conversation = ?1 AND position < 0 ORDER BY position";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map([conversation.0], |row| {
            let key: Key = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((row.get::<_, i64>(0)?, key))
        })?;
        let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        for (id, position) in moves(&rows) {
            self.move_message(&MessageId(id), position)?;
        }
        Ok(())
    }

    /// Moves a message to a position, or the next one that is free.
    fn move_message(&self, id: &MessageId, mut position: i64) -> Result<(), Error> {
        let sql = "SELECT 1 FROM messages WHERE position = ?1";
        while self.conn.prepare_cached(sql)?.query_row([position], |_| Ok(())).optional()?.is_some() {
            position += 1;
        }
        self.conn.prepare_cached("UPDATE messages SET position = ?2 WHERE id = ?1")?.execute(params![id.0, position])?;
        Ok(())
    }
}

/// Which of these, in order of position, are to be moved, and where to.
fn moves(rows: &[(i64, Key)]) -> Vec<([u8; 16], i64)> {
    let mut kept: Vec<(i64, Key)> = Vec::with_capacity(rows.len());
    let mut stray = Vec::new();
    for (position, key) in rows {
        match kept.last() {
            Some((_, last)) if (last.0, last.1) > (key.0, key.1) => stray.push(*key),
            _ => kept.push((*position, *key)),
        }
    }
    stray.sort_unstable();
    let mut moves = Vec::with_capacity(stray.len());
    let mut rest = stray.as_slice();
    while let Some(first) = rest.first() {
        // All that go between the same two.
        let at = kept.partition_point(|(_, key)| (key.0, key.1) <= (first.0, first.1));
        let above = kept.get(at).map_or(0, |(position, _)| *position);
        let bound = kept.get(at).map(|(_, key)| (key.0, key.1));
        let count = rest.iter().take_while(|key| bound.is_none_or(|bound| (key.0, key.1) < bound)).count();
        let many = i64::try_from(count).unwrap_or(i64::MAX);
        let below = match at.checked_sub(1) {
            Some(before) => kept[before].0,
            None => above - STEP * (many + 1),
        };
        let (group, later) = rest.split_at(count);
        let room = above - below;
        if room > many {
            let place = |n: i64| below + i64::try_from(i128::from(room) * i128::from(n) / i128::from(many + 1)).unwrap_or(0);
            moves.extend((1..).zip(group).map(|(n, key)| (key.2, place(n))));
        }
        rest = later;
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows at these places with these times, and what order they come to.
    fn settled(rows: &[(i64, i64)]) -> Vec<i64> {
        let id = |time: i64| [u8::try_from(time).unwrap(); 16];
        let mut placed: Vec<(i64, Key)> = rows.iter().map(|(at, time)| (*at, (*time, 0, id(*time)))).collect();
        placed.sort_unstable();
        for (moved, position) in moves(&placed) {
            placed.iter_mut().find(|(_, key)| key.2 == moved).unwrap().0 = position;
        }
        let positions: std::collections::BTreeSet<_> = placed.iter().map(|(position, _)| *position).collect();
        assert_eq!(positions.len(), placed.len(), "no two in one place");
        assert!(positions.iter().all(|position| *position < 0));
        placed.sort_unstable();
        placed.into_iter().map(|(_, key)| key.0).collect()
    }

    #[test]
    fn what_stands_right_stays() {
        let rows: Vec<_> = (0..10).map(|n| (i64::from(n) * STEP - 10 * STEP, (i64::from(n), i64::from(n), [n; 16]))).collect();
        assert!(moves(&rows).is_empty());
    }

    #[test]
    fn strays_find_their_places() {
        // An old message that was changed and came with the newest; two of them; a whole part that came too late.
        assert_eq!(settled(&[(-4 * STEP, 1), (-3 * STEP, 2), (-2 * STEP, 4), (-STEP, 3)]), [1, 2, 3, 4]);
        assert_eq!(settled(&[(-4 * STEP, 4), (-3 * STEP, 5), (-2 * STEP, 1), (-STEP, 2)]), [1, 2, 4, 5]);
        assert_eq!(
            settled(&[(-6 * STEP, 10), (-5 * STEP, 20), (-4 * STEP, 30), (-3 * STEP, 12), (-2 * STEP, 11), (-STEP, 13)]),
            [10, 11, 12, 13, 20, 30]
        );
        assert_eq!(settled(&[(-STEP, 7)]), [7]);
        assert!(settled(&[]).is_empty());
    }
}
