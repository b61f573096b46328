//! The last message of each topic that was published to be kept. Bounded in
//! bytes; what finds no room is delivered but not kept.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use rumqttc::mqttbytes::QoS;

use super::packet::Message;
use super::topic::{self, Look, Tree};

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

    /// The next message that filters want, with their QoS; `None` when there is
    /// no more or when `steps` are used up. A walk passes over what no filter can
    /// want, and looks at the rest once for all filters together.
    pub fn next(&self, walk: &mut Walk, steps: &mut usize) -> Option<(&Rc<Message>, QoS, QoS)> {
        while !walk.ended && *steps > 0 {
            let Some((topic, (message, qos))) = self.messages.range::<str, _>((Bound::Included(walk.at.as_str()), Bound::Unbounded)).next() else {
                walk.ended = true;
                break;
            };
            let mut looked = 1;
            let look = walk.wanted.look(topic, &mut looked);
            *steps = steps.saturating_sub(looked);
            match look {
                Look::Wanted(wanted) => {
                    walk.at = topic::behind(topic);
                    return Some((message, *qos, wanted));
                }
                Look::Beyond(at) => {
                    debug_assert!(*at > **topic, "'{at}' is not behind '{topic}'");
                    walk.at = at;
                }
                Look::Nothing => walk.ended = true,
            }
        }
        None
    }
}

/// How far all kept messages were looked through for some filters.
#[derive(Debug, Default)]
pub struct Walk {
    /// The filters that are looked for.
    pub wanted: Tree,
    /// Topics before this text are done.
    at: String,
    /// All topics are done.
    pub ended: bool,
}

impl Walk {
    /// From the beginning.
    pub fn new(wanted: Tree) -> Self {
        Self { wanted, ..Self::default() }
    }
}

fn cost(message: &Message) -> usize {
    2 * message.topic.len() + message.payload.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::broker::Client;
    use crate::node::chance::Chance;

    fn message(topic: &str, payload: &[u8]) -> Rc<Message> {
        Rc::new(Message { topic: topic.to_owned(), payload: payload.into() })
    }

    fn walk(filters: &[&str]) -> Walk {
        let mut wanted = Tree::default();
        filters.iter().for_each(|filter| wanted.insert(filter, Client(0), QoS::AtMostOnce));
        Walk::new(wanted)
    }

    /// All topics that are found, and how many steps that took.
    fn found(retained: &Retained, filters: &[&str]) -> (Vec<String>, usize) {
        let (mut walk, mut left) = (walk(filters), usize::MAX);
        let all = std::iter::from_fn(|| retained.next(&mut walk, &mut left).map(|(message, ..)| message.topic.clone())).collect();
        (all, usize::MAX - left)
    }

    fn all(retained: &Retained, filter: &str) -> Vec<String> {
        found(retained, &[filter]).0
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
        assert_eq!(&*retained.next(&mut walk(&["a/b"]), &mut 9).expect("it is kept").0.payload, b"new");
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

    /// 7,600 devices and 900 filters with wildcards: each filter by itself would
    /// look at 6.8 million.
    #[test]
    fn many_filters_cost_no_more_than_what_they_find() {
        let mut retained = Retained::new(usize::MAX);
        for number in 0..7600 {
            retained.put(&message(&format!("site/line{}/dev{number}/state", number % 20), b"1"), QoS::AtMostOnce);
        }
        let check = |what: &str, pattern: &dyn Fn(usize) -> String, wanted: usize, most: usize| {
            let filters: Vec<String> = (0..900).map(pattern).collect();
            let (topics, steps) = found(&retained, &filters.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(topics.len(), wanted, "{what}");
            assert!(steps <= most, "{what}: {steps} steps, expected at most {most}");
        };
        check("each names a device", &|number| format!("+/+/dev{number}/#"), 900, 5 * 7600);
        check("each ends otherwise", &|number| format!("+/+/+/nothing{number}"), 0, 5 * 7600);
        check("each begins otherwise", &|number| format!("other{number}/+/+/#"), 0, 5 * 900);
        check("each is one topic", &|number| format!("site/line{}/dev{number}/state", number % 20), 900, 9 * 900);
        check("each is nobody's", &|number| format!("site/line1/dev{number}x/state"), 0, 10 * 900);
    }

    #[test]
    fn a_walk_goes_on_where_its_steps_ended() {
        let mut retained = Retained::new(usize::MAX);
        for number in 0..100 {
            retained.put(&message(&format!("a/{number}/x"), b"1"), QoS::AtMostOnce);
        }
        let mut walk = walk(&["a/+/x", "a/7/#"]);
        let (mut rounds, mut topics) = (0, 0);
        while !walk.ended {
            let mut steps = 10;
            while retained.next(&mut walk, &mut steps).is_some() {
                topics += 1;
            }
            rounds += 1;
        }
        assert!(topics == 100 && rounds > 30, "{topics} in {rounds} rounds");
    }

    /// Sorted as texts, `a/b` stands behind `a-b`: whatever stands between, the
    /// walk finds what each filter finds.
    #[test]
    fn a_walk_finds_what_a_list_finds() {
        let mut chance = Chance::new(5);
        let mut pick = |most: u64| chance.draw() % most;
        let words = ["a", "a-", "a-b", "b", "", "$", "$a", "!", "ab", "z", "+"];
        for round in 0..2000 {
            let mut text = |most| (0..=pick(4)).map(|_| words[usize::try_from(pick(most)).expect("small")]).collect::<Vec<_>>().join("/");
            let mut retained = Retained::new(usize::MAX);
            let topics: BTreeSet<String> = (0..20).map(|_| text(10)).filter(|topic| topic::is_name(topic)).collect();
            let filters: Vec<String> = (0..4).map(|_| text(11)).map(|filter| if filter.len() % 3 == 0 { format!("{filter}/#") } else { filter }).collect();
            let filters: Vec<&str> =
                filters.iter().map(String::as_str).chain((round % 7 == 0).then_some("#")).filter(|filter| topic::is_filter(filter)).collect();
            for topic in &topics {
                retained.put(&message(topic, b"1"), QoS::AtMostOnce);
            }
            let wanted: Vec<String> = topics.iter().filter(|topic| filters.iter().any(|filter| topic::matches(filter, topic))).cloned().collect();
            assert_eq!(found(&retained, &filters).0, wanted, "{filters:?} of {topics:?}");
        }
    }
}
