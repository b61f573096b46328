//! A subscriber with a persistent session as a client would play it, cut off at
//! any time: QoS 1 comes at least once, QoS 2 just once, each in order.

use std::collections::{BTreeMap, BTreeSet};

use rumqttc::mqttbytes::v4;

use super::tests::{World, hello, publication, world_of};
use super::*;

const WORLDS: u64 = 100;

#[test]
fn nothing_sure_is_lost_or_doubled_however_often_the_line_is_cut() {
    for seed in 0..WORLDS {
        let mut story = Story::new(seed);
        for _ in 0..350 {
            match story.roll(9) {
                0..=3 => story.publish(),
                4 => story.cut(),
                5 => story.come_back(),
                _ => story.hear(3),
            }
        }
        // In the end it comes back, and is heard out.
        story.come_back();
        (0..50).for_each(|_| story.hear(0));
        assert_eq!(story.got[1], (0..story.sent[1]).collect::<Vec<_>>(), "seed {seed}: QoS 2");
        let mut firsts = story.got[0].clone();
        let mut known = BTreeSet::new();
        firsts.retain(|number| known.insert(*number));
        assert_eq!(firsts, (0..story.sent[0]).collect::<Vec<_>>(), "seed {seed}: QoS 1");
    }
}

struct Story {
    seed: u64,
    world: World,
    publisher: Connection,
    subscriber: Option<Connection>,
    /// Ids of QoS 2 that the subscriber has and that are not released.
    held: BTreeSet<u16>,
    /// By QoS 1 and 2.
    sent: [u64; 2],
    got: [Vec<u64>; 2],
    id: u16,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut world = world_of(Limits { clients: 10, queue: 1 << 20, retained: 0 }, Access { anonymous: true, users: BTreeMap::new() });
        let (publisher, subscriber) = (world.client("a", true), world.client("b", false));
        world.subscribe(subscriber, "one", QoS::AtLeastOnce);
        world.subscribe(subscriber, "two", QoS::ExactlyOnce);
        Self { seed, world, publisher, subscriber: Some(subscriber), held: BTreeSet::new(), sent: [0; 2], got: [Vec::new(), Vec::new()], id: 0 }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % sides
    }

    fn publish(&mut self) {
        self.id += 1;
        let (which, topic, qos) = [(0, "one", QoS::AtLeastOnce), (1, "two", QoS::ExactlyOnce)][usize::from(self.roll(2) == 0)];
        let publication = publication(topic, &self.sent[which].to_string(), qos, false);
        self.sent[which] += 1;
        self.world.say(self.publisher, Packet::Publish(publication, self.id));
        self.world.say(self.publisher, Packet::PubRel(self.id));
        self.world.hear(self.publisher);
    }

    fn cut(&mut self) {
        if let Some(subscriber) = self.subscriber.take() {
            self.world.router.lost(self.world.now, subscriber);
        }
    }

    fn come_back(&mut self) {
        if self.subscriber.is_none() {
            let subscriber = self.world.open();
            self.world.say(subscriber, Packet::Connect(Box::new(hello("b", false))));
            self.subscriber = Some(subscriber);
        }
    }

    /// Reads what there is and answers; with `risk`, one answer of that many may
    /// be lost, and the line with it.
    fn hear(&mut self, risk: u64) {
        let Some(subscriber) = self.subscriber else { return };
        let mut input = BytesMut::new();
        self.world.router.fill(self.world.now, subscriber, &mut input);
        while let Ok(packet) = v4::Packet::read(&mut input, 1 << 20) {
            let answer = self.take(packet);
            if risk > 0 && self.roll(risk + 1) == 0 {
                return self.cut();
            }
            if let Some(answer) = answer {
                self.world.say(subscriber, answer);
            }
        }
    }

    fn take(&mut self, packet: v4::Packet) -> Option<Packet> {
        if let v4::Packet::Publish(publish) = packet {
            let number = String::from_utf8_lossy(&publish.payload).parse().expect("a number");
            if publish.qos == QoS::AtLeastOnce {
                self.got[0].push(number);
                return Some(Packet::PubAck(publish.pkid));
            }
            if self.held.insert(publish.pkid) {
                self.got[1].push(number);
            }
            return Some(Packet::PubRec(publish.pkid));
        }
        if let v4::Packet::PubRel(release) = packet {
            self.held.remove(&release.pkid);
            return Some(Packet::PubComp(release.pkid));
        }
        assert!(matches!(&packet, v4::Packet::ConnAck(ack) if ack.session_present), "{packet:?}");
        None
    }
}
