-- The statements of those who have left, for who joins after them. Kind 3 is a leave.
CREATE INDEX entry_leave ON entry (conversation, seq) WHERE kind = 3;
