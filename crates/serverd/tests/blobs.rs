//! Files at a server that runs: stored over a link, there after a kill in the middle, refused by a full disk.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "blobs/client.rs"]
mod client;

use std::path::Path;

use client::{Client, config, populate, restart, stop};
use parlour_serverd::start;
use parlour_wire::{BlobId, Code, api};

const CHUNK: usize = 200_000;

fn bytes(size: usize) -> (BlobId, Vec<u8>) {
    let bytes: Vec<u8> = (0..size).map(|n| u8::try_from(n * n % 251).unwrap()).collect();
    (BlobId(*blake3::hash(&bytes).as_bytes()), bytes)
}

fn files(data: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(data.join("blobs")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn put(client: &Client, blob: BlobId, bytes: &[u8], from: usize, to: usize) -> Result<api::BlobProgress, Code> {
    client.ask(&api::BlobPut { blob, offset: from as u64, data: bytes[from..to].to_vec() }).await
}

#[tokio::test]
async fn a_file_is_whole_on_disk_when_its_last_part_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    populate(dir.path()).await;
    let running = start(config(dir.path())).await.unwrap();
    let client = Client::connect(&running, 1).await;
    let (blob, bytes) = bytes(1_000_000);
    client.ask(&api::BlobBegin { blob, size: 1_000_000 }).await.unwrap();
    let parts = (0..5).map(|n| put(&client, blob, &bytes, n * CHUNK, (n + 1) * CHUNK));
    let answers = futures_util::future::join_all(parts).await;
    assert!(answers[4].unwrap().complete, "{answers:?}");
    assert_eq!(files(dir.path()), [blob.to_string()]);
    assert!(std::fs::read(dir.path().join("blobs").join(blob.to_string())).unwrap() == bytes);
    let part = client.ask(&api::BlobGet { blob, offset: 900_000, length: 1 << 20 }).await.unwrap();
    assert!(part.size == 1_000_000 && part.data == bytes[900_000..]);
    let stranger = Client::connect(&running, 2).await;
    let refused = stranger.ask(&api::BlobGet { blob, offset: 0, length: 9 }).await;
    assert_eq!(refused.unwrap_err(), Code::FILE_NOT_FOUND);
    stop(running).await;
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    populate(dir.path()).await;
    let (blob, bytes) = bytes(600_000);
    let begin = api::BlobBegin { blob, size: 600_000 };
    let running = start(config(dir.path())).await.unwrap();
    let client = Client::connect(&running, 1).await;
    client.ask(&begin).await.unwrap();
    put(&client, blob, &bytes, 0, CHUNK).await.unwrap();
    let running = restart(running, dir.path()).await;
    let client = Client::connect(&running, 1).await;
    assert_eq!(put(&client, blob, &bytes, CHUNK, 2 * CHUNK).await.unwrap_err(), Code::FILE_NOT_FOUND, "it has to begin again");
    assert_eq!(client.ask(&begin).await.unwrap().received, CHUNK as u64);
    put(&client, blob, &bytes, CHUNK, 2 * CHUNK).await.unwrap();
    assert!(put(&client, blob, &bytes, 2 * CHUNK, 600_000).await.unwrap().complete);
    let running = restart(running, dir.path()).await;
    let client = Client::connect(&running, 1).await;
    assert!(client.ask(&begin).await.unwrap().complete);
    stop(running).await;
}

#[tokio::test]
async fn what_a_crash_left_over_is_swept() {
    let dir = tempfile::tempdir().unwrap();
    populate(dir.path()).await;
    std::fs::create_dir(dir.path().join("blobs")).unwrap();
    let (blob, bytes) = bytes(100);
    let orphan = format!("{}-{blob}.part", parlour_wire::AccountId([1; 32]));
    for name in [blob.to_string(), orphan] {
        std::fs::write(dir.path().join("blobs").join(name), &bytes).unwrap();
    }
    let running = start(config(dir.path())).await.unwrap();
    assert_eq!(files(dir.path()), [""; 0]);
    stop(running).await;
}

#[tokio::test]
async fn a_full_disk_keeps_what_was_there_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    populate(dir.path()).await;
    let mut small = config(dir.path());
    small.blob_room = Some(300_000);
    let running = start(small).await.unwrap();
    let client = Client::connect(&running, 1).await;
    let (blob, bytes) = bytes(400_000);
    let begin = api::BlobBegin { blob, size: 400_000 };
    client.ask(&begin).await.unwrap();
    put(&client, blob, &bytes, 0, CHUNK).await.unwrap();
    assert_eq!(put(&client, blob, &bytes, CHUNK, 2 * CHUNK).await.unwrap_err(), Code::DISK_FULL);
    assert_eq!(client.ask(&begin).await.unwrap().received, CHUNK as u64, "nothing of it is half kept");
    let running = restart(running, dir.path()).await;
    let client = Client::connect(&running, 1).await;
    assert_eq!(client.ask(&begin).await.unwrap().received, CHUNK as u64);
    assert!(put(&client, blob, &bytes, CHUNK, 2 * CHUNK).await.unwrap().complete, "when there is room it goes on");
    stop(running).await;
}
