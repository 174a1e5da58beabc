//! What an agent does with the news of its link while its handlers are behind.

use std::task::Waker;

use super::*;
use crate::{
    connect::ConnectError,
    port::Port,
    queue::{Filler, queue},
    toolkit::{
        access::Access,
        codec::Codecs,
        dedupe::DedupeLimits,
        handlers::{Handlers, Registry},
        hooks::Hooks,
        ledger::Ledger,
    },
};

/// More than wait for a handler before the peer is asked to keep the others.
const MANY: u32 = 3000;

/// The task of an agent whose handler never comes to its end, and the place where the driver of its link leaves events.
fn stuck() -> (Task, Filler<LinkEvent>, watch::Receiver<Standing>) {
    let mut handlers = Handlers::new();
    handlers.on_action("stuck", |_cx, ()| std::future::pending::<()>()).allow(Access::Anyone);
    let registry = Registry::new(handlers, Codecs::new());
    let shared = Arc::new(Shared { registry, ledger: Arc::new(Ledger::new(DedupeLimits::default())) });
    let (filler, taker) = queue();
    let (sender, standing) = watch::channel(Standing::Coming);
    let events = (Link::new(Arc::new(Port::default())), Events { queue: taker });
    let credentials = Credentials { fleet: None, key: None, known: true };
    (Task::new(events, shared, Line::new(Arc::new(Hooks::new())), sender, credentials), filler, standing)
}

fn up(session: u8, resumed: bool) -> LinkEvent {
    LinkEvent::Up {
        session: LinkSessionId([session; 16]),
        resumed,
        challenge: [0; 32],
        fingerprint: [0; 32],
        trusted_by_system: false,
        peer_key: None,
        capabilities: Vec::new(),
    }
}

fn flood(filler: &Filler<LinkEvent>) {
    let content = Codecs::new().encode(ContentType::CBOR, &()).unwrap();
    for _ in 0..MANY {
        let (name, content) = ("stuck".to_owned(), content.clone());
        filler.push(LinkEvent::Action { name, content_type: ContentType::CBOR, content });
    }
}

/// Polls the task for as long as it would be polled before something happens.
fn poll(task: &mut Task) -> Poll<()> {
    (0..100).fold(Poll::Pending, |polled, _| match polled {
        Poll::Ready(()) => polled,
        Poll::Pending => Pin::new(&mut *task).poll(&mut Context::from_waker(Waker::noop())),
    })
}

fn session(standing: &watch::Receiver<Standing>) -> Option<LinkSessionId> {
    match &*standing.borrow() {
        Standing::Here(peer) => Some(peer.session()),
        Standing::Coming | Standing::Gone(_) => None,
    }
}

#[tokio::test]
async fn a_handler_that_never_ends_does_not_keep_the_end_of_the_link_from_being_noticed() {
    for fails in [false, true] {
        let (mut task, filler, standing) = stuck();
        filler.push(up(1, false));
        flood(&filler);
        assert!(poll(&mut task).is_pending() && filler.waiting() > 0, "what is too much waits where the driver sees it");
        if fails {
            filler.push(LinkEvent::Failed(ConnectError::Refused(Fault::new(Code::FORBIDDEN, "not here"))));
        }
        drop(filler);
        assert!(poll(&mut task).is_ready());
        assert_eq!(matches!(&*standing.borrow(), Standing::Gone(AgentError::Connect(_))), fails);
        assert!(matches!(&*standing.borrow(), Standing::Gone(_)));
    }
}

#[tokio::test]
async fn a_handler_that_never_ends_does_not_keep_another_session_from_beginning() {
    let (mut task, filler, standing) = stuck();
    filler.push(up(1, false));
    flood(&filler);
    assert!(poll(&mut task).is_pending());
    assert_eq!(session(&standing), Some(LinkSessionId([1; 16])));
    filler.push(LinkEvent::Down { fault: Fault::new(Code::LINK_LOST, "gone"), retry_in: Duration::ZERO });
    filler.push(up(2, false));
    assert!(poll(&mut task).is_pending());
    assert_eq!((session(&standing), filler.waiting()), (Some(LinkSessionId([2; 16])), 0));
}

#[tokio::test]
async fn news_are_no_way_to_have_more_taken_than_there_is_room_for() {
    let (mut task, filler, _standing) = stuck();
    filler.push(up(1, false));
    for _ in 0..20 {
        flood(&filler);
        filler.push(up(1, true));
        assert!(poll(&mut task).is_pending());
    }
    assert!(filler.waiting() > 20 * MANY as usize - 9000, "{} wait", filler.waiting());
}
