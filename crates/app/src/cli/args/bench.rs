//! The words of `bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to measure.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// The load
    #[command(subcommand)]
    pub(crate) load: BenchLoad,
    /// Where the server of the load keeps its data while it runs; the disk under it is what is measured [default: the
    /// system's temporary folder]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) data: Option<PathBuf>,
}

/// The loads.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BenchLoad {
    /// Direct messages between pairs: throughput, then latency at 200 a second
    Chat {
        /// Pairs of people
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
        pairs: u16,
        /// Messages in all
        #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1000..=5_000_000))]
        messages: u32,
        /// Unanswered messages of each sender
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=512))]
        window: u16,
    },
    /// Deliveries in one group whose devices are all online
    Group {
        /// Devices in the group
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(2..=1000))]
        devices: u16,
        /// Devices that write
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=100))]
        senders: u16,
        /// Messages in all
        #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
        messages: u32,
        /// Unanswered messages of each sender
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=512))]
        window: u16,
    },
    /// Memory of the server for idle connections
    Idle {
        /// Connections
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
        connections: u32,
    },
    /// A client with a large profile: opening it, and searching in it
    Client {
        /// Conversations
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        conversations: u32,
        /// Messages in all
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
        messages: u32,
    },
    /// Messages stored for somebody who is away, then drained
    Offline {
        /// Messages
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        messages: u32,
    },
    /// The link between two programs: requests, actions, files, the durable queue
    Link {
        /// Requests one at a time; ten times as many are pipelined
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
        requests: u32,
        /// Size of the large file in MiB; the data folder holds three of it
        #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
        file_mib: u32,
    },
    /// End-to-end encryption in groups: messages, adding and removing one, sizes
    #[command(name = "e2ee")]
    E2ee {
        /// Devices in the group; may be given several times
        #[arg(long, default_values_t = [2, 10, 100, 1000], value_parser = clap::value_parser!(u16).range(2..=1000))]
        devices: Vec<u16>,
    },
}
