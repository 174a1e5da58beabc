//! Sending a file to a peer, at the end that asks for it.

use std::{future::Future, pin::Pin, sync::Mutex, time::Duration};

use parlour_wire::{
    decode,
    files::{Hash, Push, Settle, Whole},
};

use super::{
    begin::in_thread,
    error::FileError,
    path::open_local,
    reader::Reader,
    send::send,
    service::locked,
    transfer::{Before, Copied, Job, answered, ask, patiently},
};
use crate::asked::Asked;

/// How long the better reason of a failure is waited for.
const REASON: Duration = Duration::from_secs(2);

pub(super) async fn push(job: Job) -> Result<Copied, FileError> {
    // Of a try that may have come to its end at the peer, whatever became of the answer.
    let sent: Mutex<Option<Hash>> = Mutex::default();
    job.persist(|before| attempt(&job, before, &sent)).await
}

async fn attempt(job: &Job, before: Before, sent: &Mutex<Option<Hash>>) -> Result<Whole, FileError> {
    let local = job.local.clone();
    let reader = in_thread(move || Reader::new(open_local(&local)?, None)).await?;
    let (session, size, hash) = (job.session()?, reader.size(), *locked(sent));
    let offer = Push { path: job.remote.as_str().to_owned(), size, replace: job.options.replace, afresh: before.afresh, hash };
    let answer = tokio::select! {
        answer = answered::<Push>(ask(&job.link, session, &offer), &job.link, job.options.idle) => answer?,
        error = job.stop.clone().cancelled() => return Err(error),
    };
    let Some(into) = answer.into else {
        // It can only know that if it was told the hash.
        return hash.map(|hash| Whole { size, hash }).ok_or(FileError::Rules("the peer has a file that it was not told of"));
    };
    job.has(into.part.size);
    let asked = ask(&job.link, session, &Settle { stream: into.stream });
    let source = job.link.source(into.stream, into.credit);
    let mut settling = Settling { asked, answer: None, failed: false };
    let stop = async {
        tokio::select! {
            error = settling.failed() => error,
            error = job.stop.clone().cancelled() => error,
        }
    };
    let result = send(source, reader, into.part, job.options.idle, &job.meter, stop).await;
    match result {
        Ok(whole) => {
            *locked(sent) = Some(whole.hash);
            settling.confirm(job, whole).await
        }
        Err(error) => Err(settling.reason(job, error).await),
    }
}

/// The request that says what became of the push.
struct Settling {
    asked: Asked,
    answer: Option<Whole>,
    failed: bool,
}

impl Settling {
    /// Comes to its end if the receiver says that it has failed.
    async fn failed(&mut self) -> FileError {
        if self.answer.is_none() {
            let failure = match Pin::new(&mut self.asked).await {
                Ok(answer) => decode(&answer.content).map(|whole| self.answer = Some(whole)).map_err(FileError::from),
                Err(fault) => Err(fault.into()),
            };
            if let Err(error) = failure {
                self.failed = true;
                return error;
            }
        }
        std::future::pending().await
    }

    /// Waits until the receiver has the file on disk.
    async fn confirm(&mut self, job: &Job, sent: Whole) -> Result<Whole, FileError> {
        let settled = match self.answer {
            Some(settled) => settled,
            None => {
                let answer = patiently(Pin::new(&mut self.asked), &job.link, job.options.idle).await?;
                decode(&answer.content)?
            }
        };
        if settled == sent { Ok(sent) } else { Err(FileError::Rules("the peer has settled another file")) }
    }

    /// The receiver's own words say more than the end of the stream.
    async fn reason(&mut self, job: &Job, error: FileError) -> FileError {
        let wait = match &error {
            // It forgets the part file; what it answers is of no interest, but that it has heard it.
            FileError::Cancelled => true,
            FileError::Lost(_) => job.link.is_up(),
            _ => false,
        };
        if !wait || self.failed || self.answer.is_some() {
            return error;
        }
        match bounded(self.failed()).await {
            Some(reason) if !matches!(error, FileError::Cancelled) => reason,
            _ => error,
        }
    }
}

async fn bounded<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(REASON, work).await.ok()
}
