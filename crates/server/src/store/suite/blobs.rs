//! Rules about blobs, what keeps them, and backups.

use parlour_wire::BlobId;

use super::{Bench, NOW, Place, account_id, append, creation, device_id, open, works};
use crate::store::{Append, BLOB_CONVERSATIONS, Backup, Refusal, Store, UPLOADS, Write, Written};

const QUOTA: u64 = 1000;

fn blob_id(n: u8) -> BlobId {
    BlobId([n; 32])
}

fn begin(n: u8, blob: BlobId, size: u64) -> Write {
    Write::BeginBlob { account: account_id(n), blob, size, quota: QUOTA, now_ms: NOW }
}

fn finish(n: u8, blob: BlobId, size: u64) -> Write {
    Write::FinishBlob { account: account_id(n), blob, size, now_ms: NOW }
}

fn naming(conversation: u8, n: u8, id: u32, blobs: &[u8]) -> Append {
    Append { blobs: blobs.iter().map(|&n| blob_id(n)).collect(), ..append(conversation, device_id(n, 1), id, 1) }
}

async fn store_blob<S: Store>(bench: &Bench<S>, n: u8, blob: u8, size: u64) {
    bench.done(begin(n, blob_id(blob), size)).await;
    bench.done(finish(n, blob_id(blob), size)).await;
}

/// For whom the blob is there, of accounts 1 to 3.
async fn readers<S: Store>(bench: &Bench<S>, blob: u8) -> Vec<u8> {
    let mut readers = Vec::new();
    for n in 1..=3 {
        if works(bench.store.blob(blob_id(blob), account_id(n)).await).is_some() {
            readers.push(n);
        }
    }
    readers
}

/// Accounts 1 to 3; conversation 1 of 1 and 2.
async fn three<P: Place>(place: &P) -> Bench<P::Store> {
    let bench = open(place);
    bench.accounts(3, 1).await;
    bench.commit(creation(1, 1, 1, &[1, 2])).await;
    bench
}

/// Not before, and only with the size that was announced.
pub async fn a_blob_is_whole_when_it_is_finished<P: Place>(place: &P) {
    let bench = three(place).await;
    assert_eq!(bench.refused(finish(1, blob_id(1), 10)).await, Refusal::NoBlob);
    assert_eq!(bench.refused(begin(9, blob_id(1), 10)).await, Refusal::NoAccount);
    bench.done(begin(1, blob_id(1), 10)).await;
    bench.done(begin(1, blob_id(1), 10)).await;
    assert_eq!(readers(&bench, 1).await, [0; 0]);
    assert_eq!(bench.refused(finish(1, blob_id(1), 11)).await, Refusal::NoBlob);
    assert_eq!(bench.refused(finish(2, blob_id(1), 10)).await, Refusal::NoBlob);
    bench.done(finish(1, blob_id(1), 10)).await;
    assert_eq!(works(bench.store.blob(blob_id(1), account_id(1)).await), Some(10));
    assert_eq!(bench.apply(begin(1, blob_id(1), 10)).await, Ok(Written::Whole { size: 10 }));
    bench.done(begin(1, blob_id(2), 10)).await;
    for size in [1, 9, 11] {
        assert_eq!(bench.refused(begin(1, blob_id(2), size)).await, Refusal::OtherSize);
        assert_eq!(bench.refused(finish(1, blob_id(2), size)).await, Refusal::NoBlob);
    }
}

/// Who only knows the id has to bring the bytes.
pub async fn a_blob_is_read_by_owners_and_members<P: Place>(place: &P) {
    let bench = three(place).await;
    store_blob(&bench, 1, 1, 10).await;
    assert_eq!(readers(&bench, 1).await, [1]);
    bench.send(naming(1, 1, 2, &[1])).await;
    assert_eq!(readers(&bench, 1).await, [1, 2]);
    assert_eq!(bench.apply(begin(2, blob_id(1), 10)).await, Ok(Written::Whole { size: 10 }));
    bench.done(begin(3, blob_id(1), 10)).await;
    assert_eq!(readers(&bench, 1).await, [1, 2]);
    bench.done(finish(3, blob_id(1), 10)).await;
    assert_eq!(readers(&bench, 1).await, [1, 2, 3]);
    assert_eq!(works(bench.store.blob(blob_id(7), account_id(1)).await), None);
}

