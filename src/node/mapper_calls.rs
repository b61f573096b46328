//! Mappers between cluster and twins: what one machine needs of another is
//! passed on here.

use std::collections::BTreeMap;

use super::Node;
use super::cluster::Held;
use super::dmi::{Ask, Code, Refusal, Reply};
use super::ids::CallId;
use super::mappers::Asked;
use super::mappers::report::{Report, ReportedProperty, StateReport, TwinReport};
use super::now::Now;
use super::twin::{self, Author, Kind, Wanted};
use crate::wire::resource::kind;

impl Node {
    /// A mapper asks.
    pub(super) fn mapper_asked(&mut self, now: Now, call: CallId, ask: Ask) {
        self.learn_devices();
        match self.mappers.asked(now, ask) {
            Asked::Registered(reply) => {
                self.write_mappers();
                self.answer_when_safe(call, reply);
                self.tell_mappers(now);
            }
            Asked::Report(report) => match self.report_from_mapper(now, report) {
                Ok(reply) => self.answer_when_safe(call, reply),
                Err(refusal) => self.refuse_mapper(call, refusal),
            },
            Asked::Refused(refusal) => self.refuse_mapper(call, refusal),
        }
    }

    fn refuse_mapper(&mut self, call: CallId, refusal: Refusal) {
        self.count("refused_mapper_calls");
        self.mappers.answer(call, Err(refusal));
    }

    /// Disk before deed: a mapper that was answered is not forgotten, nor is what
    /// it said. But one that gets no answer ends, so it is answered while the
    /// disk takes nothing.
    fn answer_when_safe(&mut self, call: CallId, reply: Reply) {
        match self.disk.unsettled().filter(|_| self.disk.trouble.is_none()) {
            Some(ticket) => self.disk.hold(ticket, Held::Mapper(call, reply)),
            None => self.mappers.answer(call, Ok(reply)),
        }
    }

    /// Values or a state of a device.
    fn report_from_mapper(&mut self, now: Now, report: Report) -> Result<Reply, Refusal> {
        match report {
            Report::Twins(TwinReport { device, properties }) => {
                let wanted: BTreeMap<String, Option<Wanted>> = properties.into_iter().map(wanted).collect();
                self.set_properties(now, &device, wanted, Author::Mapper).map_err(|why| refusal(&device, &why))?;
            }
            Report::State(StateReport { device, state }) => {
                let effects = self.twins.mapper_state(now, &device, &state).map_err(|why| refusal(&device, &why))?;
                self.carry_out(effects, None);
            }
        }
        Ok(Reply::Taken)
    }

    /// Mappers hear what is new.
    pub(super) fn tell_mappers(&mut self, now: Now) {
        if self.mappers.is_empty() {
            return;
        }
        self.learn_devices();
        self.mappers.work(now);
        self.write_mappers();
    }

    fn write_mappers(&mut self) {
        let changes = self.mappers.changes();
        if !changes.is_empty() {
            self.disk.join(changes);
        }
    }

    fn learn_devices(&mut self) {
        if self.mappers.is_stirred() {
            self.mappers.learn(self.meta.all(kind::DEVICE), self.meta.all(kind::DEVICE_MODEL));
        }
    }
}

/// A type that nobody knows is none: EdgeCore never looked at it.
fn wanted(property: ReportedProperty) -> (String, Option<Wanted>) {
    let ReportedProperty { name, expected, actual, kind } = property;
    let kind = kind.filter(|kind| Kind::parse(kind).is_some());
    (name, Some(Wanted { expected, actual, kind, ..Wanted::default() }))
}

fn refusal(device: &str, why: &twin::Refusal) -> Refusal {
    let code = if why.code == 404 { Code::NotFound } else { Code::InvalidArgument };
    Refusal { code, message: format!("device '{device}': {}", why.reason) }
}
