//! Random-looking draws from a seed: nonces that nobody guesses, and jitter.

use std::time::Duration;

/// A keyed hash of a counter: the draws are as good as the seed is secret, and a seed replays them.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    seed: [u8; 32],
    drawn: u64,
}

impl Dice {
    pub(super) const fn new(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// Fresh bytes.
    pub(super) fn draw<const N: usize>(&mut self) -> [u8; N] {
        self.drawn += 1;
        let mut bytes = [0; N];
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(&self.drawn.to_le_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    /// A number below `end`, or 0 if that is 0.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        // The product of 32 random bits with `end`: even enough for lots.
        let random = u64::from(u32::from_le_bytes(self.draw()));
        u32::try_from((random * u64::from(end)) >> 32).expect("below a u32")
    }

    /// `whole` less a random part of up to a quarter, so that many who were started at once do not speak at once.
    pub(super) fn shorten(&mut self, whole: Duration) -> Duration {
        let random = u16::from_le_bytes(self.draw());
        whole - whole.mul_f64(f64::from(random) / f64::from(u16::MAX) / 4.0)
    }
}
