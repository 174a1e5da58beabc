//! `group …`.

use parlour_client::{Client, Code, Error, Group, GroupMember, HistoryPolicy, Name, Role};
use serde_json::json;

use super::{
    args::{GroupAction, GroupArgs, RoleArg},
    errors::{Failure, usage},
    messages::refresh,
    output::{Output, plain},
    profile::{Deadline, Session, closed, with_client_until},
    rows::{GroupRow, MemberRow},
};

pub(crate) async fn group(args: GroupArgs, session: &Session) -> Result<(), Failure> {
    let deadline = Deadline::after(args.timeout);
    match args.action {
        GroupAction::List => list(session).await,
        GroupAction::Members { group } => members(&group, session).await,
        GroupAction::Exists { name } => exists(&name, deadline, session).await,
        GroupAction::Create { name, members, history } => {
            let history = history_of(&history)?;
            let create = async |client: &Client| client.create_group_with(&name, &members, history, deadline.left()).await;
            let made = change(session, deadline, create).await?;
            tell(&made, "created", session)
        }
        GroupAction::Add { group, members } => {
            let changed = async |client: &Client| client.add_members(&group, &members, deadline.left()).await;
            tell_members(session, deadline, &members, changed).await
        }
        GroupAction::Remove { group, members } => {
            let changed =
                change(session, deadline, async |client| client.remove_members(&group, &members, deadline.left()).await).await?;
            let name = shown(&changed);
            for member in &members {
                let row = json!({"member": member, "group": name, "removed": true});
                session.output.row(&row, |_| format!("{} is out of {}", plain(member), plain(&name)))?;
            }
            Ok(())
        }
        GroupAction::Role { group, member, role } => {
            let role = match role {
                RoleArg::Admin => Role::ADMIN,
                RoleArg::Member => Role::MEMBER,
            };
            let changed = async |client: &Client| client.set_role(&group, &member, role, deadline.left()).await;
            tell_members(session, deadline, std::slice::from_ref(&member), changed).await
        }
        GroupAction::Rename { group, name } => {
            let renamed =
                change(session, deadline, async |client| client.rename_group(&group, &name, deadline.left()).await).await?;
            tell(&renamed, "renamed", session)
        }
        GroupAction::Leave { group } => {
            let left = change(session, deadline, async |client| client.leave_group(&group, deadline.left()).await).await?;
            tell(&left, "left", session)
        }
        GroupAction::History { group, policy } => {
            let history = history_of(&policy)?;
            let changed =
                change(session, deadline, async |client| client.set_group_history(&group, history, deadline.left()).await)
                    .await?;
            tell(&changed, "changed", session)
        }
    }
}

/// Makes a change, after what the server had has been taken: somebody else may have changed the group since.
async fn change(
    session: &Session,
    deadline: Deadline,
    ask: impl AsyncFnOnce(&Client) -> Result<Group, Error>,
) -> Result<Group, Failure> {
    with_client_until(session, deadline, async |client: &Client| {
        let _ = client.wait_synced(deadline.left()).await;
        Ok(ask(client).await?)
    })
    .await
}

fn shown(group: &Group) -> String {
    format!("#{}", group.name)
}

fn tell(group: &Group, done: &str, session: &Session) -> Result<(), Failure> {
    session.output.row(&GroupRow::from(group), |output| {
        let facts = format!("{}, {} encryption", people(group.members), group.suite.word());
        let facts = if group.left { String::new() } else { format!("  {}", output.dim(&facts)) };
        format!("{done} {}{facts}", output.bold(&plain(&shown(group))))
    })
}

fn people(count: usize) -> String {
    if count == 1 { "1 member".to_owned() } else { format!("{count} members") }
}

/// Makes a change and prints the rows of the members that it was about.
async fn tell_members(
    session: &Session,
    deadline: Deadline,
    names: &[String],
    ask: impl AsyncFnOnce(&Client) -> Result<Group, Error>,
) -> Result<(), Failure> {
    let (group, members) = with_client_until(session, deadline, async |client: &Client| {
        let _ = client.wait_synced(deadline.left()).await;
        let group = ask(client).await?;
        let mut members = client.group_members(&shown(&group)).await?;
        let shown: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
        members.retain(|member| names.iter().any(|name| is_called(member, name, &shown)));
        Ok((group, members))
    })
    .await?;
    for member in &members {
        session.output.row(&MemberRow::new(member, &group), |output| member_line(member, output))?;
    }
    Ok(())
}

