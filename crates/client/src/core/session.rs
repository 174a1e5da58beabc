//! What a core keeps in memory between steps. All of it can be lost and found again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use parlour_wire::{
    AccountId, ConversationId, DeviceId, MessageId,
    api::{self, DeviceKeyPackage, Suite},
    id::BlobId,
    identity::VerifiedList,
    log::Entry,
    name::Name,
};

use super::{
    Command, Core, GroupCommand, Input, Output, Reply, RequestId, Ticket,
    backup::Run,
    doubt::Trails,
    enrol::Flow,
    parcels::{Intake, Upload},
};
use crate::{
    api::{Presence, State},
    error::Error,
    event::Event,
};

/// Device lists fetched for one entry before it is given up.
const LIST_TRIES: u32 = 3;

/// How far the link is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not wanted.
    #[default]
    Off,
    /// Wanted; no session yet.
    Connecting,
    /// A session is there; not authenticated.
    Up,
    /// Authenticated.
    Ready,
}

/// What the answer to a request means.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    Enrol,
    Auth,
    Sync,
    Read(ConversationId),
    Outbox(MessageId),
    GroupInfo(ConversationId),
    Leaves(ConversationId),
    Claim(ConversationId, AccountId, Suite),
    Publish(Suite),
    ByName(Name, Then),
    ById(AccountId),
    Presence,
    Cursors,
    Devices(Ticket),
    Logout(Ticket),
    GroupByName(Ticket, Name),
    Siblings,
    Upload(BlobId),
    /// A part of a pack, from this byte on.
    Intake(BlobId, u64),
    /// A pack that is swept together with others.
    Crumb(BlobId),
    BackupSet(u64),
    BackupVersion,
    BackupGet(Option<Ticket>),
    BackupDelete(Ticket),
}

/// What happens when a name has been looked up.
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// A contact is made sure of, for messages that wait for it.
    Nothing,
    /// The command can run.
    Run(Ticket, Command),
}

/// What wakes a core.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Tell the server how far we are.
    Cursors,
    /// Begin again after a step that did not reach the disk.
    Restart,
    /// Files may be tried again.
    Transfers,
    /// The server's disk may have room again.
    Room,
    /// A conversation may try again.
    Retry(ConversationId),
    /// Bring a conversation's devices in line with the device lists.
    Maintain(ConversationId),
    /// Give a group keys of this device.
    WarmUp(ConversationId),
    /// Answer another own device's request for a history, if nobody else has said so.
    Handover(MessageId),
    /// This device has had its time to come into its conversations, and asks for a history.
    Ask,
    /// Other devices have had their time to answer ours.
    History,
    /// Packs may try their way again.
    Parcels,
    /// The backup may be due.
    Backup,
}

/// People who are to come into a conversation.
#[derive(Clone, Debug, Default)]
pub(super) struct Creation {
    pub(super) suite: Option<Suite>,
    pub(super) wanted: BTreeSet<AccountId>,
    /// Accounts whose key packages are here, with the device list that came with them.
    pub(super) claimed: BTreeMap<AccountId, (VerifiedList, Vec<DeviceKeyPackage>)>,
}

/// A welcome that is kept aside until this device has read what stands before it.
#[derive(Clone, Debug)]
pub(super) struct Invited {
    pub(super) welcome: api::Welcome,
    /// The log was being read when it came; that answer may be from before.
    pub(super) reading: bool,
}

/// Key packages of one suite at the server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stock {
    /// How many are left, as far as known; `None`: enough, or being published.
    pub(super) left: Option<u32>,
    pub(super) last_resort: bool,
    /// Those that are there are of no use: this database has not their keys.
    pub(super) replace: bool,
}

