//! `selvedge join`: from a token to a certificate and a configuration.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use argh::FromArgs;
use futures_rustls::pki_types::CertificateDer;

use super::endpoint::Endpoint;
use super::output::line;
use super::{Exit, Failure};
use crate::config::edit::{self, EditError};
use crate::config::{self, Config, file, names};
use crate::edgehub::enrol::{self, Auth, Token};
use crate::edgehub::identity;

/// get a certificate from a KubeEdge cloud and write the configuration
#[derive(FromArgs)]
#[argh(subcommand, name = "join")]
pub struct Join {
    /// the cloud's HOST[:PORT] or https://HOST[:PORT]; port of CloudCore's WebSocket (default 10000)
    #[argh(option)]
    cloud: String,
    /// port of CloudCore's HTTPS server (default 10002)
    #[argh(option, default = "10002")]
    https_port: u16,
    /// file with the token of 'keadm gettoken', or - for standard input; SELVEDGE_TOKEN is read too
    #[argh(option)]
    token_file: Option<PathBuf>,
    /// the token itself; other users of this machine can see it in ps
    #[argh(option)]
    token: Option<String>,
    /// name of the node (default: the host name)
    #[argh(option)]
    node: Option<String>,
    /// take over a node of this name that is there already
    #[argh(switch)]
    reuse: bool,
    /// replace a key and a certificate that are another node's or another cloud's
    #[argh(switch)]
    force: bool,
}

impl Join {
    /// Joins.
    pub fn run(self, path: &Path) -> Result<Exit, Failure> {
        let token = Token::parse(&self.token()?).map_err(|why| Failure(Exit::Usage, why.to_string()))?;
        let config = self.config(path)?;
        // Before the token is used: a file that cannot be changed is told first.
        let text = self.text(path, &config)?;
        let owner = Owner::of(&config);
        if let Some(Owner::Unknown(why)) = &owner
            && !self.force
        {
            return Err(keep(&config, why));
        }
        let (https, node, proxy) = (&config.edgehub.https, &config.node.name, config.edgehub.proxy.as_deref());
        smol::block_on(async {
            line(&format!("asking {https} for its CA"));
            let ca = enrol::fetch_ca(https, &token, proxy).await.map_err(Failure::new)?;
            line("the CA is the one the token names");
            if let Some(Owner::ThisNode { cloud }) = &owner
                && *cloud != ca
                && !self.force
            {
                return Err(keep(&config, "they are for another cloud"));
            }
            if enrol::node_exists(https, &ca, node, proxy).await.map_err(Failure::new)? && !self.reuse {
                may_take_over(node)?;
            }
            line(&format!("asking for a certificate for node '{node}'"));
            let issued = enrol::certificate(https, &ca, node, Auth::Token(&token), proxy).await.map_err(Failure::new)?;
            identity::save(&config.edgehub, &ca, &issued).map_err(Failure::new)
        })?;
        write(path, &text).map_err(|why| Failure::new(format!("{}: {why}", path.display())))?;
        line(&format!("wrote {}", path.display()));
        line(&format!("node '{node}' may join {}; start it: systemctl enable --now selvedge, or selvedge run", config.edgehub.websocket));
        Ok(Exit::Ok)
    }

    fn token(&self) -> Result<String, Failure> {
        if let Some(token) = &self.token {
            eprintln!("selvedge: warning: --token shows the token in ps; --token-file does not");
            return Ok(token.clone());
        }
        match &self.token_file {
            Some(path) if path == Path::new("-") => {
                let mut text = String::new();
                std::io::stdin().take(16 << 10).read_to_string(&mut text).map_err(|why| Failure::new(format!("standard input: {why}")))?;
                Ok(text)
            }
            Some(path) => std::fs::read_to_string(path).map_err(|why| Failure::new(format!("{}: {why}", path.display()))),
            None => std::env::var("SELVEDGE_TOKEN")
                .map_err(|_| Failure(Exit::Usage, "a token is needed: --token-file FILE, or SELVEDGE_TOKEN; 'keadm gettoken' prints one".to_owned())),
        }
    }

