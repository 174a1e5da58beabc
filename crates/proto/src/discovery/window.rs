//! Which numbers have been seen: the highest, and the 63 before it, as in RFC 4303, section 3.4.3.

/// A sliding window over sequence numbers from 1.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    highest: u64,
    /// Bit `n` is set if `highest - n` has been seen.
    seen: u64,
}

impl Window {
    /// The highest number seen.
    pub(super) const fn highest(self) -> u64 {
        self.highest
    }

    /// Whether a number may be taken: not seen, and not so old that nobody knows.
    pub(super) fn is_unseen(self, number: u64) -> bool {
        match self.highest.checked_sub(number) {
            None => true,
            Some(back) => back < 64 && self.seen & (1 << back) == 0,
        }
    }

    /// Notes that a number has been seen.
    pub(super) fn see(&mut self, number: u64) {
        match self.highest.checked_sub(number) {
            None => {
                let ahead = u32::try_from(number - self.highest).unwrap_or(u32::MAX);
                self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
                self.highest = number;
            }
            Some(back) if back < 64 => self.seen |= 1 << back,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_window_takes_no_number_twice_and_none_that_is_too_old(numbers in proptest::collection::vec(1u64..300, 0..400)) {
            let (mut window, mut seen) = (Window::default(), BTreeSet::new());
            for number in numbers {
                let highest = seen.last().copied().unwrap_or(0);
                prop_assert_eq!(window.is_unseen(number), !seen.contains(&number) && number + 64 > highest);
                window.see(number);
                seen.insert(number);
                prop_assert_eq!(window.highest(), highest.max(number));
            }
        }
    }

    #[test]
    fn the_last_number_there_can_be_is_taken_once() {
        let mut window = Window::default();
        window.see(1);
        window.see(u64::MAX);
        assert!(!window.is_unseen(u64::MAX) && !window.is_unseen(1) && window.is_unseen(u64::MAX - 1));
    }
}
