//! Who a program is to its peers: an Ed25519 key, the same on every carrier.

use std::{fmt, str::FromStr};

use ed25519_dalek::SigningKey;
use thiserror::Error;

/// The public key of a peer: its name on the network, proven in the handshake of every connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub [u8; 32]);

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({self})")
    }
}

/// A text that is no peer key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a peer key is 64 hexadecimal digits")]
pub struct NotAKey;

impl FromStr for PeerKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let mut key = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(NotAKey);
        }
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotAKey)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAKey)?;
        }
        Ok(Self(key))
    }
}

/// The secret key of this program. It is wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Identity {
    secret: SigningKey,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("key", &self.key()).finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity with this secret (an Ed25519 seed, RFC 8032).
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self { secret: SigningKey::from_bytes(secret) }
    }

    /// A fresh identity.
    ///
    /// # Errors
    /// What the operating system says if it has no random numbers.
    pub fn generate() -> std::io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self::from_secret(&secret))
    }

    /// The public key.
    #[must_use]
    pub fn key(&self) -> PeerKey {
        PeerKey(self.secret.verifying_key().to_bytes())
    }

    pub(crate) fn signing_key(&self) -> &SigningKey {
        &self.secret
    }
}
