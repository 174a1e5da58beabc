//! The schema and its migrations. `user_version` counts the migrations that a database has seen; all that are missing are
//! applied in one transaction.

use parlour_wire::Code;

use super::Store;
use crate::error::Error;

const MIGRATIONS: &[&str] = &[
    FIRST,
    GROUPS,
    super::own::TABLES,
    super::packs::TABLES,
    super::backup::TABLES,
    super::order::TRIGGERS,
    super::uploads::TABLES,
    super::shares::TABLES,
    super::uploads::WHOLE,
    super::packs::SENT,
    super::backup::REGISTERS,
    ASTRAY,
    REVOKED,
];

const FIRST: &str = "
CREATE TABLE account (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    account BLOB NOT NULL,
    name TEXT NOT NULL,
    account_key BLOB NOT NULL,
    server TEXT NOT NULL,        -- with the fingerprint of its certificate, if that is pinned
    receipt_key BLOB NOT NULL,
    device BLOB NOT NULL,
    label TEXT NOT NULL,
    device_secret BLOB,          -- NULL once logged out
    certificate BLOB NOT NULL,
    backup_key BLOB              -- NULL once logged out
) STRICT;

-- The highest device list seen of each account; never replaced by a lower one.
CREATE TABLE lists (
    account BLOB PRIMARY KEY,
    version INTEGER NOT NULL,
    list BLOB NOT NULL
) STRICT;

CREATE TABLE contacts (
    account BLOB PRIMARY KEY,
    name TEXT NOT NULL,          -- empty until the server has told it
    petname TEXT UNIQUE,
    blocked INTEGER NOT NULL DEFAULT 0,
    verified INTEGER NOT NULL DEFAULT 0,
    added INTEGER NOT NULL DEFAULT 0,
    seen_ms INTEGER NOT NULL DEFAULT 0,
    claimed BLOB,                -- account that the server names by our contact's name, if it is another one
    removed INTEGER NOT NULL DEFAULT 0  -- taken from the list by the owner
) STRICT;
CREATE INDEX contacts_by_name ON contacts (name);

CREATE TABLE conversations (
    id BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    peer BLOB NOT NULL,
    phase INTEGER NOT NULL,
    seq INTEGER NOT NULL DEFAULT 0,  -- the last entry taken
    hash BLOB NOT NULL,              -- its hash, which the next one must carry
    joined_epoch INTEGER NOT NULL DEFAULT 0,
    drifted INTEGER NOT NULL DEFAULT 0, -- its devices did not fit the device lists when last compared
    profile_sent INTEGER NOT NULL DEFAULT 0  -- which version of our profile it has been told
) STRICT;

