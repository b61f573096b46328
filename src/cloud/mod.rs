//! The stand-in for one bench, tests and demos: CloudHub and an EdgeController
//! that serves a folder of manifests to a few nodes, over the wire of the real
//! one. At scale the cloud is Kubernetes with CloudCore; this never is.
//!
//! `cluster` and what it is made of (`hub`, `controller`, `applications`, `apply`,
//! `workloads`, `rollout`, `scheduler`, `devices`, `router`, `objects`) and
//! `yaml` are pure; `https`, `websocket`, `manifests` and `control` touch the
//! world.

mod applications;
mod apply;
mod authority;
pub mod cluster;
mod control;
pub mod controller;
pub mod defaults;
pub mod devices;
pub mod devicestatus;
mod https;
pub mod hub;
pub mod manifests;
pub mod merge;
pub mod objects;
mod rollout;
pub mod router;
mod scheduler;
mod websocket;
pub mod workloads;
pub mod yaml;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use futures_rustls::TlsAcceptor;
use futures_rustls::rustls::server::WebPkiClientVerifier;
use futures_rustls::rustls::{self, RootCertStore, ServerConfig};
use smol::Timer;
use smol::channel::{self, Receiver, Sender};
use smol::net::{TcpListener, TcpStream};

use self::authority::Authority;
use self::cluster::{Cluster, Now};
use self::hub::{Order, Session};
use crate::edgehub::{enrol::EnrolError, identity};
use crate::host::tasks::{Executor, Tasks};
use crate::host::{chance, clock, signal, tls};
use crate::wire::message::Message;

/// How the stand-in is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to listen on; 127.0.0.1 unless told.
    pub listen: String,
    /// Port of the WebSocket.
    pub websocket: u16,
    /// Port of the HTTPS server.
    pub https: u16,
    /// Folder with what must survive: CA, objects, control socket.
    pub state: PathBuf,
    /// Folder of manifests that is followed.
    pub manifests: Option<PathBuf>,
    /// Answer requests to the API server, as CloudCore does when its
    /// dynamicController is on.
    pub dynamic_controller: bool,
    /// How long certificates of nodes are good; a year unless told.
    pub certificate_life: Option<Duration>,
}

impl Options {
    /// `HOST:PORT` of a port.
    pub fn address(&self, port: u16) -> String {
        let is_v6 = self.listen.parse::<std::net::Ipv6Addr>().is_ok();
        if is_v6 { format!("[{}]:{port}", self.listen) } else { format!("{}:{port}", self.listen) }
    }

    /// Where the running stand-in answers.
    pub fn socket(&self) -> PathBuf {
        self.state.join("control.sock")
    }
}

/// Why the stand-in could not run.
#[derive(Debug)]
pub enum CloudError {
    /// A key or a certificate could not be made.
    Crypto(String),
    /// A file cannot be read, written or understood.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A port cannot be had.
    Listen {
        /// The address.
        address: String,
        /// Why.
        why: std::io::Error,
    },
}

impl std::fmt::Display for CloudError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Crypto(why) => f.write_str(why),
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Listen { address, why } => write!(f, "{address}: {why}"),
        }
    }
}

impl std::error::Error for CloudError {}

impl From<EnrolError> for CloudError {
    fn from(error: EnrolError) -> Self {
        Self::Crypto(error.to_string())
    }
}

