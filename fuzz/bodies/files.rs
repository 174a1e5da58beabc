//! Every message of a file transfer: decoding never panics, what decodes encodes to something that decodes to the same, and a path
//! that was taken cannot lead out of its root.

use parlour_wire::{
    api::Call,
    decode, encode,
    files::{Closing, Mark, Opening, Pull, Push, PushAnswer, RemotePath, Settle, Stat, StatAnswer, Whole},
};

macro_rules! try_all {
    ($data:ident: $($type:ty),* $(,)?) => {
        $(if let Ok(value) = decode::<$type>($data) {
            assert_eq!(decode::<$type>(&encode(&value)).as_ref(), Ok(&value));
        })*
    };
}

fn confined(text: &str) {
    let Ok(path) = text.parse::<RemotePath>() else { return };
    assert!(text.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
    assert!(!text.contains(['\\', ':', '\0']));
    assert_eq!(format!("{}/{}", path.root(), path.below()), text);
    assert!(path.below().ends_with(path.name()));
}

pub(crate) fn run(data: &[u8]) {
    try_all!(data: Pull, Push, PushAnswer, Settle, Stat, StatAnswer, Whole, Opening, Mark, Closing);
    if let Ok(pull) = decode::<Pull>(data) {
        let _ = pull.check();
        confined(&pull.path);
    }
    if let Ok(push) = decode::<Push>(data) {
        let _ = push.check();
        confined(&push.path);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        confined(text);
    }
}
