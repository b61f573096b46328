//! Mappers: who registered, which of them has which device, who must be told
//! what next. Want (the cluster's devices and models), seen (what each mapper
//! was told), plan (the difference, one call at a time for each mapper). Not
//! what reported values mean.
//!
//! ```text
//! MapperRegister -> Mapper { told } <- its share <- owner() <- devices, models
//!                      | plan: told against share
//!                      v
//!                Call -> answered -> told, or tried again later
//! ```
//!
//! A mapper that registers has forgotten what it knew: with `withData` the
//! answer is all it must know, without it is told one by one. What a mapper was
//! told is on disk, so after the agent's restart it hears only what is new.

mod mapper;
mod owner;
mod rate;
pub mod report;
mod told;
mod want;

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::chance::Chance;
use super::dmi::{Ask, Call, Code, MapperFailure, Order, Refusal, Reply};
use super::ids::{CallId, MapperName};
use super::now::{Mono, Now};
use super::packed::Packed;
use super::store::{Change, Key, Row};
use crate::wire::dmi::{MapperInfo, MapperRegisterRequest, MapperRegisterResponse, NameRequest};
use crate::wire::resource::Resource;
use mapper::{Condition, Mapper, Step, UnderWay};
pub use mapper::{Info, MapperRow};
use owner::Candidate;
use rate::Bucket;
use report::Report;
use told::{Item, Told, Verb};
use want::Wanted;
pub use want::{Digest, Id};

/// More than any node has; beyond it somebody registers again and again.
const MOST: usize = 100;
/// Longest name of a mapper or a protocol, bytes.
const NAME: usize = 253;

/// All mappers of the node.
#[derive(Debug)]
pub struct Mappers {
    rate: u32,
    mappers: BTreeMap<MapperName, Mapper>,
    wanted: Wanted,
    owners: BTreeMap<Id, MapperName>,
    /// For reports of devices that are nobody's.
    strays: Bucket,
    orders: VecDeque<Order>,
    last_call: CallId,
    changes: Vec<Change>,
    stirred: bool,
}

/// What follows from what a mapper asked.
#[derive(Debug)]
pub enum Asked {
    /// Its answer, due when [`Mappers::changes`] are on disk.
    Registered(Reply),
    /// A report, to be answered.
    Report(Report),
    /// Nothing beside this answer.
    Refused(Refusal),
}

impl Mappers {
    /// The mappers that the disk knows; each may ask `rate` times a second.
    pub fn load(rate: u32, rows: Vec<(MapperName, MapperRow)>) -> Self {
        let restored = rows.into_iter().map(|(name, row)| (name, Mapper::restored(row)));
        let mappers: BTreeMap<MapperName, Mapper> = restored.collect();
        let owners = mappers.iter().flat_map(|(name, mapper)| mapper.told.devices().map(|id| (id.clone(), name.clone()))).collect();
        Self {
            rate,
            mappers,
            wanted: Wanted::default(),
            owners,
            strays: Bucket::FULL,
            orders: VecDeque::new(),
            last_call: CallId::default(),
            changes: Vec::new(),
            stirred: true,
        }
    }

    /// Devices or models of the cluster changed.
    pub fn stir(&mut self) {
        self.stirred = true;
    }

    /// Whether nobody is registered: then nobody need be told anything.
    pub fn is_empty(&self) -> bool {
        self.mappers.is_empty()
    }

    /// Whether [`Mappers::learn`] would find something new.
    pub fn is_stirred(&self) -> bool {
        self.stirred
    }

    /// The cluster's devices and models as they are now.
    pub fn learn(&mut self, devices: impl Iterator<Item = (Resource, Packed)>, models: impl Iterator<Item = (Resource, Packed)>) {
        self.stirred = false;
        self.wanted.learn(devices, models);
        self.share_out();
    }

