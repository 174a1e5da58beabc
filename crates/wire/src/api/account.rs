//! Accounts, login, devices, key packages, presence.

use minicbor::{Decode, Encode, bytes::ByteVec};

use super::{Done, call, notice};
use crate::{
    id::{AccountId, DeviceId},
    limits,
    name::Name,
};

/// Longest OPAQUE message of ours in bytes (RFC 9807: KE2 is 320, the record 192).
const OPAQUE: usize = 512;
/// Longest wrapped root secret: nonce 24, secret 32, tag 16.
const WRAPPED_ROOT: usize = 128;

/// How registration works at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Registration(#[n(0)] pub u8);

impl Registration {
    /// Anyone may register.
    pub const OPEN: Self = Self(0);
    /// An invitation is needed.
    pub const INVITE: Self = Self(1);
    /// Only an administrator makes accounts.
    pub const CLOSED: Self = Self(2);

    /// The word for it on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::OPEN => "open",
            Self::INVITE => "invite",
            Self::CLOSED => "closed",
            _ => "unknown",
        }
    }
}

/// Asks what server this is. Allowed before authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ServerInfo {}
call!(ServerInfo, "server.info" => ServerInfoAnswer);

/// What server this is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ServerInfoAnswer {
    /// How registration works.
    #[n(0)]
    pub registration: Registration,
    /// Ed25519 key that signs commit receipts.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub receipt_key: [u8; 32],
    /// Program and version.
    #[n(2)]
    pub version: String,
    /// The server's clock, Unix time in milliseconds.
    #[n(3)]
    pub now_ms: u64,
    /// Which parameters of the password's key stretching are in force (1: Argon2id, 64 MiB, t=3, p=1).
    #[n(4)]
    pub login_parameters: u32,
}

/// First step of OPAQUE registration (RFC 9807, section 5.1). Allowed before authentication. Answers
/// [`crate::Code::NAME_TAKEN`], [`crate::Code::REGISTRATION_CLOSED`] or an `invite_…` code at once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RegisterStart {
    /// The name wanted.
    #[n(0)]
    pub name: Name,
    /// Invitation token, if registration is by invitation.
    #[n(1)]
    pub invite: Option<String>,
    /// OPAQUE `RegistrationRequest`.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub request: Vec<u8>,
}
call!(RegisterStart, "register.start" => OpaqueAnswer, request <= OPAQUE);

/// The server's OPAQUE message.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OpaqueAnswer {
    /// `RegistrationResponse` or KE2.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub response: Vec<u8>,
    /// Number of this login, for the second step; 0 for a registration.
    #[n(1)]
    pub login: u64,
}

/// Second step of registration: makes the account. The link is then authorised by password for the account, as after a login.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RegisterFinish {
    /// As in [`RegisterStart`].
    #[n(0)]
    pub name: Name,
    /// As in [`RegisterStart`]; used up by this call.
    #[n(1)]
    pub invite: Option<String>,
    /// OPAQUE `RegistrationUpload`.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub upload: Vec<u8>,
    /// The account's root secret, wrapped under the OPAQUE export key. The server cannot read it.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub wrapped_root: Vec<u8>,
    /// The first device list (version 1).
    #[cbor(n(4), with = "minicbor::bytes")]
    pub device_list: Vec<u8>,
}
call!(RegisterFinish, "register.finish" => Done,
    upload <= OPAQUE, wrapped_root <= WRAPPED_ROOT, device_list <= limits::DEVICE_LIST);

/// First step of OPAQUE login (RFC 9807, section 6). Allowed before authentication. Unknown names answer like known ones.
/// The try counts when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LoginStart {
    /// Who.
    #[n(0)]
    pub name: Name,
    /// KE1.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub request: Vec<u8>,
    /// The login is by recovery code: it runs against the record of [`PasswordFinish`] with `recovery`. An account without one answers
    /// like an unknown name.
    #[n(2)]
    pub recovery: bool,
}
call!(LoginStart, "login.start" => OpaqueAnswer, request <= OPAQUE);

