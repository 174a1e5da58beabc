//! Conversations: commits, messages, reading, cursors. What must keep its order calls the store before it returns.

use std::{collections::BTreeSet, future::Future};

use parlour_wire::{
    AccountId, Code, ConversationId, DeviceId,
    api::{
        Change, Commit, ConversationKind, Create, CursorsSet, Done, GroupByName, GroupInfoAnswer, GroupInfoGet, Leave,
        LeavesAnswer, LeavesGet, Read, ReadAnswer, Role, Send as SendMessage, Stored, Sync as SyncPage, SyncAnswer,
    },
    codec::bounded,
    limits,
    log::LeaveStatement,
};

use super::{Ask, accounts::check_lookups, devices::page_limit};
use crate::{
    Failure, Fault, Rejection,
    store::{Append, CommitWrite, LeaveWrite, Refusal, Store, Write, Written},
};

fn stored(written: Written) -> Result<Stored, Failure> {
    match written {
        Written::Stored { stored, .. } => Ok(stored),
        _ => Err(Fault::Broken("an entry was answered with something else").into()),
    }
}

pub(super) fn send<S: Store>(ask: Ask<S>, call: SendMessage) -> impl Future<Output = Result<Stored, Failure>> + Send + 'static {
    let SendMessage { conversation, id, epoch, payload, blobs } = call;
    let begun = ask.device().and_then(|(account, device)| {
        if payload.is_empty() {
            return Err(Rejection::bad("an empty message").into());
        }
        ask.core.throttles.entry(&account, payload.len(), ask.now_ms).map_err(Rejection::rate_limited)?;
        // Each is a look-up by the writer.
        let blobs = blobs.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let append = Append { conversation, device, id, epoch, payload, blobs, now_ms: ask.now_ms };
        Ok(ask.core.apply(Write::Append(append)))
    });
    async move { stored(begun?.await??) }
}

pub(super) fn commit<S: Store>(ask: Ask<S>, call: Commit) -> impl Future<Output = Result<Stored, Failure>> + Send + 'static {
    let begun = ask.device().and_then(|(account, device)| {
        check_commit(&call, &account, &device)?;
        let created_as = call.create.as_ref().and_then(|create| create.name.as_ref());
        if created_as.or(call.change.as_ref().and_then(|change| change.name.as_ref())).is_some() {
            // Whether it is refused tells whether somebody has the name.
            check_lookups(&ask)?;
        }
        let bytes = call.commit.len() + call.welcome.as_ref().map_or(0, Vec::len);
        ask.core.throttles.entry(&account, bytes, ask.now_ms).map_err(Rejection::rate_limited)?;
        let created = call.create.as_ref().map_or(0, |create| create.members.len());
        let members = created + call.change.as_ref().map_or(0, |change| change.added.len());
        if members > 0 {
            ask.core.throttles.members.take_many(&account.0, members, ask.now_ms).map_err(Rejection::rate_limited)?;
        }
        let write = commit_write(&ask, call, account, device);
        Ok(ask.core.apply(Write::Commit(Box::new(write))))
    });
    async move { stored(begun?.await??) }
}

fn commit_write<S: Store>(ask: &Ask<S>, call: Commit, account: AccountId, device: DeviceId) -> CommitWrite {
    let receipt = ask.core.secrets.receipt(&call.conversation, call.parent_epoch, &call.commit);
    CommitWrite {
        conversation: call.conversation,
        account,
        device,
        id: call.id,
        parent_epoch: call.parent_epoch,
        create: call.create,
        change: call.change,
        commit: call.commit,
        receipt,
        welcome: call.welcome,
        added: call.added,
        removed: call.removed,
        group_info: call.group_info,
        external: call.external,
        now_ms: ask.now_ms,
    }
}

/// Whether all are different.
fn distinct<T: Ord>(mut all: impl Iterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    all.all(|one| seen.insert(one))
}

/// What can be said about a commit without the store.
fn check_commit(call: &Commit, committer: &AccountId, device: &DeviceId) -> Result<(), Rejection> {
    if let Some(welcome) = &call.welcome {
        bounded("welcome", welcome.len(), limits::HANDSHAKE_PAYLOAD)?;
    }
    if call.commit.is_empty() || call.group_info.is_empty() {
        return Err(Rejection::bad("a commit without content or group info"));
    }
    if call.added.is_empty() != call.welcome.is_none() {
        return Err(Rejection::bad("a welcome is for added devices, and they need it"));
    }
    if !distinct(call.added.iter().map(|added| added.device)) || !distinct(call.removed.iter()) {
        return Err(Rejection::bad("a device is named twice"));
    }
    if call.added.iter().any(|added| added.device == *device) {
        // It would not wait for the welcome, and nothing would ever drop that.
        return Err(Rejection::bad("nobody invites himself; one joins by an external commit"));
    }
    if call.parent_epoch == u64::MAX {
        return Err(Rejection::bad("no epoch follows the last one"));
    }
    if let Some(change) = &call.change {
        check_change(call, change, committer)?;
    }
    match &call.create {
        None => Ok(()),
        Some(_) if call.external || call.parent_epoch != 0 || !call.removed.is_empty() => {
            Err(Rejection::bad("a conversation begins in epoch 0, with its creator, and removes nobody"))
        }
        Some(create) => check_create(create, &call.conversation, committer),
    }
}

