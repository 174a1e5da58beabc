//! What a stranger can send to either side of a WebSocket, and to the door before it: the same frames come out however the bytes
//! arrive, none is larger than allowed, and what came out can be sent on.

use parlour_net::fuzzing::{upgrade, websocket, websocket_bytes};

/// The largest frame of a link, and of a stranger.
const LIMITS: [usize; 2] = [1024 * 1024, 4096];

pub(crate) fn run(data: &[u8]) {
    let [settings, piece, bytes @ ..] = data else { return };
    let (server, limit, piece) = (settings & 1 != 0, LIMITS[usize::from(settings >> 1 & 1)], usize::from(*piece) * 16 + 1);
    if settings & 4 != 0 {
        let (answer, rest) = upgrade(piece, bytes);
        assert!(rest.is_none() || answer.starts_with(b"HTTP/1.1 101"), "an upgrade is answered as one");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "an answer is HTTP");
        return;
    }
    let whole = websocket(server, limit, usize::MAX, bytes);
    assert_eq!(websocket(server, limit, piece, bytes), whole, "in pieces of {piece}");
    let (frames, _) = whole;
    assert!(frames.iter().all(|frame| frame.size() <= limit));
    // What this side has read, the other one can have written.
    let sent = websocket_bytes(!server, &frames);
    assert_eq!(websocket(server, limit, piece, &sent).0, frames);
}
