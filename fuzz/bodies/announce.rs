//! Datagrams of the local network: what is decoded is within its bounds, can be said again, and is believed only with a signature.

use parlour_wire::announce::{Datagram, announcement_datagram};

pub(crate) fn run(data: &[u8]) {
    match Datagram::decode(data) {
        Ok(Datagram::Query(query)) => {
            let again = query.to_datagram().expect("what was decoded is in bounds");
            assert_eq!(Datagram::decode(&again), Ok(Datagram::Query(query)));
        }
        Ok(Datagram::Announcement(announcement)) => {
            let claims = announcement.claims().clone();
            let bytes = claims.to_bytes().expect("what was decoded is in bounds");
            for endpoint in &claims.endpoints {
                let address = endpoint.address(([192, 0, 2, 1], 7).into());
                assert!(address.port() == endpoint.port && !address.ip().is_unspecified());
            }
            if let Ok(Datagram::Announcement(forged)) = Datagram::decode(&announcement_datagram(bytes, [0; 64])) {
                assert_eq!(forged.claims(), &claims);
                assert!(forged.verify().is_err());
            } else {
                panic!("cannot be said again");
            }
            if let Ok(said) = announcement.verify() {
                assert_eq!(said, claims);
            }
        }
        Err(_) => {}
    }
}
