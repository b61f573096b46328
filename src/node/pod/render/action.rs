//! Probes and hooks, with names of ports resolved.

use std::time::Duration;

use crate::node::runtime::Action;
use crate::wire::kube::{Container, Handler, IntOrString};

/// What to try.
///
/// # Errors
///
/// Why it cannot be tried, in kubelet's words: the handler has no action, or its
/// port has no number.
pub fn action(handler: &Handler, container: &Container, pod_ip: &str) -> Result<Action, String> {
    let host = |own: &str| if own.is_empty() { pod_ip.to_owned() } else { own.to_owned() };
    if let Some(exec) = &handler.exec {
        return Ok(Action::Exec(exec.command.clone()));
    }
    if let Some(http) = &handler.http_get {
        let path = if http.path.starts_with('/') { http.path.clone() } else { format!("/{}", http.path) };
        let headers = http.http_headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect();
        return Ok(Action::Http { host: host(&http.host), port: port(&http.port, container)?, path, tls: http.scheme.eq_ignore_ascii_case("https"), headers });
    }
    if let Some(tcp) = &handler.tcp_socket {
        return Ok(Action::Tcp { host: host(&tcp.host), port: port(&tcp.port, container)? });
    }
    if let Some(grpc) = &handler.grpc {
        let service = grpc.service.clone().unwrap_or_default();
        return Ok(Action::Grpc { host: pod_ip.to_owned(), port: number(grpc.port)?, service });
    }
    let sleep = handler.sleep.as_ref().ok_or("missing handler: neither exec, httpGet, tcpSocket, grpc nor sleep")?;
    Ok(Action::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))))
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    match port {
        IntOrString::Int(port) => number(*port),
        IntOrString::String(name) => {
            let named = container.ports.iter().find(|port| port.name == *name);
            let port = named.map(|port| port.container_port).or_else(|| name.parse().ok());
            number(port.ok_or_else(|| format!("couldn't find port: {name}"))?)
        }
    }
}

fn number(port: i32) -> Result<u16, String> {
    let number = u16::try_from(port).ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("invalid port number: {port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kube;

    #[test]
    fn a_grpc_probe_goes_to_the_pods_address() {
        let probe: kube::Probe = kube::read(r#"{"grpc":{"port":9090,"service":"db"},"periodSeconds":3}"#).expect("a probe");
        let to = |port, service: &str| Ok(Action::Grpc { host: "10.0.0.7".into(), port, service: service.into() });
        assert_eq!(action(&probe.handler, &Container::default(), "10.0.0.7"), to(9090, "db"));
        let probe: kube::Probe = kube::read(r#"{"grpc":{"port":9090}}"#).expect("a probe");
        assert_eq!(action(&probe.handler, &Container::default(), "10.0.0.7"), to(9090, ""));
        let probe: kube::Probe = kube::read(r#"{"grpc":{"port":0}}"#).expect("a probe");
        let refused = action(&probe.handler, &Container::default(), "10.0.0.7");
        assert_eq!(refused, Err("invalid port number: 0".into()));
    }

    #[test]
    fn what_cannot_be_tried_says_why() {
        let container: Container = kube::read(r#"{"ports":[{"name":"web","containerPort":8080},{"name":"odd","containerPort":0}]}"#).expect("a container");
        let tried = |handler: &str| action(&kube::read(handler).expect("a handler"), &container, "10.0.0.7");
        assert_eq!(tried(r#"{"tcpSocket":{"port":"web"}}"#), Ok(Action::Tcp { host: "10.0.0.7".into(), port: 8080 }));
        assert_eq!(tried(r#"{"tcpSocket":{"port":"80"}}"#), Ok(Action::Tcp { host: "10.0.0.7".into(), port: 80 }));
        assert_eq!(tried(r#"{"tcpSocket":{"port":"nosuch"}}"#), Err("couldn't find port: nosuch".into()));
        assert_eq!(tried(r#"{"httpGet":{"port":"nosuch"}}"#), Err("couldn't find port: nosuch".into()));
        assert_eq!(tried(r#"{"httpGet":{"port":"odd"}}"#), Err("invalid port number: 0".into()));
        assert_eq!(tried(r#"{"httpGet":{"port":65536}}"#), Err("invalid port number: 65536".into()));
        assert!(tried("{}").is_err_and(|why| why.starts_with("missing handler")));
    }
}