/// Second step of login. On success the link is authorised by password for the account.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LoginFinish {
    /// From [`OpaqueAnswer::login`]; single use, 60 seconds.
    #[n(0)]
    pub login: u64,
    /// KE3.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub finalization: Vec<u8>,
}
call!(LoginFinish, "login.finish" => LoginFinishAnswer, finalization <= OPAQUE);

/// What brings a new device in.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LoginFinishAnswer {
    /// The account's root secret, wrapped under the OPAQUE export key of this login: of the password, or of the recovery code.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub wrapped_root: Vec<u8>,
    /// The current device list.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub device_list: Vec<u8>,
}

/// First step of a change of password or recovery code: OPAQUE registration again. Needs a link that is authorised by password or recovery
/// code.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PasswordStart {
    /// OPAQUE `RegistrationRequest`.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub request: Vec<u8>,
    /// For the recovery code.
    #[n(1)]
    pub recovery: bool,
}
call!(PasswordStart, "password.start" => OpaqueAnswer, request <= OPAQUE);

/// Second step: replaces record and wrapped root together. A new password ends the sessions of other devices; a new recovery code ends
/// none, and makes the code before it worthless.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PasswordFinish {
    /// OPAQUE `RegistrationUpload`.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub upload: Vec<u8>,
    /// The same root secret under the new export key.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub wrapped_root: Vec<u8>,
    /// For the recovery code.
    #[n(2)]
    pub recovery: bool,
}
call!(PasswordFinish, "password.finish" => Done, upload <= OPAQUE, wrapped_root <= WRAPPED_ROOT);

/// Replaces the account's device list. Needs a link that is authorised by password. The list must follow the current one
/// ([`crate::identity::VerifiedList::follows`]), else [`crate::Code::STALE_LIST`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DevicesUpdate {
    /// The next list.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub device_list: Vec<u8>,
}
call!(DevicesUpdate, "devices.update" => Done, device_list <= limits::DEVICE_LIST);

/// Authenticates the link as a device: a signature over [`crate::identity::auth_bytes`] in
/// [`crate::identity::AUTH_CONTEXT`]. From the answer on, the server pushes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceAuth {
    /// Whose device.
    #[n(0)]
    pub account: AccountId,
    /// Which device.
    #[n(1)]
    pub device: DeviceId,
    /// By the device's signature key.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub signature: [u8; 64],
}
call!(DeviceAuth, "device.auth" => DeviceAuthAnswer);

/// What a device should know when it comes online.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceAuthAnswer {
    /// The account's name here.
    #[n(0)]
    pub name: Name,
    /// Version of the account's device list.
    #[n(1)]
    pub list_version: u64,
    /// One-time key packages left for this device.
    #[n(2)]
    pub key_packages: u32,
    /// Whether a last-resort key package is there.
    #[n(3)]
    pub last_resort: bool,
    /// The same for [`Suite::CLASSICAL`].
    #[n(4)]
    pub classical_key_packages: u32,
    /// The same for [`Suite::CLASSICAL`].
    #[n(5)]
    pub classical_last_resort: bool,
}

/// An MLS cipher suite (RFC 9420, section 17.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct Suite(#[n(0)] pub u16);

impl Suite {
    /// X-Wing (ML-KEM-768 and X25519), AES-128-GCM, SHA-256, Ed25519: draft-ietf-mls-pq-ciphersuites.
    pub const HYBRID: Self = Self(0x004F);
    /// X25519, ChaCha20-Poly1305, SHA-256, Ed25519: for groups in which the hybrid suite would cost too much.
    pub const CLASSICAL: Self = Self(0x0003);

    /// The word for it on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::HYBRID => "hybrid",
            Self::CLASSICAL => "classical",
            _ => "unknown",
        }
    }
}

