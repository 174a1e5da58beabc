//! Earlier messages for people who come into a group, as far as its history policy lets them be given.
//!
//! The device whose commit let them in packs what stands before it, the newest first, puts the sealed pack at the server, and offers it
//! in the group, with the key sealed for the newcomer's devices: every member can read the offer, only they the pack. A newcomer takes offers only from whoever brought it in, only as
//! much as the policy said at that moment, and only what stands before it in the log. Who wrote what is the sharer's word, so every
//! message says who shared it.
//!
//! What is owed and what was offered are rows until they are done, and messages are known by their ids: whoever is killed goes on, and
//! nothing is there twice.

use parlour_e2ee::{GroupEvent, HistoryKey, HistoryPolicy};
use parlour_wire::{
    AccountId, Code, ConversationId, MessageId,
    api::Role,
    content::{Body, Content, HistoryOffer, SealedKey},
    log::Entry,
};

use super::{
    Core,
    compose::{self, Post},
    content::AHEAD_MS,
    own::PackRef,
    pack::{self, Pack, PackedMessage},
};
use crate::{
    api::MessageKind,
    error::Error,
    event::Event,
    store::{Conversation, ConversationPhase, Offer, Owed, Parcel, Purpose, STEP, Share},
};

/// Packs that one newcomer is given in one group at most; all of a few years among friends.
const PARTS: u32 = 16;
/// Messages that one newcomer is given in one group at most: what so many packs hold.
const MESSAGES: u32 = PARTS * pack::MESSAGES as u32;

/// How many messages a policy lets a newcomer have.
const fn allowed(history: HistoryPolicy) -> u32 {
    match history {
        HistoryPolicy::None => 0,
        HistoryPolicy::Last(count) if count < MESSAGES => count,
        HistoryPolicy::Last(_) | HistoryPolicy::All => MESSAGES,
    }
}

impl Core {
    /// A commit of this device has let people into a group: notes what they are to be given.
    pub(super) fn owe_history(&mut self, id: &ConversationId, entry: &Entry, events: &[GroupEvent]) -> Result<(), Error> {
        let added = |event: &GroupEvent| if let GroupEvent::Added(account) = event { Some(*account) } else { None };
        let accounts: Vec<AccountId> = events.iter().filter_map(added).collect();
        let Some(group) = self.store.conversation(id)? else { return Ok(()) };
        let messages = allowed(group.history);
        if accounts.is_empty() || messages == 0 {
            return Ok(());
        }
        let (seq, parts, before) = (entry.seq, PARTS, i64::MAX);
        self.store.add_share(&Share { entry: entry.id, conversation: *id, accounts, seq, messages, parts, before })?;
        self.tend_shares()
    }

    /// Gives what is owed and fetches what was offered.
    pub(super) fn tend_shares(&mut self) -> Result<(), Error> {
        if !self.session.is_usable() || !self.session.synced {
            return Ok(());
        }
        // One after the other, so that not all of them lie packed on the disk at once.
        while let Some(share) = self.store.first_share()? {
            if self.next_share(&share)? {
                break;
            }
            self.store.end_share(&share.entry)?;
        }
        self.pump_intake()
    }

    /// Packs the next part of a share and puts it on its way, unless one is; `false` if there is nothing more to give.
    fn next_share(&mut self, share: &Share) -> Result<bool, Error> {
        let purpose = Purpose::Share(share.entry);
        match self.store.conversation(&share.conversation)?.map(|group| group.phase) {
            None | Some(ConversationPhase::Removed | ConversationPhase::Stopped) => return Ok(false),
            Some(ConversationPhase::Active) if self.newcomers(share)?.is_empty() => return Ok(false),
            Some(ConversationPhase::Active) => {}
            // This device is about to be back in it.
            Some(_) => return Ok(true),
        }
        if self.store.has_parcel(purpose)? {
            return self.pump_parcels().map(|()| true);
        }
        let (mut pack, mut size, mut before) = (Pack::default(), 0, share.before);
        let most = if share.parts == 0 { 0 } else { (share.messages as usize).min(pack::MESSAGES) };
        for row in self.store.sharable(share, self.now.unix_ms, most)? {
            if size > pack::BYTES {
                break;
            }
            size += row.message.size();
            before = row.position;
            // What it is to this account is nobody else's business.
            let message = PackedMessage { state: 0, shown: false, mentions_me: false, shared_by: None, ..row.message };
            pack.push(row.conversation, message);
        }
        if pack.is_empty() {
            return Ok(false);
        }
        let parcel = self.parcel(&pack, purpose, before);
        self.store.add_parcel(&parcel)?;
        self.pump_parcels().map(|()| true)
    }