/// The memory of one link session.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) phase: Phase,
    /// The carrier is there. A session can be ready and for a moment without one.
    pub(super) carrier: bool,
    pub(super) challenge: [u8; 32],
    pub(super) fingerprint: [u8; 32],
    /// The system's authorities vouch for the server's certificate.
    pub(super) trusted_by_system: bool,
    pub(super) inflight: BTreeMap<RequestId, Pending>,
    /// Outbox items among them.
    pub(super) sending: BTreeMap<MessageId, ConversationId>,
    /// Those of them whose keys have been given up meanwhile: what becomes of them shows when they are answered.
    pub(super) taken_back: BTreeSet<MessageId>,
    /// Outbox items that the server has, and whose entry waits for its predecessors.
    pub(super) answered: BTreeSet<MessageId>,
    pub(super) timers: BTreeMap<Timer, Duration>,
    /// Registration, login and the like, one at a time.
    pub(super) flow: Option<Flow>,
    /// Commands that wait until this client is online.
    pub(super) parked: Vec<(Ticket, Command)>,
    /// All pages of a sync have been taken.
    pub(super) synced: bool,
    /// Everything that the server had when this session began has been taken.
    pub(super) settled: bool,
    /// The last conversation that the sync under way has named, and its pages so far.
    pub(super) sync_after: Option<ConversationId>,
    pub(super) sync_pages: u32,
    /// How far each log was here when the sync under way began.
    pub(super) reached: BTreeMap<ConversationId, u64>,
    /// Another sync is wanted after the one that runs.
    pub(super) sync_again: bool,
    /// Newest entry of each conversation at the server, as far as known; a conversation in here exists at the server.
    pub(super) heads: BTreeMap<ConversationId, u64>,
    /// Logs that are being read.
    pub(super) reading: BTreeSet<ConversationId>,
    /// Entries that came before their predecessors.
    pub(super) held: BTreeMap<ConversationId, BTreeMap<u64, Entry>>,
    /// Conversations whose next entry waits for a device list, with the account.
    pub(super) blocked: BTreeMap<ConversationId, AccountId>,
    /// Welcomes that wait for a device list.
    pub(super) welcomes: BTreeMap<ConversationId, api::Welcome>,
    /// Welcomes to groups in which this device is and has not read all that stands before them.
    pub(super) invited: BTreeMap<ConversationId, Invited>,
    /// How often a list has been fetched for an entry that did not fit the pinned one.
    pub(super) refreshed: BTreeMap<(ConversationId, u64, AccountId), u32>,
    /// Cursors that the server does not know yet.
    pub(super) moved: BTreeMap<ConversationId, u64>,
    /// Conversations to look at in this step.
    pub(super) dirty: BTreeSet<ConversationId>,
    /// Conversations that were refused something and wait for their timer.
    pub(super) resting: BTreeSet<ConversationId>,
    /// How often a conversation was told that its epoch is stale without any progress, and at which epoch.
    pub(super) stale: BTreeMap<ConversationId, (u64, u32)>,
    /// How often what a message names, or what there was of it, was gone from the server.
    pub(super) blobs_again: BTreeMap<MessageId, u32>,
    pub(super) creating: BTreeMap<ConversationId, Creation>,
    /// Groups whose founding anew has failed, and until when it is not tried again.
    pub(super) unfounded: BTreeMap<ConversationId, Duration>,
    /// Conversations to be joined by external commit.
    pub(super) joining: BTreeSet<ConversationId>,
    /// Contacts whose name and devices have been looked up in this session.
    pub(super) checked: BTreeSet<AccountId>,
    /// Contacts of whom the server knows nothing.
    pub(super) absent: BTreeSet<AccountId>,
    /// The command that runs goes on without asking the server about a contact that is known here: it has just failed to tell.
    pub(super) lenient: bool,
    /// Accounts that are being looked up by id.
    pub(super) looking: BTreeSet<AccountId>,
    /// Accounts whose device list has been asked for, or of whose changes the server tells: what is pinned is what it has.
    pub(super) current: BTreeSet<AccountId>,
    /// Accounts that are to be looked up when there is a carrier again.
    pub(super) unasked: BTreeSet<AccountId>,
    /// Members of groups whose lists are asked for next, those that are being asked for, and groups in which messages wait for them.
    pub(super) uncertain: BTreeSet<AccountId>,
    pub(super) renewing: BTreeSet<AccountId>,
    pub(super) waiting: BTreeSet<ConversationId>,
    /// Conversations out of which a device is to be taken that this one has ended.
    pub(super) ending: BTreeSet<ConversationId>,
    /// Groups that are left once everything has gone out: the message whose turn it is, and since when.
    pub(super) leaving: BTreeMap<ConversationId, (MessageId, Duration)>,
    pub(super) watched: BTreeSet<AccountId>,
    /// Files were refused something and wait for their timer.
    pub(super) transfers_rest: bool,
    /// The server's disk is full, so what goes up waits for its timer; and that this has been told.
    pub(super) no_room: bool,
    pub(super) no_room_told: bool,
    /// There are contacts that are not watched.
    pub(super) contacts_dirty: bool,
    pub(super) presence: BTreeMap<AccountId, Presence>,
    /// When each account last signalled in each conversation.
    pub(super) signals: BTreeMap<(ConversationId, AccountId), Duration>,
    pub(super) stocks: BTreeMap<Suite, Stock>,
    /// Groups that the sync under way has to name, or they are gone.
    pub(super) expected: BTreeSet<ConversationId>,
    /// Members, as the server says, of groups that have not been compared with it.
    pub(super) rosters: BTreeMap<ConversationId, Vec<AccountId>>,
    /// How far this device has been, as the server says, in conversations that it is about to make or to join.
    pub(super) acknowledged: BTreeMap<ConversationId, u64>,
    /// Groups that were found to be full, as far as it has been told.
    pub(super) full: BTreeSet<ConversationId>,
    /// Members of groups that, as the server says, are members no more.
    pub(super) gone: BTreeMap<ConversationId, BTreeSet<AccountId>>,
    /// Conversations in which an entry of this device was found that it does not know.
    pub(super) rolled_back: BTreeSet<ConversationId>,
    /// What cannot be joined by what the server has of it, and that this has been told.
    pub(super) unjoinable: BTreeSet<ConversationId>,
    /// Where logs have been, and devices of which it was told that they are shown others.
    pub(super) trails: Trails,
    pub(super) doubted: BTreeSet<(ConversationId, DeviceId)>,
    /// How often conversations were joined anew without anything being stored in them.
    pub(super) rejoined: BTreeMap<ConversationId, u32>,
    /// Suites whose key packages at the server have been replaced.
    pub(super) replaced: BTreeSet<Suite>,
    /// Reads in a row that brought nothing although there is more.
    pub(super) empty_answers: BTreeMap<ConversationId, u32>,
    /// Refusals of intents that may pass.
    pub(super) tries: BTreeMap<i64, u32>,
    /// The pack that is being sent, and the one that is being fetched.
    pub(super) upload: Option<Upload>,
    /// Answers that brought packs no further.
    pub(super) balked: BTreeMap<BlobId, u32>,
    pub(super) intake: Option<Intake>,
    /// Requests of other own devices that this one has said it answers.
    pub(super) offered: BTreeSet<MessageId>,
    /// A history is asked for although this device is not in all its conversations.
    pub(super) asks_anyway: bool,
    /// The backup has been looked for.
    pub(super) backup_asked: bool,
    /// Whether other own devices are there has been asked.
    pub(super) siblings_asked: bool,
    pub(super) backup_run: Option<Run>,
}

