//! Packets of MQTT 3.1.1 as bytes: the only file that knows the library.
//!
//! Of rumqttc only the packets are used. Its `MqttState` does not fit: it asks
//! the clock itself, keeps a copy of every packet for an event loop that is not
//! there, answers QoS 2 before we said that a message is safe, ends the
//! connection for an ack it did not expect, and forgets on a lost connection
//! which QoS 2 packets were taken already. What is needed instead is in
//! `session`.
//!
//! Source: MQTT 3.1.1 (OASIS), sections 2 and 3.

use bytes::{Buf, Bytes, BytesMut};
pub use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::{Error, v4, valid_filter};

/// Longest text in a packet.
const TEXT: usize = u16::MAX as usize;
/// Types of packets that a broker may send.
const FROM_BROKERS: [u8; 9] = [2, 3, 4, 5, 6, 7, 9, 11, 13];

/// Who we are.
#[derive(Debug, Clone)]
pub struct Hello {
    /// Client id.
    pub client_id: String,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// Seconds between packets, at most.
    pub keepalive: u16,
    /// The broker shall forget us when we go.
    pub clean: bool,
}

/// What a broker says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// We are let in.
    Welcome {
        /// It kept our session.
        kept: bool,
    },
    /// We are not, and why.
    Denied(Denial),
    /// A message.
    Publish {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Vec<u8>,
        /// How it is acknowledged.
        qos: QoS,
        /// Its number; 0 for QoS 0.
        id: u16,
        /// A new subscription brought it, not somebody who published it now.
        retained: bool,
    },
    /// A message that is larger than we take: this was its beginning.
    TooLarge {
        /// Its topic.
        topic: String,
        /// How it is acknowledged.
        qos: QoS,
        /// Its number; 0 for QoS 0.
        id: u16,
        /// Bytes of the whole packet.
        size: usize,
        /// Bytes of it that are still to come.
        rest: usize,
    },
    /// One step of an acknowledgement.
    Step(Step, u16),
    /// Which filters of a subscription it took.
    Subscribed(u16, Vec<bool>),
    /// A subscription ended.
    Unsubscribed(u16),
    /// It lives.
    Pong,
}

/// Steps of acknowledgement: QoS 1 has the first, QoS 2 the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// PUBACK.
    Ack,
    /// PUBREC.
    Received,
    /// PUBREL.
    Release,
    /// PUBCOMP.
    Complete,
}

/// Why a broker lets us not in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// Code 1.
    Protocol,
    /// Code 2.
    ClientId,
    /// Code 3.
    Unavailable,
    /// Code 4.
    Password,
    /// Code 5.
    NotAuthorized,
}

/// A message of ours, kept until it is acknowledged.
#[derive(Debug, Clone)]
pub struct Message(v4::Publish);

impl Message {
    /// A message; `None` when nothing may be published on such a topic.
    pub fn new(topic: String, payload: Vec<u8>, qos: QoS, retain: bool) -> Option<Self> {
        let valid = !topic.is_empty() && topic.len() <= TEXT && !topic.contains(['+', '#', '\0']);
        let mut publish = v4::Publish::from_bytes(topic, qos, Bytes::from(payload));
        publish.retain = retain;
        valid.then_some(Self(publish))
    }

    /// Bytes of the packet, at most.
    pub fn size(&self) -> usize {
        self.0.size() + 2
    }
}

/// Takes the next packet out of what came; `None` when it is not whole yet. Of
/// one that is larger than `limit` only the beginning is waited for.
pub fn read(buffer: &mut BytesMut, limit: usize) -> Result<Option<Said>, String> {
    let Some((head, length)) = fixed_header(buffer)? else { return Ok(None) };
    if !FROM_BROKERS.contains(&(buffer[0] >> 4)) {
        return Err(format!("a packet of type {} that no broker sends", buffer[0] >> 4));
    }
    if head + length > limit {
        return beginning(buffer, head, length);
    }
    if buffer.len() < head + length {
        return Ok(None);
    }
    v4::Packet::read(buffer, limit).map_err(|why| why.to_string()).and_then(said).map(Some)
}

