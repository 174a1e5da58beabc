//! The words of commands that change messages, find them, and take them out and in; and of `profile` and `settings`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::duration;

/// How long a change may take to reach the server.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Patience {
    /// How long to try; after it the change stays queued
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct ReactArgs {
    /// The message's id, or a unique beginning of it
    pub(crate) id: String,
    /// The emoji; any short word without spaces is one
    pub(crate) emoji: String,
    /// Take it away
    #[arg(long)]
    pub(crate) remove: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// The message's id, or a unique beginning of it
    pub(crate) id: String,
    /// What it says from here on; `-` reads standard input
    #[arg(required = true, num_args = 1..)]
    pub(crate) text: Vec<String>,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The message's id, or a unique beginning of it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Words that a message must hold; the last one may be the beginning of a word
    #[arg(required = true, num_args = 1..)]
    pub(crate) text: Vec<String>,
    /// Only messages with this contact, or in this #group
    #[arg(long = "in", value_name = "TO")]
    pub(crate) within: Option<String>,
    /// At most so many messages
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Only the conversation with this contact, or in this #group [default: all of the profile]
    pub(crate) to: Option<String>,
    /// Where to write; a folder that does not exist yet, or is empty
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,
    /// Leave the files out
    #[arg(long)]
    pub(crate) no_files: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A folder that `export` has written
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    #[command(subcommand)]
    pub(crate) action: ProfileAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileAction {
    /// Show what somebody says about themselves
    Show {
        /// Whom [default: you]
        to: Option<String>,
        /// Write their picture to this file
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        avatar: Option<PathBuf>,
    },
    /// Say something about you to everybody you talk with; the server does not see it
    #[command(arg_required_else_help = true)]
    Set {
        /// How you would like to be called; empty for nothing
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// A line about you; empty for nothing
        #[arg(long, value_name = "TEXT")]
        status: Option<String>,
        /// A picture: PNG, JPEG or WebP of at most 48 KiB
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        avatar: Option<PathBuf>,
        /// Take the picture away
        #[arg(long, conflicts_with = "avatar")]
        no_avatar: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    #[command(subcommand)]
    pub(crate) action: Option<SettingsAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SettingsAction {
    /// Whether others are told that you have read their messages
    Receipts {
        /// on or off
        #[arg(value_enum)]
        switch: Switch,
    },
    /// Whether others are told that their messages have arrived
    Arrivals {
        /// on or off
        #[arg(value_enum)]
        switch: Switch,
    },
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Tell
    On,
    /// Do not tell
    Off,
}
