//! Who a program is to its peers: an Ed25519 key, the same on every carrier.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
};

use ed25519_dalek::{SigningKey, VerifyingKey};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

/// What a key file begins with, so that nobody takes a secret key for a public one. 64 hexadecimal digits and the end of the line
/// follow.
const FILE_TAG: &str = "PARLOUR-SECRET-KEY-1 ";
/// Size of a key file in bytes.
const FILE_SIZE: usize = FILE_TAG.len() + 65;

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

impl PeerKey {
    /// Whether a signature under this key proves anything: it is a point of the curve, and not one of the few for which everybody
    /// can make signatures.
    pub(crate) fn is_sound(&self) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| !key.is_weak())
    }
}

/// A text that is no peer key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a peer key is 64 hexadecimal digits")]
pub struct NotAKey;

impl FromStr for PeerKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        from_hex(text.as_bytes()).map(Self).ok_or(NotAKey)
    }
}

fn from_hex(digits: &[u8]) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

/// A set of peers that may change while links and listeners use it. Clones share it.
#[derive(Clone, Default)]
pub struct KeySet(Arc<RwLock<BTreeSet<PeerKey>>>);

impl KeySet {
    /// Whether the key is in the set.
    #[must_use]
    pub fn contains(&self, key: &PeerKey) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Puts a key in. `false` if it was there.
    pub fn insert(&self, key: PeerKey) -> bool {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key)
    }

    /// Takes a key out. `false` if it was not there. Who is connected stays so, and does not come back.
    pub fn remove(&self, key: &PeerKey) -> bool {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    /// The keys of this moment.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<PeerKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys()).finish()
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.keys() == other.keys()
    }
}

impl Eq for KeySet {}

impl FromIterator<PeerKey> for KeySet {
    fn from_iter<I: IntoIterator<Item = PeerKey>>(keys: I) -> Self {
        Self(Arc::new(RwLock::new(keys.into_iter().collect())))
    }
}

impl From<BTreeSet<PeerKey>> for KeySet {
    fn from(keys: BTreeSet<PeerKey>) -> Self {
        Self(Arc::new(RwLock::new(keys)))
    }
}

impl<const N: usize> From<[PeerKey; N]> for KeySet {
    fn from(keys: [PeerKey; N]) -> Self {
        keys.into_iter().collect()
    }
}

/// Why a key file gives no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file cannot be read or made.
    #[error("the key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file is not what [`Identity::load_or_create`] writes: cut short, or another kind of file. It is left as it is, because
    /// a fresh key in its place would be a stranger to every peer.
    #[error("the key file {path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read or write the file.
    #[error("the key file {path} is open to others (mode {mode:o}): its secret may be known. Make it 600, or remove it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
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
    pub fn generate() -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        let identity = Self::from_secret(&secret);
        secret.zeroize();
        Ok(identity)
    }

    /// The identity in a key file, which is made with a fresh one if it is not there: readable by its owner alone, complete or
    /// not there at all, and never written over. Several programs that make the same file at once all get the same identity.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        let failed = |source| IdentityError::Io { path: path.to_owned(), source };
        match File::open(path) {
            Ok(file) => Self::read(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path, &Self::generate().map_err(failed)?).map_err(failed)?;
                Self::read(File::open(path).map_err(failed)?, path)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn read(file: File, path: &Path) -> Result<Self, IdentityError> {
        let failed = |source| IdentityError::Io { path: path.to_owned(), source };
        let damaged = || IdentityError::Damaged { path: path.to_owned() };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(IdentityError::Exposed { path: path.to_owned(), mode });
            }
        }
        // Reserved at once: a buffer that grows leaves copies of the secret behind.
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_SIZE + 1));
        file.take(FILE_SIZE as u64 + 1).read_to_end(&mut text).map_err(failed)?;
        let digits = text.strip_prefix(FILE_TAG.as_bytes()).and_then(|rest| rest.strip_suffix(b"\n")).ok_or_else(damaged)?;
        let secret = Zeroizing::new(from_hex(digits).ok_or_else(damaged)?);
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