/// Nothing of the message is kept otherwise.
pub async fn a_message_names_only_blobs_that_its_sender_may_read<P: Place>(place: &P) {
    let bench = three(place).await;
    bench.commit(creation(2, 2, 1, &[2, 3])).await;
    store_blob(&bench, 1, 1, 10).await;
    bench.done(begin(1, blob_id(2), 10)).await;
    for blobs in [&[9][..], &[2], &[1, 9]] {
        assert_eq!(bench.refused(Write::Append(naming(1, 1, 2, blobs))).await, Refusal::NoBlob);
    }
    assert_eq!(bench.refused(Write::Append(naming(1, 2, 2, &[1]))).await, Refusal::NoBlob);
    assert_eq!(bench.seqs(1, device_id(2, 1), 0).await, Ok((vec![], 1)));
    bench.send(naming(1, 1, 2, &[1])).await;
    bench.send(naming(2, 2, 2, &[1])).await;
    assert_eq!(readers(&bench, 1).await, [1, 2, 3], "whoever can read may pass on");
}

/// In one where it is named already it may be named again.
pub async fn a_blob_is_named_in_a_bounded_number_of_conversations<P: Place>(place: &P) {
    let bench = three(place).await;
    store_blob(&bench, 1, 1, 10).await;
    store_blob(&bench, 1, 2, 10).await;
    let last = u8::try_from(BLOB_CONVERSATIONS + 1).expect("small");
    for n in 1..=last {
        if n > 1 {
            bench.commit(creation(n, 1, 1, &[1, 2])).await;
        }
        if n < last {
            bench.send(naming(n, 1, 2, &[1])).await;
        }
    }
    assert_eq!(bench.refused(Write::Append(naming(last, 1, 2, &[2, 1]))).await, Refusal::Quota);
    assert_eq!(bench.seqs(last, device_id(2, 1), 0).await, Ok((vec![], 1)), "nothing of it is kept");
    bench.send(naming(last, 1, 2, &[2])).await;
    bench.send(naming(1, 1, 3, &[1])).await;
    let again = bench.apply(Write::Append(naming(1, 1, 3, &[1]))).await;
    assert!(matches!(again, Ok(Written::Stored { duplicate: true, .. })), "{again:?}");
}

/// In bytes, unfinished ones included, and in the number of those.
pub async fn what_an_account_keeps_is_bounded<P: Place>(place: &P) {
    let bench = three(place).await;
    assert_eq!(bench.refused(begin(1, blob_id(1), QUOTA + 1)).await, Refusal::Quota);
    store_blob(&bench, 1, 1, 600).await;
    bench.done(begin(1, blob_id(2), 400)).await;
    assert_eq!(bench.refused(begin(1, blob_id(3), 1)).await, Refusal::Quota);
    store_blob(&bench, 2, 4, 600).await;
    bench.send(naming(1, 2, 2, &[4])).await;
    assert_eq!(bench.refused(begin(1, blob_id(4), 600)).await, Refusal::Quota, "to share is to keep");
    for n in 0..UPLOADS {
        bench.done(begin(3, blob_id(u8::try_from(100 + n).expect("small")), 1)).await;
    }
    assert_eq!(bench.refused(begin(3, blob_id(99), 1)).await, Refusal::Quota);
    bench.done(finish(3, blob_id(100), 1)).await;
    bench.done(begin(3, blob_id(99), 1)).await;
}

/// References go by age, blobs when the last of them has gone and nobody has touched them since.
pub async fn blobs_go_when_nothing_needs_them<P: Place>(place: &P) {
    let bench = three(place).await;
    for (blob, size) in [(1, 10), (2, 900)] {
        store_blob(&bench, 1, blob, size).await;
    }
    bench.done(begin(1, blob_id(3), 1)).await;
    bench.send(naming(1, 1, 2, &[1])).await;
    let later = NOW + 100;
    assert_eq!(works(bench.store.unneeded_blobs(NOW, 9).await), [], "just stored");
    assert_eq!(works(bench.store.unneeded_blobs(later, 9).await), [blob_id(2)]);
    assert_eq!(bench.refused(Write::DropBlob { blob: blob_id(1), before_ms: later }).await, Refusal::NoBlob);
    bench.done(Write::DropBlob { blob: blob_id(2), before_ms: later }).await;
    assert_eq!(readers(&bench, 2).await, [0; 0]);
    bench.done(begin(1, blob_id(4), 900)).await;
    assert_eq!(bench.apply(Write::ReleaseBlobs { before_ms: NOW, limit: 9 }).await, Ok(Written::Deleted(0)));
    assert_eq!(bench.apply(Write::ReleaseBlobs { before_ms: later, limit: 9 }).await, Ok(Written::Deleted(1)));
    assert_eq!(works(bench.store.unneeded_blobs(later, 9).await), [blob_id(1)]);
    assert_eq!(bench.apply(begin(1, blob_id(1), 10)).await, Ok(Written::Whole { size: 10 }));
    let old = Write::AbandonOldBlobs { before_ms: later, limit: 9 };
    let mut abandoned = match bench.apply(old).await {
        Ok(Written::Abandoned(abandoned)) => abandoned,
        other => panic!("{other:?}"),
    };
    abandoned.sort_unstable();
    assert_eq!(abandoned, [(account_id(1), blob_id(3)), (account_id(1), blob_id(4))]);
    assert_eq!(bench.apply(Write::AbandonOldBlobs { before_ms: later, limit: 9 }).await, Ok(Written::Abandoned(vec![])));
}

