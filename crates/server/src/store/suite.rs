//! The specification of [`Store`], executable: what every engine must do, each rule a function of its own.
//!
//! An engine implements [`Place`] and writes, in a test:
//!
//! ```text
//! parlour_server::store_suite!(|| MyPlace::fresh());
//! parlour_server::store_suite!(|| MyPlace::fresh(), |future| my_runtime().block_on(future));
//! ```
//!
//! The first form drives futures with [`block_on`], which fits any engine that answers from threads of its own.

mod accounts;
mod blobs;
mod commits;
mod devices;
mod groups;
mod logs;
mod pages;
mod restart;

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
};

use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    api::{Added, ConversationKind, Create, Cursor, Stored},
    name::Name,
};

pub use self::{accounts::*, blobs::*, commits::*, devices::*, groups::*, logs::*, pages::*, restart::*};
use super::{Account, Append, CommitWrite, Committed, ListedDevice, Observer, Refusal, Store, StoreError, Write, Written};

/// Where an engine under test keeps its data. Every check gets a fresh one.
pub trait Place: Send + Sync {
    /// The engine.
    type Store: Store;
    /// Whether what was acknowledged is there when the place is opened again.
    const PERSISTS: bool;
    /// Opens the store. Called again only after the store opened before has been dropped.
    fn open(&self, observer: Arc<dyn Observer>) -> Self::Store;
}

/// Makes one `#[test]` of each rule. The first argument makes a fresh [`Place`]; the second, if given, drives a future to its end.
#[macro_export]
macro_rules! store_suite {
    ($place:expr) => {
        $crate::store_suite!($place, |future| $crate::store::suite::block_on(future));
    };
    ($place:expr, |$future:ident| $block_on:expr) => {
        $crate::store_suite! { @tests $place, $future, $block_on;
            names_are_unique
            an_account_is_found_by_name_and_by_id
            a_password_is_replaced_with_its_wrapped_root
            a_recovery_code_stands_beside_the_password
            an_invitation_lasts_for_its_uses
            an_invitation_ends_at_its_time
            a_refused_registration_uses_up_nothing
            a_device_belongs_to_one_account
            a_device_list_is_replaced_by_the_next_version_only
            a_device_that_is_gone_from_the_list_ends
            a_device_that_logged_out_stays_out
            being_seen_never_goes_back
            key_packages_are_handed_out_once
            the_last_resort_package_is_handed_out_again
            key_packages_are_bounded
            key_packages_are_kept_by_suite
            key_packages_are_replaced_when_asked
            settings_are_set_once
            entries_are_numbered_and_chained
            the_order_is_the_order_of_calls
            a_message_is_stored_once
            a_message_needs_its_device_in_the_conversation
            a_message_of_an_old_or_future_epoch_is_refused
            a_message_from_before_the_last_join_is_refused
            a_log_is_read_in_pages
            a_page_of_a_log_is_bounded_in_bytes
            cursors_only_move_forward
            entries_go_when_all_have_taken_them
            a_write_whose_future_is_dropped_is_applied
            one_commit_wins_each_epoch
            one_creation_wins
            a_commit_is_stored_once
            a_creation_needs_known_members
            a_commit_needs_members_and_known_devices
            a_welcome_comes_with_its_commit
            a_refused_commit_changes_nothing
            a_device_reads_from_where_it_joined
            a_removed_device_reads_nothing
            a_device_that_is_in_is_not_added_again
            a_device_removed_and_added_at_once_reads_on
            a_device_removed_and_added_later_starts_afresh
            a_device_invited_and_removed_and_added_at_once_gets_one_welcome
            an_external_commit_lets_a_member_join
            group_info_is_for_members
            observers_hear_in_order_and_before_the_answer
            conversations_come_in_pages
            a_page_of_conversations_is_bounded_in_bytes
            peers_share_a_conversation
            a_group_changes_by_its_admins
            a_removed_account_is_out_with_all_its_devices
            only_the_right_devices_are_removed
            users_and_groups_share_their_names
            a_group_is_left_by_a_statement_of_its_time
            the_last_to_leave_ends_the_group
            a_group_that_has_ended_is_not_made_again
            a_conversation_has_a_bounded_number_of_devices
            a_group_survives_a_restart
            a_blob_is_whole_when_it_is_finished
            a_blob_is_read_by_owners_and_members
            a_message_names_only_blobs_that_its_sender_may_read
            a_blob_is_named_in_a_bounded_number_of_conversations
            what_an_account_keeps_is_bounded
            blobs_go_when_nothing_needs_them
            a_backup_is_replaced_by_the_next_version_only
            a_backup_keeps_its_blobs
            what_somebody_backs_up_counts_for_who_stored_it
            what_was_acknowledged_survives_a_restart
        }
    };
    (@tests $place:expr, $future:ident, $block_on:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let place = ($place)();
                let $future = $crate::store::suite::$name(&place);
                $block_on
            }
        )*
    };
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future to its end on this thread. For tests and tools of engines that answer from threads of their own.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Remembers what it heard.
#[derive(Default)]
struct Recorder(Mutex<Vec<Committed>>);

