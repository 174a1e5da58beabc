//! The places for transfers: how many a peer has, and all peers together, since each costs a thread and some megabytes.
//!
//! Whoever holds a place and moves hardly anything must not keep others out for ever. So when all places are taken, one is given
//! away: of a transfer that has moved too little in its last while, or else of the peer that has most of them, if whoever asks has
//! fewer. Nobody is sent away while there is room, however slow.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::error::FileError;
use crate::pump::{later, now};

/// Who a peer is for counting, and for telling part files apart: its key, or the session of a peer without one.
pub(super) type Who = Vec<u8>;

/// What there is room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) per_peer: usize,
    pub(super) in_all: usize,
    /// What a transfer must move so that it is not slow: so many bytes…
    pub(super) least: u64,
    /// …in this time.
    pub(super) within: Duration,
}

/// The places for transfers.
#[derive(Debug)]
pub(super) struct Seats {
    bounds: Bounds,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    taken: BTreeMap<u64, Taken>,
    last: u64,
}

/// A place that somebody has.
#[derive(Debug)]
struct Taken {
    who: Who,
    /// Bytes moved of those that are due next.
    moved: u64,
    /// When they are due.
    due: Instant,
    /// Told to go. It counts no more, and its thread is about to end.
    leaving: bool,
    notice: watch::Sender<bool>,
}

impl Table {
    fn staying(&self) -> impl Iterator<Item = (u64, &Taken)> {
        self.taken.iter().filter(|(_, taken)| !taken.leaving).map(|(number, taken)| (*number, taken))
    }

    fn held_by(&self, who: &Who) -> usize {
        self.staying().filter(|(_, taken)| taken.who == *who).count()
    }

    /// Whose place somebody gets who has `mine`: that of the slowest, or one of the peer with most.
    fn dispensable(&self, who: &Who, mine: usize, now: Instant) -> Option<u64> {
        let others = || self.staying().filter(|(_, taken)| taken.who != *who);
        let slowest = others().filter(|(_, taken)| taken.due <= now).min_by_key(|(_, taken)| taken.due);
        if let Some((number, _)) = slowest {
            return Some(number);
        }
        let mut held: BTreeMap<&Who, usize> = BTreeMap::new();
        others().for_each(|(_, taken)| *held.entry(&taken.who).or_default() += 1);
        let (richest, most) = held.into_iter().max_by_key(|(_, held)| *held)?;
        let theirs = others().filter(|(_, taken)| taken.who == *richest).min_by_key(|(_, taken)| taken.due);
        theirs.map(|(number, _)| number).filter(|_| most > mine + 1)
    }

    fn send_away(&mut self, number: u64) {
        if let Some(taken) = self.taken.get_mut(&number) {
            taken.leaving = true;
            taken.notice.send_replace(true);
        }
    }
}

impl Seats {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, table: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing that runs under the lock can panic half-way.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(self: &Arc<Self>, who: &Who, now: Instant) -> Result<Seat, FileError> {
        let mut table = self.lock();
        let mine = table.held_by(who);
        if mine >= self.bounds.per_peer {
            return Err(FileError::TooMany);
        }
        let staying = table.staying().count();
        if staying >= self.bounds.in_all {
            // Those that leave take their threads with them; until they have, there are no more than as many again.
            let leaving = table.taken.len() - staying;
            let other = table.dispensable(who, mine, now).filter(|_| leaving < self.bounds.in_all);
            table.send_away(other.ok_or(FileError::TooMany)?);
        }
        table.last += 1;
        let number = table.last;
        let (notice, noticed) = watch::channel(false);
        let taken = Taken { who: who.clone(), moved: 0, due: later(now, self.bounds.within), leaving: false, notice };
        table.taken.insert(number, taken);
        drop(table);
        Ok(Seat { seats: Arc::clone(self), number, noticed })
    }

    fn moved(&self, number: u64, bytes: u64, now: Instant) {
        if let Some(taken) = self.lock().taken.get_mut(&number) {
            taken.moved = taken.moved.saturating_add(bytes);
            if taken.moved >= self.bounds.least {
                (taken.moved, taken.due) = (0, later(now, self.bounds.within));
            }
        }
    }
}

/// One of the places, until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    noticed: watch::Receiver<bool>,
}

impl Seat {
    /// The transfer has moved so many bytes of its file.
    pub(super) fn moved(&self, bytes: u64) {
        self.seats.moved(self.number, bytes, now());
    }

    /// The transfer works at this end; that nothing moves meanwhile is not the peer's fault.
    pub(super) fn works(&self) {
        self.seats.moved(self.number, self.seats.bounds.least, now());
    }