    /// The configuration there is, with what was typed over it.
    fn config(&self, path: &Path) -> Result<Config, Failure> {
        let mut config =
            if path.exists() { config::load(path)? } else { file::parse("", &file::hostname()).map_err(|faults| Failure(Exit::Usage, faults.to_string()))? };
        let Endpoint { host, port } = Endpoint::parse(&self.cloud).map_err(|why| Failure(Exit::Usage, format!("--cloud '{}': {why}", self.cloud)))?;
        config.edgehub.websocket = format!("{host}:{port}");
        config.edgehub.https = format!("{host}:{}", self.https_port);
        for (key, own) in beside(path)? {
            match key {
                "ca" => config.edgehub.ca = own,
                "certificate" => config.edgehub.certificate = own,
                _ => config.edgehub.key = own,
            }
        }
        if let Some(node) = &self.node {
            config.node.name.clone_from(node);
        }
        names::node(&config.node.name)
            .map_err(|why| Failure(Exit::Usage, format!("'{}' cannot be the name of a node: {why}; give one with --node", config.node.name)))?;
        Ok(config)
    }

    /// The text of the configuration; of one that is there only these keys
    /// change.
    fn text(&self, path: &Path, config: &Config) -> Result<String, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(before) => edited(&before, config, &beside(path)?).map_err(|why| Failure(Exit::Usage, format!("{}: {why}", path.display())))?,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => file::render(&config.node.name, &config.edgehub, None),
            Err(why) => return Err(Failure::new(format!("{}: {why}", path.display()))),
        };
        file::parse(&text, &file::hostname()).map_err(|faults| Failure(Exit::Usage, format!("{}: {faults}", path.display())))?;
        Ok(text)
    }
}

/// Sets what was typed in a configuration, and where keys are if it says nothing
/// about that.
fn edited(before: &str, config: &Config, keys: &[(&'static str, PathBuf)]) -> Result<String, EditError> {
    let typed = [("node", "name", &config.node.name), ("edgehub", "https", &config.edgehub.https), ("edgehub", "websocket", &config.edgehub.websocket)];
    let text = typed.iter().try_fold(before.to_owned(), |text, (table, key, value)| edit::set(&text, table, key, value))?;
    keys.iter().try_fold(text, |text, (key, path)| edit::set(&text, "edgehub", key, &path.to_string_lossy()))
}

/// Files of the identity that the configuration does not name: they are beside
/// it. Beside the default configuration, these are the defaults.
fn beside(path: &Path) -> Result<Vec<(&'static str, PathBuf)>, Failure> {
    let failed = |why: std::io::Error| Failure::new(format!("{}: {why}", path.display()));
    let absolute = std::path::absolute(path).map_err(failed)?;
    let dir = absolute.parent().unwrap_or(Path::new("/"));
    if Some(dir) == Path::new(super::CONFIG).parent() {
        return Ok(Vec::new());
    }
    let text = match std::fs::read_to_string(path) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.map_err(failed)?,
    };
    let files = [("ca", "ca.crt"), ("certificate", "node.crt"), ("key", "node.key")];
    Ok(files.into_iter().filter(|(key, _)| !edit::has(&text, "edgehub", key)).map(|(key, name)| (key, dir.join(name))).collect())
}

/// Whose key and certificate are where ours go.
enum Owner {
    /// They are this node's own.
    ThisNode {
        /// The CA it was joined with.
        cloud: CertificateDer<'static>,
    },
    /// Another node's, or nobody knows: why.
    Unknown(String),
}

impl Owner {
    /// `None` when there are none.
    fn of(config: &Config) -> Option<Self> {
        let files = &config.edgehub;
        if !files.key.exists() && !files.certificate.exists() {
            return None;
        }
        Some(match identity::load(files, &config.node.name) {
            Ok(identity) => Self::ThisNode { cloud: identity.ca },
            Err(why) => Self::Unknown(why.to_string()),
        })
    }
}

/// Refuses to replace key and certificate.
fn keep(config: &Config, why: &str) -> Failure {
    let files = &config.edgehub;
    let other = "name another file with --config, or replace them with --force";
    Failure::new(format!("{} and {} exist already: {why}; {other}", files.key.display(), files.certificate.display()))
}

/// Writes a file whole or not at all; mode, owner and a symbolic link to it stay.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(dir) = target.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let temporary = target.with_extension("toml.new");
    let _ = std::fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| match std::fs::metadata(&target) {
        Ok(before) => {
            fchown(&file, Some(before.uid()), Some(before.gid()))?;
            file.set_permissions(before.permissions())
        }
        Err(_) => Ok(()),
    });
    let done = written.and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&temporary, &target));
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    done
}

