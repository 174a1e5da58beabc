//! The handlers of files: pushes and pulls as the other end has begun them.

use std::{future::Future, sync::Arc, time::Duration};

use blake3::Hasher;
use futures_util::FutureExt;
use parlour_wire::{
    Code, LinkSessionId,
    files::{Destination, Part as WirePart, Pull, Push, PushAnswer, RemotePath, Settle, Stat, StatAnswer, Whole},
    header::Fault,
};
use tokio::sync::{oneshot, watch};

use super::{
    begin::{Beats, Expected, Prepared, in_thread, prepare, unless_busy},
    error::FileError,
    events::{FileStage, Story, Way},
    intake::{Intake, Terms},
    meter::Meter,
    path::{open_below, place_below},
    reader::{Reader, in_ms},
    receive::{WINDOW, receive},
    root::OpenRoot,
    seats::{Seat, Who},
    send::send,
    service::{Mark, Offer, Shared, locked},
};
use crate::{
    pump::now,
    toolkit::{Context, Peer},
};

/// How often a peer that waits is told that its transfer lives.
const TICK: Duration = Duration::from_secs(2);

/// What an answered push leaves for its settling.
struct Ready {
    intake: Intake,
    have: WirePart,
}

/// A push that is being prepared.
#[derive(Clone, Copy)]
struct Coming<'p> {
    cx: &'p Context,
    root: &'p Arc<OpenRoot>,
    push: &'p Push,
    mark: &'p Mark,
    /// Another push of the same file has come since.
    replaced: &'p watch::Receiver<bool>,
    meter: &'p Arc<Meter>,
}

fn who(peer: &Peer) -> Who {
    peer.key().map_or_else(|| peer.session().0.to_vec(), |key| key.0.to_vec())
}

/// Tells the part files of different peers apart.
fn tag(who: &Who, path: &RemotePath) -> u64 {
    let mut hasher = Hasher::new();
    hasher.update(b"parlour part file\0").update(&(who.len() as u64).to_be_bytes()).update(who).update(path.as_str().as_bytes());
    let mut tag = [0; 8];
    tag.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(tag)
}

impl Shared {
    /// The root that a path names, if the peer may reach into it.
    fn root(&self, cx: &Context, path: &RemotePath) -> Result<Arc<OpenRoot>, Fault> {
        let root = self.roots.get(path.root()).ok_or(FileError::NotFound)?;
        root.access.check(cx.peer().key().as_ref(), cx.peer().is_authenticated())?;
        Ok(Arc::clone(root))
    }

    fn story(&self, cx: &Context, path: &RemotePath, way: Way) -> Story {
        Story { listener: self.listener.clone(), peer: cx.peer().key(), path: path.clone(), way }
    }

    pub(super) async fn stat(self: Arc<Self>, cx: Context, stat: Stat) -> Result<StatAnswer, Fault> {
        let path: RemotePath = stat.path.parse().map_err(FileError::from)?;
        let root = self.root(&cx, &path)?;
        root.check_read()?;
        let found = in_thread(move || {
            let file = open_below(&root.dir, &path)?;
            let found = file.metadata().map_err(|error| FileError::io("look at", &error))?;
            Ok(StatAnswer { size: found.len(), modified_ms: found.modified().ok().and_then(in_ms) })
        });
        Ok(found.await?)
    }

    pub(super) async fn pull(self: Arc<Self>, cx: Context, pull: Pull) -> Result<Whole, Fault> {
        let path: RemotePath = pull.path.parse().map_err(FileError::from)?;
        let root = self.root(&cx, &path)?;
        root.check_read()?;
        let seat = Arc::new(self.seats.take(&who(cx.peer()), now())?);
        let (story, meter, displaced) = (self.story(&cx, &path, Way::Out), Meter::of(&seat), seat.wanted_back());
        let reader = in_thread(move || Reader::new(open_below(&root.dir, &path)?, Some(seat))).await?;
        story.tell(FileStage::Begun);
        let source = cx.link().source(pull.stream, pull.credit);
        let stop = async {
            tokio::select! {
                error = gone(&cx) => error,
                error = displaced => error,
            }
        };
        let sent = send(source, reader, pull.part, self.idle, &meter, stop);
        conclude(&story, while_told(sent, || story.tell(FileStage::Moving(meter.latest()))).await)
    }

    pub(super) async fn push(self: Arc<Self>, cx: Context, push: Push) -> Result<PushAnswer, Fault> {
        let path: RemotePath = push.path.parse().map_err(FileError::from)?;
        let root = self.root(&cx, &path)?;
        root.check_write(push.size)?;
        let who = who(cx.peer());
        let mark = (path.clone(), tag(&who, &path));
        let replaced = self.replace(&mark);
        let seat = Arc::new(self.seats.take(&who, now())?);
        let (story, meter) = (self.story(&cx, &path, Way::In), Arc::new(Meter::of(&seat)));
        let coming = Coming { cx: &cx, root: &root, push: &push, mark: &mark, replaced: &replaced, meter: &meter };
        let prepared = self.prepare(coming, Arc::clone(&seat)).await;
        let Some(Ready { intake, have }) =
            prepared.map_err(|error| if seat.is_wanted_back() { FileError::Displaced } else { error })?
        else {
            return Ok(PushAnswer { into: None });
        };
        let sink = cx.link().sink(WINDOW);
        let into = Destination { stream: sink.id(), credit: sink.credit().into(), part: have };
        let key = (cx.peer().session(), sink.id());
        let (settled, waits) = oneshot::channel();
        locked(&self.offers).insert(
            key,
            Offer { mark, sink, intake, meter, replaced, story, displaced: seat.wanted_back().boxed(), _settled: settled },
        );
        self.expire(key, waits, seat.wanted_back());
        Ok(PushAnswer { into: Some(into) })
    }

