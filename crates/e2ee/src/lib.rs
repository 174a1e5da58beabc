//! Parlour's end-to-end encryption: identities, devices, MLS conversations. Pure and synchronous: what must survive is given
//! back to the caller, who puts it on disk together with its own rows.
//!
//! - [`password`]: OPAQUE, the client's side; gives the export key.
//! - [`account`]: the root secret, its wrapping, and what the account key signs: certificates and device lists.
//! - [`recovery`]: the code that opens the account without the password; [`backup`]: the key of its backup.
//! - [`device`]: the device's key.
//! - [`sealed`]: keys for single devices, where more people read what carries them.
//! - [`safety`]: the number that two people compare.
//! - [`storage`]: rows in, changes out.
//! - [`attachment`]: files, encrypted in chunks.
//! - [`engine`] holds the conversations.
//!
//! Time is an argument and the network is somebody else's. Randomness comes from the operating system. OpenMLS reads the
//! system clock for one thing, the lifetime of key packages; ours never expire by the clock (see [`engine`]), so a wrong
//! clock cannot lock a device out of its conversations.

pub mod account;
pub mod attachment;
pub mod backup;
pub mod device;
pub mod engine;
pub mod error;
pub mod password;
pub mod recovery;
pub mod safety;
pub mod sealed;
pub mod storage;

pub use account::{AccountError, AccountKey, Root};
pub use backup::{BackupError, BackupKey, open_pack, seal_pack};
pub use device::DeviceKeys;
pub use engine::{
    Drift, Engine, GroupChange, GroupEvent, GroupMember, GroupView, HYBRID_DEVICES, HistoryPolicy, Joined, Leaf, Lists, Member,
    NewConversation, Opened, PendingCommit, Place, Sealed, suite_for,
};
pub use error::E2eeError;
pub use password::{ExportKey, LoggedIn, Login, Parameters, PasswordError, Registered, Registration};
pub use recovery::{RecoveryCode, RecoveryCodeError};
pub use safety::{SafetyNumber, safety_number};
pub use sealed::{HistoryKey, SealedKeyError};
pub use storage::{Changes, Rows, RowsError, Step};
