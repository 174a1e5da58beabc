//! What does not fit together: promises that the server breaks, and logs that differ from one member to another. A broken promise that
//! can be proved stops a conversation; a doubt is told, and everything goes on.

use std::{collections::BTreeMap, time::Duration};

use parlour_e2ee::Place;
use parlour_wire::{AccountId, Code, ConversationId, DeviceId, MessageId, log::Entry};

use super::{Core, session::Timer};
use crate::{
    error::Error,
    store::{Conversation, ConversationPhase},
};

/// The largest number that an entry can have: what the database holds. A log grows by one at a time and never comes near.
const LAST_ENTRY: u64 = i64::MAX as u64;
/// Places in a log that are remembered to compare with what senders say. Senders are rarely further behind.
const TRAIL: usize = 128;
/// Answers without what was asked for, one after the other, before the owner of the profile is told: one alone may have crossed a push.
const EMPTY_ANSWERS: u32 = 3;
/// Pages of a sync, each of up to 256 conversations.
const SYNC_PAGES: u32 = 1024;
/// Pause before a server that makes no sense is asked again.
const LATER: Duration = Duration::from_secs(10);

/// The last places of logs, each with the beginning of the hash of its entry.
#[derive(Debug, Default)]
pub(super) struct Trails(BTreeMap<ConversationId, BTreeMap<u64, Place>>);

impl Trails {
    /// Notes a place.
    pub(super) fn note(&mut self, conversation: ConversationId, seq: u64, hash: &[u8; 32]) {
        let trail = self.0.entry(conversation).or_default();
        trail.insert(seq, Place::new(seq, hash));
        if trail.len() > TRAIL {
            trail.pop_first();
        }
    }

    /// Whether a place is one that this device has passed; `None`: it is too long ago to say.
    fn has(&self, conversation: &ConversationId, place: &Place) -> Option<bool> {
        self.0.get(conversation)?.get(&place.seq).map(|passed| passed == place)
    }
}

impl Core {
    /// Stops a conversation for good: the server broke a promise that can be proved.
    pub(super) fn misbehaved(&mut self, id: &ConversationId, what: &str) -> Result<(), Error> {
        self.store.set_phase(id, ConversationPhase::Stopped)?;
        self.session.forget(id);
        let error = Error::new(Code::SERVER_MISBEHAVED, format!("the server broke the log of a conversation: {what}"))
            .hint("nothing more is read or sent in it; keep this profile as evidence and ask who runs the server");
        self.trouble(error);
        let Some(conversation) = self.store.conversation(id)? else { return Ok(()) };
        let text = format!("The server broke the log of this conversation: {what}. Nothing more is read or sent here.");
        self.note(&conversation, &text)
    }

    /// Whether an entry can have this number; tells if not.
    pub(super) fn is_plausible(&mut self, seq: u64) -> bool {
        if seq > LAST_ENTRY {
            self.trouble(Error::new(Code::SERVER_MISBEHAVED, "the server named an entry with a number that no log reaches"));
        }
        seq <= LAST_ENTRY
    }

    /// Whether a log has fewer entries now than were taken from it here before it was asked about.
    pub(super) fn has_shrunk(&self, id: &ConversationId, head: u64) -> bool {
        self.session.reached.get(id).is_some_and(|reached| head < *reached)
    }

    /// The server named a number too high once, or has lost entries, or hides them. What it appends from here on would be taken for
    /// old, so this device comes in anew.
    pub(super) fn shrunk(&mut self, conversation: &Conversation) -> Result<(), Error> {
        let text = "The server names fewer entries of this conversation than this device has had from it: it has lost some, or hides them.";
        self.trouble(
            Error::new(Code::SERVER_MISBEHAVED, text).hint("ask who runs the server whether it was set back to a backup"),
        );
        if !self.store.has_said(&conversation.id, text)? {
            self.note(conversation, text)?;
        }
        self.rejoin(conversation, "the log has become shorter")
    }

