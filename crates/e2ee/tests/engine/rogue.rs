//! A member that does not use our engine: it holds a good certificate and good MLS state, and commits what it may not.

use openmls::{
    group::{CommitMessageBundle, GroupContext},
    prelude::{
        Capabilities, Ciphersuite, Credential, CredentialType, CredentialWithKey, Extension, ExtensionType, Extensions,
        KeyPackage, KeyPackageIn, LeafNodeIndex, Lifetime, MlsGroup, MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn,
        PURE_CIPHERTEXT_WIRE_FORMAT_POLICY, ProcessedMessageContent, ProtocolVersion, RequiredCapabilitiesExtension,
        StagedWelcome, UnknownExtension,
    },
};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider;
use parlour_e2ee::{DeviceKeys, E2eeError, GroupChange, Member, Opened};
use parlour_wire::{api::DeviceKeyPackage, id::AccountId, log::Entry};
use tls_codec::{Deserialize as _, Serialize as _};

use crate::{room::Room, world::Client};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_MLKEM768X25519_AES128GCM_SHA256_Ed25519;
const OURS: u16 = 0xF150;

/// The member at place 1 of a room, in other hands.
struct Rogue {
    keys: DeviceKeys,
    provider: OpenMlsRustCrypto,
    group: MlsGroup,
}

fn credential(client: &Client) -> CredentialWithKey {
    CredentialWithKey {
        credential: Credential::new(CredentialType::Other(OURS), client.certificate.as_bytes().to_vec()),
        signature_key: client.certificate.get().signature_key.as_slice().into(),
    }
}

impl Rogue {
    /// A room of three engines, the last two of them members, and the rogue among them; a stranger waits at place 3.
    fn room() -> (Room, Self) {
        let mut room = Room::new(1, 4);
        let keys = DeviceKeys::from_secret(&room.clients[1].secret);
        let provider = OpenMlsRustCrypto::default();
        let capabilities = Capabilities::new(
            None,
            Some(&[SUITE]),
            Some(&[ExtensionType::Unknown(OURS), ExtensionType::LastResort]),
            None,
            Some(&[CredentialType::Other(OURS)]),
        );
        let bundle = KeyPackage::builder()
            .leaf_node_capabilities(capabilities)
            .key_package_lifetime(Lifetime::init(0, u64::MAX))
            .build(SUITE, &provider, &keys, credential(&room.clients[1]))
            .unwrap();
        let package = bundle.key_package().tls_serialize_detached().unwrap();
        let packages = vec![DeviceKeyPackage { device: keys.id(), package }];
        let rogue = Member { list: room.accounts[1].list(), packages };
        let change = GroupChange { add: vec![rogue, room.member(2)], ..GroupChange::default() };
        let pending =
            room.step(0, |engine, rows, conversation, pinned| engine.change_group(rows, conversation, &change, pinned)).unwrap();
        let entry = room.server.accept(&pending);
        room.spread(&entry);
        let (welcome, pinned) = (room.server.welcome.clone().unwrap(), room.lists());
        room.clients[2].join(&welcome, &pinned).unwrap();
        room.inside[2] = true;
        let MlsMessageBodyIn::Welcome(welcome) = MlsMessageIn::tls_deserialize_exact(&welcome.welcome).unwrap().extract() else {
            panic!("a welcome");
        };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .build();
        let group = StagedWelcome::new_from_welcome(&provider, &config, welcome, None).unwrap().into_group(&provider).unwrap();
        room.check();
        (room, Self { keys, provider, group })
    }

    fn leaf_of(&self, client: &Client) -> LeafNodeIndex {
        let key = client.certificate.get().signature_key;
        self.group.members().find(|member| member.signature_key == key).unwrap().index
    }

    fn policy(&self) -> Vec<u8> {
        self.group.extensions().unknown(OURS).unwrap().0.clone()
    }

    fn with_policy(policy: Vec<u8>) -> Extensions<GroupContext> {
        let required = RequiredCapabilitiesExtension::new(&[ExtensionType::Unknown(OURS)], &[], &[]);
        let policy = Extension::Unknown(OURS, UnknownExtension(policy));
        Extensions::from_vec(vec![Extension::RequiredCapabilities(required), policy]).unwrap()
    }

