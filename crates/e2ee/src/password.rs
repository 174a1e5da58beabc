//! The client's side of OPAQUE (RFC 9807): the server learns neither the password nor anything to guess it from quickly, and
//! both runs give the client the same export key, under which the account's root is wrapped.
//!
//! Configuration: Ristretto255 with SHA-512, 3DH, Argon2id. Passwords are prepared by the PRECIS profile OpaqueString
//! (RFC 8265, section 4), so the same password typed on two systems is the same password.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration, ClientRegistrationFinishParameters,
    CredentialResponse, Identifiers, RegistrationResponse, Ristretto255, TripleDh,
    errors::{InternalError, ProtocolError},
};
use parlour_wire::{Code, name::Name};
use precis_profiles::{OpaqueString, precis_core::profile::PrecisFastInvocation};
use rand::rngs::OsRng;
use sha2::Sha512;
use thiserror::Error;
use zeroize::Zeroizing;

/// The server's identity in OPAQUE's key exchange.
pub const SERVER_IDENTITY: &[u8] = b"parlour";
/// The context of OPAQUE's key exchange.
pub const LOGIN_CONTEXT: &[u8] = b"parlour login v1";
/// Longest password in bytes. Longer ones are refused rather than cut.
const LONGEST: usize = 1024;

/// Our OPAQUE configuration (RFC 9807, section 7). The server's crate has the same.
#[derive(Debug)]
pub struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = Argon2<'static>;
}

/// Why a password step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// Wrong password, or no such user: the protocol does not tell them apart.
    #[error("wrong password")]
    Wrong,
    /// Empty, too long, or with characters that cannot be in a password.
    #[error("this cannot be a password")]
    Unusable,
    /// The server's message is not one of OPAQUE.
    #[error("malformed answer of the server")]
    Malformed,
    /// The server wants a parameter set that this version does not know.
    #[error("unknown password parameters")]
    UnknownParameters,
    /// A failure that depends on no input.
    #[error("internal error")]
    Internal,
}

impl PasswordError {
    /// The row of the error table.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Wrong => Code::WRONG_PASSWORD,
            Self::Unusable => Code::USAGE,
            Self::Malformed => Code::BAD_FRAME,
            Self::UnknownParameters => Code::INCOMPATIBLE,
            Self::Internal => Code::INTERNAL,
        }
    }
}

impl From<ProtocolError> for PasswordError {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::InvalidLoginError => Self::Wrong,
            ProtocolError::LibraryError(InternalError::KsfError | InternalError::HkdfError | InternalError::HmacError) => {
                Self::Internal
            }
            _ => Self::Malformed,
        }
    }
}

/// A set of key stretching parameters, by its number on the wire (`login_parameters` of the server's information).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters(u32);

impl Parameters {
    /// Set 1: Argon2id, 64 MiB, 3 passes, 1 lane.
    pub const CURRENT: Self = Self(1);

    /// The set of that number.
    ///
    /// # Errors
    /// [`PasswordError::UnknownParameters`].
    pub const fn from_wire(number: u32) -> Result<Self, PasswordError> {
        match number {
            1 => Ok(Self(number)),
            _ => Err(PasswordError::UnknownParameters),
        }
    }

    fn stretching(self) -> Argon2<'static> {
        let params = Params::new(64 * 1024, 3, 1, None).expect("the constants of set 1 are in range");
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
    }
}

/// The key that only name and password together give. 64 bytes, wiped when dropped.
pub struct ExportKey(Zeroizing<[u8; 64]>);

impl ExportKey {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    fn copy(bytes: &[u8]) -> Result<Self, PasswordError> {
        let mut key = Zeroizing::new([0; 64]);
        if bytes.len() != key.len() {
            return Err(PasswordError::Internal);
        }
        key.copy_from_slice(bytes);
        Ok(Self(key))
    }
}

impl fmt::Debug for ExportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExportKey(…)")
    }
}

/// What both flows remember between their steps.
struct Started<S> {
    state: S,
    password: Zeroizing<Vec<u8>>,
    name: Name,
}

impl<S> fmt::Debug for Started<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("name", &self.name).finish_non_exhaustive()
    }
}

