//! The secret of a fleet: how a station and its agents prove to each other that they belong together, without knowing each
//! other's keys beforehand.
//!
//! After a session has begun the agent sends a proof and gets one back. Each is a keyed BLAKE3 hash, which only who knows the
//! secret can make, over the role, both keys as this end has seen them in the handshake, the session's challenge and a nonce of the
//! agent. Whoever stands between the two shows other keys, so a proof that is passed on fits nowhere.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use minicbor::{Decode, Encode};
use parlour_wire::{Code, frame::ContentType, header::Fault};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::identity::PeerKey;

/// Name of the request with the agent's proof, and the capability by which an agent announces it.
pub(crate) const FLEET: &str = "parlour.fleet";

/// Largest file of a secret, in bytes: the digits, and a few ends of lines.
const FILE_SIZE: usize = 80;

/// Why a file gives no secret.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("the secret's file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file does not hold 64 hexadecimal digits.
    #[error("the secret's file {path} does not hold 64 hexadecimal digits")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read or write the file.
    #[error("the secret's file {path} is open to others (mode {mode:o})")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// What all members of a fleet know and nobody else does: 32 random bytes. It is wiped from memory when it is dropped.
///
/// There is no way from a passphrase to a secret: who hears a proof could try passphrases. Make a secret once
/// (`openssl rand -hex 32`), and bring the file to every member.
///
/// ```no_run
/// # fn example(mut config: parlour_net::AgentConfig) -> Result<(), Box<dyn std::error::Error>> {
/// use parlour_net::FleetSecret;
///
/// config.fleet = Some(FleetSecret::load("/etc/rover/fleet.secret")?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FleetSecret {
    /// Derived, so that the secret itself is in no hash that leaves the program.
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for FleetSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetSecret")
    }
}

impl FleetSecret {
    /// The secret with these bytes, which must come from a source of random numbers.
    #[must_use]
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self { key: Zeroizing::new(blake3::derive_key("parlour 2026-07 fleet proof", secret)) }
    }

    /// The secret in a file of 64 hexadecimal digits that only its owner may read. Blocks on the disk.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, SecretError> {
        let path = path.as_ref();
        let failed = |source| SecretError::Io { path: path.to_owned(), source };
        let damaged = || SecretError::Damaged { path: path.to_owned() };
        let file = File::open(path).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(SecretError::Exposed { path: path.to_owned(), mode });
            }
        }
        // Reserved at once: a buffer that grows leaves copies of the secret behind.
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_SIZE + 1));
        file.take(FILE_SIZE as u64 + 1).read_to_end(&mut text).map_err(failed)?;
        let text = std::str::from_utf8(&text).ok().filter(|text| text.len() <= FILE_SIZE).ok_or_else(damaged)?;
        // A peer key is written in the same way.
        let mut secret = text.trim_end().parse::<PeerKey>().map_err(|_| damaged())?.0;
        let loaded = Self::from_bytes(&secret);
        secret.zeroize();
        Ok(loaded)
    }

    fn proof(&self, role: Role, scene: &Scene, nonce: &[u8; 32]) -> blake3::Hash {
        let mut hash = blake3::Hasher::new_keyed(&self.key);
        hash.update(&[role as u8, u8::from(scene.agent.is_some())]);
        hash.update(&scene.agent.map_or([0; 32], |key| key.0));
        hash.update(&scene.station.0);
        hash.update(&scene.challenge);
        hash.update(nonce);
        hash.finalize()
    }
}

/// Whose proof it is.
#[derive(Clone, Copy)]
enum Role {
    Agent = 1,
    Station = 2,
}

/// What both proofs are about, as one end sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    /// The key that the agent has proven, if it has one.
    pub(crate) agent: Option<PeerKey>,
    pub(crate) station: PeerKey,
    pub(crate) challenge: [u8; 32],
}

#[derive(Debug, Encode, Decode)]
struct Opening {
    #[cbor(n(0), with = "minicbor::bytes")]
    nonce: [u8; 32],
    #[cbor(n(1), with = "minicbor::bytes")]
    proof: [u8; 32],
}

#[derive(Debug, Encode, Decode)]
struct Reply {
    #[cbor(n(0), with = "minicbor::bytes")]
    proof: [u8; 32],
}

/// An agent's proof, and what it takes to judge the station's.
pub(crate) struct Proof {
    pub(crate) content: Bytes,
    expected: blake3::Hash,
}

impl Proof {
    /// The proof of an agent.
    pub(crate) fn new(secret: &FleetSecret, scene: &Scene) -> io::Result<Self> {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self::with_nonce(secret, scene, nonce))
    }

    pub(super) fn with_nonce(secret: &FleetSecret, scene: &Scene, nonce: [u8; 32]) -> Self {
        let proof = secret.proof(Role::Agent, scene, &nonce).into();
        let content = parlour_wire::encode(&Opening { nonce, proof }).into();
        Self { content, expected: secret.proof(Role::Station, scene, &nonce) }
    }

    /// Whether this answer of the station proves that it knows the secret.
    pub(crate) fn is_met(&self, answer: &[u8]) -> bool {
        // Hashes compare in constant time.
        parlour_wire::decode::<Reply>(answer).is_ok_and(|reply| self.expected == blake3::Hash::from(reply.proof))
    }
}

