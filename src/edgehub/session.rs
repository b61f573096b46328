//! One open WebSocket: messages in, messages out, until either side ends it.

use std::time::Duration;

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{self, Error};
use futures_lite::{AsyncRead, AsyncWrite, StreamExt, future};
use smol::Timer;
use smol::channel::{Receiver, Sender};

use super::queued::Queued;
use crate::node::ids::Session;
use crate::node::input::{Input, LinkEnd};
use crate::wire::message::Message;

/// How long the socket may take for one message.
const WRITE: Duration = Duration::from_secs(15);

/// Runs a session to its end.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    number: Session,
    inbox: &Sender<Input>,
    queue: &Receiver<Box<Message>>,
    queued: &Queued,
    closes: &Receiver<()>,
) -> LinkEnd {
    if inbox.send(Input::LinkUp(number)).await.is_err() {
        return LinkEnd::HungUp;
    }
    let (mut writer, mut reader) = socket.split();
    let read = async {
        loop {
            match reader.next().await {
                Some(Ok(message)) => {
                    if let Some(input) = parse(number, &message)
                        && inbox.send(input).await.is_err()
                    {
                        return LinkEnd::HungUp;
                    }
                }
                Some(Err(error)) => return ended(&error),
                None => return LinkEnd::Closed("the cloud closed the connection".to_owned()),
            }
        }
    };
    let write = async {
        while let Ok(message) = queue.recv().await {
            let text = message.text();
            let sent = future::or(async { writer.send(tungstenite::Message::text(text)).await.map_err(|error| error.to_string()) }, async {
                Timer::after(WRITE).await;
                Err("a message could not be written in time".to_owned())
            });
            if let Err(why) = sent.await {
                return LinkEnd::Closed(why);
            }
            queued.remove(&message);
        }
        LinkEnd::HungUp
    };
    let closed = async {
        let _ = closes.recv().await;
        LinkEnd::HungUp
    };
    let end = future::or(closed, future::or(read, write)).await;
    if let LinkEnd::TooLarge(why) = &end {
        let frame = CloseFrame { code: CloseCode::Size, reason: why.clone().into() };
        let _ = future::or(async { writer.close(Some(frame)).await.is_ok() }, async {
            Timer::after(Duration::from_secs(1)).await;
            false
        })
        .await;
    }
    end
}

/// Text and binary messages carry JSON; the rest is the protocol's own.
fn parse(number: Session, message: &tungstenite::Message) -> Option<Input> {
    let text = match message {
        tungstenite::Message::Text(text) => text.as_str(),
        tungstenite::Message::Binary(bytes) => std::str::from_utf8(bytes).unwrap_or(""),
        tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_) | tungstenite::Message::Close(_) | tungstenite::Message::Frame(_) => return None,
    };
    Some(match Message::parse(text) {
        Ok(message) => Input::Received(number, Box::new(message)),
        Err(why) => Input::Garbled(number, why.to_string()),
    })
}

fn ended(error: &Error) -> LinkEnd {
    if let Error::Capacity(why) = error {
        return LinkEnd::TooLarge(why.to_string());
    }
    LinkEnd::Closed(error.to_string())
}
