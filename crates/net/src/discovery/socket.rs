//! The UDP sockets of the discovery: one to hear the group, one on every interface to speak from and be answered at.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll},
    time::Duration,
};

use parlour_wire::limits;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::ReadBuf, net::UdpSocket};

use super::{Multicast, Network};
use crate::addresses::{Door, doors};

/// How often the list of interfaces is read, to notice networks that come and go.
pub(super) const REFRESH: Duration = Duration::from_secs(5);
/// Room for a datagram, and for one byte that says that it is too long.
const ROOM: usize = limits::DATAGRAM + 1;
/// Errors in a row that a read skips: some systems report here that an earlier datagram found nobody.
const ERRORS_SKIPPED: usize = 16;

/// The sockets for one [`Network`].
#[derive(Debug)]
pub(super) struct Sockets {
    network: Network,
    /// What the sockets were opened for.
    doors: Vec<Door>,
    /// Hear the groups.
    ears: Vec<UdpSocket>,
    /// Speak to everyone, and hear the answers.
    mouths: Vec<Mouth>,
    /// Which socket is read first: every one in its turn, so that none is drowned by another.
    turn: usize,
}

#[derive(Debug)]
struct Mouth {
    socket: UdpSocket,
    /// Where what is for everyone goes.
    everyone: Vec<SocketAddr>,
    /// Whether answers to single addresses may leave here, wherever those are.
    anywhere: bool,
}

impl Sockets {
    pub(super) fn open(network: Network) -> io::Result<Self> {
        let mut sockets = Self { network, doors: Vec::new(), ears: Vec::new(), mouths: Vec::new(), turn: 0 };
        match sockets.network.clone() {
            Network::Unicast { bind, targets } => {
                let socket = udp(bind, false)?;
                sockets.mouths.push(Mouth { socket, everyone: targets, anywhere: true });
            }
            Network::Multicast(multicast) => sockets.open_multicast(&multicast)?,
        }
        Ok(sockets)
    }

    fn open_multicast(&mut self, multicast: &Multicast) -> io::Result<()> {
        self.doors = doors_of(multicast)?;
        let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "no network interface for multicast");
        for opened in [self.open_v4(multicast), self.open_v6(multicast)] {
            if let Err(error) = opened {
                tracing::debug!(%error, "no local discovery over this family of addresses");
                failure = error;
            }
        }
        if self.ears.is_empty() { Err(failure) } else { Ok(()) }
    }

    fn open_v4(&mut self, multicast: &Multicast) -> io::Result<()> {
        let Some(group) = multicast.group_v4 else { return Ok(()) };
        let mouths = self.doors.iter().filter_map(|door| match door.ip {
            IpAddr::V4(ip) => Some((ip, mouth_v4(ip, group, multicast.port))),
            IpAddr::V6(_) => None,
        });
        let (ips, mouths) = working(mouths);
        let ear = ear_v4(group, multicast.port)?;
        let joined = joined(&ips, |ip| ear.join_multicast_v4(&group, ip))?;
        tracing::debug!(interfaces = joined, %group, "listening");
        self.ears.push(UdpSocket::from_std(ear.into())?);
        self.mouths.extend(mouths);
        let socket = udp((Ipv4Addr::UNSPECIFIED, 0).into(), false)?;
        self.mouths.push(Mouth { socket, everyone: Vec::new(), anywhere: true });
        Ok(())
    }

    fn open_v6(&mut self, multicast: &Multicast) -> io::Result<()> {
        let Some(group) = multicast.group_v6 else { return Ok(()) };
        let mouths = self.doors.iter().filter_map(|door| match door.ip {
            IpAddr::V6(_) => Some((door.index, mouth_v6(door.index, group, multicast.port))),
            IpAddr::V4(_) => None,
        });
        let (indices, mouths) = working(mouths);
        let ear = ear_v6(multicast.port)?;
        let joined = joined(&indices, |index| ear.join_multicast_v6(&group, *index))?;
        tracing::debug!(interfaces = joined, %group, "listening");
        self.ears.push(UdpSocket::from_std(ear.into())?);
        self.mouths.extend(mouths);
        Ok(())
    }

    /// Where unicast datagrams can be sent to it.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self.network {
            Network::Unicast { .. } => self.mouths.first().and_then(|mouth| mouth.socket.local_addr().ok()),
            Network::Multicast(_) => None,
        }
    }

    /// Opens the sockets anew if interfaces have come or gone.
    pub(super) fn refresh(&mut self) {
        let Network::Multicast(multicast) = &self.network else { return };
        if doors_of(multicast).is_ok_and(|doors| doors == self.doors) {
            return;
        }
        match Self::open(self.network.clone()) {
            Ok(sockets) => *self = sockets,
            Err(error) => tracing::debug!(%error, "no network for the local discovery at the moment"),
        }
    }

    /// Sends a datagram to everyone. What finds no room, or no way, is lost, as on the network itself.
    pub(super) fn tell_everyone(&self, datagram: &[u8]) {
        for mouth in &self.mouths {
            for to in &mouth.everyone {
                send(&mouth.socket, datagram, *to);
            }
        }
    }

    /// Sends a datagram to one address, from the interface that leads there.
    pub(super) fn tell(&self, to: SocketAddr, datagram: &[u8]) {
        let leads =
            |mouth: &&Mouth| mouth.anywhere && mouth.socket.local_addr().is_ok_and(|local| local.is_ipv4() == to.is_ipv4());
        match self.mouths.iter().find(leads) {
            Some(mouth) => send(&mouth.socket, datagram, to),
            None => tracing::debug!(%to, "no socket for this family of addresses"),
        }
    }

    /// The next datagram; longer ones than allowed are cut one byte beyond.
    pub(super) async fn recv(&mut self) -> (Vec<u8>, SocketAddr) {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<(Vec<u8>, SocketAddr)> {
        let sockets: Vec<&UdpSocket> = self.ears.iter().chain(self.mouths.iter().map(|mouth| &mouth.socket)).collect();
        let mut room = [0; ROOM];
        for offset in 0..sockets.len() {
            let which = (self.turn + offset) % sockets.len();
            for _ in 0..ERRORS_SKIPPED {
                let mut buffer = ReadBuf::new(&mut room);
                match sockets[which].poll_recv_from(cx, &mut buffer) {
                    Poll::Ready(Ok(from)) => {
                        let datagram = buffer.filled().to_vec();
                        self.turn = which + 1;
                        return Poll::Ready((datagram, from));
                    }
                    Poll::Ready(Err(error)) => tracing::trace!(%error, "skipped"),
                    Poll::Pending => break,
                }
            }
        }
        Poll::Pending
    }
}