CREATE TABLE mls (
    key BLOB PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE messages (
    position INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of the history here
    id BLOB NOT NULL UNIQUE,
    conversation BLOB NOT NULL REFERENCES conversations (id),
    sender BLOB NOT NULL,
    device BLOB NOT NULL,
    outgoing INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    body TEXT NOT NULL,
    reply_to BLOB,
    sent_ms INTEGER NOT NULL,
    stored_ms INTEGER,
    seq INTEGER,
    state INTEGER NOT NULL,
    shown INTEGER NOT NULL,
    sealed INTEGER NOT NULL,     -- 0: still to be encrypted
    hidden INTEGER NOT NULL DEFAULT 0,  -- not part of the history: a reaction, an edit and the like on its way; or expired
    content BLOB,                -- as it is encrypted: what is on its way, files, and what is not known
    edited_ms INTEGER,
    deleted INTEGER NOT NULL DEFAULT 0,
    expires_ms INTEGER,
    mentions_me INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX messages_history ON messages (conversation, position) WHERE hidden = 0;
CREATE INDEX messages_expiry ON messages (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE INDEX messages_hidden ON messages (position) WHERE hidden = 1;
CREATE INDEX messages_unshown ON messages (position) WHERE shown = 0;
CREATE INDEX messages_unread ON messages (conversation, position) WHERE shown = 0;
CREATE INDEX messages_unsealed ON messages (conversation, position) WHERE sealed = 0;

CREATE TABLE reactions (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    message BLOB NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    sender BLOB NOT NULL,
    emoji TEXT NOT NULL
) STRICT;
CREATE INDEX reactions_by_message ON reactions (message, sender);

-- Reactions, edits and deletes that came before what they are about.
CREATE TABLE pending (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    target BLOB NOT NULL,
    conversation BLOB NOT NULL REFERENCES conversations (id),
    sender BLOB NOT NULL,
    content BLOB NOT NULL,
    stored_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX pending_by_target ON pending (target, position);
CREATE INDEX pending_by_conversation ON pending (conversation, position);

CREATE TABLE profiles (
    account BLOB PRIMARY KEY,
    display_name TEXT NOT NULL,
    status TEXT NOT NULL,
    avatar BLOB,
    updated_ms INTEGER NOT NULL  -- by the clock of whoever wrote it; the later one is kept
) STRICT;

CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- Full text of what people wrote. `place` is one word for the conversation, so that a search in one reads only its own part of the index.
CREATE VIEW searchable AS
    SELECT position, body, lower(hex(substr(conversation, 1, 8))) AS place FROM messages;
CREATE VIRTUAL TABLE search USING fts5 (
    body, place, content = 'searchable', content_rowid = 'position', tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3'
);
-- Words of deleted and expired messages leave the index's pages at once.
INSERT INTO search (search, rank) VALUES ('secure-delete', 1);
-- New messages are indexed a batch at a time, and before a search: one by one they would double what a message writes. This is the last one
-- that is in the index; whatever changes or goes up to here changes in the index or goes from it.
CREATE TABLE search_mark (position INTEGER NOT NULL) STRICT;
INSERT INTO search_mark VALUES (0);
CREATE TRIGGER search_removed AFTER DELETE ON messages WHEN old.kind IN (0, 2) AND old.hidden = 0
    AND old.position <= (SELECT position FROM search_mark) BEGIN
    INSERT INTO search (search, rowid, body, place)
        VALUES ('delete', old.position, old.body, lower(hex(substr(old.conversation, 1, 8))));
END;
CREATE TRIGGER search_before_change BEFORE UPDATE OF body, hidden ON messages WHEN old.kind IN (0, 2) AND old.hidden = 0
    AND old.position <= (SELECT position FROM search_mark) BEGIN
    INSERT INTO search (search, rowid, body, place)
        VALUES ('delete', old.position, old.body, lower(hex(substr(old.conversation, 1, 8))));
END;
CREATE TRIGGER search_after_change AFTER UPDATE OF body, hidden ON messages WHEN new.kind IN (0, 2) AND new.hidden = 0
    AND new.position <= (SELECT position FROM search_mark) BEGIN
    INSERT INTO search (rowid, body, place) VALUES (new.position, new.body, lower(hex(substr(new.conversation, 1, 8))));
END;

CREATE TABLE receipts (
    message BLOB NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    device BLOB NOT NULL,
    state INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (message, device)
) STRICT, WITHOUT ROWID;

-- What goes to the server byte for byte until it has answered.
CREATE TABLE outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    conversation BLOB NOT NULL REFERENCES conversations (id),
    kind INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    wire BLOB NOT NULL,
    clear BLOB                   -- content of a report, in case it must be encrypted anew
) STRICT;
CREATE INDEX outbox_by_conversation ON outbox (conversation, position);

-- What our reader's side has to say about messages of others.
CREATE TABLE reports (
    message BLOB PRIMARY KEY,
    conversation BLOB NOT NULL REFERENCES conversations (id),
    status INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reports_by_conversation ON reports (conversation);
";

/// `conversations.peer` is empty for whatever is not direct.
const GROUPS: &str = "
ALTER TABLE conversations ADD COLUMN name TEXT;                        -- of a group
ALTER TABLE conversations ADD COLUMN role INTEGER NOT NULL DEFAULT 0;  -- of this account in it
ALTER TABLE conversations ADD COLUMN suite INTEGER NOT NULL DEFAULT 79;
ALTER TABLE conversations ADD COLUMN history INTEGER NOT NULL DEFAULT 0;  -- 0: none, -1: all, else the last N
CREATE INDEX conversations_by_name ON conversations (name);
CREATE INDEX conversations_by_peer ON conversations (peer);

-- Who is in a group, as its policy said when it was last read.
CREATE TABLE members (
    conversation BLOB NOT NULL REFERENCES conversations (id),
    account BLOB NOT NULL,
    role INTEGER NOT NULL,
    since INTEGER NOT NULL,      -- the epoch at which the account came in
    after INTEGER NOT NULL,      -- the last message here before it came in
    PRIMARY KEY (conversation, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_account ON members (account);

-- What the owner of this profile wants changed about a group, until it is done or refused for good.
CREATE TABLE intents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation BLOB NOT NULL REFERENCES conversations (id),
    kind INTEGER NOT NULL,
    accounts BLOB NOT NULL,      -- 32 bytes each
    name TEXT,
    value INTEGER NOT NULL DEFAULT 0,
    entry BLOB                   -- the commit or statement in the outbox that is to do it
) STRICT;
CREATE INDEX intents_by_conversation ON intents (conversation, id);

ALTER TABLE receipts ADD COLUMN account BLOB;  -- whose device it is
";

const ASTRAY: &str = "
ALTER TABLE conversations ADD COLUMN astray INTEGER NOT NULL DEFAULT 0;  -- read to its end, written to no more, and joined anew then
";

const REVOKED: &str = "
ALTER TABLE account ADD COLUMN revoked INTEGER NOT NULL DEFAULT 0;  -- the server has said that the device is none of the account's
";

impl Store {
    pub(super) fn migrate(&self) -> Result<(), Error> {
        let version: i64 = self.conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let done = usize::try_from(version).unwrap_or(usize::MAX);
        if done > MIGRATIONS.len() {
            return Err(Error::new(Code::INCOMPATIBLE, "the profile was written by a newer version of this program")
                .hint("use that version, or another profile"));
        }
        if done == MIGRATIONS.len() {
            return Ok(());
        }
        self.begin()?;
        let outcome = MIGRATIONS[done..].iter().try_for_each(|migration| self.conn.execute_batch(migration));
        let outcome = outcome.and_then(|()| self.conn.pragma_update(None, "user_version", MIGRATIONS.len() as i64));
        if let Err(error) = outcome {
            self.rollback();
            return Err(error.into());
        }
        self.commit()
    }
}
