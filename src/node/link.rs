//! The life of the session with the cloud: when to dial, heartbeats, requests
//! that want an answer, when to give a mute session up. Not what any message
//! says.
//!
//! ```text
//!            Dial                LinkUp
//!   Down ───────────> Dialing ───────────> Up ──┐ keepalive, requests
//!    ^                   │ LinkDown        │    │
//!    └───────────────────┴─────────────────┴────┘ LinkDown, mute: HangUp
//! ```
//!
//! A refused session stays open and mute (cloud-protocol.md 5.1): only an
//! answered request proves that a session lives.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::backoff::{Backoff, half_jitter};
use super::chance::Chance;
use super::ids::{MsgId, Session};
use super::input::LinkEnd;
use super::now::{Mono, Now};
use crate::wire::message::{self, Header, Message, Route, operation};

/// What the node hands to the link's shell.
#[derive(Debug)]
pub enum Order {
    /// Open a session with this number; answered by `LinkUp` or `LinkDown`.
    Dial(Session),
    /// Send a message; a session that cannot ends with `LinkDown`.
    Send(Session, Box<Message>),
    /// Close the session; answered by `LinkDown`.
    HangUp(Session),
}

/// Wait after a session that ended by itself.
const REDIAL: Duration = Duration::from_millis(250);
/// Longest wait while the cloud's host refuses: one SYN, cheap for both.
const REFUSED_CAP: Duration = Duration::from_millis(1500);
/// Wait after a mute session, whose late end could hit the next one.
const AFTER_MUTE: Duration = Duration::from_secs(2);
/// A session that ends sooner counts as a failure.
const SHORT: Duration = Duration::from_secs(5);
/// A session that the cloud closes sooner than this was cut; CloudCore compares
/// what nodes have with what there is every 5 s.
const CUT: Duration = Duration::from_secs(15);
/// So many sessions cut in a row are no accident.
const CUTS: u32 = 3;
/// First and longest time without a session after that.
const STAY_AWAY: Backoff = Backoff::new(Duration::from_secs(30), Duration::from_secs(600));

/// The session with the cloud. `P` is what the owner wants to know again when
/// an answer comes.
#[derive(Debug)]
pub struct Link<P> {
    heartbeat: Duration,
    state: State,
    last: Session,
    refused: Backoff,
    unreachable: Backoff,
    /// Sessions that the cloud has cut in a row.
    cuts: u32,
    stay_away: Backoff,
    /// No session before this instant, whatever happens.
    not_before: Mono,
    urgent: VecDeque<Message>,
    queue: VecDeque<Message>,
    orders: VecDeque<Order>,
    pending: BTreeMap<MsgId, Pending<P>>,
    /// Why the last session or attempt ended.
    pub last_end: Option<LinkEnd>,
}

#[derive(Debug)]
struct Pending<P> {
    purpose: P,
    deadline: Mono,
}

/// Where the link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No session before this instant.
    Down {
        /// When to dial.
        dial_at: Mono,
    },
    /// Asked the shell for a session.
    Dialing,
    /// A session.
    Up {
        /// Since when.
        opened: Mono,
        /// The next keepalive.
        beat_at: Mono,
        /// Asked the shell to close it.
        closing: bool,
    },
}

