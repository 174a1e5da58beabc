//! The words of `file`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::duration;

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    #[command(subcommand)]
    pub(crate) action: FileAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FileAction {
    /// Download the file of a message, check it and put it on disk; goes on with what is there already
    Get(FileGetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FileGetArgs {
    /// The id of the message, or a unique beginning of it
    pub(crate) id: String,
    /// The file to write, or a folder for it [default: the current folder]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Replace what is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Write the small picture that came with the message instead; needs no server
    #[arg(long)]
    pub(crate) thumbnail: bool,
    /// Do not ask before a large file
    #[arg(long)]
    pub(crate) yes: bool,
    /// Refuse files of more bytes than this
    #[arg(long, value_name = "BYTES")]
    pub(crate) limit: Option<u64>,
    /// How long to try without progress
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
}
