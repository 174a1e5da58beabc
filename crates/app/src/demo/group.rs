//! The step with a group.

use parlour_client::{Code, MessageKind, Role};

use super::stage::{Checked, PATIENCE, Stage, read, same, told};

pub(super) async fn three_people_in_a_group(stage: &mut Stage) -> Checked {
    let (alice, bob, carol) = (stage.person("alice")?, stage.person("bob")?, stage.person("carol")?);
    let group = alice.create_group("friends", &["bob"], PATIENCE).await.map_err(told)?;
    let taken = bob.create_group("friends", &["carol"], PATIENCE).await;
    same("a second group of the name", &taken.map_err(|error| error.code).map(|group| group.name), &Err(Code::NAME_TAKEN))?;
    alice.send("#friends", "before carol", None).await.map_err(told)?;
    same("what bob reads", &said(&read(&bob, 2).await?), &vec!["before carol".to_owned()])?;
    alice.add_members("#friends", &["carol"], PATIENCE).await.map_err(told)?;
    same("what carol is told", &said_by_program(&read(&carol, 1).await?), &vec!["You were added to #friends.".to_owned()])?;
    carol.send("#friends", "hello from carol", None).await.map_err(told)?;
    same("what bob reads then", &said(&read(&bob, 2).await?), &vec!["hello from carol".to_owned()])?;
    alice.remove_members("#friends", &["carol"], PATIENCE).await.map_err(told)?;
    alice.send("#friends", "after carol", None).await.map_err(told)?;
    same("what bob reads at last", &said(&read(&bob, 2).await?), &vec!["after carol".to_owned()])?;
    same(
        "what carol is told at last",
        &said_by_program(&read(&carol, 1).await?),
        &vec!["alice removed you from #friends.".to_owned()],
    )?;
    let page = parlour_client::Page::default();
    let all = carol.history("#friends", page).await.map_err(told)?;
    same("everything that carol has of the group", &said(&all), &vec!["hello from carol".to_owned()])?;
    let refused = carol.send("#friends", "may I?", None).await.map(|message| message.text).map_err(|error| error.code);
    same("carol writing to it", &refused, &Err(Code::NOT_MEMBER))?;
    // What alice was told meanwhile is read, so that the next step begins with nothing unread.
    same("what alice reads", &said(&read(&alice, 1).await?), &vec!["hello from carol".to_owned()])?;
    let members = bob.group_members("#friends").await.map_err(told)?;
    let admins: Vec<_> = members.iter().filter(|member| member.role == Role::ADMIN).map(|member| member.name.as_str()).collect();
    same("who is in it and an admin", &(members.len(), admins), &(2, vec!["alice"]))?;
    Ok(format!("#friends, {} encryption; carol read what was written while she was in, and nothing else", group.suite.word()))
}

fn said(messages: &[parlour_client::Message]) -> Vec<String> {
    of_kind(messages, MessageKind::Text)
}

fn said_by_program(messages: &[parlour_client::Message]) -> Vec<String> {
    of_kind(messages, MessageKind::System)
}

fn of_kind(messages: &[parlour_client::Message], kind: MessageKind) -> Vec<String> {
    messages.iter().filter(|message| message.kind == kind).map(|message| message.text.clone()).collect()
}
