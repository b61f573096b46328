//! The one loop: one input at a time into the node, outputs to whichever shell
//! has room, until nothing is left. The loop never waits for a full queue, so it
//! cannot deadlock; shells wait for the loop.

mod alarm;
mod control;
pub mod facts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use serde_json::Value;
use smol::Timer;
use smol::channel::{self, Receiver, Sender};

use alarm::Alarm;

use crate::config::{BusMode, Config};
use crate::host::tasks::{Executor, Tasks};
use crate::host::{chance, clock, network, notify, signal};
use crate::modules::{self, Broker, Dmi, EdgeHub, Edged, EventBus, ServiceBus, Store};
use crate::node::Node;
use crate::node::ids::AskId;
use crate::node::input::Input;
use crate::node::now::{Mono, Now, Wall};

/// Inputs that may wait; shells with more to say wait themselves.
const INBOX: usize = 64;
/// Facts of the machine are read so often: pressure must be told within the
/// minute.
const FACTS: Duration = Duration::from_secs(30);
/// Routes change in several steps, pods' own among them.
const SETTLE: Duration = Duration::from_secs(1);
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why the agent could not run.
#[derive(Debug)]
pub enum AgentError {
    /// The store cannot be opened.
    Store(Box<dyn std::error::Error>),
    /// The agent's own broker cannot be started.
    Broker(Box<dyn std::error::Error>),
    /// The control socket cannot be opened.
    Control {
        /// Its path.
        path: std::path::PathBuf,
        /// Why.
        why: std::io::Error,
    },
}

