//! What tests of contents look at or put in.

use parlour_e2ee::Place;
use parlour_wire::{AccountId, ConversationId, MessageId, api, content::Content};

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

    /// The position of a device in a log, by the conversation's name here.
    pub(crate) fn place_for_test(&self, with: &str) -> (ConversationId, u64, [u8; 32]) {
        let id = self.conversation_with(with).expect("a conversation");
        let it = self.store.conversation(&id).expect("a database").expect("a conversation");
        (id, it.seq, it.hash)
    }

    /// A message that follows no rule: any id, any place, any bytes. This device does not know of it.
    pub(crate) fn forge_message_for_test(&mut self, with: &str, id: MessageId, place: &Place, bytes: &[u8]) -> api::Send {
        let conversation = self.conversation_with(with).expect("a conversation");
        self.store.begin().expect("a database");
        let (engine, store) = self.engine().expect("an engine");
        let step = engine.encrypt_at(store, &conversation, id, place, bytes).expect("a conversation that can be written to");
        self.store.apply(&step.changes).expect("a database");
        self.store.commit().expect("a database");
        if let Some(engine) = &mut self.engine {
            engine.committed();
        }
        api::Send { conversation, id, epoch: step.output.epoch, payload: step.output.payload, blobs: Vec::new() }
    }

    /// A commit that does nothing, to be sent with something else said about it. This device does not know of it.
    pub(crate) fn forge_commit_for_test(&mut self, id: MessageId) -> api::Commit {
        let (conversation, _) = self.group_for_test();
        let (engine, store) = self.engine().expect("an engine");
        let commit = engine.update(store, &conversation, store).expect("a group").output;
        engine.rolled_back();
        api::Commit {
            conversation,
            id,
            parent_epoch: commit.parent_epoch,
            create: None,
            commit: commit.commit,
            welcome: None,
            added: Vec::new(),
            removed: Vec::new(),
            group_info: commit.group_info,
            external: false,
            change: None,
        }
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
