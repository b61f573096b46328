//! A plain MQTT client that blocks, for tests and load: packets are rumqttc's,
//! nothing of the program under test.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use rumqttc::mqttbytes::v4::{Connect, ConnectReturnCode, Packet, PubAck, PubRel, Publish, Subscribe};
use rumqttc::mqttbytes::{Error, QoS};

use super::stand::pause;

/// How long the broker may be silent.
const PATIENCE: Duration = Duration::from_secs(20);
const LARGEST: usize = 1 << 20;
/// Between two looks at many messages.
const BREATH: Duration = Duration::from_millis(1);
/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// Both ways of a connection; each may go to a thread of its own.
pub struct Client {
    pub say: Sayer,
    pub hear: Hearer,
}

pub struct Sayer {
    writer: Box<dyn Write + Send>,
    out: BytesMut,
    last: u16,
}

pub struct Hearer {
    reader: Box<dyn Read + Send>,
    buffer: BytesMut,
}

impl Client {
    /// A clean session on a unix socket.
    pub fn unix(socket: &Path, id: &str) -> Self {
        let stream = UnixStream::connect(socket).expect("the broker runs");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self::greet(Box::new(stream.try_clone().expect("a socket")), Box::new(stream), id)
    }

    /// A clean session on a port of the loopback.
    pub fn tcp(port: u16, id: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker runs");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self::greet(Box::new(stream.try_clone().expect("a socket")), Box::new(stream), id)
    }

    fn greet(reader: Box<dyn Read + Send>, writer: Box<dyn Write + Send>, id: &str) -> Self {
        let mut client = Self { say: Sayer { writer, out: BytesMut::new(), last: 0 }, hear: Hearer { reader, buffer: BytesMut::new() } };
        client.say.now(&Packet::Connect(Connect::new(id)));
        assert!(matches!(client.hear.packet(), Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success));
        client
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        let mut packet = Subscribe::new(filter, qos);
        packet.pkid = 1;
        self.say.now(&Packet::Subscribe(packet));
        while !matches!(self.hear.packet(), Packet::SubAck(_)) {}
    }

    /// Has the broker keep a message; QoS 0.
    pub fn retain(&mut self, topic: &str, payload: &[u8]) {
        let mut packet = Publish::new(topic, QoS::AtMostOnce, payload);
        packet.retain = true;
        self.say.now(&Packet::Publish(packet));
    }

    /// Publishes one message and waits until the broker has it.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS) {
        self.say.gather(topic, payload, qos);
        self.say.flush();
        let mut open = qos != QoS::AtMostOnce;
        while open {
            let packet = self.hear.packet();
            if let Packet::PubRec(ack) = packet {
                self.say.now(&Packet::PubRel(PubRel::new(ack.pkid)));
            } else {
                open = !matches!(packet, Packet::PubAck(_) | Packet::PubComp(_));
            }
        }
    }

    /// The next message; QoS 1 is acknowledged.
    pub fn message(&mut self) -> Publish {
        let publish = self.hear.message();
        if publish.qos == QoS::AtLeastOnce {
            self.say.now(&Packet::PubAck(PubAck::new(publish.pkid)));
        }
        publish
    }
}

impl Sayer {
    /// Gathers a message.
    pub fn gather(&mut self, topic: &str, payload: &[u8], qos: QoS) {
        let mut packet = Publish::new(topic, qos, payload);
        if qos != QoS::AtMostOnce {
            self.last = self.last.checked_add(1).unwrap_or(1);
            packet.pkid = self.last;
        }
        packet.write(&mut self.out).expect("a packet");
    }

    /// Writes what was gathered.
    pub fn flush(&mut self) {
        self.writer.write_all(&self.out).expect("the broker reads");
        self.out.clear();
    }

    fn now(&mut self, packet: &Packet) {
        // CONNECT wants a buffer of its own.
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).expect("a packet");
        self.out.put(bytes);
        self.flush();
    }

    /// Good-bye: the broker hangs up.
    pub fn end(mut self) {
        self.now(&Packet::Disconnect);
    }
}

impl Hearer {
    /// The next packet.
    pub fn packet(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.ready() {
                return packet;
            }
            let whole = self.buffer.len();
            self.buffer.resize(whole + CHUNK, 0);
            let read = self.reader.read(&mut self.buffer[whole..]).expect("the broker speaks in time");
            self.buffer.truncate(whole + read);
            assert!(read > 0, "the broker hung up");
        }
    }

    /// A packet that is here already.
    fn ready(&mut self) -> Option<Packet> {
        match Packet::read(&mut self.buffer, LARGEST) {
            Ok(packet) => Some(packet),
            Err(Error::InsufficientBytes(_)) => None,
            Err(why) => panic!("{why}"),
        }
    }

    /// Waits for a message and takes those that came with it; how many. It does
    /// not look after each: that would be work for the broker, too.
    pub fn several(&mut self) -> usize {
        pause(BREATH);
        self.message();
        let more = std::iter::from_fn(|| self.ready());
        1 + more.filter(|packet| matches!(packet, Packet::Publish(_))).count()
    }

    /// The next message; what else comes is left out.
    pub fn message(&mut self) -> Publish {
        loop {
            if let Packet::Publish(publish) = self.packet() {
                return publish;
            }
        }
    }

    /// Reads until the broker hangs up, and looks at nothing.
    pub fn drain(mut self) {
        let mut bytes = [0; CHUNK];
        while self.reader.read(&mut bytes).is_ok_and(|read| read > 0) {
            pause(BREATH);
        }
    }
}
