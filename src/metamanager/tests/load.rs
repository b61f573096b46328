//! What a first load of many devices writes: pages, as a kernel counts them in
//! `/proc/PID/io`.

use serde_json::{Value, json};

use super::faults::{Memory, PAGE};
use super::*;
use crate::node::chance::Chance;
use crate::node::ids::{DeviceId, ObjectName};
use crate::node::twin::{ConfirmedRow, DeviceRow, Kind, Part, PropertyRow, Text, Version};

const DEVICES: usize = 2000;
const PROPERTIES: usize = 10;

/// What the node stores of a Device object when it comes.
fn device(number: usize) -> Vec<Change> {
    let name = format!("dev-{number}");
    let desired = json!({ "value": "20", "metadata": { "type": "string" } });
    let property = |number| json!({ "name": property(number), "desired": desired, "reportToCloud": true });
    let properties: Vec<Value> = (0..PROPERTIES).map(property).collect();
    let object = json!({
        "metadata": { "name": name, "namespace": "default", "uid": format!("{number:036}") },
        "spec": { "nodeName": "live", "properties": properties }
    });
    let row = DeviceRow { name: name.as_str().into(), ..DeviceRow::default() };
    let object_name = ObjectName::from(format!("default/device/{name}"));
    let mut changes = vec![
        Change::set(Key::Object(object_name.clone()), Row::Object(object.to_string())),
        Change::set(Key::Version(object_name), Row::Version(1000)),
        Change::set(Key::Device(id(number)), Row::Device(row)),
    ];
    let key = |property| Key::Property(id(number), property_name(property));
    changes.extend((0..PROPERTIES).map(|of| Change::set(key(of), Row::Property(desired_row()))));
    changes
}

fn desired_row() -> PropertyRow {
    let version = Version { cloud: 1, edge: 0 };
    let expected = Part { value: "20".into(), at: 1_795_392_000_000.into(), version };
    let wished = Some("20".into());
    PropertyRow { kind: Kind::String, optional: true, expected: Some(expected), actual: None, wished }
}

fn property(number: usize) -> String {
    format!("property-{number}")
}

fn property_name(number: usize) -> Text {
    property(number).as_str().into()
}

fn id(number: usize) -> DeviceId {
    format!("default/dev-{number}").into()
}

/// What it stores once the cloud has heard of them.
fn confirmed(number: usize) -> Vec<Change> {
    let row = ConfirmedRow { expected: Some(Version { cloud: 1, edge: 0 }), actual: None };
    let key = |property| Key::Confirmed(id(number), property_name(property));
    (0..PROPERTIES).map(|property| Change::set(key(property), Row::Confirmed(row))).collect()
}

fn shuffled() -> Vec<usize> {
    let mut order: Vec<usize> = (0..DEVICES).collect();
    let mut chance = Chance::new(7);
    for at in (1..DEVICES).rev() {
        order.swap(at, usize::try_from(chance.draw()).expect("64 bits") % (at + 1));
    }
    order
}

/// What was written, and what is there at the end; bytes.
struct Figures {
    journal: u64,
    redb: u64,
    size: u64,
}

/// All devices come in an order, so many in each group, and are confirmed.
fn load(order: &[usize], group: usize) -> Figures {
    let memory = Memory::with_ring(1 << 20);
    let (mut store, _) = Store::open(memory.clone()).expect("a new store");
    let all_confirmed = |some: &[usize]| some.iter().flat_map(|number| confirmed(*number)).collect();
    let confirmed = order.chunks(51).map(all_confirmed);
    let all = order.iter().map(|number| device(*number)).chain(confirmed);
    let batch = |(ticket, changes)| Batch { ticket, changes };
    let batches: Vec<Batch> = (1..).map(Ticket).zip(all).map(batch).collect();
    for some in batches.chunks(group) {
        assert_eq!(store.write(some).0, some.len());
    }
    store.fold().expect("room");
    drop(store);
    let [journal, redb] = memory.written();
    let size = memory.size();
    let (_, restored) = Store::open(memory).expect("the store");
    assert_eq!((restored.rows.devices.len(), restored.rows.confirmed.len()), (DEVICES, DEVICES * PROPERTIES));
    Figures { journal, redb, size }
}

#[test]
fn a_first_load_writes_less_than_twice_the_store() {
    let in_order: Vec<usize> = (0..DEVICES).collect();
    for (what, order) in [("in order", in_order), ("shuffled", shuffled())] {
        let Figures { journal, redb, size } = load(&order, 100);
        assert!(journal + redb < 2 * size, "{what}: {journal} and {redb} for {size}");
        // CloudCore sends the next object when the last is acknowledged: that is a sync
        // for each, and a sync is a page. There is no more than that.
        let Figures { journal, redb, size } = load(&order, 1);
        let pages = journal / PAGE - DEVICES as u64;
        assert!(pages < DEVICES as u64 / 5, "{what}: {pages} pages of the journal more than there are devices");
        assert!(redb < size * 5 / 4, "{what}: {redb} for {size}");
    }
}
