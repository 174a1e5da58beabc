//! The way in over iroh: the QUIC handshake, in which both sides prove their keys, and the stream that the client opens.

use std::net::{Ipv6Addr, SocketAddr};

use ::iroh::endpoint::{ConnectionError, Incoming, IncomingAddr};
use tokio::sync::OwnedSemaphorePermit;

use super::IrohCarrier;
use crate::{carrier::CarrierError, door::Guest, identity::PeerKey};

/// Where a connection comes from; the unspecified address if it comes over a relay.
pub(crate) fn origin(incoming: &Incoming) -> SocketAddr {
    match incoming.remote_addr() {
        IncomingAddr::Ip(address) => address,
        _ => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

pub(crate) async fn enter(incoming: Incoming, fingerprint: [u8; 32], permit: OwnedSemaphorePermit) -> Result<Guest, CarrierError> {
    let peer = origin(&incoming);
    let connection = incoming.accept()?.await.map_err(|error| CarrierError::Io(std::io::Error::other(error)))?;
    let key = PeerKey(*connection.remote_id().as_bytes());
    // A signature under such a key proves nothing.
    let key = key.is_sound().then_some(key);
    let (send, recv) = connection.accept_bi().await?;
    let carrier = Box::new(IrohCarrier::new(connection, send, recv, permit));
    Ok(Guest { carrier, peer, key, fingerprint })
}

impl From<ConnectionError> for CarrierError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed => Self::Closed,
            error => Self::Io(error.into()),
        }
    }
}
