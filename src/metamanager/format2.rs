//! Rows as stores up to format 2 have them, for the upgrade: a table and one text
//! as the key, and texts that mean something else in each table. Nothing writes
//! them any more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{self, unreadable};
use crate::node::ids::DeviceId;
use crate::node::mappers::{Digest, Id, Info, MapperRow};
use crate::node::store::{self, Change, EventRow, Sequence, TokenKey, TokenRow, UploadRow};
use crate::node::twin::{ConfirmedRow, DeviceRow, PropertyRow, Text};

/// The byte that every row begins with.
const VERSION: u8 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Key {
    table: Table,
    name: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Table {
    Objects,
    Versions,
    Tokens,
    Node,
    Devices,
    Properties,
    Confirmed,
    Spool,
    Subscriptions,
    Targets,
    Mappers,
    Events,
}

// DeviceRow, PropertyRow and ConfirmedRow have not changed their shape since.
#[derive(Debug, Serialize, Deserialize)]
enum Row {
    Object(String),
    Version(u64),
    Token { token: String, issued: i64, expires: i64 },
    Text(String),
    Device(DeviceRow),
    Property(PropertyRow),
    Confirmed(ConfirmedRow),
    Spooled { at: i64, topic: String, payload: Vec<u8> },
}

/// A mapper's JSON.
#[derive(Deserialize)]
struct Mapper {
    #[serde(flatten)]
    info: Info,
    devices: BTreeMap<Id, Digest>,
    models: BTreeMap<Id, Digest>,
}

/// Reads a row of redb.
///
/// # Errors
///
/// What cannot be read.
pub fn read_row(key: &[u8], row: &[u8]) -> Result<(store::Key, store::Row), String> {
    let key: Key = decode(key)?;
    let kept = upgrade_row(&key, decode(row)?)?;
    Ok((upgrade_key(&key)?, kept))
}

/// Reads the changes of a batch.
///
/// # Errors
///
/// What cannot be read.
pub fn read_changes(bytes: &[u8]) -> Result<Vec<Change>, String> {
    let pairs: Vec<(Key, Option<Row>)> = decode(bytes)?;
    let change = |(key, row): (Key, Option<Row>)| {
        let row = row.map(|row| upgrade_row(&key, row)).transpose()?;
        Ok(Change { key: upgrade_key(&key)?, row })
    };
    pairs.into_iter().map(change).collect()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    postcard::from_bytes(record::body(bytes, VERSION)?).map_err(unreadable)
}

fn upgrade_key(key: &Key) -> Result<store::Key, String> {
    let name = key.name.as_str();
    let unknown = || format!("key '{name}' of table {:?} makes no sense", key.table);
    Ok(match key.table {
        Table::Objects => store::Key::Object(name.into()),
        Table::Versions => store::Key::Version(name.into()),
        Table::Tokens => store::Key::Token(token_key(name).ok_or_else(unknown)?),
        Table::Node if name == "registered" => store::Key::Registration,
        Table::Node if name == "lost" => store::Key::StoreLost,
        Table::Node => return Err(unknown()),
        Table::Devices => store::Key::Device(name.into()),
        Table::Properties => {
            let (device, property) = property_key(name).ok_or_else(unknown)?;
            store::Key::Property(device, property)
        }
        Table::Confirmed => {
            let (device, property) = property_key(name).ok_or_else(unknown)?;
            store::Key::Confirmed(device, property)
        }
        Table::Spool => store::Key::Upload(sequence(name).ok_or_else(unknown)?),
        Table::Subscriptions => store::Key::Subscription(name.to_owned()),
        Table::Targets => store::Key::Target(name.to_owned()),
        Table::Mappers => store::Key::Mapper(name.into()),
        Table::Events => store::Key::Event(sequence(name).ok_or_else(unknown)?),
    })
}

/// A text is what its table says.
fn upgrade_row(key: &Key, row: Row) -> Result<store::Row, String> {
    Ok(match row {
        Row::Object(json) => store::Row::Object(json),
        Row::Version(version) => store::Row::Version(version),
        Row::Token { token, issued, expires } => store::Row::Token(TokenRow { token, issued, expires }),
        Row::Text(text) => upgrade_text(key, text)?,
        Row::Device(row) => store::Row::Device(row),
        Row::Property(row) => store::Row::Property(row),
        Row::Confirmed(row) => store::Row::Confirmed(row),
        Row::Spooled { topic, payload, .. } if matches!(key.table, Table::Events) => store::Row::Event(event(&topic, payload)?),
        Row::Spooled { at, topic, payload } => store::Row::Upload(UploadRow { at, topic, payload }),
    })
}

fn upgrade_text(key: &Key, text: String) -> Result<store::Row, String> {
    match (key.table, key.name.as_str()) {
        (Table::Node, "registered") => Ok(store::Row::Registration(text)),
        (Table::Node, "lost") => Ok(store::Row::StoreLost(text)),
        (Table::Subscriptions, _) => Ok(store::Row::Subscription),
        (Table::Targets, _) => Ok(store::Row::Target),
        (Table::Mappers, name) => mapper(&text).map(store::Row::Mapper).map_err(|why| format!("mapper '{name}' cannot be read: {why}")),
        (table, name) => Err(format!("key '{name}' of table {table:?} has a text")),
    }
}

/// `NAMESPACE/ACCOUNT/UID/AUDIENCE/SECONDS`; an audience may have slashes.
fn token_key(name: &str) -> Option<TokenKey> {
    let (rest, seconds) = name.rsplit_once('/')?;
    let [namespace, account, pod, audience] = rest.splitn(4, '/').collect::<Vec<_>>().try_into().ok()?;
    Some(TokenKey {
        pod: pod.into(),
        namespace: namespace.to_owned(),
        account: account.to_owned(),
        audience: audience.to_owned(),
        seconds: seconds.parse().ok()?,
    })
}

/// `NAMESPACE/DEVICE/PROPERTY`; a property's name may have slashes.
fn property_key(name: &str) -> Option<(DeviceId, Text)> {
    let (slash, _) = name.match_indices('/').nth(1)?;
    Some((name[..slash].into(), name[slash + 1..].into()))
}

/// 16 hexadecimal digits.
fn sequence(name: &str) -> Option<Sequence> {
    u64::from_str_radix(name, 16).ok().map(Sequence)
}

/// The topic is `new/NAMESPACE/NAME` or `again/NAMESPACE/NAME`.
fn event(topic: &str, payload: Vec<u8>) -> Result<EventRow, String> {
    let [first, namespace, name] = topic.split('/').collect::<Vec<_>>().try_into().map_err(|_| format!("an event has the name '{topic}'"))?;
    Ok(EventRow {
        is_new: first == "new",
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        event: String::from_utf8(payload).map_err(|_| "an event is no text".to_owned())?,
    })
}

fn mapper(json: &str) -> Result<MapperRow, serde_json::Error> {
    let Mapper { info, devices, models } = serde_json::from_str(json)?;
    Ok(MapperRow { info, devices, models })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(value: &impl Serialize) -> Vec<u8> {
        postcard::to_extend(value, vec![VERSION]).expect("plain data")
    }

    fn upgraded(table: Table, name: &str, row: Row) -> Result<(store::Key, store::Row), String> {
        let key = encode(&Key { table, name: name.to_owned() });
        read_row(&key, &encode(&row))
    }

    fn text(text: &str) -> Row {
        Row::Text(text.to_owned())
    }

    #[test]
    fn every_table_has_a_place_in_the_new_format() {
        let key = TokenKey { pod: "u-1".into(), namespace: "default".into(), account: "sa".into(), audience: "https://vault.example/x".into(), seconds: 3607 };
        let token = || Row::Token { token: "secret".into(), issued: 1, expires: 2 };
        let kept = TokenRow { token: "secret".into(), issued: 1, expires: 2 };
        let name = "default/sa/u-1/https://vault.example/x/3607";
        assert_eq!(upgraded(Table::Tokens, name, token()), Ok((store::Key::Token(key), store::Row::Token(kept))));

        let confirmed = || Row::Confirmed(ConfirmedRow::default());
        let (key, _) = upgraded(Table::Confirmed, "ns/d/a/b", confirmed()).expect("a row");
        assert_eq!(key, store::Key::Confirmed("ns/d".into(), "a/b".into()));

        let queued = || Row::Spooled { at: 7, topic: "again/ns/e".into(), payload: b"{}".to_vec() };
        let event = EventRow { is_new: false, namespace: "ns".into(), name: "e".into(), event: "{}".into() };
        let upload = UploadRow { at: 7, topic: "again/ns/e".into(), payload: b"{}".to_vec() };
        let number = "00000000000000ff";
        assert_eq!(upgraded(Table::Events, number, queued()), Ok((store::Key::Event(Sequence(255)), store::Row::Event(event))));
        assert_eq!(upgraded(Table::Spool, number, queued()), Ok((store::Key::Upload(Sequence(255)), store::Row::Upload(upload))));

        let json = r#"{"protocol":"modbus","socket":"/s","version":"1","api_version":"v1","devices":{"ns/d":5},"models":{}}"#;
        let (key, row) = upgraded(Table::Mappers, "m", text(json)).expect("a row");
        assert!(matches!(&row, store::Row::Mapper(mapper) if mapper.info.socket == "/s" && mapper.devices.len() == 1));
        assert_eq!(key, store::Key::Mapper("m".into()));

        for (table, name, row, key) in [
            (Table::Node, "registered", text("u"), store::Key::Registration),
            (Table::Node, "lost", text("why"), store::Key::StoreLost),
            (Table::Subscriptions, "a/+", text(""), store::Key::Subscription("a/+".into())),
            (Table::Targets, "/x", text(""), store::Key::Target("/x".into())),
            (Table::Objects, "ns/pod/p", Row::Object("{}".into()), store::Key::Object("ns/pod/p".into())),
            (Table::Versions, "ns/pod/p", Row::Version(3), store::Key::Version("ns/pod/p".into())),
            (Table::Devices, "ns/d", Row::Device(DeviceRow::default()), store::Key::Device("ns/d".into())),
        ] {
            let (upgraded, row) = upgraded(table, name, row).expect("a row");
            assert_eq!(upgraded, key);
            assert!(store::Rows::new(vec![(upgraded, row)]).is_ok(), "{key:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_by_name() {
        for (table, name, row) in [
            (Table::Node, "other", text("")),
            (Table::Tokens, "a/b/c", text("")),
            (Table::Properties, "ns/d", text("")),
            (Table::Objects, "ns/pod/p", text("")),
            (Table::Spool, "xyz", Row::Version(1)),
            (Table::Mappers, "m", text("{")),
        ] {
            let why = upgraded(table, name, row).expect_err(name);
            assert!(why.contains(name), "{why}");
        }
        assert!(read_row(&[2, 0], &[1]).is_err() && read_changes(&[]).is_err());
    }
}
