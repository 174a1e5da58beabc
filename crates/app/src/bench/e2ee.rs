//! What end-to-end encryption costs in a group of so many devices: a message, adding one account and removing it, and how large what
//! goes over the wire and onto the disk is. No server takes part, and rows are in memory.
//!
//! Three devices are real engines: the admin, one member and the newcomer; the other leaves are key packages whose devices are never
//! on. The group is cold: only the admin has ever committed, so a commit with a path is as large as it gets. Members apply a commit
//! beside each other, so a change has spread when its maker has made it and applied it, and the slower of a member and the newcomer
//! is done; the way through the server comes on top.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow};
use ed25519_dalek::{Signer as _, SigningKey};
use parlour_e2ee::{
    AccountKey, DeviceKeys, Engine, GroupChange, HYBRID_DEVICES, HistoryPolicy, Member, NewConversation, PendingCommit, Root,
    Rows, RowsError, Step,
};
use parlour_wire::{
    api::{ConversationKind, DeviceKeyPackage, Suite, Welcome},
    id::{AccountId, ConversationId, MessageId},
    identity::VerifiedList,
    log::{Entry, EntryKind, RECEIPT_CONTEXT, receipt_bytes},
    name::Name,
};

use super::{Figure, Target, baseline::now};

/// Devices that one commit brings in while the group grows: a welcome for more does not fit the bound of a handshake.
const BATCH: usize = 200;
/// Messages of which the mean is taken.
const MESSAGES: u32 = 200;
/// Bytes of a message.
const SIZE: usize = 256;
/// What adding or removing one may take in the largest groups, in seconds: its maker, and until all have it.
const MAKER: f64 = 0.5;
const SPREAD: f64 = 2.0;

/// Measures groups of so many devices, in the suites that take them.
pub(crate) fn run(sizes: &[usize]) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for devices in sizes {
        for suite in [Suite::HYBRID, Suite::CLASSICAL] {
            if suite == Suite::CLASSICAL || *devices <= HYBRID_DEVICES {
                figures.extend(measure(suite, *devices)?);
            }
        }
    }
    Ok(figures)
}

#[derive(Default)]
struct Disk {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes of the last step's changes.
    written: usize,
}

impl Rows for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(self.rows.get(key).cloned())
    }
}

struct Device {
    engine: Engine,
    disk: Disk,
    list: VerifiedList,
}

impl Device {
    fn new() -> anyhow::Result<Self> {
        let account = AccountKey::from(&Root::generate());
        let keys = DeviceKeys::generate();
        let certificate = account.certify(&keys.public(), "bench", 1)?;
        let list = account.first_list(&certificate, 1)?;
        Ok(Self { engine: Engine::new(keys, certificate)?, disk: Disk::default(), list })
    }

    fn keep<T>(&mut self, step: Step<T>) -> T {
        self.disk.written = 0;
        for (key, value) in &step.changes.rows {
            match value {
                Some(value) => {
                    self.disk.written += value.len();
                    self.disk.rows.insert(key.clone(), value.clone());
                }
                None => drop(self.disk.rows.remove(key)),
            }
        }
        self.engine.committed();
        step.output
    }

    fn member(&mut self, suite: Suite) -> anyhow::Result<Member> {
        let step = self.engine.key_packages(&self.disk, suite, 1, 1)?;
        let package = self.keep(step).pop().context("a key package")?;
        let packages = vec![DeviceKeyPackage { device: self.engine.device(), package }];
        Ok(Member { list: self.list.clone(), packages })
    }
}

/// A group, and the server of it.
struct Group {
    conversation: ConversationId,
    server: SigningKey,
    lists: BTreeMap<AccountId, VerifiedList>,
    admin: Device,
    member: Device,
    sent: u64,
}

/// How long the parts of a change took, in seconds, and how large they are, in bytes.
struct Change {
    make: f64,
    apply_own: f64,
    apply: f64,
    join: Option<f64>,
    commit: usize,
    welcome: usize,
    group_info: usize,
}

