//! Tells when an address or a route of the machine changed. Which, whoever
//! cares looks up.
//!
//! Source: rtnetlink(7).

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use smol::Async;

/// Groups of addresses and routes, IPv4 and IPv6 (`RTMGRP_*`).
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// An open ear.
#[derive(Debug)]
pub struct Changes(Async<OwnedFd>);

impl Changes {
    /// Listens from now on. `None` is NETLINK_ROUTE, the protocol 0.
    pub fn listen() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self(Async::new(socket)?))
    }

    /// Waits for a change; several at once are one.
    pub async fn next(&self) -> io::Result<()> {
        self.0.readable().await?;
        // What is lost when there is too much was a change, too.
        while recv(&self.0, &mut [0; 4096][..], RecvFlags::empty()).is_ok() {}
        Ok(())
    }
}
