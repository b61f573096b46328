//! What the node knows of its machine. Not how that is read (`agent::facts`), nor
//! what it means (`node::pressure`, `node::nodestatus`).

use std::collections::BTreeMap;

/// The machine as it is now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// `kubernetes.io/hostname` and the Hostname address.
    pub hostname: String,
    /// InternalIP addresses.
    pub ips: Vec<String>,
    /// Cores.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of memory that could be had now.
    pub memory_available: u64,
    /// Bytes of the file system of pod directories.
    pub disk: u64,
    /// Bytes free there.
    pub disk_available: u64,
    /// Inodes there.
    pub inodes: u64,
    /// Inodes free there.
    pub inodes_available: u64,
    /// Bytes of huge pages by page size in KiB.
    pub hugepages: BTreeMap<u64, u64>,
    /// Bytes of a page of memory.
    pub page_size: usize,
    /// Process ids the kernel gives out.
    pub pids: u64,
    /// Process ids in use.
    pub pids_used: u64,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// DMI product UUID, or the device tree's serial number.
    pub system_uuid: String,
    /// Changes at every boot.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel: String,
    /// PRETTY_NAME.
    pub os_image: String,
    /// As Go names it: `amd64`, `arm64`, `arm`.
    pub arch: &'static str,
    /// Lines of the node's resolver file.
    pub resolv_conf: String,
    /// The node's /etc/hosts.
    pub hosts: String,
    /// Controllers that pods' limits need and that are missing.
    pub cgroups_missing: Vec<String>,
    /// Whether the node has cgroup v2 only.
    pub cgroup_v2: bool,
    /// Whether SELinux is on, enforcing or not.
    pub selinux: bool,
    /// Whether AppArmor is on.
    pub app_armor: bool,
}