impl Session {
    /// Authenticated, with a carrier.
    pub(super) fn is_usable(&self) -> bool {
        self.phase == Phase::Ready && self.carrier
    }

    /// Every timer is for something that needs the server, and one that ran without it would not be set again: they wait until
    /// the carrier is back.
    pub(super) fn timers_wait(&self) -> bool {
        self.phase == Phase::Ready && !self.carrier
    }

    /// The commands that an input is about.
    pub(super) fn tickets(&self, input: &Input) -> Vec<Ticket> {
        let pending = match input {
            Input::Command(ticket, _) => return vec![*ticket],
            Input::Up { .. } => Some(&Pending::Auth),
            Input::Answer(id, _) => self.inflight.get(id),
            _ => None,
        };
        let flow = self.flow.as_ref().map(Flow::ticket);
        match pending {
            Some(Pending::Enrol) => flow.into_iter().collect(),
            Some(Pending::Auth) => self.parked.iter().map(|(ticket, _)| *ticket).chain(flow).collect(),
            Some(
                Pending::Devices(ticket)
                | Pending::Logout(ticket)
                | Pending::GroupByName(ticket, _)
                | Pending::BackupGet(Some(ticket))
                | Pending::BackupDelete(ticket)
                | Pending::ByName(_, Then::Run(ticket, _)),
            ) => vec![*ticket],
            _ => Vec::new(),
        }
    }