impl<P> Link<P> {
    /// A link that dials at once.
    pub fn new(heartbeat: Duration, now: Now) -> Self {
        Self {
            heartbeat,
            state: State::Down { dial_at: now.mono },
            last: Session::default(),
            refused: Backoff::new(REDIAL, REFUSED_CAP),
            unreachable: Backoff::new(Duration::from_millis(500), Duration::from_secs(20)),
            cuts: 0,
            stay_away: STAY_AWAY,
            not_before: now.mono,
            urgent: VecDeque::new(),
            queue: VecDeque::new(),
            orders: VecDeque::new(),
            pending: BTreeMap::new(),
            last_end: None,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The session, while there is one.
    pub fn session(&self) -> Option<Session> {
        matches!(self.state, State::Up { closing: false, .. }).then_some(self.last)
    }

    /// A session began. False if it is not the one asked for.
    pub fn opened(&mut self, now: Now, session: Session) -> bool {
        if session != self.last || self.state != State::Dialing {
            return false;
        }
        self.state = State::Up { opened: now.mono, beat_at: now.mono, closing: false };
        true
    }

    /// A session or attempt ended: what was asked for in it, to ask again.
    pub fn closed(&mut self, now: Now, session: Session, end: LinkEnd, chance: &mut Chance) -> Vec<P> {
        if session != self.last || matches!(self.state, State::Down { .. }) {
            return Vec::new();
        }
        let wait = self.wait_after(now, &end, chance.luck()).max(self.wait_after_cut(now, &end, chance.luck()));
        self.state = State::Down { dial_at: self.not_before.max(now.mono + wait) };
        self.last_end = Some(end);
        self.urgent.clear();
        self.queue.clear();
        std::mem::take(&mut self.pending).into_values().map(|pending| pending.purpose).collect()
    }

    fn wait_after(&mut self, now: Now, end: &LinkEnd, luck: u16) -> Duration {
        let lasted = match self.state {
            State::Up { opened, .. } => now.mono.since(opened) >= SHORT,
            State::Down { .. } | State::Dialing => false,
        };
        if lasted {
            self.refused.reset();
            self.unreachable.reset();
        }
        match end {
            LinkEnd::HungUp => half_jitter(AFTER_MUTE, luck),
            LinkEnd::Refused(_) => self.refused.half_jitter(luck),
            LinkEnd::Closed(_) if lasted => half_jitter(REDIAL, luck),
            LinkEnd::Closed(_) | LinkEnd::Unreachable(_) | LinkEnd::TooLarge(_) | LinkEnd::Unusable(_) => self.unreachable.full_jitter(luck).max(REDIAL / 2),
        }
    }

    /// A cloud that can be reached and closes session after session is left
    /// alone ever longer.
    fn wait_after_cut(&mut self, now: Now, end: &LinkEnd, luck: u16) -> Duration {
        let lasted = match self.state {
            State::Up { opened, .. } => Some(now.mono.since(opened)),
            State::Down { .. } | State::Dialing => None,
        };
        let is_cut = matches!(end, LinkEnd::Closed(_)) && lasted.is_some_and(|lasted| lasted < CUT);
        self.cuts = if is_cut { self.cuts.saturating_add(1) } else { 0 };
        if self.cuts < CUTS {
            self.stay_away.reset();
            return Duration::ZERO;
        }
        let whole = self.stay_away.longer();
        whole + half_jitter(whole / 2, luck)
    }

    /// Ends the session, and opens none before this time has passed.
    pub fn stay_away(&mut self, now: Now, time: Duration) {
        self.not_before = now.mono + time;
        self.hang_up();
    }

    /// How long no session is opened, whatever happens.
    pub fn stays_away(&self, now: Mono) -> Option<Duration> {
        Some(self.not_before.since(now)).filter(|left| !left.is_zero())
    }

    /// How many sessions the cloud has cut in a row, if that is no accident and
    /// not over.
    pub fn cuts(&self, now: Mono) -> Option<u32> {
        let is_over = matches!(self.state, State::Up { opened, .. } if now.since(opened) >= CUT);
        Some(self.cuts).filter(|cuts| *cuts >= CUTS && !is_over)
    }

    /// The network changed: what failed before may work now.
    pub fn network_changed(&mut self, now: Now) {
        self.refused.reset();
        self.unreachable.reset();
        if let State::Down { dial_at } = &mut self.state {
            *dial_at = self.not_before.max(now.mono);
        }
    }

    /// Gives the session up.
    pub fn hang_up(&mut self) {
        if let State::Up { closing, .. } = &mut self.state
            && !*closing
        {
            *closing = true;
            self.orders.push_back(Order::HangUp(self.last));
        }
    }

    /// Sends a message that nobody answers. Lost when there is no session.
    pub fn tell(&mut self, message: Message) {
        if self.session().is_some() {
            self.queue.push_back(message);
        }
    }

    /// Sends an ack, before everything else.
    pub fn ack(&mut self, session: Session, message: Message) {
        if self.session() == Some(session) {
            self.urgent.push_back(message);
        }
    }

    /// Sends a request; its answer brings the purpose back. `urgent` ones pass
    /// by the others: the pulse must not wait for a burst of statuses.
    pub fn request(&mut self, now: Now, message: Message, purpose: P, limit: Duration, urgent: bool) {
        let id = MsgId::from(message.header.msg_id.as_str());
        self.pending.insert(id, Pending { purpose, deadline: now.mono + limit });
        if urgent { self.urgent.push_back(message) } else { self.queue.push_back(message) }
    }

    /// What the answered request was for; `None` for a late or foreign answer.
    pub fn answered(&mut self, parent: &str) -> Option<P> {
        self.pending.remove(&MsgId::from(parent)).map(|pending| pending.purpose)
    }

    /// Requests that were not answered in time.
    pub fn expired(&mut self, now: Now) -> Vec<P> {
        let late: Vec<MsgId> = self.pending.iter().filter(|(_, pending)| pending.deadline <= now.mono).map(|(id, _)| id.clone()).collect();
        late.iter().filter_map(|id| self.pending.remove(id)).map(|pending| pending.purpose).collect()
    }

    /// Requests under way that match.
    pub fn under_way(&self, matches: impl Fn(&P) -> bool) -> usize {
        self.pending.values().filter(|pending| matches(&pending.purpose)).count()
    }

    /// Dials and beats when it is time.
    pub fn on_deadline(&mut self, now: Now, chance: &mut Chance) {
        match &mut self.state {
            State::Down { dial_at } if *dial_at <= now.mono => {
                self.last = self.last.next();
                self.state = State::Dialing;
                self.orders.push_back(Order::Dial(self.last));
            }
            State::Up { beat_at, closing: false, .. } if *beat_at <= now.mono => {
                *beat_at = now.mono + self.heartbeat;
                self.urgent.push_front(keepalive(now, chance));
            }
            State::Down { .. } | State::Dialing | State::Up { .. } => {}
        }
    }

    /// When to come back.
    pub fn deadline(&self) -> Option<(Mono, &'static str)> {
        let own = match self.state {
            State::Down { dial_at } => Some((dial_at, "dial")),
            State::Dialing => None,
            State::Up { beat_at, .. } => Some((beat_at, "keepalive")),
        };
        let answer = self.pending.values().map(|pending| (pending.deadline, "unanswered request")).min();
        [own, answer].into_iter().flatten().min()
    }

    /// The next thing for the shell.
    pub fn poll(&mut self) -> Option<Order> {
        if let Some(order) = self.orders.pop_front() {
            return Some(order);
        }
        let session = self.session()?;
        let message = self.urgent.pop_front().or_else(|| self.queue.pop_front())?;
        Some(Order::Send(session, Box::new(message)))
    }

    /// Nothing waits to be sent.
    pub fn is_drained(&self) -> bool {
        self.urgent.is_empty() && self.queue.is_empty()
    }
}

/// A message of ours.
pub fn message(
    now: Now,
    chance: &mut Chance,
    source: &str,
    group: &str,
    operation: &str,
    resource: String,
    content: Box<serde_json::value::RawValue>,
) -> Message {
    Message {
        header: Header { msg_id: chance.uuid(), timestamp: now.wall.0, ..Header::default() },
        route: Route { source: source.to_owned(), group: group.to_owned(), operation: operation.to_owned(), resource, ..Route::default() },
        content,
    }
}

fn keepalive(now: Now, chance: &mut Chance) -> Message {
    message(now, chance, message::WEBSOCKET, message::RESOURCE, operation::KEEPALIVE, "node".to_owned(), message::string("ping"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::now::Wall;

    fn at(millis: u64) -> Now {
        Now { mono: Mono(millis * 1_000_000), wall: Wall(1_800_000_000_000) }
    }

    fn dialed(link: &mut Link<u8>, now: Now, chance: &mut Chance) -> Session {
        link.on_deadline(now, chance);
        let Some(Order::Dial(session)) = link.poll() else { panic!("it dials") };
        session
    }

    #[test]
    fn a_refusing_cloud_is_dialed_often_and_a_silent_network_seldom() {
        let mut chance = Chance::new(7);
        let mut link: Link<u8> = Link::new(Duration::from_secs(15), at(0));
        let mut now = at(0);
        for _ in 0..50 {
            let session = dialed(&mut link, now, &mut chance);
            link.closed(now, session, LinkEnd::Refused("x".into()), &mut chance);
            let next = link.deadline().expect("it dials again").0;
            assert!(next.since(now.mono) <= REFUSED_CAP);
            now.mono = next;
        }
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            let session = dialed(&mut link, now, &mut chance);
            link.closed(now, session, LinkEnd::Unreachable("x".into()), &mut chance);
            let next = link.deadline().expect("it dials again").0;
            longest = longest.max(next.since(now.mono));
            now.mono = next;
        }
        assert!(longest > Duration::from_secs(5) && longest <= Duration::from_secs(20), "{longest:?}");
        link.network_changed(now);
        assert_eq!(link.deadline().map(|(at, _)| at), Some(now.mono));
    }

    /// The cloud sends the same message in every session.
    #[test]
    fn a_cloud_that_sends_too_much_is_dialed_ever_less() {
        let mut chance = Chance::new(3);
        let mut link: Link<u8> = Link::new(Duration::from_secs(15), at(0));
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..40 {
            let session = dialed(&mut link, now, &mut chance);
            link.opened(now, session);
            link.closed(now, session, LinkEnd::TooLarge("x".into()), &mut chance);
            let next = link.deadline().expect("it dials again").0;
            waits.push(next.since(now.mono));
            now.mono = next;
        }
        assert!(waits[0] <= Duration::from_millis(500), "{waits:?}");
        assert!(waits.iter().max() > Some(&Duration::from_secs(10)) && waits.iter().max() <= Some(&Duration::from_secs(20)), "{waits:?}");
    }

    #[test]
    fn a_cloud_that_cuts_each_session_is_left_alone_ever_longer() {
        let mut chance = Chance::new(3);
        let mut link: Link<u8> = Link::new(Duration::from_secs(15), at(0));
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let session = dialed(&mut link, now, &mut chance);
            link.opened(now, session);
            now.mono = now.mono + Duration::from_secs(4);
            link.closed(now, session, LinkEnd::Closed("eof".into()), &mut chance);
            let next = link.deadline().expect("it dials again").0;
            waits.push(next.since(now.mono).as_secs());
            now.mono = next;
        }
        assert!(waits[..2].iter().all(|wait| *wait <= 1) && link.cuts(now.mono) == Some(10), "{waits:?}");
        for (wait, least) in waits[2..].iter().zip([30, 60, 120, 240, 480, 600, 600, 600]) {
            assert!((least..=least * 3 / 2).contains(wait), "{waits:?}");
        }
        // One that lasts ends it, and so does a cloud that is not there.
        let session = dialed(&mut link, now, &mut chance);
        link.opened(now, session);
        assert!(link.cuts(now.mono).is_some());
        now.mono = now.mono + Duration::from_secs(20);
        assert_eq!(link.cuts(now.mono), None);
        link.closed(now, session, LinkEnd::Closed("eof".into()), &mut chance);
        assert!(link.deadline().expect("it dials again").0.since(now.mono) <= Duration::from_secs(1));
        for end in [LinkEnd::Closed("eof".into()), LinkEnd::Closed("eof".into()), LinkEnd::Refused("x".into()), LinkEnd::Closed("eof".into())] {
            now.mono = link.deadline().expect("it dials again").0;
            let session = dialed(&mut link, now, &mut chance);
            if !matches!(end, LinkEnd::Refused(_)) {
                link.opened(now, session);
            }
            link.closed(now, session, end, &mut chance);
            assert!(link.deadline().expect("it dials again").0.since(now.mono) <= Duration::from_secs(5));
        }
    }

    #[test]
    fn no_session_is_opened_while_the_node_stays_away() {
        let mut chance = Chance::new(1);
        let mut link: Link<u8> = Link::new(Duration::from_secs(15), at(0));
        let session = dialed(&mut link, at(0), &mut chance);
        link.opened(at(1), session);
        link.stay_away(at(1000), Duration::from_secs(30));
        assert!(link.session().is_none() && matches!(link.poll(), Some(Order::HangUp(_))));
        link.closed(at(1001), session, LinkEnd::HungUp, &mut chance);
        link.network_changed(at(2000));
        assert_eq!(link.deadline().map(|(at, _)| at), Some(at(31_000).mono));
    }

    #[test]
    fn what_was_asked_in_a_lost_session_comes_back() {
        let mut chance = Chance::new(1);
        let mut link: Link<u8> = Link::new(Duration::from_secs(15), at(0));
        let session = dialed(&mut link, at(0), &mut chance);
        assert!(link.opened(at(1), session) && !link.opened(at(1), session));
        let ask = keepalive(at(1), &mut chance);
        link.request(at(1), ask.clone(), 7, Duration::from_secs(10), false);
        assert_eq!(link.answered("nobody"), None);
        assert_eq!(link.closed(at(2), session, LinkEnd::Closed("eof".into()), &mut chance), [7]);
        assert!(link.poll().is_none(), "nothing of the old session is sent");
        assert_eq!(link.answered(&ask.header.msg_id), None);
    }

    #[test]
    fn a_late_end_of_an_old_session_does_not_touch_the_new_one() {
        let mut chance = Chance::new(1);
        let mut link: Link<u8> = Link::new(Duration::from_secs(15), at(0));
        let first = dialed(&mut link, at(0), &mut chance);
        link.closed(at(1), first, LinkEnd::Refused("x".into()), &mut chance);
        let second = dialed(&mut link, at(5000), &mut chance);
        link.opened(at(5000), second);
        link.closed(at(5001), first, LinkEnd::Closed("late".into()), &mut chance);
        assert_eq!(link.session(), Some(second));
    }
}
