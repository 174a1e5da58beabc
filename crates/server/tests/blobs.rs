//! Stories of blobs and backups: storing, sharing, reading, quotas, and what somebody tries who should not.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use parlour_server::{
    BlobRoom, Fanout, Secrets, Service, ServiceConfig,
    store::{Store, UPLOADS, Write, blobs::MemoryBlobs, memory::MemoryStore, suite::block_on},
    throttle::{Rate, ThrottleConfig},
};
use parlour_wire::{BlobId, Code, ConversationId, api, limits};
use rand::{SeedableRng as _, rngs::StdRng};
use support::{Link, NOW, World, config, direct, message};

const QUOTA: u64 = 1_000_000;
const DAY: u64 = 24 * 3600 * 1000;

struct Setting {
    world: World,
    bytes: Arc<MemoryBlobs>,
    alice: Link,
    bob: Link,
    carol: Link,
    conversation: ConversationId,
}

/// Alice and Bob in a conversation, and Carol.
fn setting() -> Setting {
    setting_with(QUOTA)
}

fn setting_with(quota: u64) -> Setting {
    let fanout = Arc::new(Fanout::new());
    let store = Arc::new(MemoryStore::new(Arc::clone(&fanout) as Arc<_>));
    let mut rng = StdRng::seed_from_u64(7);
    let secrets = block_on(Secrets::load(&*store, &mut rng)).unwrap();
    let bytes = Arc::new(MemoryBlobs::default());
    let room = BlobRoom { bytes: Arc::clone(&bytes) as Arc<_>, quota };
    let service = Service::with_blobs(config(), Arc::clone(&store), fanout, secrets, [3; 32], room);
    let mut world = World { service, store, now_ms: NOW, rng };
    let (alice, mut alices) = world.person("alice", 1);
    let (bob, mut bobs) = world.person("bob", 1);
    let (_, mut carols) = world.person("carol", 1);
    let call = direct(&alice, &bob, 1);
    world.ask(&mut alices[0], &call).unwrap();
    let (alice, bob, carol) = (alices.remove(0), bobs.remove(0), carols.remove(0));
    Setting { world, bytes, alice, bob, carol, conversation: call.conversation }
}

fn blob(n: u8, size: usize) -> (BlobId, Vec<u8>) {
    let bytes = vec![n; size];
    (BlobId(*blake3::hash(&bytes).as_bytes()), bytes)
}

fn upload<S: Store>(world: &World<S>, link: &mut Link, bytes: &[u8]) -> Result<api::BlobProgress, Code> {
    let blob = BlobId(*blake3::hash(bytes).as_bytes());
    let mut progress = world.ask(link, &api::BlobBegin { blob, size: bytes.len() as u64 }).map_err(|failure| failure.code())?;
    while !progress.complete {
        let from = usize::try_from(progress.received).unwrap();
        let data = bytes[from..bytes.len().min(from + 100_000)].to_vec();
        progress = world.ask(link, &api::BlobPut { blob, offset: progress.received, data }).map_err(|failure| failure.code())?;
    }
    Ok(progress)
}

fn naming(conversation: ConversationId, id: u8, blobs: &[BlobId]) -> api::Send {
    api::Send { blobs: blobs.to_vec(), ..message(conversation, id, 1) }
}

fn get(blob: BlobId, offset: u64) -> api::BlobGet {
    api::BlobGet { blob, offset, length: 1 << 30 }
}

