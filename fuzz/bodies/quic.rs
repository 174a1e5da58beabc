//! What a stranger can send on a QUIC stream: the same frames are cut out of it however the bytes arrive, and no length that is only
//! announced costs memory.

use parlour_net::fuzzing::quic;

/// The largest frame of a link, and of a stranger.
const LIMITS: [usize; 2] = [1024 * 1024, 4096];

pub(crate) fn run(data: &[u8]) {
    let [settings, piece, bytes @ ..] = data else { return };
    let (limit, piece) = (LIMITS[usize::from(settings & 1)], usize::from(*piece) * 16 + 1);
    let whole = quic(limit, bytes.len().max(1), bytes);
    assert_eq!(quic(limit, piece, bytes), whole, "in pieces of {piece}");
    if let Ok((frames, _)) = whole {
        assert!(frames.iter().all(|frame| frame.size() <= limit));
    }
}