fn doors_of(multicast: &Multicast) -> io::Result<Vec<Door>> {
    let mut all = doors()?;
    if !multicast.interfaces.is_empty() {
        all.retain(|door| multicast.interfaces.contains(&door.ip));
    }
    Ok(all)
}

/// The mouths that could be opened, with what each is for.
fn working<D>(mouths: impl Iterator<Item = (D, io::Result<Mouth>)>) -> (Vec<D>, Vec<Mouth>) {
    mouths
        .filter_map(|(door, mouth)| match mouth {
            Ok(mouth) => Some((door, mouth)),
            Err(error) => {
                tracing::debug!(%error, "an interface without multicast");
                None
            }
        })
        .unzip()
}

/// Joins a group on every interface; fails if none could.
fn joined<D>(doors: &[D], join: impl Fn(&D) -> io::Result<()>) -> io::Result<usize> {
    let (mut joined, mut failure) = (0, None);
    for door in doors {
        match join(door) {
            Ok(()) => joined += 1,
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if joined == 0 => Err(error),
        None if joined == 0 => Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no network interface for multicast")),
        _ => Ok(joined),
    }
}

fn send(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(datagram, to) {
        tracing::debug!(%to, %error, "not sent");
    }
}

/// A socket that is bound and does not block; `shared` lets other programs hear on the same port.
fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_address(true)?;
        #[cfg(target_vendor = "apple")]
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn udp(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    UdpSocket::from_std(bound(address, shared)?.into())
}

/// Hears an IPv4 group, and where the system can, nothing else that comes to the port.
fn ear_v4(group: Ipv4Addr, port: u16) -> io::Result<Socket> {
    let address = if cfg!(windows) { Ipv4Addr::UNSPECIFIED } else { group };
    let ear = bound((address, port).into(), true)?;
    // Otherwise it would also hear what other programs of this machine have joined on other interfaces.
    #[cfg(target_os = "linux")]
    ear.set_multicast_all_v4(false)?;
    Ok(ear)
}

fn ear_v6(port: u16) -> io::Result<Socket> {
    let ear = bound((Ipv6Addr::UNSPECIFIED, port).into(), true)?;
    #[cfg(target_os = "linux")]
    ear.set_multicast_all_v6(false)?;
    Ok(ear)
}

fn mouth_v4(ip: Ipv4Addr, group: Ipv4Addr, port: u16) -> io::Result<Mouth> {
    let socket = bound((ip, 0).into(), false)?;
    socket.set_multicast_if_v4(&ip)?;
    socket.set_multicast_ttl_v4(1)?;
    socket.set_multicast_loop_v4(true)?;
    let everyone = vec![(group, port).into()];
    Ok(Mouth { socket: UdpSocket::from_std(socket.into())?, everyone, anywhere: false })
}

fn mouth_v6(index: u32, group: Ipv6Addr, port: u16) -> io::Result<Mouth> {
    let socket = bound((Ipv6Addr::UNSPECIFIED, 0).into(), false)?;
    socket.set_multicast_if_v6(index)?;
    socket.set_multicast_hops_v6(1)?;
    socket.set_multicast_loop_v6(true)?;
    let everyone = vec![(group, port).into()];
    Ok(Mouth { socket: UdpSocket::from_std(socket.into())?, everyone, anywhere: true })
}
