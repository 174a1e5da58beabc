//! Memory of the server for connections that say nothing.

use std::path::Path;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Figure, Target, people, process, server::Server};

/// Links that connect at the same time.
const AT_ONCE: usize = 32;

pub(crate) async fn run(folder: &Path, connections: usize) -> anyhow::Result<Vec<Figure>> {
    // A link needs one descriptor here and one at the server; the rest is for files.
    raise_open_files(u64::try_from(connections)? + 256)?;
    let data = folder.join("server");
    let people = people::populate(&data, connections).await?;
    let server = Server::start(&data).await?;
    let pid = server.pid()?;
    let (empty_rss, empty) = (process::rss(pid)?, process::pss(pid)?);
    let cpu = process::cpu_seconds(pid)?;
    let online: Vec<_> = stream::iter(&people)
        .map(|person| person.connect(&server.url))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
        .context("not all could connect")?;
    let login_us = (process::cpu_seconds(pid)? - cpu) * 1e6 / connections as f64;
    let full = process::pss(pid)?;
    let each_kb = (full.saturating_sub(empty)) as f64 / 1024.0 / online.len() as f64;
    Ok(vec![
        Figure::new("idle server without clients, resident", empty_rss as f64 / 1_048_576.0, "MB").target(Target::AtMost(30.0)),
        Figure::new("idle authenticated connection, server", each_kb, "KB").target(Target::AtMost(14.0)),
        Figure::new("connections", online.len() as f64, ""),
        Figure::new("connect and authenticate, server time", login_us, "us"),
    ])
}

/// Raises the limit of open files as far as the system lets this process.
fn raise_open_files(wanted: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let most = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    anyhow::ensure!(most >= wanted, "only {most} open files are allowed here, {wanted} are needed (ulimit -n)");
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?;
    Ok(())
}
