//! A server is killed while a file is on its way, again and again. The upload goes on where it was each time, and what was answered as whole is
//! there afterwards.
//!
//! The test has no harness, because it starts itself as the server that is killed.
#![allow(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "there is no harness to say how the test went, and the child says where it is")]

#[path = "blobs/client.rs"]
mod client;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use client::{Client, config, populate};
use futures_util::{StreamExt as _, stream::FuturesOrdered};
use parlour_serverd::start;
use parlour_wire::{BlobId, address::ServerUrl, api};

const CHILD: &str = "PARLOUR_BLOB_CRASH_CHILD";
const SIZE: usize = 8_000_000;
const CHUNK: usize = 100_000;

#[tokio::main]
async fn main() {
    if let Some(path) = std::env::var_os(CHILD) {
        serve_until_killed(Path::new(&path)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    populate(dir.path()).await;
    let bytes: Vec<u8> = (0..SIZE).map(|n| u8::try_from((n ^ (n >> 8)) % 251).unwrap()).collect();
    let blob = BlobId(*blake3::hash(&bytes).as_bytes());
    let mut kills = 0;
    let mut acknowledged = 0;
    loop {
        let (child, url) = serve(dir.path());
        let client = Client::reach(url, 1).await;
        let begun = client.ask(&api::BlobBegin { blob, size: SIZE as u64 }).await.unwrap();
        assert!(begun.received >= acknowledged, "{} bytes were acknowledged, {} are there", acknowledged, begun.received);
        if begun.complete {
            let part = client.ask(&api::BlobGet { blob, offset: 7_900_000, length: 1 << 20 }).await.unwrap();
            assert!(part.data == bytes[7_900_000..]);
            kill(child);
            break;
        }
        acknowledged = send_some(&client, blob, &bytes, begun.received).await;
        kill(child);
        kills += 1;
    }
    assert!(std::fs::read(dir.path().join("blobs").join(blob.to_string())).unwrap() == bytes);
    println!("test an_upload_goes_on_after_every_kill ... ok ({kills} kills)");
}

/// Sends the next parts, twice as many as it waits for. Answers how much has been acknowledged.
async fn send_some(client: &Client, blob: BlobId, bytes: &[u8], from: u64) -> u64 {
    let from = usize::try_from(from).unwrap();
    let offsets = (from..SIZE).step_by(CHUNK).take(20);
    let part = |at: usize| api::BlobPut { blob, offset: at as u64, data: bytes[at..SIZE.min(at + CHUNK)].to_vec() };
    let parts: Vec<_> = offsets.map(part).collect();
    let mut answers: FuturesOrdered<_> = parts.iter().map(|part| client.ask(part)).collect();
    let mut acknowledged = from as u64;
    for _ in 0..10 {
        let Some(answer) = answers.next().await else { break };
        acknowledged = answer.unwrap().received;
    }
    acknowledged
}

fn serve(data: &Path) -> (Child, ServerUrl) {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program).env(CHILD, data).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().parse().unwrap())
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

async fn serve_until_killed(data: &Path) -> ! {
    let running = start(config(data)).await.unwrap();
    println!("{}", running.server_url());
    std::future::pending::<()>().await;
    unreachable!("it is killed")
}