    /// Any commit at all; what it changes here is forgotten.
    fn commit(&mut self, add: Vec<KeyPackage>, remove: Vec<LeafNodeIndex>, policy: Option<Vec<u8>>, aad: &[u8]) -> Vec<u8> {
        self.group.set_aad(aad.to_vec());
        let mut builder = self.group.commit_builder().force_self_update(true).propose_adds(add).propose_removals(remove);
        if let Some(policy) = policy {
            builder = builder.propose_group_context_extensions(Self::with_policy(policy)).unwrap();
        }
        let bundle: CommitMessageBundle = builder
            .load_psks(self.provider.storage())
            .unwrap()
            .build(self.provider.rand(), self.provider.crypto(), &self.keys, |_| true)
            .unwrap()
            .stage_commit(&self.provider)
            .unwrap();
        self.group.clear_pending_commit(self.provider.storage()).unwrap();
        bundle.into_messages().0.tls_serialize_detached().unwrap()
    }

    fn follow(&mut self, entry: &Entry) {
        let message = MlsMessageIn::tls_deserialize_exact(&entry.payload).unwrap().try_into_protocol_message().unwrap();
        let processed = self.group.process_message(&self.provider, message).unwrap();
        let ProcessedMessageContent::StagedCommitMessage(commit) = processed.into_content() else { panic!("a commit") };
        self.group.merge_staged_commit(&self.provider, *commit).unwrap();
    }
}

pub fn package(member: &Member) -> KeyPackage {
    let package = KeyPackageIn::tls_deserialize_exact(&member.packages[0].package).unwrap();
    package.validate(OpenMlsRustCrypto::default().crypto(), ProtocolVersion::Mls10).unwrap()
}

/// Replaces an integer or bytes that follow a marker in the policy.
fn replaced(policy: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = policy.windows(from.len()).position(|window| window == from).unwrap();
    [&policy[..at], to, &policy[at + from.len()..]].concat()
}

/// The policy with another role for a member: the byte after its account id and the key of the role.
fn with_role(policy: &[u8], account: &AccountId, role: u8) -> Vec<u8> {
    let at = policy.windows(32).position(|window| window == account.0).unwrap() + 32;
    let mut policy = policy.to_vec();
    assert_eq!(policy[at], 1, "the key of the role");
    policy[at + 1] = role;
    policy
}

/// The policy with another account in the place of a member.
fn with_account(policy: &[u8], account: &AccountId, other: &AccountId) -> Vec<u8> {
    replaced(policy, &account.0, &other.0)
}

