//! What tests of contents look at or put in.

use parlour_e2ee::{HistoryKey, Place};
use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    api::{self, Suite},
    content::{Attachment, Body, Content, HistoryOffer, SealedKey},
};
use rand::Rng as _;

use super::{
    Core,
    compose::Post,
    own::{Kind, Meaning, VALUE},
    pack::PackedMessage,
    size::Sizes,
};
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

    pub(crate) fn set_sizes_for_test(&mut self, (hybrid, most): (usize, usize)) {
        self.sizes = Sizes { hybrid, most };
    }

    pub(crate) fn attachment_for_test(&self, id: &MessageId) -> Attachment {
        let row = self.store.message(id).expect("a database").expect("a message");
        super::transfers::attachment_of(&row).expect("a file")
    }

    /// So many long values that own devices agree about, and that no compression makes shorter.
    pub(crate) fn agree_for_test(&mut self, count: usize) {
        self.store.begin().expect("a database");
        for n in 0..count {
            let mut value = vec![0; VALUE];
            self.rng.fill(value.as_mut_slice());
            self.agree(&Meaning::Setting(format!("long {n}"), value)).expect("a database");
        }
        self.store.commit().expect("a database");
    }

    /// How many of them are here.
    pub(crate) fn agreed_for_test(&self) -> usize {
        let settings = self.store.registers(Some(Kind::SETTING)).expect("a database");
        settings.iter().filter(|setting| setting.subject.starts_with(b"long ") && setting.value.len() == VALUE).count()
    }

    pub(crate) fn account_for_test(&self) -> AccountId {
        self.account.as_ref().expect("an account").account
    }

    /// Makes groups from here on as if another server signed their commits.
    pub(crate) fn mistake_the_server_for_test(&mut self) {
        self.account.as_mut().expect("an account").receipt_key = [3; 32];
    }

    /// The position of a device in a log, by the conversation's name here.
    pub(crate) fn place_for_test(&self, with: &str) -> (ConversationId, u64, [u8; 32]) {
        let id = self.conversation_with(with).expect("a conversation");
        let it = self.store.conversation(&id).expect("a database").expect("a conversation");
        (id, it.seq, it.hash)
    }

    pub(crate) fn suite_for_test(&self, id: &ConversationId) -> Suite {
        self.store.conversation(id).expect("a database").expect("a conversation").suite
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

    /// In how many conversations a device is a member of the MLS group.
    pub(crate) fn conversations_with_for_test(&mut self, device: DeviceId) -> usize {
        let all = self.store.conversations().expect("a database");
        let (engine, store) = self.engine().expect("an engine");
        let mut members = |id| engine.members(store, id).unwrap_or_default();
        all.iter().filter(|it| members(&it.id).iter().any(|(_, other)| *other == device)).count()
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

    /// Says something that names blobs in a conversation, as a device that does not keep to the rules would.
    pub(crate) fn say_with_blob_for_test(&mut self, conversation: &ConversationId, body: Body) {
        let conversation = self.store.conversation(conversation).expect("a database").expect("a conversation");
        self.store.begin().expect("a database");
        self.compose(&conversation, Post::new(body)).expect("it can be said");
        self.store.commit().expect("a database");
    }

    /// Puts messages of this account into the log of the only group, as if they stood before everything in it.
    pub(crate) fn fill_group_for_test(&mut self, count: u32) {
        let (conversation, _) = self.group_for_test();
        let me = self.me().expect("an account");
        self.store.begin().expect("a database");
        for n in 0..count {
            let message = PackedMessage {
                id: MessageId::new(u64::from(n), &self.rng.r#gen()),
                conversation: 0,
                sender: me,
                device: DeviceId([1; 16]),
                kind: 0,
                body: format!("before {n}"),
                reply_to: None,
                sent_ms: u64::from(n),
                stored_ms: Some(u64::from(n)),
                seq: Some(1),
                state: 2,
                shown: true,
                content: None,
                edited_ms: None,
                deleted: false,
                expires_ms: None,
                mentions_me: false,
                reactions: Vec::new(),
                shared_by: None,
            };
            let position = i64::from(n) - i64::from(count) - 1_000_000;
            assert!(self.store.put_packed(position, (&conversation, true), &message).expect("a database"));
        }
        self.store.commit().expect("a database");
    }

    /// Whether there are people whom this device owes messages, and packs that have been offered to it.
    pub(crate) fn shares_for_test(&self) -> (bool, bool) {
        let share = self.store.first_share().expect("a database");
        (share.is_some(), self.store.first_offer().expect("a database").is_some())
    }

    /// The key of a pack, sealed for every device of an account.
    pub(crate) fn keys_for_test(&self, place: &HistoryKey, key: &[u8; 32]) -> Vec<SealedKey> {
        self.keys_for(place, key).expect("a database")
    }

    /// The packs that this device has offered, with the content of each offer as every member reads it.
    pub(crate) fn offers_for_test(&self) -> Vec<(HistoryOffer, Vec<u8>)> {
        let offer = |bytes: Vec<u8>| match Content::from_bytes(&bytes).expect("its own content").body {
            Body::History(offer) => Some((offer, bytes)),
            _ => None,
        };
        self.store.contents_for_test().into_iter().filter_map(offer).collect()
    }

    /// The key of a pack, if this device can open one of those that are sealed.
    pub(crate) fn open_for_test(&mut self, place: &HistoryKey, keys: &[SealedKey]) -> Option<[u8; 32]> {
        let (engine, _) = self.engine().expect("a device");
        keys.iter().find_map(|key| engine.open_history_key(place, key).ok()).map(|key| *key)
    }

    /// The entry before which this account may be given messages.
    pub(crate) fn owed_for_test(&self, conversation: &ConversationId) -> Option<u64> {
        self.store.owed(conversation).expect("a database").map(|owed| owed.seq)
    }
}
