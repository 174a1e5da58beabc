//! Measures a link on loopback, server and load generator as two processes: memory of the server per idle connection,
//! round trips one at a time, and pipelined requests a second over one and over fifty connections.
//!
//! `cargo run --release -p parlour-net --example measure [connections]`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program: its output is its purpose, its end a panic")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parlour_net::{
    ConnectConfig, Events, Incoming, IncomingAction, Link, LinkEvent, ListenConfig, Listener, PemPair, Pusher, ServerIdentity,
    SessionInfo, SessionService, Trust,
};
use parlour_wire::{frame::ContentType, header::Fault};
use tokio::sync::watch;

const TIMEOUT: Duration = Duration::from_secs(60);

struct Echo;

impl SessionService for Echo {
    type Session = Pusher;

    fn open(&self, _info: SessionInfo, pusher: Pusher) -> Pusher {
        pusher
    }

    fn request(&self, _session: &mut Pusher, request: Incoming) -> BoxFuture<'static, Result<(ContentType, Bytes), Fault>> {
        Box::pin(async move { Ok((request.content_type, request.content)) })
    }

    fn action(&self, _session: &mut Pusher, _action: IncomingAction) {}

    fn close(&self, _session: Pusher) {}
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("serve") => serve().await,
        connections => measure(connections.map_or(2000, |count| count.parse().unwrap())).await,
    }
}

async fn serve() {
    let PemPair { cert_pem, key_pem } = ServerIdentity::self_signed(&["localhost".to_owned()]).unwrap();
    let identity = ServerIdentity::load(&cert_pem, &key_pem).unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), identity).await.unwrap();
    println!("wss://{}", listener.local_addr().unwrap());
    let (_stop, stopped) = watch::channel(false);
    listener.serve(Arc::new(Echo), ListenConfig::default(), stopped).await;
}

struct Server {
    process: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Server {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap()).arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { process, url }
    }

    fn kilobytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    async fn connect(&self) -> (Link, Events) {
        let (link, mut events) = Link::connect(ConnectConfig::new(self.url.parse().unwrap(), Trust::FirstUse));
        while !matches!(events.next().await, Some(LinkEvent::Up { .. })) {}
        (link, events)
    }
}

async fn echo(link: &Link) {
    link.request_raw("echo", ContentType::CBOR, Bytes::from_static(&[7; 256]), TIMEOUT).await.unwrap();
}

#[expect(clippy::disallowed_methods, reason = "measures time")]
fn now() -> Instant {
    Instant::now()
}

async fn measure(connections: usize) {
    let server = Server::start();
    let mut held = vec![server.connect().await];
    echo(&held[0].0).await;
    let before = server.kilobytes();
    while held.len() < connections {
        let batch = (0..50.min(connections - held.len())).map(|_| server.connect());
        for (link, events) in futures_util::future::join_all(batch).await {
            echo(&link).await;
            held.push((link, events));
        }
    }
    // The last acknowledgements are on their way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = server.kilobytes();
    println!("server with one connection: {before} KB");
    println!("server with {connections} connections: {after} KB, {:.1} KB each", (after - before) as f64 / connections as f64);

    let mut times = Vec::new();
    for _ in 0..5000 {
        let start = now();
        echo(&held[0].0).await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("round trip, one in flight: p50 {:?}, p99 {:?}", times[2500], times[4950]);
    for links in [1, 50] {
        let start = now();
        let total = 200_000;
        let tasks = held[..links.min(held.len())].iter().map(|(link, _)| tokio::spawn(pipeline(link.clone(), total / links)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let rate = total as f64 / start.elapsed().as_secs_f64();
        println!("pipelined over {links} connections: {rate:.0} requests a second");
    }
}

/// 256 requests in flight, until all are answered.
async fn pipeline(link: Link, total: usize) {
    let mut flying = FuturesUnordered::new();
    for sent in 0..total {
        flying.push(echo(&link));
        if sent >= 256 {
            flying.next().await;
        }
    }
    while flying.next().await.is_some() {}
}
