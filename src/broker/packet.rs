//! Packets of MQTT 3.1 and 3.1.1 as a broker sees them. The codec is rumqttc's,
//! made for clients; what it does not know is here: CONNECT of 3.1, binary wills,
//! reserved bits, and a PUBLISH that many readers share.
//!
//! Source: MQTT 3.1.1, chapters 2 and 3.

use bytes::{BufMut, BytesMut};
use rumqttc::mqttbytes::v4::{self, ConnAck, ConnectReturnCode, SubAck, Subscribe, Unsubscribe};
use rumqttc::mqttbytes::{self, Error, FixedHeader, PacketType, QoS};

use super::topic;

/// A message on its way to all who want it.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic, checked.
    pub topic: String,
    /// Any bytes; a copy, so that it does not keep what came beside it.
    pub payload: Box<[u8]>,
}

/// How a message is published.
#[derive(Debug, PartialEq, Eq)]
pub struct Publication {
    /// What.
    pub message: Message,
    /// How surely.
    pub qos: QoS,
    /// Kept for those who subscribe later.
    pub retain: bool,
}

/// What a client may say.
#[derive(Debug, PartialEq)]
pub enum Packet {
    /// The first packet.
    Connect(Box<Connect>),
    /// A first packet of a protocol that is not spoken here.
    Foreign(u8),
    /// A message; the id is 0 for QoS 0.
    Publish(Publication, u16),
    /// QoS 1 has arrived.
    PubAck(u16),
    /// QoS 2 has arrived.
    PubRec(u16),
    /// QoS 2 will not be repeated.
    PubRel(u16),
    /// QoS 2 is done.
    PubComp(u16),
    /// Filters from now on.
    Subscribe(Subscribe),
    /// Filters no longer.
    Unsubscribe(Unsubscribe),
    /// I live.
    PingReq,
    /// I go, and mean it.
    Disconnect,
}

/// Who connects, and how.
#[derive(Debug, PartialEq)]
pub struct Connect {
    /// MQTT 3.1, not 3.1.1.
    pub old: bool,
    /// Name of the client; may be empty.
    pub client: String,
    /// Nothing shall outlive the connection.
    pub clean: bool,
    /// Seconds between packets; 0 for any.
    pub keepalive: u16,
    /// What to say when the client is lost.
    pub will: Option<Publication>,
    /// Name of the user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Box<[u8]>>,
}

