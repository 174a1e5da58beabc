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

-- What opens an account by recovery code.
CREATE TABLE recovery (
    account      INTEGER PRIMARY KEY REFERENCES account,
    record       BLOB    NOT NULL,
    wrapped_root BLOB    NOT NULL
) STRICT;

-- `state`: 0 may speak, 1 logged out, 2 gone from its account's list. Rows stay, so that a device which logged out does not come
-- back by a list that still names it, and nobody takes over a device that was another account's.
CREATE TABLE device (
    device        INTEGER PRIMARY KEY,
    id            BLOB    NOT NULL UNIQUE,
    account       INTEGER NOT NULL REFERENCES account,
    signature_key BLOB    NOT NULL,
    seen_ms       INTEGER NOT NULL,
    state         INTEGER NOT NULL
) STRICT;
CREATE INDEX device_by_account ON device (account);

CREATE TABLE key_package (
    key_package INTEGER PRIMARY KEY AUTOINCREMENT,
    device      INTEGER NOT NULL REFERENCES device,
    suite       INTEGER NOT NULL,
    bytes       BLOB    NOT NULL
) STRICT;
CREATE INDEX key_package_by_device ON key_package (device, suite);

CREATE TABLE last_resort (
    device INTEGER NOT NULL REFERENCES device,
    suite  INTEGER NOT NULL,
    bytes  BLOB    NOT NULL,
    PRIMARY KEY (device, suite)
) STRICT, WITHOUT ROWID;

-- The head of a log is not kept here: it is the newest entry, which is never deleted, so that an append writes one row.
-- `floor` is the oldest epoch that every device was in: that of the last join.
-- `oldest_ms` is when the oldest entry was stored, and NULL while nothing but the newest is left to keep.
-- Keys are not used again: entries of a conversation that has ended go little by little.
CREATE TABLE conversation (
    conversation INTEGER PRIMARY KEY AUTOINCREMENT,
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

-- Users and groups have one namespace.
CREATE TABLE name (
    name         TEXT NOT NULL PRIMARY KEY,
    account      INTEGER UNIQUE REFERENCES account,
    conversation INTEGER UNIQUE REFERENCES conversation,
    CHECK ((account IS NULL) <> (conversation IS NULL))
) STRICT, WITHOUT ROWID;

-- Conversations that have ended and whose entries are still there.
CREATE TABLE ended (
    conversation INTEGER PRIMARY KEY
) STRICT;

-- `since`: the epoch at which the account came in.
CREATE TABLE member (
    conversation INTEGER NOT NULL REFERENCES conversation,
    account      INTEGER NOT NULL REFERENCES account,
    role         INTEGER NOT NULL,
    since        INTEGER NOT NULL,
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

-- Blobs that are whole; their bytes are files. `touched_ms`: when somebody last stored it.
CREATE TABLE blob (
    blob       INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE,
    size       INTEGER NOT NULL,
    touched_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX blob_by_touched ON blob (touched_ms);

CREATE TABLE blob_owner (
    blob    INTEGER NOT NULL REFERENCES blob,
    account INTEGER NOT NULL REFERENCES account,
    PRIMARY KEY (blob, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_owner_by_account ON blob_owner (account);

-- Blobs that messages name, with the time of the latest.
CREATE TABLE blob_named (
    blob         INTEGER NOT NULL REFERENCES blob,
    conversation INTEGER NOT NULL REFERENCES conversation,
    stored_ms    INTEGER NOT NULL,
    PRIMARY KEY (blob, conversation)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_named_by_conversation ON blob_named (conversation);
CREATE INDEX blob_named_by_stored ON blob_named (stored_ms);

-- Blobs that are not whole. Each account brings its own bytes.
CREATE TABLE upload (
    account  INTEGER NOT NULL REFERENCES account,
    blob     BLOB    NOT NULL,
    size     INTEGER NOT NULL,
    begun_ms INTEGER NOT NULL,
    PRIMARY KEY (account, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX upload_by_begun ON upload (begun_ms);

CREATE TABLE backup (
    account INTEGER PRIMARY KEY REFERENCES account,
    version INTEGER NOT NULL,
    bytes   BLOB    NOT NULL -- the sealed index
) STRICT;

CREATE TABLE backup_blob (
    account INTEGER NOT NULL REFERENCES account,
    blob    INTEGER NOT NULL REFERENCES blob,
    PRIMARY KEY (account, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX backup_blob_by_blob ON backup_blob (blob);
