//! Where clients come from: addresses, unix sockets, the agent itself.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;
use futures_rustls::TlsAcceptor;
use rustix::net::sockopt::set_socket_keepalive;
use smol::Timer;
use smol::channel::Receiver;
use smol::net::unix::UnixStream;
use smol::net::{TcpListener, TcpStream};

use super::BrokerError;
use super::line::Hub;
use crate::config::Listen;
use crate::host::socket;
use crate::host::tasks::{Executor, Tasks};
use crate::host::tls::{self, BadFile, Secured};

/// First and longest wait for an address that somebody else holds.
const WAITS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once.
const HANDSHAKES: usize = 16;
/// When no connection can be taken, mostly for want of file descriptors.
const BREATH: Duration = Duration::from_secs(1);

/// Takes connections of the agent itself.
pub async fn receive(hub: Rc<Hub>, arrivals: Receiver<UnixStream>) {
    while let Ok(stream) = arrivals.recv().await {
        hub.welcome(stream, true);
    }
}

/// Serves an address without TLS.
pub async fn plain(hub: Rc<Hub>, address: Listen) {
    match address {
        Listen::Tcp(address) => {
            let listener = bound(&address, async || TcpListener::bind(&address).await).await;
            each(
                &address,
                async || listener.accept().await,
                |(stream, _)| {
                    settle(&stream);
                    hub.welcome(stream, false);
                },
            )
            .await;
        }
        Listen::Unix(path) => {
            let name = path.display().to_string();
            let listener = bound(&name, async || socket::listen(&path, "selvedge")).await;
            each(&name, async || listener.accept().await, |(stream, _)| hub.welcome(stream, false)).await;
        }
    }
}

/// Serves an address with TLS; clients need no certificate.
pub async fn encrypted(hub: Rc<Hub>, address: String, acceptor: TlsAcceptor, executor: Executor) {
    let mut handshakes = Tasks::new(&executor);
    let listener = bound(&address, async || TcpListener::bind(&address).await).await;
    each(
        &address,
        async || listener.accept().await,
        |(stream, peer)| {
            settle(&stream);
            if handshakes.running() >= HANDSHAKES {
                return log::debug!(target: "broker", "{peer}: too many handshakes at once");
            }
            let (hub, acceptor) = (hub.clone(), acceptor.clone());
            handshakes.spawn(async move {
                let late = async {
                    Timer::after(HANDSHAKE).await;
                    Err(io::ErrorKind::TimedOut.into())
                };
                match future::or(acceptor.accept(stream), late).await {
                    Ok(stream) => hub.welcome(Secured(stream), false),
                    Err(why) => log::debug!(target: "broker", "{peer}: {why}"),
                }
            });
        },
    )
    .await;
}

/// Certificate chain and key, PEM.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, BrokerError> {
    let config = tls::chain(certificate).and_then(|chain| tls::server(chain, key));
    config.map(TlsAcceptor::from).map_err(|BadFile { path, why }| BrokerError { path, why })
}

/// Messages are small and wanted soon. Who asks for no keepalive by MQTT may be
/// gone without a word.
fn settle(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = set_socket_keepalive(stream, true);
}

/// Waits until an address can be had.
async fn bound<T>(address: &str, bind: impl AsyncFn() -> io::Result<T>) -> T {
    let (mut wait, longest) = WAITS;
    let mut told = false;
    loop {
        match bind().await {
            Ok(listener) => {
                log::info!(target: "broker", "listens on {address}");
                return listener;
            }
            Err(why) if !told => log::error!(target: "broker", "{address}: {why}; it is tried again until it can be had"),
            Err(why) => log::debug!(target: "broker", "{address}: {why}"),
        }
        told = true;
        Timer::after(wait).await;
        wait = (wait * 2).min(longest);
    }
}

/// Hands over everybody who connects.
async fn each<T>(address: &str, accept: impl AsyncFn() -> io::Result<T>, mut hand: impl FnMut(T)) {
    loop {
        match accept().await {
            Ok(stream) => hand(stream),
            Err(why) => {
                log::debug!(target: "broker", "{address}: {why}");
                Timer::after(BREATH).await;
            }
        }
    }
}
