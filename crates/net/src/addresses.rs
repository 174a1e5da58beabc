//! The IP addresses of this machine, from the operating system's list of interfaces. No packet is sent and no name resolved, so it
//! works without a network.

use std::{io, net::IpAddr};

use if_addrs::{IfOperStatus, Interface};

/// The addresses under which others may reach this machine, the most likely one first: IPv4 before IPv6, and those that were
/// assigned before those that the machine gave itself; tunnels come last, because the peers are usually elsewhere. Loopback
/// addresses and IPv6 addresses of one link are not among them. Empty without a network.
///
/// # Errors
/// What the operating system says if it does not list its interfaces.
///
/// ```
/// let addresses = parlour_net::addresses::local_addresses()?;
/// assert!(addresses.iter().all(|address| !address.is_loopback()));
/// # std::io::Result::Ok(())
/// ```
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    Ok(ranked(if_addrs::get_if_addrs()?))
}

/// The first of [`local_addresses`]: what to show to a person who asks where this machine is.
///
/// # Errors
/// What the operating system says if it does not list its interfaces.
pub fn best_address() -> io::Result<Option<IpAddr>> {
    Ok(local_addresses()?.into_iter().next())
}

fn ranked(interfaces: Vec<Interface>) -> Vec<IpAddr> {
    let mut addresses: Vec<_> = interfaces
        .into_iter()
        .filter(is_up)
        .filter_map(|interface| Some((rank(&interface)?, interface.index.unwrap_or(u32::MAX), interface.ip())))
        .collect();
    addresses.sort_unstable();
    addresses.into_iter().map(|(_, _, ip)| ip).collect()
}

/// Whether packets may go there. Some drivers do not know.
fn is_up(interface: &Interface) -> bool {
    matches!(interface.oper_status, IfOperStatus::Up | IfOperStatus::Unknown)
}

/// How late an address comes; `None` if it is of no use to others.
fn rank(interface: &Interface) -> Option<u8> {
    let rank = match interface.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => return None,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => return None,
        IpAddr::V4(ip) if ip.is_link_local() => 2,
        IpAddr::V6(_) => 1,
        IpAddr::V4(_) => 0,
    };
    Some(rank + if interface.is_p2p() { 3 } else { 0 })
}

/// A network interface as the discovery sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Door {
    /// The number that the operating system gives to the interface.
    pub(crate) index: u32,
    /// Its first address of the family.
    pub(crate) ip: IpAddr,
}

/// One address of each family of every interface that is up, loopback included.
pub(crate) fn doors() -> io::Result<Vec<Door>> {
    let mut doors: Vec<Door> = if_addrs::get_if_addrs()?
        .iter()
        .filter(|interface| is_up(interface))
        .map(|interface| Door { index: interface.index.unwrap_or(0), ip: interface.ip() })
        .collect();
    doors.sort_unstable();
    doors.dedup_by_key(|door| (door.index, door.ip.is_ipv4()));
    Ok(doors)
}

#[cfg(test)]
mod tests {
    use if_addrs::{IfAddr, Ifv4Addr, Ifv6Addr};

    use super::*;

    fn interface(index: u32, ip: &str, oper_status: IfOperStatus, is_p2p: bool) -> Interface {
        let addr = match ip.parse().expect("an address") {
            IpAddr::V4(ip) => IfAddr::V4(Ifv4Addr { ip, netmask: ip, prefixlen: 24, broadcast: None }),
            IpAddr::V6(ip) => IfAddr::V6(Ifv6Addr { ip, netmask: ip, prefixlen: 64, broadcast: None }),
        };
        Interface { name: format!("if{index}"), addr, index: Some(index), oper_status, is_p2p }
    }

    #[test]
    fn the_likeliest_address_comes_first_and_useless_ones_not_at_all() {
        use IfOperStatus::{Down, Unknown, Up};
        let interfaces = vec![
            interface(1, "127.0.0.1", Unknown, false),
            interface(1, "::1", Unknown, false),
            interface(9, "10.8.0.2", Up, true),
            interface(5, "169.254.3.4", Up, false),
            interface(4, "192.168.1.7", Down, false),
            interface(3, "fe80::1", Up, false),
            interface(3, "2001:db8::7", Up, false),
            interface(6, "10.1.1.1", Up, false),
            interface(3, "192.168.0.7", Unknown, false),
        ];
        let ranked: Vec<String> = ranked(interfaces).iter().map(ToString::to_string).collect();
        assert_eq!(ranked, ["192.168.0.7", "10.1.1.1", "2001:db8::7", "169.254.3.4", "10.8.0.2"]);
    }
}
