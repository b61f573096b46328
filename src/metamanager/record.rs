//! Rows as bytes: postcard behind a version byte. Enums grow at their end only;
//! anything else needs a new version.

use crate::node::store::{Change, Key, Row, Table};

const VERSION: u8 = 1;

/// The changes of a batch.
pub fn changes(changes: &[Change]) -> Vec<u8> {
    encode(&changes.iter().map(|change| (&change.key, &change.row)).collect::<Vec<_>>())
}

/// Reads a row.
pub fn read_row(bytes: &[u8]) -> Result<Row, String> {
    decode(bytes)
}

/// Reads the name of a row.
pub fn read_key(bytes: &[u8]) -> Result<Key, String> {
    decode(bytes)
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
    let (count, mut rest) = take::<usize>(body(bytes)?)?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let (_, after_key) = take::<(Table, &str)>(rest)?;
        let (row, after_row) = take::<Option<Row>>(after_key)?;
        let key = &rest[..rest.len() - after_key.len()];
        // One byte says whether there is a row.
        let raw_row = row.map(|_| &after_key[1..after_key.len() - after_row.len()]);
        changes.push(RawChange { key, row: raw_row });
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

fn unreadable(why: postcard::Error) -> String {
    format!("a record cannot be read: {why}")
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("plain data always serialises")
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(body(bytes)?).map_err(unreadable)
}

fn body(bytes: &[u8]) -> Result<&[u8], String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => Ok(rest),
        Some((version, _)) => Err(format!("a record has version {version}, this build knows {VERSION}")),
        None => Err("a record is empty".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_both_ways_and_unknown_versions_are_told() {
        let all = vec![Change::set(Table::Tokens, "t", Row::Token { token: "x".into(), issued: -1, expires: 5 }), Change::remove(Table::Objects, "o")];
        assert_eq!(read_changes(&changes(&all)), Ok(all.clone()));
        assert_eq!(read_key(&encode(&all[0].key)), Ok(all[0].key.clone()));
        let bytes = changes(&all);
        for (raw, change) in raw_changes(&bytes).expect("the same changes").iter().zip(&all) {
            assert_eq!((raw.key(), raw.row()), (encode(&change.key), change.row.as_ref().map(encode)));
        }
        assert!(raw_changes(&bytes[..bytes.len() - 1]).is_err());
        let mut bytes = encode(&Row::Version(7));
        assert_eq!(read_row(&bytes), Ok(Row::Version(7)));
        bytes[0] = 9;
        assert!(read_row(&bytes).is_err_and(|why| why.contains("version 9")));
        assert!(read_row(&[]).is_err() && read_row(&[1, 200]).is_err());
    }
}
