//! A little fuzzing without a fuzzer: the files of a corpus with random changes, the same in every run. `FUZZ_ROUNDS` makes it longer.

use std::{env, fs, path::Path};

/// Changed inputs of a usual run.
const ROUNDS: u64 = 3000;

/// Random-looking numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn draw(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.draw(256)).unwrap()
    }
}

/// Runs a body on changed files of its corpus; a panic prints the bytes.
pub(crate) fn change(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.into_iter().map(|file| fs::read(file).unwrap()).collect();
    let rounds = env::var("FUZZ_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    for round in 0..rounds {
        let mut dice = Dice(round);
        let mut bytes = seeds[dice.draw(seeds.len())].clone();
        for _ in 0..=dice.draw(6) {
            let at = dice.draw(bytes.len() + 1);
            match dice.draw(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, dice.byte()),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => {
                    let other = &seeds[dice.draw(seeds.len())];
                    let from = dice.draw(other.len() + 1);
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
                4 if at < bytes.len() => bytes[at] ^= 1 << dice.draw(8),
                _ if at < bytes.len() => bytes[at] = dice.byte(),
                _ => {}
            }
        }
        if let Err(panic) = std::panic::catch_unwind(|| body(&bytes)) {
            eprintln!("round {round}: {bytes:02x?}");
            std::panic::resume_unwind(panic);
        }
    }
}
