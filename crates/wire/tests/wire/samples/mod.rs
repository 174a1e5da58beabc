//! One value of every message, with every optional field present.

use ed25519_dalek::{Signer, SigningKey};
use parlour_wire::{
    AccountId, BlobId, ConversationId, DeviceId, LinkSessionId, MessageId,
    announce::{self, Boot, CarrierKind, Datagram, Endpoint, Place},
    api,
    code::Code,
    content, encode, files,
    frame::{ContentType, Frame, Kind},
    header, identity,
    log::{Entry, EntryKind, LEAVE_CONTEXT, LeaveStatement},
    name::Name,
};

pub(crate) const ACCOUNT: AccountId = AccountId([0xa1; 32]);
pub(crate) const DEVICE: DeviceId = DeviceId([0xd1; 16]);
pub(crate) const CONVERSATION: ConversationId = ConversationId([0xc1; 32]);
pub(crate) const MESSAGE: MessageId = MessageId([0x71; 16]);

fn name() -> Name {
    Name::parse("alice").expect("valid")
}

fn entry() -> Entry {
    Entry {
        conversation: CONVERSATION,
        seq: 7,
        previous: [5; 32],
        id: MESSAGE,
        kind: EntryKind::COMMIT,
        stored_ms: 1_700_000_000_000,
        payload: b"ciphertext".to_vec(),
        receipt: Some([9; 64]),
    }
}

fn welcome() -> api::Welcome {
    api::Welcome {
        conversation: CONVERSATION,
        kind: api::ConversationKind::DIRECT,
        seq: 1,
        hash: [6; 32],
        welcome: b"welcome".to_vec(),
        members: vec![ACCOUNT],
        epoch: 3,
    }
}

/// A signed certificate and a signed list of a fixed account.
pub(crate) fn identity() -> (Vec<u8>, Vec<u8>) {
    let account = SigningKey::from_bytes(&[1; 32]);
    let device = SigningKey::from_bytes(&[2; 32]);
    let sign = |context: &[u8], bytes: Vec<u8>| {
        let signature = account.sign(&[context, &bytes].concat()).to_bytes();
        identity::signed_bytes(bytes, signature)
    };
    let certificate = identity::Certificate {
        account_key: account.verifying_key().to_bytes(),
        signature_key: device.verifying_key().to_bytes(),
        label: "laptop".to_owned(),
        created_ms: 1_700_000_000_000,
    };
    let certificate = sign(identity::CERTIFICATE_CONTEXT, encode(&certificate));
    let list = identity::DeviceList {
        account_key: account.verifying_key().to_bytes(),
        version: 1,
        previous: [0; 32],
        devices: vec![certificate.clone().into()],
        revoked: vec![DEVICE],
        created_ms: 1_700_000_000_000,
    };
    (certificate, sign(identity::LIST_CONTEXT, encode(&list)))
}

