//! The broker's router: what clients send in steps, with bounds kept and what
//! it says readable.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use selvedge::broker::Connection;
use selvedge::broker::access::Access;
use selvedge::broker::packet;
use selvedge::broker::router::{Limits, Order, Router};
use selvedge::eventbus::codec;

use super::steps_of_length;

const LIMITS: Limits = Limits { clients: 4, queue: 16 << 10, retained: 16 << 10 };
const MOST: usize = 4096;
/// Connections that are played.
const LINES: usize = 6;

/// Steps: a byte for the connection (high bits: what happens to it), a byte of
/// length, and that many bytes that it sends.
pub fn broker(data: &[u8]) {
    let mut play = Play { router: Router::new(LIMITS, Access { anonymous: true, users: BTreeMap::new() }, 7), now: Duration::ZERO, lines: Default::default() };
    for (what, bytes) in steps_of_length(data) {
        play.step(usize::from(what & 0x0f) % LINES, what >> 4, bytes);
    }
    play.end();
}

#[derive(Default)]
struct Line {
    open: Option<Connection>,
    input: BytesMut,
}

struct Play {
    router: Router,
    now: Duration,
    lines: [Line; LINES],
}

impl Play {
    fn step(&mut self, line: usize, what: u8, bytes: &[u8]) {
        match what {
            0 => {
                if let Some(open) = self.lines[line].open.take() {
                    self.router.lost(self.now, open);
                }
            }
            1 => self.now += Duration::from_secs(bytes.first().copied().unwrap_or(1).into()),
            2 => self.read(),
            _ => self.sends(line, bytes),
        }
        if self.router.deadline().is_some_and(|at| at <= self.now) {
            self.router.on_deadline(self.now);
            assert!(self.router.deadline().is_none_or(|at| at > self.now), "a deadline that does not move");
        }
        self.obey();
    }

    fn sends(&mut self, line: usize, bytes: &[u8]) {
        let Self { router, now, lines } = self;
        let line = &mut lines[line];
        if line.open.is_none() {
            (line.open, line.input) = (router.connected(*now, false), BytesMut::new());
        }
        line.input.extend_from_slice(bytes);
        while let Some(open) = line.open {
            match packet::read(&mut line.input, MOST) {
                Ok(Some(packet)) => router.received(*now, open, packet),
                Ok(None) => return,
                Err(fault) => {
                    router.faulty(*now, open, &fault);
                    line.open = None;
                }
            }
        }
    }

    fn obey(&mut self) {
        while let Some(order) = self.router.poll() {
            if let Order::Close(closed) = order {
                self.lines.iter_mut().filter(|line| line.open == Some(closed)).for_each(|line| line.open = None);
            }
        }
    }

    /// Everybody reads all there is.
    fn read(&mut self) {
        for line in self.lines.iter().filter_map(|line| line.open) {
            let mut total = 0;
            loop {
                let mut out = BytesMut::new();
                self.router.fill(self.now, line, &mut out);
                if out.is_empty() {
                    break;
                }
                total += out.len();
                assert!(total < 1 << 20, "one client is sent {total} bytes by bounds of {} and {}", LIMITS.queue, LIMITS.retained);
                while codec::read(&mut out, 1 << 20).expect("the broker speaks MQTT").is_some() {}
                assert!(out.is_empty(), "half a packet");
            }
        }
    }

    fn end(&mut self) {
        self.read();
        self.obey();
        for line in &mut self.lines {
            if let Some(open) = line.open.take() {
                self.router.lost(self.now, open);
            }
        }
        assert!(self.router.deadline().is_none(), "nobody is there any more");
    }
}
