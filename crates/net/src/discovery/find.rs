//! The other end of the discovery: a task that asks, judges and tells what is there.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use parlour_proto::discovery::{self as machine, Asks, Counts, FinderConfig, FinderInput, FinderOutput, Ignored};
use parlour_wire::announce::{Datagram, Query};
use tokio::sync::{mpsc, watch};

use super::{
    Accept, Found, Network,
    socket::{REFRESH, Sockets},
};
use crate::{identity::PeerKey, pump::now};

/// Events that wait for the program. When it takes none, the network is not listened to either.
const EVENTS: usize = 64;

/// What to look for, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindConfig {
    /// Which service.
    pub service: String,
    /// Whose announcements count.
    pub accept: Accept,
    /// Where to look.
    pub network: Network,
    /// How often to ask.
    pub asks: Asks,
}

impl FindConfig {
    /// Asks by multicast: at once, then after one second, two, four, and every eight.
    #[must_use]
    pub fn new(service: impl Into<String>, accept: Accept) -> Self {
        Self { service: service.into(), accept, network: Network::default(), asks: Asks::default() }
    }
}

/// What a finder tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovered {
    /// A station is there, or something about it has changed.
    Found(Found),
    /// The station is no longer there.
    Gone(PeerKey),
}

/// Begins to look for stations, on the current Tokio runtime, until the [`Finder`] is dropped.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a service that is no label; what the operating system says if there is no network.
pub fn find(config: FindConfig) -> io::Result<Finder> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
    let FindConfig { service, accept, network, asks } = config;
    let probe = Query { service: service.clone(), nonce: [0; 16] };
    probe.to_datagram().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let config = FinderConfig { service, accept: accept.into(), own_boot: None, asks };
    let sockets = Sockets::open(network)?;
    let local_addr = sockets.local_addr();
    let (events, receiver) = mpsc::channel(EVENTS);
    let (ignored_sender, ignored) = watch::channel(Counts::new());
    let machine = machine::Finder::new(config, seed, now());
    let search = Search { machine, sockets, events, ignored: ignored_sender, untold: VecDeque::new() };
    tokio::spawn(search.run());
    Ok(Finder { events: receiver, ignored, local_addr })
}

/// What is found, as a stream of events.
#[derive(Debug)]
pub struct Finder {
    events: mpsc::Receiver<Discovered>,
    ignored: watch::Receiver<Counts>,
    local_addr: Option<SocketAddr>,
}

impl Finder {
    /// The next event; `None` only if the runtime stops.
    pub async fn next(&mut self) -> Option<Discovered> {
        self.events.recv().await
    }

    /// How many announcements had no effect so far, by reason. [`watch::Receiver::changed`] waits for more.
    #[must_use]
    pub fn ignored(&self) -> watch::Receiver<Counts> {
        self.ignored.clone()
    }

    /// Where announcements can be sent by unicast; `None` with multicast.
    #[must_use]
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }
}

impl Stream for Finder {
    type Item = Discovered;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Discovered>> {
        self.events.poll_recv(cx)
    }
}

/// The task.
struct Search {
    machine: machine::Finder,
    sockets: Sockets,
    events: mpsc::Sender<Discovered>,
    ignored: watch::Sender<Counts>,
    untold: VecDeque<Discovered>,
}

impl Search {
    async fn run(mut self) {
        let mut refresh = now() + REFRESH;
        loop {
            let next = self.machine.deadline().map_or(refresh, |deadline| deadline.min(refresh));
            tokio::select! {
                biased;
                () = self.events.closed() => return,
                () = tokio::time::sleep_until(next.into()) => {
                    if refresh <= now() {
                        self.sockets.refresh();
                        refresh = now() + REFRESH;
                    }
                    self.handle(FinderInput::Tick);
                }
                (datagram, from) = self.sockets.recv() => self.hear(&datagram, from),
            }
            while let Some(event) = self.untold.pop_front() {
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    fn hear(&mut self, datagram: &[u8], from: SocketAddr) {
        match Datagram::decode(datagram) {
            Ok(Datagram::Announcement(announcement)) => self.handle(FinderInput::Announcement { announcement, from }),
            Ok(Datagram::Query(_)) => {}
            Err(error) => {
                tracing::trace!(%from, %error, "no datagram of ours");
                self.machine.count(Ignored::Malformed);
                self.ignored.send_replace(self.machine.counts().clone());
            }
        }
    }

    fn handle(&mut self, input: FinderInput) {
        if let Err(reason) = self.machine.handle(input, now()) {
            tracing::trace!(%reason, "an announcement without effect");
            self.ignored.send_replace(self.machine.counts().clone());
        }
        while let Some(output) = self.machine.poll() {
            match output {
                FinderOutput::Ask(query) => match query.to_datagram() {
                    Ok(datagram) => self.sockets.tell_everyone(&datagram),
                    Err(error) => tracing::error!(%error, "a query that cannot be sent"),
                },
                FinderOutput::Found(found) => self.untold.push_back(Discovered::Found(found.into())),
                FinderOutput::Gone(key) => self.untold.push_back(Discovered::Gone(PeerKey(key))),
            }
        }
    }
}
