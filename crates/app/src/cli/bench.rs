//! `bench`: figures against targets and against the machine.

use parlour_client::{Code, Error};

use super::{
    Failure,
    args::{BenchArgs, BenchLoad},
    output::Output,
};
use crate::bench::{self, Amount, Load};

/// Runs a load and prints one row for each figure.
pub(crate) async fn bench(args: BenchArgs, output: &Output) -> Result<(), Failure> {
    let load = match args.load {
        BenchLoad::Chat { pairs, messages, window } => {
            Load::Chat { pairs: pairs.into(), messages: size(messages), window: window.into() }
        }
        BenchLoad::Group { devices, senders, messages, window } => {
            Load::Group { devices: devices.into(), senders: senders.into(), messages: size(messages), window: window.into() }
        }
        BenchLoad::Idle { connections } => Load::Idle { connections: size(connections) },
        BenchLoad::Client { conversations, messages } => {
            Load::Client { conversations: size(conversations), messages: size(messages) }
        }
        BenchLoad::Offline { messages } => Load::Offline { messages: size(messages) },
        BenchLoad::Link { requests, file_mib } => {
            Load::Link(Amount { requests: size(requests), file: u64::from(file_mib) * 1024 * 1024 })
        }
        BenchLoad::E2ee { devices } => Load::E2ee { devices: devices.into_iter().map(usize::from).collect() },
    };
    let figures = bench::run(&load, args.data).await.map_err(|error| {
        // What the machine refuses is no bug; whatever else keeps a load from its end is.
        let of_machine = error.downcast_ref::<Error>().filter(|error| matches!(error.code, Code::READ_ONLY | Code::DISK_FULL));
        let told = || Error::new(Code::INTERNAL, format!("the load did not run to its end: {error:#}"));
        of_machine.cloned().unwrap_or_else(told)
    })?;
    for figure in figures {
        output.row(&figure.json(), |_| figure.line())?;
    }
    Ok(())
}

fn size(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
