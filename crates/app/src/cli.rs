//! The command line: from arguments to an exit status.
//!
//! - [`args`]: every command and option, defined once for parsing, help, completions and man pages.
//! - [`output`]: what goes to standard output, for people or as JSON; [`rows`]: the JSON objects, a promise to scripts.
//! - [`errors`]: how a failure is told.
//! - [`profile`], [`secret`]: opening the local profile, asking for passwords.
//! - one module per group of commands; [`archive`] is `export` and `import`.

mod account;
mod archive;
mod args;
mod backup;
mod bench;
mod changes;
mod completions;
mod contacts;
mod errors;
mod files;
mod groups;
mod invite;
mod messages;
pub(crate) mod output;
mod personal;
mod profile;
mod recovery;
mod recv;
mod rows;
mod secret;
mod serve;

use std::{
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Duration,
};

use clap::{CommandFactory as _, FromArgMatches as _};
use parlour_client::{Code, Error};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

pub(crate) use self::errors::Failure;
use self::{
    args::{Cli, Command},
    output::Output,
    profile::Session,
};
use crate::demo;

/// How long background tasks may take to notice that the program ends.
const WIND_DOWN: Duration = Duration::from_secs(1);

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let json = errors::wants_json(&words);
    let cli = match parse(&words) {
        Ok(cli) => cli,
        Err(error) => return errors::report_usage(&error, json),
    };
    let output = Output::new(cli.globals.json, cli.globals.color);
    let outcome = catch_unwind(AssertUnwindSafe(|| run(cli, &output)));
    let outcome = outcome.unwrap_or_else(|_| Err(Error::new(Code::INTERNAL, "the program has a bug and stopped").into()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => errors::report(&failure, output.json),
    }
}

fn parse(words: &[std::ffi::OsString]) -> Result<Cli, clap::Error> {
    let color = errors::color_of(words);
    let matches = Cli::command().color(color.into()).try_get_matches_from(words)?;
    Cli::from_arg_matches(&matches)
}

fn run(cli: Cli, output: &Output) -> Result<(), Failure> {
    start_log(&cli)?;
    let runtime = runtime(&cli.command).map_err(|error| Error::new(Code::INTERNAL, format!("cannot start threads: {error}")))?;
    let session = Session::new(cli.globals, output.clone());
    let outcome = runtime.block_on(async {
        let outcome = dispatch(cli.command, &session).await;
        session.tell_failed(&outcome).await;
        outcome
    });
    runtime.shutdown_timeout(WIND_DOWN);
    outcome
}

/// A server uses the machine; a client gets by with two threads.
fn runtime(command: &Command) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    if !matches!(command, Command::Serve(_) | Command::Demo | Command::Bench(_)) {
        builder.worker_threads(2);
    }
    builder.enable_all().build()
}

/// Logs go to standard error: `--log-level`, else `RUST_LOG`, else what a server's owner wants to know, or nothing but bugs.
fn start_log(cli: &Cli) -> Result<(), Failure> {
    let default = if matches!(cli.command, Command::Serve(_)) { "info" } else { "error" };
    let environment = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let directives = cli.globals.log_level.clone().or(environment).unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        Error::new(Code::USAGE, format!("`{directives}` is not a log level: {error}")).hint("try info or debug")
    })?;
    let colour = cli.globals.color.applies_to(&io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour).init();
    Ok(())
}

async fn dispatch(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        // These end on a signal in ways of their own.
        Command::Serve(args) => serve::serve(args, session).await,
        Command::Send(args) => messages::send(args, session).await,
        Command::Recv(args) => recv::recv(args, session).await,
        Command::Completions(args) => completions::completions(&args, &session.output),
        Command::Man(args) => completions::man(&args, &session.output),
        command => interruptible(client_command(command, session)).await,
    }
}

async fn client_command(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::Register(args) => account::register(args, session).await,
        Command::Login(args) => account::login(args, session).await,
        Command::Logout => account::logout(session).await,
        Command::Passwd(args) => account::passwd(args, session).await,
        Command::RecoveryCode(args) => recovery::code(args, session).await,
        Command::Recover(args) => recovery::recover(args, session).await,
        Command::Whoami => account::whoami(session).await,
        Command::Registration(args) => account::registration(args, session).await,
        Command::Devices(args) => account::devices(args, session).await,
        Command::Contacts(args) => contacts::contacts(args, session).await,
        Command::Key(args) => contacts::key(args, session).await,
        Command::Verify(args) => contacts::verify(args, session).await,
        Command::Draft(args) => recovery::draft(args, session).await,
        Command::Backup(args) => backup::backup(args, session).await,
        Command::Group(args) => groups::group(args, session).await,
        Command::File(args) => files::file(args, session).await,
        Command::History(args) => messages::history(args, session).await,
        Command::Status(args) => messages::status(args, session).await,
        Command::React(args) => changes::react(args, session).await,
        Command::Edit(args) => changes::edit(args, session).await,
        Command::Delete(args) => changes::delete(args, session).await,
        Command::Search(args) => messages::search(args, session).await,
        Command::Export(args) => archive::export(args, session).await,
        Command::Import(args) => archive::import(args, session).await,
        Command::Profile(args) => personal::profile(args, session).await,
        Command::Settings(args) => personal::settings(args, session).await,
        Command::Invite(args) => invite::invite(&args, session),
        Command::Demo => demo::demo(&session.output).await,
        Command::Bench(args) => bench::bench(args, &session.output).await,
        Command::Serve(_) | Command::Send(_) | Command::Recv(_) | Command::Completions(_) | Command::Man(_) => {
            Err(Error::new(Code::INTERNAL, "this command has a place of its own").into())
        }
    }
}

/// Ends with [`Failure::Interrupted`] on SIGINT or SIGTERM. What a command has put on disk stays.
async fn interruptible(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let stopped = stop_signal()?;
    tokio::select! {
        outcome = command => outcome,
        () = stopped => Err(Failure::Interrupted),
    }
}

/// Completes on SIGINT or SIGTERM. The handlers are in place when this returns.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Error::new(Code::INTERNAL, format!("cannot listen to signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
