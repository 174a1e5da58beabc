//! What tests of contents look at or put in.

use parlour_wire::{
    AccountId, MessageId,
    content::{Attachment, Content},
};

use super::Core;
use crate::{
    api::{MessageKind, PersonalProfile, State},
    store::{MessageRow, NewMessage},
};

impl Core {
    /// Sends a content that no command makes in the first conversation.
    pub(crate) fn say_for_test(&mut self, content: &Content) {
        let conversation = self.store.conversations().expect("a database")[0].id;
        let account = self.account.clone().expect("an account");
        let row = MessageRow {
            sender: account.account,
            device: account.device,
            outgoing: true,
            hidden: true,
            shown: true,
            state: State::Queued,
            content: Some(content.to_bytes().expect("in bounds")),
            ..MessageRow::new(self.new_id(), conversation, MessageKind::Text, String::new())
        };
        self.store.add_message(&NewMessage { row, sealed: false }).expect("a database");
        self.session.dirty.insert(conversation);
    }

    pub(crate) fn attachment_for_test(&self, id: &MessageId) -> Attachment {
        let row = self.store.message(id).expect("a database").expect("a message");
        super::transfers::attachment_of(&row).expect("a file")
    }

    pub(crate) fn account_for_test(&self) -> AccountId {
        self.account.as_ref().expect("an account").account
    }

    pub(crate) fn counts_for_test(&self) -> (u64, u64) {
        self.store.counts_for_test()
    }

    pub(crate) fn content_for_test(&self, id: &MessageId) -> Option<Vec<u8>> {
        self.store.message(id).expect("a database").and_then(|row| row.content)
    }

    pub(crate) fn profile_for_test(&self, account: &AccountId) -> PersonalProfile {
        let (profile, updated_ms) = self.store.profile(account).expect("a database").unwrap_or_default();
        PersonalProfile { display_name: profile.display_name, status: profile.status, avatar: profile.avatar, updated_ms }
    }
}
