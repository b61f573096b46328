//! Every input of the corpus, findings among them, through its target: without
//! libFuzzer, in `make test`.

use std::path::Path;

use crate::targets::ALL;

/// All inputs together, bytes; they are part of the repository.
const MOST: u64 = 1 << 20;

#[test]
fn the_corpus_is_replayed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut size = 0;
    for (name, target) in ALL {
        let dir = std::fs::read_dir(root.join(name)).unwrap_or_else(|why| panic!("corpus of {name}: {why}"));
        let mut inputs: Vec<_> = dir.map(|entry| entry.expect("an input").path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for input in inputs {
            let data = std::fs::read(&input).expect("an input");
            size += data.len() as u64;
            eprintln!("{}", input.display());
            target(&data);
        }
    }
    assert!(size <= MOST, "the corpus has {size} bytes: keep what finds something");
}

#[test]
fn every_target_has_a_binary() {
    let manifest = include_str!("Cargo.toml");
    let bins = manifest.lines().filter_map(|line| line.strip_prefix("path = \"bin/")?.strip_suffix(".rs\""));
    assert_eq!(bins.collect::<Vec<_>>(), ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}
