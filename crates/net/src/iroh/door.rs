//! The way in over iroh: the QUIC handshake, in which both sides prove their keys, and the stream that the client opens.

use std::net::{Ipv6Addr, SocketAddr};

use ::iroh::endpoint::{Connection, ConnectionError, Incoming, IncomingAddr, VarInt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{IrohCarrier, IrohEndpoint};
use crate::{carrier::CarrierError, door::Guest, identity::PeerKey};

/// Handshakes under way at a time beyond which whoever arrives must first show that it gets what is sent to its address: a
/// connection costs a hundred kilobytes, and a packet with a false address nothing.
const CROWD: usize = 32;
/// Why a connection ends on which nothing was said.
const SILENT: &[u8] = b"nothing was said";

/// A listener's door on an endpoint. Without it, connections to the endpoint are refused.
pub(crate) struct IrohDoor {
    arrivals: mpsc::Receiver<Incoming>,
    endpoint: IrohEndpoint,
}

impl IrohDoor {
    pub(crate) fn open(endpoint: IrohEndpoint) -> Self {
        Self { arrivals: endpoint.listen(), endpoint }
    }

    /// Waits for somebody; for ever, if another listener has taken the endpoint over, or it is closed.
    pub(crate) async fn next(&mut self) -> Arriving {
        match self.arrivals.recv().await {
            Some(incoming) => Arriving { incoming, endpoint: self.endpoint.clone() },
            None => std::future::pending().await,
        }
    }
}

/// Somebody who wants to connect.
pub(crate) struct Arriving {
    incoming: Incoming,
    endpoint: IrohEndpoint,
}

impl Arriving {
    /// Where it comes from; the unspecified address if it comes over a relay.
    pub(crate) fn peer(&self) -> SocketAddr {
        match self.incoming.remote_addr() {
            IncomingAddr::Ip(address) => address,
            _ => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }

    pub(crate) fn refuse(self) {
        self.incoming.refuse();
    }

    /// In a crowd, sends away who has not shown that its address is its own; it comes back at once with a proof.
    pub(crate) fn or_prove_address(self, crowd: usize) -> Option<Self> {
        if crowd < CROWD || self.incoming.remote_addr_validated() {
            return Some(self);
        }
        // Fails for a proven address, and this is none.
        drop(self.incoming.retry());
        None
    }

    pub(crate) async fn enter(self, permit: OwnedSemaphorePermit) -> Result<Guest, CarrierError> {
        let (peer, fingerprint) = (self.peer(), self.endpoint.fingerprint());
        let connection = self.incoming.accept()?.await.map_err(|error| CarrierError::Io(std::io::Error::other(error)))?;
        // A signature under some keys proves nothing.
        let key = Some(PeerKey(*connection.remote_id().as_bytes())).filter(PeerKey::is_sound);
        let silent = Silent(Some(&connection));
        let (send, recv) = connection.accept_bi().await?;
        silent.has_spoken();
        // An endpoint that closes takes its connections with it; so it stays until the last has said goodbye.
        let carrier = Box::new(IrohCarrier::new(connection, send, recv, (permit, self.endpoint)));
        Ok(Guest { carrier, peer, key, fingerprint })
    }
}

/// Somebody who has opened no stream yet, on which it could be told why it is given up: the end of the connection says so instead.
struct Silent<'a>(Option<&'a Connection>);

impl Silent<'_> {
    fn has_spoken(mut self) {
        self.0 = None;
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0 {
            connection.close(VarInt::from_u32(0), SILENT);
        }
    }
}

impl From<ConnectionError> for CarrierError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed => Self::Closed,
            error => Self::Io(error.into()),
        }
    }
}
