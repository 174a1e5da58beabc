//! `recv`: messages that this profile has not printed yet, oldest first, each of them once.
//!
//! A message counts as printed when it is flushed; only then is it marked, so a message cannot vanish between the two. A crash
//! exactly there prints it a second time, under the same id.

use std::{
    future::{Future, pending},
    pin::{Pin, pin},
    time::Duration,
};

use parlour_client::{Client, Code, Error, Event, Events, MessageId};
use tokio::time::{Instant, sleep_until};

use super::{
    args::RecvArgs,
    errors::Failure,
    messages::message_line,
    output::seconds,
    profile::{Session, closed, try_online},
    rows::MessageRow,
    stop_signal,
};

/// How long to wait when the caller does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Messages printed before they are marked: few, so that a crash repeats little.
const BATCH: u32 = 16;

pub(crate) async fn recv(args: RecvArgs, session: &Session) -> Result<(), Failure> {
    let mut stopped = pin!(stop_signal()?);
    let client = session.open()?;
    let outcome = tokio::select! {
        outcome = Reader::new(&client, &args, session).run() => outcome,
        // Ctrl-C is how --follow ends; what is printed is marked or will be printed again.
        () = &mut stopped => if args.follow { Ok(()) } else { Err(Failure::Interrupted) },
    };
    closed(&client, outcome).await
}

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Reader<'a> {
    client: &'a Client,
    args: &'a RecvArgs,
    session: &'a Session,
    events: Events,
    printed: u64,
}

impl<'a> Reader<'a> {
    fn new(client: &'a Client, args: &'a RecvArgs, session: &'a Session) -> Self {
        Self { client, args, session, events: client.events(), printed: 0 }
    }

    async fn run(mut self) -> Result<(), Failure> {
        let limit = self.args.timeout.or((!self.args.follow).then_some(TIMEOUT));
        let deadline = limit.map(|limit| Instant::now() + limit);
        let offline = self.catch_up(limit.unwrap_or(TIMEOUT)).await?;
        self.drain().await?;
        if self.is_done() {
            return Ok(());
        }
        if self.args.count.is_none() && !self.args.follow {
            if self.printed == 0 && offline.is_none() {
                self.session.output.note("nothing new");
            }
            return offline.map_or(Ok(()), |error| Err(error.into()));
        }
        self.wait(deadline, offline).await
    }

    /// Goes online and takes what the server has. Gives the reason if that did not work out.
    async fn catch_up(&self, timeout: Duration) -> Result<Option<Error>, Failure> {
        if let Some(error) = try_online(self.client, timeout).await? {
            return Ok(Some(error));
        }
        match self.client.wait_synced(timeout).await {
            Ok(()) => Ok(None),
            Err(error) if error.code.retry() => Ok(Some(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Prints messages as they come until there are enough or the time is over.
    async fn wait(&mut self, deadline: Option<Instant>, mut offline: Option<Error>) -> Result<(), Failure> {
        let mut over: Sleep = match deadline {
            Some(deadline) => Box::pin(sleep_until(deadline)),
            None => Box::pin(pending()),
        };
        while !self.is_done() {
            let event = tokio::select! {
                event = self.events.next() => event,
                () = &mut over => return self.out_of_time(offline),
            };
            match event {
                Some(Event::Message(_) | Event::Missed(_)) => self.drain().await?,
                Some(Event::Online { .. }) => offline = None,
                Some(Event::Offline { error, .. }) if !error.code.retry() => return Err(error.into()),
                Some(Event::Offline { error, .. }) => offline = Some(error),
                Some(Event::MessageFailed { error, .. }) => self.session.tell_failure(error),
                Some(Event::SignedOut { reason }) => return Err(reason.into()),
                Some(_) => {}
                None => return Err(Error::new(Code::INTERNAL, "the client has stopped").into()),
            }
        }
        Ok(())
    }

    fn out_of_time(&self, offline: Option<Error>) -> Result<(), Failure> {
        let Some(count) = self.args.count else { return Ok(()) };
        let timeout = seconds(self.args.timeout.unwrap_or(TIMEOUT));
        let message = format!("{} of {count} messages came within {timeout}", self.printed);
        Err(match offline {
            Some(reason) => Error::new(reason.code, format!("{message}; {}", reason.message)),
            None => Error::new(Code::TIMED_OUT, message),
        }
        .into())
    }

    fn is_done(&self) -> bool {
        self.args.count.is_some_and(|count| self.printed >= count)
    }

    /// Prints what is there.
    async fn drain(&mut self) -> Result<(), Failure> {
        while !self.is_done() {
            let left = self.args.count.map_or(u64::from(BATCH), |count| count - self.printed);
            let limit = u32::try_from(left).unwrap_or(BATCH).min(BATCH);
            let messages = self.client.unshown(self.args.from.as_deref(), limit).await?;
            if messages.is_empty() {
                break;
            }
            let mut shown: Vec<MessageId> = Vec::with_capacity(messages.len());
            let mut outcome = Ok(());
            for message in &messages {
                outcome = self.session.output.row(&MessageRow::from(message), |output| message_line(message, output));
                if outcome.is_err() {
                    break;
                }
                shown.push(message.id);
            }
            self.client.mark_shown(&shown).await?;
            self.printed += shown.len() as u64;
            outcome?;
        }
        Ok(())
    }
}
