//! Carries a core's requests to the server, and answers, pushes and the link's ups and downs back.

use std::{sync::mpsc as std_mpsc, time::Duration};

use parlour_net::{Ask, ConnectConfig, ConnectError, Events, Link, LinkEvent, Trust};
use parlour_wire::{
    Code,
    address::ServerUrl,
    api::{Call as _, ServerInfo, ServerInfoAnswer},
    frame::ContentType,
    header::Fault,
};
use tokio::sync::{mpsc, watch};

use super::{Job, keep, transfer::Workers};
use crate::{
    api::ServerFacts,
    core::{Input, Output, RequestId},
    error::Error,
};

/// How long a request may take. The link holds it over losses of the connection; beyond this the server is not coming back soon.
const REQUEST: Duration = Duration::from_secs(30);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

type Jobs = std_mpsc::Sender<Job>;

/// Runs until the core has gone.
pub(super) async fn run(
    mut outputs: mpsc::UnboundedReceiver<Output>,
    jobs: Jobs,
    mut workers: Workers,
    _alive: watch::Sender<()>,
) {
    let mut link: Option<(Link, Events)> = None;
    loop {
        tokio::select! {
            output = outputs.recv() => match output {
                Some(output) => take_output(output, &mut link, &mut workers, &jobs).await,
                None => break,
            },
            event = next_event(&mut link) => {
                if let Some(input) = event.and_then(|event| input(event, link.as_ref())) {
                    drop(jobs.send(Job::Input(input)));
                }
            }
        }
    }
    workers.stop_all();
    goodbye(link.take()).await;
}

/// The next event of the link; waits for ever when there is none.
async fn next_event(link: &mut Option<(Link, Events)>) -> Option<LinkEvent> {
    let event = match link {
        Some((_, events)) => events.next().await,
        None => std::future::pending().await,
    };
    if event.is_none() {
        *link = None;
    }
    event
}

async fn take_output(output: Output, link: &mut Option<(Link, Events)>, workers: &mut Workers, jobs: &Jobs) {
    match output {
        Output::Connect { server, first_use } => {
            goodbye(link.take()).await;
            let trust = if first_use { Trust::FirstUse } else { Trust::System };
            *link = Some(Link::connect(ConnectConfig::new(server, trust)));
        }
        Output::Disconnect => goodbye(link.take()).await,
        Output::Cut => {
            if let Some((link, _)) = link {
                link.reconnect();
            }
        }
        Output::Request { id, name, content } => match link {
            Some((link, _)) => request(link, id, name, content, jobs.clone()),
            None => answer(jobs, id, Err(Error::new(Code::LINK_LOST, "not connected"))),
        },
        Output::Action { name, content } => {
            if let Some((link, _)) = link
                && let Err(error) = link.action_raw(name, ContentType::CBOR, content.into())
            {
                tracing::debug!(name, %error, "an action was not sent");
            }
        }
        Output::Transfer(order) => workers.start(order, link.as_ref().map(|(link, _)| link.clone())),
        Output::StopTransfer(id) => workers.stop(id),
        Output::Erase(path) => drop(tokio::task::spawn_blocking(move || keep::erase(&path))),
        // Delivered by the core's thread.
        Output::Reply(..) | Output::Event(_) => {}
    }
}

/// Makes a request. Its place in the order is taken before this returns; its answer is awaited elsewhere.
fn request(link: &Link, id: RequestId, name: &'static str, content: Vec<u8>, jobs: Jobs) {
    let ask = Ask {
        name: name.to_owned(),
        content_type: ContentType::CBOR,
        content: content.into(),
        timeout: Some(REQUEST),
        origin: None,
    };
    let asked = link.ask(ask);
    tokio::spawn(async move {
        let result = asked.await;
        answer(&jobs, id, result.map(|answer| answer.content.to_vec()).map_err(|fault| error_of(&fault)));
    });
}

fn answer(jobs: &Jobs, id: RequestId, result: Result<Vec<u8>, Error>) {
    // A core that has gone wants no answer.
    drop(jobs.send(Job::Input(Input::Answer(id, result))));
}

