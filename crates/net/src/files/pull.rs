//! Getting a file from a peer, at the end that asks for it.

use std::{pin::Pin, sync::Arc};

use blake3::Hasher;
use parlour_wire::files::{Part as WirePart, Pull, RemotePath, Whole};

use super::{
    begin::{Beats, Expected, Prepared, in_thread, prepare, unless_busy},
    error::FileError,
    intake::{Intake, Terms},
    path::local_place,
    receive::{WINDOW, receive},
    transfer::{Before, Copied, Job, Stop, ask},
};
use crate::asked::Asked;

pub(super) async fn pull(job: Job) -> Result<Copied, FileError> {
    let result = job.persist(|before| attempt(&job, before)).await;
    if result == Err(FileError::Cancelled) {
        forget(&job).await;
    }
    result
}

/// Removes what tries have left. One that is under way does that by itself, but a transfer may be cancelled between two of them.
async fn forget(job: &Job) {
    let tag = tag(&job.remote);
    let removed = unless_busy(|| {
        let local = job.local.clone();
        in_thread(move || {
            local_place(&local, tag)?.open()?.remove();
            Ok(())
        })
    });
    if let Err(error) = removed.await {
        tracing::debug!(%error, "a part file is left");
    }
}

/// Tells the part files of different files at the peer apart that are to get the same name here.
fn tag(remote: &RemotePath) -> u64 {
    let mut tag = [0; 8];
    let mut hasher = Hasher::new();
    hasher.update(b"parlour pulled file\0").update(remote.as_str().as_bytes());
    tag.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(tag)
}

async fn attempt(job: &Job, before: Before) -> Result<Whole, FileError> {
    let (intake, have) = begin(job, before).await?;
    job.has(have.size);
    let session = job.session()?;
    let sink = job.link.sink(WINDOW);
    let path = job.remote.as_str().to_owned();
    let asked = ask(&job.link, session, &Pull { path, stream: sink.id(), credit: sink.credit().into(), part: have });
    let stop = async {
        tokio::select! {
            error = refused(asked) => error,
            error = job.stop.clone().cancelled() => error,
        }
    };
    receive(sink, intake, job.options.idle, stop).await
}

/// Comes to its end if the sender says that it has failed.
async fn refused(mut asked: Asked) -> FileError {
    match Pin::new(&mut asked).await {
        // All is on its way.
        Ok(_) => std::future::pending().await,
        Err(fault) => fault.into(),
    }
}

async fn begin(job: &Job, before: Before) -> Result<(Intake, WirePart), FileError> {
    let expected = Expected { size: None, hash: None, replace: job.options.replace };
    let tag = tag(&job.remote);
    let prepared = unless_busy(|| {
        let local = job.local.clone();
        in_thread(move || prepare(local_place(&local, tag)?, expected, &Beats::default(), &|| true))
    });
    let Prepared::Part(part) = prepared.await? else { return Err(FileError::Exists) };
    let terms = Terms {
        announced: None,
        limit: job.options.max_file,
        replace: job.options.replace,
        keep_modified: job.options.keep_modified,
        reservation: None,
        names: Arc::default(),
        _seat: None,
    };
    let intake = Intake::new(*part, terms, Arc::clone(&job.meter));
    let stop: Stop = job.stop.clone();
    in_thread(move || intake.begin(|_| Ok(None), before.afresh, &Beats::default(), &|| !stop.is_cancelled())).await
}
