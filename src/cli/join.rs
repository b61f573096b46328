//! `selvedge join`: from a token to a certificate and a configuration.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use argh::FromArgs;

use super::output::line;
use super::{Exit, Failure};
use crate::config::{self, Config, file};
use crate::edgehub::enrol::{self, Auth, Token};
use crate::edgehub::identity;

/// get a certificate from a KubeEdge cloud and write the configuration
#[derive(FromArgs)]
#[argh(subcommand, name = "join")]
pub struct Join {
    /// the cloud's HOST[:PORT]; port of CloudCore's WebSocket, 10000 unless told
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
}

impl Join {
    /// Joins.
    pub fn run(self, path: &Path) -> Result<Exit, Failure> {
        let token = Token::parse(&self.token()?).map_err(|why| Failure(Exit::Usage, why.to_string()))?;
        let config = self.config(path)?;
        let (https, node, proxy) = (&config.edgehub.https, &config.node.name, config.edgehub.proxy.as_deref());
        smol::block_on(async {
            line(&format!("asking {https} for its CA"));
            let ca = enrol::fetch_ca(https, &token, proxy).await.map_err(Failure::new)?;
            line("the CA is the one the token names");
            if enrol::node_exists(https, &ca, node, proxy).await.map_err(Failure::new)? && !self.reuse {
                may_take_over(node)?;
            }
            line(&format!("asking for a certificate for node '{node}'"));
            let issued = enrol::certificate(https, &ca, node, Auth::Token(&token), proxy).await.map_err(Failure::new)?;
            identity::save(&config.edgehub, &ca, &issued).map_err(Failure::new)
        })?;
        self.write(path, &config)?;
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
        let (host, port) = self.cloud.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).unwrap_or((&self.cloud, "10000"));
        config.edgehub.websocket = format!("{host}:{port}");
        config.edgehub.https = format!("{host}:{}", self.https_port);
        if let Some(node) = &self.node {
            config.node.name.clone_from(node);
        }
        if !file::is_dns_name(&config.node.name) {
            return Err(Failure(
                Exit::Usage,
                format!("'{}' is no name for a node: lower-case letters, digits, '-' and '.'; give one with --node", config.node.name),
            ));
        }
        Ok(config)
    }

    /// Writes the configuration; of one that is there only these keys change.
    fn write(&self, path: &Path, config: &Config) -> Result<(), Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(before) => edited(&before, config),
            Err(_) => file::render(&config.node.name, &config.edgehub, None),
        };
        let failed = |why: std::io::Error| Failure::new(format!("{}: {why}", path.display()));
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        let temporary = path.with_extension("toml.new");
        std::fs::write(&temporary, text).map_err(failed)?;
        std::fs::rename(&temporary, path).map_err(failed)?;
        line(&format!("wrote {}", path.display()));
        Ok(())
    }
}

/// Sets keys in a TOML text, line by line, so that comments stay.
fn edited(before: &str, config: &Config) -> String {
    let wanted = [("node", "name", &config.node.name), ("edgehub", "websocket", &config.edgehub.websocket), ("edgehub", "https", &config.edgehub.https)];
    let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
    for (table, key, value) in wanted {
        let head = format!("[{table}]");
        let start = lines.iter().position(|line| line.trim() == head).unwrap_or_else(|| {
            lines.push(head.clone());
            lines.len() - 1
        });
        let end = lines.iter().skip(start + 1).position(|line| line.trim_start().starts_with('[')).map_or(lines.len(), |offset| start + 1 + offset);
        let is_key = |line: &String| line.split('=').next().is_some_and(|name| name.trim() == key);
        let new = format!("{key} = {value:?}");
        match (start + 1..end).find(|index| is_key(&lines[*index])) {
            Some(index) => lines[index] = new,
            None => lines.insert(start + 1, new),
        }
    }
    lines.join("\n") + "\n"
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
        let after = edited("# mine\n[edgehub]\nwebsocket = \"old:1\" # gone\nheartbeat = \"10s\"\n[edged]\nmax_pods = 5\n", &config);
        let read = file::parse(&after, "h").expect("it is still right");
        assert_eq!((read.node.name.as_str(), read.edged.max_pods, read.edgehub.heartbeat.as_secs()), ("edge-2", 5, 10));
        assert!(after.starts_with("# mine\n") && !after.contains("old:1"));
    }
}
