//! Sessions with the cloud begin and end: who has to know, and what becomes of
//! requests that were not answered.

use super::Node;
use super::ids::Session;
use super::input::LinkEnd;
use super::now::Now;
use super::presence::News;
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
        } else if self.link.last_end.as_ref() != Some(&end) {
            log::warn!(target: "edgehub", "'{}' cannot be reached: {end}", self.settings.edgehub.websocket);
        }
        for forsaken in self.link.closed(now, session, end, &mut self.chance) {
            if let Purpose::App { id, by } = forsaken {
                self.app_forsaken(id, &by);
            }
        }
        self.presence.closed();
        self.count("link_losses");
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
