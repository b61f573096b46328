//! The machine, read from where the kernel and the distribution keep it.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::net::UdpSocket;
use std::path::Path;

use crate::config::{Config, file::hostname};
use crate::modules;
use crate::node::machine::Facts;

/// Reads everything. What cannot be read is empty or zero: a board without DMI
/// has no UUID, and that is no fault.
pub fn gather(config: &Config) -> Facts {
    let meminfo_text = text("/proc/meminfo");
    let memory = meminfo(&meminfo_text);
    let of = |name: &str| memory.get(name).copied().unwrap_or(0);
    let disk = rustix::fs::statvfs(existing(&config.edged.root)).ok();
    let disk = disk.as_ref();
    let (cgroups_missing, cgroup_v2) = modules::cgroups();
    Facts {
        hostname: hostname(),
        ips: config.node.ip.clone().map_or_else(addresses, |ip| vec![ip]),
        cpus: u32::try_from(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)).unwrap_or(1),
        memory: of("MemTotal"),
        memory_available: of("MemAvailable"),
        disk: disk.map_or(0, |disk| disk.f_blocks * disk.f_frsize),
        disk_available: disk.map_or(0, |disk| disk.f_bavail * disk.f_frsize),
        inodes: disk.map_or(0, |disk| disk.f_files),
        inodes_available: disk.map_or(0, |disk| disk.f_favail),
        hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")),
        page_size: rustix::param::page_size(),
        pids: line("/proc/sys/kernel/pid_max").parse().unwrap_or(0),
        pids_used: text("/proc/loadavg").split_whitespace().nth(3).and_then(|tasks| tasks.split('/').nth(1)?.parse().ok()).unwrap_or(0),
        machine_id: line("/etc/machine-id"),
        system_uuid: first_of(&["/sys/class/dmi/id/product_uuid", "/proc/device-tree/serial-number"]),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        os_image: os_name(&text("/etc/os-release")),
        arch: arch(),
        resolv_conf: resolver(&config.edged.resolv_conf),
        hosts: text("/etc/hosts"),
        cgroups_missing,
        cgroup_v2,
        // The kernel makes it when a policy is loaded.
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        app_armor: line("/sys/module/apparmor/parameters/enabled") == "Y",
    }
}

/// A resolver file; a comment in another encoding does not spoil it.
fn resolver(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn text(path: &str) -> String {
    read_to_string(path).unwrap_or_default()
}

fn line(path: &str) -> String {
    text(path).trim().trim_end_matches('\0').to_owned()
}

fn first_of(paths: &[&str]) -> String {
    paths.iter().map(|path| line(path)).find(|text| !text.is_empty()).unwrap_or_default()
}

/// The directory, or the nearest one above that is there already.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"))
}

/// Bytes by name.
fn meminfo(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter_map(|(name, rest)| Some((name, rest.split_whitespace().next()?.parse::<u64>().ok()? << 10)))
        .collect()
}

/// Bytes by page size in KiB.
fn hugepages(dir: &Path) -> BTreeMap<u64, u64> {
    let sizes = std::fs::read_dir(dir).into_iter().flatten().flatten();
    sizes
        .filter_map(|entry| {
            let size: u64 = entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let pages: u64 = read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
            Some((size, pages * size * 1024))
        })
        .collect()
}

fn os_name(text: &str) -> String {
    text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).map(|name| name.trim_matches('"').to_owned()).unwrap_or_else(|| "Linux".to_owned())
}

/// As Go names architectures.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// The address the default route leaves by; nothing is sent to find out. The
/// target is a documentation address, so it has no route of its own.
fn addresses() -> Vec<String> {
    let by_route = |bind: &str, target: &str| {
        let socket = UdpSocket::bind(bind).ok()?;
        socket.connect(target).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        (!ip.is_unspecified() && !ip.is_loopback()).then(|| ip.to_string())
    };
    let found: Vec<String> = [by_route("0.0.0.0:0", "192.0.2.1:9"), by_route("[::]:0", "[2001:db8::1]:9")].into_iter().flatten().collect();
    if found.is_empty() { from_trie(&text("/proc/net/fib_trie")).into_iter().take(1).collect() } else { found }
}

/// Local addresses that are not loopback, when no route leads anywhere.
fn from_trie(trie: &str) -> Vec<String> {
    let lines: Vec<&str> = trie.lines().collect();
    let mut found: Vec<String> = lines
        .windows(2)
        .filter(|pair| pair[1].contains("/32 host LOCAL"))
        .filter_map(|pair| pair[0].rsplit("-- ").next().map(|ip| ip.trim().to_owned()))
        .filter(|ip| !ip.starts_with("127."))
        .collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(meminfo("MemTotal:  24 kB\nMemFree: x kB\n").get("MemTotal"), Some(&24576));
        assert_eq!(os_name("NAME=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        assert_eq!(from_trie("  |-- 127.0.0.1\n   /32 host LOCAL\n  |-- 192.0.2.9\n   /32 host LOCAL\n"), ["192.0.2.9"]);
    }

    #[test]
    fn this_machine_has_memory_and_a_kernel() {
        let facts = gather(&crate::config::file::parse("", "h").expect("defaults"));
        assert!(facts.memory > 0 && facts.cpus > 0 && !facts.kernel.is_empty() && facts.disk > 0, "{facts:?}");
    }
}
