//! Deliveries in one large group whose devices are all online, counted where they arrive.

use std::path::Path;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream, stream::FuturesUnordered};
use parlour_net::{Link, LinkEvent};
use parlour_wire::{ConversationId, api, api::Notice, name::Name};

use super::{
    Figure, Target, baseline,
    people::{self, Online, Person, act, call},
    process,
    server::Server,
};

/// Size of a message body in bytes, as in the load of pairs.
const BODY: usize = 256;
/// Bytes of a commit that adds one device, for each device that there is, and of the welcome.
const COMMIT: usize = 122;
const WELCOME: usize = 365;
/// Links that connect at the same time.
const AT_ONCE: usize = 32;
/// Entries after which a reader moves its cursor.
const ACKNOWLEDGE: usize = 256;

/// Runs the load: `senders` of `devices` devices write `messages` in all, each with `window` unanswered.
pub(crate) async fn run(
    folder: &Path,
    devices: usize,
    senders: usize,
    messages: usize,
    window: usize,
) -> anyhow::Result<Vec<Figure>> {
    let echo = baseline::tls_echo(devices.min(100), window).await?;
    let fsync = baseline::fsync(folder)?;
    let data = folder.join("server");
    let people = people::populate(&data, devices).await?;
    let server = Server::start(&data).await?;
    let online: Vec<Online> =
        stream::iter(&people).map(|person| person.connect(&server.url)).buffered(AT_ONCE).try_collect().await?;
    let (newcomer, members) = people.split_last().context("a group has devices")?;
    let conversation = gather(members, &online[0].link).await?;
    let (online, added) = add(online, newcomer, conversation).await?;
    let senders = senders.min(devices);
    let each = messages / senders;
    let (cpu, start) = (process::cpu_seconds(server.pid()?)?, baseline::now());
    let mut links = Vec::with_capacity(devices);
    let mut readers = Vec::with_capacity(devices);
    for (at, online) in online.into_iter().enumerate() {
        links.push(online.link.clone());
        let expected = each * (senders - usize::from(at < senders));
        readers.push(tokio::spawn(read(online, expected)));
    }
    let sending: Vec<_> =
        links[..senders].iter().map(|link| tokio::spawn(flood(link.clone(), conversation, each, window))).collect();
    for sender in sending {
        sender.await??;
    }
    let mut got = 0;
    for reader in readers {
        got += reader.await??;
    }
    let seconds = start.elapsed().as_secs_f64();
    let expected = each * senders * (devices - 1);
    anyhow::ensure!(got == expected, "{got} of {expected} messages were delivered");
    let cpu_us = (process::cpu_seconds(server.pid()?)? - cpu) * 1e6 / got as f64;
    Ok(vec![
        Figure::new("raw TLS echo, 256 B", echo, "msg/s"),
        Figure::new("raw fsync", fsync.rate, "1/s"),
        Figure::new("devices online in one group", devices as f64, ""),
        Figure::new("adding a device: commit", added.commit as f64 / 1000.0, "KB"),
        Figure::new("adding a device: its maker is answered", added.answered * 1e3, "ms").target(Target::AtMost(500.0)),
        Figure::new("adding a device: all have its bytes", added.spread * 1e3, "ms").target(Target::AtMost(2_000.0)),
        Figure::new("stored, 256 B", (each * senders) as f64 / seconds, "msg/s").against("raw fsync", fsync.rate),
        Figure::new("delivered to readers, 256 B", got as f64 / seconds, "msg/s")
            .against("raw TLS echo", echo)
            .target(Target::AtLeast(100_000.0)),
        Figure::new("server processor time per delivery", cpu_us, "us"),
    ])
}

/// Makes a group of these people; all devices are added by a welcome of random bytes.
async fn gather(people: &[Person], link: &Link) -> anyhow::Result<ConversationId> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("the system has randomness");
    let conversation = ConversationId::group(random);
    let commit = api::Commit {
        conversation,
        id: people::random_id(),
        parent_epoch: 0,
        create: Some(api::Create {
            kind: api::ConversationKind::GROUP,
            members: people.iter().map(|person| person.account).collect(),
            name: Some(Name::parse("everybody")?),
        }),
        commit: vec![1; 512],
        welcome: (people.len() > 1).then(|| vec![2; 512]),
        added: people.iter().skip(1).map(Person::added).collect(),
        removed: Vec::new(),
        group_info: vec![3; 512],
        external: false,
        change: None,
    };
    call(link, &commit).await?;
    Ok(conversation)
}

