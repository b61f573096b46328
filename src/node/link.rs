//! placeholder
use super::ids::Session;
use crate::wire::message::Message;

/// What the node hands to the link's shell.
#[derive(Debug)]
pub enum Order {
    /// Open a session with this number; answered by `LinkUp` or `LinkDown`.
    Dial(Session),
    /// Send a message; answered by `Sent` once the socket took it.
    Send(Session, Box<Message>),
    /// Close the session; answered by `LinkDown`.
    HangUp(Session),
}
