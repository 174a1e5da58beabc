//! The words of `recovery-code`, `recover`, `backup` and `draft`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};
use parlour_client::ServerUrl;

use super::{MakeArgs, PasswordArgs, duration, server_url};

#[derive(Debug, Args)]
pub(crate) struct RecoveryCodeArgs {
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// The server's address, wss://HOST:PORT#FINGERPRINT
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, value_parser = server_url)]
    pub(crate) server: ServerUrl,
    /// The account's name
    pub(crate) name: String,
    /// Leave the other devices in the account; without it they are ended, as a lost or stolen one should be
    #[arg(long)]
    pub(crate) keep_devices: bool,
    /// Read the recovery code from the first line of standard input
    #[arg(long)]
    pub(crate) code_stdin: bool,
    /// Read the new password from standard input: the first line, or the second after --code-stdin
    #[arg(long)]
    pub(crate) password_stdin: bool,
    #[command(flatten)]
    pub(crate) make: MakeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    pub(crate) action: BackupAction,
    /// How long to wait for the server
    #[arg(long, global = true, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum BackupAction {
    /// Let this device keep the account's backup: everything now, from then on what changes
    On,
    /// Delete the backup at the server
    Off,
    /// Bring the backup up to date
    Now,
    /// Show what is known of the backup
    Status,
    /// Take the backup in; what is here already stays as it is
    Restore,
}

#[derive(Debug, Args)]
pub(crate) struct DraftArgs {
    /// A user name, name@server, a name that you gave a contact, or #group
    pub(crate) to: String,
    /// The text to keep; without one, the kept text is shown
    #[arg(num_args = 1..)]
    pub(crate) text: Vec<String>,
    /// Take the kept text away
    #[arg(long, conflicts_with = "text")]
    pub(crate) clear: bool,
}
