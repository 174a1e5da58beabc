//! Tokio drivers for Parlour's protocol machines: TLS, the WebSocket carrier, the client's and the server's end of a link.
//!
//! Both ends hold a [`Link`]: a handle that asks, acts, answers and streams. The client's comes from [`Link::connect`], with the
//! [`Events`] of its end; the server's from [`Pusher::link`].
//!
//! ```text
//! let (link, mut events) = Link::connect(ConnectConfig::new(url, Trust::FirstUse));
//! while let Some(event) = events.next().await { … }                   // Up, Down, Action, Request, Cancelled, Remains, Failed
//! link.request_raw("name", ContentType::CBOR, content, Duration::from_secs(10)).await -> Result<Answer { content_type, content }, Fault>
//! link.ask(Ask { … })                                                 // the same with progress; dropping it cancels
//! link.action_raw("name", ContentType::CBOR, content)?;               // link.ready().await when it says Full
//! link.answer(id, result)?; link.progress(id, done, total)?; link.reconnect(); link.close().await
//! let mut sink = link.sink(credit);                                   // tell the peer sink.id() and sink.credit(), then sink.recv().await
//! let mut source = link.source(id, credit);                           // source.send(mark, content).await, source.finish(last).await
//! ```
//!
//! The server side is [`Listener`] and a [`SessionService`]:
//!
//! ```text
//! let PemPair { cert_pem, key_pem } = ServerIdentity::self_signed(&["localhost".into()])?;
//! let identity = ServerIdentity::load(&cert_pem, &key_pem)?;          // identity.fingerprint()
//! let listener = Listener::bind(addr, identity).await?;               // listener.local_addr()
//! listener.serve(Arc::new(service), ListenConfig::default(), shutdown: watch::Receiver<bool>).await
//! ```
//!
//! What goes over the link is decided by `parlour_proto::link`; here are sockets, clocks, random numbers and tasks.

pub mod addresses;
mod asked;
mod buffers;
mod carrier;
pub mod clock;
mod connect;
pub mod discovery;
mod desk;
mod door;
mod driver;
pub mod durable;
mod event;
mod files;
mod flows;
mod http;
mod identity;
#[cfg(feature = "iroh")]
mod iroh;
mod link;
mod listener;
mod mailbox;
mod port;
mod pump;
mod pusher;
mod queue;
mod registry;
mod service;
mod session;
mod socket;
mod streams;
pub mod tls;
mod toolkit;
mod websocket;

#[cfg(feature = "iroh")]
pub use self::iroh::{IrohAddr, IrohConfig, IrohEndpoint, IrohError};
pub use asked::{Ask, Asked, Progress};
pub use connect::{Backoff, ConnectConfig, ConnectError, Target};
pub use durable::{DurableConfig, DurableQueue, Marks, MarksConfig, QueueError};
pub use event::{Events, LinkEvent};
pub use files::*;
pub use identity::{Identity, IdentityError, KeySet, NotAKey, PeerKey};
pub use link::Link;
pub use listener::{Admission, ListenConfig, Listener, SessionInfo};
pub use parlour_proto::link::{Answer, KeepAlive, LinkConfig, OpenRequests, Remains, RequestId, StreamId, Unsent};
pub use parlour_wire::header::Origin;
pub use port::SendError;
pub use pusher::{PushError, Pusher};
pub use service::{Incoming, IncomingAction, SessionService};
pub use streams::{Received, Sink, Source};
pub use toolkit::*;
pub use tls::{PemPair, ServerIdentity, TlsError, Trust};
