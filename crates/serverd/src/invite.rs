//! Invitations, made beside a running server: a second process on the same database.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parlour_server::{ACCOUNT_TOKEN, account_token_hash, invite_hash};
use parlour_wire::{
    address::{InviteLink, ServerUrl},
    name::Name,
};
use thiserror::Error;

use crate::{
    data_dir::recorded,
    sqlite::{self, OpenError},
};

/// An invitation. The server keeps only a hash of the token, so this is the one time that it can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// What a person gives when registering: 32 hex digits, after an `n` if it is for one name.
    pub token: String,
    /// The same with the server's address (see [`InviteLink`]).
    pub link: String,
    /// When it ends, Unix milliseconds.
    pub expires_ms: u64,
}

/// Why no invitation was made.
#[derive(Debug, Error)]
pub enum InviteError {
    /// No server has run on this directory.
    #[error("no server has been started on {path}")]
    NoServer {
        /// The data directory.
        path: PathBuf,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The system has no randomness.
    #[error("no randomness: {0}")]
    Random(String),
}

/// Makes an invitation that `uses` people may use within `expires` from this moment. The server may run or not.
///
/// # Errors
/// [`InviteError`].
pub fn invite(data_dir: &Path, uses: u32, expires: Duration) -> Result<Invite, InviteError> {
    make(data_dir, random_token()?, uses, expires, invite_hash)
}

/// Makes a token with which one person may register under `name`, on a closed server too.
///
/// # Errors
/// [`InviteError`].
pub fn invite_by_name(data_dir: &Path, name: &Name, expires: Duration) -> Result<Invite, InviteError> {
    let token = format!("{ACCOUNT_TOKEN}{}", random_token()?);
    make(data_dir, token, 1, expires, |token| account_token_hash(name, token))
}

fn random_token() -> Result<String, InviteError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| InviteError::Random(error.to_string()))?;
    Ok(hex::encode(random))
}

fn make(
    data_dir: &Path,
    token: String,
    uses: u32,
    expires: Duration,
    hash: impl FnOnce(&str) -> [u8; 32],
) -> Result<Invite, InviteError> {
    let no_server = || InviteError::NoServer { path: data_dir.to_owned() };
    let server: ServerUrl = recorded(data_dir).ok().and_then(|record| record.url.parse().ok()).ok_or_else(no_server)?;
    let database = data_dir.join(sqlite::FILE);
    if !database.exists() {
        return Err(no_server());
    }
    let expires_ms = unix_ms().saturating_add(u64::try_from(expires.as_millis()).unwrap_or(u64::MAX));
    sqlite::create_invite(&database, &hash(&token), uses, expires_ms)?;
    let link = InviteLink { server, token: token.clone() }.to_string();
    Ok(Invite { token, link, expires_ms })
}

/// The time, Unix milliseconds.
pub(crate) fn unix_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "driver")]
    let now = SystemTime::now();
    // A clock before 1970 is taken as 1970.
    now.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
