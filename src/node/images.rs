//! The images in the runtime: the list for the node's status, and which of them
//! go when the disk fills up. Pulling is the pods' business.
//!
//! Source: kubelet's image garbage collection (edge-node.md 1.14): over the high
//! mark, unused images go, the longest unused first, until the low mark.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::now::Mono;
use super::runtime::ImageSeen;

/// An image that has just come may be somebody's next container.
const YOUNG: Duration = Duration::from_secs(120);
/// What was removed shows in the disk's figures by then.
const AGAIN: Duration = Duration::from_secs(120);

/// All images.
#[derive(Debug, Default)]
pub struct Images {
    /// Largest first.
    all: Rc<[ImageSeen]>,
    /// Last use, or first sight, by id.
    used: BTreeMap<String, Mono>,
    /// When some were last taken away.
    collected: Option<Mono>,
}

/// The disk as the marks see it.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes free.
    pub free: u64,
    /// Percent at which unused images go.
    pub high: u8,
    /// Percent at which that ends.
    pub low: u8,
}

impl Room {
    /// Bytes to free, if any.
    fn excess(self) -> Option<u64> {
        let used = self.size.saturating_sub(self.free);
        let mark = |percent: u8| self.size / 100 * u64::from(percent);
        (self.size > 0 && used >= mark(self.high)).then(|| used.saturating_sub(mark(self.low)))
    }
}

/// A name as people write it: Docker's own registry goes without saying.
pub fn short(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

impl Images {
    /// The runtime has these.
    pub fn listed(&mut self, now: Mono, mut images: Vec<ImageSeen>) {
        images.sort_by_key(|image| std::cmp::Reverse(image.size));
        let ids: BTreeSet<&str> = images.iter().map(|image| image.id.as_str()).collect();
        self.used.retain(|id, _| ids.contains(id.as_str()));
        for image in &images {
            self.used.entry(image.id.clone()).or_insert(now);
        }
        self.all = images.into();
    }

    /// All of them, largest first, for the node's status.
    pub fn all(&self) -> Rc<[ImageSeen]> {
        self.all.clone()
    }

    /// Ids of images that shall go now; `in_use` are short names and ids of
    /// those that stay.
    pub fn collect(&mut self, now: Mono, room: Room, in_use: &BTreeSet<String>) -> Vec<String> {
        let is_used = |image: &&ImageSeen| in_use.contains(&image.id) || image.names.iter().any(|name| in_use.contains(short(name)));
        for image in self.all.iter().filter(is_used) {
            self.used.insert(image.id.clone(), now);
        }
        let Some(mut excess) = room.excess().filter(|_| self.collected.is_none_or(|at| now.since(at) >= AGAIN)) else { return Vec::new() };
        let since = |image: &ImageSeen| self.used.get(&image.id).copied().unwrap_or(now);
        let mut unused: Vec<&ImageSeen> = self.all.iter().filter(|image| !is_used(image) && !image.pinned && now.since(since(image)) >= YOUNG).collect();
        unused.sort_by_key(|image| since(image));
        let mut gone = Vec::new();
        for image in unused {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(image.size);
            gone.push(image.id.clone());
        }
        if !gone.is_empty() {
            self.collected = Some(now);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn image(id: &str, size: u64) -> ImageSeen {
        ImageSeen { id: id.to_owned(), names: vec![format!("docker.io/library/{id}:1")], size, pinned: id == "pause" }
    }

    #[test]
    fn the_longest_unused_go_until_the_low_mark() {
        let mut images = Images::default();
        images.listed(at(0), vec![image("old", 50), image("used", 500), image("pause", 1), image("late", 60)]);
        let in_use = |names: &[&str]| names.iter().map(|name| format!("{name}:1")).collect::<BTreeSet<_>>();
        let room = |free| Room { size: 1000, free, high: 85, low: 80 };
        assert!(images.collect(at(200), room(400), &in_use(&["used", "late"])).is_empty(), "there is room");
        assert_eq!(images.collect(at(400), room(150), &in_use(&["used"])), ["old"], "50 bytes are enough");
        assert!(images.collect(at(401), room(150), &in_use(&["used"])).is_empty(), "the disk has not shown it yet");
        images.listed(at(500), vec![image("used", 500), image("pause", 1), image("late", 60), image("young", 70)]);
        assert_eq!(images.collect(at(600), room(10), &in_use(&["used"])), ["late"], "neither the young nor the pinned");
        assert_eq!(images.all()[0].id, "used");
    }
}