fn prepare(password: &str) -> Result<Zeroizing<Vec<u8>>, PasswordError> {
    if password.is_empty() || password.len() > LONGEST {
        return Err(PasswordError::Unusable);
    }
    let prepared = OpaqueString::enforce(password).map_err(|_| PasswordError::Unusable)?;
    Ok(Zeroizing::new(prepared.into_owned().into_bytes()))
}

fn identifiers(name: &Name) -> Identifiers<'_> {
    Identifiers { client: Some(name.as_str().as_bytes()), server: Some(SERVER_IDENTITY) }
}

/// A registration, or a change of password, between its two steps.
#[derive(Debug)]
pub struct Registration(Started<ClientRegistration<Suite>>);

/// What a registration gives.
#[derive(Debug)]
pub struct Registered {
    /// OPAQUE `RegistrationUpload`, for the server.
    pub upload: Vec<u8>,
    /// Wraps the root.
    pub export_key: ExportKey,
}

impl Registration {
    /// Begins; the bytes are the OPAQUE `RegistrationRequest`.
    ///
    /// # Errors
    /// [`PasswordError::Unusable`] for what cannot be a password.
    pub fn start(name: &Name, password: &str) -> Result<(Self, Vec<u8>), PasswordError> {
        let password = prepare(password)?;
        let started = ClientRegistration::<Suite>::start(&mut OsRng, &password)?;
        let request = started.message.serialize().to_vec();
        Ok((Self(Started { state: started.state, password, name: name.clone() }), request))
    }

    /// Ends with the server's `RegistrationResponse`. Takes as long as the key stretching does: about 0.2 s.
    ///
    /// # Errors
    /// [`PasswordError::Malformed`] if the answer is none.
    pub fn finish(self, response: &[u8], parameters: Parameters) -> Result<Registered, PasswordError> {
        let Started { state, password, name } = self.0;
        let response = RegistrationResponse::deserialize(response)?;
        let stretching = parameters.stretching();
        let finish = ClientRegistrationFinishParameters::new(identifiers(&name), Some(&stretching));
        let finished = state.finish(&mut OsRng, &password, response, finish)?;
        let export_key = ExportKey::copy(&Zeroizing::new(finished.export_key.to_vec()))?;
        Ok(Registered { upload: finished.message.serialize().to_vec(), export_key })
    }
}

/// A login between its two steps.
#[derive(Debug)]
pub struct Login(Started<ClientLogin<Suite>>);

/// What a login gives.
#[derive(Debug)]
pub struct LoggedIn {
    /// KE3, for the server.
    pub ke3: Vec<u8>,
    /// Unwraps the root.
    pub export_key: ExportKey,
}

impl Login {
    /// Begins; the bytes are KE1.
    ///
    /// # Errors
    /// [`PasswordError::Unusable`] for what cannot be a password.
    pub fn start(name: &Name, password: &str) -> Result<(Self, Vec<u8>), PasswordError> {
        let password = prepare(password)?;
        let started = ClientLogin::<Suite>::start(&mut OsRng, &password)?;
        let request = started.message.serialize().to_vec();
        Ok((Self(Started { state: started.state, password, name: name.clone() }), request))
    }

    /// Ends with the server's KE2. Takes as long as the key stretching does: about 0.2 s.
    ///
    /// # Errors
    /// [`PasswordError::Wrong`] if password or name are wrong, [`PasswordError::Malformed`] if the answer is none.
    pub fn finish(self, ke2: &[u8], parameters: Parameters) -> Result<LoggedIn, PasswordError> {
        let Started { state, password, name } = self.0;
        let response = CredentialResponse::deserialize(ke2)?;
        let stretching = parameters.stretching();
        let finish = ClientLoginFinishParameters::new(Some(LOGIN_CONTEXT), identifiers(&name), Some(&stretching));
        let finished = state.finish(&mut OsRng, &password, response, finish)?;
        let export_key = ExportKey::copy(&Zeroizing::new(finished.export_key.to_vec()))?;
        Ok(LoggedIn { ke3: finished.message.serialize().to_vec(), export_key })
    }
}
