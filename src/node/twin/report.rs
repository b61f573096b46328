//! What the cloud has not confirmed of devices, and when it is told: the newest
//! value of each property, one message of a device at a time, again with a
//! growing wait until it is confirmed. Never more a second than configured.
//!
//! Source: devices.md 2.7, 2.12, 3.4.

use std::collections::VecDeque;
use std::time::Duration;

use super::device::Device;
use super::property::{ConfirmedRow, Version};
use super::say::Parts;
use super::value::Text;
use crate::node::backoff::Backoff;
use crate::node::ids::{DeviceId, Ticket};
use crate::node::now::Mono;

/// Reports under way at once.
const WINDOW: usize = 16;
/// So much of the rate may be used at once.
const BURST: Duration = Duration::from_secs(1);
/// First wait after a report that was not confirmed, and the longest.
const WAIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// How a device's reports stand.
#[derive(Debug, Clone, Copy)]
pub struct Reporting {
    queued: bool,
    under_way: bool,
    again: Backoff,
    /// Not before this instant.
    not_before: Mono,
}

impl Default for Reporting {
    fn default() -> Self {
        Self { queued: false, under_way: false, again: Backoff::new(WAIT.0, WAIT.1), not_before: Mono(0) }
    }
}

/// A report that was sent: what its confirmation confirms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Of which device.
    pub device: DeviceId,
    /// What of it.
    pub what: What,
}

/// What a report was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The state.
    State(Text),
    /// Values, by property, with their versions.
    Values(Vec<(Text, ConfirmedRow)>),
}

/// Which devices have something to tell, in order, and how fast.
#[derive(Debug)]
pub struct Reports {
    due: VecDeque<DeviceId>,
    under_way: usize,
    /// Between two messages.
    pace: Duration,
    /// Until when the messages sent so far use up the rate.
    paid_until: Mono,
    /// When the next may be sent, if that is a matter of time.
    next_at: Option<Mono>,
}

impl Reports {
    /// At most `rate` messages a second, a second's worth of them at once.
    pub fn new(rate: u32) -> Self {
        Self { due: VecDeque::new(), under_way: 0, pace: Duration::from_secs(1) / rate, paid_until: Mono(0), next_at: None }
    }

    /// A device has something to tell.
    pub fn queue(&mut self, id: &DeviceId, device: &mut Device) {
        if !device.reporting.queued && !device.reporting.under_way && has_news(device) {
            device.reporting.queued = true;
            self.due.push_back(id.clone());
        }
    }

    /// The next device that may tell something now. What is not on disk waits
    /// for it, unless the disk takes nothing.
    pub fn next<'a>(&mut self, now: Mono, on_disk: Option<Ticket>, get: impl Fn(&DeviceId) -> Option<&'a Device>) -> Option<DeviceId> {
        self.next_at = None;
        if self.due.is_empty() || self.under_way >= WINDOW {
            return None;
        }
        if self.paid_until > now + BURST {
            self.next_at = Some(self.paid_until - BURST);
            return None;
        }
        for (at, device) in self.due.iter().map(get).enumerate() {
            match device.map(|device| (device.reporting.not_before, device.ticket)) {
                Some((not_before, _)) if not_before > now => self.next_at = Some(self.next_at.map_or(not_before, |at| at.min(not_before))),
                // Its ticket wakes us.
                Some((_, ticket)) if on_disk.is_some_and(|done| ticket > done) => {}
                Some(_) | None => return self.due.remove(at),
            }
        }
        None
    }

    /// A device's report is on its way.
    pub fn sent(&mut self, device: &mut Device, now: Mono) {
        self.paid_until = self.paid_until.max(now) + self.pace;
        self.under_way += 1;
        device.reporting.queued = false;
        device.reporting.under_way = true;
    }

    /// A report was answered, or was not.
    pub fn settled(&mut self, id: &DeviceId, device: Option<&mut Device>, confirmed: bool, now: Mono) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(device) = device else { return };
        device.reporting.under_way = false;
        if confirmed {
            device.reporting.again.reset();
        } else {
            device.reporting.not_before = now + device.reporting.again.longer();
        }
        self.queue(id, device);
    }

    /// A new session: what was under way is not, and nobody waits.
    pub fn start_over<'a>(&mut self, devices: impl Iterator<Item = (&'a DeviceId, &'a mut Device)>) {
        self.under_way = 0;
        self.due.clear();
        for (id, device) in devices {
            device.reporting = Reporting::default();
            self.queue(id, device);
        }
    }

    /// When the next may be sent, if that is a matter of time.
    pub fn deadline(&self) -> Option<Mono> {
        self.next_at
    }

    /// Devices that have something to tell.
    pub fn waiting(&self) -> usize {
        self.due.len() + self.under_way
    }
}

/// Whether the cloud does not know all of a device.
fn has_news(device: &Device) -> bool {
    !device.row.state.is_empty() && !device.row.state_confirmed || device.properties.iter().any(|property| property.is_unconfirmed())
}

/// The parts the cloud does not know, by property, and what a confirmation of
/// them means.
pub fn news(device: &Device) -> Vec<(Text, Parts, ConfirmedRow)> {
    let version = |told: bool, part: &Option<super::property::Part>| -> Option<Version> { part.as_ref().filter(|_| told).map(|part| part.version) };
    let unconfirmed = device.properties.iter().filter(|property| property.is_unconfirmed());
    unconfirmed
        .map(|property| {
            let parts = Parts { expected: property.unconfirmed.expected, actual: property.unconfirmed.actual };
            let versions = ConfirmedRow { expected: version(parts.expected, &property.expected), actual: version(parts.actual, &property.actual) };
            (property.name.clone(), parts, versions)
        })
        .collect()
}

/// The cloud confirmed some values: what to remember of each. A first report
/// confirms nothing but that the next one will count.
pub fn confirm(device: &mut Device, values: &[(Text, ConfirmedRow)]) -> Vec<(Text, ConfirmedRow)> {
    let mut rows = Vec::new();
    for (name, sent) in values {
        let Ok(at) = device.position(name) else { continue };
        let property = &mut device.properties[at];
        if std::mem::take(&mut property.unconfirmed.first) {
            rows.push((name.clone(), ConfirmedRow::default()));
            continue;
        }
        let is_current = |part: &Option<super::property::Part>, sent: Option<Version>| part.as_ref().is_none_or(|part| sent == Some(part.version));
        property.unconfirmed.expected &= !is_current(&property.expected, sent.expected);
        property.unconfirmed.actual &= !is_current(&property.actual, sent.actual);
        let known = |unconfirmed: bool, part: &Option<super::property::Part>| part.as_ref().filter(|_| !unconfirmed).map(|part| part.version);
        let row =
            ConfirmedRow { expected: known(property.unconfirmed.expected, &property.expected), actual: known(property.unconfirmed.actual, &property.actual) };
        rows.push((name.clone(), row));
    }
    rows
}
