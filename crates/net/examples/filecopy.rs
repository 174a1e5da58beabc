//! Copies files between two programs.
//!
//! ```text
//! filecopy serve DIR [ADDRESS]                   serve DIR as the root `files`; prints what the others need
//! filecopy push URL KEY LOCAL REMOTE             send a file, such as to `files/report.pdf`
//! filecopy pull URL KEY REMOTE LOCAL             get a file
//! filecopy                                       a demonstration on loopback that checks itself
//! ```
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use parlour_net::{
    Access, Agent, AgentConfig, Copied, FileEvent, Files, Identity, PeerKey, Rights, Root, Station, StationConfig, Transfer,
    Trust,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What the demonstration copies.
const SIZE: u64 = 256 << 20;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => demonstrate().await,
        ["serve", folder] => serve(folder, "127.0.0.1:0").await,
        ["serve", folder, address] => serve(folder, address).await,
        ["push", url, key, local, remote] => {
            let agent = agent(url, key)?;
            report("sent", watched(agent.link().push(local, remote)).await?);
            agent.close().await;
            Ok(())
        }
        ["pull", url, key, remote, local] => {
            let agent = agent(url, key)?;
            report("received", watched(agent.link().pull(remote, local)).await?);
            agent.close().await;
            Ok(())
        }
        _ => Err("usage: filecopy [serve DIR [ADDRESS] | push URL KEY LOCAL REMOTE | pull URL KEY REMOTE LOCAL]".into()),
    }
}

/// A station whose root `files` is open to whoever shows a key.
async fn station(folder: &Path, address: &str) -> Outcome<Station> {
    let root = Root::new("files", folder, Rights::ReadWrite).allow(Access::Authenticated);
    let files = Files::builder().root(root).on_event(told).open()?;
    let mut config = StationConfig::new(Identity::generate()?, address.parse()?);
    files.serve(&mut config.handlers);
    Ok(Station::bind(config).await?)
}

fn told(event: &FileEvent) {
    println!("    station: {} goes {:?}: {:?}", event.path, event.way, event.stage);
}

fn agent(url: &str, key: &str) -> Outcome<Agent> {
    let key: PeerKey = key.parse()?;
    let mut config = AgentConfig::new(url.parse()?, Trust::Key(key));
    config.connect.identity = Some(Identity::generate()?);
    Ok(Agent::connect(config))
}

async fn serve(folder: &str, address: &str) -> Outcome<()> {
    let station = station(Path::new(folder), address).await?;
    println!("filecopy push {} {} LOCAL files/NAME", station.url(), station.key());
    println!("filecopy pull {} {} files/NAME LOCAL", station.url(), station.key());
    tokio::signal::ctrl_c().await?;
    station.stop().await;
    Ok(())
}

/// Waits for a transfer, and says now and then how far it has come.
async fn watched(transfer: Transfer) -> Outcome<(Copied, Duration)> {
    let begun = tokio::time::Instant::now();
    let mut progress = transfer.progress();
    let telling = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.tick().await;
        while progress.changed().await.is_ok() {
            ticks.tick().await;
            let (done, total) = {
                let now = progress.borrow();
                (now.done, now.total)
            };
            println!("    {} of {} MiB", done >> 20, total.unwrap_or(0) >> 20);
        }
    });
    let copied = transfer.await;
    telling.abort();
    Ok((copied?, begun.elapsed()))
}

fn report(what: &str, (copied, time): (Copied, Duration)) {
    let rate = copied.bytes as f64 / time.as_secs_f64() / f64::from(1 << 20);
    let hash: String = copied.hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    println!(
        "{what} {} MiB in {:.3} s: {rate:.0} MiB/s, BLAKE3 {hash}…; {} MiB went over the link",
        copied.bytes >> 20,
        time.as_secs_f64(),
        copied.moved >> 20
    );
}

/// A file with content that nobody could have guessed.
fn make(path: &Path) -> Outcome<()> {
    let mut bytes = vec![0; usize::try_from(SIZE)?];
    blake3::Hasher::new().update(b"filecopy").finalize_xof().fill(&mut bytes);
    Ok(std::fs::write(path, bytes)?)
}

fn same(left: &Path, right: &Path) -> Outcome<()> {
    if std::fs::read(left)? != std::fs::read(right)? {
        return Err("the files differ".into());
    }
    println!("    both files are the same, byte by byte");
    Ok(())
}

async fn demonstrate() -> Outcome<()> {
    let folder = std::env::temp_dir().join(format!("parlour-filecopy-{}", std::process::id()));
    let (there, here) = (folder.join("there"), folder.join("here"));
    std::fs::create_dir_all(&there)?;
    std::fs::create_dir_all(&here)?;
    let result = copies(&there, &here).await;
    std::fs::remove_dir_all(&folder)?;
    result
}

async fn copies(there: &Path, here: &Path) -> Outcome<()> {
    let (local, back): (PathBuf, PathBuf) = (here.join("original"), here.join("back"));
    make(&local)?;
    let station = station(there, "127.0.0.1:0").await?;
    let agent = agent(&station.url().to_string(), &station.key().to_string())?;
    agent.ready().await?;

    println!("1. pushing {} MiB", SIZE >> 20);
    report("sent", watched(agent.link().push(&local, "files/copy")).await?);
    same(&local, &there.join("copy"))?;

    println!("2. pulling them back, with the connection cut in the middle");
    let transfer = agent.link().pull("files/copy", &back);
    let mut progress = transfer.progress();
    let begun = tokio::time::Instant::now();
    progress.wait_for(|progress| progress.done >= SIZE / 2).await?;
    println!("    cut at {} MiB", progress.borrow().done >> 20);
    agent.link().reconnect();
    let copied = transfer.await?;
    report("received", (copied, begun.elapsed()));
    same(&local, &back)?;

    println!("3. pushing once more, given up in the middle and begun again by another link");
    std::fs::remove_file(there.join("copy"))?;
    let transfer = agent.link().push(&local, "files/copy");
    transfer.progress().wait_for(|progress| progress.done >= SIZE / 2).await?;
    drop(transfer);
    println!("    left behind: {:?}", names(there)?);
    report("sent the rest of", watched(agent.link().push(&local, "files/copy")).await?);
    same(&local, &there.join("copy"))?;

    println!("4. what is not allowed");
    for remote in ["files/../../etc/passwd", "secrets/x", "files/copy"] {
        let refused = agent.link().push(&local, remote).await;
        println!("    {remote}: {}", refused.err().map_or("taken".to_owned(), |error| error.to_string()));
    }
    agent.close().await;
    station.stop().await;
    Ok(())
}

fn names(folder: &Path) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}