    /// Tells an earlier transfer of the same file to end, and says when this one is told so.
    fn replace(&self, mark: &Mark) -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        let mut incoming = locked(&self.incoming);
        incoming.retain(|_, other| !other.is_closed());
        if let Some(earlier) = incoming.insert(mark.clone(), sender) {
            earlier.send_replace(true);
        }
        drop(incoming);
        let mut offers = locked(&self.offers);
        let earlier = offers.iter().find(|(_, offer)| offer.mark == *mark).map(|(key, _)| *key);
        if let Some(Offer { intake, .. }) = earlier.and_then(|key| offers.remove(&key)) {
            tokio::task::spawn_blocking(move || intake.abandon(FileError::Busy));
        }
        receiver
    }

    /// Opens the part file, sets space aside, hashes what is there. `None` if the very same file is there.
    async fn prepare(&self, coming: Coming<'_>, seat: Arc<Seat>) -> Result<Option<Ready>, FileError> {
        let Coming { cx, root, push, mark, replaced, meter } = coming;
        let expected = Expected { size: Some(push.size), hash: push.hash, replace: push.replace };
        let (caller, replaced) = (cx.clone(), replaced.clone());
        // A thread that nobody waits for any more must not go on without its seat.
        let place = Arc::clone(&seat);
        let wanted = Arc::new(move || {
            place.works();
            !caller.is_cancelled() && !*replaced.borrow() && !place.is_wanted_back()
        });
        let beats = Beats::default();
        let look = unless_busy(|| {
            let (root, (path, tag), beats) = (Arc::clone(root), mark.clone(), beats.clone());
            let (wanted, seat, size) = (Arc::clone(&wanted), Arc::clone(&seat), push.size);
            in_thread(move || {
                let place = place_below(&root.dir, &path, tag, |folders| root.reserve_folders(folders, size))?;
                let prepared = prepare(place, expected, &beats, &*wanted);
                drop(seat);
                prepared
            })
        });
        let Prepared::Part(part) = while_told(look, || cx.progress(beats.done(), None)).await? else { return Ok(None) };
        let terms = Terms {
            announced: Some(push.size),
            limit: u64::MAX,
            replace: push.replace,
            keep_modified: self.keep_modified,
            reservation: None,
            names: Arc::clone(&root.names),
            _seat: Some(seat),
        };
        let intake = Intake::new(*part, terms, Arc::clone(meter));
        let (root, size, afresh, heard) = (Arc::clone(root), push.size, push.afresh, beats.clone());
        let begun = in_thread(move || {
            let (intake, have) = intake.begin(|part| root.reserve(size, part), afresh, &heard, &*wanted)?;
            Ok(Some(Ready { intake, have }))
        });
        while_told(begun, || cx.progress(beats.done(), None)).await
    }

    /// Forgets an offer that nobody takes up. `settled` ends when somebody does.
    fn expire(
        self: &Arc<Self>,
        key: (LinkSessionId, u64),
        settled: oneshot::Receiver<()>,
        displaced: impl Future<Output = FileError> + Send + 'static,
    ) {
        let shared = Arc::downgrade(self);
        let idle = self.idle;
        tokio::spawn(async move {
            let error = tokio::select! {
                _ = settled => return,
                error = displaced => error,
                () = tokio::time::sleep(idle) => FileError::Stalled(idle),
            };
            let offer = shared.upgrade().and_then(|shared| locked(&shared.offers).remove(&key));
            // The stream of the sink is stopped last, which tells the peer.
            let Some(Offer { sink: _sink, intake, story, .. }) = offer else { return };
            let reason = error.clone();
            let forget = move || {
                intake.abandon(reason);
                Ok(())
            };
            // Whoever is told that it has failed may come again at once, and finds room and place given back.
            let _: Result<(), FileError> = in_thread(forget).await;
            story.tell(FileStage::Failed(error));
        });
    }

    pub(super) async fn settle(self: Arc<Self>, cx: Context, settle: Settle) -> Result<Whole, Fault> {
        let offer = locked(&self.offers).remove(&(cx.peer().session(), settle.stream));
        // The stream was lost with its connection, or with the session that it was of.
        let lost = || Fault::new(Code::LINK_LOST, "no push waits for this");
        let Offer { sink, intake, meter, mut replaced, story, displaced, .. } = offer.ok_or_else(lost)?;
        story.tell(FileStage::Begun);
        let stop = async {
            tokio::select! {
                error = gone(&cx) => error,
                error = displaced => error,
                Ok(_) = replaced.wait_for(|replaced| *replaced) => FileError::Busy,
            }
        };
        let received = receive(sink, intake, self.idle, stop);
        let tell = || {
            let latest = meter.latest();
            cx.progress(latest.done, latest.total);
            story.tell(FileStage::Moving(latest));
        };
        conclude(&story, while_told(received, tell).await)
    }
}

/// The peer waits no longer. It may come again, so this is not the end of the file.
async fn gone(cx: &Context) -> FileError {
    cx.cancelled().await;
    FileError::Lost(Fault::new(Code::LINK_LOST, "the peer waits no longer"))
}

fn conclude(story: &Story, result: Result<Whole, FileError>) -> Result<Whole, Fault> {
    story.tell(match &result {
        Ok(whole) => FileStage::Done { bytes: whole.size, hash: whole.hash },
        Err(error) => FileStage::Failed(error.clone()),
    });
    Ok(result?)
}

/// Calls `tell` now and then while something goes on.
async fn while_told<T>(work: impl Future<Output = T>, tell: impl Fn()) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(TICK, work.as_mut()).await {
            Ok(done) => return done,
            Err(_) => tell(),
        }
    }
}