/// A message by name: its bytes, and a decoder that says whether bytes are such a message.
type Message = (&'static str, Vec<u8>, fn(&[u8]) -> bool);

macro_rules! message {
    ($all:ident, $name:literal, $type:ty, $value:expr) => {{
        let value: $type = $value;
        $all.push(($name, encode(&value), |bytes| parlour_wire::decode::<$type>(bytes).is_ok()));
    }};
}

/// Every message by name: its bytes, and a decoder that says whether bytes are such a message.
pub(crate) fn all() -> Vec<Message> {
    let mut all = Vec::new();
    accounts(&mut all);
    headers(&mut all);
    conversations(&mut all);
    blobs(&mut all);
    bare(&mut all);
    local(&mut all);
    transfers(&mut all);
    all
}

fn accounts(all: &mut Vec<Message>) {
    message!(all, "server.info", api::ServerInfo, api::ServerInfo {});
    message!(
        all,
        "server.info.answer",
        api::ServerInfoAnswer,
        api::ServerInfoAnswer {
            registration: api::Registration::INVITE,
            receipt_key: [3; 32],
            version: "parlour/0.1".into(),
            now_ms: 1_700_000_000_000,
            login_parameters: 1
        }
    );
    message!(
        all,
        "register.start",
        api::RegisterStart,
        api::RegisterStart { name: name(), invite: Some("tok".into()), request: vec![1; 32] }
    );
    message!(all, "opaque.answer", api::OpaqueAnswer, api::OpaqueAnswer { response: vec![2; 64], login: 9 });
    message!(
        all,
        "register.finish",
        api::RegisterFinish,
        api::RegisterFinish {
            name: name(),
            invite: None,
            upload: vec![1; 192],
            wrapped_root: vec![2; 72],
            device_list: vec![3; 9]
        }
    );
    message!(all, "login.start", api::LoginStart, api::LoginStart { name: name(), request: vec![1; 96], recovery: true });
    message!(all, "login.finish", api::LoginFinish, api::LoginFinish { login: 9, finalization: vec![1; 64] });
    message!(
        all,
        "login.finish.answer",
        api::LoginFinishAnswer,
        api::LoginFinishAnswer { wrapped_root: vec![2; 72], device_list: vec![3; 9] }
    );
    message!(all, "password.start", api::PasswordStart, api::PasswordStart { request: vec![1; 32], recovery: true });
    message!(
        all,
        "password.finish",
        api::PasswordFinish,
        api::PasswordFinish { upload: vec![1; 192], wrapped_root: vec![2; 72], recovery: true }
    );
    message!(all, "devices.update", api::DevicesUpdate, api::DevicesUpdate { device_list: vec![3; 9] });
    message!(all, "device.auth", api::DeviceAuth, api::DeviceAuth { account: ACCOUNT, device: DEVICE, signature: [4; 64] });
    message!(
        all,
        "device.auth.answer",
        api::DeviceAuthAnswer,
        api::DeviceAuthAnswer {
            name: name(),
            list_version: 2,
            key_packages: 50,
            last_resort: true,
            classical_key_packages: 5,
            classical_last_resort: true
        }
    );
    message!(all, "device.logout", api::Logout, api::Logout {});
    message!(all, "devices.get", api::DevicesGet, api::DevicesGet {});
    message!(
        all,
        "devices.get.answer",
        api::DevicesGetAnswer,
        api::DevicesGetAnswer {
            device_list: vec![3; 9],
            seen: vec![api::DeviceSeen { device: DEVICE, seen_ms: 5, online: true }]
        }
    );
    message!(all, "account.by_name", api::AccountByName, api::AccountByName { name: name() });
    message!(all, "account.by_id", api::AccountById, api::AccountById { account: ACCOUNT });
    message!(all, "account.answer", api::AccountAnswer, api::AccountAnswer { name: name(), device_list: vec![3; 9] });
    message!(
        all,
        "keys.publish",
        api::KeyPackagesPublish,
        api::KeyPackagesPublish {
            one_time: vec![vec![1; 4].into()],
            last_resort: Some(vec![2; 4]),
            suite: api::Suite::HYBRID,
            replace: true
        }
    );
    message!(all, "keys.claim", api::KeyPackagesClaim, api::KeyPackagesClaim { account: ACCOUNT, suite: api::Suite::CLASSICAL });
    message!(
        all,
        "keys.claim.answer",
        api::KeyPackagesClaimAnswer,
        api::KeyPackagesClaimAnswer {
            device_list: vec![3; 9],
            packages: vec![api::DeviceKeyPackage { device: DEVICE, package: vec![1; 4] }]
        }
    );
    message!(all, "presence.watch", api::PresenceWatch, api::PresenceWatch { accounts: vec![ACCOUNT] });
    message!(all, "presence", api::Presence, api::Presence { account: ACCOUNT, online: true, seen_ms: 5 });
    message!(all, "devices.changed", api::DevicesChanged, api::DevicesChanged { account: ACCOUNT, version: 3 });
}

fn headers(all: &mut Vec<Message>) {
    message!(
        all,
        "header.hello",
        header::Hello,
        header::Hello { capabilities: vec!["parlour/1".into()], agent: "test/1".into() }
    );
    message!(
        all,
        "header.resume",
        header::Resume,
        header::Resume {
            capabilities: vec!["parlour/1".into()],
            agent: "test/1".into(),
            session: LinkSessionId([1; 16]),
            token: [2; 32],
            received: 3
        }
    );
    message!(
        all,
        "header.welcome",
        header::Welcome,
        header::Welcome {
            capabilities: vec![],
            session: LinkSessionId([1; 16]),
            token: [2; 32],
            resumed: true,
            received: 3,
            grace_ms: 300_000,
            challenge: [4; 32]
        }
    );
    message!(all, "header.action", header::Action, header::Action { name: "cursors".into() });
    message!(all, "header.request", header::Request, header::Request { name: "sync".into(), deadline_ms: 10_000, origin: None });
    let origin = Some(header::Origin { session: LinkSessionId([1; 16]), number: 6 });
    message!(all, "header.request.again", header::Request, header::Request { name: "sync".into(), deadline_ms: 10_000, origin });
    message!(all, "header.credit", header::Credit, header::Credit { credit: 65_536, stop: None });
    let stop = Some(header::Fault { code: Code::CANCELLED, message: "enough".into(), retry_after_ms: None });
    message!(all, "header.credit.stop", header::Credit, header::Credit { credit: 0, stop });
    message!(
        all,
        "header.fault",
        header::Fault,
        header::Fault { code: Code::RATE_LIMITED, message: "wait".into(), retry_after_ms: Some(900_000) }
    );
    message!(all, "header.progress", header::Progress, header::Progress { done: 1, total: Some(2) });
}

fn conversations(all: &mut Vec<Message>) {
    message!(
        all,
        "conversation.commit",
        api::Commit,
        api::Commit {
            conversation: CONVERSATION,
            id: MESSAGE,
            parent_epoch: 0,
            create: Some(api::Create { kind: api::ConversationKind::DIRECT, members: vec![ACCOUNT], name: Some(name()) }),
            commit: vec![1; 4],
            welcome: Some(vec![2; 4]),
            added: vec![api::Added { account: ACCOUNT, device: DEVICE }],
            removed: vec![DEVICE],
            group_info: vec![3; 4],
            external: false,
            change: Some(api::Change {
                added: vec![ACCOUNT],
                removed: vec![ACCOUNT],
                roles: vec![api::Member { account: ACCOUNT, role: api::Role::ADMIN }],
                name: Some(name()),
            }),
        }
    );
    message!(
        all,
        "conversation.stored",
        api::Stored,
        api::Stored { seq: 7, previous: [5; 32], stored_ms: 1_700_000_000_000, receipt: Some([9; 64]) }
    );
    message!(
        all,
        "conversation.send",
        api::Send,
        api::Send { conversation: CONVERSATION, id: MESSAGE, epoch: 1, payload: vec![1; 4], blobs: vec![BlobId([0xb1; 32])] }
    );
    message!(all, "conversation.read", api::Read, api::Read { conversation: CONVERSATION, after: 3, limit: 100 });
    message!(all, "conversation.read.answer", api::ReadAnswer, api::ReadAnswer { entries: vec![entry()], head: 9 });
    message!(all, "conversation.group_info", api::GroupInfoGet, api::GroupInfoGet { conversation: CONVERSATION });
    message!(
        all,
        "conversation.group_info.answer",
        api::GroupInfoAnswer,
        api::GroupInfoAnswer { epoch: 2, group_info: vec![3; 4] }
    );
    message!(all, "sync", api::Sync, api::Sync { after: Some(CONVERSATION) });
    message!(
        all,
        "sync.answer",
        api::SyncAnswer,
        api::SyncAnswer {
            conversations: vec![api::ConversationState {
                conversation: CONVERSATION,
                kind: api::ConversationKind::DIRECT,
                members: vec![ACCOUNT],
                head: 9,
                cursor: Some(3),
                welcome: Some(welcome())
            }],
            more: true
        }
    );
    message!(all, "welcome", api::Welcome, welcome());
    message!(all, "entries", api::Entries, api::Entries { entries: vec![entry()] });
    message!(all, "lagging", api::Lagging, api::Lagging {});
    message!(all, "cursors", api::Cursors, api::Cursors { cursors: vec![api::Cursor { conversation: CONVERSATION, seq: 7 }] });
    message!(
        all,
        "cursors.set",
        api::CursorsSet,
        api::CursorsSet { cursors: vec![api::Cursor { conversation: CONVERSATION, seq: 7 }] }
    );
}

/// A statement of the device of [`identity`] that its account leaves, signed.
fn leave() -> Vec<u8> {
    let device = SigningKey::from_bytes(&[2; 32]);
    let statement = LeaveStatement {
        conversation: CONVERSATION,
        account: ACCOUNT,
        device: DeviceId::of_key(&device.verifying_key().to_bytes()),
        since: 3,
    };
    let bytes = encode(&statement);
    let signature = device.sign(&[LEAVE_CONTEXT, &bytes].concat()).to_bytes();
    identity::signed_bytes(bytes, signature)
}

fn leaves(bytes: &[u8]) -> bool {
    let key = SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes();
    LeaveStatement::verify(bytes, &key).is_ok()
}

/// Leaving, signals, blobs, backups.
fn blobs(all: &mut Vec<Message>) {
    let blob = BlobId([0xb1; 32]);
    all.push(("conversation.leave.statement", leave(), leaves));
    message!(all, "conversation.leaves", api::LeavesGet, api::LeavesGet { conversation: CONVERSATION, accounts: vec![ACCOUNT] });
    message!(all, "conversation.leaves.answer", api::LeavesAnswer, api::LeavesAnswer { statements: vec![leave().into()] });
    message!(all, "conversation.leave", api::Leave, api::Leave { conversation: CONVERSATION, id: MESSAGE, statement: leave() });
    message!(all, "group.by_name", api::GroupByName, api::GroupByName { name: name() });
    message!(all, "signal", api::Signal, api::Signal { conversation: CONVERSATION, payload: vec![1; 4] });
    message!(all, "blob.begin", api::BlobBegin, api::BlobBegin { blob, size: 1 << 32 });
    message!(all, "blob.progress", api::BlobProgress, api::BlobProgress { received: 1 << 20, complete: true });
    message!(all, "blob.put", api::BlobPut, api::BlobPut { blob, offset: 1 << 20, data: vec![1; 4] });
    message!(all, "blob.get", api::BlobGet, api::BlobGet { blob, offset: 1 << 20, length: 262_144 });
    message!(all, "blob.data", api::BlobData, api::BlobData { size: 1 << 32, data: vec![1; 4] });
    message!(all, "backup.set", api::BackupSet, api::BackupSet { version: 2, index: vec![1; 4], blobs: vec![blob] });
    message!(all, "backup.get", api::BackupGet, api::BackupGet {});
    message!(all, "backup.get.answer", api::BackupAnswer, api::BackupAnswer { version: 2, index: vec![1; 4] });
    message!(all, "backup.delete", api::BackupDelete, api::BackupDelete {});
}

/// Messages that are not plain CBOR maps: signed values, contents, a frame.
fn bare(all: &mut Vec<Message>) {
    let (certificate, list) = identity();
    all.push(("identity.certificate", certificate, |b| identity::VerifiedCertificate::parse(b).is_ok()));
    all.push(("identity.list", list, |b| identity::VerifiedList::parse(b).is_ok()));
    for (name, content) in contents() {
        all.push((name, content.to_bytes().expect("in bounds"), |b| content::Content::from_bytes(b).is_ok()));
    }
    let frame = Frame {
        kind: Kind::REQUEST,
        content_type: ContentType::CBOR,
        flags: 0,
        seq: 1,
        id: 2,
        header: encode(&header::Request { name: "sync".into(), deadline_ms: 10_000, origin: None }).into(),
        content: encode(&api::Sync { after: None }).into(),
    };
    let bytes = frame.to_bytes().expect("small").to_vec();
    all.push(("frame.request", bytes, |b| Frame::decode(bytes::Bytes::copy_from_slice(b)).is_ok()));
}

/// A file that a message names.
pub(crate) fn attachment() -> content::Attachment {
    content::Attachment {
        blob: BlobId([0xb1; 32]),
        key: [7; 32],
        size: 1 << 20,
        blob_size: (1 << 20) + 4096,
        hash: [8; 32],
        content_type: "image/png".to_owned(),
        name: "sea.png".to_owned(),
        text: "the *sea*".to_owned(),
        thumbnail: None,
    }
}

/// One content of every kind.
pub(crate) fn contents() -> Vec<(&'static str, content::Content)> {
    use content::{Body, Content, Expiry};
    let new = |body| Content::new(1_700_000_000_000, body);
    let about = |body| Content { in_reply_to: Some(MESSAGE), ..new(body) };
    let instead = |body| Content { replaces: Some(MESSAGE), ..new(body) };
    let thumbnail = Some(b"\x89PNG\r\n".to_vec());
    let unknown =
        Body::Unknown { content_type: "audio/opus".to_owned(), bytes: b"\x85\x01\x60\x01\x6aaudio/opus\x43abc".to_vec() };
    let mentions = vec![ACCOUNT, AccountId([0xa2; 32])];
    let offer = content::HistoryOffer {
        account: ACCOUNT,
        messages: 12,
        oldest: MESSAGE,
        newest: MessageId([0x72; 16]),
        blob: attachment().blob,
        size: 70_000,
        keys: [0xd1, 0xd2]
            .map(|byte| content::SealedKey { device: DeviceId([byte; 16]), encapsulated: [0x91; 32], ciphertext: [0x92; 48] })
            .to_vec(),
    };
    let profile =
        content::Profile { display_name: "Alice A.".into(), status: "at sea".into(), avatar: Some(b"\x89PNG\r\n".to_vec()) };
    vec![
        ("content.text", about(Body::Text("*hello*".into()))),
        ("content.report", new(Body::Report(vec![content::Report { message: MESSAGE, status: content::Status::READ }]))),
        ("content.edit", instead(Body::Text("*hallo*".into()))),
        ("content.mention", Content { mentions, ..new(Body::Text("@alice, @bob".into())) }),
        ("content.expires.at", Content { expires: Some(Expiry::At(1_700_003_600)), ..new(Body::Text("soon gone".into())) }),
        ("content.expires.after", Content { expires: Some(Expiry::After(3600)), ..new(Body::Text("soon gone".into())) }),
        ("content.reaction", about(Body::Reaction("\u{1f44d}".into()))),
        ("content.deleted", instead(Body::Deleted)),
        ("content.attachment", new(Body::Attachment(attachment()))),
        ("content.attachment.thumbnail", new(Body::Attachment(content::Attachment { thumbnail, ..attachment() }))),
        ("content.profile", new(Body::Profile(profile))),
        ("content.sync", new(Body::Sync(vec![1; 8]))),
        ("content.history", new(Body::History(offer))),
        ("content.unknown", new(unknown)),
    ]
}

/// A station's announcement, unsigned.
pub(crate) fn announcement() -> announce::Announcement {
    announce::Announcement {
        key: SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes(),
        service: "fleet".to_owned(),
        name: "station".to_owned(),
        endpoints: vec![
            Endpoint { carrier: CarrierKind::WEBSOCKET, place: Place::Sender, port: 7443 },
            Endpoint { carrier: CarrierKind::IROH, place: Place::Ip([192, 0, 2, 1].into()), port: 7444 },
        ],
        boot: Boot([6; 8]),
        sequence: 7,
        uptime_ms: 60_000,
        valid_ms: 16_000,
        echo: Some([8; 16]),
        rivals: vec![Boot([9; 8])],
    }
}

/// The datagram of an announcement, signed by the station that it names.
pub(crate) fn announced(announcement: &announce::Announcement) -> Vec<u8> {
    let bytes = announcement.to_bytes().expect("in bounds");
    let signature = SigningKey::from_bytes(&[3; 32]).sign(&announce::signed_message(&bytes)).to_bytes();
    announce::announcement_datagram(bytes, signature)
}

/// The datagrams of the local discovery.
fn local(all: &mut Vec<Message>) {
    let query = announce::Query { service: "fleet".to_owned(), nonce: [8; 16] };
    let query = query.to_datagram().expect("in bounds");
    all.push(("announce.query", query, |b| matches!(Datagram::decode(b), Ok(Datagram::Query(_)))));
    let signed = |b: &[u8]| match Datagram::decode(b) {
        Ok(Datagram::Announcement(unverified)) => unverified.verify().is_ok(),
        _ => false,
    };
    all.push(("announce.announcement", announced(&announcement()), signed));
}

/// The messages of file transfers.
fn transfers(all: &mut Vec<Message>) {
    let path = "inbox/2024/report.pdf".to_owned();
    let part = files::Part { size: 4096, hash: [4; 32] };
    let whole = files::Whole { size: 1 << 40, hash: [5; 32] };
    message!(all, "files.pull", files::Pull, files::Pull { path: path.clone(), stream: 7, credit: 2 << 20, part });
    message!(
        all,
        "files.push",
        files::Push,
        files::Push { path: path.clone(), size: 1 << 40, replace: true, afresh: true, hash: Some([5; 32]) }
    );
    let into = files::Destination { stream: 7, credit: 2 << 20, part };
    message!(all, "files.push.answer", files::PushAnswer, files::PushAnswer { into: Some(into) });
    message!(all, "files.settle", files::Settle, files::Settle { stream: 7 });
    message!(all, "files.stat", files::Stat, files::Stat { path });
    let modified_ms = Some(1_700_000_000_000);
    message!(all, "files.stat.answer", files::StatAnswer, files::StatAnswer { size: 4096, modified_ms });
    message!(all, "files.whole", files::Whole, whole);
    message!(all, "files.opening", files::Opening, files::Opening { from: 4096, size: 1 << 40, modified_ms });
    message!(all, "files.mark", files::Mark, files::Mark { hash: [6; 32] });
    message!(all, "files.closing", files::Closing, files::Closing { whole: Some(whole) });
}