/// Bytes of the fixed header, and how many follow it.
fn fixed_header(buffer: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut length = 0;
    for (at, byte) in buffer.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((at + 2, length)));
        }
    }
    if buffer.len() < 5 { Ok(None) } else { Err(Error::MalformedRemainingLength.to_string()) }
}

/// The beginning of a packet that is too large, if it is a message.
fn beginning(buffer: &mut BytesMut, head: usize, length: usize) -> Result<Option<Said>, String> {
    let first = buffer[0];
    let qos = match (first >> 4, first >> 1 & 3) {
        (3, 0) => QoS::AtMostOnce,
        (3, 1) => QoS::AtLeastOnce,
        (3, 2) => QoS::ExactlyOnce,
        (kind, _) => return Err(format!("a packet of type {kind} with {length} bytes")),
    };
    let Some(&[high, low]) = buffer.get(head..head + 2) else { return Ok(None) };
    let text = usize::from(u16::from_be_bytes([high, low]));
    let number = if qos == QoS::AtMostOnce { 0 } else { 2 };
    if 2 + text + number > length {
        return Err("a topic that is longer than its packet".to_owned());
    }
    if buffer.len() < head + 2 + text + number {
        return Ok(None);
    }
    buffer.advance(head + 2);
    let topic = String::from_utf8(buffer.split_to(text).to_vec()).map_err(|_| Error::TopicNotUtf8.to_string())?;
    let id = if number == 0 { 0 } else { buffer.get_u16() };
    Ok(Some(Said::TooLarge { topic, qos, id, size: head + length, rest: length - 2 - text - number }))
}

fn said(packet: v4::Packet) -> Result<Said, String> {
    use v4::ConnectReturnCode as Code;
    Ok(match packet {
        v4::Packet::ConnAck(v4::ConnAck { session_present, code }) => match code {
            Code::Success => Said::Welcome { kept: session_present },
            Code::RefusedProtocolVersion => Said::Denied(Denial::Protocol),
            Code::BadClientId => Said::Denied(Denial::ClientId),
            Code::ServiceUnavailable => Said::Denied(Denial::Unavailable),
            Code::BadUserNamePassword => Said::Denied(Denial::Password),
            Code::NotAuthorized => Said::Denied(Denial::NotAuthorized),
        },
        v4::Packet::Publish(publish) => {
            let v4::Publish { topic, payload, qos, pkid: id, retain: retained, .. } = publish;
            Said::Publish { topic, payload: payload.into(), qos, id, retained }
        }
        v4::Packet::PubAck(ack) => Said::Step(Step::Ack, ack.pkid),
        v4::Packet::PubRec(ack) => Said::Step(Step::Received, ack.pkid),
        v4::Packet::PubRel(ack) => Said::Step(Step::Release, ack.pkid),
        v4::Packet::PubComp(ack) => Said::Step(Step::Complete, ack.pkid),
        v4::Packet::SubAck(ack) => {
            let taken = |code: &v4::SubscribeReasonCode| matches!(code, v4::SubscribeReasonCode::Success(_));
            Said::Subscribed(ack.pkid, ack.return_codes.iter().map(taken).collect())
        }
        v4::Packet::UnsubAck(ack) => Said::Unsubscribed(ack.pkid),
        v4::Packet::PingResp => Said::Pong,
        other @ (v4::Packet::Connect(_) | v4::Packet::Subscribe(_) | v4::Packet::Unsubscribe(_) | v4::Packet::PingReq | v4::Packet::Disconnect) => {
            return Err(format!("{other:?} came from a broker"));
        }
    })
}

/// Writes a packet behind what waits already. Sizes are looked at before, so
/// that no packet is refused here.
fn write(out: &mut BytesMut, packet: &v4::Packet) {
    let written = packet.write(out, usize::MAX);
    debug_assert!(written.is_ok(), "{packet:?}: {written:?}");
}