    /// A mapper asks.
    pub fn asked(&mut self, now: Now, ask: Ask) -> Asked {
        let answer = match ask {
            Ask::Register(request) => self.register(now.mono, request).map(|response| Asked::Registered(Reply::Registered(response))),
            Ask::ReportStatus(request) => Report::values(request).map(Asked::Report),
            Ask::ReportStates(request) => Report::state(request).map(Asked::Report),
        };
        match answer {
            Ok(Asked::Report(report)) if !self.may_ask(now.mono, report.device()) => Asked::Refused(Refusal {
                code: Code::ResourceExhausted,
                message: format!("device '{}': its mapper reports more than {} times a second", report.device(), self.rate),
            }),
            Ok(asked) => asked,
            Err(refusal) => Asked::Refused(refusal),
        }
    }

    /// Answers a mapper.
    pub fn answer(&mut self, call: CallId, answer: Result<Reply, Refusal>) {
        self.orders.push_back(Order::Answer(call, answer));
    }

    /// A call to a mapper ended.
    pub fn answered(&mut self, now: Now, call: CallId, result: Result<(), MapperFailure>, chance: &mut Chance) {
        let Some((name, mapper)) = self.mappers.iter_mut().find(|(_, mapper)| mapper.call.as_ref().is_some_and(|under_way| under_way.id == call)) else {
            return;
        };
        let Some(under_way) = mapper.call.take() else { return };
        let (was, was_lost) = (mapper.condition, mapper.is_lost());
        if let Err(why) = &result {
            tell_failure(name, mapper, &under_way.step, why);
        }
        if mapper.ended(now.mono, &under_way, result, chance.luck()) {
            self.changes.push(Change::set(Key::Mapper(name.clone()), Row::Mapper(mapper.row())));
        }
        if matches!(was, Condition::Down { .. }) && mapper.condition == Condition::Up {
            log::info!(target: "dmi", "mapper '{name}' answers again");
        }
        if was_lost != mapper.is_lost() {
            self.share_out();
        }
    }

    /// Lets every mapper that is free be told the next thing.
    pub fn work(&mut self, now: Now) {
        for (name, mapper) in &mut self.mappers {
            while let Some(step) = mapper.step(now.mono) {
                let digest = match &step {
                    Step::Tell(_, item) => mapper.share.items.get(item).copied().flatten(),
                    Step::Probe => None,
                };
                let Some(what) = call(&self.wanted, &step) else {
                    // It changed into something that cannot be told; looked at
                    // again when it changes.
                    mapper.due = None;
                    break;
                };
                self.last_call = self.last_call.next();
                mapper.call = Some(UnderWay { id: self.last_call, step, digest });
                self.orders.push_back(Order::Call { call: self.last_call, mapper: name.clone(), socket: mapper.info.socket.clone(), what: Box::new(what) });
            }
        }
    }

    /// The next thing for the shell.
    pub fn poll(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Rows to write.
    pub fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// When some mapper may be called again.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        self.mappers.values().filter(|mapper| mapper.call.is_none()).filter_map(|mapper| mapper.due).min().map(|due| (due, "a mapper is told"))
    }

    /// For people: one object for each mapper.
    pub fn rows(&self) -> impl Iterator<Item = Value> {
        self.mappers.iter().map(|(name, mapper)| {
            let state = match mapper.condition {
                Condition::Unknown => "unknown",
                Condition::Up => "up",
                Condition::Down { .. } => "down",
            };
            json!({
                "name": name.as_str(), "protocol": mapper.info.protocol, "version": mapper.info.version, "socket": mapper.info.socket, "state": state,
                "devices": mapper.share.models.len(), "told": mapper.told.surely().filter(|(item, _)| matches!(item, Item::Device(_))).count(),
                "last_error": mapper.last_error,
            })
        })
    }

