-- Ids of conversations that have ended. They stay, so that a creation which arrives again does not make one a second time.
CREATE TABLE tombstone (
    id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