#[test]
fn a_file_goes_from_its_author_to_the_members_and_to_nobody_else() {
    let Setting { world, mut alice, mut bob, mut carol, conversation, .. } = setting();
    let (id, bytes) = blob(1, 600_000);
    assert_eq!(upload(&world, &mut alice, &bytes).unwrap(), api::BlobProgress { received: 600_000, complete: true });
    assert_eq!(world.refused(&mut bob, &get(id, 0)), Code::FILE_NOT_FOUND, "not before a message names it");
    world.ask(&mut alice, &naming(conversation, 2, &[id])).unwrap();
    let mut read = Vec::new();
    loop {
        let part = world.ask(&mut bob, &get(id, read.len() as u64)).unwrap();
        assert!(part.size == 600_000 && part.data.len() <= limits::BLOB_CHUNK);
        if part.data.is_empty() {
            break;
        }
        read.extend(part.data);
    }
    assert!(read == bytes);
    assert_eq!(world.ask(&mut bob, &get(id, u64::MAX)).unwrap().data, [0; 0]);
    for unknown in [id, BlobId([9; 32])] {
        assert_eq!(world.refused(&mut carol, &get(unknown, 0)), Code::FILE_NOT_FOUND, "a stranger cannot tell the two apart");
    }
    let began = world.ask(&mut carol, &api::BlobBegin { blob: id, size: 600_000 }).unwrap();
    assert_eq!(began, api::BlobProgress { received: 0, complete: false }, "nor by beginning: she has to bring the bytes");
    assert_eq!(world.refused(&mut carol, &get(id, 0)), Code::FILE_NOT_FOUND);
}

/// Whoever is slow, or comes back now and then, is not begun anew.
#[test]
fn an_upload_may_take_longer_than_a_day_as_long_as_it_goes_on() {
    let Setting { mut world, mut alice, .. } = setting_with(64 << 20);
    let (id, bytes) = blob(1, 50 << 20);
    let pass = |world: &mut World| {
        world.now_ms += DAY * 3 / 4;
        block_on(world.service.collect_blobs(None, world.now())).unwrap();
    };
    world.ask(&mut alice, &api::BlobBegin { blob: id, size: 50 << 20 }).unwrap();
    let mut progress = api::BlobProgress { received: 0, complete: false };
    for (n, part) in bytes.chunks(250_000).enumerate() {
        if n % 70 == 0 {
            pass(&mut world);
        }
        progress = world.ask(&mut alice, &api::BlobPut { blob: id, offset: progress.received, data: part.to_vec() }).unwrap();
    }
    assert!(progress.complete);
    let (id, bytes) = blob(2, 9);
    for byte in 0..9 {
        pass(&mut world);
        let begun = world.ask(&mut alice, &api::BlobBegin { blob: id, size: 9 }).unwrap();
        assert_eq!(begun.received, byte);
        let at = usize::try_from(byte).unwrap();
        world.ask(&mut alice, &api::BlobPut { blob: id, offset: byte, data: bytes[at..=at].to_vec() }).unwrap();
    }
}

#[test]
fn a_message_names_only_what_is_whole_and_its_senders_to_name() {
    let Setting { world, mut alice, mut bob, conversation, .. } = setting();
    let (id, bytes) = blob(1, 10);
    world.ask(&mut alice, &api::BlobBegin { blob: id, size: 10 }).unwrap();
    assert_eq!(world.refused(&mut alice, &naming(conversation, 2, &[id])), Code::FILE_NOT_FOUND);
    upload(&world, &mut alice, &bytes).unwrap();
    assert_eq!(world.refused(&mut bob, &naming(conversation, 2, &[id])), Code::FILE_NOT_FOUND);
    assert_eq!(world.refused(&mut alice, &naming(conversation, 2, &[id; limits::BLOBS_PER_MESSAGE + 1])), Code::TOO_LARGE);
    world.ask(&mut alice, &naming(conversation, 2, &[id])).unwrap();
}

#[test]
fn an_upload_goes_on_where_it_stopped_and_skips_what_is_there() {
    let Setting { world, mut alice, .. } = setting();
    let (id, bytes) = blob(1, 100);
    let begin = api::BlobBegin { blob: id, size: 100 };
    let put = |offset: usize, to: usize| api::BlobPut { blob: id, offset: offset as u64, data: bytes[offset..to].to_vec() };
    assert_eq!(world.refused(&mut alice, &put(0, 10)), Code::FILE_NOT_FOUND, "it has to begin");
    world.ask(&mut alice, &begin).unwrap();
    for (from, to, received) in [(0, 40, 40), (0, 20, 40), (30, 50, 50), (60, 80, 50), (50, 50, 50)] {
        let progress = world.ask(&mut alice, &put(from, to)).unwrap();
        assert_eq!(progress, api::BlobProgress { received, complete: false }, "{from}..{to}");
    }
    assert_eq!(world.ask(&mut alice, &begin).unwrap().received, 50);
    assert!(world.ask(&mut alice, &put(50, 100)).unwrap().complete);
    assert!(world.ask(&mut alice, &begin).unwrap().complete, "it is shared, not stored again");
}

