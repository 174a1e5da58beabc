//! Rules about messages, reading, cursors and retention.

use std::future::Future;

use parlour_wire::{api::EPOCH_WINDOW, limits, log::EntryKind};

use super::{Bench, NOW, Place, added, append, commit, conversation_id, creation, device_id, message_id, open, works};
use crate::store::{Append, CommitWrite, Refusal, Store, Write, Written};

/// Accounts 1 and 2 with conversation 1 between their first devices; its first entry is the creation.
async fn two<P: Place>(place: &P) -> Bench<P::Store> {
    let bench = open(place);
    bench.accounts(3, 1).await;
    bench.commit(creation(1, 1, 1, &[1, 2])).await;
    bench.heard.take();
    bench
}

/// From 1 without gaps, each with the hash of the one before, each conversation for itself.
pub async fn entries_are_numbered_and_chained<P: Place>(place: &P) {
    let bench = two(place).await;
    bench.commit(creation(2, 1, 1, &[1, 3])).await;
    for id in 2..6 {
        let stored = bench.send(append(1, device_id(1, 1), id, 1)).await;
        assert_eq!((stored.seq, stored.stored_ms, stored.receipt), (u64::from(id), NOW, None));
    }
    let page = works(bench.store.log(conversation_id(1), device_id(1, 1), 0, 100).await).expect("a member");
    assert_eq!((page.entries.len(), page.head), (4, 5), "a device reads from after the entry by which it joined");
    for (index, entry) in page.entries.iter().enumerate() {
        assert_eq!((entry.seq, entry.kind, entry.receipt), (index as u64 + 2, EntryKind::MESSAGE, None));
        assert_eq!(entry.payload, format!("message {}", entry.seq).into_bytes());
    }
    assert!(page.entries.windows(2).all(|pair| pair[1].previous == pair[0].hash()));
    let stored = bench.commit(commit(1, 1, 6, 1)).await;
    assert_eq!(stored.previous, page.entries[3].hash());
    let page = works(bench.store.log(conversation_id(1), device_id(2, 1), 5, 100).await).expect("a member");
    assert_eq!((page.entries[0].kind, page.entries[0].receipt), (EntryKind::COMMIT, Some([7; 64])));
    assert_eq!(page.entries[0].previous, stored.previous);
    assert_eq!(bench.seqs(2, device_id(3, 1), 0).await, Ok((vec![], 1)));
}

/// Not of polls.
pub async fn the_order_is_the_order_of_calls<P: Place>(place: &P) {
    let bench = two(place).await;
    let futures: Vec<_> = (2..40).map(|id| bench.store.apply(Write::Append(append(1, device_id(1, 1), id, 1)))).collect();
    let mut seqs = Vec::new();
    for future in futures.into_iter().rev() {
        match works(future.await) {
            Ok(Written::Stored { stored, duplicate: false }) => seqs.push(stored.seq),
            other => panic!("expected a stored entry, got {other:?}"),
        }
    }
    assert_eq!(seqs, (2..40).rev().collect::<Vec<u64>>());
}

/// The same id gives the same answer, also after the epoch has moved on, and tells nobody.
pub async fn a_message_is_stored_once<P: Place>(place: &P) {
    let bench = two(place).await;
    let stored = bench.send(append(1, device_id(1, 1), 2, 1)).await;
    for epoch in 1..6 {
        bench.commit(commit(1, 2, 10 + u32::try_from(epoch).expect("small"), epoch)).await;
    }
    bench.heard.take();
    let again = Append { now_ms: NOW + 5, ..append(1, device_id(1, 1), 2, 1) };
    assert_eq!(bench.apply(Write::Append(again)).await, Ok(Written::Stored { stored, duplicate: true }));
    assert_eq!(bench.heard.take(), []);
    assert_eq!(bench.seqs(1, device_id(2, 1), 0).await, Ok(((2..8).collect(), 7)));
    bench.commit(creation(2, 1, 1, &[1])).await;
    assert_eq!(bench.send(append(2, device_id(1, 1), 2, 1)).await.seq, 2, "ids count within a conversation");
}