impl From<rustls::Error> for CloudError {
    fn from(error: rustls::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}

/// What all parts of a running stand-in share; one thread.
pub struct Stand {
    authority: Authority,
    cluster: RefCell<Cluster>,
    sockets: RefCell<BTreeMap<Session, websocket::Outbox>>,
    watchers: RefCell<Vec<Sender<String>>>,
    /// Something happened: deadlines may be others.
    stirred: (Sender<()>, Receiver<()>),
    /// Something happened: the state is to be written.
    unsaved: (Sender<()>, Receiver<()>),
}

/// The present instant.
fn now() -> Now {
    Now { mono: i64::try_from(clock::monotonic().as_millis()).unwrap_or(i64::MAX), wall: clock::calendar_millis() }
}

impl Stand {
    fn open(options: &Options) -> Result<Self, CloudError> {
        let authority = Authority::open(&options.state, now().wall, options.certificate_life.and_then(|life| life.try_into().ok()).unwrap_or(authority::YEAR))?;
        let salt = u32::try_from(chance::seed() >> 32).unwrap_or(0);
        let path = options.state.join("objects.json");
        let cluster: Cluster = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|why| CloudError::File { path, why: why.to_string() })?,
            Err(_) => Cluster::default(),
        };
        let stand = Self {
            authority,
            cluster: RefCell::new(cluster.salted(salt).with_dynamic_controller(options.dynamic_controller)),
            sockets: RefCell::default(),
            watchers: RefCell::default(),
            stirred: channel::bounded(1),
            unsaved: channel::bounded(1),
        };
        let pem = stand.authority.pem();
        stand.act(|cluster| cluster.set_root_ca(now(), &pem));
        Ok(stand)
    }

    /// Does something with the cluster, and what it leads to.
    fn act<T>(&self, what: impl FnOnce(&mut Cluster) -> T) -> T {
        let mut cluster = self.cluster.borrow_mut();
        let result = what(&mut cluster);
        while let Some(order) = cluster.poll() {
            self.carry_out(order);
        }
        while let Some(change) = cluster.poll_news() {
            let mut watchers = self.watchers.borrow_mut();
            if !watchers.is_empty() {
                let line = control::line(&change);
                watchers.retain(|watcher| watcher.try_send(line.clone()).is_ok());
            }
        }
        // Full means: it is known already.
        let _ = self.stirred.0.try_send(());
        let _ = self.unsaved.0.try_send(());
        result
    }

    fn carry_out(&self, order: Order) {
        let mut sockets = self.sockets.borrow_mut();
        match order {
            Order::Send(session, message) => {
                // A node that reads nothing is cut off.
                if sockets.get(&session).is_some_and(|outbox| outbox.try_send(message.text()).is_err()) {
                    sockets.remove(&session);
                }
            }
            Order::Close(session) => drop(sockets.remove(&session)),
        }
    }

    fn connected(&self, node: &str, outbox: websocket::Outbox) -> Session {
        let session = self.act(|cluster| cluster.connected(now(), node));
        self.sockets.borrow_mut().insert(session, outbox);
        session
    }

    fn disconnected(&self, session: Session) {
        self.sockets.borrow_mut().remove(&session);
        self.act(|cluster| cluster.disconnected(session));
    }

    fn received(&self, session: Session, message: &Message) {
        self.act(|cluster| cluster.received(now(), session, message, &self.authority));
    }
}

/// Runs the stand-in until a signal ends it; `ready` is called when nodes may
/// come.
pub fn run(options: &Options, ready: impl FnOnce(&str)) -> Result<(), CloudError> {
    std::fs::create_dir_all(&options.state).map_err(|why| CloudError::File { path: options.state.clone(), why: why.to_string() })?;
    let executor = Executor::default();
    let stand = Rc::new(Stand::open(options)?);
    executor.block_on(async {
        let mut tasks = Tasks::new(&executor);
        let (open, shut) = configs(&stand.authority, &options.listen)?;
        let https = listen(options, options.https).await?;
        let nodes = listen(options, options.websocket).await?;
        let socket = options.socket();
        let questions = crate::host::socket::listen(&socket, "selvedge").map_err(|why| CloudError::File { path: socket, why: why.to_string() })?;
        tasks.spawn(accept(https, open, stand.clone(), executor.clone(), |stand, stream| async move {
            https::serve(stand, stream).await.map_err(|why| why.to_string())
        }));
        tasks.spawn(accept(nodes, shut, stand.clone(), executor.clone(), |stand, stream| async move {
            websocket::serve(stand, stream).await.map_err(|why| why.to_string())
        }));
        tasks.spawn(control::serve(questions, stand.clone(), executor.clone()));
        tasks.spawn(keep_time(stand.clone()));
        if let Some(folder) = options.manifests.clone() {
            tasks.spawn(manifests::follow(folder, stand.clone()));
        }
        tasks.spawn(keep_state(stand.clone(), options.state.join("objects.json")));
        ready(&stand.authority.join_token(now().wall));
        signal::termination().await;
        save(&stand, &options.state.join("objects.json"), &mut String::new())
    })
}

