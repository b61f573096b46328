//! How a pod resolves names: the node's resolver file, the cluster's DNS and the
//! pod's own settings, merged as kubelet does and cut to what resolvers take.
//!
//! Source: kubernetes.io/docs/concepts/services-networking/dns-pod-service and
//! resolv.conf(5).

use core::net::IpAddr;
use std::collections::BTreeSet;

use super::Context;
use crate::wire::cri;
use crate::wire::kube::{DnsConfig, DnsPolicy, Pod};

/// Servers that a resolver asks.
const SERVERS: usize = 3;
/// Domains that a resolver tries.
const DOMAINS: usize = 32;
/// Bytes of all domains with the spaces between them.
const DOMAINS_LENGTH: usize = 2048;
/// Longest name of a domain.
const DOMAIN_LENGTH: usize = 253;

/// What is not as the pod or the node asks, as kubelet's Events tell it: one word
/// and a sentence.
pub type DnsWarning = (&'static str, String);

/// Content of a pod's resolv.conf.
pub fn dns(context: &Context<'_>) -> cri::DnsConfig {
    resolver(context).0
}

/// What of a pod's resolv.conf had to be left out or replaced.
pub fn dns_warnings(context: &Context<'_>) -> Vec<DnsWarning> {
    resolver(context).1
}

fn resolver(context: &Context<'_>) -> (cri::DnsConfig, Vec<DnsWarning>) {
    let (pod, config) = (context.pod, context.config);
    let mut warnings = Vec::new();
    let mut dns = match pod.spec.dns_policy {
        DnsPolicy::None => cri::DnsConfig::default(),
        DnsPolicy::Default => of_node(context),
        DnsPolicy::ClusterFirst if pod.spec.host_network => of_node(context),
        DnsPolicy::ClusterFirst | DnsPolicy::ClusterFirstWithHostNet if config.cluster_dns.is_empty() => {
            warnings.push(("MissingClusterDNS", missing(pod)));
            of_node(context)
        }
        DnsPolicy::ClusterFirst | DnsPolicy::ClusterFirstWithHostNet => of_cluster(context),
    };
    if let Some(own) = &pod.spec.dns_config {
        add(&mut dns, own);
    }
    limit(&mut dns, &mut warnings);
    (dns, warnings)
}

fn missing(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!(
        "pod: \"{}_{}({})\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.",
        meta.name, meta.namespace, meta.uid
    )
}

fn of_cluster(context: &Context<'_>) -> cri::DnsConfig {
    let (config, namespace) = (context.config, &context.pod.metadata.namespace);
    let domain = &config.cluster_domain;
    let mut searches = match domain.as_str() {
        "" => Vec::new(),
        _ => vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()],
    };
    searches.extend(read(&context.facts.resolv_conf).searches);
    cri::DnsConfig { servers: config.cluster_dns.clone(), searches, options: vec!["ndots:5".to_owned()] }
}

/// By the node's resolver file; without a server in it resolvers ask the machine
/// itself. A file that is empty keeps them from trying the node's own domain.
fn of_node(context: &Context<'_>) -> cri::DnsConfig {
    let text = &context.facts.resolv_conf;
    let mut dns = read(text);
    if dns.servers.is_empty() {
        let local = |ip: &String| if ip.contains(':') { "::1" } else { "127.0.0.1" };
        dns.servers = context.facts.ips.iter().map(|ip| local(ip).to_owned()).collect();
    }
    if dns.servers.is_empty() {
        dns.servers.push("127.0.0.1".to_owned());
    }
    if text.trim().is_empty() {
        dns.searches = vec![".".to_owned()];
    }
    dns
}

/// Reads a resolver file as glibc does: a keyword begins its line, `;` and `#`
/// begin a comment, the last `search` or `domain` that names something counts, and
/// what is no address is no server. A dot at the end of a domain is taken away,
/// so that a domain counts once.
fn read(text: &str) -> cri::DnsConfig {
    let mut dns = cri::DnsConfig::default();
    for line in text.lines() {
        let Some((keyword, rest)) = line.split_once([' ', '\t']) else { continue };
        let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty()).map(str::trim_end).peekable();
        match keyword {
            "nameserver" => dns.servers.extend(words.next().filter(|word| is_address(word)).map(str::to_owned)),
            "domain" if words.peek().is_some() => dns.searches = domains(words.take(1)),
            "search" if words.peek().is_some() => dns.searches = domains(words),
            "options" => words.for_each(|word| set(&mut dns.options, word)),
            _ => {}
        }
    }
    dns
}

