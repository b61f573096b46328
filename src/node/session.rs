//! Sessions with the cloud begin and end: who has to know, and what becomes of
//! requests that were not answered.

use super::Node;
use super::ids::Session;
use super::input::LinkEnd;
use super::now::Now;
use super::presence::{AFTER_DELETION, News};
use super::purpose::Purpose;
use super::reports;
use super::response::Refused;
use crate::wire::servicebus::Reply;

impl Node {
    /// A session began.
    pub(super) fn link_up(&mut self, now: Now, session: Session) {
        if !self.link.opened(now, session) {
            return;
        }
        log::info!(target: "edgehub", "connected to '{}'", self.settings.edgehub.websocket);
        reports::start_over(&mut self.pods);
        self.requests.start_over(now);
        self.twins.start_over();
        self.spool.start_over();
        self.link.on_deadline(now, &mut self.chance);
        self.presence.opened(now, &mut self.link, &mut self.chance);
    }

    /// A session, or the attempt to open one, ended.
    pub(super) fn link_down(&mut self, now: Now, session: Session, end: LinkEnd) {
        let was_up = self.link.session() == Some(session);
        if was_up {
            log::warn!(target: "edgehub", "the session with '{}' ended: {end}", self.settings.edgehub.websocket);
        } else if end != LinkEnd::HungUp && self.link.last_end.as_ref() != Some(&end) {
            log::warn!(target: "edgehub", "'{}' cannot be reached: {end}", self.settings.edgehub.websocket);
        }
        for forsaken in self.link.closed(now, session, end, &mut self.chance) {
            if let Purpose::App { id, by } = forsaken {
                self.app_forsaken(id, &by);
            }
        }
        self.presence.closed();
        if was_up
            && self.link.stays_away(now.mono).is_none()
            && let Some(warning) = self.session_warning(now)
        {
            log::warn!(target: "edgehub", "{warning}");
        }
        self.count("link_losses");
    }

    /// The Node object was deleted in the cluster. CloudCore deletes what it
    /// remembers of the node only while there is no new object.
    pub(super) fn stay_away(&mut self, now: Now) {
        let (node, seconds) = (&self.settings.node.name, AFTER_DELETION.as_secs());
        log::warn!(target: "edgehub", "node '{node}' was deleted in the cluster; it registers again in {seconds} s");
        self.link.stay_away(now, AFTER_DELETION);
    }

    /// What people should know of a cloud that closes session after session.
    pub(super) fn session_warning(&self, now: Now) -> Option<String> {
        let node = &self.settings.node.name;
        if let Some(left) = self.link.stays_away(now.mono) {
            return Some(format!("node '{node}' was deleted in the cluster; it registers again in {} s", left.as_secs().max(1)));
        }
        let cuts = self.link.cuts(now.mono)?;
        let name = self.presence.deleted.as_ref().map_or_else(|| format!("{node}.UID_OF_THE_DELETED_NODE"), |uid| format!("{node}.{uid}"));
        Some(format!(
            "CloudCore closed the last {cuts} sessions right after they opened. Probable cause: node '{node}' was deleted and registered again while its \
             ClusterObjectSync was still there (kubectl get clusterobjectsyncs.reliablesyncs.kubeedge.io | grep '^{node}\\.'); to fix it: kubectl delete \
             clusterobjectsyncs.reliablesyncs.kubeedge.io {name}. Or another agent connects as '{node}'. Sessions are tried less and less often until then"
        ))
    }

    /// A request was not answered in time.
    pub(super) fn unanswered(&mut self, now: Now, purpose: Purpose) {
        self.count("unanswered_requests");
        if let Purpose::DeviceReport(sent) = &purpose {
            self.twins.report_failed(now, sent);
        } else if let Purpose::Proof(_) = &purpose {
            self.spool.unproved();
        } else if let Purpose::App { id, by } = &purpose {
            self.service.reply(*id, Reply::late(by.as_str()));
        } else if let Purpose::DeviceModel(name) = &purpose {
            self.model_not_told(name, "no answer; is dynamicController on in CloudCore?");
        } else if purpose == Purpose::PodList {
            self.pods_not_listed("no answer; is dynamicController on in CloudCore?");
        }
        if let Some(key) = purpose.key() {
            self.request_failed(now, key, Refused::silence());
        }
        if self.presence.unanswered(now, &purpose, &mut self.chance) == News::Mute {
            log::warn!(target: "edgehub", "the session answers nothing");
            self.link.hang_up();
        }
    }
}
