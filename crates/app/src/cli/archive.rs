//! `export` and `import`: conversations as JSON Lines that can be read without this program.

mod export;
mod import;
mod row;

pub(crate) use self::{export::export, import::import};

/// One line for each conversation.
const CONVERSATIONS: &str = "conversations.jsonl";
/// One line for each message, conversation by conversation, oldest first.
const MESSAGES: &str = "messages.jsonl";
/// One line for each contact, in an export of everything.
const CONTACTS: &str = "contacts.jsonl";
/// Who the owner is, in an export of everything.
const PROFILE: &str = "profile.json";
/// Attachments that are on this machine.
const FILES: &str = "files";