    fn register(&mut self, now: Mono, request: MapperRegisterRequest) -> Result<MapperRegisterResponse, Refusal> {
        let (name, info) = identify(request.mapper.ok_or_else(|| Refusal::invalid("mapper: missing"))?)?;
        if !self.mappers.contains_key(&name) && self.mappers.len() >= MOST {
            return Err(Refusal { code: Code::ResourceExhausted, message: format!("{MOST} mappers are registered already") });
        }
        if !self.mappers.get_mut(&name).is_none_or(|known| known.bucket.take(now, self.rate)) {
            return Err(Refusal { code: Code::ResourceExhausted, message: format!("mapper '{name}' registers more than {} times a second", self.rate) });
        }
        log::info!(target: "dmi", "mapper '{name}' {} registers for protocol '{}' at '{}'", info.version, info.protocol, info.socket);
        let bucket = self.mappers.get(&name).map_or(Bucket::FULL, |known| known.bucket);
        for rival in self.mappers.values_mut().filter(|other| other.info.protocol == info.protocol) {
            // It may be the one that this one replaces.
            rival.condition = if rival.is_lost() { rival.condition } else { Condition::Unknown };
            rival.due = Some(now);
        }
        let mut mapper = Mapper::new(info, Told::begin(std::iter::empty()), Condition::Up);
        mapper.bucket = bucket;
        self.mappers.insert(name.clone(), mapper);
        self.share_out();
        let mut response = MapperRegisterResponse::default();
        if let Some(mapper) = self.mappers.get_mut(&name) {
            if request.with_data {
                response = all(&self.wanted, mapper);
            }
            mapper.due = Some(now);
            self.changes.push(Change::set(Key::Mapper(name.clone()), Row::Mapper(mapper.row())));
        }
        Ok(response)
    }

    /// Whether the mapper of a device may report now.
    fn may_ask(&mut self, now: Mono, device: &str) -> bool {
        let bucket = self.owners.get(device).and_then(|name| self.mappers.get_mut(name)).map_or(&mut self.strays, |mapper| &mut mapper.bucket);
        bucket.take(now, self.rate)
    }

    /// Says whose each device is, and what each mapper shall know by that.
    fn share_out(&mut self) {
        let mut candidates: BTreeMap<&str, Vec<Candidate<'_>>> = BTreeMap::new();
        for (name, mapper) in &self.mappers {
            candidates.entry(&mapper.info.protocol).or_default().push(Candidate { name, lost: mapper.is_lost() });
        }
        let whose = |(id, device): (&Id, &want::WantedDevice)| {
            let name = owner::owner(id, self.owners.get(id), candidates.get(device.protocol.as_str())?)?;
            Some((id.clone(), name.clone()))
        };
        let owners: BTreeMap<Id, MapperName> = self.wanted.devices.iter().filter_map(whose).collect();
        let crowded: Vec<String> = candidates.into_iter().filter(|(_, all)| all.len() > 1).map(|(protocol, _)| protocol.to_owned()).collect();
        self.owners = owners;
        for mapper in self.mappers.values_mut() {
            mapper.share = told::Share::default();
            mapper.rivals = crowded.contains(&mapper.info.protocol);
            // A pause goes on, if there is one.
            mapper.due = mapper.due.or(Some(Mono(0)));
        }
        for (id, name) in &self.owners {
            let (Some(device), Some(mapper)) = (self.wanted.devices.get(id), self.mappers.get_mut(name)) else { continue };
            mapper.share.models.insert(id.clone(), device.model.clone());
            mapper.share.items.insert(Item::Device(id.clone()), device.digest.as_ref().ok().copied());
            if let Some(model) = self.wanted.models.get(&device.model) {
                mapper.share.items.insert(Item::Model(device.model.clone()), Some(model.digest));
            }
        }
    }
}