/// Why what came is no packet of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has more bytes than are taken.
    TooLarge(usize),
    /// It is not MQTT, or not as a client speaks it.
    Malformed(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge(size) => write!(f, "a packet of {size} bytes is larger than eventbus.max_packet"),
            Self::Malformed(why) => write!(f, "not MQTT: {why}"),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

fn malformed(why: &str) -> Fault {
    Fault::Malformed(why.to_owned())
}

/// Takes the next whole packet off a stream of at most `most` bytes a packet.
pub fn read(stream: &mut BytesMut, most: usize) -> Result<Option<Packet>, Fault> {
    let Some(first) = stream.first() else { return Ok(None) };
    let kind = FixedHeader::new(*first, 1, 0).packet_type()?;
    check_flags(kind, first & 0x0f)?;
    let header = match mqttbytes::check(stream.iter(), most) {
        Ok(header) => header,
        Err(Error::InsufficientBytes(_)) => return Ok(None),
        Err(Error::PayloadSizeLimitExceeded(size)) => return Err(Fault::TooLarge(size)),
        Err(error) => return Err(error.into()),
    };
    if kind == PacketType::Connect {
        let frame = stream.split_to(header.frame_length());
        let length_bytes = 1 + frame[1..].iter().take_while(|byte| *byte & 0x80 != 0).count();
        return read_connect(Reader(&frame[1 + length_bytes..])).map(Some);
    }
    Ok(Some(match v4::Packet::read(stream, most)? {
        v4::Packet::Publish(publish) => {
            let message = Message { topic: publish.topic, payload: publish.payload.as_ref().into() };
            if !topic::is_name(&message.topic) {
                return Err(malformed("a message with no proper topic"));
            }
            Packet::Publish(Publication { message, qos: publish.qos, retain: publish.retain }, publish.pkid)
        }
        v4::Packet::PubAck(ack) => Packet::PubAck(ack.pkid),
        v4::Packet::PubRec(ack) => Packet::PubRec(ack.pkid),
        v4::Packet::PubRel(ack) => Packet::PubRel(ack.pkid),
        v4::Packet::PubComp(ack) => Packet::PubComp(ack.pkid),
        v4::Packet::Subscribe(subscribe) => Packet::Subscribe(subscribe),
        v4::Packet::Unsubscribe(unsubscribe) => Packet::Unsubscribe(unsubscribe),
        v4::Packet::PingReq => Packet::PingReq,
        v4::Packet::Disconnect => Packet::Disconnect,
        v4::Packet::Connect(_) | v4::Packet::ConnAck(_) | v4::Packet::SubAck(_) | v4::Packet::UnsubAck(_) | v4::Packet::PingResp => {
            return Err(malformed("a packet that only a broker sends"));
        }
    }))
}

/// The lower half of the first byte is fixed for all but PUBLISH.
fn check_flags(kind: PacketType, flags: u8) -> Result<(), Fault> {
    let wanted = match kind {
        PacketType::Publish => return Ok(()),
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 2,
        PacketType::Connect
        | PacketType::ConnAck
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubComp
        | PacketType::SubAck
        | PacketType::UnsubAck
        | PacketType::PingReq
        | PacketType::PingResp
        | PacketType::Disconnect => 0,
    };
    // MQTT 3.1 let clients mark repeats of these with DUP.
    if flags & !0x08 == wanted { Ok(()) } else { Err(malformed("reserved bits are set")) }
}

fn read_connect(mut body: Reader<'_>) -> Result<Packet, Fault> {
    let (name, level) = (body.text()?, body.byte()?);
    let old = match (name.as_str(), level) {
        ("MQTT", 4) => false,
        ("MQIsdp", 3) => true,
        ("MQTT" | "MQIsdp", other) => return Ok(Packet::Foreign(other)),
        _ => return Err(malformed("its first packet names another protocol")),
    };
    let flags = body.byte()?;
    let has = |bit: u8| flags & bit != 0;
    let keepalive = body.number()?;
    let client = body.text()?;
    if has(0x01) || !has(0x04) && has(0x38) || !old && !has(0x80) && has(0x40) {
        return Err(malformed("flags of the first packet contradict each other"));
    }
    let will = if has(0x04) { Some(read_will(&mut body, flags)?) } else { None };
    let user = if has(0x80) { Some(body.text()?) } else { None };
    let password = if has(0x40) { Some(body.bytes()?.into()) } else { None };
    Ok(Packet::Connect(Box::new(Connect { old, client, clean: has(0x02), keepalive, will, user, password })))
}

fn read_will(body: &mut Reader<'_>, flags: u8) -> Result<Publication, Fault> {
    let (topic, payload) = (body.text()?, body.bytes()?.into());
    if !topic::is_name(&topic) {
        return Err(malformed("a will with no proper topic"));
    }
    Ok(Publication { message: Message { topic, payload }, qos: mqttbytes::qos(flags >> 3 & 3)?, retain: flags & 0x20 != 0 })
}

/// Reads the fields of a CONNECT.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| malformed("the first packet is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u16, Fault> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Result<String, Fault> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| malformed("a text that is not UTF-8"))?;
        if text.contains('\0') { Err(malformed("a text with a zero in it")) } else { Ok(text.to_owned()) }
    }
}

/// How one packet carries a message.
#[derive(Debug, Clone, Copy)]
pub struct Carriage {
    /// How surely.
    pub qos: QoS,
    /// It was kept, and is told to somebody who just subscribed.
    pub retain: bool,
    /// It may have come before.
    pub dup: bool,
    /// Id of the packet; not written for QoS 0.
    pub id: u16,
}

/// Writes a PUBLISH.
pub fn write_publish(out: &mut BytesMut, message: &Message, how: Carriage) {
    let has_id = how.qos != QoS::AtMostOnce;
    out.put_u8(0x30 | u8::from(how.dup) << 3 | (how.qos as u8) << 1 | u8::from(how.retain));
    put_length(out, 2 + message.topic.len() + if has_id { 2 } else { 0 } + message.payload.len());
    out.put_u16(u16::try_from(message.topic.len()).expect("a topic came with two bytes of length"));
    out.put_slice(message.topic.as_bytes());
    if has_id {
        out.put_u16(how.id);
    }
    out.put_slice(&message.payload);
}

