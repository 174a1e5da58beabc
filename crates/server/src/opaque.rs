//! The server's side of OPAQUE (RFC 9807, configuration 1: Ristretto255, 3DH, SHA-512). The client stretches the password;
//! here no key stretching happens.

use opaque_ke::{
    CipherSuite, CredentialFinalization, CredentialRequest, Identifiers, RegistrationRequest, RegistrationUpload, Ristretto255,
    ServerLogin, ServerLoginParameters, ServerRegistration, ServerSetup, TripleDh, ksf::Identity,
};
use rand::{CryptoRng, RngCore};
use sha2::Sha512;
use zeroize::Zeroizing;

/// Which parameters of the password's key stretching are in force: 1 is Argon2id, 64 MiB, t=3, p=1.
pub(crate) const LOGIN_PARAMETERS: u32 = 1;
const SERVER: &[u8] = b"parlour";
const CONTEXT: &[u8] = b"parlour login v1";

struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = Identity;
}

/// What a record is for. Each has an OPRF key of its own, so that a recovery code tried as a password tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Password,
    Recovery,
}

impl Purpose {
    pub(crate) const fn of(recovery: bool) -> Self {
        if recovery { Self::Recovery } else { Self::Password }
    }

    /// Under which the OPRF key of a name is derived. Zero bytes occur in no name.
    fn credential(self, name: &[u8]) -> Vec<u8> {
        match self {
            Self::Password => name.to_vec(),
            Self::Recovery => [name, b"\0recovery"].concat(),
        }
    }
}

/// The message, or the password behind it, is not good. The two are not told apart here.
#[derive(Debug)]
pub(crate) struct Refused;

/// The state of a login between its two steps; wiped when dropped.
pub(crate) struct LoginState(Zeroizing<Vec<u8>>);

/// The server's OPAQUE keys.
pub(crate) struct Opaque(ServerSetup<Suite>);

fn parameters(name: &[u8]) -> ServerLoginParameters<'static, '_> {
    ServerLoginParameters { context: Some(CONTEXT), identifiers: Identifiers { client: Some(name), server: Some(SERVER) } }
}

impl Opaque {
    pub(crate) fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        Self(ServerSetup::new(rng))
    }

    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize().to_vec())
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let setup = ServerSetup::deserialize(bytes).ok()?;
        // The decoder ignores what follows; what was written must be all there is.
        (setup.serialize().as_slice() == bytes).then_some(Self(setup))
    }

    /// Answers a `RegistrationRequest`.
    pub(crate) fn register(&self, name: &[u8], purpose: Purpose, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let request = RegistrationRequest::deserialize(request).map_err(|_| Refused)?;
        let started = ServerRegistration::<Suite>::start(&self.0, request, &purpose.credential(name)).map_err(|_| Refused)?;
        Ok(started.message.serialize().to_vec())
    }

    /// Turns a `RegistrationUpload` into the record to keep.
    pub(crate) fn record(upload: &[u8]) -> Result<Vec<u8>, Refused> {
        let upload = RegistrationUpload::<Suite>::deserialize(upload).map_err(|_| Refused)?;
        Ok(ServerRegistration::finish(upload).serialize().to_vec())
    }

    /// Whether these bytes are a record.
    pub(crate) fn is_record(record: &[u8]) -> bool {
        ServerRegistration::<Suite>::deserialize(record).is_ok()
    }

    /// Answers KE1 with KE2. Without a record it answers as if there were one.
    pub(crate) fn login(
        &self,
        rng: &mut (impl RngCore + CryptoRng),
        name: &[u8],
        purpose: Purpose,
        record: Option<&[u8]>,
        ke1: &[u8],
    ) -> Result<(LoginState, Vec<u8>), Refused> {
        let record = record.map(ServerRegistration::deserialize).transpose().map_err(|_| Refused)?;
        let request = CredentialRequest::deserialize(ke1).map_err(|_| Refused)?;
        let credential = purpose.credential(name);
        let started =
            ServerLogin::<Suite>::start(rng, &self.0, record, request, &credential, parameters(name)).map_err(|_| Refused)?;
        Ok((LoginState(Zeroizing::new(started.state.serialize().to_vec())), started.message.serialize().to_vec()))
    }

    /// Checks KE3: whether the client knows the password.
    pub(crate) fn finish(name: &[u8], state: &LoginState, ke3: &[u8]) -> Result<(), Refused> {
        let state = ServerLogin::<Suite>::deserialize(&state.0).map_err(|_| Refused)?;
        let ke3 = CredentialFinalization::deserialize(ke3).map_err(|_| Refused)?;
        state.finish(ke3, parameters(name)).map(|_| ()).map_err(|_| Refused)
    }
}
