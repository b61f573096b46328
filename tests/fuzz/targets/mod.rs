//! What is fuzzed: each target is one plain function of bytes that asserts what
//! must hold whatever the bytes are. The binaries of libFuzzer call them, and
//! `replay` calls them with all of the corpus in `make test`.

mod broker;
mod config;
mod cri;
mod dmi;
mod http;
mod journal;
mod mqtt;
mod parsers;
mod pod;
mod records;
mod twins;
mod world;

pub use broker::broker;
pub use config::config;
pub use cri::cri;
pub use dmi::dmi;
pub use http::http;
pub use journal::journal;
pub use mqtt::mqtt;
pub use parsers::parsers;
pub use pod::pod;
pub use records::records;
pub use twins::twins;
pub use world::world;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: &[Target] = &[
    ("broker", broker),
    ("config", config),
    ("cri", cri),
    ("dmi", dmi),
    ("http", http),
    ("journal", journal),
    ("mqtt", mqtt),
    ("parsers", parsers),
    ("pod", pod),
    ("records", records),
    ("twins", twins),
    ("world", world),
];

/// The lines of an input of steps: its first byte says what is done, the rest
/// with what.
fn steps(data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let lines = data.split(|byte| *byte == b'\n');
    lines.filter_map(|line| line.split_first().map(|(first, rest)| (*first, rest)))
}

/// Steps of any bytes: one that says what is done, one of length, and that many.
fn steps_of_length(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[what, length], rest) = data.split_first_chunk::<2>()?;
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(length)));
        data = rest;
        Some((what, bytes))
    })
}

/// A word, and what follows it.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b' ') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}
