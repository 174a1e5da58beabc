//! Handlers that outlive their session: an action that was taken in is carried out, and a request of a lost session comes to its
//! end once, for when it is asked again. Within bounds.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::task::JoinHandle;

use crate::identity::PeerKey;

/// Sessions of one peer whose handlers may go on; those of the oldest are dropped beyond. Peers without a key count as one.
const PER_PEER: usize = 8;
/// The same for all peers together.
const IN_ALL: usize = 4096;

/// The handlers of sessions that are over.
#[derive(Default)]
pub(crate) struct Aftercare {
    tasks: Mutex<VecDeque<(Option<PeerKey>, JoinHandle<()>)>>,
}

impl Aftercare {
    /// Lets `rest` come to its end.
    pub(crate) fn take(&self, peer: Option<PeerKey>, rest: impl Future<Output = ()> + Send + 'static) {
        // A runtime that shuts down takes its tasks with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|(_, task)| !task.is_finished());
        if tasks.iter().filter(|(of, _)| *of == peer).count() >= PER_PEER
            && let Some((_, oldest)) = tasks.iter().position(|(of, _)| *of == peer).and_then(|at| tasks.remove(at))
        {
            tracing::debug!(?peer, "handlers of a session long over are dropped");
            oldest.abort();
        }
        if tasks.len() >= IN_ALL
            && let Some((_, oldest)) = tasks.pop_front()
        {
            oldest.abort();
        }
        tasks.push_back((peer, runtime.spawn(rest)));
    }

    /// Waits for what is under way, `within` at most, and drops the rest.
    pub(crate) async fn finish(&self, within: Duration) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let aborts: Vec<_> = tasks.iter().map(|(_, task)| task.abort_handle()).collect();
        let all = async {
            for (_, task) in tasks {
                // A handler's panic is caught where it happens.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn of_one_peer_the_last_sessions_go_on_and_those_of_others_all() {
        let (care, alive) = (Aftercare::default(), Arc::new(()));
        let rest = || {
            let held = Arc::clone(&alive);
            async move {
                std::future::pending::<()>().await;
                drop(held);
            }
        };
        care.take(Some(PeerKey([2; 32])), rest());
        for _ in 0..20 {
            care.take(Some(PeerKey([1; 32])), rest());
        }
        care.take(None, rest());
        let settle = async || {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            Arc::strong_count(&alive) - 1
        };
        assert_eq!(settle().await, 1 + PER_PEER + 1);
        care.finish(Duration::ZERO).await;
        assert_eq!(settle().await, 0, "what does not end in time is dropped");
    }
}