/// An address, perhaps with the interface that it is reached by.
fn is_address(text: &str) -> bool {
    let (address, scope) = text.split_once('%').unwrap_or((text, ""));
    address.parse::<IpAddr>().is_ok_and(|address| scope.is_empty() || address.is_ipv6())
}

fn domains<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    words.filter(|word| *word != ".").map(|word| word.strip_suffix('.').unwrap_or(word).to_owned()).collect()
}

/// A later option replaces one of the same name.
fn set(options: &mut Vec<String>, option: &str) {
    fn name(option: &str) -> &str {
        option.split_once(':').map_or(option, |(name, _)| name)
    }
    options.retain(|other| name(other) != name(option));
    options.push(option.to_owned());
}

fn add(dns: &mut cri::DnsConfig, own: &DnsConfig) {
    dns.servers.extend(own.nameservers.iter().cloned());
    dns.searches.extend(own.searches.iter().cloned());
    for option in &own.options {
        match option.value.as_deref() {
            None | Some("") => set(&mut dns.options, &option.name),
            Some(value) => set(&mut dns.options, &format!("{}:{value}", option.name)),
        }
    }
}

/// Cuts it to what resolvers take.
fn limit(dns: &mut cri::DnsConfig, warnings: &mut Vec<DnsWarning>) {
    unique(&mut dns.servers);
    unique(&mut dns.searches);
    if dns.servers.len() > SERVERS {
        dns.servers.truncate(SERVERS);
        let applied = dns.servers.join(" ");
        let why = format!("Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {applied}");
        warnings.push(("DNSConfigForming", why));
    }
    let before = dns.searches.len();
    dns.searches.truncate(DOMAINS);
    dns.searches.retain(|domain| domain.len() <= DOMAIN_LENGTH);
    while dns.searches.join(" ").len() > DOMAINS_LENGTH {
        dns.searches.pop();
    }
    if dns.searches.len() < before {
        let applied = dns.searches.join(" ");
        let why = format!("Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {applied}");
        warnings.push(("DNSConfigForming", why));
    }
}