impl Change {
    fn maker(&self) -> f64 {
        self.make + self.apply_own
    }

    fn spread(&self) -> f64 {
        self.maker() + self.apply.max(self.join.unwrap_or_default())
    }
}

impl Group {
    /// A group of so many devices, the admin and the member among them.
    fn of(suite: Suite, devices: usize) -> anyhow::Result<Self> {
        let (admin, mut member) = (Device::new()?, Device::new()?);
        let server = SigningKey::from_bytes(&[9; 32]);
        let conversation = ConversationId::group([7; 32]);
        let lists = [&admin, &member].map(|device| (device.list.account(), device.list.clone())).into();
        let new = NewConversation {
            conversation,
            kind: ConversationKind::GROUP,
            suite,
            name: Some(Name::parse("bench")?),
            history: HistoryPolicy::None,
            receipt_key: server.verifying_key().to_bytes(),
            members: vec![member.member(suite)?],
        };
        let mut group = Self { conversation, server, lists, admin, member, sent: 0 };
        let step = group.admin.engine.create(&group.admin.disk, &new)?;
        let pending = group.admin.keep(step);
        let entry = group.entry(EntryKind::COMMIT, &pending.commit, Some(0));
        let step = group.admin.engine.open(&group.admin.disk, &entry, &group.lists)?;
        group.admin.keep(step);
        let welcome = group.welcome(&pending)?;
        let step = group.member.engine.join(&group.member.disk, &welcome, &group.lists)?;
        group.member.keep(step);
        let mut missing = devices.saturating_sub(2);
        while missing > 0 {
            let batch: Vec<_> = (0..missing.min(BATCH)).map(|_| Device::new()).collect::<Result<_, _>>()?;
            missing -= batch.len();
            let add = batch.into_iter().map(|mut device| device.member(suite)).collect::<Result<Vec<_>, _>>()?;
            group.change(GroupChange { add, ..GroupChange::default() }, None)?;
        }
        Ok(group)
    }

    fn entry(&self, kind: EntryKind, payload: &[u8], parent_epoch: Option<u64>) -> Entry {
        let receipt = parent_epoch.map(|parent| {
            let bytes = receipt_bytes(&self.conversation, parent, payload);
            self.server.sign(&[RECEIPT_CONTEXT, &bytes].concat()).to_bytes()
        });
        let id = MessageId::new(self.sent, &[0; 10]);
        Entry {
            conversation: self.conversation,
            seq: 1,
            previous: [0; 32],
            id,
            kind,
            stored_ms: 0,
            payload: payload.to_vec(),
            receipt,
        }
    }

    fn welcome(&self, pending: &PendingCommit) -> anyhow::Result<Welcome> {
        Ok(Welcome {
            conversation: self.conversation,
            kind: ConversationKind::GROUP,
            seq: 1,
            hash: [0; 32],
            welcome: pending.welcome.clone().context("a welcome")?,
            members: self.lists.keys().copied().collect(),
            epoch: pending.parent_epoch + 1,
        })
    }

    fn change(&mut self, change: GroupChange, newcomer: Option<&mut Device>) -> anyhow::Result<Change> {
        self.lists.extend(change.add.iter().map(|member| (member.list.account(), member.list.clone())));
        let begun = now();
        let step = self.admin.engine.change_group(&self.admin.disk, &self.conversation, &change, &self.lists)?;
        let pending = self.admin.keep(step);
        let make = begun.elapsed().as_secs_f64();
        let entry = self.entry(EntryKind::COMMIT, &pending.commit, Some(pending.parent_epoch));
        let begun = now();
        let step = self.admin.engine.open(&self.admin.disk, &entry, &self.lists)?;
        self.admin.keep(step);
        let apply_own = begun.elapsed().as_secs_f64();
        let begun = now();
        let step = self.member.engine.open(&self.member.disk, &entry, &self.lists)?;
        self.member.keep(step);
        let apply = begun.elapsed().as_secs_f64();
        let mut join = None;
        if let Some(newcomer) = newcomer {
            let welcome = self.welcome(&pending)?;
            let begun = now();
            let step = newcomer.engine.join(&newcomer.disk, &welcome, &self.lists)?;
            newcomer.keep(step);
            join = Some(begun.elapsed().as_secs_f64());
        }
        let welcome = pending.welcome.map_or(0, |welcome| welcome.len());
        Ok(Change { make, apply_own, apply, join, commit: pending.commit.len(), welcome, group_info: pending.group_info.len() })
    }

