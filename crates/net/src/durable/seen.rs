//! What a receiver remembers of one queue: which of its last numbers have taken effect, and the latest answers.
//!
//! A queue never has numbers under way that are [`SPAN`] or more apart, and at most [`WINDOW`] of them. So a receiver that has
//! seen a number can forget everything that is `SPAN` below it, and it needs no more than the last `WINDOW` answers: whoever
//! settled later than that has been told.

use std::collections::VecDeque;

use super::{SPAN, WINDOW, log::Place};

/// Bytes of the map of numbers.
pub(crate) const MAP: usize = SPAN as usize / 8;

/// What is known of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It has not been here.
    Fresh,
    /// It has taken effect; its answer stands there, if it is kept.
    Settled(Option<Place>),
    /// So far below others that the queue cannot be waiting for it.
    Past,
}

/// The memory of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    highest: u64,
    /// One bit for each of the numbers from `highest` down, at the place of the number modulo [`SPAN`].
    map: [u8; MAP],
    answers: VecDeque<(u64, Place)>,
    /// When it was last used, in uses.
    pub(crate) used: u64,
}

impl Default for Seen {
    fn default() -> Self {
        Self { highest: 0, map: [0; MAP], answers: VecDeque::new(), used: 0 }
    }
}

impl Seen {
    /// As it was written with [`Seen::map`].
    pub(crate) fn restored(highest: u64, map: [u8; MAP], used: u64) -> Self {
        Self { highest, map, answers: VecDeque::new(), used }
    }

    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    pub(crate) fn map(&self) -> &[u8; MAP] {
        &self.map
    }

    /// The answers that are kept.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (u64, Place)> {
        self.answers.iter().copied()
    }

    pub(crate) fn known(&self, number: u64) -> Known {
        if number > self.highest {
            return Known::Fresh;
        }
        if self.highest - number >= SPAN {
            return Known::Past;
        }
        let (byte, bit) = slot(number);
        if self.map[byte] & bit == 0 {
            return Known::Fresh;
        }
        Known::Settled(self.answers.iter().find(|(kept, _)| *kept == number).map(|(_, place)| *place))
    }

    /// A number has taken effect. Gives what is dead in the file for it: the place of an answer that is forgotten.
    pub(crate) fn settle(&mut self, number: u64, answer: Option<Place>) -> Option<Place> {
        if number > self.highest {
            let passed = (number - self.highest).min(SPAN);
            for skipped in 0..passed {
                let (byte, bit) = slot(number - skipped);
                self.map[byte] &= !bit;
            }
            self.highest = number;
        }
        if self.highest - number < SPAN {
            let (byte, bit) = slot(number);
            self.map[byte] |= bit;
        }
        self.answers.push_back((number, answer?));
        if self.answers.len() > WINDOW { self.answers.pop_front().map(|(_, place)| place) } else { None }
    }

    /// The file was rewritten: where the answers stand.
    pub(crate) fn moved(&mut self, places: &[(u64, Place)]) {
        for (number, place) in &mut self.answers {
            if let Some((_, moved)) = places.iter().find(|(kept, _)| kept == number) {
                *place = *moved;
            }
        }
    }
}

fn slot(number: u64) -> (usize, u8) {
    let index = usize::try_from(number % SPAN).expect("below the span");
    (index / 8, 1 << (index % 8))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const PLACE: Place = Place { offset: 1, size: 2 };

    #[test]
    fn a_number_is_fresh_until_it_settles_and_past_when_others_are_far_above() {
        let mut seen = Seen::default();
        assert_eq!(seen.known(1), Known::Fresh);
        seen.settle(1, Some(PLACE));
        assert_eq!((seen.known(1), seen.known(2)), (Known::Settled(Some(PLACE)), Known::Fresh));
        seen.settle(SPAN, None);
        assert_eq!((seen.known(1), seen.known(2)), (Known::Settled(Some(PLACE)), Known::Fresh));
        seen.settle(SPAN + 1, None);
        assert_eq!((seen.known(1), seen.known(2)), (Known::Past, Known::Fresh));
        seen.settle(u64::MAX, None);
        assert_eq!((seen.known(SPAN + 1), seen.known(u64::MAX)), (Known::Past, Known::Settled(None)));
    }

    #[test]
    fn the_last_answers_are_kept() {
        let mut seen = Seen::default();
        for number in 1..=WINDOW as u64 {
            assert_eq!(seen.settle(number, Some(Place { offset: number, size: 1 })), None);
        }
        assert_eq!(seen.settle(100, Some(PLACE)), Some(Place { offset: 1, size: 1 }));
        assert_eq!((seen.known(1), seen.known(100)), (Known::Settled(None), Known::Settled(Some(PLACE))));
    }

    proptest! {
        #[test]
        fn it_knows_what_a_set_of_all_numbers_knows(steps in prop::collection::vec((0_u64..3 * SPAN, any::<bool>()), 1..400)) {
            let (mut seen, mut all) = (Seen::default(), BTreeSet::new());
            for (number, settle) in steps {
                let number = number + 1;
                let highest = all.last().copied().unwrap_or(0);
                let expected = match number {
                    number if number > highest => Known::Fresh,
                    number if highest - number >= SPAN => Known::Past,
                    number if all.contains(&number) => Known::Settled(None),
                    _ => Known::Fresh,
                };
                prop_assert_eq!(seen.known(number), expected);
                if settle && expected == Known::Fresh {
                    seen.settle(number, None);
                    all.insert(number);
                }
                let back = Seen::restored(seen.highest(), *seen.map(), 0);
                prop_assert_eq!(back.known(number), seen.known(number));
            }
        }
    }
}