/// TLS for those who come with a token, and for those who have a certificate.
fn configs(authority: &Authority, address: &str) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>), CloudError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.ca().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider());
    let failed = |why: rustls::server::VerifierBuilderError| CloudError::Crypto(why.to_string());
    let (optional, required) = (verifier.clone().allow_unauthenticated().build().map_err(failed)?, verifier.build().map_err(failed)?);
    let make = |verifier| -> Result<_, CloudError> {
        let (certificate, key) = authority.serve(&authority::names(address), clock::calendar_millis())?;
        let builder = ServerConfig::builder_with_provider(tls::provider()).with_protocol_versions(rustls::DEFAULT_VERSIONS)?;
        Ok(Arc::new(builder.with_client_cert_verifier(verifier).with_single_cert(vec![certificate], key)?))
    };
    Ok((make(optional)?, make(required)?))
}

async fn listen(options: &Options, port: u16) -> Result<TcpListener, CloudError> {
    let address = options.address(port);
    TcpListener::bind(&address).await.map_err(|why| CloudError::Listen { address, why })
}

/// Serves everybody who connects; one at fault harms nobody else.
async fn accept<F: Future<Output = Result<(), String>> + 'static>(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    stand: Rc<Stand>,
    executor: Executor,
    serve: impl Fn(Rc<Stand>, futures_rustls::server::TlsStream<TcpStream>) -> F + Copy + 'static,
) {
    let mut tasks = Tasks::new(&executor);
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let (acceptor, stand) = (TlsAcceptor::from(config.clone()), stand.clone());
        tasks.spawn(async move {
            let _ = stream.set_nodelay(true);
            let result = match acceptor.accept(stream).await {
                Ok(stream) => serve(stand, stream).await,
                Err(why) => Err(why.to_string()),
            };
            if let Err(why) = result {
                log::debug!(target: "cloud", "{peer}: {why}");
            }
        });
    }
}

/// Comes back to the cluster when it asked for it.
async fn keep_time(stand: Rc<Stand>) {
    loop {
        let wait = stand.cluster.borrow().deadline(now()) - now().mono;
        let sleep = async {
            Timer::after(Duration::from_millis(u64::try_from(wait).unwrap_or(0))).await;
            true
        };
        let (_, stirred) = &stand.stirred;
        let stir = async {
            let _ = stirred.recv().await;
            false
        };
        if future::or(sleep, stir).await {
            stand.act(|cluster| cluster.on_deadline(now()));
        }
    }
}

/// The state is written a second after something happened, if it is another.
async fn keep_state(stand: Rc<Stand>, path: PathBuf) {
    let mut written = String::new();
    while stand.unsaved.1.recv().await.is_ok() {
        Timer::after(Duration::from_secs(1)).await;
        if let Err(why) = save(&stand, &path, &mut written) {
            log::error!(target: "cloud", "{why}");
        }
    }
}

fn save(stand: &Stand, path: &std::path::Path, written: &mut String) -> Result<(), CloudError> {
    let text = serde_json::to_string(&*stand.cluster.borrow()).map_err(|why| CloudError::File { path: path.to_owned(), why: why.to_string() })?;
    if *written != text {
        identity::write(path, &text, 0o600)?;
        *written = text;
    }
    Ok(())
}
