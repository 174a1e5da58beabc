//! What a program is told of the transfers that its peers begin.

use std::{fmt, sync::Arc};

use parlour_wire::files::RemotePath;

use super::error::FileError;
use crate::{asked::Progress, identity::PeerKey};

/// Which way a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The peer pushes it.
    In,
    /// The peer pulls it.
    Out,
}

/// How a transfer stands.
#[derive(Clone, Debug, PartialEq)]
pub enum FileStage {
    /// It begins, or goes on after a loss.
    Begun,
    /// It moves; reported every two seconds.
    Moving(Progress),
    /// The file is complete; a pushed one is on disk under its name.
    Done {
        /// Its size in bytes.
        bytes: u64,
        /// BLAKE3.
        hash: [u8; 32],
    },
    /// It has come to an end without that.
    Failed(FileError),
}

/// News of a transfer that a peer has begun.
#[derive(Clone, Debug, PartialEq)]
pub struct FileEvent {
    /// The peer, if it has a key.
    pub peer: Option<PeerKey>,
    /// The file.
    pub path: RemotePath,
    /// Which way it goes.
    pub way: Way,
    /// How it stands.
    pub stage: FileStage,
}

/// Told of every event.
type Told = dyn Fn(&FileEvent) + Send + Sync;

/// Who wants to be told.
#[derive(Clone, Default)]
pub(super) struct Listener(pub(super) Option<Arc<Told>>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.0.is_some()).finish()
    }
}

/// One transfer, as it is told.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) listener: Listener,
    pub(super) peer: Option<PeerKey>,
    pub(super) path: RemotePath,
    pub(super) way: Way,
}

impl Story {
    pub(super) fn tell(&self, stage: FileStage) {
        match &stage {
            FileStage::Failed(error) => tracing::debug!(path = %self.path, way = ?self.way, %error, "a transfer failed"),
            stage => tracing::trace!(path = %self.path, way = ?self.way, ?stage, "a transfer"),
        }
        if let Some(listener) = &self.listener.0 {
            listener(&FileEvent { peer: self.peer, path: self.path.clone(), way: self.way, stage });
        }
    }
}
