//! The thread that owns a log file. Callers leave jobs; whatever has come while the disk was busy is done in one go, so many
//! pushes share one wait for the disk.

use std::{
    io,
    sync::mpsc::{self, Receiver, Sender},
    thread,
};

use tokio::sync::oneshot;

/// Jobs that are done in one go. Bounds how long the first of them waits for the others.
const BATCH: usize = 4096;

/// What a committer does with its jobs.
pub(crate) trait Work: Sized {
    /// What is asked of it.
    type Job: Send + 'static;

    /// Does the jobs. `false` to end.
    fn run(&mut self, jobs: Vec<Self::Job>) -> bool;

    /// Nobody is left to ask.
    fn finish(&mut self);
}

/// Starts the thread, which makes its work first. Gives the place to leave jobs once that is done.
pub(crate) async fn start<W, E>(
    name: &str,
    make: impl FnOnce() -> Result<W, E> + Send + 'static,
) -> io::Result<Result<Sender<W::Job>, E>>
where
    W: Work,
    E: Send + 'static,
{
    let (jobs, receiver) = mpsc::channel();
    let (made, ready) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || match make() {
        Ok(work) => {
            // Whoever wanted it may have gone; then no job comes, and the work ends at once.
            drop(made.send(Ok(())));
            serve(work, &receiver);
        }
        Err(error) => drop(made.send(Err(error))),
    })?;
    let made = ready.await.map_err(|_| io::Error::other("the thread of a log file has ended"))?;
    Ok(made.map(|()| jobs))
}

fn serve<W: Work>(mut work: W, jobs: &Receiver<W::Job>) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(BATCH - 1));
        if !work.run(batch) {
            return;
        }
    }
    work.finish();
}
