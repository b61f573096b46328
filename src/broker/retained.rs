//! The last message of each topic that was published to be kept. Bounded in
//! bytes; what finds no room is delivered but not kept.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use rumqttc::mqttbytes::QoS;

use super::packet::Message;
use super::topic;

/// What an entry costs besides topic (twice: the key) and payload.
const OVERHEAD: usize = 128;

/// What is kept.
#[derive(Debug)]
pub struct Retained {
    messages: BTreeMap<Box<str>, (Rc<Message>, QoS)>,
    bytes: usize,
    limit: usize,
}

impl Retained {
    /// Nothing yet, and never more than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { messages: BTreeMap::new(), bytes: 0, limit }
    }

    /// Keeps a message instead of the one before; an empty one ends that. False
    /// when there is no room: then nothing is kept of this topic, because the
    /// old would be wrong.
    pub fn put(&mut self, message: &Rc<Message>, qos: QoS) -> bool {
        if let Some((old, _)) = self.messages.remove(message.topic.as_str()) {
            self.bytes -= cost(&old);
        }
        if message.payload.is_empty() {
            return true;
        }
        let fits = self.bytes + cost(message) <= self.limit;
        if fits {
            self.bytes += cost(message);
            self.messages.insert(message.topic.as_str().into(), (message.clone(), qos));
        }
        fits
    }

    /// The first message that matches, of those behind a topic.
    pub fn next(&self, filter: &str, behind: Option<&str>) -> Option<&(Rc<Message>, QoS)> {
        let fixed = topic::fixed_part(filter);
        let from = behind.map_or(Bound::Included(fixed), Bound::Excluded);
        let candidates = self.messages.range::<str, _>((from, Bound::Unbounded)).take_while(|(topic, _)| topic.starts_with(fixed));
        candidates.filter(|(topic, _)| topic::matches(filter, topic)).map(|(_, kept)| kept).next()
    }
}

fn cost(message: &Message) -> usize {
    2 * message.topic.len() + message.payload.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &[u8]) -> Rc<Message> {
        Rc::new(Message { topic: topic.to_owned(), payload: payload.into() })
    }

    fn all(retained: &Retained, filter: &str) -> Vec<String> {
        let mut behind = None;
        std::iter::from_fn(|| {
            let topic = retained.next(filter, behind.as_deref())?.0.topic.clone();
            behind = Some(topic.clone());
            Some(topic)
        })
        .collect()
    }

    #[test]
    fn the_newest_of_a_topic_is_kept_until_it_is_emptied() {
        let mut retained = Retained::new(10_000);
        for topic in ["a", "a/b", "a/c", "ab", "$x/y", "z"] {
            assert!(retained.put(&message(topic, b"old"), QoS::AtLeastOnce) && retained.put(&message(topic, b"new"), QoS::AtLeastOnce));
        }
        assert_eq!(all(&retained, "a/#"), ["a", "a/b", "a/c"]);
        assert_eq!(all(&retained, "#"), ["a", "a/b", "a/c", "ab", "z"]);
        assert_eq!(all(&retained, "$x/+"), ["$x/y"]);
        assert!(all(&retained, "a/d").is_empty());
        assert_eq!(&*retained.next("a/b", None).expect("it is kept").0.payload, b"new");
        for topic in ["a", "a/b", "a/c", "ab", "$x/y", "z"] {
            assert!(retained.put(&message(topic, b""), QoS::AtMostOnce));
        }
        assert_eq!((retained.bytes, retained.messages.len()), (0, 0));
    }

    #[test]
    fn what_finds_no_room_is_not_kept_and_neither_is_what_it_replaces() {
        let mut retained = Retained::new(2 * (OVERHEAD + 10));
        assert!(retained.put(&message("a", &[1; 8]), QoS::AtMostOnce) && retained.put(&message("b", &[1; 8]), QoS::AtMostOnce));
        assert!(!retained.put(&message("c", &[1; 8]), QoS::AtMostOnce));
        assert!(!retained.put(&message("a", &[1; 9]), QoS::AtMostOnce));
        assert_eq!(all(&retained, "#"), ["b"]);
    }
}
