//! Stores of other formats. `tests/data/store-format2` was written by the last build
//! of format 2: each file is packed by LZ4, its size before it.

use redb::{Database, ReadableDatabase, TableDefinition};

use super::super::{journal, medium};
use super::*;
use crate::node::store::Rows;

fn format2(dir: &std::path::Path) {
    std::fs::create_dir_all(dir).expect("room");
    for (name, packed) in [
        (medium::FILE, &include_bytes!("../../../tests/data/store-format2/store.redb.lz4")[..]),
        (journal::FILE, &include_bytes!("../../../tests/data/store-format2/journal.lz4")[..]),
    ] {
        let bytes = lz4_flex::decompress_size_prepended(packed).expect("packed by us");
        std::fs::write(dir.join(name), bytes).expect("room");
    }
}

/// What the fixture holds, folded or not.
fn check(rows: &Rows) {
    assert_eq!(rows.objects, [("default/pod/web".into(), r#"{"metadata":{"name":"web"}}"#.into())]);
    assert_eq!(rows.versions, [("default/pod/web".into(), 8)]);
    let (key, token) = &rows.tokens[0];
    assert_eq!((key.audience.as_str(), key.seconds, token.token.as_str(), token.expires), ("https://vault.example/x", 3607, "secret", 2));
    assert_eq!(rows.registration.as_deref(), Some("node-uid"));
    let (device, row) = &rows.devices[0];
    assert_eq!((device, row.last_online, row.attributes["room"].value.as_str()), (&"default/pump".into(), Some(5), "12"));
    let (_, name, property) = &rows.properties[0];
    assert_eq!((name.as_str(), property.wished.as_deref()), ("speed", Some("3")));
    assert!(rows.confirmed[0].2.expected.is_some());
    let payloads: Vec<&[u8]> = rows.uploads.iter().map(|(_, row)| row.payload.as_slice()).collect();
    assert_eq!(payloads, [b"folded".as_slice(), &[0, 255]]);
    assert_eq!((rows.subscriptions.as_slice(), rows.targets.as_slice()), (&["a/+".to_owned()][..], &["/x".to_owned()][..]));
    assert_eq!(rows.mappers[0].1.info.socket, "/s");
    assert_eq!((rows.events[0].1.is_new, rows.events[0].1.name.as_str()), (true, "web.1"));
    assert_eq!(rows.len(), 13);
}

#[test]
fn a_store_of_format_2_is_upgraded_in_place() {
    let dir = dir("format2");
    format2(&dir);
    let (mut store, restored) = open(&dir).expect("an upgraded store");
    check(&restored.rows);
    assert_eq!(restored.last, Ticket(4));
    assert_eq!(store.write(&[batch(5, "new", 10)]).0, 1);
    drop(store);
    let (_, restored) = open(&dir).expect("the store");
    assert_eq!((restored.rows.len(), restored.last), (14, Ticket(5)));
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

#[test]
fn an_upgrade_may_stop_anywhere() {
    let dir = dir("format2-stop");
    format2(&dir);
    let old = std::fs::read(dir.join(journal::FILE)).expect("it is there");
    drop(open(&dir).expect("an upgraded store"));
    // redb was rewritten and says that there is no ring yet: the old one is none.
    let medium = Directory::new(&dir, 64 << 10);
    let state = {
        let mut tree = super::super::store::open_tree(&medium).expect("the store");
        let state = tree.state().expect("it was upgraded");
        tree.commit(Vec::new(), state.position, false).expect("room");
        state
    };
    std::fs::write(dir.join(journal::FILE), &old).expect("room");
    let (mut store, restored) = open(&dir).expect("an upgraded store");
    check(&restored.rows);
    assert_eq!((restored.last, state.position.sequence), (Ticket(4), 4));
    assert_eq!(store.write(&[batch(5, "new", 10)]).0, 1);
    drop(store);
    // Put there later, it is no ring of this store.
    std::fs::write(dir.join(journal::FILE), &old).expect("room");
    assert!(open(&dir).is_err_and(|why| why.is_damage()));
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

#[test]
fn a_young_store_of_format_2_is_all_journal() {
    let dir = dir("format2-young");
    format2(&dir);
    // One that was never folded: redb has no table, the sequence begins at 1.
    std::fs::remove_file(dir.join(medium::FILE)).expect("it is ours");
    drop(Database::create(dir.join(medium::FILE)).expect("room"));
    let mut ring = std::fs::read(dir.join(journal::FILE)).expect("it is there");
    let length = u32::from_le_bytes(ring[4..8].try_into().expect("four bytes")) as usize;
    ring[8] = 1;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&ring[..16]);
    crc.update(&ring[20..20 + length]);
    ring[16..20].copy_from_slice(&crc.finalize().to_le_bytes());
    std::fs::write(dir.join(journal::FILE), ring).expect("room");
    let (_, restored) = open(&dir).expect("an upgraded store");
    assert_eq!((restored.rows.len(), restored.last), (4, Ticket(1)));
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let dir = dir("newer");
    drop(open(&dir).expect("a new store"));
    let path = dir.join(medium::FILE);
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    {
        let database = Database::open(&path).expect("redb");
        let write = database.begin_write().expect("a transaction");
        write.open_table(meta).expect("a table").insert("format", 4).expect("a number");
        write.commit().expect("on disk");
    }
    let config = crate::config::MetaManager { dir: dir.clone(), journal: 64 << 10 };
    let ring = std::fs::read(dir.join(journal::FILE)).expect("it is there");
    let why = super::super::open(&config, 5).err().expect("it is refused");
    assert!(matches!(why, StoreError::Newer { found: 4, .. }));
    assert!(why.to_string().contains("install the newer agent again"), "{why}");
    assert_eq!(std::fs::read(dir.join(journal::FILE)).expect("it is there"), ring);
    let database = Database::open(&path).expect("redb");
    let read = database.begin_read().expect("a transaction");
    assert_eq!(read.open_table(meta).expect("a table").get("format").expect("a number").map(|found| found.value()), Some(4));
    assert_eq!(std::fs::read_dir(&dir).expect("it is ours").count(), 2);
    std::fs::remove_dir_all(&dir).expect("it is ours");
}