    /// A sender has said where in the log it was when it wrote. If that is a place which this device knows otherwise, one of the two is
    /// shown a false log. It is the word of one device, so it is told and nothing stops.
    pub(super) fn compare_place(
        &mut self,
        conversation: &Conversation,
        entry: &Entry,
        (sender, device): (AccountId, DeviceId),
        place: Option<Place>,
    ) -> Result<(), Error> {
        let Some(place) = place else { return Ok(()) };
        let same = if place.seq >= entry.seq {
            Some(false)
        } else if place.seq == conversation.seq {
            Some(place == Place::new(conversation.seq, &conversation.hash))
        } else {
            self.session.trails.has(&conversation.id, &place)
        };
        if same != Some(false) || !self.session.doubted.insert((conversation.id, device)) {
            return Ok(());
        }
        let who = if sender == self.me()? { "Another device of yours".to_owned() } else { self.shown_name(&sender)? };
        let text = format!(
            "{who} is shown another log of this conversation than this device: the server leaves something out, or changes it, for one of you."
        );
        self.trouble(
            Error::new(Code::SERVER_MISBEHAVED, format!("two devices are shown different logs of a conversation: {text}"))
                .hint("compare on another way what each of you sees, and ask who runs the server"),
        );
        if self.store.has_said(&conversation.id, &text)? {
            return Ok(());
        }
        self.note_by(conversation, &sender, &text, false)
    }

    /// A read was answered. One that brought nothing although there is more pauses, so that a server which withholds an entry is not
    /// asked without end.
    pub(super) fn after_read(&mut self, id: ConversationId, before: u64, head: u64) -> Result<(), Error> {
        let Some(conversation) = self.store.conversation(&id)? else { return Ok(()) };
        let waits = conversation.phase != ConversationPhase::Active || self.session.blocked.contains_key(&id);
        if waits || conversation.seq > before || head <= conversation.seq {
            self.session.empty_answers.remove(&id);
            return Ok(());
        }
        self.rest(id);
        let count = self.session.empty_answers.entry(id).or_default();
        *count = count.saturating_add(1);
        if *count == EMPTY_ANSWERS {
            let message = "the server does not give out an entry of a conversation that it says is there";
            self.trouble(Error::new(Code::SERVER_MISBEHAVED, message).hint("what comes after it waits; it is asked for again"));
        }
        Ok(())
    }

    /// Whether the server has kept back again and again what comes next.
    pub(super) fn is_refused_entries(&self, id: &ConversationId) -> bool {
        self.session.empty_answers.get(id).is_some_and(|count| *count >= EMPTY_ANSWERS)
    }

    /// The commit by which this device joins is of an epoch that has passed. That is a race once; told again and again for one epoch,
    /// the server offers a state that it does not take.
    pub(super) fn join_refused(&mut self, id: ConversationId, epoch: u64) {
        let tries = self.refused_at(id, epoch);
        if tries == EMPTY_ANSWERS {
            let message = "the server offers a state of a conversation by which nobody can join";
            self.trouble(Error::new(Code::SERVER_MISBEHAVED, message).hint("it is tried again from time to time"));
        }
    }

    /// The same for a change of a group, which is made anew on top of what the log says.
    pub(super) fn change_refused(&mut self, id: ConversationId, epoch: u64) {
        self.refused_at(id, epoch);
    }

    /// How often in a row a commit of one epoch was refused as stale; pauses from the third time on.
    fn refused_at(&mut self, id: ConversationId, epoch: u64) -> u32 {
        let tries = match self.session.stale.get(&id) {
            Some((at, tries)) if *at == epoch => tries.saturating_add(1),
            _ => 1,
        };
        self.session.stale.insert(id, (epoch, tries));
        if tries >= EMPTY_ANSWERS {
            self.rest(id);
        }
        tries
    }

    /// Whether a page of a sync leads on. One that does not would be asked for for ever.
    pub(super) fn leads_on(&mut self, ids: &[ConversationId]) -> bool {
        let after = self.session.sync_after;
        let ascending = ids.is_sorted_by(|a, b| a < b) && after.is_none_or(|after| ids.first().is_none_or(|id| *id > after));
        self.session.sync_pages += 1;
        if ascending && self.session.sync_pages <= SYNC_PAGES {
            self.session.sync_after = ids.last().copied().or(after);
            return true;
        }
        self.trouble(Error::new(Code::SERVER_MISBEHAVED, "the server lists conversations in no order, or without end"));
        self.set_timer(Timer::Restart, LATER);
        false
    }
}

/// The id here of a message whose own id a message of another conversation has: members make ids, so one can take another's.
pub(super) fn twin(entry: &Entry) -> MessageId {
    let mut hasher = blake3::Hasher::new_derive_key("parlour twin of a message v1");
    hasher.update(&entry.conversation.0).update(&entry.id.0);
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    MessageId(id)
}
