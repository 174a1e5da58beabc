-- Integer keys stand for the long ids inside the file, so that rows and indexes stay small.

CREATE TABLE setting (
    key   TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE invite (
    token      BLOB    NOT NULL PRIMARY KEY, -- BLAKE3 of the token
    uses       INTEGER NOT NULL,             -- left
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
    account      INTEGER PRIMARY KEY,
    id           BLOB    NOT NULL UNIQUE,
    name         TEXT    NOT NULL UNIQUE,
    record       BLOB    NOT NULL,
    wrapped_root BLOB    NOT NULL,
    device_list  BLOB    NOT NULL,
    list_version INTEGER NOT NULL,
    disabled     INTEGER NOT NULL,
    seen_ms      INTEGER NOT NULL
) STRICT;

-- `state`: 0 may speak, 1 logged out, 2 gone from its account's list. Rows stay, so that a device which logged out does not come
-- back by a list that still names it, and nobody takes over a device that was another account's.
CREATE TABLE device (
    device        INTEGER PRIMARY KEY,
    id            BLOB    NOT NULL UNIQUE,
    account       INTEGER NOT NULL REFERENCES account,
    signature_key BLOB    NOT NULL,
    seen_ms       INTEGER NOT NULL,
    state         INTEGER NOT NULL,
    last_resort   BLOB
) STRICT;
CREATE INDEX device_by_account ON device (account);

CREATE TABLE key_package (
    key_package INTEGER PRIMARY KEY AUTOINCREMENT,
    device      INTEGER NOT NULL REFERENCES device,
    bytes       BLOB    NOT NULL
) STRICT;
CREATE INDEX key_package_by_device ON key_package (device);

-- The head of a log is not kept here: it is the newest entry, which is never deleted, so that an append writes one row.
-- `floor` is the oldest epoch that every device was in: that of the last join.
-- `oldest_ms` is when the oldest entry was stored, and NULL while nothing but the newest is left to keep.
CREATE TABLE conversation (
    conversation INTEGER PRIMARY KEY,
    id           BLOB    NOT NULL UNIQUE,
    kind         INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    floor        INTEGER NOT NULL,
    oldest_ms    INTEGER
) STRICT;
CREATE INDEX conversation_by_oldest ON conversation (oldest_ms) WHERE oldest_ms IS NOT NULL;

-- Apart from its conversation: it is large and changes with every commit, the conversation's row is read with every message.
CREATE TABLE group_info (
    conversation INTEGER PRIMARY KEY REFERENCES conversation,
    bytes        BLOB NOT NULL
) STRICT;

CREATE TABLE member (
    conversation INTEGER NOT NULL REFERENCES conversation,
    account      INTEGER NOT NULL REFERENCES account,
    PRIMARY KEY (conversation, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_by_account ON member (account);

CREATE TABLE entry (
    conversation INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    id           BLOB    NOT NULL,
    kind         INTEGER NOT NULL,
    stored_ms    INTEGER NOT NULL,
    previous     BLOB    NOT NULL,
    payload      BLOB    NOT NULL,
    receipt      BLOB,
    PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX entry_by_id ON entry (conversation, id);

-- `since`: the entry that added the device; it reads after that. `welcome`: the commit whose welcome waits for the device.
CREATE TABLE cursor (
    conversation INTEGER NOT NULL REFERENCES conversation,
    device       INTEGER NOT NULL REFERENCES device,
    since        INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    welcome      INTEGER,
    PRIMARY KEY (conversation, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX cursor_by_device ON cursor (device);
CREATE INDEX cursor_by_welcome ON cursor (conversation, welcome) WHERE welcome IS NOT NULL;

-- One welcome serves every device that its commit added; it goes when the last of them has taken it.
CREATE TABLE welcome (
    conversation INTEGER NOT NULL REFERENCES conversation,
    seq          INTEGER NOT NULL,
    epoch        INTEGER NOT NULL, -- after the commit
    hash         BLOB    NOT NULL,
    bytes        BLOB    NOT NULL,
    PRIMARY KEY (conversation, seq)
) STRICT, WITHOUT ROWID;