    /// Forgets everything that belonged to the last link session, but not what callers wait for.
    pub(super) fn reset(&mut self) {
        self.park_what_callers_asked();
        *self = Self {
            phase: self.phase,
            carrier: self.carrier,
            challenge: self.challenge,
            fingerprint: self.fingerprint,
            trusted_by_system: self.trusted_by_system,
            flow: self.flow.take(),
            parked: std::mem::take(&mut self.parked),
            timers: std::mem::take(&mut self.timers),
            full: std::mem::take(&mut self.full),
            ..Self::default()
        };
        self.timers.retain(|timer, _| *timer == Timer::Restart);
    }

    /// The answers to the requests of this session are not waited for any longer: commands that stood behind one run again in the
    /// next session.
    fn park_what_callers_asked(&mut self) {
        let asked = std::mem::take(&mut self.inflight).into_values().filter_map(|pending| match pending {
            Pending::ByName(_, Then::Run(ticket, command)) => Some((ticket, command)),
            Pending::Devices(ticket) => Some((ticket, Command::Devices)),
            Pending::Logout(ticket) => Some((ticket, Command::Logout)),
            Pending::BackupGet(Some(ticket)) => Some((ticket, Command::RestoreBackup)),
            Pending::BackupDelete(ticket) => Some((ticket, Command::BackupOff)),
            Pending::GroupByName(ticket, name) => Some((ticket, Command::Group(GroupCommand::Exists(name.to_string())))),
            _ => None,
        });
        self.parked.extend(asked);
    }

    /// The same after a step that did not reach the disk.
    pub(super) fn start_over(&mut self) {
        self.reset();
    }

    /// Whether a device list may be fetched (again) for an entry. More than once, because an answer that was under way already
    /// may be older than the entry.
    pub(super) fn may_refresh(&mut self, conversation: ConversationId, seq: u64, account: AccountId) -> bool {
        let tries = self.refreshed.entry((conversation, seq, account)).or_default();
        *tries += 1;
        *tries <= LIST_TRIES
    }

    /// Forgets what is under way in one conversation.
    pub(super) fn forget(&mut self, conversation: &ConversationId) {
        self.held.remove(conversation);
        self.blocked.remove(conversation);
        self.welcomes.remove(conversation);
        self.invited.remove(conversation);
        self.creating.remove(conversation);
        self.joining.remove(conversation);
        self.rosters.remove(conversation);
        self.gone.remove(conversation);
        self.ending.remove(conversation);
        self.leaving.remove(conversation);
        self.dirty.remove(conversation);
    }
}

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    pub(super) online: Vec<Ticket>,
    pub(super) synced: Vec<Ticket>,
    pub(super) states: Vec<(Ticket, MessageId, State)>,
    /// With the number of the intent.
    pub(super) intents: Vec<(Ticket, i64)>,
    /// Commands that go on when everything that the server had has been taken.
    pub(super) unsettled: Vec<(Ticket, Command)>,
    pub(super) closing: Option<Ticket>,
    pub(super) history: Vec<Ticket>,
    pub(super) backup: Vec<Ticket>,
}

impl Waiters {
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        self.online.retain(|t| *t != ticket);
        self.synced.retain(|t| *t != ticket);
        self.states.retain(|(t, _, _)| *t != ticket);
        self.intents.retain(|(t, _)| *t != ticket);
        self.history.retain(|t| *t != ticket);
        self.backup.retain(|t| *t != ticket);
        self.unsettled.retain(|(t, _)| *t != ticket);
    }
}

