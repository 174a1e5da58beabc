//! What a receiver remembers of all queues, within bounds.

use std::collections::{BTreeMap, BTreeSet};

use parlour_wire::LinkSessionId;

use super::{
    index::{mostly_dead, next_rewrite},
    log::Place,
    record::size_of,
    seen::{Known, MAP, Seen},
};
use crate::PeerKey;

/// A queue of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    /// The peer's key; none for a peer that has not shown one.
    pub(crate) peer: Option<PeerKey>,
    pub(crate) queue: LinkSessionId,
}

/// Bytes of the longest name of a source.
const NAME: usize = 48;

impl Source {
    /// The name of its records.
    pub(crate) fn name(&self) -> Vec<u8> {
        let key = self.peer.as_ref().map_or(&[][..], |key| &key.0);
        [self.queue.as_bytes(), key].concat()
    }

    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        let (queue, key) = name.split_first_chunk()?;
        let peer = match key {
            [] => None,
            key => Some(PeerKey(key.try_into().ok()?)),
        };
        Some(Self { peer, queue: LinkSessionId(*queue) })
    }
}

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) queues: usize,
    pub(crate) queues_per_peer: usize,
}

/// The memory of all queues.
#[derive(Debug)]
pub(crate) struct Table {
    bounds: Bounds,
    queues: BTreeMap<Source, Seen>,
    /// Messages whose effect is under way.
    running: BTreeSet<(Source, u64)>,
    uses: u64,
    /// Bytes of the answers in the file.
    bytes: u64,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Let it take effect; it is noted as under way.
    Run,
    /// It is under way: look again when that has changed.
    Wait,
    /// It has taken effect.
    Settled,
    /// It is too old to know.
    Past,
}

impl Table {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, queues: BTreeMap::new(), running: BTreeSet::new(), uses: 0, bytes: 0 }
    }

    pub(crate) fn begin(&mut self, source: Source, number: u64) -> Begin {
        match self.queues.get(&source).map_or(Known::Fresh, |seen| seen.known(number)) {
            Known::Settled(_) => Begin::Settled,
            Known::Past => Begin::Past,
            Known::Fresh if self.running.insert((source, number)) => Begin::Run,
            Known::Fresh => Begin::Wait,
        }
    }

    /// An effect is no longer under way, whether it has taken place or not.
    pub(crate) fn end(&mut self, source: Source, number: u64) {
        self.running.remove(&(source, number));
    }

    /// Where the answer to a settled message stands, if it is kept.
    pub(crate) fn answer(&self, source: Source, number: u64) -> Option<Place> {
        match self.queues.get(&source)?.known(number) {
            Known::Settled(place) => place,
            Known::Fresh | Known::Past => None,
        }
    }

    /// A message has taken effect.
    pub(crate) fn settle(&mut self, source: Source, number: u64, answer: Option<Place>) {
        let seen = self.entry(source);
        let dead = seen.settle(number, answer);
        self.bytes += answer.map_or(0, |place| place.size);
        self.bytes -= dead.map_or(0, |place| place.size);
    }

    /// What the file says of a queue, before any of its answers.
    pub(crate) fn restore(&mut self, source: Source, highest: u64, map: [u8; MAP]) {
        let seen = self.entry(source);
        *seen = Seen::restored(highest, map, seen.used);
    }

    fn entry(&mut self, source: Source) -> &mut Seen {
        if !self.queues.contains_key(&source) {
            self.make_room(source);
        }
        self.uses += 1;
        let seen = self.queues.entry(source).or_default();
        seen.used = self.uses;
        seen
    }

    /// Forgets the queue that was used longest ago: one of the same peer, if that has its share.
    fn make_room(&mut self, source: Source) {
        let of_peer = |other: &Source| other.peer == source.peer;
        let full = self.queues.len() >= self.bounds.queues;
        let share = self.queues.keys().filter(|other| of_peer(other)).count() >= self.bounds.queues_per_peer;
        let oldest = self.queues.iter().filter(|(other, _)| !share || of_peer(other)).min_by_key(|(_, seen)| seen.used);
        if let Some((oldest, _)) = oldest.filter(|_| full || share) {
            let oldest = *oldest;
            let gone = self.queues.remove(&oldest);
            self.bytes -= gone.iter().flat_map(Seen::answers).map(|(_, place)| place.size).sum::<u64>();
        }
    }

    /// Whether most of a file of this length is dead.
    pub(crate) fn wants_rewrite(&self, length: u64) -> bool {
        mostly_dead(length, self.live())
    }

    /// The length at which a rewrite is tried again that has failed at this one.
    pub(crate) fn next_rewrite(&self, length: u64) -> u64 {
        next_rewrite(length, self.live())
    }

    fn live(&self) -> u64 {
        self.bytes + (self.queues.len() * size_of(NAME + MAP)) as u64
    }

    /// Everything that is remembered.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (&Source, &Seen)> {
        self.queues.iter()
    }

    /// The file was rewritten.
    pub(crate) fn moved(&mut self, source: Source, places: &[(u64, Place)]) {
        if let Some(seen) = self.queues.get_mut(&source) {
            seen.moved(places);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(peer: u8, queue: u8) -> Source {
        Source { peer: Some(PeerKey([peer; 32])), queue: LinkSessionId([queue; 16]) }
    }

    #[test]
    fn a_message_runs_once_at_a_time_and_once_at_all() {
        let mut table = Table::new(Bounds { queues: 4, queues_per_peer: 2 });
        let one = source(1, 1);
        assert_eq!(table.begin(one, 5), Begin::Run);
        assert_eq!(table.begin(one, 5), Begin::Wait);
        table.end(one, 5);
        assert_eq!(table.begin(one, 5), Begin::Run);
        table.settle(one, 5, Some(Place { offset: 1, size: 10 }));
        table.end(one, 5);
        assert_eq!(table.begin(one, 5), Begin::Settled);
        assert_eq!(table.answer(one, 5), Some(Place { offset: 1, size: 10 }));
        assert_eq!(table.begin(source(2, 1), 5), Begin::Run);
    }

    #[test]
    fn a_peer_with_many_queues_pushes_out_its_own() {
        let mut table = Table::new(Bounds { queues: 4, queues_per_peer: 2 });
        for queue in 1..=9 {
            table.settle(source(1, queue), 1, Some(Place { offset: 1, size: 10 }));
            table.settle(source(2, 1), u64::from(queue), None);
        }
        let kept: Vec<_> = table.queues().map(|(source, _)| *source).collect();
        assert_eq!(kept, [source(1, 8), source(1, 9), source(2, 1)]);
        assert_eq!(table.bytes, 20);
    }

    #[test]
    fn beyond_the_bound_the_queue_that_was_used_longest_ago_goes() {
        let mut table = Table::new(Bounds { queues: 3, queues_per_peer: 2 });
        for peer in [1, 2, 3, 1, 4] {
            table.settle(source(peer, 1), 1, None);
        }
        let kept: Vec<_> = table.queues().map(|(source, _)| source.peer.map(|key| key.0[0])).collect();
        assert_eq!(kept, [Some(1), Some(3), Some(4)]);
    }

    #[test]
    fn a_source_is_its_name_and_back() {
        let peer = source(1, 2);
        let stranger = Source { peer: None, ..peer };
        assert_eq!(Source::from_name(&peer.name()), Some(peer));
        assert_eq!(Source::from_name(&stranger.name()), Some(stranger));
        assert_eq!((Source::from_name(&[1; 20]), Source::from_name(&[1; 15])), (None, None));
    }
}