    /// For whom a share is, as far as they are still there.
    fn newcomers(&self, share: &Share) -> Result<Vec<AccountId>, Error> {
        let mut here = Vec::new();
        for account in &share.accounts {
            if self.store.is_member(&share.conversation, account)? {
                here.push(*account);
            }
        }
        Ok(here)
    }

    /// A pack for newcomers is at the server: offers it to them.
    pub(super) fn share_sent(&mut self, entry: &MessageId, parcel: &Parcel) -> Result<(), Error> {
        let Some(share) = self.store.share(entry)? else { return Ok(()) };
        let Some(group) = self.store.conversation(&share.conversation)? else { return Ok(()) };
        let PackRef { blob, key, size, messages } = parcel.pack;
        let oldest = self.store.id_at(parcel.before)?.unwrap_or(MessageId([0; 16]));
        let newest = self.store.sharable(&share, self.now.unix_ms, 1)?.first().map_or(oldest, |row| row.message.id);
        for account in self.newcomers(&share)? {
            let keys = self.keys_for(&HistoryKey { conversation: group.id, account, blob }, &key)?;
            let offer = HistoryOffer { account, messages, oldest, newest, blob, size, keys };
            self.compose(&group, Post::new(Body::History(offer)))?;
        }
        let messages = share.messages.saturating_sub(messages);
        self.store.set_share(&Share { messages, parts: share.parts.saturating_sub(1), before: parcel.before, ..share })?;
        self.tend_shares()
    }

    /// The key of a pack, sealed for every device of an account. One whose key is none is left out.
    pub(super) fn keys_for(&self, place: &HistoryKey, key: &[u8; 32]) -> Result<Vec<SealedKey>, Error> {
        let Some(list) = self.store.list(&place.account)? else { return Ok(Vec::new()) };
        Ok(list.certificates().iter().filter_map(|certificate| place.seal(certificate.get(), key).ok()).collect())
    }

    /// The server does not take more of this account: newcomers have what was offered so far.
    pub(super) fn share_refused(&mut self, entry: &MessageId, error: &Error) -> Result<(), Error> {
        self.store.end_share(entry)?;
        let message = format!("earlier messages of a group could not be shared: {}", error.message);
        self.trouble(Error { message, ..error.clone() });
        self.tend_shares()
    }

    /// This device has come into a group by a welcome at this epoch and entry. If its account came in with it, whoever brought it in may
    /// share what stands before.
    pub(super) fn expect_history(
        &mut self,
        group: &Conversation,
        (epoch, seq): (u64, u64),
        adder: AccountId,
    ) -> Result<(), Error> {
        let me = self.me()?;
        let members = self.store.members(&group.id)?;
        if !members.iter().any(|member| member.account == me && member.since == epoch) {
            return Ok(());
        }
        let messages = allowed(group.history);
        let may = members.iter().any(|member| member.account == adder && member.role == Role::ADMIN);
        let owed = (messages > 0 && may && adder != me).then_some(Owed { adder, seq, messages, parts: PARTS });
        self.store.set_owed(&group.id, owed.as_ref())
    }

    /// A member offers earlier messages to somebody.
    pub(super) fn take_offer(
        &mut self,
        group: &Conversation,
        entry: &Entry,
        sender: AccountId,
        offer: &HistoryOffer,
    ) -> Result<(), Error> {
        if offer.account != self.me()? || sender == offer.account {
            return Ok(());
        }
        let owed = self.store.owed(&group.id)?.filter(|owed| owed.adder == sender);
        match check_offer(owed, offer).and_then(|owed| Ok((owed, self.open_offer(group, offer)?))) {
            Ok((owed, pack)) => {
                self.store.set_owed(&group.id, Some(&owed))?;
                let (id, conversation, sharer) = (entry.id, group.id, sender);
                self.store.add_offer(&Offer { id, conversation, sharer, seq: owed.seq, pack })?;
                self.pump_intake()
            }
            Err(error) => self.refuse_shared(&group.id, &sender, error),
        }
    }

    /// The pack of an offer, with the key that is sealed for this device.
    fn open_offer(&mut self, group: &Conversation, offer: &HistoryOffer) -> Result<PackRef, Error> {
        let (engine, _) = self.engine()?;
        let place = HistoryKey { conversation: group.id, account: offer.account, blob: offer.blob };
        let device = engine.device();
        let key = offer.keys.iter().find(|key| key.device == device);
        let key = key
            .and_then(|key| engine.open_history_key(&place, key).ok())
            .ok_or_else(|| Error::new(Code::FORBIDDEN, "this device cannot open them: none of their keys is for it"))?;
        Ok(PackRef { blob: offer.blob, key: *key, size: offer.size, messages: offer.messages })
    }