/// All that a mapper shall know, and it knows it by this.
fn all(wanted: &Wanted, mapper: &mut Mapper) -> MapperRegisterResponse {
    let ready: Vec<(&Id, Digest)> = mapper
        .share
        .items
        .iter()
        .filter_map(|(item, digest)| Some((item, (*digest)?)))
        .filter_map(|(item, digest)| match item {
            Item::Device(id) => Some((id, digest)),
            Item::Model(_) => None,
        })
        .collect();
    // mapper-framework drops models that come without a device.
    let models: BTreeMap<&Id, Digest> =
        ready.iter().filter_map(|(id, _)| mapper.share.models.get(*id)).filter_map(|id| Some((id, wanted.models.get(id)?.digest))).collect();
    let response = MapperRegisterResponse {
        model_list: models.keys().filter_map(|id| wanted.model(id)).collect(),
        device_list: ready.iter().filter_map(|(id, _)| wanted.device(id)).collect(),
    };
    let told =
        models.iter().map(|(id, digest)| (Item::Model((*id).clone()), *digest)).chain(ready.iter().map(|(id, digest)| (Item::Device((*id).clone()), *digest)));
    mapper.told = Told::begin(told.collect::<Vec<_>>().into_iter());
    response
}

/// The call for a step; `None` when there is nothing to tell.
fn call(wanted: &Wanted, step: &Step) -> Option<Call> {
    let named = |id: &Id| {
        let (namespace, name) = id.split_once('/').unwrap_or(("", id));
        NameRequest { name: name.to_owned(), namespace: namespace.to_owned() }
    };
    Some(match step {
        Step::Probe => Call::Probe,
        Step::Tell(Verb::Add, Item::Model(id)) => Call::CreateDeviceModel(wanted.model(id)?),
        Step::Tell(Verb::Add, Item::Device(id)) => Call::RegisterDevice(wanted.device(id)?),
        Step::Tell(Verb::Change, Item::Model(id)) => Call::UpdateDeviceModel(wanted.model(id)?),
        Step::Tell(Verb::Change, Item::Device(id)) => Call::UpdateDevice(wanted.device(id)?),
        Step::Tell(Verb::Remove, Item::Model(id)) => Call::RemoveDeviceModel(named(id)),
        Step::Tell(Verb::Remove, Item::Device(id)) => Call::RemoveDevice(named(id)),
    })
}

fn tell_failure(name: &MapperName, mapper: &Mapper, step: &Step, why: &MapperFailure) {
    match (why, step) {
        (MapperFailure::Refused { .. }, Step::Tell(_, item)) => log::warn!(target: "dmi", "mapper '{name}' refuses {item}: {why}"),
        (MapperFailure::Refused { .. }, Step::Probe) => {}
        (MapperFailure::Unreachable(_) | MapperFailure::Silent(_), _) if mapper.last_error.is_none() => log::warn!(target: "dmi", "mapper '{name}': {why}"),
        (MapperFailure::Unreachable(_) | MapperFailure::Silent(_), _) => log::debug!(target: "dmi", "mapper '{name}': {why}"),
    }
}

/// Who registers.
fn identify(mapper: MapperInfo) -> Result<(MapperName, Info), Refusal> {
    for (field, text) in [("mapper.name", &mapper.name), ("mapper.protocol", &mapper.protocol)] {
        if text.is_empty() {
            return Err(Refusal::invalid(format!("{field}: missing")));
        }
        if text.len() > NAME {
            return Err(Refusal::invalid(format!("{field}: longer than {NAME} bytes")));
        }
    }
    let address = String::from_utf8(mapper.address).unwrap_or_default();
    let socket = address.strip_prefix("unix://").unwrap_or(&address).to_owned();
    if !socket.starts_with('/') || socket.len() > NAME {
        return Err(Refusal::invalid("mapper.address: the absolute path of a unix socket was expected"));
    }
    let short = |text: &str| text.chars().take(NAME).collect::<String>();
    let info = Info { protocol: mapper.protocol, socket, version: short(&mapper.version), api_version: short(&mapper.api_version) };
    Ok((mapper.name.into(), info))
}

#[cfg(test)]
mod tests;
