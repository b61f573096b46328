//! What is written is there, and who may read it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::{journal, medium};
use super::*;

#[test]
fn what_was_written_is_there_after_reopening_folded_or_not() {
    let dir = dir("reopen");
    {
        let (mut store, restored) = open(&dir).expect("a new store");
        assert_eq!((restored.rows.len(), restored.last), (0, Ticket(0)));
        for ticket in 1..400 {
            let (written, result) = store.write(&[batch(ticket, &format!("o{}", ticket % 7), 500)]);
            assert!(written == 1 && result.is_ok(), "{result:?}");
        }
        assert_eq!(store.write(&[batch(400, "large", 40 << 10)]).0, 1);
        let removal = Change::remove(Key::Object("o3".into()));
        assert_eq!(store.write(&[Batch { ticket: Ticket(401), changes: vec![removal] }]).0, 1);
        let group: Vec<Batch> = (402..432).map(|ticket| batch(ticket, &format!("g{ticket}"), 2000)).collect();
        assert_eq!(store.write(&group).0, 30);
    }
    let (_, restored) = open(&dir).expect("the same store");
    assert_eq!((restored.rows.len(), restored.last), (37, Ticket(431)));
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    let modes = [&dir, &dir.join(medium::FILE), &dir.join(journal::FILE)].map(|path| mode(path));
    assert_eq!(modes, [0o700, 0o600, 0o600]);
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

#[test]
fn a_damaged_store_is_moved_aside_and_one_copy_is_kept() {
    let dir = dir("damaged");
    let config = crate::config::MetaManager { dir: dir.clone(), journal: 64 << 10 };
    drop(super::super::open(&config, 1).expect("a new store"));
    for now in [5, 6] {
        std::fs::write(dir.join(medium::FILE), vec![7; 8192]).expect("it is ours");
        let (_, restored) = super::super::open(&config, now).expect("a new store");
        assert!(restored.lost.is_some());
    }
    let names: std::collections::BTreeSet<_> = std::fs::read_dir(&dir).expect("it is ours").map(|entry| entry.expect("a name").file_name()).collect();
    assert_eq!(names, ["journal", "journal.damaged-6", "store.redb", "store.redb.damaged-6"].map(Into::into).into());
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

#[test]
fn a_store_that_crashes_two_openings_is_moved_aside() {
    let dir = dir("crashes");
    let config = crate::config::MetaManager { dir: dir.clone(), journal: 64 << 10 };
    drop(super::super::open(&config, 1).expect("a new store"));
    super::super::opening::begin(&dir);
    assert!(super::super::open(&config, 2).expect("the store").1.lost.is_none());
    super::super::opening::begin(&dir);
    super::super::opening::begin(&dir);
    let (store, restored) = super::super::open(&config, 3).expect("a new store");
    assert!(restored.lost.is_some_and(|why| why.contains("crashed 2 times")));
    drop(store);
    assert!(super::super::open(&config, 4).expect("the store").1.lost.is_none());
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

#[test]
fn a_store_in_use_is_left_alone() {
    let dir = dir("in-use");
    let config = crate::config::MetaManager { dir: dir.clone(), journal: 64 << 10 };
    let _first = super::super::open(&config, 1).expect("a new store");
    assert!(super::super::open(&config, 2).is_err());
    assert!(dir.join(medium::FILE).exists());
    std::fs::remove_dir_all(&dir).expect("it is ours");
}
