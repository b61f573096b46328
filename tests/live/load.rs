//! A plain MQTT client that blocks, for tests and load: packets are rumqttc's,
//! nothing of the program under test.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck, PubRel, Publish, Subscribe};
use rumqttc::mqttbytes::{Error, QoS};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
const LARGEST: usize = 1 << 20;

pub struct Client {
    stream: UnixStream,
    buffer: BytesMut,
    out: BytesMut,
    last: u16,
    /// Of QoS 2.
    unfinished: usize,
}

impl Client {
    /// A connection with a clean session.
    pub fn connect(socket: &Path, id: &str) -> Self {
        let stream = UnixStream::connect(socket).expect("the broker runs");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut client = Self { stream, buffer: BytesMut::new(), out: BytesMut::new(), last: 0, unfinished: 0 };
        client.put(&Packet::Connect(Connect::new(id)));
        client.flush();
        assert!(matches!(client.read(), Packet::ConnAck(ack) if ack.code == rumqttc::mqttbytes::v4::ConnectReturnCode::Success));
        client
    }

    /// The same connection, for another thread that only reads.
    pub fn reader(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a socket"), buffer: BytesMut::new(), out: BytesMut::new(), last: 0, unfinished: 0 }
    }

    fn put(&mut self, packet: &Packet) {
        packet.write(&mut self.out, usize::MAX).expect("a packet");
    }

    /// Writes what was gathered.
    pub fn flush(&mut self) {
        self.stream.write_all(&self.out).expect("the broker reads");
        self.out.clear();
    }

    /// The next packet.
    pub fn read(&mut self) -> Packet {
        self.try_read().expect("the broker speaks in time")
    }

    fn try_read(&mut self) -> std::io::Result<Packet> {
        loop {
            match Packet::read(&mut self.buffer, LARGEST) {
                Ok(packet) => return Ok(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(why) => panic!("{why}"),
            }
            let mut bytes = [0; 16 << 10];
            let read = self.stream.read(&mut bytes)?;
            assert!(read > 0, "the broker hung up");
            self.buffer.extend_from_slice(&bytes[..read]);
        }
    }

    pub fn subscribe(&mut self, filter: &str, qos: QoS) {
        let mut packet = Subscribe::new(filter, qos);
        packet.pkid = 1;
        self.put(&Packet::Subscribe(packet));
        self.flush();
        while !matches!(self.read(), Packet::SubAck(_)) {}
    }

    /// Gathers a message.
    pub fn gather(&mut self, topic: &str, payload: &[u8], qos: QoS) {
        let mut packet = Publish::new(topic, qos, payload);
        if qos != QoS::AtMostOnce {
            self.last = self.last.checked_add(1).unwrap_or(1);
            packet.pkid = self.last;
        }
        self.unfinished += usize::from(qos == QoS::ExactlyOnce);
        self.put(&Packet::Publish(packet));
    }

    /// Publishes one message with QoS 1 and waits until the broker has it.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.gather(topic, payload, QoS::AtLeastOnce);
        self.flush();
        while !matches!(self.read(), Packet::PubAck(_)) {}
    }

    /// Writes what was gathered and goes all steps of QoS 2 with it.
    pub fn finish(&mut self) {
        self.flush();
        while self.unfinished > 0 {
            let packet = self.read();
            if let Packet::PubRec(ack) = packet {
                self.put(&Packet::PubRel(PubRel::new(ack.pkid)));
                self.flush();
            } else if let Packet::PubComp(_) = packet {
                self.unfinished -= 1;
            }
        }
    }

    /// The next message; QoS 1 is acknowledged.
    pub fn message(&mut self) -> Publish {
        loop {
            if let Packet::Publish(publish) = self.read() {
                if publish.qos == QoS::AtLeastOnce {
                    self.put(&Packet::PubAck(PubAck::new(publish.pkid)));
                    self.flush();
                }
                return publish;
            }
        }
    }

    /// Whether nothing comes for a while.
    pub fn is_quiet(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a socket");
        let quiet = self.try_read().is_err();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        quiet
    }
}
