//! Messages for somebody who is away, and the drain when he comes back.

use std::path::Path;

use anyhow::Context;
use futures_util::{StreamExt, stream::FuturesUnordered};
use parlour_wire::{
    api::{self, Cursor},
    limits,
};

use super::{Figure, Target, baseline, people, people::call, server::Server};

/// Size of a message body in bytes.
const BODY: usize = 256;
/// Unanswered messages of the sender, as in the comparison of DESIGN section 9.
const WINDOW: usize = 100;

pub(crate) async fn run(folder: &Path, messages: usize) -> anyhow::Result<Vec<Figure>> {
    let fsync = baseline::fsync(folder)?;
    let echo = baseline::tls_echo(1, WINDOW).await?;
    let data = folder.join("server");
    let people = people::populate(&data, 2).await?;
    let server = Server::start(&data).await?;
    let [sender, reader] = &people[..] else { anyhow::bail!("two people were made") };
    let online = sender.connect(&server.url).await?;
    let conversation = sender.converse(&online.link, reader).await?;
    let start = baseline::now();
    let mut open = FuturesUnordered::new();
    for _ in 0..messages {
        if open.len() == WINDOW {
            open.next().await.context("the window is not empty")??;
        }
        let send = api::Send { conversation, id: people::random_id(), epoch: 1, payload: vec![0; BODY], blobs: Vec::new() };
        let link = &online.link;
        open.push(async move { call(link, &send).await });
    }
    while let Some(stored) = open.next().await {
        stored?;
    }
    let stored = messages as f64 / start.elapsed().as_secs_f64();
    let reading = reader.connect(&server.url).await?;
    let start = baseline::now();
    // The creating commit is entry 1; the reader joined there.
    let (mut after, mut got) = (1, 0);
    while got < messages {
        let limit = u32::try_from(limits::READ_ENTRIES)?;
        let page = call(&reading.link, &api::Read { conversation, after, limit }).await?;
        after = page.entries.last().context("the log ended early")?.seq;
        got += page.entries.len();
    }
    call(&reading.link, &api::CursorsSet { cursors: vec![Cursor { conversation, seq: after }] }).await?;
    let drained = start.elapsed().as_secs_f64();
    Ok(vec![
        Figure::new("raw TLS echo, one connection, 256 B", echo, "msg/s"),
        Figure::new("raw fsync", fsync.rate, "1/s"),
        Figure::new("stored for an offline reader, 256 B", stored, "msg/s")
            .against("raw TLS echo", echo)
            .target(Target::AtLeast(50_000.0)),
        Figure::new("drained", drained, "s").target(Target::AtMost(0.2 * messages as f64 / 10_000.0)),
        Figure::new("drained, messages a second", messages as f64 / drained, "msg/s"),
    ])
}
