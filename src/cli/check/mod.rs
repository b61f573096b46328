//! `selvedge check`: a doctor. Each finding comes with what mends it. `runtime`
//! looks at what pods run in, `broker` at MQTT.

#[cfg(feature = "eventbus")]
mod broker;
mod runtime;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use argh::FromArgs;
use serde_json::{Value, json};

use super::output::{self, line};
use super::questions::wants_json;
use super::{Exit, Failure};
use crate::config::{self, Config, names};
use crate::host::clock;
use crate::modules;
use crate::node::now::Wall;

/// look for what keeps this machine from being a node
#[derive(FromArgs)]
#[argh(subcommand, name = "check")]
pub struct Check {
    /// mend what is safe to mend, after asking
    #[argh(switch)]
    fix: bool,
    /// output: json
    #[argh(option, short = 'o')]
    output: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Ok,
    Warn,
    Fail,
}

struct Finding {
    grade: Grade,
    what: &'static str,
    why: String,
    /// The command that mends it.
    mend: String,
    /// Whether this program may mend it.
    fix: Option<Fix>,
}

enum Fix {
    /// Runs a program with these arguments; no shell.
    Run(Vec<String>),
    /// Writes a file that is not there.
    Write(PathBuf, &'static str),
}

impl Finding {
    fn ok(what: &'static str, why: impl Into<String>) -> Self {
        Self { grade: Grade::Ok, what, why: why.into(), mend: String::new(), fix: None }
    }

    fn bad(grade: Grade, what: &'static str, why: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { grade, what, why: why.into(), mend: mend.into(), fix: None }
    }

    /// This program may mend it.
    fn mended_by(self, fix: Fix) -> Self {
        Self { fix: Some(fix), ..self }
    }
}

impl Fix {
    /// A program with its arguments.
    fn run(words: &[&str]) -> Self {
        Self::Run(words.iter().map(|word| (*word).to_owned()).collect())
    }
}

impl Check {
    /// Looks, tells, mends.
    pub fn run(self, path: &Path) -> Result<Exit, Failure> {
        let wants_json = wants_json(&self.output)?;
        let findings = examine(path);
        if wants_json {
            output::json(&Value::Array(
                findings
                    .iter()
                    .map(|finding| json!({ "grade": finding.grade.word(), "what": finding.what, "why": finding.why, "mend": finding.mend }))
                    .collect(),
            ));
        } else {
            findings.iter().for_each(tell);
        }
        let mut failed = findings.iter().any(|finding| finding.grade == Grade::Fail);
        for (finding, fix) in findings.iter().filter(|_| self.fix).filter_map(|finding| Some((finding, finding.fix.as_ref()?))) {
            // One that cannot be mended keeps none of the others from it.
            if let Err(Failure(_, why)) = mend(finding, fix) {
                eprintln!("selvedge: {why}");
                failed = true;
            }
        }
        Ok(if failed { Exit::Failed } else { Exit::Ok })
    }
}

impl Grade {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

fn tell(finding: &Finding) {
    line(&format!("{:5} {:10} {}", finding.grade.word(), finding.what, finding.why));
    if !finding.mend.is_empty() {
        line(&format!("                 mend: {}", finding.mend));
    }
}

fn examine(path: &Path) -> Vec<Finding> {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(why) => {
            let mend = if path.exists() { format!("edit {}", path.display()) } else { "selvedge join --cloud HOST --token-file FILE".to_owned() };
            return vec![Finding::bad(Grade::Fail, "config", why.to_string(), mend), clock_is_sane()];
        }
    };
    let mut findings = vec![Finding::ok("config", path.display().to_string()), clock_is_sane()];
    findings.extend(certificate(&config));
    findings.push(cgroups());
    findings.extend(runtime::examine(&config.edged));
    findings.push(disk(&config));
    findings.push(cloud(&config));
    #[cfg(feature = "eventbus")]
    findings.extend(broker::examine(&config));
    findings.extend(labels(&config));
    findings.extend(rivals());
    findings
}

/// Labels that Kubernetes keeps for itself.
fn labels(config: &Config) -> Option<Finding> {
    let reserved: Vec<&str> = config.node.labels.keys().map(String::as_str).filter(|key| names::is_reserved(key)).collect();
    let why = || format!("node.labels: {} of kubernetes.io or k8s.io: kubelet may not give itself such labels", reserved.join(", "));
    (!reserved.is_empty()).then(|| Finding::bad(Grade::Warn, "labels", why(), "use a prefix of your own, or kubectl label node"))
}

fn clock_is_sane() -> Finding {
    if Wall(clock::calendar_millis()).is_sane() {
        Finding::ok("clock", "the calendar can be believed")
    } else {
        Finding::bad(Grade::Fail, "clock", "the calendar shows a time before this program was made", "timedatectl set-ntp true")
    }
}

#[cfg(feature = "edgehub")]
fn certificate(config: &Config) -> Vec<Finding> {
    const MEND: &str = "selvedge join --cloud HOST --token-file FILE --reuse";
    let identity = match crate::edgehub::identity::load(&config.edgehub, &config.node.name) {
        Ok(identity) => identity,
        Err(why) => return vec![Finding::bad(Grade::Fail, "identity", why.to_string(), MEND)],
    };
    let now = clock::calendar_millis();
    let mut findings = Vec::new();
    findings.push(if now > identity.not_after {
        Finding::bad(Grade::Fail, "identity", "the certificate has expired", MEND)
    } else if now < identity.not_before {
        Finding::bad(Grade::Fail, "identity", "the certificate is not valid yet: the clock is behind the cloud's", "timedatectl set-ntp true")
    } else {
        Finding::ok("identity", format!("certificate of '{}' is valid until {}", config.node.name, crate::wire::rfc3339::seconds(identity.not_after)))
    });
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&config.edgehub.key).map_or(0, |meta| meta.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        findings.push(Finding::bad(
            Grade::Fail,
            "identity",
            format!("{} has mode {mode:o}: others can read the key", config.edgehub.key.display()),
            format!("chmod 600 {}", config.edgehub.key.display()),
        ));
    }
    findings
}