/// Judges an agent's proof, and answers a good one with the station's.
pub(crate) fn judge(secret: &FleetSecret, scene: &Scene, content: &[u8]) -> Result<(ContentType, Bytes), Fault> {
    let opening: Opening =
        parlour_wire::decode(content).map_err(|error| Fault::new(Code::BAD_REQUEST, format!("not a proof: {error}")))?;
    if secret.proof(Role::Agent, scene, &opening.nonce) != blake3::Hash::from(opening.proof) {
        return Err(Fault::new(Code::FORBIDDEN, "the fleet's secret is another one"));
    }
    let proof = secret.proof(Role::Station, scene, &opening.nonce).into();
    Ok((ContentType::CBOR, parlour_wire::encode(&Reply { proof }).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Scene {
        Scene { agent: Some(PeerKey([1; 32])), station: PeerKey([2; 32]), challenge: [3; 32] }
    }

    #[test]
    fn who_knows_the_secret_proves_it_both_ways() {
        let secret = FleetSecret::from_bytes(&[7; 32]);
        let proof = Proof::new(&secret, &scene()).unwrap();
        let (_, answer) = judge(&secret, &scene(), &proof.content).unwrap();
        assert!(proof.is_met(&answer));
    }

    #[test]
    fn a_proof_fits_one_secret_one_pair_of_keys_and_one_session() {
        let secret = FleetSecret::from_bytes(&[7; 32]);
        let proof = Proof::new(&secret, &scene()).unwrap();
        let code = |secret: &FleetSecret, scene: Scene| judge(secret, &scene, &proof.content).map_err(|fault| fault.code);
        assert_eq!(code(&FleetSecret::from_bytes(&[8; 32]), scene()), Err(Code::FORBIDDEN));
        for other in [
            Scene { agent: None, ..scene() },
            Scene { agent: Some(PeerKey([9; 32])), ..scene() },
            Scene { station: PeerKey([9; 32]), ..scene() },
            Scene { challenge: [9; 32], ..scene() },
        ] {
            assert_eq!(code(&secret, other), Err(Code::FORBIDDEN), "{other:?}");
        }
    }

    #[test]
    fn an_agents_proof_is_not_a_stations() {
        let secret = FleetSecret::from_bytes(&[7; 32]);
        let proof = Proof::new(&secret, &scene()).unwrap();
        let opening: Opening = parlour_wire::decode(&proof.content).unwrap();
        let echoed = parlour_wire::encode(&Reply { proof: opening.proof });
        assert!(!proof.is_met(&echoed));
        assert!(!proof.is_met(&[]));
        assert_eq!(judge(&secret, &scene(), &[0x80]).map_err(|fault| fault.code), Err(Code::BAD_REQUEST));
    }

    #[test]
    fn no_bit_of_a_proof_can_be_turned() {
        let secret = FleetSecret::from_bytes(&[7; 32]);
        let proof = Proof::new(&secret, &scene()).unwrap();
        let (_, answer) = judge(&secret, &scene(), &proof.content).unwrap();
        let turned = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        for bit in 0..8 * proof.content.len() {
            assert!(judge(&secret, &scene(), &turned(&proof.content, bit)).is_err(), "bit {bit}");
        }
        for bit in 0..8 * answer.len() {
            assert!(!proof.is_met(&turned(&answer, bit)), "bit {bit}");
        }
        for cut in 0..proof.content.len() {
            assert!(judge(&secret, &scene(), &proof.content[..cut]).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn a_secrets_file_is_for_its_owner_and_holds_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            #[cfg(unix)]
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        assert!(matches!(FleetSecret::load(&path), Err(SecretError::Io { .. })));
        write(&format!("{}\n", "07".repeat(32)), 0o600);
        let loaded = FleetSecret::load(&path).unwrap();
        assert_eq!(loaded.key, FleetSecret::from_bytes(&[7; 32]).key);
        write("correct horse battery staple", 0o600);
        assert!(matches!(FleetSecret::load(&path), Err(SecretError::Damaged { .. })));
        write(&format!("{}{}", "07".repeat(32), "\n".repeat(100_000)), 0o600);
        assert!(matches!(FleetSecret::load(&path), Err(SecretError::Damaged { .. })));
        #[cfg(unix)]
        {
            write(&"07".repeat(32), 0o640);
            assert!(matches!(FleetSecret::load(&path), Err(SecretError::Exposed { mode: 0o640, .. })));
        }
    }
}