/// The server takes what the rogue made; it must be void for everybody, and the group must go on.
fn void(room: &mut Room, commit: &[u8], what: &str) -> E2eeError {
    let entry = room.server.append_commit(commit);
    let mut reasons = Vec::new();
    for opened in room.spread(&entry) {
        match opened {
            Ok(Opened::Void { why, .. }) => reasons.push(why),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert!(reasons.windows(2).all(|pair| pair[0] == pair[1]), "{what}: {reasons:?}");
    let drift = room.step(2, |engine, rows, conversation, pinned| engine.compare_devices(rows, conversation, pinned)).unwrap();
    assert!(drift.repair, "{what}: the group info at the server is a bad one");
    room.check();
    reasons.remove(0)
}

#[test]
fn what_a_member_may_not_do_is_void_for_all_and_the_group_goes_on() {
    let (mut room, mut rogue) = Rogue::room();
    let policy = rogue.policy();
    let (admin, own, third) = (room.id(0), room.id(1), room.id(2));
    let admin_leaf = rogue.leaf_of(&room.clients[0]);
    let third_leaf = rogue.leaf_of(&room.clients[2]);
    let stranger = room.member(3);

    let promoted = with_role(&policy, &own, 1);
    let commit = rogue.commit(vec![], vec![], Some(promoted.clone()), &[]);
    assert_eq!(void(&mut room, &commit, "makes itself an admin"), E2eeError::NotAdmin);
    let commit = rogue.commit(vec![], vec![], Some(with_role(&promoted, &admin, 0)), &[]);
    assert_eq!(void(&mut room, &commit, "takes the admin's place"), E2eeError::NotAdmin);
    let commit = rogue.commit(vec![], vec![], Some(with_role(&policy, &admin, 0)), &[]);
    assert!(matches!(void(&mut room, &commit, "leaves no admin"), E2eeError::Malformed(_)));
    let commit = rogue.commit(vec![], vec![], Some(replaced(&policy, b"friends", b"enemies")), &[]);
    assert_eq!(void(&mut room, &commit, "renames"), E2eeError::NotAdmin);
    let receipt_key = room.server.receipt_key();
    let commit = rogue.commit(vec![], vec![], Some(replaced(&policy, &receipt_key, &[9; 32])), &[]);
    assert!(matches!(void(&mut room, &commit, "moves to another server"), E2eeError::Forbidden(_)));
    let commit = rogue.commit(vec![package(&stranger)], vec![], None, &[]);
    assert_eq!(void(&mut room, &commit, "adds a stranger"), E2eeError::NotMember { account: room.id(3) });
    let commit = rogue.commit(vec![], vec![third_leaf], None, &[]);
    assert!(matches!(void(&mut room, &commit, "removes another's device"), E2eeError::Forbidden(_)));
    let commit = rogue.commit(vec![], vec![admin_leaf], None, &[]);
    assert!(matches!(void(&mut room, &commit, "removes the admin's device"), E2eeError::Forbidden(_)));
    let swapped = with_account(&policy, &third, &room.id(3));
    let commit = rogue.commit(vec![package(&stranger)], vec![third_leaf], Some(swapped), &[]);
    let why = void(&mut room, &commit, "swaps a member for a stranger");
    assert!(matches!(why, E2eeError::NotAdmin | E2eeError::Malformed(_)), "{why:?}");
    for garbage in [vec![], vec![0xFF; 100], vec![0xA5; 4000]] {
        let commit = rogue.commit(vec![], vec![], Some(garbage), &[]);
        assert!(matches!(void(&mut room, &commit, "a policy that is none"), E2eeError::Malformed(_)));
    }
    // And the group can still be changed.
    let change = GroupChange { remove: vec![own], ..GroupChange::default() };
    room.change(0, &change).unwrap();
    room.check();
}

#[test]
fn grounds_that_do_not_hold_void_a_commit() {
    let (mut room, mut rogue) = Rogue::room();
    let third = rogue.leaf_of(&room.clients[2]);
    for aad in [vec![0xFF; 40], vec![0xA1, 0x00, 0x81, 0x41, 0x00], vec![0x80; 100_000]] {
        let commit = rogue.commit(vec![], vec![third], None, &aad);
        assert!(matches!(void(&mut room, &commit, "garbage for grounds"), E2eeError::Malformed(_)));
    }
    // A list from before the device was there says nothing about it.
    let mut other = crate::world::Account::new();
    let first = other.device();
    let list = other.list();
    assert!(list.certificate(&first.id()).is_some());
    let mut aad = minicbor_lists(list.as_bytes());
    let commit = rogue.commit(vec![], vec![third], None, &aad);
    assert!(matches!(void(&mut room, &commit, "somebody else's list"), E2eeError::Forbidden(_)));
    aad = minicbor_lists(room.accounts[2].list().as_bytes());
    let commit = rogue.commit(vec![], vec![third], None, &aad);
    assert!(matches!(void(&mut room, &commit, "a list that names the device"), E2eeError::Forbidden(_)));
}

/// The CBOR of grounds with one list.
fn minicbor_lists(list: &[u8]) -> Vec<u8> {
    let length = u16::try_from(list.len()).unwrap().to_be_bytes();
    [[0xA2, 0x00, 0x81, 0x59].as_slice(), &length, list, &[0x01, 0x80]].concat()
}

#[test]
fn a_replayed_farewell_takes_nobody_out() {
    let (mut room, mut rogue) = Rogue::room();
    let farewell = room.leave(2);
    room.spread(&farewell);
    // The admin takes the leaver out and in again; the rogue kept the statement and the sweep's grounds.
    let change = GroupChange { add: vec![room.member(2)], ..GroupChange::default() };
    let pending =
        room.step(0, |engine, rows, conversation, pinned| engine.change_group(rows, conversation, &change, pinned)).unwrap();
    let entry = room.server.accept(&pending);
    rogue.follow(&entry);
    room.inside[2] = false;
    room.spread(&entry);
    let (welcome, pinned) = (room.server.welcome.clone().unwrap(), room.lists());
    room.clients[2].join(&welcome, &pinned).unwrap();
    room.inside[2] = true;
    room.check();
    let certificate = room.clients[2].certificate.as_bytes().to_vec();
    let third = rogue.leaf_of(&room.clients[2]);
    let bytes = |bytes: &[u8]| [&[0x59], u16::try_from(bytes.len()).unwrap().to_be_bytes().as_slice(), bytes].concat();
    let aad = [[0xA2, 0x00, 0x80, 0x01, 0x81, 0xA2, 0x00].as_slice(), &bytes(&farewell.payload), &[0x01], &bytes(&certificate)]
        .concat();
    let commit = rogue.commit(vec![], vec![third], None, &aad);
    assert_eq!(
        void(&mut room, &commit, "a farewell of an earlier stay"),
        E2eeError::Forbidden("an old leave statement, or one of another group")
    );
}

#[test]
fn garbage_oversized_and_misplaced_commits_are_void() {
    let (mut room, mut rogue) = Rogue::room();
    let good = rogue.commit(vec![], vec![], None, &[]);
    for garbage in [vec![], vec![0; 10], vec![0xFF; 5000], vec![1; 600_000], good[..good.len() / 2].to_vec()] {
        assert!(matches!(void(&mut room, &garbage, "garbage"), E2eeError::Malformed(_)));
    }
    // A commit of an epoch that is over: the home has moved on, MLS too.
    let entry = room.server.say(&mut room.clients[0], b"a message, no commit");
    assert!(matches!(void(&mut room, &entry.payload, "a message as a commit"), E2eeError::Malformed(_)));
    room.update(0);
    assert_eq!(void(&mut room, &good, "an old epoch"), E2eeError::Malformed("commit of another epoch"));
    room.update(2);
    room.check();
}

#[test]
fn after_a_void_commit_a_device_joins_once_somebody_has_mended() {
    let (mut room, mut rogue) = Rogue::room();
    let renamed = replaced(&rogue.policy(), b"friends", b"enemies");
    let commit = rogue.commit(vec![], vec![], Some(renamed), &[]);
    void(&mut room, &commit, "renames");
    let second = room.accounts[2].device();
    room.clients.push(second);
    room.inside.push(false);
    room.update(0);
    let drift = room.step(2, |engine, rows, conversation, pinned| engine.compare_devices(rows, conversation, pinned)).unwrap();
    assert!(!drift.repair);
    let (info, home, key) = room.server.to_join();
    let join = room
        .step(4, |engine, rows, conversation, pinned| engine.join_external(rows, conversation, &info, home, &key, pinned))
        .unwrap();
    room.inside[4] = true;
    room.accept(&join);
    room.check();
}

#[test]
fn a_device_led_astray_by_a_bad_group_info_notices_and_joins_again() {
    let (mut room, mut rogue) = Rogue::room();
    // The rogue's commit is void, and the group info it left leads into a group of its own.
    rogue.group.set_aad(vec![]);
    let renamed = Rogue::with_policy(replaced(&rogue.policy(), b"friends", b"enemies"));
    let bundle = rogue
        .group
        .commit_builder()
        .propose_group_context_extensions(renamed)
        .unwrap()
        .load_psks(rogue.provider.storage())
        .unwrap()
        .use_ratchet_tree_extension(true)
        .build(rogue.provider.rand(), rogue.provider.crypto(), &rogue.keys, |_| true)
        .unwrap()
        .stage_commit(&rogue.provider)
        .unwrap();
    let (commit, _, info) = bundle.into_messages();
    void(&mut room, &commit.tls_serialize_detached().unwrap(), "renames");
    room.server.group_info = info.unwrap().tls_serialize_detached().unwrap();
    let second = room.accounts[2].device();
    room.clients.push(second);
    room.inside.push(false);
    let join_now = |room: &mut Room| {
        let (info, home, key) = room.server.to_join();
        room.step(4, |engine, rows, conversation, pinned| engine.join_external(rows, conversation, &info, home, &key, pinned))
    };
    let astray = join_now(&mut room).unwrap();
    let entry = room.server.accept(&astray);
    for opened in room.spread(&entry) {
        assert!(matches!(opened, Ok(Opened::Void { .. })), "{opened:?}");
    }
    let pinned = room.lists();
    assert!(matches!(room.clients[4].open(&entry, &pinned), Ok(Opened::OwnCommit { .. })));
    let mend = room.step(0, |engine, rows, conversation, pinned| engine.update(rows, conversation, pinned)).unwrap();
    let entry = room.server.accept(&mend);
    room.spread(&entry);
    assert_eq!(room.clients[4].open(&entry, &pinned), Err(E2eeError::Diverged));
    let again = join_now(&mut room).unwrap();
    room.inside[4] = true;
    room.accept(&again);
    room.check();
}
