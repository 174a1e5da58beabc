//! What stations and those who look for them say on a local network: queries, and signed announcements.
//!
//! Each is one UDP datagram: [`MAGIC`], a byte for what it is, CBOR. Nothing here is secret, and nothing is believed without its
//! signature: an announcement is signed by the station's key with [`CONTEXT`], so a signature made for anything else is of no
//! use here. A query carries a nonce; an announcement that echoes it is an answer to it, hence no recording.
//!
//! ```text
//! 0                3        4     5
//! 'P' 'L' 'D'      version  kind  CBOR
//! ```

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use minicbor::{Decode, Encode};

use crate::{
    codec::{DecodeError, bounded, decode, encode},
    identity::{Signed, verify},
    limits,
};

/// First bytes of every datagram: "Parlour, local discovery", version 1.
pub const MAGIC: [u8; 4] = *b"PLD\x01";
/// Domain of a station's signature on its announcement.
pub const CONTEXT: &[u8] = b"parlour announcement v1\0";

const QUERY: u8 = 1;
const ANNOUNCEMENT: u8 = 2;

/// What an answer to a query echoes.
pub type Nonce = [u8; 16];

/// Tells one start of a station from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Boot(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 8]);

/// What carries a link to an endpoint. Values without a name are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct CarrierKind(#[n(0)] pub u8);

impl CarrierKind {
    /// WebSocket over TLS; the port is a TCP port.
    pub const WEBSOCKET: Self = Self(1);
    /// iroh under the station's key; the port is a UDP port.
    pub const IROH: Self = Self(2);
}

/// Where a station can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// At the address that the announcement came from: a station need not know its own.
    Sender,
    /// At this address.
    Ip(IpAddr),
}

impl<C> Encode<C> for Place {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self {
            Self::Sender => e.bytes(&[])?.ok(),
            Self::Ip(IpAddr::V4(ip)) => e.bytes(&ip.octets())?.ok(),
            Self::Ip(IpAddr::V6(ip)) => e.bytes(&ip.octets())?.ok(),
        }
    }
}

impl<'b, C> Decode<'b, C> for Place {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let bytes = d.bytes()?;
        let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
        match bytes.len() {
            0 => Ok(Self::Sender),
            _ => v4()
                .or_else(|_| v6())
                .map(Self::Ip)
                .map_err(|_| minicbor::decode::Error::message("length of an IP address").at(at)),
        }
    }
}

/// One door of a station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(map)]
pub struct Endpoint {
    /// What is spoken there.
    #[n(0)]
    pub carrier: CarrierKind,
    /// Where.
    #[n(1)]
    pub place: Place,
    /// The port.
    #[n(2)]
    pub port: u16,
}

impl Endpoint {
    /// WebSocket over TLS, at the address that the announcement comes from.
    #[must_use]
    pub const fn websocket(port: u16) -> Self {
        Self { carrier: CarrierKind::WEBSOCKET, place: Place::Sender, port }
    }

    /// iroh, at the address that the announcement comes from.
    #[must_use]
    pub const fn iroh(port: u16) -> Self {
        Self { carrier: CarrierKind::IROH, place: Place::Sender, port }
    }

    /// The address to connect to, if the announcement came from `sender`. An IPv6 address of the link alone gets the sender's
    /// interface, without which it means nothing.
    #[must_use]
    pub fn address(&self, sender: SocketAddr) -> SocketAddr {
        match (self.place, sender) {
            (Place::Sender, SocketAddr::V6(v6)) => SocketAddrV6::new(*v6.ip(), self.port, 0, v6.scope_id()).into(),
            (Place::Sender, SocketAddr::V4(v4)) => (*v4.ip(), self.port).into(),
            (Place::Ip(IpAddr::V6(ip)), SocketAddr::V6(v6)) if ip.is_unicast_link_local() => {
                SocketAddrV6::new(ip, self.port, 0, v6.scope_id()).into()
            }
            (Place::Ip(ip), _) => (ip, self.port).into(),
        }
    }

    fn check(&self) -> Result<(), DecodeError> {
        let reachable = match self.place {
            Place::Sender => true,
            Place::Ip(IpAddr::V4(ip)) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
            Place::Ip(IpAddr::V6(ip)) => !ip.is_unspecified() && !ip.is_multicast(),
        };
        if reachable && self.port != 0 { Ok(()) } else { Err(DecodeError::Invalid("endpoint")) }
    }
}

/// Asks the stations of a service to announce themselves to the sender.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Query {
    /// Which service; also called application or subnet.
    #[n(0)]
    pub service: String,
    /// What the answer must echo.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub nonce: Nonce,
}

impl Query {
    /// The datagram.
    ///
    /// # Errors
    /// [`DecodeError`] if the service is no label.
    pub fn to_datagram(&self) -> Result<Vec<u8>, DecodeError> {
        check_label("service", &self.service)?;
        Ok(datagram(QUERY, &encode(self)))
    }
}

