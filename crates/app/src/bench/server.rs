//! The server of a load: this program again, as a child process.

use std::{path::Path, process::Stdio};

use anyhow::{Context, bail};
use parlour_wire::address::ServerUrl;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: ServerUrl,
}

impl Server {
    /// Starts a server on loopback and waits until it accepts clients.
    pub(crate) async fn start(data: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        // A load has a few accounts that write as much as thousands do.
        let config = data.with_extension("toml");
        std::fs::write(&config, "[limits]\nwriting = \"unbounded\"\n").context("cannot write the server's configuration")?;
        let mut child = Command::new(program)
            .args(["--json", "--log-level", "error", "serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the server")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let Some(line) = BufReader::new(stdout).lines().next_line().await? else { bail!("the server ended at once") };
        let listening: serde_json::Value = serde_json::from_str(&line).context("the server said something else")?;
        let url = listening["url"].as_str().context("the server named no address")?;
        let mut url: ServerUrl = url.parse()?;
        if url.fingerprint.is_none()
            && let Some(fingerprint) = listening["fingerprint"].as_str()
        {
            url.fingerprint = Some(parlour_wire::address::parse_fingerprint(fingerprint)?);
        }
        Ok(Self { child, url })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().context("the server has ended")
    }
}
