//! Every command and option, defined once: the parser, `--help`, completions and man pages come from here.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use parlour_client::{ServerUrl, State};

use super::output::Color;

mod account;
mod bench;
mod content;
mod file;
mod group;

pub(crate) use self::{
    account::{BackupAction, BackupArgs, DraftArgs, RecoverArgs, RecoveryCodeArgs},
    bench::{BenchArgs, BenchLoad},
    content::{
        DeleteArgs, EditArgs, ExportArgs, ImportArgs, ProfileAction, ProfileArgs, ReactArgs, SearchArgs, SettingsAction,
        SettingsArgs, Switch,
    },
    file::{FileAction, FileArgs, FileGetArgs},
    group::{GroupAction, GroupArgs, RoleArg},
};

/// Private messaging that works through your server, without it, and across many.
#[derive(Debug, Parser)]
#[command(name = "parlour", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit status: 0 done, 2 wrong usage, 3 not found, 4 refused, 5 not reachable or timed out, \
    6 already exists, 7 limit exceeded, 70 a bug.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes, before or after its name.
#[derive(Clone, Debug, Args)]
pub(crate) struct Globals {
    /// The profile's folder [default: parlour in the XDG data folder]
    #[arg(long, global = true, value_name = "DIR", env = "PARLOUR_HOME", value_hint = ValueHint::DirPath)]
    pub(crate) home: Option<PathBuf>,
    /// Print one JSON object per line on standard output, and errors as JSON on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours; NO_COLOR is honoured
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(crate) color: Color,
    /// What to log on standard error, such as info or parlour_net=debug [env: RUST_LOG]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an account, and this device
    Register(RegisterArgs),
    /// Add this device to an account, from the password alone
    Login(LoginArgs),
    /// Take this device from its account; history and contacts stay
    Logout,
    /// Change the password: the old one and the new one are asked for
    Passwd(PasswdArgs),
    /// Make a recovery code, for the day the password is lost; it is printed once
    RecoveryCode(RecoveryCodeArgs),
    /// Add this device to an account by its recovery code, set a new password, and end the other devices
    Recover(RecoverArgs),
    /// Show the account and device of this profile
    Whoami,
    /// Ask a server how registration works there
    Registration(RegistrationArgs),
    /// List the devices of this account, or end one
    Devices(DevicesArgs),
    /// List contacts, or change the list
    Contacts(ContactsArgs),
    /// Show a contact's public key
    Key(KeyArgs),
    /// Show the safety number with a contact, and note that it has been compared
    Verify(VerifyArgs),
    /// Make groups and change them
    Group(GroupArgs),
    /// Show a text that has not been sent, or keep one; the other devices of the account have it too
    Draft(DraftArgs),
    /// Keep an encrypted copy of the history at the server
    Backup(BackupArgs),
    /// Send a message
    Send(SendArgs),
    /// Download the files of messages
    File(FileArgs),
    /// Print messages that this profile has not printed yet, oldest first
    Recv(RecvArgs),
    /// Print the messages with somebody; works offline
    History(HistoryArgs),
    /// Show the fate of one message, per device
    Status(StatusArgs),
    /// Put an emoji beside a message, or take it away
    React(ReactArgs),
    /// Change a message that you wrote
    Edit(EditArgs),
    /// Take back a message that you wrote
    Delete(DeleteArgs),
    /// Find messages by their words; works offline
    Search(SearchArgs),
    /// Write conversations to a folder that can be read without Parlour
    Export(ExportArgs),
    /// Take messages from such a folder into this profile
    Import(ImportArgs),
    /// Show what somebody says about themselves, or say it about you
    Profile(ProfileArgs),
    /// Show what you have chosen, or choose
    Settings(SettingsArgs),
    /// Run a server
    Serve(ServeArgs),
    /// Make an invitation to register at a server
    Invite(InviteArgs),
    /// Run a server and three people on this machine and check what they do
    Demo,
    /// Measure a server on this machine against raw TLS and raw fsync
    Bench(BenchArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Write man pages
    Man(ManArgs),
}

/// Where a password comes from.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PasswordArgs {
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

/// How a profile that does not exist yet is made.
#[derive(Clone, Debug, Args)]
pub(crate) struct MakeArgs {
    /// What you call this device
    #[arg(long, value_name = "LABEL", default_value = std::env::consts::OS)]
    pub(crate) device: String,
    /// Protect the profile by a passphrase; it is asked for, or taken from PARLOUR_PASSPHRASE
    #[arg(long)]
    pub(crate) passphrase: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// The server's address, wss://HOST:PORT#FINGERPRINT; an invitation link holds it too
    #[arg(long, value_name = "URL", required_unless_present = "invite", value_hint = ValueHint::Url, value_parser = server_url)]
    pub(crate) server: Option<ServerUrl>,
    /// The name you want
    pub(crate) name: String,
    /// An invitation's token or link
    #[arg(long, value_name = "TOKEN")]
    pub(crate) invite: Option<String>,
    #[command(flatten)]
    pub(crate) make: MakeArgs,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The server's address, wss://HOST:PORT#FINGERPRINT
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, value_parser = server_url)]
    pub(crate) server: ServerUrl,
    /// The account's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) make: MakeArgs,
    #[command(flatten)]
    pub(crate) password: PasswordArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PasswdArgs {
    /// Read the old password from the first line of standard input and the new one from the second
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RegistrationArgs {
    /// The server's address, wss://HOST:PORT#FINGERPRINT
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, value_parser = server_url)]
    pub(crate) server: ServerUrl,
    /// How long to try
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    #[command(subcommand)]
    pub(crate) action: Option<DevicesAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DevicesAction {
    /// End another device of this account; asks for the password
    Revoke {
        /// The device's id
        #[arg(value_name = "ID")]
        device: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ContactsArgs {
    #[command(subcommand)]
    pub(crate) action: Option<ContactsAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContactsAction {
    /// Add a contact
    Add {
        /// A user name, or name@server
        to: String,
    },
    /// Take a contact from the list; the history stays
    Remove {
        /// Whom
        to: String,
    },
    /// Refuse messages from and to somebody
    Block {
        /// Whom
        to: String,
        /// Take messages again
        #[arg(long)]
        undo: bool,
    },
    /// Give a contact a name of your own
    Rename {
        /// Whom
        to: String,
        /// The name, empty to take it away
        petname: String,
    },
    /// Find contacts by a part of their name
    Search {
        /// The part, whatever its case
        text: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// Whose key
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// With whom
    pub(crate) to: String,
    /// Note that both sides have compared the number and it is the same
    #[arg(long)]
    pub(crate) confirm: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// A user name, name@server, a name that you gave a contact, or #group (in quotes, where # begins a comment)
    pub(crate) to: String,
    /// What to say, beside a file if there is one; `-` reads standard input. More than 64 KiB goes as a file of its own
    #[arg(required_unless_present = "file", num_args = 1..)]
    pub(crate) text: Vec<String>,
    /// Send a file; several times for several
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Vec<PathBuf>,
    /// Send no small picture beside a picture
    #[arg(long, requires = "file")]
    pub(crate) no_thumbnail: bool,
    /// The id of the message that this one answers
    #[arg(long, value_name = "ID")]
    pub(crate) reply: Option<String>,
    /// Delete the message everywhere so long after the server has stored it
    #[arg(long, value_name = "TIME", value_parser = whole_seconds)]
    pub(crate) expire: Option<Duration>,
    /// How far the message must come
    #[arg(long, value_enum, default_value_t = Wait::Stored)]
    pub(crate) wait: Wait,
    /// How long to try; with a file, or a text of more than 64 KiB: without progress; after it the message stays queued
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// How far a message must come before `send` is content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// Safe on the server's disk
    Stored,
    /// Decrypted and stored by a device of the recipient; in a group, of every other member
    Delivered,
}

impl Wait {
    /// The state that it asks for.
    pub(crate) const fn state(self) -> State {
        match self {
            Self::Stored => State::Stored,
            Self::Delivered => State::Delivered,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RecvArgs {
    /// Print messages as they come, until Ctrl-C or --timeout
    #[arg(long)]
    pub(crate) follow: bool,
    /// Wait for so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// How long to wait [default: 10s; without end with --follow]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Only messages from this contact or #group
    #[arg(long, value_name = "TO")]
    pub(crate) from: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// With whom, or in which #group
    pub(crate) to: String,
    /// At most so many messages
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Only messages older than this one
    #[arg(long, value_name = "ID")]
    pub(crate) before: Option<String>,
    /// Only messages newer than this one
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The message's id
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The data folder [default: parlour/server in the XDG data folder]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:0, any free port]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<String>,
    /// The host name or address that clients are told [default: the address of --listen]
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Who may register: open, invite or closed [default: open]
    #[arg(long, value_name = "MODE")]
    pub(crate) registration: Option<String>,
    /// A TOML file with these settings; options go over it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// How long a session waits for its client to come back [default: 5m]
    #[arg(long, value_name = "TIME")]
    pub(crate) session_grace: Option<String>,
    /// How long messages are kept after every device has taken them [default: 30d]
    #[arg(long, value_name = "TIME")]
    pub(crate) retention: Option<String>,
    /// How much the files of one account may take, such as 512MiB [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) blob_quota: Option<String>,
    /// PEM file with the certificate [default: a self-signed one, made at the first start]
    #[arg(long, value_name = "FILE", requires = "key", value_hint = ValueHint::FilePath)]
    pub(crate) cert: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, value_name = "FILE", requires = "cert", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// Where health and metrics are served, on the loopback [default: 127.0.0.1:0]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) admin: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    /// The server's data folder [default: parlour/server in the XDG data folder]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,
    /// How many accounts it allows
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: u32,
    /// For one person under this name; it opens a closed server too
    #[arg(long = "for", value_name = "NAME", conflicts_with = "uses")]
    pub(crate) name: Option<String>,
    /// How long it is good for
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
    pub(crate) expires: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to write a page per command [default: the main page to standard output]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) output: Option<PathBuf>,
}

/// Reads a time such as `500ms`, `10s`, `5m`, `1h30m` or `7d`; a day has 24 hours.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time; write for example 500ms, 10s, 5m or 7d");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let length = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| wrong())
}

/// Reads a time that is counted in seconds.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    if length < Duration::from_secs(1) { Err("it is counted in seconds; the least is 1s".to_owned()) } else { Ok(length) }
}

/// Reads a server's address, and says which form it has.
fn server_url(text: &str) -> Result<ServerUrl, String> {
    text.parse().map_err(|_| {
        let meant = format!("wss://{text}");
        let meant = if meant.parse::<ServerUrl>().is_ok() { meant } else { "wss://HOST:PORT".to_owned() };
        format!("write {meant}, with #FINGERPRINT behind it if you know the server's")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_read() {
        let millis = |text| duration(text).map(|length| length.as_millis());
        for (text, expected) in [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("7d", 604_800_000), ("1h30m", 5_400_000)] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        for text in ["", "10", "s", "-5s", "5x", "1mo"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn global_options_stand_on_either_side_of_the_command() {
        for line in ["parlour --json --home /p whoami", "parlour whoami --json --home /p"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect("both are right");
            assert!(cli.globals.json && cli.globals.home == Some(PathBuf::from("/p")), "{line}");
        }
    }

    #[test]
    fn words_of_a_message_need_no_quotes_and_options_may_follow() {
        let cli = Cli::try_parse_from(["parlour", "send", "bob", "see", "you", "--wait", "delivered"]).expect("right");
        let Command::Send(send) = cli.command else { panic!("send") };
        assert_eq!((send.text.join(" ").as_str(), send.wait), ("see you", Wait::Delivered));
    }
}
