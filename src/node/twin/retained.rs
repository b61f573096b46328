//! A report that the broker kept and sends because of a new subscription: the
//! last one of its topic, however old. It says what is not known yet and
//! overrides nothing.
//!
//! Its own time is no help. EdgeCore ignores the times of requests (devices.md
//! 2.6), clocks of devices are wrong, and a report of a clock that is ahead
//! would come back with every start of the agent. So a value that is there
//! stays, and one that somebody removed stays removed: both were said since,
//! or this very report was heard then. Nobody waits for an answer either.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::device::{Attribute, Device};
use super::request::{self, Request, Wanted};
use super::{Effects, Twins, members};
use crate::node::ids::DeviceId;
use crate::node::now::Now;
use crate::wire::topic::Verb;

/// Bytes of reports that may wait for their devices.
const ROOM: usize = 256 << 10;

/// Reports of devices that are not here yet. The broker sends what it kept once,
/// when the agent subscribes, and on a new node that is before the cloud has told
/// of any device.
#[derive(Debug, Default)]
pub struct Early {
    reports: VecDeque<Report>,
    bytes: usize,
}

#[derive(Debug)]
struct Report {
    id: DeviceId,
    named: String,
    verb: Verb,
    payload: Vec<u8>,
}

impl Report {
    fn weight(&self) -> usize {
        self.id.as_str().len() + self.named.len() + self.payload.len() + 64
    }
}

impl Early {
    /// Keeps a report; of too many the oldest goes.
    fn keep(&mut self, report: Report) {
        drop(self.take(|other| other.id == report.id && other.verb == report.verb));
        self.bytes += report.weight();
        self.reports.push_back(report);
        while self.bytes > ROOM
            && let Some(oldest) = self.reports.pop_front()
        {
            self.bytes -= oldest.weight();
        }
    }

    fn take(&mut self, wanted: impl Fn(&Report) -> bool) -> Vec<Report> {
        let (taken, left): (Vec<Report>, Vec<Report>) = std::mem::take(&mut self.reports).into_iter().partition(wanted);
        self.reports = left.into();
        self.bytes -= taken.iter().map(Report::weight).sum::<usize>();
        taken
    }
}

impl Twins {
    /// A device is here now: what it said before.
    pub(super) fn recall(&mut self, now: Now, id: &DeviceId, effects: &mut Effects) {
        for report in self.early.take(|report| report.id == *id) {
            let said = self.recalled(now, id.as_str(), &report.named, report.verb, &report.payload);
            effects.changes.extend(said.changes);
            effects.publications.extend(said.publications);
            effects.at_once.extend(said.at_once);
        }
    }

    /// A message came by the broker: a device says something, or is asked.
    pub fn heard(&mut self, now: Now, id: &str, named: &str, verb: Verb, payload: &[u8], retained: bool) -> Effects {
        match verb {
            Verb::TwinUpdate | Verb::CloudUpdated | Verb::StateUpdate | Verb::Attributes if retained => self.recalled(now, id, named, verb, payload),
            // Who has a question kept gets an answer whenever it comes.
            Verb::TwinUpdate | Verb::CloudUpdated | Verb::StateUpdate | Verb::Attributes | Verb::TwinGet => self.said(now, id, named, verb, payload),
        }
    }

    fn recalled(&mut self, now: Now, id: &str, named: &str, verb: Verb, payload: &[u8]) -> Effects {
        let mut effects = Effects::default();
        let Some(device) = self.get(id) else {
            self.early.keep(Report { id: DeviceId::from(id), named: named.to_owned(), verb, payload: payload.to_vec() });
            return effects;
        };
        let done = match verb {
            Verb::TwinUpdate | Verb::CloudUpdated => match Request::read(payload) {
                Ok(request) => self.recalled_values(now, id, named, verb, request, &mut effects),
                Err(why) => Err(why),
            },
            Verb::StateUpdate if device.row.state.is_empty() => self.state_update(now, id, named, payload, &mut effects),
            Verb::Attributes => {
                self.recalled_attributes(now, id, payload, &mut effects);
                Ok(())
            }
            Verb::StateUpdate | Verb::TwinGet => Ok(()),
        };
        if let Err(why) = done {
            log::debug!(target: "devicetwin", "a retained report of device '{id}' is ignored: {}", why.reason);
        }
        effects
    }