/// Logs this device out: its sessions end, its key packages and cursors go, it must log in again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Logout {}
call!(Logout, "device.logout" => Done);

/// Asks for the devices of one's own account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DevicesGet {}
call!(DevicesGet, "devices.get" => DevicesGetAnswer);

/// The devices of one's own account.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DevicesGetAnswer {
    /// The current device list.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub device_list: Vec<u8>,
    /// When each was last here.
    #[n(1)]
    pub seen: Vec<DeviceSeen>,
}

/// When a device was last here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceSeen {
    /// Which device.
    #[n(0)]
    pub device: DeviceId,
    /// Unix time in milliseconds.
    #[n(1)]
    pub seen_ms: u64,
    /// Whether it is online.
    #[n(2)]
    pub online: bool,
}

/// Looks up a user by exact name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AccountByName {
    /// The name.
    #[n(0)]
    pub name: Name,
}
call!(AccountByName, "account.by_name" => AccountAnswer);

/// Looks up a user by id.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AccountById {
    /// The account.
    #[n(0)]
    pub account: AccountId,
}
call!(AccountById, "account.by_id" => AccountAnswer);

/// A user, as the server claims; the device list proves itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AccountAnswer {
    /// The name here.
    #[n(0)]
    pub name: Name,
    /// The current device list; it holds the account key.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub device_list: Vec<u8>,
}

/// Leaves key packages for others to claim.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyPackagesPublish {
    /// MLS key packages, each to be used once.
    #[n(0)]
    pub one_time: Vec<ByteVec>,
    /// The one to be used when the others are gone; replaces the earlier one.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub last_resort: Option<Vec<u8>>,
    /// The suite of all of them.
    #[n(2)]
    pub suite: Suite,
    /// Whether the one-time packages of this suite that are there are taken away first: an old copy of the device's database has none
    /// of their keys.
    #[cbor(n(3), default)]
    pub replace: bool,
}
call!(KeyPackagesPublish, "keys.publish" => Done, one_time <= limits::KEY_PACKAGES_PER_DEVICE);

/// Takes one key package for each device of a user. One-time packages are handed out once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyPackagesClaim {
    /// Whose.
    #[n(0)]
    pub account: AccountId,
    /// Of which suite.
    #[n(1)]
    pub suite: Suite,
}
call!(KeyPackagesClaim, "keys.claim" => KeyPackagesClaimAnswer);

/// One key package for each device that has any.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyPackagesClaimAnswer {
    /// The account's current device list.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub device_list: Vec<u8>,
    /// The packages.
    #[n(1)]
    pub packages: Vec<DeviceKeyPackage>,
}

/// A key package and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DeviceKeyPackage {
    /// Which device.
    #[n(0)]
    pub device: DeviceId,
    /// The MLS key package.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub package: Vec<u8>,
}

/// Asks who is online, and to be told of changes while this session lasts or until the next such request. Accounts that share no conversation with the asker
/// are left out of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PresenceWatch {
    /// Whom.
    #[n(0)]
    pub accounts: Vec<AccountId>,
}
call!(PresenceWatch, "presence.watch" => PresenceAnswer, accounts <= limits::PRESENCE_ACCOUNTS);

/// Who is online.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PresenceAnswer {
    /// One for each account that the asker may see.
    #[n(0)]
    pub presence: Vec<Presence>,
}

/// Push: whether an account is online.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Presence {
    /// Whose.
    #[n(0)]
    pub account: AccountId,
    /// Whether any device is here.
    #[n(1)]
    pub online: bool,
    /// When a device was last here, Unix time in milliseconds; 0 if never.
    #[n(2)]
    pub seen_ms: u64,
}
notice!(Presence, "presence");

/// Push: an account that shares a conversation with this one (or this one itself) has a new device list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DevicesChanged {
    /// Whose.
    #[n(0)]
    pub account: AccountId,
    /// Version of the list.
    #[n(1)]
    pub version: u64,
}
notice!(DevicesChanged, "devices.changed");
