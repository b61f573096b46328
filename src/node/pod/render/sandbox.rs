//! The pod sandbox.
//!
//! Source: edge-node.md 1.6, PodSandboxConfig.

use std::path::Path;

use super::dns::dns;
use super::{Context, names, resources, security};
use crate::config;
use crate::wire::cri;
use crate::wire::kube::Pod;

/// `/var/log/pods/NAMESPACE_NAME_UID`.
pub fn log_directory(config: &config::Edged, pod: &Pod) -> String {
    log_directory_of(&config.pod_logs, &pod.metadata.namespace, &pod.metadata.name, &pod.metadata.uid)
}

/// The same, for a pod that only the runtime knows.
pub fn log_directory_of(logs: &Path, namespace: &str, name: &str, uid: &str) -> String {
    format!("{}/{}", logs.display(), log_directory_name(namespace, name, uid))
}

/// `NAMESPACE_NAME_UID`.
pub fn log_directory_name(namespace: &str, name: &str, uid: &str) -> String {
    format!("{namespace}_{name}_{uid}")
}

/// The sandbox of a pod.
pub fn sandbox(context: &Context<'_>, attempt: u32) -> cri::PodSandboxConfig {
    let (pod, meta) = (context.pod, &context.pod.metadata);
    let hostname = match (pod.spec.host_network, pod.spec.set_hostname_as_fqdn, names::fqdn(context)) {
        (true, _, _) => String::new(),
        (false, true, Some(fqdn)) => fqdn,
        (false, _, _) => names::hostname(pod),
    };
    let mut labels = meta.labels.clone();
    labels.extend(identity(context).map(|(key, value)| (key.to_owned(), value)));
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata { name: meta.name.clone(), uid: meta.uid.clone(), namespace: meta.namespace.clone(), attempt }),
        hostname,
        log_directory: log_directory(context.config, pod),
        dns_config: Some(dns(context)),
        port_mappings: ports(pod),
        labels,
        annotations: meta.annotations.clone(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: resources::cgroup(context).parent,
            security_context: Some(security::sandbox(pod)),
            sysctls: pod.spec.security_context.sysctls.iter().map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone())).collect(),
            ..Default::default()
        }),
    }
}

/// Labels that tie everything in the runtime to its pod.
pub fn identity(context: &Context<'_>) -> [(&'static str, String); 3] {
    let meta = &context.pod.metadata;
    [("io.kubernetes.pod.name", meta.name.clone()), ("io.kubernetes.pod.namespace", meta.namespace.clone()), ("io.kubernetes.pod.uid", meta.uid.clone())]
}

fn ports(pod: &Pod) -> Vec<cri::PortMapping> {
    if pod.spec.host_network {
        return Vec::new();
    }
    let protocol = |name: &str| match name {
        "UDP" => cri::Protocol::Udp,
        "SCTP" => cri::Protocol::Sctp,
        _ => cri::Protocol::Tcp,
    };
    pod.spec
        .containers
        .iter()
        .flat_map(|container| &container.ports)
        .map(|port| cri::PortMapping {
            protocol: protocol(&port.protocol).into(),
            container_port: port.container_port,
            host_port: port.host_port,
            host_ip: port.host_ip.clone(),
        })
        .collect()
}
