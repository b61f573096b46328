//! What an API server adds to a pod that it is given: defaults, the token of
//! its service account, a first status.
//!
//! Source: Kubernetes' pkg/apis/core/v1/defaults.go and the ServiceAccount
//! admission plugin, as far as a node notices.

use serde_json::{Value, json};

use crate::wire::kube;

/// Where the token of the service account is seen in containers.
const TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// ConfigMap with the CA of the API server, in every namespace.
pub const ROOT_CA: &str = "kube-root-ca.crt";

/// Completes the specification of a pod; `suffix` makes names unique.
pub fn pod(spec: &mut Value, suffix: &str) {
    if !spec.is_object() {
        *spec = json!({});
    }
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
        ("serviceAccountName", json!("default")),
    ] {
        default(spec, key, value);
    }
    if spec["automountServiceAccountToken"] != false {
        mount_token(spec, suffix);
    }
    for list in ["initContainers", "containers"] {
        spec[list].as_array_mut().into_iter().flatten().for_each(container);
    }
    if spec["hostNetwork"] == true {
        ports_are_host_ports(spec);
    }
    spec["volumes"].as_array_mut().into_iter().flatten().for_each(volume);
    tolerate(spec);
    kube::drop_nulls(spec);
}

fn default(object: &mut Value, key: &str, value: Value) {
    if object[key].is_null() {
        object[key] = value;
    }
}

fn container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map_or("latest", |(_, tag)| tag);
    let policy = if tag == "latest" && !image.contains('@') { "Always" } else { "IfNotPresent" };
    for (key, value) in [
        ("imagePullPolicy", json!(policy)),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("resources", json!({})),
    ] {
        default(container, key, value);
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) else { continue };
        for (key, value) in [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)] {
            default(probe, key, value.into());
        }
    }
    for port in container["ports"].as_array_mut().into_iter().flatten() {
        default(port, "protocol", json!("TCP"));
    }
    limits_are_requests(&mut container["resources"]);
}

/// In the node's network, a container's port is a port of the node.
fn ports_are_host_ports(spec: &mut Value) {
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            for port in container["ports"].as_array_mut().into_iter().flatten() {
                let own = port["containerPort"].clone();
                default(port, "hostPort", own);
            }
        }
    }
}

fn limits_are_requests(resources: &mut Value) {
    for (name, limit) in resources["limits"].as_object().cloned().into_iter().flatten() {
        if !resources["requests"].is_object() {
            resources["requests"] = json!({});
        }
        default(&mut resources["requests"], &name, limit);
    }
}

fn volume(volume: &mut Value) {
    let Some(map) = volume.as_object_mut() else { return };
    for kind in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = map.get_mut(kind) {
            default(source, "defaultMode", json!(0o644));
        }
    }
    if map.len() == 1 {
        map.insert("emptyDir".to_owned(), json!({}));
    }
}

fn mount_token(spec: &mut Value, suffix: &str) {
    let name = format!("kube-api-access-{suffix}");
    let has_none = |container: &Value| !container["volumeMounts"].as_array().into_iter().flatten().any(|mount| mount["mountPath"] == TOKEN_DIR);
    let mount = json!({ "name": name, "readOnly": true, "mountPath": TOKEN_DIR });
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten().filter(|container| has_none(container)) {
            push(&mut container["volumeMounts"], mount.clone());
        }
    }
    let sources = json!([
        { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
        { "configMap": { "name": ROOT_CA, "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
        { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
    ]);
    push(&mut spec["volumes"], json!({ "name": name, "projected": { "sources": sources } }));
}

fn push(list: &mut Value, element: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(element),
        None => *list = json!([element]),
    }
}

/// A node that is away for less than five minutes loses no pods.
fn tolerate(spec: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        if !spec["tolerations"].as_array().into_iter().flatten().any(|toleration| toleration["key"] == key) {
            push(&mut spec["tolerations"], json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_pod_becomes_a_whole_one() {
        let mut spec = json!({ "containers": [{ "name": "c", "image": "docker.io/library/busybox", "resources": { "limits": { "cpu": "1" } } }], "volumes": [{ "name": "v" }] });
        pod(&mut spec, "abcde");
        let container = &spec["containers"][0];
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["resources"]["requests"]["cpu"], "1");
        assert_eq!(container["volumeMounts"][0]["name"], "kube-api-access-abcde");
        assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(spec["volumes"][1]["projected"]["defaultMode"], 420);
        assert_eq!(spec["tolerations"].as_array().map(Vec::len), Some(2));
    }
}
