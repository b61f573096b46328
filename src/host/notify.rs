//! Tells the service manager how it goes, if there is one that listens.
//!
//! Source: sd_notify(3).

use std::os::unix::net::UnixDatagram;

/// The agent runs.
pub const READY: &str = "READY=1";
/// The agent still runs: sent by the loop itself.
pub const ALIVE: &str = "WATCHDOG=1";
/// The agent ends.
pub const STOPPING: &str = "STOPPING=1";

/// Says it; nobody listening is no error.
pub fn say(what: &str) {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        let _ = send(&path, what);
    }
}

fn send(path: &std::ffi::OsStr, what: &str) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::SocketAddr;
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_it() {
        let path = std::env::temp_dir().join(format!("selvedge-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).expect("a socket");
        send(path.as_os_str(), READY).expect("somebody listens");
        let mut heard = [0; 16];
        assert_eq!(manager.recv(&mut heard).map(|length| heard[..length].to_vec()).expect("it came"), READY.as_bytes());
        std::fs::remove_file(path).expect("it is ours");
    }
}