/// What can be said about a change without the store.
fn check_change(call: &Commit, change: &Change, committer: &AccountId) -> Result<(), Rejection> {
    for (field, len) in [("added", change.added.len()), ("removed", change.removed.len()), ("roles", change.roles.len())] {
        bounded(field, len, limits::GROUP_DEVICES)?;
    }
    if call.create.is_some() || call.external {
        return Err(Rejection::bad("who makes a conversation or joins by an external commit changes nothing else"));
    }
    if change.removed.contains(committer) {
        return Err(Rejection::bad("nobody removes himself; one leaves"));
    }
    if !distinct(change.added.iter().chain(&change.removed)) || !distinct(change.roles.iter().map(|member| member.account)) {
        return Err(Rejection::bad("an account is named twice"));
    }
    if change.roles.iter().any(|member| ![Role::MEMBER, Role::ADMIN].contains(&member.role)) {
        return Err(Rejection::bad("an unknown role"));
    }
    Ok(())
}

fn check_create(create: &Create, conversation: &ConversationId, committer: &AccountId) -> Result<(), Rejection> {
    bounded("members", create.members.len(), limits::GROUP_DEVICES)?;
    if !create.members.contains(committer) || !distinct(create.members.iter()) {
        return Err(Rejection::bad("the creator is a member, and nobody is one twice"));
    }
    let fits = match (create.kind, create.members.as_slice()) {
        (ConversationKind::DIRECT, [a, b]) => *conversation == ConversationId::direct(a, b),
        (ConversationKind::GROUP, _) => conversation.is_group(),
        (ConversationKind::OWN, [own]) => *conversation == ConversationId::own(own),
        _ => false,
    };
    if !fits {
        return Err(Rejection::bad("the conversation's id does not fit its kind and members"));
    }
    if (create.kind == ConversationKind::GROUP) != create.name.is_some() {
        return Err(Rejection::bad("groups have a name, other conversations have none"));
    }
    Ok(())
}

pub(super) async fn leave<S: Store>(ask: Ask<S>, call: Leave) -> Result<Stored, Failure> {
    let (account, device) = ask.device()?;
    let key = ask.core.store.device(device).await?.ok_or(Refusal::NoDevice)?.signature_key;
    let statement = LeaveStatement::verify(&call.statement, &key)?;
    if (statement.conversation, statement.account, statement.device) != (call.conversation, account, device) {
        return Err(Rejection::new(Code::FORBIDDEN, "the statement is about something else").into());
    }
    let leave = LeaveWrite {
        conversation: call.conversation,
        account,
        device,
        id: call.id,
        since: statement.since,
        statement: call.statement,
        now_ms: ask.now_ms,
    };
    stored(ask.core.apply(Write::Leave(leave)).await??)
}

pub(super) async fn group_by_name<S: Store>(ask: Ask<S>, call: GroupByName) -> Result<Done, Failure> {
    check_lookups(&ask)?;
    ask.core.store.group_by_name(&call.name).await?.ok_or(Refusal::NoConversation)?;
    Ok(Done {})
}

pub(super) async fn read<S: Store>(ask: Ask<S>, call: Read) -> Result<ReadAnswer, Failure> {
    let (_, device) = ask.device()?;
    let limit = call.limit.clamp(1, u32::try_from(limits::READ_ENTRIES).unwrap_or(u32::MAX));
    let page = ask.core.store.log(call.conversation, device, call.after, limit).await??;
    Ok(ReadAnswer { entries: page.entries, head: page.head })
}

pub(super) async fn group_info<S: Store>(ask: Ask<S>, call: GroupInfoGet) -> Result<GroupInfoAnswer, Failure> {
    let (account, _) = ask.device()?;
    let info = ask.core.store.group_info(call.conversation, account).await??;
    Ok(GroupInfoAnswer { epoch: info.epoch, group_info: info.group_info })
}

pub(super) async fn leaves<S: Store>(ask: Ask<S>, call: LeavesGet) -> Result<LeavesAnswer, Failure> {
    let (account, _) = ask.device()?;
    let statements = ask.core.store.leaves(call.conversation, account).await??;
    let accounts: BTreeSet<AccountId> = call.accounts.into_iter().collect();
    let asked = |statement: &Vec<u8>| LeaveStatement::peek(statement).is_ok_and(|it| accounts.contains(&it.account));
    Ok(LeavesAnswer { statements: statements.into_iter().filter(asked).map(Into::into).collect() })
}

pub(super) async fn sync<S: Store>(ask: Ask<S>, call: SyncPage) -> Result<SyncAnswer, Failure> {
    let (account, device) = ask.device()?;
    let (conversations, more) = ask.core.store.conversations(account, device, call.after, page_limit()).await?;
    Ok(SyncAnswer { conversations, more })
}

pub(super) fn set_cursors<S: Store>(
    ask: Ask<S>,
    call: CursorsSet,
) -> impl Future<Output = Result<Done, Failure>> + Send + 'static {
    let begun = ask.device().and_then(|(_, device)| {
        let taken = ask.core.throttles.cursors.take_many(&device.0, call.cursors.len(), ask.now_ms);
        taken.map_err(Rejection::rate_limited)?;
        Ok(ask.core.apply(Write::MoveCursors { device, cursors: call.cursors }))
    });
    async move {
        begun?.await??;
        Ok(Done {})
    }
}