/// A node of that name is there: only a person may say that it is this one.
fn may_take_over(node: &str) -> Result<(), Failure> {
    let refuse = || Failure::new(format!("the cluster has a node '{node}' already: choose another name with --node, or take it over with --reuse"));
    if !std::io::stdin().is_terminal() {
        return Err(refuse());
    }
    eprint!("the cluster has a node '{node}' already; is it this machine? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Failure::new)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_again_keeps_what_was_written_by_hand() {
        let mut config = file::parse("", "h").expect("defaults");
        config.node.name = "edge-2".into();
        for before in [
            "# mine\n[edgehub]\nwebsocket = \"old:1\" # gone\nheartbeat = \"10s\"\n[edged]\nmax_pods = 5\n",
            "# mine\nedgehub.websocket = 'old:1'\nedgehub.heartbeat = '10s'\nedged.max_pods = 5",
            "# mine\r\nedgehub = { websocket = 'old:1', heartbeat = '10s' }\r\n[edged]\r\nmax_pods = 5\r\n",
        ] {
            let after = edited(before, &config, &[]).expect(before);
            let read = file::parse(&after, "h").expect(&after);
            assert_eq!((read.node.name.as_str(), read.edged.max_pods, read.edgehub.heartbeat.as_secs()), ("edge-2", 5, 10));
            assert!(after.contains("# mine") && !after.contains("old:1"), "{after}");
        }
    }

    #[test]
    fn keys_are_beside_the_configuration_unless_it_names_them() {
        let dir = std::env::temp_dir().join(format!("selvedge-beside-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("room");
        let path = dir.join("node.toml");
        let names = |path: &Path| beside(path).expect("it can be read").into_iter().map(|(key, path)| format!("{key}={}", path.display())).collect::<Vec<_>>();
        let own = |name: &str| dir.join(name).display().to_string();
        let all = [format!("ca={}", own("ca.crt")), format!("certificate={}", own("node.crt")), format!("key={}", own("node.key"))];
        assert_eq!(names(&path), all, "a new file");
        std::fs::write(&path, "[edgehub]\nca = '/x/ca.crt'\n").expect("room");
        assert_eq!(names(&path), all[1..], "a file that names one of them");
        assert_eq!(names(Path::new(super::super::CONFIG)), [""; 0]);
        let config = file::parse("", "h").expect("defaults");
        let text = edited("[edgehub]\nca = '/x/ca.crt'\n", &config, &beside(&path).expect("it can be read")).expect("it is TOML");
        let read = file::parse(&text, "h").expect(&text).edgehub;
        assert_eq!((read.ca, read.key), (PathBuf::from("/x/ca.crt"), dir.join("node.key")));
        std::fs::remove_dir_all(dir).expect("it is ours");
    }

    #[test]
    fn a_file_keeps_its_mode_and_its_link() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = std::env::temp_dir().join(format!("selvedge-join-{}", std::process::id()));
        let (real, link) = (dir.join("real.toml"), dir.join("link.toml"));
        write(&real, "a = 1\n").expect("a new file");
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).expect("it is ours");
        symlink(&real, &link).expect("a link");
        write(&link, "a = 2\n").expect("the same file");
        assert!(std::fs::symlink_metadata(&link).expect("it is there").is_symlink());
        assert_eq!(std::fs::read_to_string(&real).expect("it is there"), "a = 2\n");
        assert_eq!(std::fs::metadata(&real).expect("it is there").permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(&dir).expect("it is there").count(), 2, "nothing is left over");
        std::fs::remove_dir_all(dir).expect("it is ours");
    }
}
