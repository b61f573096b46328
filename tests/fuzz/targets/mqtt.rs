//! MQTT as the client and as the broker read it.

use bytes::BytesMut;
use selvedge::broker::packet::{self, Carriage, Packet};
use selvedge::eventbus::codec::{self, Said};

/// Largest packet taken.
const LIMIT: usize = 4096;

/// The bytes as they come from a broker, and as they come from a client.
pub fn mqtt(data: &[u8]) {
    from_a_broker(data);
    from_a_client(data);
}

fn from_a_broker(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    loop {
        let before = buffer.len();
        let said = match codec::read(&mut buffer, LIMIT) {
            Ok(Some(said)) => said,
            // It waits for more: never for more than a packet may have.
            Ok(None) => return assert!(buffer.len() < LIMIT + (1 << 16) + 16, "{} bytes wait", buffer.len()),
            Err(_) => return,
        };
        assert!(buffer.len() < before, "nothing was taken");
        if let Said::TooLarge { size, rest, .. } = said {
            assert!(size > LIMIT && rest < size);
            let there = rest.min(buffer.len());
            let _ = buffer.split_to(there);
        }
    }
}

fn from_a_client(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(packet)) = packet::read(&mut buffer, LIMIT) {
        if let Packet::Publish(publication, id) = packet {
            written_is_read_again(&publication, id);
        }
    }
}

fn written_is_read_again(publication: &packet::Publication, id: u16) {
    let mut out = BytesMut::new();
    let how = Carriage { qos: publication.qos, retain: publication.retain, dup: false, id };
    packet::write_publish(&mut out, &publication.message, how);
    let again = codec::read(&mut out, 2 * LIMIT).expect("it was written here").expect("it is whole");
    let Said::Publish { topic, payload, qos, retained, .. } = again else { panic!("{again:?}") };
    assert_eq!((&topic, &payload[..]), (&publication.message.topic, &publication.message.payload[..]));
    assert_eq!((qos, retained), (publication.qos, publication.retain));
}