/// Whether a member is meant by what somebody typed. What one is shown as is nobody else's user name.
fn is_called(member: &GroupMember, typed: &str, shown: &[String]) -> bool {
    if shown.iter().any(|name| name == typed) {
        return member.name == typed;
    }
    let user = typed.split_once('@').map_or(typed, |(name, _)| name);
    Name::parse(user).is_ok_and(|name| name.as_str() == member.user)
}

async fn list(session: &Session) -> Result<(), Failure> {
    let client = session.open()?;
    refresh(&client).await;
    let outcome = client.groups().await.map_err(Failure::from);
    let groups = closed(&client, outcome).await?;
    if groups.is_empty() {
        session.output.note("no groups");
    }
    for group in groups {
        session.output.row(&GroupRow::from(&group), |output| {
            let role = if group.role == Role::ADMIN { ", you are an admin" } else { "" };
            let facts = format!("{}, {} encryption{role}", people(group.members), group.suite.word());
            format!("{}  {}", output.bold(&plain(&shown(&group))), output.dim(&facts))
        })?;
    }
    Ok(())
}

async fn members(group: &str, session: &Session) -> Result<(), Failure> {
    let client = session.open()?;
    refresh(&client).await;
    let outcome = async {
        let name = format!("#{}", group.trim_start_matches('#'));
        let members = client.group_members(&name).await?;
        Ok::<_, Failure>((name, members))
    };
    let outcome = outcome.await;
    let (name, members) = closed(&client, outcome).await?;
    if let Some(first) = members.first() {
        let (output, facts) = (&session.output, format!("{}, {} encryption", people(members.len()), first.suite.word()));
        output.text(&format!("{}  {}", output.bold(&plain(&name)), output.dim(&facts)))?;
    }
    for member in &members {
        session.output.row(&MemberRow::listed(member, &name), |output| member_line(member, output))?;
    }
    Ok(())
}

fn member_line(member: &GroupMember, output: &Output) -> String {
    let devices = if member.devices == 1 { "1 device".to_owned() } else { format!("{} devices", member.devices) };
    let this = if member.this { ", this is you" } else { "" };
    format!("{}  {}", output.bold(&plain(&member.name)), output.dim(&format!("{}, {devices}{this}", member.role.word())))
}

async fn exists(name: &str, deadline: Deadline, session: &Session) -> Result<(), Failure> {
    let late = |_| Error::new(Code::TIMED_OUT, "the server has not answered in time");
    let ask = async |client: &Client| {
        let answer = tokio::time::timeout(deadline.left(), client.group_exists(name)).await;
        Ok(answer.map_err(late)??)
    };
    let exists = with_client_until(session, deadline, ask).await?;
    let shown = format!("#{}", name.trim_start_matches('#'));
    let row = json!({"group": shown, "exists": exists});
    session.output.row(&row, |_| format!("{} {}", plain(&shown), if exists { "exists" } else { "does not exist" }))?;
    if exists { Ok(()) } else { Err(Error::new(Code::CONVERSATION_NOT_FOUND, format!("there is no group {shown}")).into()) }
}

fn history_of(policy: &str) -> Result<HistoryPolicy, Error> {
    match policy {
        "none" => Ok(HistoryPolicy::None),
        "all" => Ok(HistoryPolicy::All),
        count => match count.parse::<i32>().ok().and_then(|count| u32::try_from(count).ok()) {
            Some(0) => Ok(HistoryPolicy::None),
            Some(count) => Ok(HistoryPolicy::Last(count)),
            None => Err(usage(format!("`{policy}` is no history policy")).hint("write none, all, or a number of messages")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_policy_is_none_all_or_a_number() {
        assert_eq!(history_of("none"), Ok(HistoryPolicy::None));
        assert_eq!(history_of("all"), Ok(HistoryPolicy::All));
        assert_eq!(history_of("50"), Ok(HistoryPolicy::Last(50)));
        for wrong in ["", "-1", "some", "99999999999"] {
            assert_eq!(history_of(wrong).map_err(|error| error.code), Err(Code::USAGE), "{wrong}");
        }
    }
}
