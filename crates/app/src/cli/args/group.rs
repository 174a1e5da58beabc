//! The words of `group`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::duration;

#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    pub(crate) action: GroupAction,
    /// How long to wait for the server to take a change; after it the change is kept and goes on by itself
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GroupAction {
    /// Make a group; you are its first admin
    Create {
        /// Its name; users and groups share one namespace
        name: String,
        /// Who is in it beside you
        #[arg(value_name = "MEMBER")]
        members: Vec<String>,
        /// What people who come in later get of the messages before: none, all, or a number
        #[arg(long, value_name = "POLICY", default_value = "none")]
        history: String,
    },
    /// List the groups that you are in
    List,
    /// List who is in a group
    Members {
        /// Which group; the # may be left out
        group: String,
    },
    /// Bring people in; for admins
    Add {
        /// Which group
        group: String,
        /// Whom
        #[arg(required = true, value_name = "MEMBER")]
        members: Vec<String>,
    },
    /// Take people out; for admins. They read nothing that is written after
    Remove {
        /// Which group
        group: String,
        /// Whom
        #[arg(required = true, value_name = "MEMBER")]
        members: Vec<String>,
    },
    /// Say what a member may do; for admins
    Role {
        /// Which group
        group: String,
        /// Who
        member: String,
        /// What they may do
        #[arg(value_enum)]
        role: RoleArg,
    },
    /// Give a group another name; for admins
    Rename {
        /// Which group
        group: String,
        /// The name
        name: String,
    },
    /// Leave a group
    Leave {
        /// Which group
        group: String,
    },
    /// Ask the server whether there is a group of this name, whoever is in it
    Exists {
        /// The name
        name: String,
    },
    /// Say what people who come in get of the messages before: none, all, or the last N; for admins
    History {
        /// Which group
        group: String,
        /// none, all, or a number
        #[arg(value_name = "POLICY")]
        policy: String,
    },
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Also add, remove, give roles, rename
    Admin,
    /// Speak, and leave
    Member,
}