impl Core {
    /// Replies to those whose wait is over.
    pub(super) fn settle_waiters(&mut self) -> Result<(), Error> {
        if self.session.phase == Phase::Ready {
            for ticket in std::mem::take(&mut self.waiters.online) {
                self.reply(ticket, Ok(Reply::Done));
            }
        }
        if self.is_settled() {
            self.session.settled = true;
            for (ticket, command) in std::mem::take(&mut self.waiters.unsettled) {
                self.rerun(ticket, command)?;
            }
            for ticket in std::mem::take(&mut self.waiters.synced) {
                self.reply(ticket, Ok(Reply::Done));
            }
        }
        self.settle_close()
    }

    /// Everything that the server had is here, presence included, and nothing of ours is under way.
    fn is_settled(&self) -> bool {
        let session = &self.session;
        let background = |pending: &Pending| {
            matches!(
                pending,
                Pending::Cursors
                    | Pending::Publish(_)
                    | Pending::Upload(_)
                    | Pending::Intake(..)
                    | Pending::Crumb(_)
                    | Pending::Siblings
                    | Pending::BackupSet(_)
                    | Pending::BackupVersion
                    | Pending::BackupGet(_)
            )
        };
        session.is_usable()
            && session.synced
            && session.flow.is_none()
            && session.blocked.is_empty()
            && session.welcomes.is_empty()
            // Who comes into a group and asks what is there wants what has been shared, too.
            && !session.intake.as_ref().is_some_and(Intake::is_shared)
            && session.inflight.values().all(background)
    }

    /// Ends a close: cursors told, outbox empty, ended devices out of the conversations, or offline.
    fn settle_close(&mut self) -> Result<(), Error> {
        let Some(ticket) = self.waiters.closing else { return Ok(()) };
        if self.session.is_usable() {
            let cursors = |pending: &Pending| matches!(pending, Pending::Cursors);
            if !self.session.moved.is_empty() {
                return self.set_cursors();
            }
            if self.session.inflight.values().any(cursors)
                || !self.session.ending.is_empty()
                || !self.session.waiting.is_empty()
                || !self.store.outbox_is_empty()?
                || (self.store.first_share()?.is_some() && !self.session.no_room)
            {
                return Ok(());
            }
        }
        self.waiters.closing = None;
        self.session.phase = Phase::Off;
        self.session.reset();
        self.outputs.push(Output::Disconnect);
        self.reply(ticket, Ok(Reply::Done));
        Ok(())
    }

    /// Fails everybody who waits for the network.
    pub(super) fn fail_waiters(&mut self, error: &Error) {
        if self.session.phase == Phase::Off {
            self.fail_downloads(error);
        }
        let waiting = std::mem::take(&mut self.waiters.online).into_iter().chain(std::mem::take(&mut self.waiters.synced));
        let waiting = waiting.chain(std::mem::take(&mut self.waiters.history)).chain(std::mem::take(&mut self.waiters.backup));
        for ticket in waiting.collect::<Vec<_>>() {
            self.reply(ticket, Err(error.clone()));
        }
        for (ticket, _) in std::mem::take(&mut self.waiters.unsettled) {
            self.reply(ticket, Err(Error { message: format!("{}; nothing was queued", error.message), ..error.clone() }));
        }
        for (ticket, _) in std::mem::take(&mut self.waiters.intents) {
            let message = format!("{}; the change of the group is kept and goes on by itself", error.message);
            self.reply(ticket, Err(Error { message, ..error.clone() }));
        }
    }

    /// A message of ours has come further: tells listeners and those who wait.
    pub(super) fn message_moved(&mut self, id: MessageId, state: State) {
        self.event(Event::MessageState { id, state });
        let (over, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiters.states)
            .into_iter()
            .partition(|(_, waited, wanted)| *waited == id && state >= *wanted);
        self.waiters.states = waiting;
        for (ticket, _, _) in over {
            self.reply(ticket, Ok(Reply::State(state)));
        }
    }
}
