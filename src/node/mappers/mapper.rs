//! One mapper: who it is, what it was told, when it may be called again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rate::Bucket;
use super::told::{Item, Known, Share, Told, Verb};
use super::want::{Digest, Id};
use crate::node::backoff::Backoff;
use crate::node::dmi::MapperFailure;
use crate::node::ids::CallId;
use crate::node::now::Mono;

/// Between calls to a mapper that is down or silent.
const DOWN: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// Between tries of what a mapper refuses.
const REFUSED: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(300));
/// A mapper that is down for so long is lost: others may have its devices.
const LOST: Duration = Duration::from_secs(60);

/// A mapper.
#[derive(Debug)]
pub struct Mapper {
    /// Who it is.
    pub info: Info,
    /// What it was told.
    pub told: Told,
    /// What it shall know.
    pub share: Share,
    /// How it is.
    pub condition: Condition,
    /// Why the last call failed, until one succeeds.
    pub last_error: Option<String>,
    /// How often it may ask.
    pub bucket: Bucket,
    /// Others could have its devices, so it matters whether it lives.
    pub rivals: bool,
    /// The call under way.
    pub call: Option<UnderWay>,
    /// When there may be something to do; `None` when all is told.
    pub due: Option<Mono>,
    pause: Backoff,
    refused: BTreeMap<Item, (Backoff, Mono)>,
}

/// Who a mapper is, as it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The protocol of its devices.
    pub protocol: String,
    /// Path of its socket.
    pub socket: String,
    /// Its version, for people.
    pub version: String,
    /// Version of the interface it speaks, for people.
    pub api_version: String,
}

/// How a mapper is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Not heard of since the agent's start, or it must be looked after.
    Unknown,
    /// It registered, or answered.
    Up,
    /// It cannot be reached.
    Down {
        /// Since when.
        since: Mono,
        /// For long.
        lost: bool,
    },
}

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is told something.
    Tell(Verb, Item),
    /// It is looked after.
    Probe,
}

/// A call that was not answered yet.
#[derive(Debug, Clone)]
pub struct UnderWay {
    /// Its number.
    pub id: CallId,
    /// What for.
    pub step: Step,
    /// What the mapper knows once it answers.
    pub digest: Option<Digest>,
}

/// A mapper on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapperRow {
    /// Who it is.
    pub info: Info,
    /// Devices it surely knows, and as what.
    pub devices: BTreeMap<Id, Digest>,
    /// Models it surely knows, and as what.
    pub models: BTreeMap<Id, Digest>,
}

impl Mapper {
    /// A mapper that registers, and knows what `told` says.
    pub fn new(info: Info, told: Told, condition: Condition) -> Self {
        Self {
            info,
            told,
            share: Share::default(),
            condition,
            last_error: None,
            bucket: Bucket::FULL,
            rivals: false,
            call: None,
            due: Some(Mono(0)),
            pause: DOWN,
            refused: BTreeMap::new(),
        }
    }

    /// As it was on disk.
    pub fn restored(row: MapperRow) -> Self {
        let models = row.models.into_iter().map(|(id, digest)| (Item::Model(id), digest));
        let devices = row.devices.into_iter().map(|(id, digest)| (Item::Device(id), digest));
        Self::new(row.info, Told::restored(models.chain(devices)), Condition::Unknown)
    }

    /// As it goes to disk.
    pub fn row(&self) -> MapperRow {
        let (mut devices, mut models) = (BTreeMap::new(), BTreeMap::new());
        for (item, digest) in self.told.surely() {
            match item {
                Item::Device(id) => devices.insert(id.clone(), digest),
                Item::Model(id) => models.insert(id.clone(), digest),
            };
        }
        MapperRow { info: self.info.clone(), devices, models }
    }

    /// Down for long.
    pub fn is_lost(&self) -> bool {
        matches!(self.condition, Condition::Down { lost: true, .. })
    }

    /// The next thing to do, if it is time; else when to look again.
    pub fn step(&mut self, now: Mono) -> Option<Step> {
        if self.call.is_some() || self.due.is_none_or(|due| due > now) {
            return None;
        }
        let mut later: Option<Mono> = None;
        for (verb, item) in self.told.plan(&self.share) {
            match self.refused.get(item) {
                Some((_, until)) if *until > now => later = Some(later.map_or(*until, |sooner| sooner.min(*until))),
                Some(_) | None => return Some(Step::Tell(verb, item.clone())),
            }
        }
        let doubtful = self.condition != Condition::Up && self.rivals && self.told.devices().next().is_some();
        if doubtful && !self.is_lost() {
            return Some(Step::Probe);
        }
        self.due = later;
        None
    }

    /// A step ended. `true` when its row on disk is worth writing.
    pub fn ended(&mut self, now: Mono, call: &UnderWay, result: Result<(), MapperFailure>, luck: u16) -> bool {
        self.due = Some(now);
        let Err(failure) = result else {
            self.lives();
            self.last_error = None;
            return self.took(&call.step, call.digest);
        };
        let step = &call.step;
        self.last_error = Some(failure.to_string());
        match &failure {
            MapperFailure::Unreachable(_) => {
                self.is_down(now);
                self.due = Some(now + self.pause.half_jitter(luck));
                false
            }
            MapperFailure::Silent(_) => {
                if let Step::Tell(_, item) = step {
                    self.told.note(item.clone(), Known::Unsure);
                }
                self.due = Some(now + self.pause.half_jitter(luck));
                false
            }
            MapperFailure::Refused { code, .. } => {
                self.lives();
                self.was_refused(now, step, *code, luck)
            }
        }
    }

    fn took(&mut self, step: &Step, digest: Option<Digest>) -> bool {
        let Step::Tell(verb, item) = step else { return false };
        self.refused.remove(item);
        match (verb, digest) {
            (Verb::Remove, _) | (_, None) => self.told.forget(item),
            (Verb::Add | Verb::Change, Some(digest)) => self.told.note(item.clone(), Known::As(digest)),
        }
        // A device that was taken away must not be taken away again: Go's
        // mapper-framework dies of it.
        *verb == Verb::Remove || self.told.plan(&self.share).next().is_none()
    }

    /// What is refused is tried again later; what is refused to go is gone.
    fn was_refused(&mut self, now: Mono, step: &Step, code: u32, luck: u16) -> bool {
        let Step::Tell(verb, item) = step else { return false };
        if *verb == Verb::Remove {
            return self.took(step, None);
        }
        if code == MapperFailure::UNIMPLEMENTED
            && let (Item::Model(_), Some(Some(digest))) = (item, self.share.items.get(item))
        {
            return self.took(step, Some(*digest));
        }
        if *verb == Verb::Change && (self.told.knows(item) == Known::Unsure || code == MapperFailure::NOT_FOUND || matches!(item, Item::Model(_))) {
            self.told.note(item.clone(), Known::Nothing);
        }
        let (backoff, until) = self.refused.entry(item.clone()).or_insert((REFUSED, now));
        *until = now + backoff.half_jitter(luck);
        false
    }

    fn lives(&mut self) {
        self.condition = Condition::Up;
        self.pause.reset();
    }

    fn is_down(&mut self, now: Mono) {
        let since = match self.condition {
            Condition::Down { since, .. } => since,
            Condition::Up | Condition::Unknown => now,
        };
        self.condition = Condition::Down { since, lost: now.since(since) >= LOST };
    }
}