impl Recorder {
    fn take(&self) -> Vec<Committed> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Recorder {
    fn committed(&self, changes: Vec<Committed>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(changes);
    }
}

/// A store under test, with what it told its observer.
struct Bench<S: Store> {
    store: S,
    heard: Arc<Recorder>,
}

/// The time of all writes that do not say otherwise, Unix milliseconds.
const NOW: u64 = 1_700_000_000_000;

fn open<P: Place>(place: &P) -> Bench<P::Store> {
    let heard = Arc::new(Recorder::default());
    Bench { store: place.open(Arc::clone(&heard) as Arc<dyn Observer>), heard }
}

fn account_id(n: u8) -> AccountId {
    AccountId([n; 32])
}

/// Device `k` of account `n`.
fn device_id(n: u8, k: u8) -> DeviceId {
    let mut id = [n; 16];
    id[15] = k;
    DeviceId(id)
}

fn conversation_id(n: u8) -> ConversationId {
    ConversationId([n; 32])
}

fn message_id(n: u32) -> MessageId {
    let mut id = [0; 16];
    id[12..].copy_from_slice(&n.to_be_bytes());
    MessageId(id)
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("test names are valid")
}

fn listed(n: u8, k: u8) -> ListedDevice {
    let mut signature_key = [n; 32];
    signature_key[31] = k;
    ListedDevice { id: device_id(n, k), signature_key }
}

fn an_account(n: u8, text: &str) -> Account {
    Account {
        id: account_id(n),
        name: name(text),
        record: vec![n; 192],
        wrapped_root: vec![n; 72],
        device_list: vec![n, 1],
        list_version: 1,
        disabled: false,
        seen_ms: 0,
    }
}

fn create_account(n: u8, text: &str, devices: u8, invite: Option<[u8; 32]>) -> Write {
    let devices = (1..=devices).map(|k| listed(n, k)).collect();
    Write::CreateAccount { account: an_account(n, text), devices, invite, now_ms: NOW }
}

fn append(conversation: u8, device: DeviceId, id: u32, epoch: u64) -> Append {
    let payload = format!("message {id}").into_bytes();
    Append { conversation: conversation_id(conversation), device, id: message_id(id), epoch, payload, blobs: vec![], now_ms: NOW }
}

/// A commit by device 1 of account `n`, adding and removing nobody.
fn commit(conversation: u8, n: u8, id: u32, parent_epoch: u64) -> CommitWrite {
    CommitWrite {
        conversation: conversation_id(conversation),
        account: account_id(n),
        device: device_id(n, 1),
        id: message_id(id),
        parent_epoch,
        create: None,
        change: None,
        commit: format!("commit {id}").into_bytes(),
        receipt: [7; 64],
        welcome: None,
        added: Vec::new(),
        removed: Vec::new(),
        group_info: format!("group info {id}").into_bytes(),
        external: false,
        now_ms: NOW,
    }
}

/// The commit by which account `n` makes a conversation with `members`, adding device 1 of every other one.
fn creation(conversation: u8, n: u8, id: u32, members: &[u8]) -> CommitWrite {
    let added: Vec<Added> = members.iter().filter(|&&m| m != n).map(|&m| added(m, 1)).collect();
    CommitWrite {
        create: Some(Create {
            kind: ConversationKind::GROUP,
            members: members.iter().map(|&m| account_id(m)).collect(),
            name: None,
        }),
        welcome: (!added.is_empty()).then(|| format!("welcome {id}").into_bytes()),
        added,
        ..commit(conversation, n, id, 0)
    }
}

fn added(n: u8, k: u8) -> Added {
    Added { account: account_id(n), device: device_id(n, k) }
}

impl<S: Store> Bench<S> {
    async fn apply(&self, write: Write) -> Result<Written, Refusal> {
        self.store.apply(write).await.expect("the engine works")
    }

    async fn done(&self, write: Write) {
        assert_eq!(self.apply(write).await, Ok(Written::Done));
    }

    async fn stored(&self, write: Write) -> Stored {
        match self.apply(write).await {
            Ok(Written::Stored { stored, duplicate: false }) => stored,
            other => panic!("expected a stored entry, got {other:?}"),
        }
    }

    async fn send(&self, append: Append) -> Stored {
        self.stored(Write::Append(append)).await
    }

    async fn commit(&self, commit: CommitWrite) -> Stored {
        self.stored(Write::Commit(Box::new(commit))).await
    }

    async fn refused(&self, write: Write) -> Refusal {
        self.apply(write).await.expect_err("the write must be refused")
    }

    /// Accounts 1 to `n`, named `user1`…, each with `devices` devices.
    async fn accounts(&self, n: u8, devices: u8) {
        for n in 1..=n {
            self.done(create_account(n, &format!("user{n}"), devices, None)).await;
        }
    }

    /// The numbers of the entries that a device reads after `after`, and the head.
    async fn seqs(&self, conversation: u8, device: DeviceId, after: u64) -> Result<(Vec<u64>, u64), Refusal> {
        let page = self.store.log(conversation_id(conversation), device, after, 100).await.expect("the engine works")?;
        Ok((page.entries.iter().map(|entry| entry.seq).collect(), page.head))
    }

    async fn move_cursor(&self, conversation: u8, device: DeviceId, seq: u64) {
        let cursors = vec![Cursor { conversation: conversation_id(conversation), seq }];
        self.done(Write::MoveCursors { device, cursors }).await;
    }

    /// The one conversation of this number, as a device of account `n` sees it.
    async fn state(&self, conversation: u8, n: u8, device: DeviceId) -> Option<parlour_wire::api::ConversationState> {
        let (states, _) = works(self.store.conversations(account_id(n), device, None, 100).await);
        states.into_iter().find(|state| state.conversation == conversation_id(conversation))
    }
}

fn works<T>(result: Result<T, StoreError>) -> T {
    result.expect("the engine works")
}
