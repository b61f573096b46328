//! Rows as bytes: postcard behind a version byte. Enums grow at their end only;
//! anything else needs a new version. Zeros may follow the changes of a batch.

use super::clusters::Owner;
use crate::node::store::{Change, Key, Row};

/// 1 was that of stores up to format 2.
const VERSION: u8 = 2;

/// The changes of a batch.
pub fn changes(changes: &[Change]) -> Vec<u8> {
    encode(&changes.iter().map(|change| (&change.key, &change.row)).collect::<Vec<_>>())
}

/// A key as redb has it.
pub fn key(key: &Key) -> Vec<u8> {
    encode(key)
}

/// A row as redb has it.
pub fn row(row: &Row) -> Vec<u8> {
    encode(row)
}

/// Reads a key and its row.
///
/// # Errors
///
/// What cannot be read.
pub fn read(key: &[u8], row: &[u8]) -> Result<(Key, Row), String> {
    Ok((decode(key)?, decode(row)?))
}

/// Whom the row of a key belongs to.
///
/// # Errors
///
/// What cannot be read.
pub fn owner(key: &[u8]) -> Result<Owner, String> {
    decode(key).map(|key| Owner::of(&key))
}

/// Reads the changes of a batch.
pub fn read_changes(bytes: &[u8]) -> Result<Vec<Change>, String> {
    let pairs: Vec<(Key, Option<Row>)> = decode(bytes)?;
    Ok(pairs.into_iter().map(|(key, row)| Change { key, row }).collect())
}

/// A change as bytes inside a batch: what it does to a table of redb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawChange<'a> {
    key: &'a [u8],
    row: Option<&'a [u8]>,
    /// What its cluster is found by.
    pub owner: Owner,
}

impl<'a> RawChange<'a> {
    /// The row's name, to be compared with others'.
    pub fn name(&self) -> &'a [u8] {
        self.key
    }

    /// The row's name as a key of redb; equal tables are neighbours.
    pub fn key(&self) -> Vec<u8> {
        versioned(self.key)
    }

    /// The row as a value of redb; `None` when it is removed.
    pub fn row(&self) -> Option<Vec<u8>> {
        self.row.map(versioned)
    }
}

/// The changes of a batch, checked and not copied.
pub fn raw_changes(bytes: &[u8]) -> Result<Vec<RawChange<'_>>, String> {
    let (count, mut rest) = take::<usize>(body(bytes, VERSION)?)?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let (decoded, after_key) = take::<Key>(rest)?;
        let (row, after_row) = take::<Option<Row>>(after_key)?;
        let key = &rest[..rest.len() - after_key.len()];
        // One byte says whether there is a row.
        let raw_row = row.map(|_| &after_key[1..after_key.len() - after_row.len()]);
        changes.push(RawChange { key, row: raw_row, owner: Owner::of(&decoded) });
        rest = after_row;
    }
    Ok(changes)
}

fn take<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), String> {
    postcard::take_from_bytes(bytes).map_err(unreadable)
}

fn versioned(bytes: &[u8]) -> Vec<u8> {
    [&[VERSION], bytes].concat()
}

/// What is said of bytes that are no row.
pub fn unreadable(why: postcard::Error) -> String {
    format!("a record cannot be read: {why}")
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("plain data always serialises")
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(body(bytes, VERSION)?).map_err(unreadable)
}

/// What stands behind the version byte.
///
/// # Errors
///
/// Another version than the expected one, or nothing at all.
pub fn body(bytes: &[u8], expected: u8) -> Result<&[u8], String> {
    match bytes.split_first() {
        Some((version, rest)) if *version == expected => Ok(rest),
        Some((version, _)) => Err(format!("a record has version {version}, {expected} was expected")),
        None => Err("a record is empty".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::store::{Sequence, UploadRow};

    #[test]
    fn rows_go_both_ways_and_unknown_versions_are_told() {
        let all = vec![
            Change::set(Key::Upload(Sequence(300)), Row::Upload(UploadRow { at: -1, topic: "t".into(), payload: vec![0; 200] })),
            Change::remove(Key::Object("o".into())),
        ];
        assert_eq!(read_changes(&changes(&all)), Ok(all.clone()));
        let bytes = changes(&all);
        for (raw, change) in raw_changes(&bytes).expect("the same changes").iter().zip(&all) {
            assert_eq!((raw.key(), raw.row()), (encode(&change.key), change.row.as_ref().map(encode)));
        }
        assert!(raw_changes(&bytes[..bytes.len() - 1]).is_err());
        let name = key(&Key::Version("x".into()));
        let mut bytes = row(&Row::Version(7));
        assert_eq!(read(&name, &bytes), Ok((Key::Version("x".into()), Row::Version(7))));
        bytes[0] = 9;
        assert!(read(&name, &bytes).is_err_and(|why| why.contains("version 9")));
        assert!(read(&name, &[]).is_err() && read(&name, &[VERSION, 200]).is_err());
    }
}