/// Writes a key file under a name of its own and gives it the right name at the end, unless that is taken by then.
fn create(path: &Path, identity: &Identity) -> io::Result<()> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let part = path.with_file_name(format!(".{name}.{:016x}.part", u64::from_ne_bytes(random)));
    let written = write(&part, identity).and_then(|()| std::fs::hard_link(&part, path));
    let removed = std::fs::remove_file(&part);
    match written {
        // Another program was faster; its identity is the one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => removed,
        written => written.and(removed),
    }?;
    // Without it the name might not outlast a power cut, and the next start would make another identity.
    #[cfg(unix)]
    match path.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all()?,
        _ => File::open(".")?.sync_all()?,
    }
    Ok(())
}

fn write(path: &Path, identity: &Identity) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_SIZE));
    text.extend_from_slice(FILE_TAG.as_bytes());
    for byte in identity.secret.as_bytes() {
        text.extend([byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]));
    }
    text.push(b'\n');
    file.write_all(&text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_made_once_and_read_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let identity = Identity::load_or_create(&path).unwrap();
        assert_eq!(Identity::load_or_create(&path).unwrap().key(), identity.key());
        assert_ne!(Identity::load_or_create(folder.path().join("other")).unwrap().key(), identity.key());
        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["key", "other"], "nothing else is left");
        assert_eq!(std::fs::read(&path).unwrap().len(), FILE_SIZE);
    }

    #[test]
    fn programs_that_make_a_key_file_at_once_get_the_same_identity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let keys: Vec<PeerKey> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| Identity::load_or_create(&path).unwrap().key())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        Identity::load_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for open in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(open)).unwrap();
            assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Exposed { mode, .. }) if mode == open));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        Identity::load_or_create(&path).unwrap();
    }

    #[test]
    fn a_damaged_key_file_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        Identity::load_or_create(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let mut long = whole.clone();
        long.push(b'\n');
        let mut letters = whole.clone();
        letters[40] = b'g';
        for damaged in [&whole[..FILE_SIZE - 1], &whole[..40], b"", &whole[FILE_TAG.len()..], &long, &letters] {
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Damaged { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), damaged);
        }
        let nowhere = folder.path().join("no").join("key");
        assert!(matches!(Identity::load_or_create(nowhere), Err(IdentityError::Io { .. })));
        assert!(matches!(Identity::load_or_create(folder.path()), Err(IdentityError::Exposed { .. } | IdentityError::Io { .. })));
    }

    #[test]
    fn keys_survive_their_text_and_nothing_else_is_a_key() {
        let key = Identity::from_secret(&[7; 32]).key();
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.to_string().to_uppercase().parse(), Ok(key));
        let text = key.to_string();
        for wrong in ["", &text[1..], &format!("{text}0"), &format!("+{}", &text[1..]), &format!("ä{}", &text[2..])] {
            assert_eq!(wrong.parse::<PeerKey>(), Err(NotAKey), "{wrong}");
        }
    }

    #[test]
    fn a_key_that_belongs_to_everybody_is_not_sound() {
        assert!(Identity::from_secret(&[1; 32]).key().is_sound());
        let mut one = [0; 32];
        one[0] = 1;
        // The neutral element, a point of order four, and no point at all.
        for key in [one, [0; 32], [2; 32]] {
            assert!(!PeerKey(key).is_sound(), "{key:?}");
        }
    }

    #[test]
    fn a_set_of_keys_is_shared_by_its_clones() {
        let [first, second] = [1, 2].map(|seed| Identity::from_secret(&[seed; 32]).key());
        let set = KeySet::from([first]);
        let clone = set.clone();
        assert!(clone.insert(second) && !set.insert(second));
        assert!(set.contains(&second));
        assert!(set.remove(&first) && !clone.contains(&first));
        assert_eq!(clone, KeySet::from([second]));
    }
}
