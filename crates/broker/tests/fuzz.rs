//! The corpora of `fuzz/`, replayed on stable: each file as it is, and damaged in many ways that are the same in
//! every run. The fuzzer itself needs a nightly toolchain (`fuzz/README.md`).

#[allow(unreachable_pub, reason = "a library's items, included here")]
#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::path::{Path, PathBuf};

/// Damaged forms of each file.
const MUTATIONS: usize = 2_000;

/// Bytes that mean something in one of the formats.
const SPECIAL: &[u8] =
    b"\x00\x7f\x80\x90\x9f\xa0\xc0\xc1\xc4\xc7\xd4\xd7\xd9\xdc\xdd\xde\xdf\xe0\xff\x1e0123456789-/,[]{}\":b";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The files of a folder, by name, so that every run takes them in the same order.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Numbers that are the same in every run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

/// `bytes`, changed in one to three places.
fn damaged(bytes: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + numbers.below(3) {
        let at = numbers.below(bytes.len());
        let special = SPECIAL[numbers.below(SPECIAL.len())];
        match numbers.below(7) {
            0 if !bytes.is_empty() => bytes[at] = special,
            1 if !bytes.is_empty() => bytes[at] ^= 1 << numbers.below(8),
            2 => bytes.insert(at, special),
            3 => bytes.truncate(at),
            4 if !bytes.is_empty() => {
                bytes.remove(at);
            }
            5 => {
                let part = bytes[at..].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[numbers.below(other.len())..]);
            }
        }
    }
    bytes
}

#[test]
fn the_corpora_and_their_damaged_forms_are_taken_without_a_panic() {
    for (name, target) in fuzz::TARGETS {
        let corpus = files(&root().join("corpus").join(name));
        assert!(!corpus.is_empty(), "{name}");
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for (file, bytes) in &corpus {
            replay(name, file, target, bytes);
            for _ in 0..MUTATIONS {
                let other = &corpus[numbers.below(corpus.len())].1;
                replay(name, file, target, &damaged(bytes, other, &mut numbers));
            }
        }
    }
}

/// Runs a target, and says with which bytes where it fails.
fn replay(name: &str, file: &str, target: fuzz::Target, bytes: &[u8]) {
    if std::panic::catch_unwind(|| target(bytes)).is_err() {
        panic!("{name}, {file} damaged to {:?}\n{bytes:02x?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn every_target_has_its_program_and_every_corpus_its_target() {
    let names: Vec<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for name in &names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} in fuzz/Cargo.toml");
        let program = fs::read_to_string(root().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("fanfare_fuzz::{name}(")), "{name}");
    }
    for entry in fs::read_dir(root().join("corpus")).unwrap() {
        let folder = entry.unwrap().file_name();
        assert!(names.iter().any(|name| folder == **name), "{folder:?}");
    }
}
