//! A client with a large profile: opening it up to the first screen, and searching in it.

use std::{path::Path, time::Instant};

use anyhow::{Context, ensure};
use parlour_client::{
    AccountId, Client, Imported, ImportedPlace, KeySource, MessageId, MessageKind, OpenOptions, Page, Register, State,
};

use super::{Figure, Target, server::Server};

/// Messages taken in one transaction.
const BATCH: usize = 5000;
/// As many words as a person uses day by day.
const VOCABULARY: u64 = 5000;
/// Tries of each measurement; the middle one counts.
const TRIES: usize = 5;

pub(crate) async fn run(folder: &Path, conversations: usize, messages: usize) -> anyhow::Result<Vec<Figure>> {
    let home = folder.join("home");
    let server = Server::start(&folder.join("server")).await?;
    let client = open(&home)?;
    let register = Register {
        server: server.url.clone(),
        name: "alice".to_owned(),
        password: "correct horse".to_owned().into(),
        invite: None,
        label: "bench".to_owned(),
    };
    client.register(register).await.context("cannot register")?;
    // A conversation without a message is none.
    let conversations = conversations.min(messages);
    fill(&client, conversations as u64, messages as u64).await?;
    // Half of them are called by names of one's own.
    for person in (0..conversations).step_by(2) {
        client.rename_contact(&format!("person{person}"), &format!("friend{person}")).await?;
    }
    client.close().await?;
    let opened = middle(async || {
        let start = now();
        let client = open(&home)?;
        let list = client.conversations().await?;
        ensure!(list.len() == conversations, "a conversation is missing");
        client.history_of(list[0].conversation, Page::default()).await?;
        let took = start.elapsed().as_secs_f64() * 1e3;
        client.close().await?;
        Ok(took)
    })
    .await?;
    let mut figures = vec![Figure::new("client, open to the first screen", opened, "ms").target(Target::AtMost(300.0))];
    let client = open(&home)?;
    let person = format!("person{}", 7.min(conversations - 1));
    for (what, text, within) in [
        ("client, search a common word", "w1 ", None),
        ("client, search a rare word", "w4321 ", None),
        ("client, search the beginning of a word", "w7 w3", None),
        ("client, search in one conversation", "w1 ", Some(person.as_str())),
    ] {
        let took = middle(async || {
            let start = now();
            client.search(text, within, 50).await?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        })
        .await?;
        figures.push(Figure::new(what, took, "ms").target(Target::AtMost(50.0)));
    }
    client.close().await?;
    Ok(figures)
}

#[expect(clippy::disallowed_methods, reason = "a load measures time")]
fn now() -> Instant {
    Instant::now()
}

fn open(home: &Path) -> anyhow::Result<Client> {
    Ok(Client::open(OpenOptions { home: home.to_owned(), key: KeySource::File, create: true })?)
}

async fn middle(measure: impl AsyncFn() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let mut values = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        values.push(measure().await?);
    }
    values.sort_by(f64::total_cmp);
    Ok(values[TRIES / 2])
}

async fn fill(client: &Client, conversations: u64, messages: u64) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    for n in 0..messages {
        batch.push(message(n, n % conversations));
        if batch.len() == BATCH || n + 1 == messages {
            client.import(std::mem::take(&mut batch)).await?;
        }
    }
    Ok(())
}

fn message(n: u64, person: u64) -> Imported {
    let hash = |salt: u64, n: u64| {
        n.wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let mut peer = [7; 32];
    peer[..8].copy_from_slice(&person.to_be_bytes());
    let mut random = [0; 10];
    random[..8].copy_from_slice(&hash(1, n).to_be_bytes());
    // Words are used as in a language: few of them often, most of them seldom.
    let word = |k: u64| {
        let part = (hash(k + 2, n) >> 11) as f64 / (1u64 << 53) as f64;
        format!("w{}", (VOCABULARY as f64).powf(part) as u64)
    };
    let sent_ms = 1_600_000_000_000 + n;
    Imported {
        id: MessageId::new(sent_ms, &random),
        place: ImportedPlace::Direct { peer: AccountId(peer), name: format!("person{person}") },
        sender: AccountId(peer),
        sender_name: String::new(),
        outgoing: n.is_multiple_of(2),
        kind: MessageKind::Text,
        text: (0..12).map(word).collect::<Vec<_>>().join(" "),
        file: None,
        reply_to: None,
        sent_ms,
        stored_ms: Some(sent_ms),
        edited_ms: None,
        deleted: false,
        expires_ms: None,
        state: State::Read,
        reactions: Vec::new(),
        shared_by: None,
    }
}
