//! What waits in a queue, and what follows from it: whether there is room, what is next, when the file is worth a rewrite.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use parlour_proto::link::Answer;
use parlour_wire::{frame::ContentType, header::Fault};
use tokio::sync::oneshot;

use super::{
    log::Place,
    record::{HEADER, Kind},
};

/// Content that is kept in memory beside the file, in bytes, so that a queue which keeps up never reads its file.
const CACHE: usize = 1024 * 1024;
/// Dead bytes below which a file is never rewritten.
const REWRITE: u64 = 1024 * 1024;

/// Whether a file of this length, of which so many bytes are live, is worth a rewrite: when more is dead than live, so that what
/// is copied is paid for by what was written.
pub(crate) fn mostly_dead(length: u64, live: u64) -> bool {
    length.saturating_sub(HEADER as u64 + live) > REWRITE.max(live)
}

/// The length at which a rewrite is tried again that has failed at this one: as much has been written by then as it would copy.
pub(crate) fn next_rewrite(length: u64, live: u64) -> u64 {
    length.saturating_add(REWRITE.max(live))
}

/// A message as it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) content_type: ContentType,
    pub(crate) content: Bytes,
}

/// Whoever waits for the answer of a request.
pub(crate) type Waiter = oneshot::Sender<Result<Answer, Fault>>;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) records: usize,
    pub(crate) bytes: u64,
}

#[derive(Debug)]
struct Slot {
    place: Place,
    cached: Option<Message>,
    waiter: Option<Waiter>,
}

/// The messages that wait, by number.
#[derive(Debug)]
pub(crate) struct Index {
    room: Room,
    live: BTreeMap<u64, Slot>,
    /// Bytes of the live records in the file.
    bytes: u64,
    /// Room that pushes on their way to the disk have taken.
    reserved: Room,
    cached: usize,
    next: u64,
}

impl Index {
    pub(crate) fn new(room: Room) -> Self {
        Self { room, live: BTreeMap::new(), bytes: 0, reserved: Room { records: 0, bytes: 0 }, cached: 0, next: 1 }
    }

    /// Takes room for a message of this size in the file; says what waits if there is none.
    pub(crate) fn reserve(&mut self, size: u64) -> Result<(), Room> {
        let taken = Room { records: self.live.len() + self.reserved.records, bytes: self.bytes + self.reserved.bytes };
        if taken.records >= self.room.records || taken.bytes + size > self.room.bytes {
            return Err(taken);
        }
        self.reserved.records += 1;
        self.reserved.bytes += size;
        Ok(())
    }

    /// Gives the room back.
    pub(crate) fn release(&mut self, size: u64) {
        self.reserved.records -= 1;
        self.reserved.bytes -= size;
    }

    /// A message is on disk; its room was reserved.
    pub(crate) fn pushed(&mut self, number: u64, place: Place, message: Message, waiter: Option<Waiter>) {
        self.release(place.size);
        let cached = (self.cached + message.content.len() <= CACHE).then_some(message);
        self.insert(number, Slot { place, cached, waiter });
    }

    /// A message was found in the file.
    pub(crate) fn found(&mut self, number: u64, place: Place) {
        self.insert(number, Slot { place, cached: None, waiter: None });
    }

    fn insert(&mut self, number: u64, slot: Slot) {
        self.next = self.next.max(number.saturating_add(1));
        self.bytes += slot.place.size;
        self.cached += slot.cached.as_ref().map_or(0, |message| message.content.len());
        if let Some(before) = self.live.insert(number, slot) {
            self.forget(&before);
        }
    }

    fn forget(&mut self, slot: &Slot) {
        self.bytes -= slot.place.size;
        self.cached -= slot.cached.as_ref().map_or(0, |message| message.content.len());
    }

    /// A message is done with. Gives back whoever waits for its answer.
    pub(crate) fn settle(&mut self, number: u64) -> Option<Waiter> {
        let slot = self.live.remove(&number)?;
        self.forget(&slot);
        slot.waiter
    }

    /// Nobody will be answered any more.
    pub(crate) fn dismiss(&mut self) {
        self.live.values_mut().for_each(|slot| slot.waiter = None);
    }

    /// The number of the next message.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// No number below this one is given any more.
    pub(crate) fn raise(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// The first message that waits behind this number.
    pub(crate) fn after(&self, number: u64) -> Option<u64> {
        self.live.range((Bound::Excluded(number), Bound::Unbounded)).next().map(|(number, _)| *number)
    }

    /// Messages that wait, from this number on, so many at most.
    pub(crate) fn from(&self, number: u64, most: usize) -> Vec<u64> {
        self.live.range(number..).map(|(number, _)| *number).take(most).collect()
    }

    /// The message that waits longest.
    pub(crate) fn lowest(&self) -> Option<u64> {
        self.live.first_key_value().map(|(number, _)| *number)
    }

    /// Whether a message waits.
    pub(crate) fn holds(&self, number: u64) -> bool {
        self.live.contains_key(&number)
    }

    /// A message, if it is in memory.
    pub(crate) fn cached(&self, number: u64) -> Option<Message> {
        self.live.get(&number)?.cached.clone()
    }

    /// Where a message stands in the file.
    pub(crate) fn place(&self, number: u64) -> Option<Place> {
        Some(self.live.get(&number)?.place)
    }

    /// What waits, and what of it takes how much of the file.
    pub(crate) fn waiting(&self) -> Room {
        Room { records: self.live.len(), bytes: self.bytes }
    }

    /// Whether most of a file of this length is dead.
    pub(crate) fn wants_rewrite(&self, length: u64) -> bool {
        mostly_dead(length, self.bytes)
    }

    /// The length at which a rewrite is tried again that has failed at this one.
    pub(crate) fn next_rewrite(&self, length: u64) -> u64 {
        next_rewrite(length, self.bytes)
    }

    /// Everything that waits, with its place, in order.
    pub(crate) fn places(&self) -> Vec<(u64, Place)> {
        self.live.iter().map(|(number, slot)| (*number, slot.place)).collect()
    }

    /// The file was rewritten. What was settled meanwhile stays settled.
    pub(crate) fn moved(&mut self, places: impl IntoIterator<Item = (u64, Place)>) {
        for (number, place) in places {
            if let Some(slot) = self.live.get_mut(&number) {
                slot.place = place;
            }
        }
    }
}