#[test]
fn what_is_not_what_it_should_be_is_not_kept() {
    let Setting { world, bytes: kept, mut alice, .. } = setting();
    let (id, bytes) = blob(1, 100);
    let begin = api::BlobBegin { blob: id, size: 100 };
    world.ask(&mut alice, &begin).unwrap();
    let put = |data: Vec<u8>| api::BlobPut { blob: id, offset: 0, data };
    assert_eq!(world.refused(&mut alice, &put(vec![1; 101])), Code::TOO_LARGE, "beyond its size");
    assert_eq!(world.refused(&mut alice, &put(vec![1; limits::BLOB_CHUNK + 1])), Code::TOO_LARGE, "beyond a chunk");
    assert_eq!(world.refused(&mut alice, &put(vec![9; 100])), Code::HASH_MISMATCH);
    assert_eq!(kept.count(), (0, 0));
    assert_eq!(world.ask(&mut alice, &begin).unwrap().received, 0);
    assert!(world.ask(&mut alice, &put(bytes)).unwrap().complete);
    assert_eq!(kept.count(), (1, 0));
    for (size, code) in [(0, Code::BAD_REQUEST), (limits::BLOB + 1, Code::TOO_LARGE), (u64::MAX, Code::TOO_LARGE)] {
        assert_eq!(world.refused(&mut alice, &api::BlobBegin { blob: BlobId([2; 32]), size }), code);
    }
}

#[test]
fn nobody_keeps_more_than_the_quota_or_begins_without_end() {
    let Setting { world, bytes: kept, mut alice, mut bob, .. } = setting();
    let (_, large) = blob(1, 900_000);
    upload(&world, &mut alice, &large).unwrap();
    let begin = |n: u16, size| {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        api::BlobBegin { blob: BlobId(id), size }
    };
    assert_eq!(world.refused(&mut alice, &begin(1, 100_001)), Code::QUOTA);
    world.ask(&mut alice, &begin(1, 60_000)).unwrap();
    assert_eq!(world.refused(&mut alice, &begin(2, 60_000)), Code::QUOTA, "what is only begun counts");
    assert_eq!(world.refused(&mut alice, &begin(1, 110_000)), Code::SIZE_MISMATCH, "nor by beginning again with another size");
    let begun = (0..4000).filter(|n| world.ask(&mut bob, &begin(*n, 1)).is_ok()).count();
    assert_eq!((begun, kept.count().1), (UPLOADS, UPLOADS + 1));
}

#[test]
fn blobs_go_with_their_reasons() {
    let Setting { mut world, bytes: kept, mut alice, mut bob, conversation, .. } = setting();
    let (named, bytes) = blob(1, 100);
    upload(&world, &mut alice, &bytes).unwrap();
    upload(&world, &mut alice, &blob(2, 100).1).unwrap();
    world.ask(&mut alice, &api::BlobBegin { blob: BlobId([3; 32]), size: 100 }).unwrap();
    world.ask(&mut alice, &naming(conversation, 2, &[named])).unwrap();
    let collect = |world: &World, before| block_on(world.service.collect_blobs(before, world.now())).unwrap();
    collect(&world, Some(NOW));
    assert_eq!(kept.count(), (2, 1), "they have a day");
    world.now_ms += DAY + 1;
    collect(&world, None);
    assert_eq!(kept.count(), (1, 0), "what nobody named and what was not finished");
    world.ask(&mut bob, &get(named, 0)).unwrap();
    collect(&world, Some(NOW + 1));
    assert_eq!(kept.count(), (0, 0), "a message keeps it as long as messages are kept");
    assert_eq!(world.refused(&mut bob, &get(named, 0)), Code::FILE_NOT_FOUND);
}