fn unique(list: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use super::super::tests::rendering;
    use super::*;
    use crate::node::machine::Facts;
    use crate::wire::kube;

    /// What a pod with this spec gets: servers, domains, options, each in a line;
    /// and the reasons of the warnings.
    fn of(spec: &str, resolv_conf: &str, cluster_dns: &[&str]) -> ([String; 3], Vec<DnsWarning>) {
        let json = format!(r#"{{"metadata":{{"name":"p","namespace":"ns","uid":"u"}},"spec":{spec}}}"#);
        let pod: Pod = kube::read(&json).expect("a pod");
        let facts = Facts { resolv_conf: resolv_conf.to_owned(), ..Facts::default() };
        let settings = |config: &mut crate::config::Edged| {
            config.cluster_dns = cluster_dns.iter().map(|&address| address.to_owned()).collect();
            config.cluster_domain = "cluster.local".to_owned();
        };
        let (dns, warnings) = rendering(&pod, &facts, settings, resolver);
        ([dns.servers, dns.searches, dns.options].map(|list| list.join(" ")), warnings)
    }

    /// What the node's file gives.
    fn file(resolv_conf: &str) -> [String; 3] {
        of(r#"{"dnsPolicy":"Default"}"#, resolv_conf, &["10.0.0.10"]).0
    }

    #[test]
    fn the_resolver_file_is_read_as_glibc_does() {
        for (text, wanted) in [
            ("nameserver 1.1.1.1\nnameserver\t2.2.2.2  \n", ["1.1.1.1 2.2.2.2", "", ""]),
            ("nameserver 1.1.1.1 # the first\nnameserver ::1;\nnameserver fe80::1%eth0\n", ["1.1.1.1 fe80::1%eth0", "", ""]),
            ("#nameserver 1.1.1.1\n;nameserver 2.2.2.2\n nameserver 3.3.3.3\nnameserver\nnameservers 4.4.4.4\nnameserver 5.5.5.5", ["5.5.5.5", "", ""]),
            ("search a.example\tb.example\ndomain c.example d.example\nnameserver 1.1.1.1\r\n", ["1.1.1.1", "c.example", ""]),
            ("domain c.example\nsearch a.example b.example.\nsearch\nsearch \ndomain \t\n", ["127.0.0.1", "a.example b.example", ""]),
            ("nameserver 1.1.1.1\nsearch .\n", ["1.1.1.1", "", ""]),
            ("nameserver 1.1.1.1\nsearch a. a\n", ["1.1.1.1", "a", ""]),
            ("nameserver 1.1.1.1\noptions ndots:2 edns0\noptions\ttimeout:1 ndots:3\nsortlist 1.2.3.4\n", ["1.1.1.1", "", "edns0 timeout:1 ndots:3"]),
            ("# nothing\n", ["127.0.0.1", "", ""]),
            ("", ["127.0.0.1", ".", ""]),
        ] {
            assert_eq!(file(text), wanted.map(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn each_policy_has_its_base_and_the_pods_settings_are_added() {
        let node = "nameserver 1.1.1.1\nsearch lan\noptions ndots:1 rotate\n";
        let by = |spec: &str| of(spec, node, &["10.0.0.10"]);
        let cluster = ["10.0.0.10", "ns.svc.cluster.local svc.cluster.local cluster.local lan", "ndots:5"].map(str::to_owned);
        let of_node = ["1.1.1.1", "lan", "ndots:1 rotate"].map(str::to_owned);
        assert_eq!(by("{}"), (cluster.clone(), vec![]));
        assert_eq!(by(r#"{"dnsPolicy":"ClusterFirst","hostNetwork":true}"#), (of_node.clone(), vec![]));
        assert_eq!(by(r#"{"dnsPolicy":"ClusterFirstWithHostNet","hostNetwork":true}"#), (cluster, vec![]));
        assert_eq!(by(r#"{"dnsPolicy":"Default"}"#), (of_node.clone(), vec![]));
        assert_eq!(by(r#"{"dnsPolicy":"None"}"#), (<[String; 3]>::default(), vec![]));
        let own = r#""dnsConfig":{"nameservers":["1.1.1.1","9.9.9.9"],"searches":["lan","own"],"options":[{"name":"ndots","value":"3"},{"name":"rotate"},{"name":"edns0","value":""}]}"#;
        let wanted = ["1.1.1.1 9.9.9.9", "lan own", "ndots:3 rotate edns0"].map(str::to_owned);
        assert_eq!(by(&format!(r#"{{"dnsPolicy":"Default",{own}}}"#)).0, wanted);
        assert_eq!(by(&format!(r#"{{"dnsPolicy":"None",{own}}}"#)).0, wanted);
        let merged = ["10.0.0.10 1.1.1.1 9.9.9.9", "ns.svc.cluster.local svc.cluster.local cluster.local lan own", "ndots:3 rotate edns0"];
        assert_eq!(by(&format!("{{{own}}}")).0, merged.map(str::to_owned));
        let (dns, warnings) = of("{}", node, &[]);
        assert_eq!((dns, warnings.len(), warnings[0].0), (of_node, 1, "MissingClusterDNS"));
        assert!(warnings[0].1.starts_with("pod: \"p_ns(u)\". kubelet does not have ClusterDNS IP configured"), "{}", warnings[0].1);
    }

    #[test]
    fn what_resolvers_do_not_take_is_left_out_and_told() {
        let told = |spec: &str| of(spec, "", &["10.0.0.10"]);
        let own = |config: String| format!(r#"{{"dnsPolicy":"None","dnsConfig":{{{config}}}}}"#);
        let (dns, warnings) = told(&own(r#""nameservers":["1.1.1.1","2.2.2.2","3.3.3.3","4.4.4.4"]"#.to_owned()));
        assert_eq!(dns[0], "1.1.1.1 2.2.2.2 3.3.3.3");
        let applied = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 1.1.1.1 2.2.2.2 3.3.3.3";
        assert_eq!(warnings, [("DNSConfigForming", applied.to_owned())]);
        let searches = |domains: Vec<String>| {
            let (dns, warnings) = told(&own(format!(r#""searches":["{}"]"#, domains.join(r#"",""#))));
            let kept = dns[1].split(' ').filter(|domain| !domain.is_empty()).count();
            (kept, warnings.len())
        };
        assert_eq!(searches((0..32).map(|n| format!("d{n}")).collect()), (32, 0));
        assert_eq!(searches((0..33).map(|n| format!("d{n}")).collect()), (32, 1));
        assert_eq!(searches(vec!["a".repeat(253), "b".repeat(254), "c".to_owned()]), (2, 1));
        // 8 of 253 with 7 spaces are 2031, and one of 16 with a space makes 2048.
        let long = |last: usize| (0..8).map(|n| format!("{n:0>253}")).chain(["e".repeat(last)]).collect();
        assert_eq!((searches(long(16)), searches(long(17))), ((9, 0), (8, 1)));
    }
}