fn backup(n: u8, version: u64, blobs: &[u8]) -> Write {
    let index = format!("index {version}").into_bytes();
    Write::SetBackup { account: account_id(n), version, index, blobs: blobs.iter().map(|&n| blob_id(n)).collect() }
}

/// From 1 without gaps.
pub async fn a_backup_is_replaced_by_the_next_version_only<P: Place>(place: &P) {
    let bench = three(place).await;
    assert_eq!(works(bench.store.backup(account_id(1)).await), None);
    assert_eq!(bench.refused(backup(9, 1, &[])).await, Refusal::NoAccount);
    for version in [0, 2, u64::MAX] {
        assert_eq!(bench.refused(backup(1, version, &[])).await, Refusal::StaleList);
    }
    bench.done(backup(1, 1, &[])).await;
    assert_eq!(bench.refused(backup(1, 1, &[])).await, Refusal::StaleList);
    assert_eq!(bench.refused(backup(1, 2, &[9])).await, Refusal::NoBlob);
    bench.done(backup(1, 2, &[])).await;
    assert_eq!(works(bench.store.backup(account_id(1)).await), Some(Backup { version: 2, index: b"index 2".to_vec() }));
    assert_eq!(works(bench.store.backup(account_id(2)).await), None);
    bench.done(Write::DeleteBackup { account: account_id(1) }).await;
    bench.done(Write::DeleteBackup { account: account_id(1) }).await;
    assert_eq!(works(bench.store.backup(account_id(1)).await), None);
    bench.done(backup(1, 1, &[])).await;
}

/// And lets go of those that it does not name any more, at once as far as the quota is concerned.
pub async fn a_backup_keeps_its_blobs<P: Place>(place: &P) {
    let bench = three(place).await;
    for (blob, size) in [(1, 100), (2, 500), (3, 100)] {
        store_blob(&bench, 1, blob, size).await;
    }
    bench.send(naming(1, 1, 2, &[3])).await;
    bench.done(backup(1, 1, &[1, 2, 3])).await;
    assert_eq!(works(bench.store.unneeded_blobs(NOW + 1, 9).await), []);
    assert_eq!(bench.refused(begin(1, blob_id(5), 600)).await, Refusal::Quota);
    bench.done(backup(1, 2, &[1])).await;
    assert_eq!(works(bench.store.unneeded_blobs(1, 9).await), [blob_id(2)], "nobody waits for it");
    bench.done(begin(1, blob_id(5), 600)).await;
    assert_eq!(readers(&bench, 3).await, [1, 2], "a message names it");
    bench.done(Write::DeleteBackup { account: account_id(1) }).await;
    let mut unneeded = works(bench.store.unneeded_blobs(1, 9).await);
    unneeded.sort_unstable();
    assert_eq!(unneeded, [blob_id(1), blob_id(2)]);
}

/// As long as it does, for otherwise it would count for nobody.
pub async fn what_somebody_backs_up_counts_for_who_stored_it<P: Place>(place: &P) {
    let bench = three(place).await;
    store_blob(&bench, 1, 1, 900).await;
    bench.send(naming(1, 1, 2, &[1])).await;
    bench.done(backup(2, 1, &[1])).await;
    bench.done(backup(1, 1, &[1])).await;
    assert_eq!(bench.apply(Write::ReleaseBlobs { before_ms: NOW + 1, limit: 9 }).await, Ok(Written::Deleted(1)));
    bench.done(backup(1, 2, &[])).await;
    assert_eq!(bench.refused(begin(1, blob_id(2), 200)).await, Refusal::Quota);
    bench.done(Write::DeleteBackup { account: account_id(1) }).await;
    assert_eq!(bench.refused(begin(1, blob_id(2), 200)).await, Refusal::Quota);
    assert_eq!(works(bench.store.unneeded_blobs(NOW + 1, 9).await), []);
    bench.done(backup(2, 2, &[])).await;
    assert_eq!(works(bench.store.unneeded_blobs(NOW + 1, 9).await), [blob_id(1)]);
    bench.done(Write::DropBlob { blob: blob_id(1), before_ms: NOW + 1 }).await;
    bench.done(begin(1, blob_id(2), 200)).await;
}