/// What it took to bring one more device into a group of which all others are online.
struct Addition {
    /// Bytes of the commit, which goes to every member.
    commit: usize,
    /// Seconds until the server had it on disk and said so.
    answered: f64,
    /// Seconds until the last member had the commit and the newcomer the welcome.
    spread: f64,
}

/// Brings `newcomer`, who is the last of `online`, into a group of all others, by handshake messages as large as `parlour bench e2ee` has
/// found them for so many devices in the classical suite.
async fn add(online: Vec<Online>, newcomer: &Person, conversation: ConversationId) -> anyhow::Result<(Vec<Online>, Addition)> {
    let devices = online.len();
    let size = |each: usize| 1_500 + each * devices;
    let commit = api::Commit {
        conversation,
        id: people::random_id(),
        parent_epoch: 1,
        create: None,
        commit: vec![4; size(COMMIT)],
        welcome: Some(vec![5; size(WELCOME)]),
        added: vec![newcomer.added()],
        removed: Vec::new(),
        group_info: vec![6; size(WELCOME)],
        external: false,
        change: Some(api::Change { added: vec![newcomer.account], removed: Vec::new(), roles: Vec::new(), name: None }),
    };
    let maker = online[0].link.clone();
    // The maker knows, the last is the newcomer, and those between them are told by the log.
    let told = |at: usize| match at {
        0 => None,
        at if at + 1 == devices => Some(api::Welcome::NAME),
        _ => Some(api::Entries::NAME),
    };
    let readers: Vec<_> = online.into_iter().enumerate().map(|(at, online)| tokio::spawn(hears(online, told(at)))).collect();
    let start = baseline::now();
    call(&maker, &commit).await?;
    let answered = start.elapsed().as_secs_f64();
    let mut online = Vec::with_capacity(devices);
    for reader in readers {
        online.push(reader.await??);
    }
    let spread = start.elapsed().as_secs_f64();
    Ok((online, Addition { commit: commit.commit.len(), answered, spread }))
}

/// Waits until a device has been told something, if it is to be told.
async fn hears(mut online: Online, told: Option<&str>) -> anyhow::Result<Online> {
    let Some(told) = told else { return Ok(online) };
    loop {
        match online.events.next().await.context("a reader's link ended")? {
            LinkEvent::Action { name, .. } if name == told => return Ok(online),
            LinkEvent::Action { name, .. } if name == api::Lagging::NAME => anyhow::bail!("a reader was too slow"),
            LinkEvent::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
}

async fn flood(link: Link, conversation: ConversationId, each: usize, window: usize) -> anyhow::Result<()> {
    let mut open = FuturesUnordered::new();
    for _ in 0..each {
        if open.len() == window {
            open.next().await.context("the window is not empty")??;
        }
        let (link, id, payload) = (link.clone(), people::random_id(), vec![0; BODY]);
        open.push(
            async move { call(&link, &api::Send { conversation, id, epoch: 2, payload, blobs: Vec::new() }).await.map(drop) },
        );
    }
    while let Some(stored) = open.next().await {
        stored?;
    }
    Ok(())
}

/// Counts entries until `expected` have come, acknowledging as it goes. What was not pushed because the link was slow does not count, and
/// ends the load.
async fn read(online: Online, expected: usize) -> anyhow::Result<usize> {
    let Online { link, mut events } = online;
    let (mut got, mut unacknowledged) = (0, 0);
    while got < expected {
        let entries = match events.next().await.context("a reader's link ended")? {
            LinkEvent::Action { name, content, .. } if name == api::Entries::NAME => {
                parlour_wire::decode::<api::Entries>(&content)?.entries
            }
            LinkEvent::Action { name, .. } if name == api::Lagging::NAME => anyhow::bail!("a reader was too slow"),
            LinkEvent::Failed(error) => return Err(error.into()),
            _ => continue,
        };
        let Some(last) = entries.last() else { continue };
        got += entries.len();
        unacknowledged += entries.len();
        if unacknowledged >= ACKNOWLEDGE || got == expected {
            act(&link, &api::Cursors { cursors: vec![api::Cursor { conversation: last.conversation, seq: last.seq }] })?;
            unacknowledged = 0;
        }
    }
    Ok(got)
}
