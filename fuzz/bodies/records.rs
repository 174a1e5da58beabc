//! What own devices say to each other, and packs of a history, which any member of a group may have made: what is read says the same
//! when it is written and read again, and nothing in it exceeds its bound.

use parlour_client::fuzzing::{pack_again, padded, sync_again};

/// The first byte says what the rest is: a record of own devices, a pack as it is sealed, or what is in one.
pub(crate) fn run(data: &[u8]) {
    let Some((way, rest)) = data.split_first() else { return };
    match way % 4 {
        0 => {
            if let Ok(again) = sync_again(rest) {
                assert_eq!(sync_again(&again).as_deref(), Ok(&again[..]), "one form of what is known");
            }
        }
        1 => _ = pack_again(rest),
        2 => _ = pack_again(&padded(0, rest)),
        _ => _ = pack_again(&padded(1, rest)),
    }
}
