//! Rows as bytes, of this format and of format 2, and a node that starts with them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use selvedge::metamanager::medium::Directory;
use selvedge::metamanager::{Store, StoreError, format2, journal, record};
use selvedge::node::Restored;
use selvedge::node::ids::Ticket;
use selvedge::node::store::{Batch, Change, Key, Row, Rows};

use super::steps_of_length;
use crate::sim::World;

/// Size of the ring, bytes.
const RING: usize = 64 << 10;

/// The first byte says what the rest is.
pub fn records(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which % 6 {
        0 => rows(data),
        1 => raw(data),
        2 => starts(record::read_changes(data)),
        3 => starts(format2::read_changes(data)),
        4 => ring_of_format2(data),
        _ => store(data),
    }
}

/// A key, with its length before it, and a row.
fn rows(data: &[u8]) {
    let Some((length, data)) = data.split_first() else { return };
    let (key, row) = data.split_at(data.len().min(usize::from(*length)));
    if let Ok((key, row)) = record::read(key, row) {
        assert_eq!(record::read(&record::key(&key), &record::row(&row)), Ok((key, row)));
    }
    if let Ok((key, row)) = format2::read_row(key, row) {
        assert!(Rows::new(vec![(key, row)]).is_ok(), "an upgraded row is one of its table");
    }
}

/// What is written of a batch without reading it whole is what it says.
fn raw(data: &[u8]) {
    let (raw, read) = (record::raw_changes(data), record::read_changes(data));
    assert_eq!(raw.is_ok(), read.is_ok(), "{raw:?} and {read:?}");
    let (Ok(raw), Ok(read)) = (raw, read) else { return };
    assert_eq!(raw.len(), read.len());
    for (raw, change) in raw.iter().zip(&read) {
        let removed = record::row(&Row::Version(0));
        let (key, row) = record::read(&raw.key(), &raw.row().unwrap_or(removed)).expect("it was read before");
        assert!(key == change.key && change.row.as_ref().is_none_or(|wanted| *wanted == row));
        assert_eq!(raw.row().is_some(), change.row.is_some());
    }
    assert_eq!(record::read_changes(&record::changes(&read)), Ok(read));
}

/// A node that finds these rows, whoever wrote them, starts and can be spoken to.
fn starts(changes: Result<Vec<Change>, String>) {
    let Ok(changes) = changes else { return };
    let mut all = BTreeMap::new();
    apply(&mut all, changes);
    if Rows::new(all.clone().into_iter().collect()).is_err() {
        return;
    }
    let mut world = World::ready(1);
    world.kill();
    for (key, row) in &all {
        if let (Key::Mapper(name), Row::Mapper(row)) = (key, row) {
            // It has what the row says it has.
            let names = row.devices.keys().map(|id| id.split_once('/').unwrap_or(("", id)));
            let devices = names.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
            world.mappers.devices.insert(name.clone(), devices.collect());
        }
    }
    world.disk.rows.extend(all);
    world.start();
    world.run(Duration::from_secs(90));
    world.kill();
    world.start();
    world.run(Duration::from_secs(10));
}

fn apply(rows: &mut BTreeMap<Key, Row>, changes: Vec<Change>) {
    for Change { key, row } in changes {
        match row {
            Some(row) => drop(rows.insert(key, row)),
            None => drop(rows.remove(&key)),
        }
    }
}

/// A directory for the store of this process.
fn directory() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("selvedge-fuzz-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("room");
    dir
}

fn open(dir: &std::path::Path) -> Result<(Store, Restored), StoreError> {
    Store::open(Directory::new(dir, RING as u64))
}

/// Payloads of steps, in a ring of format 2 that redb knows nothing of: it is upgraded,
/// or what cannot be read is told.
fn ring_of_format2(data: &[u8]) {
    let mut ring = Vec::new();
    for ((what, payload), sequence) in steps_of_length(data).zip(1u64..) {
        let length = u32::try_from(payload.len()).expect("small") + u32::from(what / 16);
        let mut record = 0x5345_4c56_u32.to_le_bytes().to_vec();
        record.extend(length.to_le_bytes());
        record.extend((sequence + u64::from(what % 16)).to_le_bytes());
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&record);
        checksum.update(payload);
        record.extend(checksum.finalize().to_le_bytes());
        record.extend(payload);
        record.resize(record.len().next_multiple_of(8), 0);
        ring.extend(record);
    }
    ring.resize(RING, 0);
    let dir = directory();
    std::fs::write(dir.join(journal::FILE), ring).expect("room");
    match open(&dir) {
        Ok((store, first)) => {
            drop(store);
            let (_, again) = open(&dir).expect("an upgraded store");
            assert_eq!((again.rows.len(), again.last), (first.rows.len(), first.last));
        }
        Err(why) => assert!(why.is_damage(), "{why}"),
    }
    let _ = std::fs::remove_dir_all(&dir);
}

/// Batches of steps, with restarts and checkpoints in between.
fn store(data: &[u8]) {
    let dir = directory();
    let (mut store, _) = open(&dir).expect("a new store");
    let (mut rows, mut last) = (BTreeMap::new(), 0);
    for (what, payload) in steps_of_length(data).take(20) {
        match what % 4 {
            0 => store.fold().expect("room"),
            1 => {
                drop(store);
                let found;
                (store, found) = open(&dir).expect("the store");
                assert_eq!((found.rows.len(), found.last), (rows.len(), Ticket(last)));
            }
            _ => {
                let Ok(changes) = record::read_changes(payload) else { continue };
                if changes.iter().any(is_of_another_table) {
                    continue;
                }
                last += 1;
                let batch = Batch { ticket: Ticket(last), changes: changes.clone() };
                let (done, result) = store.write(&[batch]);
                assert!(done == 1 && result.is_ok(), "{result:?}");
                apply(&mut rows, changes);
            }
        }
    }
    drop(store);
    let (_, found) = open(&dir).expect("the store");
    assert_eq!((found.rows.len(), found.last), (rows.len(), Ticket(last)));
    let _ = std::fs::remove_dir_all(&dir);
}

fn is_of_another_table(change: &Change) -> bool {
    let pair = change.row.as_ref().map(|row| (change.key.clone(), row.clone()));
    Rows::new(pair.into_iter().collect()).is_err()
}
