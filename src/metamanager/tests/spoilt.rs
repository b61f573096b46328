//! Copies of a store that rotted: each gives the rows that were written, or tells.
//! `SELVEDGE_SPOILT=800` tries so many of each file.

use std::collections::BTreeMap;

use super::faults::{Fault, Memory};
use super::*;
use crate::node::chance::Chance;

type Objects = BTreeMap<String, String>;

fn objects(restored: Restored) -> Objects {
    restored.rows.objects.into_iter().map(|(name, text)| (name.to_string(), text)).collect()
}

fn copy(ring: &[u8], tree: &[u8]) -> Memory {
    let memory = Memory::default();
    memory.break_down(Fault::default());
    {
        let mut files = memory.files();
        (files.ring, files.tree) = (ring.to_vec(), tree.to_vec());
    }
    memory
}

/// Rows in redb, and some behind them in the ring; at rest.
fn store() -> (Vec<u8>, Vec<u8>, Objects) {
    let memory = Memory::default();
    let (mut store, _) = Store::open(memory.clone()).expect("a new store");
    let mut chance = Chance::new(1);
    for ticket in 1..900 {
        let size = usize::try_from(chance.draw() % 400).expect("small");
        assert_eq!(store.write(&[batch(ticket, &format!("o{}", ticket % 300), size)]).0, 1);
        if ticket == 700 {
            store.fold().expect("room");
        }
    }
    store.note();
    drop(store);
    let (ring, tree) = {
        let files = memory.files();
        (files.ring.clone(), files.tree.clone())
    };
    let rows = objects(Store::open(copy(&ring, &tree)).expect("the store").1);
    (ring, tree, rows)
}

fn spoil(bytes: &mut Vec<u8>, chance: &mut Chance) -> String {
    let mut draw = |below: usize| usize::try_from(chance.draw() % below as u64).expect("small");
    let pages = bytes.len() / 4096;
    let page = draw(pages);
    let span = page * 4096..(page + 1) * 4096;
    match draw(6) {
        0 => {
            let at = draw(bytes.len());
            bytes[at] ^= 1 << draw(8);
            format!("bit at {at}")
        }
        1 => {
            bytes[span].fill(0);
            format!("page {page} of zeros")
        }
        2 => {
            bytes[span].iter_mut().for_each(|byte| *byte = u8::try_from(draw(256)).expect("a byte"));
            format!("page {page} of garbage")
        }
        3 => {
            let length = draw(bytes.len());
            bytes.truncate(length);
            format!("cut at {length}")
        }
        4 => {
            let other = draw(pages);
            bytes.copy_within(span, other * 4096);
            format!("page {page} at {other}")
        }
        _ => {
            let (begin, length) = (draw(bytes.len() - 600), 1 + draw(512));
            bytes[begin..begin + length].fill(0xff);
            format!("{length} bytes at {begin}")
        }
    }
}

#[test]
fn what_rotted_is_told_or_does_not_matter() {
    let (ring, tree, rows) = store();
    let tries = std::env::var("SELVEDGE_SPOILT").ok().and_then(|tries| tries.parse().ok()).unwrap_or(40);
    for is_ring in [true, false] {
        let (mut right, mut told, mut crashed) = (0, 0, 0);
        for seed in 1..=tries {
            let (mut ring, mut tree) = (ring.clone(), tree.clone());
            let what = spoil(if is_ring { &mut ring } else { &mut tree }, &mut Chance::new(seed));
            let spoilt = copy(&ring, &tree);
            // A crash is survived by the mark that counts them.
            let opened = std::thread::spawn(move || Store::open(spoilt).map(|(_, restored)| objects(restored)));
            match opened.join() {
                Ok(Ok(found)) => {
                    right += 1;
                    assert!(found == rows, "ring {is_ring}, seed {seed}, {what}: wrong rows, and not told");
                }
                Ok(Err(why)) => {
                    told += 1;
                    assert!(why.is_damage(), "ring {is_ring}, seed {seed}, {what}: {why}");
                }
                Err(_) => crashed += 1,
            }
        }
        assert!(crashed * 50 <= tries, "ring {is_ring}: {crashed} crashed, {told} told, {right} right");
    }
}
