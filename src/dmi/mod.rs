//! The shell towards mappers: serves `DeviceManagerService` on a unix socket
//! and calls mappers' own sockets. What mappers ask is the node's business, and
//! so is what they are told.
//!
//! `server` has the socket and its connections, `http2` and `rpc` what is
//! spoken there; `calls` goes the other way. The server is HTTP/2 of our own,
//! for the authority that Go's clients send on a unix socket (its path, percent
//! encoded) is refused by the `h2` crate.

mod calls;
pub mod http2;
pub mod rpc;
mod server;

use std::cell::RefCell;
use std::rc::Rc;

use smol::channel::Sender;

use crate::config;
use crate::host::tasks::{Executor, Tasks};
use crate::node::dmi::Order;
use crate::node::input::Input;
use server::Waiting;

/// The door to mappers. What it does ends when it is dropped.
#[derive(Debug)]
pub struct Dmi {
    config: config::Dmi,
    executor: Executor,
    inbox: Sender<Input>,
    /// Those who wait for an answer.
    waiting: Waiting,
    calls: RefCell<Tasks>,
    _server: Tasks,
}

/// Opens the shell. A socket that cannot be had is tried again.
pub fn open(config: config::Dmi, inbox: Sender<Input>, executor: &Executor) -> Dmi {
    let waiting = Rc::default();
    let mut server = Tasks::new(executor);
    if config.enabled {
        server.spawn(server::serve(config.clone(), inbox.clone(), Rc::clone(&waiting), executor.clone()));
    }
    Dmi { config, executor: executor.clone(), inbox, waiting, calls: RefCell::new(Tasks::new(executor)), _server: server }
}

impl Dmi {
    /// Another order may be handed over: always, for each mapper has at most one
    /// call under way, and no answer waits for a call.
    pub fn room(&self) -> bool {
        true
    }

    /// Carries an order out.
    pub fn hand(&self, order: Order) {
        match order {
            Order::Answer(call, answer) => {
                if let Some(asker) = self.waiting.borrow_mut().remove(&call) {
                    asker.give(answer);
                }
            }
            Order::Call { call, mapper, socket, what } => {
                let (inbox, limit, executor) = (self.inbox.clone(), self.config.call_timeout, self.executor.clone());
                self.calls.borrow_mut().spawn(async move {
                    log::debug!(target: "dmi", "mapper '{mapper}' is called");
                    let result = calls::carry_out(&socket, *what, limit, &executor).await;
                    let _ = inbox.send(Input::MapperAnswered(call, result)).await;
                });
            }
        }
    }
}
