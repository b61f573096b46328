//! Who a pod is on the network: host name and /etc/hosts.
//!
//! Source: edge-node.md 1.12.

use super::Context;
use crate::wire::kube::Pod;

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

#[cfg(test)]
mod tests {
    use super::super::tests::rendering;
    use super::*;
    use crate::node::machine::Facts;
    use crate::wire::kube;

    /// Host name, and fully qualified name, of a pod with this spec.
    fn named(spec: &str) -> (String, Option<String>) {
        let pod: Pod = kube::read(&format!(r#"{{"metadata":{{"name":"pod","namespace":"ns"}},"spec":{spec}}}"#)).expect("a pod");
        let settings = |config: &mut crate::config::Edged| config.cluster_domain = "cluster.local".to_owned();
        rendering(&pod, &Facts::default(), settings, |context| (hostname(&pod), fqdn(context)))
    }

    #[test]
    fn an_override_is_the_name_without_a_domain() {
        let full = |name: &str| Some(name.to_owned());
        assert_eq!(named("{}"), ("pod".to_owned(), None));
        assert_eq!(named(r#"{"hostname":"h","subdomain":"s"}"#), ("h".to_owned(), full("h.s.ns.svc.cluster.local")));
        assert_eq!(named(r#"{"hostname":"h","subdomain":"s","hostnameOverride":"db.example.com"}"#), ("db.example.com".to_owned(), None));
        assert_eq!(named(r#"{"hostnameOverride":""}"#), ("pod".to_owned(), None));
        let long = format!(r#"{{"hostnameOverride":"{}.{}"}}"#, "a".repeat(62), "b".repeat(5));
        assert_eq!(named(&long), ("a".repeat(62), None));
    }
}