/// Says who we are: the first packet of a connection.
pub fn hello(hello: &Hello) -> BytesMut {
    let mut connect = v4::Connect::new(hello.client_id.as_str());
    connect.keep_alive = hello.keepalive;
    connect.clean_session = hello.clean;
    if let Some((user, password)) = &hello.login {
        connect.set_login(user.as_str(), password.as_str());
    }
    // The library wants a buffer of its own for this packet.
    let mut out = BytesMut::new();
    write(&mut out, &v4::Packet::Connect(connect));
    out
}

/// Publishes; `again` when the broker may have it already.
pub fn publish(out: &mut BytesMut, message: &mut Message, id: u16, again: bool) {
    message.0.pkid = id;
    message.0.dup = again;
    let written = message.0.write(out);
    debug_assert!(written.is_ok(), "{message:?}: {written:?}");
}

/// One step of an acknowledgement.
pub fn step(out: &mut BytesMut, step: Step, id: u16) {
    let packet = match step {
        Step::Ack => v4::Packet::PubAck(v4::PubAck::new(id)),
        Step::Received => v4::Packet::PubRec(v4::PubRec::new(id)),
        Step::Release => v4::Packet::PubRel(v4::PubRel::new(id)),
        Step::Complete => v4::Packet::PubComp(v4::PubComp::new(id)),
    };
    write(out, &packet);
}

/// Whether a broker would take this filter.
pub fn is_filter(filter: &str) -> bool {
    valid_filter(filter) && filter.len() <= TEXT && !filter.contains('\0')
}

/// Bytes a filter takes in a packet.
pub fn filter_size(filter: &str) -> usize {
    filter.len() + 3
}

/// Subscribes with QoS 1.
pub fn subscribe(out: &mut BytesMut, id: u16, filters: &[String]) {
    let mut packet = v4::Subscribe::new_many(filters.iter().map(|filter| v4::SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce)));
    packet.pkid = id;
    write(out, &v4::Packet::Subscribe(packet));
}

/// Ends a subscription.
pub fn unsubscribe(out: &mut BytesMut, id: u16, filter: String) {
    write(out, &v4::Packet::Unsubscribe(v4::Unsubscribe { pkid: id, topics: vec![filter] }));
}

