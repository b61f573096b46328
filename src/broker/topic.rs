//! Topics and filters: what is a proper one, which matches which, and a tree of
//! all filters that clients have subscribed.
//!
//! Source: MQTT 3.1.1, 4.7.

use std::collections::BTreeMap;
use std::ops::Bound;

use rumqttc::mqttbytes::QoS;

use super::Client;

/// Deeper filters are refused; nobody needs them, and the tree is walked level
/// by level.
pub const LEVELS: usize = 200;

/// Whether a message may have this topic.
pub fn is_name(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['+', '#', '\0'])
}

/// Whether a client may subscribe this: wildcards are whole levels, `#` is the
/// last one.
pub fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    let mut count = 0;
    while let Some(level) = levels.next() {
        count += 1;
        if level.len() > 1 && level.contains(['+', '#']) || level == "#" && levels.peek().is_some() {
            return false;
        }
    }
    !filter.is_empty() && !filter.contains('\0') && count <= LEVELS
}

/// Whether a topic matches a filter. Topics that begin with `$` match no
/// wildcard in the first level. What the tree finds is measured by it.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            (_, _) => return false,
        }
    }
    levels.next().is_none()
}

/// All filters, level by level.
#[derive(Debug, Default)]
pub struct Tree {
    below: BTreeMap<Box<str>, Self>,
    /// Filters that end here.
    here: Vec<(Client, QoS)>,
    /// Filters that end here with `#`.
    rest: Vec<(Client, QoS)>,
}

impl Tree {
    /// A client wants what matches; says so again with another QoS.
    pub fn insert(&mut self, filter: &str, client: Client, qos: QoS) {
        let list = match filter.split_once('/') {
            Some((level, rest)) => return self.below.entry(level.into()).or_default().insert(rest, client, qos),
            None if filter == "#" => &mut self.rest,
            None => &mut self.below.entry(filter.into()).or_default().here,
        };
        list.retain(|(other, _)| *other != client);
        list.push((client, qos));
    }

    /// A client wants it no longer.
    pub fn remove(&mut self, filter: &str, client: Client) {
        let (level, rest) = filter.split_once('/').map_or((filter, None), |(level, rest)| (level, Some(rest)));
        if rest.is_none() && level == "#" {
            return self.rest.retain(|(other, _)| *other != client);
        }
        let Some(tree) = self.below.get_mut(level) else { return };
        match rest {
            Some(rest) => tree.remove(rest, client),
            None => tree.here.retain(|(other, _)| *other != client),
        }
        if tree.below.is_empty() && tree.here.is_empty() && tree.rest.is_empty() {
            self.below.remove(level);
        }
    }

    /// Whether nobody wants anything.
    pub fn is_empty(&self) -> bool {
        self.below.is_empty() && self.rest.is_empty()
    }

    /// Who wants a message; a client with several filters is there several times.
    pub fn find(&self, topic: &str, found: &mut Vec<(Client, QoS)>) {
        if topic.starts_with('$') {
            let (level, rest) = topic.split_once('/').map_or((topic, None), |(level, rest)| (level, Some(rest)));
            if let Some(tree) = self.below.get(level) {
                tree.find_below(rest, found);
            }
        } else {
            self.find_below(Some(topic), found);
        }
    }

    fn find_below(&self, topic: Option<&str>, found: &mut Vec<(Client, QoS)>) {
        found.extend_from_slice(&self.rest);
        let Some(topic) = topic else { return found.extend_from_slice(&self.here) };
        let (level, rest) = topic.split_once('/').map_or((topic, None), |(level, rest)| (level, Some(rest)));
        for name in [level, "+"] {
            if let Some(tree) = self.below.get(name) {
                tree.find_below(rest, found);
            }
        }
    }
}

/// What some topic is to the filters of a tree, for who walks through sorted
/// topics.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// It is wanted, as surely as its surest filter says.
    Wanted(QoS),
    /// It is not, and neither is any before this text.
    Beyond(String),
    /// It is not, and neither is any behind it.
    Nothing,
}

impl Tree {
    /// Whether a topic is wanted by anybody, or which may be the next one.
    /// Counts how many branches it looked at.
    pub fn look(&self, topic: &str, steps: &mut usize) -> Look {
        let (mut here, mut start, mut best) = (vec![self], 0, None);
        loop {
            // MQTT 3.1.1, 4.7.2.
            let wild = start > 0 || !topic.starts_with('$');
            if wild {
                here.iter().for_each(|tree| surest(&mut best, &tree.rest));
            }
            let end = topic[start..].find('/').map_or(topic.len(), |at| start + at);
            let level = &topic[start..end];
            *steps += here.len();
            let next: Vec<&Self> = here.iter().flat_map(|tree| [tree.below.get(level), tree.below.get("+").filter(|_| wild)]).flatten().collect();
            if next.is_empty() {
                return best.map_or_else(|| beyond(&here, topic, start..end), Look::Wanted);
            }
            if end == topic.len() {
                for tree in next {
                    surest(&mut best, &tree.rest);
                    surest(&mut best, &tree.here);
                }
                return best.map_or_else(|| Look::Beyond(behind(topic)), Look::Wanted);
            }
            (here, start) = (next, end + 1);
        }
    }
}

