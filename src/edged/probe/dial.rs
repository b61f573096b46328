//! TCP connections to pods, and what fails on them in the words of Go, by which
//! people know the Events of probes.

use std::io;
use std::net::IpAddr;

use smol::net::TcpStream;

use crate::wire::url::{bare, bracketed};

/// A connection; an error names the operation and the address.
pub(super) async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    let host = bare(host);
    TcpStream::connect((host, port)).await.map_err(|why| {
        let is_address = host.parse::<IpAddr>().is_ok();
        // The resolver's errors have no number of the system.
        if !is_address && why.raw_os_error().is_none() {
            return format!("dial tcp: lookup {host}: {why}");
        }
        format!("dial tcp {}: connect: {}", authority(host, port), words(&why))
    })
}

/// Nobody answered in time.
pub(super) fn timed_out(host: &str, port: u16) -> String {
    format!("dial tcp {}: i/o timeout", authority(host, port))
}

/// Host and port as they are written in one.
pub(super) fn authority(host: &str, port: u16) -> String {
    format!("{}:{port}", bracketed(bare(host)))
}

/// Kinds of errors and Go's words for them.
const WORDS: [(io::ErrorKind, &str); 6] = [
    (io::ErrorKind::ConnectionRefused, "connection refused"),
    (io::ErrorKind::ConnectionReset, "connection reset by peer"),
    (io::ErrorKind::BrokenPipe, "broken pipe"),
    (io::ErrorKind::HostUnreachable, "no route to host"),
    (io::ErrorKind::NetworkUnreachable, "network is unreachable"),
    (io::ErrorKind::TimedOut, "connection timed out"),
];

/// An error as Go has it.
pub(super) fn words(why: &io::Error) -> String {
    let known = WORDS.iter().find(|(kind, _)| *kind == why.kind());
    known.map_or_else(|| why.to_string(), |(_, words)| (*words).to_owned())
}
