//! What a server can answer to the upgrade that a client asks for: the same comes of it however it arrives, and nothing but an
//! agreement is taken for one.

use parlour_net::fuzzing::answered;

pub(crate) fn run(data: &[u8]) {
    let [piece, answer @ ..] = data else { return };
    let whole = answered(usize::MAX, answer);
    let parts = answered(usize::from(*piece) * 16 + 1, answer);
    // Many small pieces are refused for that alone.
    assert!(parts == whole || is_attack(&parts), "{parts:?} in pieces, {whole:?} at once");
    if whole.is_ok() {
        let begin = answer.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(answer.len());
        assert!(answer[begin..].starts_with(b"HTTP/1.1 101"), "an agreement has its number");
        assert!(answer.windows(8).any(|window| window == b"{accept}"), "an agreement has its proof");
    }
}

fn is_attack(answered: &Result<(), String>) -> bool {
    answered.as_ref().is_err_and(|error| error == "Attack attempt detected")
}