impl std::fmt::Display for AgentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(why) => write!(f, "metamanager: {why}"),
            Self::Broker(why) => why.fmt(f),
            Self::Control { path, why } => write!(f, "control socket {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for AgentError {}

/// The present instant.
fn now() -> Now {
    let mono = u64::try_from(clock::monotonic().as_nanos()).unwrap_or(u64::MAX);
    Now { mono: Mono(mono), wall: Wall(clock::calendar_millis()) }
}

/// Runs the agent until a signal ends it. Pods stay.
pub fn run(config: Config) -> Result<(), AgentError> {
    let executor = Executor::default();
    let (inbox, inputs) = channel::bounded(INBOX);
    let (store, restored) = modules::open_store(&config.metamanager, clock::calendar_millis() / 1000, inbox.clone()).map_err(AgentError::Store)?;
    log::info!(target: "agent", "node '{}' starts with {} rows on disk", config.node.name, restored.rows.len());
    let listener = control::listen(&config.control.socket)?;
    let mut node = Node::new(config.clone(), restored, chance::seed(), now());
    node.handle(now(), Input::Facts(Box::new(facts::gather(&config))));
    let mut tasks = Tasks::new(&executor);
    let (asked, answers) = control::Answers::new();
    tasks.spawn(control::serve(listener, inbox.clone(), asked, executor.clone()));
    tasks.spawn(follow_facts(Arc::new(config.clone()), inbox.clone()));
    tasks.spawn(follow_signals(inbox.clone()));
    let broker = match config.eventbus.mode {
        BusMode::Internal => Some(modules::open_broker(&config, &executor).map_err(|why| AgentError::Broker(why.into()))?),
        BusMode::External | BusMode::Off => None,
    };
    let mut agent = Agent {
        edgehub: modules::open_edgehub(config.edgehub.clone(), &config.node.name, inbox.clone(), &executor),
        edged: modules::open_edged(config.edged.clone(), inbox.clone(), &executor),
        eventbus: modules::open_eventbus(config.eventbus.clone(), &config.node.name, inbox.clone(), &executor, broker.as_ref().map(Broker::visitors)),
        servicebus: modules::open_servicebus(config.servicebus.clone(), inbox.clone(), &executor),
        dmi: modules::open_dmi(config.dmi.clone(), inbox, &executor),
        _broker: broker,
        store,
        node,
        answers,
        alarm: Alarm::default(),
        last_words: None,
    };
    notify::say(notify::READY);
    executor.block_on(agent.live(&inputs));
    log::info!(target: "agent", "ends; pods stay");
    Ok(())
}

/// Node and shells.
struct Agent {
    node: Node,
    store: Store,
    edgehub: EdgeHub,
    edged: Edged,
    eventbus: EventBus,
    servicebus: ServiceBus,
    dmi: Dmi,
    _broker: Option<Broker>,
    answers: control::Answers,
    alarm: Alarm,
    /// Until when the node may still say something, once it shall end.
    last_words: Option<Mono>,
}

impl Agent {
    async fn live(&mut self, inputs: &Receiver<Input>) {
        loop {
            self.hand_out();
            if self.node.is_drained() || self.last_words.is_some_and(|until| until <= now().mono) {
                return;
            }
            let wake = [self.node.deadline().map(|(at, _)| at), self.last_words].into_iter().flatten().min();
            match self.next(inputs, wake).await {
                Some(input) => {
                    self.take(input);
                    // What has piled up is taken before anything is planned in
                    // shells' terms again.
                    while let Ok(input) = inputs.try_recv() {
                        self.take(input);
                    }
                }
                None => self.node.on_deadline(now()),
            }
        }
    }

    /// Gives an input to the node; the service manager hears of some.
    fn take(&mut self, input: Input) {
        if matches!(input, Input::Facts(_)) {
            notify::say(notify::ALIVE);
        }
        if matches!(input, Input::Stop) {
            notify::say(notify::STOPPING);
            self.last_words = Some(now().mono + FAREWELL);
        }
        self.node.handle(now(), input);
    }

    /// The next input, or `None` when it is time, or when the link or the
    /// broker's client has room again: that is nothing the node must hear.
    async fn next(&mut self, inputs: &Receiver<Input>, wake: Option<Mono>) -> Option<Input> {
        let freed = future::or(future::or(self.edgehub.freed(), self.eventbus.freed()), self.alarm.at(wake));
        future::or(async { inputs.recv().await.ok() }, async {
            freed.await;
            None
        })
        .await
    }

    /// Gives every shell what it has room for, the disk first.
    fn hand_out(&mut self) {
        while self.store.room()
            && let Some(batch) = self.node.poll_store()
        {
            self.store.put(batch);
        }
        while self.edgehub.room()
            && let Some(order) = self.node.poll_cloud()
        {
            self.edgehub.hand(order);
        }
        while self.edged.room()
            && let Some(order) = self.node.poll_runtime()
        {
            self.edged.hand(order);
        }
        while self.eventbus.room()
            && let Some(order) = self.node.poll_bus(now())
        {
            self.eventbus.hand(order);
        }
        while self.servicebus.room()
            && let Some(order) = self.node.poll_service()
        {
            self.servicebus.hand(order);
        }
        while self.dmi.room()
            && let Some(order) = self.node.poll_dmi()
        {
            self.dmi.hand(order);
        }
        while let Some((id, answer)) = self.node.poll_answer() {
            self.answers.give(id, answer);
        }
    }
}

/// Facts are read again after a while, and soon after the network changed; beside
/// the loop's thread, for a file system may not answer.
async fn follow_facts(config: Arc<Config>, inbox: Sender<Input>) {
    let changes = network::Changes::listen().inspect_err(|why| log::warn!(target: "agent", "changes of the network are not heard: {why}")).ok();
    loop {
        let changed = async {
            match &changes {
                Some(changes) if changes.next().await.is_ok() => Timer::after(SETTLE).await,
                Some(_) | None => future::pending().await,
            }
        };
        future::or(changed, Timer::after(FACTS)).await;
        let config = config.clone();
        let facts = smol::unblock(move || Box::new(facts::gather(&config))).await;
        let _ = inbox.send(Input::Facts(facts)).await;
    }
}

async fn follow_signals(inbox: Sender<Input>) {
    signal::termination().await;
    let _ = inbox.send(Input::Stop).await;
}

/// Those who wait for an answer, by the number of their question.
type Waiting = BTreeMap<AskId, Sender<Value>>;
