//! Full-text search: the index is kept in step by triggers of the schema; here words of people become a query.

use parlour_wire::ConversationId;
use rusqlite::params;

use super::{
    Store,
    messages::{self, MessageRow},
};
use crate::error::Error;

/// Words of one search that count: nobody remembers more of a message.
const WORDS: usize = 32;

/// Messages that may wait for the index. More would make the one that brings them in wait long, fewer would save little.
const BATCH: i64 = 64;

impl Store {
    /// Notes that a message has been added; now and then, all that wait are indexed.
    pub(super) fn added(&self, position: i64) -> Result<(), Error> {
        let mark = match self.mark.get() {
            Some(mark) => mark,
            None => self.conn.prepare_cached("SELECT position FROM search_mark")?.query_row([], |row| row.get(0))?,
        };
        self.mark.set(Some(mark));
        if position - mark >= BATCH { self.index() } else { Ok(()) }
    }

    /// Brings the messages that wait into the index.
    pub(super) fn index(&self) -> Result<(), Error> {
        let sql =
            "INSERT INTO search (rowid, body, place) SELECT position, body, lower(hex(substr(conversation, 1, 8))) FROM messages
            WHERE position > (SELECT position FROM search_mark) AND kind IN (0, 2) AND hidden = 0";
        self.conn.prepare_cached(sql)?.execute([])?;
        let sql = "UPDATE search_mark SET position = max(position, coalesce((SELECT max(position) FROM messages), 0))";
        self.conn.prepare_cached(sql)?.execute([])?;
        self.mark.set(None);
        Ok(())
    }

    /// Messages that hold every word of `text`, newest first. The last word may be the beginning of one, unless a space follows it.
    pub(crate) fn search(&self, text: &str, within: Option<&ConversationId>, limit: u32) -> Result<Vec<MessageRow>, Error> {
        let Some(words) = query(text) else { return Ok(Vec::new()) };
        self.index()?;
        let query = match within {
            Some(id) => format!("body : ({words}) AND place : \"{}\"", hex::encode(&id.0[..8])),
            None => format!("body : ({words})"),
        };
        let filter = if within.is_some() { "AND conversation = ?3" } else { "AND ?3 IS NULL" };
        let columns = messages::COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM messages WHERE position IN
                (SELECT rowid FROM search WHERE search MATCH ?1 ORDER BY rowid DESC LIMIT ?2) {filter} ORDER BY position DESC"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        let rows = statement.query_map(params![query, limit, within.map(|id| id.0)], messages::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Every word as a string of the query language, so that nothing a user types is syntax; `None` if there is no word.
fn query(text: &str) -> Option<String> {
    let is_word = |word: &&str| word.chars().any(char::is_alphanumeric);
    let mut words: Vec<String> = text
        .split(|c: char| c.is_whitespace() || c == '\0')
        .filter(is_word)
        .take(WORDS)
        .map(|word| format!("\"{}\"", word.replace('"', "\"\"")))
        .collect();
    let last = words.last_mut()?;
    if !text.ends_with(char::is_whitespace) {
        last.push('*');
    }
    Some(words.join(" AND "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_strings_and_the_last_one_a_beginning() {
        assert_eq!(query("see you ni").as_deref(), Some(r#""see" AND "you" AND "ni"*"#));
        assert_eq!(query("whole word ").as_deref(), Some(r#""whole" AND "word""#));
    }

    #[test]
    fn nothing_that_is_typed_is_syntax() {
        assert_eq!(query(r#"a" OR b:* NEAR(c"#).as_deref(), Some(r#""a""" AND "OR" AND "b:*" AND "NEAR(c"*"#));
        assert_eq!(query("\0x").as_deref(), Some(r#""x"*"#));
        for nothing in ["", "  ", "\"", "* - ^ ()"] {
            assert_eq!(query(nothing), None, "{nothing:?}");
        }
    }
}
