//! Whose a device is, when several mappers have its protocol.

use crate::node::ids::MapperName;

/// A mapper that could have it.
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a MapperName,
    /// It is down, and has been for long.
    pub lost: bool,
}

/// The one who has it stays, unless it is lost; else the same of those that are
/// not lost has it always, whoever else comes or goes (rendezvous hashing).
pub fn owner<'a>(device: &str, has: Option<&MapperName>, candidates: &[Candidate<'a>]) -> Option<&'a MapperName> {
    let all_lost = candidates.iter().all(|candidate| candidate.lost);
    let fit = || candidates.iter().filter(|candidate| all_lost || !candidate.lost).map(|candidate| candidate.name);
    fit().find(|name| Some(*name) == has).or_else(|| fit().max_by_key(|name| (score(device, name.as_str()), *name)))
}

/// FNV-1a over both names, mixed once more, for it spreads its last bytes badly.
fn score(device: &str, mapper: &str) -> u64 {
    let bytes = device.bytes().chain([0]).chain(mapper.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<MapperName> {
        names.iter().map(|name| MapperName::from(*name)).collect()
    }

    fn living(names: &[MapperName]) -> Vec<Candidate<'_>> {
        names.iter().map(|name| Candidate { name, lost: false }).collect()
    }

    #[test]
    fn devices_are_spread_and_few_move_when_a_mapper_comes() {
        let (three, four) = (named(&["a", "b", "c"]), named(&["a", "b", "c", "d"]));
        let devices: Vec<String> = (0..300).map(|number| format!("default/thermostat-{number}")).collect();
        let of = |names: &[MapperName]| devices.iter().map(|device| owner(device, None, &living(names)).expect("one").to_string()).collect::<Vec<_>>();
        let (before, after) = (of(&three), of(&four));
        for name in ["a", "b", "c"] {
            assert!((60..140).contains(&before.iter().filter(|owner| *owner == name).count()), "{name}");
        }
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || after == "d"));
    }

    #[test]
    fn who_has_it_keeps_it_until_it_is_lost() {
        let names = named(&["a", "b"]);
        let with = |lost: [bool; 2]| names.iter().zip(lost).map(|(name, lost)| Candidate { name, lost }).collect::<Vec<_>>();
        for has in &names {
            assert_eq!(owner("default/d", Some(has), &with([false, false])), Some(has));
            assert_eq!(owner("default/d", Some(has), &with([true, true])), Some(has));
        }
        assert_eq!(owner("default/d", Some(&names[0]), &with([true, false])), Some(&names[1]));
        assert_eq!(owner("default/d", Some(&names[0]), &[]), None);
    }
}