/// What an event of the link means to the core.
fn input(event: LinkEvent, link: Option<&(Link, Events)>) -> Option<Input> {
    match event {
        LinkEvent::Up { resumed, challenge, fingerprint, trusted_by_system, .. } => {
            Some(Input::Up { resumed, challenge, fingerprint, trusted_by_system })
        }
        LinkEvent::Down { fault, retry_in } => Some(Input::Down { error: error_of(&fault), retry_in: Some(retry_in) }),
        LinkEvent::Failed(error) => Some(Input::Down { error: connect_error(&error), retry_in: None }),
        LinkEvent::Action { name, content, .. } => Some(Input::Push { name, content: content.to_vec() }),
        LinkEvent::Request { id, name, .. } => {
            let message = format!("no handler of the name {name}");
            let fault = Fault { code: Code::UNKNOWN_REQUEST, message, retry_after_ms: None };
            if let Some((link, _)) = link
                && let Err(error) = link.answer(id, Err(fault))
            {
                tracing::debug!(%error, "a request of the server was not answered");
            }
            None
        }
        // Already answered.
        LinkEvent::Cancelled { .. } | LinkEvent::Remains(_) => None,
    }
}

async fn goodbye(link: Option<(Link, Events)>) {
    if let Some((link, events)) = link {
        drop(events);
        if tokio::time::timeout(GOODBYE, link.close()).await.is_err() {
            tracing::debug!("the link did not close in time");
        }
    }
}

pub(super) fn error_of(fault: &Fault) -> Error {
    let error = Error::new(fault.code, fault.message.clone());
    match (fault.code, fault.retry_after_ms) {
        (Code::RATE_LIMITED, Some(ms)) => error.hint(format!("try again in {} s", ms.div_ceil(1000))),
        (Code::UNREACHABLE, _) => error.hint("check the address and whether the server runs"),
        (Code::INVITE_REQUIRED, _) => error.hint("ask who runs the server for an invitation, and give it with --invite"),
        _ => error,
    }
}

fn connect_error(error: &ConnectError) -> Error {
    match error {
        ConnectError::CertificateChanged { expected, seen } => Error::new(
            Code::CERTIFICATE_CHANGED,
            format!(
                "the server's certificate has changed: expected {}, seen {}; nothing was sent",
                hex::encode(expected),
                hex::encode(seen)
            ),
        )
        .hint("somebody may be listening in; ask who runs the server for its fingerprint"),
        error => error_of(&error.fault()),
    }
}

/// Asks a server what it is, on a link of its own.
pub(crate) async fn server_info(server: &ServerUrl, timeout: Duration) -> Result<ServerFacts, Error> {
    let (link, mut events) = Link::connect(ConnectConfig::new(server.clone(), Trust::FirstUse));
    let ask = async {
        let pinned = loop {
            match events.next().await {
                Some(LinkEvent::Up { fingerprint, trusted_by_system, .. }) => break (!trusted_by_system).then_some(fingerprint),
                Some(LinkEvent::Down { fault, .. }) => return Err(error_of(&fault)),
                Some(LinkEvent::Failed(error)) => return Err(connect_error(&error)),
                Some(_) => {}
                None => return Err(Error::new(Code::UNREACHABLE, "the link was closed")),
            }
        };
        let content = parlour_wire::encode(&ServerInfo {});
        let answer = link.request_raw(ServerInfo::NAME, ContentType::CBOR, content.into(), timeout).await;
        let answer = answer.map_err(|fault| error_of(&fault))?;
        let info: ServerInfoAnswer = parlour_wire::decode(&answer.content)?;
        let server = ServerUrl { fingerprint: pinned, ..server.clone() };
        Ok(ServerFacts { registration: info.registration, version: info.version, server })
    };
    let outcome = tokio::time::timeout(timeout, ask).await;
    goodbye(Some((link, events))).await;
    outcome.unwrap_or_else(|_| Err(Error::new(Code::TIMED_OUT, "no answer from the server in time")))
}
