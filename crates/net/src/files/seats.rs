//! How many transfers a peer has under way, and all peers together: each costs a thread and some megabytes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::error::FileError;

/// Who a peer is for counting, and for telling part files apart: its key, or the session of a peer without one.
pub(super) type Who = Vec<u8>;

/// The places for transfers.
#[derive(Debug)]
pub(super) struct Seats {
    per_peer: usize,
    in_all: usize,
    taken: Mutex<BTreeMap<Who, usize>>,
}

impl Seats {
    pub(super) fn new(per_peer: usize, in_all: usize) -> Self {
        Self { per_peer, in_all, taken: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Who, usize>> {
        // Nothing that runs under the lock can panic half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(self: &Arc<Self>, who: &Who) -> Result<Seat, FileError> {
        let mut taken = self.lock();
        let mine = taken.get(who).copied().unwrap_or(0);
        if mine >= self.per_peer || taken.values().sum::<usize>() >= self.in_all {
            return Err(FileError::TooMany);
        }
        taken.insert(who.clone(), mine + 1);
        Ok(Seat { seats: Arc::clone(self), who: who.clone() })
    }
}

/// One of the places.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    who: Who,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(mine) = taken.get_mut(&self.who) {
            *mine -= 1;
            if *mine == 0 {
                taken.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_gets_its_places_and_no_more_and_all_together_too() {
        let seats = Arc::new(Seats::new(2, 3));
        let [a, b] = [vec![1], vec![2]];
        let first = seats.take(&a).expect("free");
        let _second = seats.take(&a).expect("free");
        assert_eq!(seats.take(&a).err(), Some(FileError::TooMany));
        let _third = seats.take(&b).expect("free");
        assert_eq!(seats.take(&b).err(), Some(FileError::TooMany));
        drop(first);
        assert!(seats.take(&b).is_ok() && seats.lock().len() == 2);
    }
}