/// Asks for a sign of life.
pub fn ping(out: &mut BytesMut) {
    write(out, &v4::Packet::PingReq);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::chance::Chance;

    /// What is read of these bytes, byte by byte.
    fn whole(bytes: &[u8], limit: usize) -> Result<Vec<Said>, String> {
        let mut buffer = BytesMut::new();
        let mut all = Vec::new();
        for byte in bytes {
            buffer.extend_from_slice(&[*byte]);
            all.extend(read(&mut buffer, limit)?);
        }
        Ok(all)
    }

    #[test]
    fn packets_are_read_however_they_arrive() {
        let bytes = b"\x20\x02\x01\x00\x33\x07\x00\x01a\x00\x05hi\x30\x03\x00\x01b\x40\x02\x00\x07\x90\x04\x00\x01\x01\x80\xb0\x02\x00\x02\xd0\x00";
        let publish = |topic: &str, payload: &[u8], qos, id| {
            let (topic, payload) = (topic.to_owned(), payload.to_vec());
            Said::Publish { topic, payload, qos, id, retained: id == 5 }
        };
        let expected = [
            Said::Welcome { kept: true },
            publish("a", b"hi", QoS::AtLeastOnce, 5),
            publish("b", b"", QoS::AtMostOnce, 0),
            Said::Step(Step::Ack, 7),
            Said::Subscribed(1, vec![true, false]),
            Said::Unsubscribed(2),
            Said::Pong,
        ];
        assert_eq!(whole(bytes, 100).expect("it is right"), expected);
        let mut buffer = BytesMut::from(&bytes[..]);
        let at_once: Vec<Said> = std::iter::from_fn(|| read(&mut buffer, 100).expect("it is right")).collect();
        assert_eq!(at_once, expected);
    }

    #[test]
    fn refusals_have_names() {
        for (code, denial) in [(1, Denial::Protocol), (2, Denial::ClientId), (3, Denial::Unavailable), (4, Denial::Password), (5, Denial::NotAuthorized)] {
            assert_eq!(whole(&[0x20, 2, 0, code], 100), Ok(vec![Said::Denied(denial)]));
        }
        assert!(whole(&[0x20, 2, 0, 6], 100).is_err());
    }

    #[test]
    fn of_a_too_large_message_the_beginning_is_enough() {
        let bytes = [b"\x34\xff\x01\x00\x03a/b\x00\x09".as_slice(), &[0; 20]].concat();
        let said = Said::TooLarge { topic: "a/b".to_owned(), qos: QoS::ExactlyOnce, id: 9, size: 258, rest: 248 };
        assert_eq!(whole(&bytes[..10], 257), Ok(vec![said]));
        assert_eq!(whole(&bytes, 258), Ok(vec![]), "it is not whole");
    }

    #[test]
    fn what_no_broker_says_is_an_error() {
        let wrong: [&[u8]; 12] = [
            b"\x00\x00",
            b"\x10\x00",
            b"\xe0\x00",
            b"\xc0\x00",
            b"\x36\x05\x00\x01a\x00\x01",
            b"\x32\x05\x00\x01a\x00\x00",
            b"\x30\x04\x00\x09ab",
            b"\x30\x03\x00\x01\xff",
            b"\x32\x03\x00\x01a",
            b"\x40\x01\x00",
            b"\x90\x80\x80\x80\x80\x01",
            b"\x90\xff\xff\x7f",
        ];
        for bytes in wrong {
            assert!(whole(bytes, 1000).is_err(), "{bytes:x?}");
        }
        assert!(whole(b"\x30\xff\x7f\xff\xff", 1000).is_err(), "a topic that is longer than its packet");
    }

    #[test]
    fn noise_is_no_danger() {
        let mut chance = Chance::new(3);
        for _ in 0..20_000 {
            let length = chance.draw() % 24;
            let mut bytes: Vec<u8> = (0..length).map(|_| chance.draw().to_be_bytes()[0]).collect();
            if let Some(first) = bytes.first_mut() {
                *first = (FROM_BROKERS[usize::from(*first) % 9] << 4) | (*first & 15);
            }
            let _ = whole(&bytes, 16);
        }
    }

    #[test]
    fn our_packets_are_as_the_standard_has_them() {
        let login = Some(("u".to_owned(), "p".to_owned()));
        let bytes = hello(&Hello { client_id: "id".to_owned(), login, keepalive: 30, clean: false });
        assert_eq!(&bytes[..], b"\x10\x14\x00\x04MQTT\x04\xc0\x00\x1e\x00\x02id\x00\x01u\x00\x01p");
        let mut out = BytesMut::new();
        subscribe(&mut out, 1, &["$a/+".to_owned(), "b".to_owned()]);
        unsubscribe(&mut out, 2, "b".to_owned());
        step(&mut out, Step::Ack, 3);
        ping(&mut out);
        let mut message = Message::new("t".to_owned(), b"x".to_vec(), QoS::AtLeastOnce, true).expect("a topic");
        publish(&mut out, &mut message, 4, true);
        let expected = [
            b"\x82\x0d\x00\x01\x00\x04$a/+\x01\x00\x01b\x01".as_slice(),
            b"\xa2\x05\x00\x02\x00\x01b",
            b"\x40\x02\x00\x03",
            b"\xc0\x00",
            b"\x3b\x06\x00\x01t\x00\x04x",
        ];
        assert_eq!(&out[..], expected.concat());
        assert!(message.size() >= 8);
    }

    #[test]
    fn wildcards_are_for_filters() {
        let message = |topic: &str| Message::new(topic.to_owned(), Vec::new(), QoS::AtMostOnce, false).is_some();
        assert!(message("$hw/a") && !message("") && !message("a/+") && !message("#") && !message(&"x".repeat(70_000)));
        assert!(is_filter("$hw/+/#") && !is_filter("") && !is_filter("a/#/b") && !is_filter("a+"));
    }
}