/// The text right behind a topic: no topic has a null character.
pub fn behind(topic: &str) -> String {
    format!("{topic}\0")
}

fn surest(best: &mut Option<QoS>, wanted: &[(Client, QoS)]) {
    for (_, qos) in wanted {
        if best.is_none_or(|best| (best as u8) < *qos as u8) {
            *best = Some(*qos);
        }
    }
}

/// No filter goes on with this level of a topic: where the next topics are that
/// one may want. Topics are sorted as texts, so what is below `a` (`a/b`) stands
/// behind `a-b`.
fn beyond(here: &[&Tree], topic: &str, level: std::ops::Range<usize>) -> Look {
    let (above, tail, level) = (&topic[..level.start], &topic[level.start..], &topic[level]);
    let mut nearest: Option<String> = None;
    let mut nearer = |candidate: String| {
        if nearest.as_ref().is_none_or(|nearest| candidate < *nearest) {
            nearest = Some(candidate);
        }
    };
    for tree in here {
        let later = tree.below.range::<str, _>((Bound::Excluded(tail), Bound::Unbounded)).map(|(name, _)| name);
        later.filter(|name| ***name != *"+").take(1).for_each(|name| nearer(name.to_string()));
        for (at, _) in level.bytes().enumerate().filter(|(_, byte)| *byte < b'/') {
            if level.is_char_boundary(at) && tree.below.contains_key(&level[..at]) {
                nearer(format!("{}/", &level[..at]));
            }
        }
        // Wildcards, which do not take this one, take what begins with no `$`.
        if above.is_empty() && (!tree.rest.is_empty() || tree.below.contains_key("+")) {
            nearer("%".to_owned());
        }
    }
    match (nearest, above.strip_suffix('/')) {
        (Some(nearest), _) => Look::Beyond(format!("{above}{nearest}")),
        // `0` is the character behind `/`.
        (None, Some(above)) => Look::Beyond(format!("{above}0")),
        (None, None) => Look::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        let yes = [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "a/b"),
            ("#", "/"),
            ("+", "a"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("+/tennis/#", "sport/tennis"),
            ("a//b", "a//b"),
            ("a/+/b", "a//b"),
            ("$SYS/#", "$SYS/x"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("$hw/#", "$hw/events/device/default/d/twin/update"),
            ("$hw/events/device/+/+/twin/+", "$hw/events/device/default/d/twin/update"),
        ];
        let no = [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/x"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("+/user/#", "$hw/user/a"),
            ("a/b", "a/b/c"),
            ("a/b/c", "a/b"),
            ("A", "a"),
            ("a", "a/"),
        ];
        for (filter, topic) in yes.iter().chain(&no) {
            let wanted = yes.contains(&(*filter, *topic));
            let mut tree = Tree::default();
            tree.insert(filter, Client(1), QoS::AtMostOnce);
            let mut found = Vec::new();
            tree.find(topic, &mut found);
            assert_eq!((matches(filter, topic), found.len() == 1), (wanted, wanted), "{filter} {topic}");
            assert!(is_filter(filter) && is_name(topic), "{filter} {topic}");
        }
    }

    #[test]
    fn improper_ones_are_known() {
        for filter in ["", "a#", "a/b#", "#/a", "a/#/b", "a+", "+a/b", "a/++", "\0", &"/".repeat(LEVELS)] {
            assert!(!is_filter(filter), "{filter}");
        }
        for topic in ["", "a/+", "#", "a\0"] {
            assert!(!is_name(topic), "{topic}");
        }
    }

    #[test]
    fn the_tree_finds_what_a_list_finds_and_is_empty_in_the_end() {
        let mut state = 7u64;
        let mut pick = move |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).expect("31 bits") % most
        };
        let (mut tree, mut list) = (Tree::default(), BTreeMap::<(String, Client), QoS>::new());
        let words = ["a", "b", "", "$hw", "+", "#"];
        for round in 0..5_000 {
            let depth = 1 + pick(4);
            let text = |pick: &mut dyn FnMut(usize) -> usize, most| (0..depth).map(|_| words[pick(most)]).collect::<Vec<_>>().join("/");
            let (filter, topic, client) = (text(&mut pick, 6), text(&mut pick, 4), Client(pick(3) as u64));
            if is_filter(&filter) {
                if pick(3) == 0 {
                    tree.remove(&filter, client);
                    list.remove(&(filter, client));
                } else {
                    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][pick(3)];
                    tree.insert(&filter, client, qos);
                    list.insert((filter, client), qos);
                }
            }
            let mut found = Vec::new();
            tree.find(&topic, &mut found);
            let mut wanted: Vec<_> = list.iter().filter(|((filter, _), _)| matches(filter, &topic)).map(|((_, client), qos)| (*client, *qos)).collect();
            found.sort_unstable_by_key(|(client, qos)| (*client, *qos as u8));
            wanted.sort_unstable_by_key(|(client, qos)| (*client, *qos as u8));
            assert_eq!(found, wanted, "round {round}, topic '{topic}'");
        }
        for (filter, client) in list.keys() {
            tree.remove(filter, *client);
        }
        assert!(tree.below.is_empty() && tree.rest.is_empty(), "{tree:?}");
    }
}
