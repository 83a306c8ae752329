//! The fuzz targets without a fuzzer: all seeds, damaged in many ways, and the kept corpus.
#![allow(missing_docs, reason = "a test")]

#[allow(unreachable_pub, reason = "a module of another crate")]
#[path = "../../fuzz/src/targets.rs"]
mod targets;

use conformance::seeds;
use targets::TARGETS;

/// A small generator: the same damage in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % sides.max(1)
    }

    /// Flips, inserts, removes or repeats something.
    fn damage(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.roll(3) {
            let at = self.roll(bytes.len());
            let special = b"\"\\{}[],:=%+-0e \xed\xff\x00\x80"[self.roll(18)];
            match self.roll(5) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.roll(8),
                1 => bytes.insert(at, special),
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                3 => bytes.truncate(at),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes
    }
}

#[test]
fn seeds_and_their_damaged_copies_hold_every_promise() {
    let mut dice = Dice(1);
    let mut played = [0; TARGETS.len()];
    for (name, seed) in seeds::seeds() {
        let at = TARGETS.iter().position(|(target, _)| *target == name).expect(name);
        let target = TARGETS[at].1;
        target(&seed);
        for _ in 0..20 {
            target(&dice.damage(&seed));
        }
        played[at] += 1;
    }
    assert!(played.iter().all(|count| *count > 10), "{played:?}");
}

#[test]
fn the_kept_corpus_holds_every_promise() {
    let corpus = testkit::process::workspace().join("tests/fuzz/corpus");
    for (name, target) in TARGETS {
        let Ok(files) = std::fs::read_dir(corpus.join(name)) else { continue };
        for file in files {
            target(&std::fs::read(file.expect("listed").path()).expect("readable"));
        }
    }
}
