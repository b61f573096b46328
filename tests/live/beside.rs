//! A real mosquitto of its own, in a folder of its own.
#![allow(dead_code)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::load::Client;
use super::stand::pause;

pub struct Mosquitto {
    pub dir: PathBuf,
    /// Of the listener on the loopback.
    pub port: u16,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts one with two listeners: `mqtt.sock` in the folder for anybody, and
    /// a port on the loopback, to which these lines belong.
    pub fn start(name: &str, lines: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("selvedge-mosquitto-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let mut broker = Self { dir, port, child: None };
        let text = format!(
            "per_listener_settings true\n{}listener 0 {}\nallow_anonymous true\nlistener {port} 127.0.0.1\n{lines}\n",
            if rustix::process::getuid().is_root() { "user root\n" } else { "" },
            broker.socket().display(),
        );
        std::fs::write(broker.dir.join("mosquitto.conf"), text).expect("room");
        broker.run();
        broker
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("mqtt.sock")
    }

    /// More lines for its listener on the loopback, or for all of it.
    pub fn add(&self, lines: &str) {
        let path = self.dir.join("mosquitto.conf");
        let text = std::fs::read_to_string(&path).expect("it is ours");
        std::fs::write(path, text + lines).expect("room");
    }

    /// Runs (again).
    pub fn run(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).expect("a log");
        let config = self.dir.join("mosquitto.conf");
        let child = Command::new(program()).arg("-c").arg(config).stdout(Stdio::null()).stderr(log).spawn().expect("mosquitto");
        self.child = Some(child);
        for _ in 0..500 {
            if std::os::unix::net::UnixStream::connect(self.socket()).is_ok() {
                return;
            }
            pause(Duration::from_millis(10));
        }
        panic!("mosquitto does not start: {}", std::fs::read_to_string(self.dir.join("log")).unwrap_or_default());
    }

    /// SIGTERM: with `persistence` it writes down what it has.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM);
            let _ = child.wait();
        }
    }

    /// Its port, as the agent's configuration names it.
    pub fn tcp(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// And its unix socket.
    pub fn unix(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// A client on its unix socket.
    pub fn client(&self, id: &str) -> Client {
        Client::unix(&self.socket(), id)
    }

    /// Its process, for figures.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }
}

/// Debian has it where only root looks.
fn program() -> &'static str {
    if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
