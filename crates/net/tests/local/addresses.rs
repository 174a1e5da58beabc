//! The machine's own addresses, with a network and without.

use std::net::{IpAddr, UdpSocket};

use parlour_net::addresses::{best_address, local_addresses};

use crate::own_network::{is_inside, run_in_own_network};

#[test]
fn the_addresses_are_those_of_this_machine() {
    let addresses = local_addresses().unwrap();
    assert_eq!(best_address().unwrap(), addresses.first().copied());
    for address in addresses {
        assert!(!address.is_loopback() && !address.is_unspecified());
        UdpSocket::bind((address, 0)).unwrap_or_else(|error| panic!("{address} is not ours: {error}"));
    }
}

#[test]
fn without_a_network_there_are_no_addresses_and_no_error() {
    if !is_inside() {
        run_in_own_network("addresses::without_a_network_there_are_no_addresses_and_no_error", "true");
        return;
    }
    assert_eq!(local_addresses().unwrap(), Vec::<IpAddr>::new());
    assert_eq!(best_address().unwrap(), None);
}

#[test]
fn an_address_is_known_where_no_packet_could_go_out() {
    if !is_inside() {
        run_in_own_network(
            "addresses::an_address_is_known_where_no_packet_could_go_out",
            "ip link add eth7 type veth peer name eth8 && ip addr add 10.9.8.7/32 dev eth7 && ip link set eth8 up && \
             ip link set eth7 up && ip route flush table main",
        );
        return;
    }
    let outside = UdpSocket::bind("0.0.0.0:0").unwrap();
    outside.send_to(b"", "192.0.2.1:9").expect_err("there is no way out");
    assert_eq!(best_address().unwrap(), Some([10, 9, 8, 7].into()));
}