/// Seven bits a byte, the lowest first.
fn put_length(out: &mut BytesMut, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7f).expect("seven bits");
        length >>= 7;
        if length == 0 {
            return out.put_u8(low);
        }
        out.put_u8(low | 0x80);
    }
}

/// An answer that is only an id, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// To a PUBLISH of QoS 1.
    PubAck(u16),
    /// To a PUBLISH of QoS 2.
    PubRec(u16),
    /// To a PUBREC.
    PubRel(u16),
    /// To a PUBREL.
    PubComp(u16),
    /// To an UNSUBSCRIBE.
    UnsubAck(u16),
    /// To a PINGREQ.
    PingResp,
}

/// Writes an answer.
pub fn write_answer(out: &mut BytesMut, answer: Answer) {
    let (kind, id) = match answer {
        Answer::PubAck(id) => (0x40, id),
        Answer::PubRec(id) => (0x50, id),
        Answer::PubRel(id) => (0x62, id),
        Answer::PubComp(id) => (0x70, id),
        Answer::UnsubAck(id) => (0xb0, id),
        Answer::PingResp => return out.put_slice(&[0xd0, 0]),
    };
    out.put_slice(&[kind, 2]);
    out.put_u16(id);
}

/// Writes the answer to a CONNECT.
pub fn write_connack(out: &mut BytesMut, code: ConnectReturnCode, session_present: bool) {
    ConnAck::new(code, session_present).write(out).expect("four bytes are never too many");
}

