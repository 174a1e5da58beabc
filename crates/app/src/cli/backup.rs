//! `backup …`.

use parlour_client::{BackupState, BackupStatus, Client, Code, Error, Event};
use serde_json::json;

use super::{
    args::{BackupAction, BackupArgs},
    errors::Failure,
    output::Time,
    profile::{Deadline, Session, closed, with_client_until},
};

pub(crate) async fn backup(args: BackupArgs, session: &Session) -> Result<(), Failure> {
    let deadline = Deadline::after(args.timeout);
    match args.action {
        BackupAction::On => {
            let status =
                with_client_until(session, deadline, async |client: &Client| Ok(in_time(deadline, client.backup_on()).await?));
            show(&status.await?, session)
        }
        BackupAction::Now => {
            let status =
                with_client_until(session, deadline, async |client: &Client| Ok(in_time(deadline, client.backup_now()).await?));
            show(&status.await?, session)
        }
        BackupAction::Off => {
            let status = with_client_until(session, deadline, async |client: &Client| {
                in_time(deadline, client.backup_off()).await?;
                Ok(client.backup_status().await?)
            });
            show(&status.await?, session)
        }
        BackupAction::Status => {
            let client = session.open()?;
            let outcome = client.backup_status().await.map_err(Failure::from);
            show(&closed(&client, outcome).await?, session)
        }
        BackupAction::Restore => restore(deadline, session).await,
    }
}

async fn restore(deadline: Deadline, session: &Session) -> Result<(), Failure> {
    let (messages, found) = with_client_until(session, deadline, async |client: &Client| {
        let mut events = client.events();
        in_time(deadline, client.restore_backup()).await?;
        let (mut messages, mut found) = (0, None);
        while let Ok(Some(event)) = tokio::time::timeout(std::time::Duration::ZERO, events.next()).await {
            match event {
                Event::RestoringBackup { version, made_ms, .. } => found = Some((version, made_ms)),
                Event::HistoryTaken { messages: more, .. } => messages += more,
                _ => {}
            }
        }
        Ok((messages, found))
    })
    .await?;
    let (version, made_ms) = found.unwrap_or_default();
    let made = Time::known(made_ms);
    let row = json!({"messages": messages, "version": version, "made_at": made});
    session.output.row(&row, |_| {
        let made = made.map_or_else(|| "an unknown time".to_owned(), Time::short);
        format!("{messages} messages taken in from backup {version} of {made}")
    })
}

async fn in_time<T>(deadline: Deadline, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Error::new(Code::TIMED_OUT, "the server has not taken everything in time; the rest goes on by itself");
    tokio::time::timeout(deadline.left(), work).await.map_err(late)?
}

fn show(status: &BackupStatus, session: &Session) -> Result<(), Failure> {
    let (state, keeper) = match status.state {
        BackupState::Off => ("off", None),
        BackupState::Here => ("on", None),
        BackupState::Elsewhere(device) => ("elsewhere", Some(device.to_string())),
    };
    let saved = Time::known(status.saved_ms);
    let row = json!({
        "backup": state,
        "device": keeper,
        "version": status.version,
        "saved_at": saved,
        "pending": status.pending,
        "packs": status.packs,
        "size": status.bytes,
        "trouble": status.trouble,
    });
    session.output.row(&row, |_| match status.state {
        BackupState::Off => "there is no backup".to_owned(),
        BackupState::Elsewhere(device) => format!("another device keeps the backup: {device}"),
        BackupState::Here => {
            let saved = saved.map_or_else(|| "never".to_owned(), Time::short);
            let (version, bytes, pending) = (status.version, status.bytes, status.pending);
            format!("this device keeps the backup\nversion {version}, saved {saved}, {bytes} bytes, {pending} messages to come")
        }
    })?;
    if let Some(trouble) = &status.trouble {
        session.output.note(&format!("note: the last time it could not be written: {trouble}"));
    }
    Ok(())
}
