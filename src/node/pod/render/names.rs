//! Who a pod is on the network: host name, /etc/hosts, resolv.conf.
//!
//! Source: edge-node.md 1.12.

use super::Context;
use crate::wire::cri;
use crate::wire::kube::{DnsPolicy, Pod};

/// Host name of a pod; at most 63 characters.
pub fn hostname(pod: &Pod) -> String {
    let own = Some(&pod.spec.hostname).filter(|name| !name.is_empty());
    let name = hostname_override(pod).or(own).unwrap_or(&pod.metadata.name);
    let cut: String = name.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

fn hostname_override(pod: &Pod) -> Option<&String> {
    pod.spec.hostname_override.as_ref().filter(|name| !name.is_empty())
}

/// The fully qualified name, for a pod in a subdomain.
pub fn fqdn(context: &Context<'_>) -> Option<String> {
    let pod = context.pod;
    if pod.spec.subdomain.is_empty() || hostname_override(pod).is_some() {
        return None;
    }
    let (subdomain, namespace) = (&pod.spec.subdomain, &pod.metadata.namespace);
    Some(format!("{}.{subdomain}.{namespace}.svc.{}", hostname(pod), context.config.cluster_domain))
}

/// Content of a managed /etc/hosts.
pub fn hosts(context: &Context<'_>) -> String {
    let pod = context.pod;
    let mut text = if pod.spec.host_network {
        format!("# Kubernetes-managed hosts file (host network).\n{}", context.facts.hosts)
    } else {
        let mut text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n".to_owned();
        for ip in context.ips {
            let names = fqdn(context).map_or_else(|| hostname(pod), |fqdn| format!("{fqdn}\t{}", hostname(pod)));
            text.push_str(&format!("{ip}\t{names}\n"));
        }
        text
    };
    if !pod.spec.host_aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in &pod.spec.host_aliases {
            text.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
        }
    }
    text
}

/// Content of resolv.conf.
pub fn dns(context: &Context<'_>) -> cri::DnsConfig {
    let (pod, config) = (context.pod, context.config);
    let cluster = !config.cluster_dns.is_empty()
        && match pod.spec.dns_policy {
            DnsPolicy::ClusterFirst => !pod.spec.host_network,
            DnsPolicy::ClusterFirstWithHostNet => true,
            DnsPolicy::Default | DnsPolicy::None => false,
        };
    let host = of_host(&context.facts.resolv_conf);
    let mut dns = match (pod.spec.dns_policy, cluster) {
        (DnsPolicy::None, _) => cri::DnsConfig::default(),
        (_, true) => {
            let (domain, namespace) = (&config.cluster_domain, &pod.metadata.namespace);
            let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            searches.extend(host.searches);
            cri::DnsConfig { servers: config.cluster_dns.clone(), searches, options: vec!["ndots:5".to_owned()] }
        }
        (DnsPolicy::Default | DnsPolicy::ClusterFirst | DnsPolicy::ClusterFirstWithHostNet, false) => host,
    };
    if let Some(own) = &pod.spec.dns_config {
        dns.servers.extend(own.nameservers.iter().cloned());
        dns.searches.extend(own.searches.iter().cloned());
        for option in &own.options {
            dns.options.retain(|other| other.split(':').next() != Some(option.name.as_str()));
            dns.options.push(option.value.as_ref().map_or_else(|| option.name.clone(), |value| format!("{}:{value}", option.name)));
        }
    }
    limited(dns)
}

/// What resolvers take: 3 servers, 32 domains.
fn limited(mut dns: cri::DnsConfig) -> cri::DnsConfig {
    unique(&mut dns.servers);
    unique(&mut dns.searches);
    dns.servers.truncate(3);
    dns.searches.truncate(32);
    dns
}

fn unique(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

fn of_host(resolv_conf: &str) -> cri::DnsConfig {
    let mut dns = cri::DnsConfig::default();
    if resolv_conf.trim().is_empty() {
        return cri::DnsConfig { servers: vec!["127.0.0.1".to_owned()], searches: vec![".".to_owned()], options: Vec::new() };
    }
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.servers.extend(words.take(1)),
            Some("search" | "domain") => dns.searches = words.collect(),
            Some("options") => dns.options = words.collect(),
            Some(_) | None => {}
        }
    }
    dns
}
