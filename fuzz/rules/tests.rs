//! The targets without a fuzzer: the corpus as it stands, and so many mutations of it. What they find is the same on every machine.

use std::fs;
use std::path::Path;

use super::*;

/// Inputs for each target, besides the corpus; `ONECRED_FUZZ_RUNS` is another number.
const RUNS: usize = 3_000;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn run(target: &Target) {
    let seeds = corpus(target.name);
    assert!(!seeds.is_empty(), "{} has no corpus", target.name);
    seeds.iter().for_each(|seed| (target.run)(seed));
    (target.run)(b"");
    let runs = std::env::var("ONECRED_FUZZ_RUNS").map_or(RUNS, |runs| runs.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..runs {
        let input = mutated(&seeds, &mut random);
        let outcome = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(outcome.is_ok(), "{}: {:?}", target.name, String::from_utf8_lossy(&input));
    }
}

/// A seed with a few changes: bytes turned, left out, doubled, or taken from another seed.
fn mutated(seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = random.choice(seeds).cloned().unwrap_or_default();
    for _ in 0..random.usize(1..6) {
        let (at, other) = (random.usize(..=input.len()), random.choice(seeds).map_or(&[][..], Vec::as_slice));
        let end = (at + random.usize(..12)).min(input.len());
        match random.u8(..6) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            1 if at < input.len() => input[at] = *random.choice(b"\0\n\"\\{}[]:,/.0-\xff").unwrap_or(&0),
            2 => drop(input.drain(at..end)),
            3 => drop(input.splice(at..at, input[at..end].to_vec())),
            4 => {
                let from = random.usize(..=other.len());
                let to = (from + random.usize(..24)).min(other.len());
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
            _ => input.insert(at, random.u8(..)),
        }
    }
    input
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(TARGETS.iter().find(|target| target.name == stringify!($name)).expect("a target of this name"));
        })*

        #[test]
        fn all_of_them_are_run() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            for name in names {
                let program = fs::read_to_string(folder.join(format!("targets/{name}.rs"))).unwrap();
                assert!(program.contains(&format!("target!({name:?})")), "{name}");
            }
            assert_eq!(fs::read_dir(folder.join("targets")).unwrap().count(), TARGETS.len());
        }
    };
}
targets! {
    peer cgroup reference config opnix template blob wire answers snapshot book connect core token otp key
}