/// Neither strangers nor other devices of a member.
pub async fn a_message_needs_its_device_in_the_conversation<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(3, 2).await;
    bench.commit(creation(1, 1, 1, &[1, 2])).await;
    for device in [device_id(3, 1), device_id(1, 2), device_id(9, 9)] {
        assert_eq!(bench.refused(Write::Append(append(1, device, 2, 1))).await, Refusal::NotMember, "{device:?}");
        assert_eq!(bench.seqs(1, device, 0).await, Err(Refusal::NotMember), "{device:?}");
    }
    let nowhere = append(2, device_id(1, 1), 2, 1);
    assert_eq!(bench.refused(Write::Append(nowhere)).await, Refusal::NoConversation);
    assert_eq!(bench.seqs(2, device_id(1, 1), 0).await, Err(Refusal::NoConversation));
    bench.send(append(1, device_id(2, 1), 2, 1)).await;
}

/// The window is that of the wire.
pub async fn a_message_of_an_old_or_future_epoch_is_refused<P: Place>(place: &P) {
    let bench = two(place).await;
    for epoch in 1..6 {
        bench.commit(commit(1, 1, 10 + u32::try_from(epoch).expect("small"), epoch)).await;
    }
    let current = 6;
    for epoch in [0, current - EPOCH_WINDOW - 1, current + 1, u64::MAX] {
        assert_eq!(bench.refused(Write::Append(append(1, device_id(1, 1), 30, epoch))).await, Refusal::StaleEpoch, "{epoch}");
    }
    for (id, epoch) in (31..).zip(current - EPOCH_WINDOW..=current) {
        bench.send(append(1, device_id(1, 1), id, epoch)).await;
    }
}

/// Whoever joins can read everything from there on: what was encrypted before and comes after is refused.
pub async fn a_message_from_before_the_last_join_is_refused<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 2).await;
    bench.commit(creation(1, 1, 1, &[1, 2])).await;
    bench.commit(commit(1, 1, 10, 1)).await;
    bench.send(append(1, device_id(1, 1), 11, 1)).await;
    bench.commit(CommitWrite { external: true, ..commit(1, 1, 12, 2) }).await;
    assert_eq!(bench.refused(Write::Append(append(1, device_id(1, 1), 13, 2))).await, Refusal::StaleEpoch);
    bench.send(append(1, device_id(1, 1), 14, 3)).await;
    let welcome = CommitWrite { added: vec![added(2, 2)], welcome: Some(vec![1]), ..commit(1, 1, 15, 3) };
    bench.commit(welcome).await;
    assert_eq!(bench.refused(Write::Append(append(1, device_id(1, 1), 16, 3))).await, Refusal::StaleEpoch);
    bench.send(append(1, device_id(1, 1), 17, 4)).await;
}

/// By count, from anywhere.
pub async fn a_log_is_read_in_pages<P: Place>(place: &P) {
    let bench = two(place).await;
    for id in 2..=10 {
        bench.send(append(1, device_id(1, 1), id, 1)).await;
    }
    for (after, limit, expected) in
        [(0, 3, 2..5), (4, 3, 5..8), (8, 3, 9..11), (10, 3, 0..0), (99, 3, 0..0), (u64::MAX, 3, 0..0), (0, 0, 0..0)]
    {
        let page = works(bench.store.log(conversation_id(1), device_id(2, 1), after, limit).await).expect("a member");
        assert_eq!(page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), expected.collect::<Vec<u64>>());
        assert_eq!(page.head, 10);
    }
}

