//! Tokio drivers for Parlour's protocol machines: TLS, the WebSocket carrier, the client's and the server's end of a link.
//!
//! The client side is [`Link`] with its stream of [`Events`]:
//!
//! ```text
//! let (link, mut events) = Link::connect(ConnectConfig::new(url, Trust::FirstUse));
//! // enum LinkEvent {
//! //     Up { session, resumed, challenge: [u8; 32], fingerprint: [u8; 32], trusted_by_system, capabilities },
//! //     Down { fault: Fault, retry_in: Duration },
//! //     Action { name: String, content_type, content: Bytes },
//! //     Request { id: RequestId, name, content_type, content, deadline },    answer with link.answer(id, result)
//! //     Failed(ConnectError),                                        permanent; the stream ends after it
//! // }
//! while let Some(event) = events.next().await { … }
//! link.request_raw("name", ContentType::CBOR, content, Duration::from_secs(10)).await -> Result<Answer { content_type, content }, Fault>
//! link.action_raw("name", ContentType::CBOR, content) -> Result<(), SendError>
//! link.answer(id, result)?; link.reconnect(); link.close().await
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

mod asked;
mod buffers;
mod carrier;
mod connect;
mod desk;
mod door;
mod driver;
mod event;
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
mod websocket;

#[cfg(feature = "iroh")]
pub use self::iroh::{IrohAddr, IrohConfig, IrohEndpoint, IrohError};
pub use asked::{Ask, Asked, Progress};
pub use connect::{Backoff, ConnectConfig, ConnectError, Target};
pub use event::{Events, LinkEvent};
pub use identity::{Identity, IdentityError, KeySet, NotAKey, PeerKey};
pub use link::Link;
pub use listener::{Admission, ListenConfig, Listener, SessionInfo};
pub use parlour_proto::link::{Answer, KeepAlive, LinkConfig, OpenRequests, Remains, RequestId, StreamId, Unsent};
pub use parlour_wire::header::Origin;
pub use port::SendError;
pub use pusher::{PushError, Pusher};
pub use service::{Incoming, IncomingAction, SessionService};
pub use streams::{Received, Sink, Source};
pub use tls::{PemPair, ServerIdentity, TlsError, Trust};