    /// Seconds of encrypting and of decrypting one message, its size, and the bytes that the reader's disk takes for it.
    fn talk(&mut self) -> anyhow::Result<(f64, f64, usize, usize)> {
        let (mut encrypt, mut decrypt, mut size) = (0.0, 0.0, 0);
        for _ in 0..MESSAGES {
            self.sent += 1;
            let id = MessageId::new(self.sent, &[0; 10]);
            let begun = now();
            let step = self.admin.engine.encrypt(&self.admin.disk, &self.conversation, id, &[7; SIZE])?;
            let sealed = self.admin.keep(step);
            encrypt += begun.elapsed().as_secs_f64();
            size = sealed.payload.len();
            let entry = self.entry(EntryKind::MESSAGE, &sealed.payload, None);
            let begun = now();
            let step = self.member.engine.open(&self.member.disk, &entry, &self.lists)?;
            self.member.keep(step);
            decrypt += begun.elapsed().as_secs_f64();
        }
        let count = f64::from(MESSAGES);
        Ok((encrypt / count, decrypt / count, size, self.member.disk.written))
    }
}

/// The figures of one suite and size.
fn measure(suite: Suite, devices: usize) -> anyhow::Result<Vec<Figure>> {
    let mut newcomer = Device::new()?;
    // The group has this size with the newcomer; for two devices, it grows from two to three.
    let mut group = Group::of(suite, devices.saturating_sub(1).max(2))?;
    let account = newcomer.list.account();
    let add = GroupChange { add: vec![newcomer.member(suite)?], ..GroupChange::default() };
    let added = group.change(add, Some(&mut newcomer))?;
    let (encrypt, decrypt, size, written) = group.talk()?;
    let state: usize = group.member.disk.rows.values().map(Vec::len).sum();
    let removed = group.change(GroupChange { remove: vec![account], ..GroupChange::default() }, None)?;
    let named = |what: &str, value: f64, unit: &'static str| {
        Figure::new(format!("{}, {devices} devices: {what}", suite.word()), value, unit)
    };
    let bytes = |what: &str, value: usize| {
        let value = u32::try_from(value).map_err(|_| anyhow!("{what} is out of all bounds"))?;
        anyhow::Ok(named(what, f64::from(value) / 1000.0, "KB"))
    };
    let ms = |what: &str, seconds: f64| named(what, seconds * 1e3, "ms");
    let bounded = |what: &str, seconds: f64, bound: f64| ms(what, seconds).target(Target::AtMost(bound * 1e3));
    Ok(vec![
        named("encrypt 256 B", encrypt * 1e6, "us"),
        named("decrypt 256 B", decrypt * 1e6, "us"),
        bytes("a message on the wire", size)?,
        bytes("a message's rows", written)?,
        ms("add one: make", added.make),
        ms("add one: apply", added.apply),
        ms("add one: join", added.join.unwrap_or_default()),
        bounded("add one: its maker in all", added.maker(), MAKER),
        bounded("add one: until all have it", added.spread(), SPREAD),
        bytes("add one: commit", added.commit)?,
        bytes("add one: welcome", added.welcome)?,
        bytes("add one: group info", added.group_info)?,
        ms("remove one: make", removed.make),
        ms("remove one: apply", removed.apply),
        bounded("remove one: its maker in all", removed.maker(), MAKER),
        bounded("remove one: until all have it", removed.spread(), SPREAD),
        bytes("remove one: commit", removed.commit)?,
        bytes("state on disk", state)?,
    ])
}
