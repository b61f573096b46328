//! What the node learns of its machine, and how it is by that. Not how the
//! machine is read, nor how the cluster is told.

use super::Node;
use super::allocatable::Allocatable;
use super::images::{self, Room};
use super::machine::Facts;
use super::nodestatus::Health;
use super::now::Now;
use super::runtime;

impl Node {
    pub(super) fn health(&self) -> Health {
        Health {
            runtime_version: self.runtime.version(),
            not_ready: self.not_ready(),
            pressure: self.gauge.pressure(),
            store: self.disk.trouble.clone(),
            images: self.images.all(),
            max_images: self.settings.edged.max_images,
            allocatable: Allocatable::new(&self.facts, &self.settings.edged),
        }
    }

    /// Why pods cannot run here now.
    pub(super) fn not_ready(&self) -> Vec<String> {
        let mut why = self.runtime.why();
        // Until then nobody knows whether these are pods of this store.
        if self.runtime.is_up() && !self.pods.is_listed() {
            why.push("pods of the container runtime have not been listed yet".to_owned());
        }
        why.extend(self.lost.iter().map(|lost| format!("StoreLost: {lost}")));
        why
    }

    pub(super) fn learn(&mut self, now: Now, facts: Facts) {
        if !self.facts_known {
            self.pods.stir();
        } else if self.facts.ips != facts.ips {
            log::info!(target: "edgehub", "the node's addresses are now {:?}", facts.ips);
            self.pods.stir();
            // Dialing may work now.
            self.link.network_changed(now);
        }
        self.gauge.read(now.mono, &facts, self.settings.edged.eviction);
        self.facts = facts;
        self.facts_known = true;
    }

    /// Unused images go when the disk fills up, the sandboxes' own never.
    pub(super) fn collect_images(&mut self, now: Now) {
        let mut in_use = self.pods.images();
        in_use.insert(images::short(&self.runtime.info.sandbox_image).to_owned());
        let edged = &self.settings.edged;
        let room = Room { size: self.facts.disk, free: self.facts.disk_available, high: edged.image_gc_high, low: edged.image_gc_low };
        for image in self.images.collect(now.mono, room, &in_use) {
            self.count("collected_images");
            self.pods.order(runtime::Order::RemoveImage(image));
        }
    }
}