#[cfg(not(feature = "edgehub"))]
fn certificate(_: &Config) -> Vec<Finding> {
    Vec::new()
}

fn cgroups() -> Finding {
    let (missing, v2) = modules::cgroups();
    if missing.is_empty() {
        return Finding::ok("cgroups", if v2 { "v2 with cpu, memory and pids" } else { "v1 with cpu, memory and pids" });
    }
    let mend = if missing.iter().any(|name| name == "memory") {
        "add cgroup_enable=memory cgroup_memory=1 to the kernel's command line (/boot/cmdline.txt) and reboot"
    } else {
        "use a kernel with these controllers"
    };
    Finding::bad(Grade::Warn, "cgroups", format!("no controller {}: limits of pods are not enforced", missing.join(", ")), mend)
}

fn disk(config: &Config) -> Finding {
    let dir = config.metamanager.dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(dir) {
        Ok(stat) if stat.f_bavail * stat.f_frsize < 64 << 20 => {
            Finding::bad(Grade::Fail, "disk", format!("{} has less than 64 MiB free", dir.display()), "free some space")
        }
        Ok(stat) if stat.f_bavail < stat.f_blocks / 100 * u64::from(config.edged.eviction.disk) => {
            let kept = config.edged.eviction.disk;
            Finding::bad(
                Grade::Warn,
                "disk",
                format!("{} has less than {kept} % free: pods have to make room", dir.display()),
                "free some space, or lower edged.eviction_disk",
            )
        }
        Ok(_) => Finding::ok("disk", format!("{} has room", dir.display())),
        Err(why) => Finding::bad(Grade::Fail, "disk", format!("{}: {why}", dir.display()), ""),
    }
}

#[cfg(feature = "edgehub")]
fn cloud(config: &Config) -> Finding {
    match smol::block_on(crate::edgehub::dial::connect(&config.edgehub.websocket, config.edgehub.proxy.as_deref())) {
        Ok(_) => Finding::ok("cloud", format!("{} can be reached", config.edgehub.websocket)),
        Err(why) => Finding::bad(Grade::Warn, "cloud", format!("{why}: pods go on without it"), "look at network, firewall and edgehub.websocket"),
    }
}

#[cfg(not(feature = "edgehub"))]
fn cloud(_: &Config) -> Finding {
    Finding::bad(Grade::Warn, "cloud", "edgehub: not in this build", "")
}

/// Others that would drive the same runtime.
fn rivals() -> Vec<Finding> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = processes.filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok());
    let rivals = names.map(|name| name.trim().to_owned()).filter(|name| matches!(name.as_str(), "kubelet" | "edgecore"));
    rivals
        .map(|name| Finding::bad(Grade::Fail, "rival", format!("{name} runs here and would fight over the pods"), format!("systemctl disable --now {name}")))
        .collect()
}

fn mend(finding: &Finding, fix: &Fix) -> Result<(), Failure> {
    let what = match fix {
        Fix::Run(words) => words.join(" "),
        Fix::Write(path, _) => format!("write {}", path.display()),
    };
    if std::io::stdin().is_terminal() {
        eprint!("{}: {}; {what}? [y/N] ", finding.what, finding.why);
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(Failure::new)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
    }
    match fix {
        Fix::Run(words) => {
            let ended = std::process::Command::new(&words[0]).args(&words[1..]).status().map_err(|why| Failure::new(format!("{what}: {why}")))?;
            if !ended.success() {
                return Err(Failure::new(format!("{what}: {ended}")));
            }
        }
        Fix::Write(path, text) => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            std::fs::create_dir_all(parent).and_then(|()| std::fs::write(path, text)).map_err(|why| Failure::new(format!("{}: {why}", path.display())))?;
        }
    }
    line(&format!("done: {what}"));
    Ok(())
}
