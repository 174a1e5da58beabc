//! Measures a link on loopback, server and load generator as two processes: memory of the server per idle connection, round trips
//! one at a time, pipelined requests and actions a second, streams beside a plain copy over TLS, and round trips while a stream
//! runs.
//!
//! `cargo run --release -p parlour-net --example measure [connections]`, or `… measure streams` for the streams alone.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring program: its output is its purpose, its end a panic")]

mod serve;
mod streams;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use parlour_net::{ConnectConfig, Events, Link, LinkEvent, SendError, Trust};
use parlour_wire::frame::ContentType;

const TIMEOUT: Duration = Duration::from_secs(60);
const REQUESTS: usize = 200_000;
const ACTIONS: usize = 1_000_000;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("serve") => serve::serve().await,
        Some("copy") => serve::copy().await,
        Some("streams") => streams::measure(&Server::start()).await,
        connections => measure(connections.map_or(2000, |count| count.parse().unwrap())).await,
    }
}

/// This program again, as a server.
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
        Self::start_as("serve")
    }

    fn start_as(role: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap()).arg(role).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { process, url: url.trim().to_owned() }
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
    let held = hold(&server, connections).await;
    let mut times = Vec::new();
    for _ in 0..5000 {
        let start = now();
        echo(&held[0].0).await;
        times.push(start.elapsed());
    }
    print_times("round trip, one in flight", times);
    for links in [1, 50] {
        let start = now();
        let tasks = held[..links.min(held.len())].iter().map(|(link, _)| tokio::spawn(pipeline(link.clone(), REQUESTS / links)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let rate = REQUESTS as f64 / start.elapsed().as_secs_f64();
        println!("pipelined over {links} connections: {rate:.0} requests a second");
    }
    let start = now();
    act(&held[0].0, ACTIONS).await;
    let rate = ACTIONS as f64 / start.elapsed().as_secs_f64();
    println!("actions over one connection: {rate:.0} a second");
    streams::measure(&server).await;
}

/// Opens idle connections and says what they cost.
async fn hold(server: &Server, connections: usize) -> Vec<(Link, Events)> {
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
    held
}

fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, longest {:?}, of {}", at(0.5), at(0.99), at(1.0), times.len());
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

/// Sends actions, and returns when the server has seen the last.
async fn act(link: &Link, total: usize) {
    for _ in 0..total {
        while let Err(error) = link.action_raw("note", ContentType::CBOR, Bytes::from_static(&[7; 64])) {
            assert_eq!(error, SendError::Full);
            link.ready().await.unwrap();
        }
    }
    echo(link).await;
}
