//! What the runtime says about itself.

use std::path::PathBuf;

use serde_json::Value;

use super::client::Client;
use super::grpc::Error;
use crate::node::runtime::{Cni, RuntimeInfo};
use crate::wire::cri;

/// Asks for all of it.
pub(super) async fn read(client: &Client) -> Result<RuntimeInfo, Error> {
    let version = client.version(&cri::VersionRequest { version: "v1".into() }).await?;
    let status = client.status(&cri::StatusRequest { verbose: true }).await?;
    let driver = match client.runtime_config(&cri::RuntimeConfigRequest {}).await {
        Ok(answer) => answer.linux.map(|linux| linux.cgroup_driver() == cri::CgroupDriver::Systemd),
        Err(cause) if cause.is_unimplemented() => None,
        Err(cause) => return Err(cause),
    };
    // containerd's own configuration, or CRI-O's.
    let config = status.info.get("config").and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
    let not = |name| unmet(&status, name);
    Ok(RuntimeInfo {
        name: version.runtime_name,
        version: version.runtime_version,
        systemd_cgroups: driver.or_else(|| systemd(&config)),
        strict_groups: status.features.as_ref().is_some_and(|features| features.supplemental_groups_policy),
        is_silent: config["crio"]["EnablePodEvents"] == false,
        not_ready: not("RuntimeReady"),
        network_not_ready: not("NetworkReady"),
        sandbox_image: sandbox_image(&config),
        cni: cni(&config),
    })
}

/// Why a condition does not hold.
fn unmet(status: &cri::StatusResponse, name: &str) -> Option<String> {
    let mut conditions = status.status.iter().flat_map(|status| &status.conditions);
    let condition = conditions.find(|condition| condition.r#type == name && !condition.status)?;
    Some(match (condition.reason.as_str(), condition.message.as_str()) {
        ("", "") => format!("{name} is false"),
        ("", text) | (text, "") => text.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    })
}

/// `SystemdCgroup` of the handler that pods get.
fn systemd(config: &Value) -> Option<bool> {
    let containerd = config.get("containerd")?;
    let handler = containerd.get("defaultRuntimeName").and_then(Value::as_str).unwrap_or("runc");
    let options = containerd.get("runtimes")?.get(handler)?.get("options");
    // containerd takes a missing one for false.
    Some(options.and_then(|options| options.get("SystemdCgroup")).and_then(Value::as_bool).unwrap_or(false))
}

fn sandbox_image(config: &Value) -> String {
    let pinned = config.get("imageService").unwrap_or(config).get("pinnedImages").and_then(|images| images.get("sandbox"));
    let image = config.get("sandboxImage").or(pinned).and_then(Value::as_str);
    image.unwrap_or_default().to_owned()
}

fn cni(config: &Value) -> Cni {
    let text = |name: &str| config["cni"][name].as_str().filter(|dir| !dir.is_empty()).map(PathBuf::from);
    // containerd 2 has several folders of plugins.
    let several = config["cni"]["binDirs"].as_array().into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from);
    Cni { configs: text("confDir").unwrap_or_default(), plugins: text("binDir").into_iter().chain(several).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_driver_is_that_of_the_default_handler() {
        let config = serde_json::json!({"sandboxImage": "registry.k8s.io/pause:3.6", "containerd": {"defaultRuntimeName": "crun", "runtimes": {
            "runc": {"options": {"SystemdCgroup": false}}, "crun": {"options": {"SystemdCgroup": true}}}}});
        assert_eq!(systemd(&config), Some(true));
        assert_eq!(sandbox_image(&config), "registry.k8s.io/pause:3.6");
        assert_eq!(systemd(&Value::Null), None);
        assert_eq!(cni(&Value::Null), Cni::default());
    }

    #[test]
    fn a_condition_that_does_not_hold_says_why() {
        let condition = |name: &str, status, reason: &str, message: &str| cri::RuntimeCondition {
            r#type: name.into(),
            status,
            reason: reason.into(),
            message: message.into(),
        };
        let conditions = vec![condition("RuntimeReady", true, "", ""), condition("NetworkReady", false, "NetworkPluginNotReady", "cni config uninitialized")];
        let status = cri::StatusResponse { status: Some(cri::RuntimeStatus { conditions }), ..Default::default() };
        assert_eq!(unmet(&status, "RuntimeReady"), None);
        assert_eq!(unmet(&status, "NetworkReady").unwrap(), "NetworkPluginNotReady: cni config uninitialized");
    }
}