/// Writes the answer to a SUBSCRIBE.
pub fn write_suback(out: &mut BytesMut, ack: &SubAck) {
    ack.write(out).expect("it is shorter than the question");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8]) -> Result<Option<Packet>, Fault> {
        read(&mut BytesMut::from(bytes), 1000)
    }

    fn connect(name: &str, level: u8, flags: u8, fields: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::new();
        let mut put = |field: &[u8]| {
            body.extend_from_slice(&u16::try_from(field.len()).expect("short").to_be_bytes());
            body.extend_from_slice(field);
        };
        put(name.as_bytes());
        let rest: Vec<u8> = {
            let mut rest = vec![level, flags, 0, 60];
            for field in fields {
                rest.extend_from_slice(&u16::try_from(field.len()).expect("short").to_be_bytes());
                rest.extend_from_slice(field);
            }
            rest
        };
        body.extend(rest);
        [vec![0x10, u8::try_from(body.len()).expect("short")], body].concat()
    }

    #[test]
    fn a_first_packet_of_both_protocols_is_read_with_a_binary_will() {
        let bytes = connect("MQIsdp", 3, 0xee, &[b"c", b"w/t", b"\xff\x00", b"u", b"\xfe"]);
        let Ok(Some(Packet::Connect(read))) = read_all(&bytes) else { panic!("{:?}", read_all(&bytes)) };
        let will = Publication { message: Message { topic: "w/t".to_owned(), payload: [255, 0].into() }, qos: QoS::AtLeastOnce, retain: true };
        let password = Some([254].into());
        assert_eq!(*read, Connect { old: true, client: "c".to_owned(), clean: true, keepalive: 60, will: Some(will), user: Some("u".to_owned()), password });
        assert!(matches!(read_all(&connect("MQTT", 4, 2, &[b""])), Ok(Some(Packet::Connect(connect))) if connect.client.is_empty() && !connect.old));
        assert_eq!(read_all(&connect("MQTT", 5, 2, &[b"", b""])), Ok(Some(Packet::Foreign(5))));
    }

    #[test]
    fn what_no_client_says_is_refused() {
        let bad: Vec<(&str, Vec<u8>)> = vec![
            ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            ("a reserved flag", connect("MQTT", 4, 3, &[b"c"])),
            ("a password without a user", connect("MQTT", 4, 0x42, &[b"c", b"p"])),
            ("QoS of no will", connect("MQTT", 4, 0x0a, &[b"c"])),
            ("a will of QoS 3", connect("MQTT", 4, 0x1e, &[b"c", b"t", b""])),
            ("a will to a filter", connect("MQTT", 4, 0x06, &[b"c", b"t/#", b""])),
            ("a name that is not UTF-8", connect("MQTT", 4, 2, &[b"\xff"])),
            ("a name with a zero", connect("MQTT", 4, 2, &[b"\0"])),
            ("a packet cut short", connect("MQTT", 4, 0x06, &[b"c"])),
            ("another protocol", connect("AMQP", 4, 2, &[b"c"])),
            ("an empty packet", vec![0x10, 0]),
            ("a SUBSCRIBE without its bit", vec![0x80, 6, 0, 1, 0, 1, b'a', 0]),
            ("a SUBSCRIBE for nothing", vec![0x82, 2, 0, 1]),
            ("a SUBSCRIBE with QoS 3", vec![0x82, 6, 0, 1, 0, 1, b'a', 3]),
            ("an UNSUBSCRIBE cut short", vec![0xa2, 3, 0, 1, 9]),
            ("a topic with a wildcard", vec![0x30, 3, 0, 1, b'#']),
            ("an empty topic", vec![0x30, 2, 0, 0]),
            ("QoS 3", vec![0x36, 5, 0, 1, b'a', 0, 1]),
            ("QoS 1 without an id", vec![0x32, 5, 0, 1, b'a', 0, 0]),
            ("a CONNACK", vec![0x20, 2, 0, 0]),
            ("kind 0", vec![0, 0]),
            ("kind 15", vec![0xf0, 0]),
            ("a length without an end", vec![0x30, 0xff, 0xff, 0xff, 0xff, 1]),
        ];
        for (what, bytes) in bad {
            assert!(matches!(read_all(&bytes), Err(Fault::Malformed(_))), "{what}: {:?}", read_all(&bytes));
        }
        assert_eq!(read_all(&[0x30, 0xe9, 0x07]), Err(Fault::TooLarge(1001)), "known before it has come");
    }

    #[test]
    fn a_packet_in_pieces_waits_for_its_end() {
        let whole = connect("MQTT", 4, 2, &[b"client"]);
        for cut in 0..whole.len() {
            assert_eq!(read_all(&whole[..cut]), Ok(None), "{cut}");
        }
        assert!(read_all(&whole).is_ok_and(|packet| packet.is_some()));
    }

    #[test]
    fn what_is_written_is_what_the_codec_reads() {
        for size in [0, 1, 120, 127, 128, 16_380, 20_000] {
            for (qos, id) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 65_535)] {
                let mut out = BytesMut::new();
                let message = Message { topic: "$hw/ä".to_owned(), payload: vec![7; size].into() };
                write_publish(&mut out, &message, Carriage { qos, retain: true, dup: qos != QoS::AtMostOnce, id });
                let Ok(v4::Packet::Publish(read)) = v4::Packet::read(&mut out, 1 << 20) else { panic!("{size}") };
                assert!(out.is_empty() && read.retain && read.dup == (qos != QoS::AtMostOnce), "{size}");
                assert_eq!((read.topic.as_str(), read.payload.len(), read.qos, read.pkid), ("$hw/ä", size, qos, id));
            }
        }
        let answers = [Answer::PubAck(1), Answer::PubRec(2), Answer::PubRel(3), Answer::PubComp(4), Answer::UnsubAck(5), Answer::PingResp];
        let mut out = BytesMut::new();
        answers.iter().for_each(|answer| write_answer(&mut out, *answer));
        let read: Vec<String> = std::iter::from_fn(|| v4::Packet::read(&mut out, 100).ok()).map(|packet| format!("{packet:?}")).collect();
        assert_eq!(
            read,
            [
                "PubAck(PubAck { pkid: 1 })",
                "PubRec(PubRec { pkid: 2 })",
                "PubRel(PubRel { pkid: 3 })",
                "PubComp(PubComp { pkid: 4 })",
                "UnsubAck(UnsubAck { pkid: 5 })",
                "PingResp"
            ]
        );
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 1u64;
        let mut byte = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            u8::try_from(state >> 56).expect("eight bits")
        };
        for _ in 0..50_000 {
            let length = usize::from(byte() % 24);
            let mut bytes = BytesMut::from_iter([byte(), u8::try_from(length).expect("short")]);
            bytes.extend((0..length).map(|_| if byte() % 2 == 0 { byte() % 5 } else { byte() }));
            while !bytes.is_empty() && matches!(read(&mut bytes, 100), Ok(Some(_))) {}
        }
    }
}
