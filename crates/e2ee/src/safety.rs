//! The safety number: 60 digits from both account keys, the same on both sides and as long as neither key changes. Two people
//! who compare it over another channel know that nobody sits between them.

use std::fmt;

use sha2::{Digest, Sha512};

/// How often the hash is iterated: makes a search for a key with a similar number dear, as in Signal's fingerprints.
const ROUNDS: u32 = 5200;
const VERSION: &[u8] = b"parlour safety number v1\0";
/// Digits that each account contributes.
const HALF: usize = 30;

/// 60 digits. Shown in twelve groups of five.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetyNumber(String);

impl SafetyNumber {
    /// The digits without spaces.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, digit) in self.0.chars().enumerate() {
            if i > 0 && i % 5 == 0 {
                f.write_str(" ")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

fn half(account_key: &[u8; 32]) -> String {
    let mut hash = Sha512::new().chain_update(VERSION).chain_update(account_key).finalize();
    for _ in 1..ROUNDS {
        hash = Sha512::new().chain_update(hash).chain_update(account_key).finalize();
    }
    hash[..HALF]
        .chunks_exact(5)
        .map(|chunk| {
            let value = chunk.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
            format!("{:05}", value % 100_000)
        })
        .collect()
}

/// The number of two accounts, by their public keys, in any order.
#[must_use]
pub fn safety_number(a: &[u8; 32], b: &[u8; 32]) -> SafetyNumber {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    SafetyNumber(half(low) + &half(high))
}
