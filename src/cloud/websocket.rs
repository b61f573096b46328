//! Port 10000: the WebSocket of nodes. It moves messages; what they mean is the
//! cluster's business.
//!
//! Source: cloud-protocol.md 2.

use std::rc::Rc;

use async_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use async_tungstenite::tungstenite::{self, Message as Frame};
use futures_lite::{StreamExt, future};
use futures_rustls::server::TlsStream;
use smol::channel;
use smol::net::TcpStream;

use super::Stand;
use crate::wire::message::Message;

/// Messages that may wait for a slow node; then it is cut off.
const QUEUE: usize = 4096;

/// What goes to a node's socket: text, or its end when the sender is dropped.
pub type Outbox = channel::Sender<String>;

/// Serves a node until either side ends it.
pub async fn serve(stand: Rc<Stand>, stream: TlsStream<TcpStream>) -> Result<(), tungstenite::Error> {
    let mut node = String::new();
    let mut heard = false;
    // The error's size is the trait's, not ours.
    #[allow(clippy::result_large_err)]
    let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        header("node_id").clone_into(&mut node);
        heard = header("connectionuse") == "msg";
        Ok(response)
    };
    let socket = async_tungstenite::accept_hdr_async(stream, look).await?;
    let (outbox, queue) = channel::bounded(QUEUE);
    let session = stand.connected(&node, outbox);
    log::info!(target: "cloud", "node '{node}' is connected");
    let (mut writer, mut reader) = socket.split();
    let read = async {
        while let Some(frame) = reader.next().await {
            let message = match frame? {
                Frame::Text(text) => Message::parse(text.as_str()),
                Frame::Binary(bytes) => Message::parse(&String::from_utf8_lossy(&bytes)),
                Frame::Close(Some(end)) => {
                    log::info!(target: "cloud", "node '{node}' says goodbye: {} {}", u16::from(end.code), end.reason);
                    continue;
                }
                Frame::Ping(_) | Frame::Pong(_) | Frame::Close(None) | Frame::Frame(_) => continue,
            };
            match message {
                Ok(message) if heard => stand.received(session, &message),
                Ok(_) => {}
                // As the real one: what does not parse ends the connection.
                Err(_) => break,
            }
        }
        Ok(())
    };
    let write = async {
        while let Ok(text) = queue.recv().await {
            writer.send(Frame::text(text)).await?;
        }
        Ok(())
    };
    let end = future::or(read, write).await;
    stand.disconnected(session);
    log::info!(target: "cloud", "node '{node}' is gone");
    end
}