/// What a station says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Announcement {
    /// The station's Ed25519 public key, with which it proves itself on every link too.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub key: [u8; 32],
    /// Which service it offers.
    #[n(1)]
    pub service: String,
    /// What its owner calls it.
    #[n(2)]
    pub name: String,
    /// Where it can be reached.
    #[n(3)]
    pub endpoints: Vec<Endpoint>,
    /// Drawn at random when the station starts.
    #[n(4)]
    pub boot: Boot,
    /// 1 for the first announcement since the start, then one more each time.
    #[n(5)]
    pub sequence: u64,
    /// How long the station has been running, in milliseconds. A time of day would tell nothing where clocks disagree.
    #[n(6)]
    pub uptime_ms: u64,
    /// How long to believe it without hearing more, in milliseconds; 0 says goodbye.
    #[n(7)]
    pub valid_ms: u32,
    /// The nonce of the query that this answers.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub echo: Option<Nonce>,
    /// Other stations of the service that it has noticed and does not step down for.
    #[n(9)]
    #[cbor(default)]
    pub rivals: Vec<Boot>,
}

impl Announcement {
    /// The bytes to sign: [`signed_message`] of them is what the key signs, [`announcement_datagram`] what is sent.
    ///
    /// # Errors
    /// [`DecodeError`] if a field is outside its bounds.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DecodeError> {
        self.check()?;
        Ok(encode(self))
    }

    fn check(&self) -> Result<(), DecodeError> {
        check_label("service", &self.service)?;
        check_label("station name", &self.name)?;
        bounded("endpoints", self.endpoints.len(), limits::ENDPOINTS)?;
        if self.endpoints.is_empty() {
            return Err(DecodeError::Invalid("endpoints"));
        }
        bounded("rivals", self.rivals.len(), limits::ANNOUNCED_RIVALS)?;
        self.endpoints.iter().try_for_each(Endpoint::check)?;
        if self.sequence == 0 { Err(DecodeError::Invalid("sequence")) } else { Ok(()) }
    }
}

/// A label is shown in one line, and compared byte by byte.
fn check_label(field: &'static str, text: &str) -> Result<(), DecodeError> {
    bounded(field, text.len(), limits::LABEL)?;
    if text.is_empty() || text.chars().any(char::is_control) { Err(DecodeError::Invalid(field)) } else { Ok(()) }
}

/// What a station's key signs for an announcement of these bytes.
#[must_use]
pub fn signed_message(bytes: &[u8]) -> Vec<u8> {
    [CONTEXT, bytes].concat()
}

/// The datagram of an announcement: its bytes as they were signed, and the signature.
#[must_use]
pub fn announcement_datagram(bytes: Vec<u8>, signature: [u8; 64]) -> Vec<u8> {
    datagram(ANNOUNCEMENT, &encode(&Signed { bytes, signature }))
}

fn datagram(kind: u8, body: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &[kind], body].concat()
}

/// An announcement as it arrived: well-formed, but said by nobody knows whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    claims: Announcement,
    signed: Signed,
}

impl Unverified {
    /// What it claims: enough to drop it without the cost of a signature check.
    #[must_use]
    pub fn claims(&self) -> &Announcement {
        &self.claims
    }

    /// Checks that the key it names has signed it.
    ///
    /// # Errors
    /// [`DecodeError::BadSignature`].
    pub fn verify(self) -> Result<Announcement, DecodeError> {
        verify(&self.claims.key, CONTEXT, &self.signed.bytes, &self.signed.signature, "announcement")?;
        Ok(self.claims)
    }
}

/// A datagram of the local discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// Who is there?
    Query(Query),
    /// I am, somebody says.
    Announcement(Box<Unverified>),
}

impl Datagram {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`DecodeError`] for anything malformed, too long, of another version or outside its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        bounded("datagram", bytes.len(), limits::DATAGRAM)?;
        let rest = bytes.strip_prefix(&MAGIC).ok_or(DecodeError::BadMagic)?;
        match rest.split_first() {
            Some((&QUERY, body)) => {
                let query: Query = decode(body)?;
                check_label("service", &query.service)?;
                Ok(Self::Query(query))
            }
            Some((&ANNOUNCEMENT, body)) => {
                let signed: Signed = decode(body)?;
                let claims: Announcement = decode(&signed.bytes)?;
                claims.check()?;
                Ok(Self::Announcement(Box::new(Unverified { claims, signed })))
            }
            Some(_) => Err(DecodeError::Invalid("kind of datagram")),
            None => Err(DecodeError::Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_at_the_sender_has_its_address_and_interface() {
        let endpoint = Endpoint { carrier: CarrierKind::WEBSOCKET, place: Place::Sender, port: 7443 };
        let v4 = "192.0.2.7:1000".parse().expect("valid");
        assert_eq!(endpoint.address(v4), "192.0.2.7:7443".parse().expect("valid"));
        let v6 = SocketAddrV6::new("fe80::1".parse().expect("valid"), 1000, 5, 3);
        assert_eq!(endpoint.address(v6.into()), SocketAddrV6::new(*v6.ip(), 7443, 0, 3).into());
        let other = Endpoint { place: Place::Ip("fe80::2".parse().expect("valid")), ..endpoint };
        assert_eq!(other.address(v6.into()), SocketAddrV6::new("fe80::2".parse().expect("valid"), 7443, 0, 3).into());
        let named = Endpoint { place: Place::Ip("10.0.0.1".parse().expect("valid")), ..endpoint };
        assert_eq!(named.address(v6.into()), "10.0.0.1:7443".parse().expect("valid"));
    }
}