    /// Whether the place is wanted back.
    pub(super) fn is_wanted_back(&self) -> bool {
        *self.noticed.borrow()
    }

    /// Comes to its end when the place is wanted back.
    pub(super) fn wanted_back(&self) -> impl Future<Output = FileError> + Send + use<> {
        let mut noticed = self.noticed.clone();
        async move {
            if noticed.wait_for(|wanted| *wanted).await.is_err() {
                // It has been given back meanwhile.
                std::future::pending::<()>().await;
            }
            FileError::Displaced
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::meter::Meter, *};

    const MINUTE: Duration = Duration::from_secs(60);

    fn seats(per_peer: usize, in_all: usize) -> Arc<Seats> {
        Arc::new(Seats::new(Bounds { per_peer, in_all, least: 1000, within: MINUTE }))
    }

    fn who(n: u8) -> Who {
        vec![n]
    }

    #[test]
    fn a_peer_gets_its_places_and_no_more_and_all_together_too() {
        let (seats, now) = (seats(2, 3), now());
        let first = seats.take(&who(1), now).expect("free");
        let _second = seats.take(&who(1), now).expect("free");
        assert_eq!(seats.take(&who(1), now).err(), Some(FileError::TooMany));
        let _third = seats.take(&who(2), now).expect("free");
        assert_eq!(seats.take(&who(2), now).err(), Some(FileError::TooMany), "nobody has more than one above it");
        drop(first);
        assert!(seats.take(&who(2), now).is_ok() && seats.lock().taken.len() == 2);
    }

    #[test]
    fn who_looks_on_at_a_transfer_does_not_hold_its_place() {
        let (seats, now) = (seats(1, 1), now());
        let seat = Arc::new(seats.take(&who(1), now).expect("free"));
        let meter = Meter::of(&seat);
        drop(seat);
        assert!(seats.take(&who(1), now).is_ok(), "the work is over");
        meter.moved(1);
    }

    #[test]
    fn who_has_few_places_gets_one_of_the_peer_that_has_most() {
        let (seats, now) = (seats(4, 6), now());
        let take = |n| seats.take(&who(n), now);
        let rich: Vec<_> = (0..4).map(|_| take(1).expect("free")).collect();
        let modest: Vec<_> = (0..2).map(|_| take(2).expect("free")).collect();
        let wanted_back = || rich.iter().chain(&modest).filter(|seat| seat.is_wanted_back()).count();
        let _third = take(3).expect("of the first peer");
        assert!(wanted_back() == 1 && modest.iter().all(|seat| !seat.is_wanted_back()));
        let _fourth = take(3).expect("of the first peer, which has three");
        assert_eq!(take(3).err(), Some(FileError::TooMany), "all have as many");
        assert_eq!(take(1).err(), Some(FileError::TooMany), "and nobody gets back what was given away");
        assert_eq!(wanted_back(), 2);
        // Before the threads of those have ended, there are not twice as many places.
        assert_eq!(seats.lock().taken.len(), 8);
    }

    #[test]
    fn the_place_of_a_transfer_that_hardly_moves_goes_to_another_and_one_that_moves_is_left_alone() {
        let (seats, start) = (seats(1, 2), now());
        let quick = seats.take(&who(1), start).expect("free");
        let slow = seats.take(&who(2), start).expect("free");
        assert_eq!(seats.take(&who(3), start + MINUTE / 2).err(), Some(FileError::TooMany), "both have time");
        seats.moved(quick.number, 1000, start + MINUTE / 2);
        seats.moved(slow.number, 999, start + MINUTE / 2);
        let third = seats.take(&who(3), start + MINUTE).expect("that of the slow one");
        assert!(slow.is_wanted_back() && !quick.is_wanted_back() && !third.is_wanted_back());
        assert_eq!(seats.take(&who(4), start + MINUTE).err(), Some(FileError::TooMany));
        drop(slow);
        assert_eq!(seats.take(&who(4), start + MINUTE).err(), Some(FileError::TooMany), "it has been given away");
    }

    #[test]
    fn a_crowd_that_is_sent_away_and_stays_does_not_make_more_places() {
        let (seats, start) = (seats(1, 4), now());
        let later = |n: u8| start + MINUTE * u32::from(n);
        let crowd: Vec<_> = (0..100).filter_map(|n| seats.take(&who(n), later(n)).ok()).collect();
        assert_eq!((crowd.len(), seats.lock().taken.len()), (8, 8));
    }
}
