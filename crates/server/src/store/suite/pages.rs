//! Rules about the overview of an account's conversations.

use parlour_wire::{ConversationId, limits};

use super::{Place, account_id, conversation_id, creation, device_id, open, works};
use crate::store::{CommitWrite, Store, page_bytes};

/// In order of id, without doubles, with a word whether more follow.
pub async fn conversations_come_in_pages<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 1).await;
    for n in [5, 3, 9, 1, 7] {
        bench.commit(creation(n, 1, 1, &[1, 2])).await;
    }
    bench.commit(creation(4, 1, 1, &[1])).await;
    let mut after: Option<ConversationId> = None;
    let mut pages = Vec::new();
    loop {
        let (states, more) = works(bench.store.conversations(account_id(2), device_id(2, 1), after, 2).await);
        pages.push(states.iter().map(|state| state.conversation).collect::<Vec<_>>());
        after = states.last().map(|state| state.conversation);
        if !more {
            break;
        }
    }
    let expected: [&[u8]; 3] = [&[1, 3], &[5, 7], &[9]];
    assert_eq!(pages, expected.map(|page| page.iter().map(|&n| conversation_id(n)).collect::<Vec<_>>()));
    let (states, more) = works(bench.store.conversations(account_id(9), device_id(9, 1), None, 2).await);
    assert_eq!((states, more), (vec![], false));
}

/// Welcomes are large; a page must fit a frame.
pub async fn a_page_of_conversations_is_bounded_in_bytes<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(2, 1).await;
    let size = limits::HANDSHAKE_PAYLOAD;
    for n in 1..=3 {
        bench.commit(CommitWrite { welcome: Some(vec![n; size]), ..creation(n, 1, 1, &[1, 2]) }).await;
    }
    assert!(2 * page_bytes(2, Some(size)) > limits::READ_BYTES, "one welcome fills a page");
    let mut after = None;
    for n in 1..=3 {
        let (states, more) = works(bench.store.conversations(account_id(2), device_id(2, 1), after, 100).await);
        assert_eq!(states.iter().map(|state| state.conversation).collect::<Vec<_>>(), [conversation_id(n)]);
        assert_eq!(more, n < 3);
        after = Some(conversation_id(n));
    }
    let (states, more) = works(bench.store.conversations(account_id(1), device_id(1, 1), None, 100).await);
    assert_eq!((states.len(), more), (3, false), "the creator has no welcomes");
}

/// Each once, oneself left out.
pub async fn peers_share_a_conversation<P: Place>(place: &P) {
    let bench = open(place);
    bench.accounts(4, 1).await;
    bench.commit(creation(1, 1, 1, &[1, 2])).await;
    bench.commit(creation(2, 1, 1, &[1, 2, 3])).await;
    for (n, expected) in [(1, vec![2, 3]), (2, vec![1, 3]), (3, vec![1, 2]), (4, vec![])] {
        let expected: Vec<_> = expected.into_iter().map(account_id).collect();
        assert_eq!(works(bench.store.peers(account_id(n)).await), expected, "{n}");
    }
}
