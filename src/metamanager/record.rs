//! Rows as bytes: postcard behind a version byte. Enums grow at their end only;
//! anything else needs a new version.

use crate::node::store::{Change, Key, Row};

const VERSION: u8 = 1;

/// A row.
pub fn row(row: &Row) -> Vec<u8> {
    encode(row)
}

/// The name of a row; equal tables are neighbours.
pub fn key(key: &Key) -> Vec<u8> {
    encode(key)
}

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

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("plain data always serialises")
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|why| format!("a record cannot be read: {why}")),
        Some((version, _)) => Err(format!("a record has version {version}, this build knows {VERSION}")),
        None => Err("a record is empty".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::store::Table;

    #[test]
    fn rows_go_both_ways_and_unknown_versions_are_told() {
        let all = vec![Change::set(Table::Tokens, "t", Row::Token { token: "x".into(), issued: -1, expires: 5 }), Change::remove(Table::Objects, "o")];
        assert_eq!(read_changes(&changes(&all)), Ok(all.clone()));
        assert_eq!(read_key(&key(&all[0].key)), Ok(all[0].key.clone()));
        let mut bytes = row(&Row::Version(7));
        assert_eq!(read_row(&bytes), Ok(Row::Version(7)));
        bytes[0] = 9;
        assert!(read_row(&bytes).is_err_and(|why| why.contains("version 9")));
        assert!(read_row(&[]).is_err() && read_row(&[1, 200]).is_err());
    }
}