#[test]
fn a_blob_that_is_named_twice_is_looked_up_once() {
    let mut world = World::gated();
    let (alice, mut alices) = world.person("alice", 1);
    let (bob, _bobs) = world.person("bob", 1);
    let call = direct(&alice, &bob, 1);
    world.ask(&mut alices[0], &call).unwrap();
    let (id, bytes) = blob(1, 100);
    upload(&world, &mut alices[0], &bytes).unwrap();
    world.store.take_written();
    world.ask(&mut alices[0], &naming(call.conversation, 2, &[id; limits::BLOBS_PER_MESSAGE])).unwrap();
    let blobs = vec![id; limits::BACKUP_BLOBS];
    world.ask(&mut alices[0], &api::BackupSet { version: 1, index: vec![5; 9], blobs }).unwrap();
    let written = world.store.take_written();
    let named = |write: &Write| match write {
        Write::Append(append) => append.blobs.len(),
        Write::SetBackup { blobs, .. } => blobs.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(written.iter().map(named).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn backups_are_replaced_at_a_bounded_pace() {
    let throttle = ThrottleConfig { backups_per_account: Rate::new(2, 1000), ..ThrottleConfig::default() };
    let mut world = World::with(ServiceConfig { throttle, ..config() });
    let (_, mut alices) = world.person("alice", 1);
    let set = |version| api::BackupSet { version, index: vec![5; 9], blobs: vec![] };
    world.ask(&mut alices[0], &set(1)).unwrap();
    assert_eq!(world.refused(&mut alices[0], &set(1)), Code::STALE_LIST);
    assert_eq!(world.refused(&mut alices[0], &set(2)), Code::RATE_LIMITED);
    world.now_ms += 1000;
    world.ask(&mut alices[0], &set(2)).unwrap();
}

#[test]
fn a_backup_is_replaced_in_turn_and_keeps_its_blobs() {
    let Setting { mut world, bytes: kept, mut alice, mut bob, .. } = setting();
    let (id, bytes) = blob(1, 100);
    upload(&world, &mut alice, &bytes).unwrap();
    let set = |version, blobs: &[BlobId]| api::BackupSet { version, index: vec![5; 9], blobs: blobs.to_vec() };
    assert_eq!(world.refused(&mut alice, &api::BackupGet {}), Code::FILE_NOT_FOUND);
    assert_eq!(world.refused(&mut alice, &set(2, &[id])), Code::STALE_LIST);
    assert_eq!(world.refused(&mut bob, &set(1, &[id])), Code::FILE_NOT_FOUND, "somebody else's blob");
    let large = api::BackupSet { index: vec![5; limits::BACKUP_INDEX + 1], ..set(1, &[]) };
    assert_eq!(world.refused(&mut alice, &large), Code::TOO_LARGE);
    assert_eq!(world.refused(&mut alice, &set(1, &[id; limits::BACKUP_BLOBS + 1])), Code::TOO_LARGE);
    world.ask(&mut alice, &set(1, &[id])).unwrap();
    assert_eq!(world.ask(&mut alice, &api::BackupGet {}).unwrap(), api::BackupAnswer { version: 1, index: vec![5; 9] });
    assert_eq!(world.refused(&mut bob, &api::BackupGet {}), Code::FILE_NOT_FOUND);
    world.now_ms += 10 * DAY;
    block_on(world.service.collect_blobs(Some(world.now_ms), world.now())).unwrap();
    assert_eq!(kept.count(), (1, 0));
    world.ask(&mut alice, &api::BackupDelete {}).unwrap();
    block_on(world.service.collect_blobs(None, world.now())).unwrap();
    assert_eq!(kept.count(), (0, 0));
}
