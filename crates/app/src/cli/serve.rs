//! `serve`: a server, until SIGTERM or SIGINT.

use parlour_client::Error;
use parlour_serverd::{
    StartError,
    config::{ConfigError, RawConfig},
};
use serde::Serialize;

use super::{args::ServeArgs, errors::Failure, errors::usage, profile::Session, stop_signal};

/// Tells that clients are accepted from here on.
#[derive(Serialize)]
struct Listening<'a> {
    event: &'static str,
    url: &'a str,
    fingerprint: &'a str,
    admin: &'a str,
}

pub(crate) async fn serve(args: ServeArgs, session: &Session) -> Result<(), Failure> {
    let below = args.config.as_deref().map(RawConfig::from_file).transpose().map_err(|error| config_error(&error))?;
    let config = flags(args).over(below.unwrap_or_default()).resolve().map_err(|error| config_error(&error))?;
    let stopped = stop_signal()?;
    let running = parlour_serverd::start(config).await.map_err(|error| start_error(&error))?;
    let row = Listening { event: "listening", url: &running.url, fingerprint: &running.fingerprint, admin: &running.admin };
    session.output.row(&row, |output| {
        format!("listening on {}\nhealth and metrics on {}", output.bold(&running.server_url().to_string()), running.admin)
    })?;
    stopped.await;
    session.output.note("stopping");
    running.stop();
    running.join().await;
    Ok(())
}

/// What the options say; the rest is left to the file and the defaults.
fn flags(args: ServeArgs) -> RawConfig {
    RawConfig {
        data: args.data,
        listen: args.listen,
        host: args.host,
        registration: args.registration,
        session_grace: args.session_grace,
        retention: args.retention,
        blob_quota: args.blob_quota,
        cert: args.cert,
        key: args.key,
        admin: args.admin,
        ..RawConfig::default()
    }
}

fn config_error(error: &ConfigError) -> Error {
    usage(error.to_string()).hint("see `parlour serve --help`")
}

/// What a server that does not start says to the person who started it.
pub(crate) fn start_error(error: &StartError) -> Error {
    Error::new(error.code(), error.to_string()).hint(error.hint())
}
