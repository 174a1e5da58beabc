//! What handles ask of a driver, and what callers are told who get nothing else.

use std::{cell::RefCell, sync::Arc};

use bytes::Bytes;
use parlour_proto::link::{Answer, RequestId, StreamId, Tag, action_header};
use parlour_wire::{Code, LinkSessionId, frame::ContentType, header::Fault, limits};
use thiserror::Error;

use crate::{
    asked::AskCell,
    streams::{SinkCell, SourceCell},
};

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// Too much is under way; [`crate::Link::ready`] waits until there is room.
    #[error("too much is under way")]
    Full,
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
    /// Larger than a frame may be, or with a longer name.
    #[error("larger than a frame may be")]
    TooLarge,
}

/// What waits for its turn in the link, in the order of the calls.
pub(crate) enum Call {
    Ask(Arc<AskCell>),
    Action(Action),
}

/// An action with its header made: one header serves a whole fan-out.
#[derive(Clone)]
pub(crate) struct Action {
    pub(crate) header: Bytes,
    pub(crate) content_type: ContentType,
    pub(crate) content: Bytes,
}

impl Action {
    pub(crate) fn new(name: &str, content_type: ContentType, content: Bytes) -> Result<Self, SendError> {
        let header = header_of(name);
        let size = header.len() + content.len() + parlour_wire::frame::PROTO_HEADER;
        if name.len() > limits::LABEL || size > limits::FRAME {
            return Err(SendError::TooLarge);
        }
        Ok(Self { header, content_type, content })
    }
}

/// An answer to a request of the peer.
pub(crate) type Reply = (RequestId, Result<Answer, Fault>);

/// What an answer takes beside its content or text: its places in the queues on its way.
const REPLY_BYTES: usize = 100;

/// The bytes of an answer that a bound counts. None is without weight, or there could be any number of them.
pub(crate) fn weight(result: &Result<Answer, Fault>) -> usize {
    REPLY_BYTES
        + match result {
            Ok(answer) => answer.content.len(),
            Err(fault) => fault.message.len(),
        }
}

/// What must not wait behind calls that find no room. As many as requests and handles.
pub(crate) enum Control {
    Progress {
        id: RequestId,
        done: u64,
        total: Option<u64>,
    },
    Cancel(Tag),
    /// A request that goes before the calls.
    First(Arc<AskCell>),
    /// The peer of this session is the right one.
    Trust(LinkSessionId),
    Reconnect,
    Stream(StreamControl),
}

/// What the handles of streams ask of the driver.
pub(crate) enum StreamControl {
    Sink {
        stream: StreamId,
        credit: u64,
        cell: Arc<SinkCell>,
    },
    Grant {
        stream: StreamId,
        credit: u64,
    },
    Stop {
        stream: StreamId,
        fault: Fault,
    },
    Source {
        stream: StreamId,
        credit: u64,
        cell: Arc<SourceCell>,
    },
    /// A source has something, having had nothing.
    Ready {
        stream: StreamId,
    },
}

/// The header of an action, made once for a run of actions of the same name.
fn header_of(name: &str) -> Bytes {
    thread_local! {
        static LAST: RefCell<Option<(Box<str>, Bytes)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((known, header)) if **known == *name => header.clone(),
        _ => {
            let header = action_header(name);
            *last = Some((Box::from(name), header.clone()));
            header
        }
    })
}

/// What a caller is told whose link has ended.
pub(crate) fn closed() -> Fault {
    Fault { code: Code::LINK_LOST, message: "the link is closed".to_owned(), retry_after_ms: None }
}

/// What a caller is told whose session is over.
pub(crate) fn lost() -> Fault {
    Fault { code: Code::LINK_LOST, message: "the session is lost".to_owned(), retry_after_ms: None }
}

/// What a caller is told whose time is over.
pub(crate) fn late() -> Fault {
    Fault { code: Code::TIMED_OUT, message: "no answer within the deadline".to_owned(), retry_after_ms: None }
}
