//! The key of the local database: 32 random bytes in a file beside it, either wrapped under a passphrase or plain with mode
//! 0600.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use parlour_wire::Code;
use zeroize::Zeroizing;

use crate::error::Error;

const FILE: &str = "key";
/// The database that the key is for.
pub(crate) const DATABASE: &str = "parlour.db";
/// Bound into the wrapping, so that a box from elsewhere is not taken for a key.
const CONTEXT: &[u8] = b"parlour profile key v1";
/// RFC 9106, section 4, second recommended option: 64 MiB, three passes; one lane, because the implementation is single-threaded.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// More than any profile is made with. Bounds what a damaged file can make us allocate.
const MEMORY_KIB_MAX: u32 = 2 * 1024 * 1024;
const PASSES_MAX: u32 = 16;
/// A key file is about 150 bytes.
const FILE_MAX: u64 = 4096;

/// What opens a profile's database.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A passphrase; the key file is worthless without it.
    Passphrase(Zeroizing<String>),
    /// The key file alone, protected only by its mode. Warn the user when a profile is made this way.
    File,
}

/// How a profile's key is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Wrapped under a passphrase (Argon2id, 64 MiB).
    Passphrase,
    /// Only by the mode of the key file.
    FileMode,
}

impl Protection {
    /// How the profile in `home` is protected; `None` if there is no profile. For a program that has to decide whether to ask
    /// for a passphrase.
    ///
    /// # Errors
    /// `read_only`; `profile_damaged` for a file that is none of this program's.
    pub fn of(home: &Path) -> Result<Option<Self>, Error> {
        Ok(read(home)?.map(|file| if file.wrapping.is_some() { Self::Passphrase } else { Self::FileMode }))
    }
}

#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct KeyFile {
    /// Absent for a plain key.
    #[n(0)]
    wrapping: Option<Wrapping>,
    /// The key, or nonce and box.
    #[cbor(n(1), with = "minicbor::bytes")]
    key: Secret,
}

/// Bytes that are wiped; `Zeroizing` itself has no CBOR.
#[derive(Clone)]
struct Secret(Zeroizing<Vec<u8>>);

impl<C> minicbor::bytes::EncodeBytes<C> for Secret {
    fn encode_bytes<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::bytes::DecodeBytes<'b, C> for Secret {
    fn decode_bytes(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.bytes().map(|bytes| Self(Zeroizing::new(bytes.to_vec())))
    }
}

#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Wrapping {
    #[cbor(n(0), with = "minicbor::bytes")]
    salt: [u8; 16],
    #[n(1)]
    memory_kib: u32,
    #[n(2)]
    passes: u32,
}

/// The key of the profile in `home`; makes it if there is none and `create`.
pub(crate) fn open(home: &Path, source: &KeySource, create: bool) -> Result<Zeroizing<[u8; 32]>, Error> {
    match read(home)? {
        Some(file) => unlock(&file, source),
        // With another key nothing of it could be read, and the file might be found again.
        None if home.join(DATABASE).exists() => Err(damaged(&format!("{} has no file `{FILE}`", home.display()))),
        None if create => make(home, source),
        None => Err(Error::new(Code::PROFILE_NOT_FOUND, format!("there is no profile in {}", home.display()))
            .hint("make one with `register` or `login`, or name another folder with --home")),
    }
}

fn read(home: &Path) -> Result<Option<KeyFile>, Error> {
    let path = home.join(FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", &path, &error)),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_MAX).read_to_end(&mut bytes).map_err(|error| Error::io("read", &path, &error))?;
    parlour_wire::decode(&bytes).map(Some).map_err(|_| damaged(&format!("{} is damaged", path.display())))
}

fn damaged(how: &str) -> Error {
    Error::new(Code::PROFILE_DAMAGED, format!("the profile's key, without which nobody can read it, is lost: {how}"))
        .hint("put the file back from a copy of the profile's folder, or log in anew with another --home")
}

fn unlock(file: &KeyFile, source: &KeySource) -> Result<Zeroizing<[u8; 32]>, Error> {
    let key = match (&file.wrapping, source) {
        (None, _) => file.key.0.clone(),
        (Some(_), KeySource::File) => {
            return Err(Error::new(Code::WRONG_PASSPHRASE, "the profile is protected by a passphrase, and none was given"));
        }
        (Some(wrapping), KeySource::Passphrase(passphrase)) => {
            let (nonce, sealed) = file.key.0.split_at_checked(24).ok_or_else(|| damaged("its key file is damaged"))?;
            let payload = Payload { msg: sealed, aad: CONTEXT };
            let opened = wrapping_cipher(passphrase, wrapping)?.decrypt(XNonce::from_slice(nonce), payload);
            Zeroizing::new(opened.map_err(|_| Error::new(Code::WRONG_PASSPHRASE, "wrong passphrase for this profile"))?)
        }
    };
    let mut out = Zeroizing::new([0; 32]);
    if key.len() != out.len() {
        return Err(damaged("its key file is damaged"));
    }
    out.copy_from_slice(&key);
    Ok(out)
}

fn make(home: &Path, source: &KeySource) -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut key = Zeroizing::new([0; 32]);
    random(&mut *key)?;
    let file = match source {
        KeySource::File => KeyFile { wrapping: None, key: Secret(Zeroizing::new(key.to_vec())) },
        KeySource::Passphrase(passphrase) => {
            let mut wrapping = Wrapping { salt: [0; 16], memory_kib: MEMORY_KIB, passes: PASSES };
            random(&mut wrapping.salt)?;
            let mut sealed = vec![0; 24];
            random(&mut sealed)?;
            let payload = Payload { msg: key.as_slice(), aad: CONTEXT };
            let boxed = wrapping_cipher(passphrase, &wrapping)?.encrypt(XNonce::from_slice(&sealed), payload);
            sealed.extend(boxed.map_err(|_| Error::internal("the key could not be wrapped"))?);
            KeyFile { wrapping: Some(wrapping), key: Secret(Zeroizing::new(sealed)) }
        }
    };
    write(home, &Zeroizing::new(parlour_wire::encode(&file)))?;
    Ok(key)
}

/// Writes beside the target and renames, so that a crash leaves no half a key.
fn write(home: &Path, bytes: &[u8]) -> Result<(), Error> {
    let (part, path) = (home.join("key.part"), home.join(FILE));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        File::open(home)?.sync_all()
    };
    write().map_err(|error| Error::io("write", &path, &error))
}

fn wrapping_cipher(passphrase: &str, wrapping: &Wrapping) -> Result<XChaCha20Poly1305, Error> {
    if wrapping.memory_kib > MEMORY_KIB_MAX || wrapping.passes > PASSES_MAX {
        return Err(damaged("its key file asks for more memory than any profile needs"));
    }
    let params = Params::new(wrapping.memory_kib, wrapping.passes, 1, Some(32)).map_err(Error::internal)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), &wrapping.salt, &mut *key)
        .map_err(Error::internal)?;
    Ok(XChaCha20Poly1305::new((&*key).into()))
}

pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|error| Error::internal(format!("the system gives no random numbers: {error}")))
}
