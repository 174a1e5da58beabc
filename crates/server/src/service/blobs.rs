//! Blobs and backups: who may store and read them, and when they go.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use parlour_wire::{
    BlobId, Code,
    api::{BackupAnswer, BackupDelete, BackupGet, BackupSet, BlobBegin, BlobData, BlobGet, BlobProgress, BlobPut, Done},
    limits,
};

use super::{Ask, Core};
use crate::{
    Failure, Fault, Rejection,
    store::{
        Refusal, Store, StoreError, Write, Written,
        blobs::{BlobError, Blobs, MemoryBlobs, Received, Upload},
    },
};

/// How long a blob waits for a message or backup that names it, and an unfinished one for its rest, in milliseconds.
const UNNAMED_MS: u64 = 24 * 3600 * 1000;
/// Bytes after which an upload under way is noted as begun anew: in a day even a slow link brings so many.
const RENEW: u64 = 16 * 1024 * 1024;
/// What one write or look of a collection handles, so that others do not wait long.
const TOGETHER: u32 = 256;

/// Where blobs are kept, and how much of them.
#[derive(Clone)]
pub struct BlobRoom {
    /// Their bytes.
    pub bytes: Arc<dyn Blobs>,
    /// How many bytes one account may keep.
    pub quota: u64,
}

impl fmt::Debug for BlobRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobRoom").field("quota", &self.quota).finish_non_exhaustive()
    }
}

impl BlobRoom {
    /// How many bytes one account may keep unless the configuration says otherwise.
    pub const QUOTA: u64 = 1 << 30;

    /// In memory, with the usual quota.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { bytes: Arc::new(MemoryBlobs::default()), quota: Self::QUOTA }
    }
}

/// Blobs that are becoming readable or going away at this moment. One cannot do both: its bytes would go with its row there, or the
/// other way round.
#[derive(Default)]
pub(crate) struct Landing(Mutex<BTreeMap<BlobId, usize>>);

/// Stands in [`Landing`] for a blob that goes away.
const LEAVING: usize = usize::MAX;

/// Holds a place in [`Landing`] while it lives.
struct Held<'a>(&'a Landing, BlobId);

impl Landing {
    fn ways(&self) -> MutexGuard<'_, BTreeMap<BlobId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Several accounts may land one blob at once.
    fn land(&self, blob: BlobId) -> Option<Held<'_>> {
        let mut ways = self.ways();
        let way = ways.entry(blob).or_default();
        (*way < LEAVING - 1).then(|| *way += 1).map(|()| Held(self, blob))
    }

    fn leave(&self, blob: BlobId) -> Option<Held<'_>> {
        match self.ways().entry(blob) {
            Entry::Vacant(free) => {
                free.insert(LEAVING);
                Some(Held(self, blob))
            }
            Entry::Occupied(_) => None,
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut ways = self.0.ways();
        match ways.get_mut(&self.1) {
            Some(way) if *way > 1 && *way != LEAVING => *way -= 1,
            _ => {
                ways.remove(&self.1);
            }
        }
    }
}

fn failure(error: BlobError) -> Failure {
    match error {
        BlobError::Missing => Refusal::NoBlob.into(),
        BlobError::TooLong => Rejection::new(Code::TOO_LARGE, "the blob is longer than announced").into(),
        BlobError::Mismatch => Rejection::new(Code::HASH_MISMATCH, "the blob has another hash than its id").into(),
        BlobError::Store(error) => Failure::Failed(Fault::Blobs(error)),
    }
}

pub(super) async fn begin<S: Store>(ask: Ask<S>, call: BlobBegin) -> Result<BlobProgress, Failure> {
    let (account, _) = ask.device()?;
    if call.size == 0 {
        return Err(Rejection::bad("an empty blob").into());
    }
    if call.size > limits::BLOB {
        return Err(Rejection::new(Code::TOO_LARGE, "size").into());
    }
    ask.core.throttles.blobs.take(&account.0, ask.now_ms).map_err(Rejection::rate_limited)?;
    let quota = ask.core.room.quota;
    let write = Write::BeginBlob { account, blob: call.blob, size: call.size, quota, now_ms: ask.now_ms };
    if let Written::Whole { size } = ask.core.apply(write).await?? {
        return Ok(BlobProgress { received: size, complete: true });
    }
    let upload = Upload { account, blob: call.blob };
    let received = ask.core.room.bytes.begin(upload, call.size).await;
    settle(&ask.core, upload, received, ask.now_ms).await
}

/// Bytes are taken in the order in which the requests arrive.
pub(super) fn put<S: Store>(ask: Ask<S>, call: BlobPut) -> impl Future<Output = Result<BlobProgress, Failure>> + Send + 'static {
    let begun = ask.device().map(|(account, _)| {
        let upload = Upload { account, blob: call.blob };
        (upload, ask.core.room.bytes.put(upload, call.offset, call.data))
    });
    async move {
        let (upload, work) = begun?;
        let received = work.await;
        if let Ok(Received { bytes, size, whole: false }) = received {
            renew(&ask, upload, (call.offset, bytes), size).await;
        }
        settle(&ask.core, upload, received, ask.now_ms).await
    }
}

