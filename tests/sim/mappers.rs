//! Mappers that take calls, as Go's mapper-framework does.

use std::collections::{BTreeMap, BTreeSet};

use selvedge::node::dmi::{Call, Order};
use selvedge::node::ids::MapperName;
use selvedge::node::input::Input;

/// All mappers beside the node.
#[derive(Debug, Default)]
pub struct Mappers {
    /// Questions of mappers that the node answered well.
    pub answers: usize,
    /// Devices that each mapper has, by namespace and name.
    pub devices: BTreeMap<MapperName, BTreeSet<(String, String)>>,
}

impl Mappers {
    /// Takes an order of the node; what the node hears of it.
    pub fn obey(&mut self, order: Order) -> Option<Input> {
        match order {
            Order::Answer(_, answer) => {
                self.answers += usize::from(answer.is_ok());
                None
            }
            Order::Call { call, mapper, what, .. } => {
                self.called(mapper, *what);
                Some(Input::MapperAnswered(call, Ok(())))
            }
        }
    }

    fn called(&mut self, mapper: MapperName, call: Call) {
        let devices = self.devices.entry(mapper).or_default();
        match call {
            Call::RegisterDevice(device) | Call::UpdateDevice(device) => {
                devices.insert((device.namespace, device.name));
            }
            Call::RemoveDevice(device) => {
                let was_there = devices.remove(&(device.namespace, device.name.clone()));
                assert!(was_there, "mapper-framework ends when device '{}', which it does not have, is removed", device.name);
            }
            Call::CreateDeviceModel(_) | Call::UpdateDeviceModel(_) | Call::RemoveDeviceModel(_) | Call::Probe => {}
        }
    }
}
