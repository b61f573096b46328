//! A TCP stream that acknowledges at once what it reads. Linux likes to wait up
//! to 40 ms for words of ours to ride on, and a broker that has Nagle's
//! algorithm on, as mosquitto has, keeps its next small packet for so long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite};
use rustix::net::sockopt::set_tcp_quickack;
use smol::net::TcpStream;

/// A stream in a hurry, both ways.
#[derive(Debug, Clone)]
pub struct Prompt {
    stream: TcpStream,
    /// Something was read that may not be acknowledged yet.
    owes: bool,
}

impl Prompt {
    /// Connects to `HOST:PORT`.
    pub async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, owes: false })
    }
}

impl AsyncRead for Prompt {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.owes = true;
        } else if std::mem::take(&mut self.owes) {
            // The kernel forgets it after a while, so it is said each time, but
            // only when all is read: it is one more call, and as many packets.
            let _ = set_tcp_quickack(&self.stream, true);
        }
        read
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