/// What takes longer than a day to come is kept as long as it comes. Asked as seldom as blobs may be begun, since it is a write.
async fn renew<S: Store>(ask: &Ask<S>, upload: Upload, (from, to): (u64, u64), size: u64) {
    let Upload { account, blob } = upload;
    let further = from / RENEW < to / RENEW;
    if further && ask.core.throttles.blobs.take(&account.0, ask.now_ms).is_ok() {
        let quota = ask.core.room.quota;
        // Its part has been taken whatever comes of this, and what comes next renews it again.
        drop(ask.core.apply(Write::BeginBlob { account, blob, size, quota, now_ms: ask.now_ms }).await);
    }
}

/// What is whole becomes readable. Of what is not what it should be the bytes are gone, and it can be begun again.
async fn settle<S: Store>(
    core: &Core<S>,
    upload: Upload,
    received: Result<Received, BlobError>,
    now_ms: u64,
) -> Result<BlobProgress, Failure> {
    let Upload { account, blob } = upload;
    match received {
        Ok(Received { bytes, whole: false, .. }) => return Ok(BlobProgress { received: bytes, complete: false }),
        Ok(Received { whole: true, .. }) => {}
        Err(error) => return Err(failure(error)),
    }
    let size = received.map_err(failure)?.bytes;
    let busy = Rejection::new(Code::FILE_BUSY, "an earlier copy of the blob is just being deleted");
    let _landing = core.landing.land(blob).ok_or(busy)?;
    core.room.bytes.land(upload, size).await.map_err(failure)?;
    core.apply(Write::FinishBlob { account, blob, size, now_ms }).await??;
    Ok(BlobProgress { received: size, complete: true })
}

pub(super) async fn get<S: Store>(ask: Ask<S>, call: BlobGet) -> Result<BlobData, Failure> {
    let (account, _) = ask.device()?;
    let size = ask.core.store.blob(call.blob, account).await?.ok_or(Refusal::NoBlob)?;
    let length = usize::try_from(call.length).unwrap_or(usize::MAX).min(limits::BLOB_CHUNK);
    match ask.core.room.bytes.read(call.blob, call.offset, length).await {
        Ok(data) => Ok(BlobData { size, data }),
        // It may have gone since; if it has not, the disk has lost it, and asking again does not bring it back.
        Err(BlobError::Missing) if ask.core.store.blob(call.blob, account).await?.is_some() => {
            tracing::error!(blob = %call.blob, "a blob is not on the disk");
            Err(Rejection::new(Code::FILE_NOT_FOUND, "the server's disk has lost it").into())
        }
        Err(error) => Err(failure(error)),
    }
}

pub(super) async fn set_backup<S: Store>(ask: Ask<S>, call: BackupSet) -> Result<Done, Failure> {
    let (account, _) = ask.device()?;
    ask.core.throttles.backups.take(&account.0, ask.now_ms).map_err(Rejection::rate_limited)?;
    let BackupSet { version, index, blobs } = call;
    // Each is a look-up by the writer.
    let blobs = blobs.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    ask.core.apply(Write::SetBackup { account, version, index, blobs }).await??;
    Ok(Done {})
}

pub(super) async fn backup<S: Store>(ask: Ask<S>, _: BackupGet) -> Result<BackupAnswer, Failure> {
    let (account, _) = ask.device()?;
    let backup = ask.core.store.backup(account).await?.ok_or(Refusal::NoBlob)?;
    Ok(BackupAnswer { version: backup.version, index: backup.index })
}

pub(super) async fn delete_backup<S: Store>(ask: Ask<S>, _: BackupDelete) -> Result<Done, Failure> {
    let (account, _) = ask.device()?;
    ask.core.apply(Write::DeleteBackup { account }).await??;
    Ok(Done {})
}

/// See [`super::Service::collect_blobs`].
pub(super) async fn collect<S: Store>(core: &Core<S>, before_ms: Option<u64>, now_ms: u64) -> Result<(), StoreError> {
    let unnamed_ms = now_ms.saturating_sub(UNNAMED_MS);
    if let Some(before_ms) = before_ms {
        while core.apply(Write::ReleaseBlobs { before_ms, limit: TOGETHER }).await? == Ok(Written::Deleted(u64::from(TOGETHER))) {
        }
    }
    while let Ok(Written::Abandoned(old)) = core.apply(Write::AbandonOldBlobs { before_ms: unnamed_ms, limit: TOGETHER }).await?
        && !old.is_empty()
    {
        for (account, blob) in old {
            // Its row is gone, so nobody would come back to what is left because of another.
            if let Err(error) = core.room.bytes.discard(Upload { account, blob }).await {
                tracing::warn!(%error, %account, %blob, "a part stays until the next start");
            }
        }
    }
    loop {
        let unneeded = core.store.unneeded_blobs(unnamed_ms, TOGETHER).await?;
        let mut gone = 0;
        for blob in unneeded {
            let Some(_leaving) = core.landing.leave(blob) else { continue };
            if core.apply(Write::DropBlob { blob, before_ms: unnamed_ms }).await?.is_ok() {
                gone += 1;
                if let Err(error) = core.room.bytes.remove(blob).await {
                    tracing::warn!(%error, %blob, "a blob stays until the next start");
                }
            }
        }
        if gone == 0 {
            return Ok(());
        }
    }
}
