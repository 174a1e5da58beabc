//! Certificates that a stranger shows, to a client and to a server: a key that is seen stands in the certificate, and each rule lets
//! through what it names and nothing else.

use parlour_net::{
    KeySet, PeerKey, Trust,
    fuzzing::{certificate, key_in, server_passes},
    tls::fingerprint,
};

/// The first byte says whether the rest is a certificate, or changes to a real one: triples of a position, in two bytes, and what to
/// flip there; a flip of nothing cuts.
pub(crate) fn run(data: &[u8]) {
    let Some((way, rest)) = data.split_first() else { return };
    if way & 1 == 0 {
        return judge(rest);
    }
    let real = certificate(&[*way; 32]);
    let mut bytes = real.clone();
    for change in rest.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
        match (change[2], bytes.get_mut(at)) {
            (0, _) => bytes.truncate(at),
            (flip, Some(byte)) => *byte ^= flip,
            (new, None) => bytes.push(new),
        }
    }
    assert_eq!(server_passes(Trust::Fingerprint(fingerprint(&real[..].into())), &bytes), bytes == real);
    judge(&bytes);
}

fn judge(der: &[u8]) {
    let seen = fingerprint(&der.into());
    assert!(server_passes(Trust::Fingerprint(seen), der));
    assert!(!server_passes(Trust::Fingerprint([0; 32]), der));
    let (known, other) = (KeySet::default(), PeerKey([2; 32]));
    known.insert(other);
    assert!(!server_passes(Trust::Key(other), der), "a key that is no point of the curve");
    assert!(!server_passes(Trust::Keys(known.clone()), der));
    let Some(key) = key_in(der) else { return };
    assert!(der.windows(32).any(|window| window == key.0), "a key that is not there");
    known.insert(key);
    assert!(server_passes(Trust::Key(key), der) && server_passes(Trust::Keys(known.clone()), der));
    known.remove(&key);
    assert!(!server_passes(Trust::Keys(known), der), "a key that was taken out");
}