    fn refuse_shared(&mut self, group: &ConversationId, sharer: &AccountId, error: Error) -> Result<(), Error> {
        let name = self.store.conversation(group)?.and_then(|group| group.group_name()).unwrap_or_default();
        let who = self.shown_name(sharer)?;
        let message = format!("{who} sent earlier messages of {name}, and they were not taken: {}", error.message);
        self.trouble(Error { message, ..error });
        Ok(())
    }

    /// The pack of an offer is here: takes in what is new, in its place before everything that is, or nothing of it.
    pub(super) fn take_shared(&mut self, id: &MessageId, pack: Pack) -> Result<(), Error> {
        let Some(offer) = self.store.offer(id)? else { return Ok(()) };
        self.store.drop_offer(id)?;
        if let Err(error) = check_pack(&offer, &pack) {
            return self.refuse_shared(&offer.conversation, &offer.sharer, error);
        }
        let (mut taken, mut position) = (0, self.store.position_below()?);
        for message in pack.messages {
            if self.take_shared_message(&offer, position, message)? {
                taken += 1;
                position -= STEP;
            }
        }
        self.store.settle_order_of(&offer.conversation)?;
        self.event(Event::HistoryShared { conversation: offer.conversation, by: offer.sharer, messages: taken });
        Ok(())
    }

    fn take_shared_message(&mut self, offer: &Offer, position: i64, message: PackedMessage) -> Result<bool, Error> {
        let now_ms = self.now.unix_ms;
        let over = message.expires_ms.is_some_and(|at| at <= now_ms);
        let blocked = self.store.contact(&message.sender)?.is_some_and(|contact| contact.blocked);
        if over || blocked || message.deleted || !is_sound(&message) {
            return Ok(false);
        }
        let stored_ms = message.stored_ms.unwrap_or(message.sent_ms).min(now_ms.saturating_add(AHEAD_MS));
        let message = PackedMessage {
            stored_ms: Some(stored_ms),
            sent_ms: message.sent_ms.min(stored_ms.saturating_add(AHEAD_MS)),
            // It is nothing new, nobody waits for a report on it, and it was not written to this account.
            state: crate::api::State::Delivered as u8,
            shown: true,
            mentions_me: false,
            shared_by: Some(offer.sharer),
            content: message.content.filter(|_| message.kind != 0),
            ..message
        };
        if !self.store.put_packed(position, (&offer.conversation, false), &message)? {
            return Ok(false);
        }
        if message.sender != self.me()? {
            self.store.know_of(&message.sender)?;
        }
        for reaction in &message.reactions {
            self.store.put_packed_reaction(&message.id, reaction)?;
        }
        self.expires(message.expires_ms);
        self.apply_pending(&message.id)?;
        Ok(true)
    }
}

/// Whether an offer is within what is owed; what is owed after it.
fn check_offer(owed: Option<Owed>, offer: &HistoryOffer) -> Result<Owed, Error> {
    let owed = owed.ok_or_else(|| {
        Error::new(Code::FORBIDDEN, "only who brought you in may share them, and only as the group's history policy says")
    })?;
    let (Some(messages), Some(parts)) = (owed.messages.checked_sub(offer.messages), owed.parts.checked_sub(1)) else {
        return Err(Error::new(Code::QUOTA, "they are more than the group's history policy allows"));
    };
    if offer.size as usize > pack::SEALED || offer.size == 0 || offer.messages == 0 {
        return Err(Error::new(Code::TOO_LARGE, "the pack has another size than packs may have"));
    }
    Ok(Owed { messages, parts, ..owed })
}

/// Whether a pack is what was offered, of the group that it was offered in, and from before this account came in.
fn check_pack(offer: &Offer, pack: &Pack) -> Result<(), Error> {
    if pack.messages.len() > offer.pack.messages as usize {
        return Err(Error::new(Code::QUOTA, "they are more than was said"));
    }
    if pack.conversations.iter().any(|conversation| conversation.id != offer.conversation) || !pack.agreed.is_empty() {
        return Err(Error::new(Code::FORBIDDEN, "they are not of this group alone"));
    }
    if pack.messages.iter().any(|message| message.seq.is_none_or(|seq| seq == 0 || seq >= offer.seq)) {
        return Err(Error::new(Code::FORBIDDEN, "they are not all from before you came in"));
    }
    Ok(())
}

/// Whether a message can be shown as what it is said to be.
fn is_sound(message: &PackedMessage) -> bool {
    let kind = message.content.as_deref().map(|bytes| Content::from_bytes(bytes).map(|content| compose::shown(&content).0));
    match (message.kind, kind) {
        (0, _) => true,
        (2, Some(Ok(Some(kind)))) => kind == MessageKind::File,
        // Who shares it, or has shared it, may know fewer kinds than this version does.
        (3, Some(Ok(Some(kind)))) => matches!(kind, MessageKind::Unknown | MessageKind::Text),
        _ => false,
    }
}