/// A page fits a frame; one entry always fits a page.
pub async fn a_page_of_a_log_is_bounded_in_bytes<P: Place>(place: &P) {
    let bench = two(place).await;
    let size = limits::ENTRY_PAYLOAD;
    for id in 2..12 {
        bench.send(Append { payload: vec![1; size], ..append(1, device_id(1, 1), id, 1) }).await;
    }
    let huge = CommitWrite { commit: vec![2; limits::READ_BYTES + 1], ..commit(1, 1, 20, 1) };
    bench.commit(huge).await;
    let page = works(bench.store.log(conversation_id(1), device_id(2, 1), 1, 100).await).expect("a member");
    assert_eq!((page.entries.len(), page.head), (limits::READ_BYTES / size, 12));
    assert_eq!(bench.seqs(1, device_id(2, 1), 11).await, Ok((vec![12], 12)));
}

/// Never back, never past the head, never for a device that is not in.
pub async fn cursors_only_move_forward<P: Place>(place: &P) {
    let bench = two(place).await;
    for id in 2..=5 {
        bench.send(append(1, device_id(1, 1), id, 1)).await;
    }
    let device = device_id(2, 1);
    for (to, expected) in [(3, 3), (2, 3), (4, 4), (99, 5)] {
        bench.move_cursor(1, device, to).await;
        bench.move_cursor(7, device, to).await;
        bench.move_cursor(1, device_id(3, 1), to).await;
        assert_eq!(bench.state(1, 2, device).await.expect("a member").cursor, Some(expected));
    }
    assert_eq!(bench.state(1, 1, device_id(1, 1)).await.expect("a member").cursor, Some(1));
    assert_eq!(bench.refused(Write::Append(append(1, device_id(3, 1), 9, 1))).await, Refusal::NotMember);
}

/// And when they are old enough; the newest stays, and so does the chain.
pub async fn entries_go_when_all_have_taken_them<P: Place>(place: &P) {
    let bench = two(place).await;
    for id in 2..=6 {
        bench.send(Append { now_ms: NOW + u64::from(id), ..append(1, device_id(1, 1), id, 1) }).await;
    }
    let retain = |before_ms, limit| Write::Retain { before_ms, limit };
    bench.move_cursor(1, device_id(1, 1), 6).await;
    assert_eq!(bench.apply(retain(NOW + 100, 100)).await, Ok(Written::Deleted(1)), "the other device has taken entry 1 only");
    bench.move_cursor(1, device_id(2, 1), 6).await;
    assert_eq!(bench.apply(retain(NOW + 4, 100)).await, Ok(Written::Deleted(2)), "older than entry 4");
    assert_eq!(bench.seqs(1, device_id(2, 1), 0).await, Ok((vec![4, 5, 6], 6)));
    assert_eq!(bench.apply(retain(NOW + 100, 1)).await, Ok(Written::Deleted(1)), "one at most");
    assert_eq!(bench.apply(retain(NOW + 100, 100)).await, Ok(Written::Deleted(1)), "all but the newest");
    assert_eq!(bench.apply(retain(NOW + 100, 100)).await, Ok(Written::Deleted(0)));
    let page = works(bench.store.log(conversation_id(1), device_id(2, 1), 0, 100).await).expect("a member");
    let stored = bench.send(append(1, device_id(2, 1), 7, 1)).await;
    assert_eq!((stored.seq, stored.previous), (7, page.entries[0].hash()));
}

/// A caller that has gone away does not undo what it began.
pub async fn a_write_whose_future_is_dropped_is_applied<P: Place>(place: &P) {
    let bench = two(place).await;
    let future = bench.store.apply(Write::Append(append(1, device_id(1, 1), 2, 1)));
    drop_unpolled(future);
    let stored = bench.send(append(1, device_id(1, 1), 3, 1)).await;
    assert_eq!(stored.seq, 3);
    let page = works(bench.store.log(conversation_id(1), device_id(2, 1), 1, 100).await).expect("a member");
    assert_eq!(page.entries[0].id, message_id(2));
}

fn drop_unpolled(future: impl Future) {
    drop(future);
}
