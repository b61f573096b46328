//! Probes and hooks, with names of ports resolved.

use std::time::Duration;

use crate::node::runtime::Action;
use crate::wire::kube::{Container, Handler, IntOrString};

/// What to try; `None` for a handler that has nothing in it, or a port nobody
/// knows.
pub fn action(handler: &Handler, container: &Container, pod_ip: &str) -> Option<Action> {
    let host = |own: &str| if own.is_empty() { pod_ip.to_owned() } else { own.to_owned() };
    if let Some(exec) = &handler.exec {
        return Some(Action::Exec(exec.command.clone()));
    }
    if let Some(http) = &handler.http_get {
        let path = if http.path.starts_with('/') { http.path.clone() } else { format!("/{}", http.path) };
        let headers = http.http_headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect();
        return Some(Action::Http {
            host: host(&http.host),
            port: port(&http.port, container)?,
            path,
            tls: http.scheme.eq_ignore_ascii_case("https"),
            headers,
        });
    }
    if let Some(tcp) = &handler.tcp_socket {
        return Some(Action::Tcp { host: host(&tcp.host), port: port(&tcp.port, container)? });
    }
    if let Some(grpc) = &handler.grpc {
        let port = u16::try_from(grpc.port).ok().filter(|port| *port > 0)?;
        return Some(Action::Grpc { host: pod_ip.to_owned(), port, service: grpc.service.clone().unwrap_or_default() });
    }
    let seconds = handler.sleep.as_ref()?.seconds;
    Some(Action::Sleep(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
}

fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container.ports.iter().find(|port| port.name == *name).map(|port| port.container_port).or_else(|| name.parse().ok()),
    };
    number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::kube;

    #[test]
    fn a_grpc_probe_goes_to_the_pods_address() {
        let probe: kube::Probe = kube::read(r#"{"grpc":{"port":9090,"service":"db"},"periodSeconds":3}"#).expect("a probe");
        let to = |port, service: &str| Some(Action::Grpc { host: "10.0.0.7".into(), port, service: service.into() });
        assert_eq!(action(&probe.handler, &Container::default(), "10.0.0.7"), to(9090, "db"));
        let probe: kube::Probe = kube::read(r#"{"grpc":{"port":9090}}"#).expect("a probe");
        assert_eq!(action(&probe.handler, &Container::default(), "10.0.0.7"), to(9090, ""));
        let probe: kube::Probe = kube::read(r#"{"grpc":{"port":0}}"#).expect("a probe");
        assert_eq!(action(&probe.handler, &Container::default(), "10.0.0.7"), None);
    }
}