    fn recalled_values(&mut self, now: Now, id: &str, named: &str, verb: Verb, mut request: Request, effects: &mut Effects) -> Result<(), request::Refusal> {
        if let Some(device) = self.get(id) {
            keep_unknown(device, &mut request.properties.wanted);
        }
        self.admit(id, &mut request.properties);
        if request.properties.wanted.is_empty() {
            return Ok(());
        }
        match verb {
            Verb::CloudUpdated => self.sync(now, &DeviceId::from(id), &request.event, &request.properties.wanted, effects),
            Verb::TwinUpdate | Verb::TwinGet | Verb::StateUpdate | Verb::Attributes => {
                (*effects, _) = self.update(now, id, named, &request.event, &request.properties, super::Author::Edge)?;
            }
        }
        Ok(())
    }

    fn recalled_attributes(&mut self, now: Now, id: &str, payload: &[u8], effects: &mut Effects) {
        let Ok((object, event)) = request::event(payload) else { return };
        let wanted = request::member(&object, "attributes").and_then(Value::as_object).map(members::attributes);
        let (Some(Ok(wanted)), Some(device)) = (wanted, self.get(id)) else { return };
        let unknown = |name: &String, wanted: &Option<Attribute>| wanted.is_some() && !device.row.attributes.contains_key(name);
        let wanted: BTreeMap<_, _> = wanted.into_iter().filter(|(name, wanted)| unknown(name, wanted)).collect();
        self.put_attributes(now, &DeviceId::from(id), &event, &wanted, effects);
    }
}

/// Leaves only values of which there is none yet.
fn keep_unknown(device: &Device, wanted: &mut BTreeMap<String, Option<Wanted>>) {
    wanted.retain(|name, wanted| {
        let Some(wanted) = wanted else { return false };
        let Some(known) = device.property(name) else { return true };
        wanted.expected.take_if(|_| known.expected.is_some() || !known.is_live());
        wanted.actual.take_if(|_| known.actual.is_some() || !known.is_live());
        wanted.optional = None;
        wanted.expected.is_some() || wanted.actual.is_some()
    });
}

#[cfg(test)]
mod tests {
    use super::super::property::{Part, Property, Version};
    use super::super::value::Kind;
    use super::*;

    #[test]
    fn reports_of_no_device_are_bounded_and_the_newest_of_each_waits() {
        let mut early = Early::default();
        let report = |number: usize, size: usize| {
            let id = DeviceId::from(format!("ns/d{number}"));
            Report { named: id.as_str().to_owned(), id, verb: Verb::TwinUpdate, payload: vec![1; size] }
        };
        early.keep(report(1, 10));
        early.keep(report(1, 20));
        assert_eq!(early.take(|_| true).iter().map(|report| report.payload.len()).collect::<Vec<_>>(), [20]);
        (0..100).for_each(|number| early.keep(report(number, 10_000)));
        assert!(early.bytes <= ROOM && early.reports.len() == 26, "{} reports", early.reports.len());
        early.keep(report(1000, 1 << 20));
        assert_eq!((early.bytes, early.reports.len()), (0, 0));
    }

    #[test]
    fn only_what_is_not_known_is_news() {
        let mut device = Device::new("d");
        let part = Some(Part { value: "5".into(), at: 1.into(), version: Version::default() });
        device.property_or("a", || Property::new("a", Kind::Int, true)).actual.clone_from(&part);
        device.property_or("e", || Property::new("e", Kind::Int, true)).expected.clone_from(&part);
        let gone = device.property_or("gone", || Property::new("gone", Kind::Int, true));
        gone.actual = part;
        gone.bury(2);
        let text = r#"{"a":{"actual":{"value":"7"},"expected":{"value":"8"}},"e":{"expected":{"value":"9"},"optional":false},
            "gone":{"actual":{"value":"1"}},"null":null,"new":{"actual":{"value":"2"}}}"#;
        let twin: Value = serde_json::from_str(text).expect("JSON");
        let mut wanted = request::Properties::read(twin.as_object().expect("an object")).wanted;
        keep_unknown(&device, &mut wanted);
        let left: Vec<&str> = wanted.keys().map(String::as_str).collect();
        assert_eq!(left, ["a", "new"]);
        let a = wanted["a"].as_ref().expect("it is wanted");
        assert_eq!((a.actual.as_deref(), a.expected.as_deref()), (None, Some("8")));
    }
}
