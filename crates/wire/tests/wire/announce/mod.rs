//! Announcements on a local network: bounds, and what a signature covers.

use parlour_wire::{
    DecodeError,
    announce::{Announcement, Boot, CarrierKind, Datagram, Endpoint, Place, Query},
    limits,
};
use proptest::prelude::*;

use crate::samples::{announced, announcement};

fn verified(bytes: &[u8]) -> Result<Announcement, DecodeError> {
    match Datagram::decode(bytes)? {
        Datagram::Announcement(unverified) => unverified.verify(),
        Datagram::Query(_) => Err(DecodeError::Invalid("kind of datagram")),
    }
}

#[test]
fn what_a_station_says_is_read() {
    assert_eq!(verified(&announced(&announcement())), Ok(announcement()));
}

#[test]
fn the_longest_announcement_fits_a_datagram() {
    let longest = Announcement {
        service: "s".repeat(limits::LABEL),
        name: "n".repeat(limits::LABEL),
        endpoints: vec![
            Endpoint { carrier: CarrierKind(u8::MAX), place: Place::Ip([0xfd; 16].into()), port: u16::MAX };
            limits::ENDPOINTS
        ],
        sequence: u64::MAX,
        uptime_ms: u64::MAX,
        valid_ms: u32::MAX,
        rivals: vec![Boot([0xff; 8]); limits::ANNOUNCED_RIVALS],
        ..announcement()
    };
    let bytes = announced(&longest);
    assert!(bytes.len() <= limits::DATAGRAM, "{} bytes", bytes.len());
    assert_eq!(verified(&bytes), Ok(longest));
}

#[test]
fn an_announcement_out_of_bounds_is_neither_made_nor_read() {
    let endpoint = announcement().endpoints[0];
    let bad = [
        Announcement { service: String::new(), ..announcement() },
        Announcement { service: "s".repeat(limits::LABEL + 1), ..announcement() },
        Announcement { name: "\u{1b}[2J".to_owned(), ..announcement() },
        Announcement { endpoints: vec![], ..announcement() },
        Announcement { endpoints: vec![endpoint; limits::ENDPOINTS + 1], ..announcement() },
        Announcement { endpoints: vec![Endpoint { port: 0, ..endpoint }], ..announcement() },
        Announcement { endpoints: vec![Endpoint { place: Place::Ip([224, 0, 0, 1].into()), ..endpoint }], ..announcement() },
        Announcement { endpoints: vec![Endpoint { place: Place::Ip([0; 16].into()), ..endpoint }], ..announcement() },
        Announcement { rivals: vec![Boot([1; 8]); limits::ANNOUNCED_RIVALS + 1], ..announcement() },
        Announcement { sequence: 0, ..announcement() },
    ];
    for announcement in bad {
        assert!(announcement.to_bytes().is_err(), "{announcement:?}");
        let bytes = parlour_wire::encode(&announcement);
        let datagram = parlour_wire::announce::announcement_datagram(bytes, [0; 64]);
        assert!(Datagram::decode(&datagram).is_err(), "{announcement:?}");
    }
    let query = Query { service: "a\nb".to_owned(), nonce: [0; 16] };
    assert_eq!(query.to_datagram(), Err(DecodeError::Invalid("service")));
}

#[test]
fn a_datagram_of_another_protocol_or_too_long_is_refused() {
    let mut bytes = announced(&announcement());
    assert_eq!(Datagram::decode(b""), Err(DecodeError::BadMagic));
    assert_eq!(Datagram::decode(&bytes[..4]), Err(DecodeError::Truncated));
    bytes.resize(limits::DATAGRAM + 1, 0);
    assert_eq!(Datagram::decode(&bytes), Err(DecodeError::TooLong("datagram")));
    bytes.truncate(100);
    bytes[3] = 2;
    assert_eq!(Datagram::decode(&bytes), Err(DecodeError::BadMagic));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bit_of_a_signed_announcement_can_be_turned(bit in any::<prop::sample::Index>()) {
        let mut bytes = announced(&announcement());
        let bit = bit.index(8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(verified(&bytes).is_err(), "bit {bit}");
    }
}
