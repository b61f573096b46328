//! What rules say about apps, and what apps ask: between the link and
//! `service`.
//!
//! Source: devices.md 5 and 6.4.

use super::Node;
use super::ids::{ExchangeId, MsgId};
use super::link;
use super::now::Now;
use super::purpose::Purpose;
use super::service::{self, Called};
use super::store::Change;
use crate::wire::message::{Message, ROUTER_BUS, ROUTER_SERVICE, SERVICE, USER, operation};
use crate::wire::servicebus::{Answer, Call, Question, Reply};

impl Node {
    /// A rule says something; nobody waits for an ack of it.
    pub(super) fn user_message(&mut self, now: Now, message: &Message) {
        match message.route.source.as_str() {
            ROUTER_BUS => self.bus_message(message),
            ROUTER_SERVICE if self.service.is_enabled() => self.service_message(now, message),
            _ => self.count("ignored_messages"),
        }
    }

    fn service_message(&mut self, now: Now, message: &Message) {
        let target = &message.route.resource;
        match message.route.operation.as_str() {
            operation::START => {
                let change = self.service.allow(target);
                self.targets_changed(change, "may be asked for by apps", target);
            }
            operation::STOP => {
                let change = self.service.forbid(target);
                self.targets_changed(change, "may be asked for no more", target);
            }
            // Any other verb is the method of a call.
            _ => self.app_called(now, message),
        }
    }

    fn targets_changed(&mut self, change: Option<Change>, what: &str, target: &str) {
        match change {
            Some(change) => {
                log::info!(target: "servicebus", "'{target}' {what}");
                self.disk.put(vec![change]);
            }
            None => log::debug!(target: "servicebus", "'{target}': nothing changes"),
        }
    }

    fn app_called(&mut self, now: Now, message: &Message) {
        let by = MsgId::from(message.header.msg_id.as_str());
        let refusal = match Call::read(message) {
            Err(refusal) => refusal,
            Ok(call) if !service::reaches(&call.host, &self.settings.servicebus.hosts) => {
                Answer::refusal(403, &format!("this node does not call host {}", call.host))
            }
            Ok(call) => {
                if self.service.call(by.clone(), call) {
                    return;
                }
                Answer::refusal(503, "too many calls wait")
            }
        };
        self.count("refused_calls");
        self.tell_answer(now, &by, &refusal);
    }

    /// An app answered the cloud, or did not.
    pub(super) fn app_answered(&mut self, now: Now, id: ExchangeId, called: Called) {
        if let Called::Unreachable(why) | Called::Broken(why) = &called {
            log::warn!(target: "servicebus", "an app could not be called: {why}");
            self.count("failed_calls");
        }
        if let Some(by) = self.service.ended(id) {
            self.tell_answer(now, &by, &called.answer());
        }
    }

    fn tell_answer(&mut self, now: Now, by: &MsgId, answer: &Answer) {
        let mut message = link::message(now, &mut self.chance, SERVICE, USER, operation::UPLOAD, String::new(), answer.content());
        message.header.parent_msg_id = by.as_str().to_owned();
        self.link.tell(message);
    }

    /// An app asks the cloud.
    pub(super) fn app_asks(&mut self, now: Now, id: ExchangeId, question: Question) {
        if !self.service.allows(&question.target) {
            return self.service.reply(id, Reply::forbidden(&question.target));
        }
        if self.link.session().is_none() {
            return self.service.reply(id, Reply::refusal("the cloud is not connected"));
        }
        let message = link::message(now, &mut self.chance, SERVICE, USER, operation::UPLOAD, question.target, question.content);
        let by = MsgId::from(message.header.msg_id.as_str());
        self.link.request(now, message, Purpose::App { id, by }, self.settings.servicebus.timeout, false);
    }

    /// The session ended before the cloud answered an app.
    pub(super) fn app_forsaken(&mut self, id: ExchangeId, by: &MsgId) {
        self.service.reply(id, Reply::refusal(&format!("the session with the cloud ended before it answered message {by}")));
    }
}
