//! The log of a durable queue, and of marks: files that are torn, damaged or made up. What is read is what was written, in order, up
//! to the damage; what is saved from behind it was written too; and nothing else is ever believed.

use parlour_net::fuzzing::{LogEntry, log_file, log_read, log_salvage};

fn take<'d>(data: &mut &'d [u8], count: usize) -> &'d [u8] {
    let (taken, rest) = data.split_at(count.min(data.len()));
    *data = rest;
    taken
}

fn byte(data: &mut &[u8]) -> usize {
    take(data, 1).first().copied().unwrap_or(0).into()
}

/// Whether all of `part` stands in `whole` in the same order.
fn is_within(part: &[LogEntry], whole: &[LogEntry]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|entry| rest.any(|other| other == entry))
}

pub(crate) fn run(mut data: &[u8]) {
    let settings = byte(&mut data);
    let marks = settings & 1 != 0;
    if settings & 2 != 0 {
        // A file that somebody else has written.
        let (entries, sound) = log_read(marks, data);
        assert!(sound.is_none_or(|sound| sound <= data.len() as u64));
        if let Some(saved) = log_salvage(marks, data) {
            assert!(is_within(&entries, &saved), "what is read can be saved");
        }
        return;
    }
    let mut written = Vec::new();
    for _ in 0..byte(&mut data) % 16 {
        let (kind, number, sizes) = (byte(&mut data), byte(&mut data), byte(&mut data));
        let (name, content) = (take(&mut data, sizes & 63).to_vec(), take(&mut data, byte(&mut &[(sizes >> 5) as u8 * 24][..])).to_vec());
        written.push((((kind % 8) as u8, number as u64, name, content), kind & 128 != 0));
    }
    let mut file = log_file(marks, &written);
    let written: Vec<LogEntry> = written.into_iter().map(|(entry, _)| entry).collect();
    assert_eq!(log_read(marks, &file), (written.clone(), Some(file.len() as u64)));
    let before = file.clone();
    while let [high, low, change, rest @ ..] = data {
        data = rest;
        let at = (usize::from(*high) << 8 | usize::from(*low)) % (file.len() + 1);
        match (change, file.get_mut(at)) {
            (0, _) => file.truncate(at),
            (change, Some(byte)) => *byte ^= change,
            (change, None) => file.push(*change),
        }
    }
    let (read, sound) = log_read(marks, &file);
    assert!(written.starts_with(&read), "what is read was written");
    assert!(file != before || sound == Some(file.len() as u64));
    if let Some(saved) = log_salvage(marks, &file) {
        assert!(is_within(&saved, &written) && saved.len() >= read.len(), "what is saved was written");
    }
}
