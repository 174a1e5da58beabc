//! What was promised to people: a message counts from the moment when their device says that it keeps it.

use std::{collections::BTreeMap, time::Duration};

use parlour_client::{
    Error, Message,
    core::{Reply, Ticket},
};
use parlour_wire::{ConversationId, MessageId};

/// A message that a device keeps.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) node: usize,
    pub(crate) id: MessageId,
    pub(crate) conversation: ConversationId,
    /// In which no text is like another.
    pub(crate) text: String,
    pub(crate) at: Duration,
    /// The device was put back to a copy that does not know of it. Unless the server had it by then, it never happened.
    pub(crate) undone: bool,
}

/// What is wrong at the end of a history. A line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages that are not where they should be.
    pub lost: Vec<String>,
    /// Messages that are somewhere twice.
    pub doubled: Vec<String>,
    /// What a device says it could not read, or could not follow.
    pub undecryptable: Vec<String>,
    /// Devices that do not agree.
    pub differing: Vec<String>,
    /// Keys that were used for two messages.
    pub reused: Vec<String>,
    /// What should not happen at all, such as an internal error.
    pub trouble: Vec<String>,
}

impl Verdict {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lines().next().is_none()
    }

    /// Everything that is wrong, with what it is.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let all = [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("undecryptable", &self.undecryptable),
            ("differing", &self.differing),
            ("key used again", &self.reused),
            ("trouble", &self.trouble),
        ];
        all.into_iter().flat_map(|(what, lines)| lines.iter().map(move |line| format!("{what}: {line}")))
    }
}

/// The book of what was promised.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Commands that have not been replied to, with the text of those that write.
    open: BTreeMap<(usize, Ticket), String>,
    pub(crate) said: Vec<Said>,
    /// BLAKE3 of the files that were sent, by the text beside them.
    pub(crate) files: BTreeMap<String, [u8; 32]>,
    /// Groups that somebody has tried to make.
    pub(crate) groups: usize,
    pub(crate) verdict: Verdict,
}

impl Ledger {
    /// A device has been asked to send a text.
    pub(crate) fn asked(&mut self, node: usize, ticket: Ticket, text: String) {
        self.open.insert((node, ticket), text);
    }

    /// Takes a reply to something that was asked; `false` if it is for somebody else.
    pub(crate) fn claim(&mut self, node: usize, ticket: Ticket, result: &Result<Reply, Error>, at: Duration) -> bool {
        let Some(text) = self.open.remove(&(node, ticket)) else { return false };
        if let Ok(Reply::Message(message)) = result {
            let Message { id, conversation, .. } = message;
            self.said.push(Said { node, id: *id, conversation: *conversation, text, at, undone: false });
        }
        true
    }

    /// A program has died: what it had not promised it need not keep.
    pub(crate) fn forget(&mut self, node: usize) {
        self.open.retain(|(at, _), _| *at != node);
    }

    /// A device is as it was at a time.
    pub(crate) fn undo(&mut self, node: usize, at: Duration) {
        for said in self.said.iter_mut().filter(|said| said.node == node && said.at > at) {
            said.undone = true;
        }
    }

    pub(crate) fn trouble(&mut self, text: String) {
        self.verdict.trouble.push(text);
    }

    pub(crate) fn reused(&mut self, text: String) {
        self.verdict.reused.push(text);
    }
}
