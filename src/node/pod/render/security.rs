//! Security contexts, the container's over the pod's.
//!
//! Source: edge-node.md 1.13.

use super::Context;
use crate::node::runtime::Image;
use crate::wire::cri;
use crate::wire::kube::{AppArmorKind, AppArmorProfile, Container, GroupsPolicy, Pod, SeLinuxOptions, SeccompProfile};

/// Hidden from containers unless they ask for an unmasked /proc.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// Not to be written by containers.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Which namespaces are the pod's own.
pub fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    let mode = |host: bool, otherwise: cri::NamespaceMode| if host { cri::NamespaceMode::Node } else { otherwise };
    let pid = if pod.spec.share_process_namespace { cri::NamespaceMode::Pod } else { cri::NamespaceMode::Container };
    cri::NamespaceOption {
        network: mode(pod.spec.host_network, cri::NamespaceMode::Pod).into(),
        pid: mode(pod.spec.host_pid, pid).into(),
        ipc: mode(pod.spec.host_ipc, cri::NamespaceMode::Pod).into(),
        target_id: String::new(),
    }
}

/// Security of the sandbox.
pub fn sandbox(pod: &Pod) -> cri::LinuxSandboxSecurityContext {
    let context = &pod.spec.security_context;
    cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: context.run_as_user.map(|value| cri::Int64Value { value }),
        run_as_group: context.run_as_user.and(context.run_as_group).map(|value| cri::Int64Value { value }),
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod).into(),
        selinux_options: context.se_linux_options.as_ref().map(se_linux),
        privileged: pod.all_containers().any(|container| container.security_context.privileged),
        seccomp: Some(cri::SecurityProfile { profile_type: cri::ProfileType::RuntimeDefault.into(), localhost_ref: String::new() }),
        ..Default::default()
    }
}

fn groups(pod: &Pod) -> Vec<i64> {
    pod.spec.security_context.fs_group.into_iter().chain(pod.spec.security_context.supplemental_groups.iter().copied()).collect()
}

fn groups_policy(pod: &Pod) -> cri::SupplementalGroupsPolicy {
    match pod.spec.security_context.supplemental_groups_policy {
        GroupsPolicy::Merge => cri::SupplementalGroupsPolicy::Merge,
        GroupsPolicy::Strict => cri::SupplementalGroupsPolicy::Strict,
    }
}

fn se_linux(label: &SeLinuxOptions) -> cri::SeLinuxOption {
    let SeLinuxOptions { user, role, kind, level } = label.clone();
    cri::SeLinuxOption { user, role, r#type: kind, level }
}

/// The AppArmor profile of a container, over the pod's. The annotation of before
/// Kubernetes 1.30 is not looked at: the API server writes the field from it.
pub fn app_armor_profile<'a>(pod: &'a Pod, container: &'a Container) -> Option<&'a AppArmorProfile> {
    let own = container.security_context.app_armor_profile.as_ref();
    own.or(pod.spec.security_context.app_armor_profile.as_ref())
}

fn app_armor(profile: &AppArmorProfile) -> cri::SecurityProfile {
    let (kind, localhost_ref) = match profile.kind {
        AppArmorKind::Unconfined => (cri::ProfileType::Unconfined, String::new()),
        AppArmorKind::RuntimeDefault => (cri::ProfileType::RuntimeDefault, String::new()),
        AppArmorKind::Localhost => (cri::ProfileType::Localhost, profile.localhost_profile.clone()),
    };
    cri::SecurityProfile { profile_type: kind.into(), localhost_ref }
}

/// Security of a container; the image's user when nobody names one.
pub fn container(context: &Context<'_>, spec: &Container, image: &Image) -> Result<cri::LinuxContainerSecurityContext, String> {
    let (pod, own) = (context.pod, &spec.security_context);
    let shared = &pod.spec.security_context;
    let user = own.run_as_user.or(shared.run_as_user);
    not_root(context, spec, user, image)?;
    let uid = user.or(image.uid);
    let group = own.run_as_group.or(shared.run_as_group);
    let unmasked = own.privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|path| (*path).to_owned()).collect() };
    Ok(cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability { add_capabilities: own.capabilities.add.clone(), drop_capabilities: own.capabilities.drop.clone() }),
        privileged: own.privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user: uid.map(|value| cri::Int64Value { value }),
        run_as_username: if uid.is_none() { image.username.clone() } else { String::new() },
        run_as_group: group.filter(|_| uid.is_some() || !image.username.is_empty()).map(|value| cri::Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem,
        supplemental_groups: groups(pod),
        supplemental_groups_policy: groups_policy(pod).into(),
        selinux_options: own.se_linux_options.as_ref().or(shared.se_linux_options.as_ref()).map(se_linux),
        apparmor: app_armor_profile(pod, spec).map(app_armor),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READONLY),
        seccomp: Some(seccomp(context, own.seccomp_profile.as_ref().or(shared.seccomp_profile.as_ref()))?),
    })
}

fn not_root(context: &Context<'_>, spec: &Container, user: Option<i64>, image: &Image) -> Result<(), String> {
    let pod = context.pod;
    if spec.security_context.run_as_non_root.or(pod.spec.security_context.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let whose = format!("(pod: \"{}_{}({})\", container: {})", pod.metadata.name, pod.metadata.namespace, context.uid, spec.name);
    match (user, image.uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {whose}")),
        (Some(_), _) => Ok(()),
        (None, None) if !image.username.is_empty() => {
            Err(format!("container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {whose}", image.username))
        }
        (None, None | Some(0)) => Err(format!("container has runAsNonRoot and image will run as root {whose}")),
        (None, Some(_)) => Ok(()),
    }
}

fn seccomp(context: &Context<'_>, profile: Option<&SeccompProfile>) -> Result<cri::SecurityProfile, String> {
    let (kind, localhost_ref) = match profile.map(|profile| profile.kind.as_str()) {
        Some("RuntimeDefault") => (cri::ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let file = profile.map_or("", |profile| &profile.localhost_profile);
            if file.is_empty() {
                return Err("localhostProfile must be set if seccompProfile type is Localhost.".to_owned());
            }
            (cri::ProfileType::Localhost, format!("{}/seccomp/{file}", context.config.root.display()))
        }
        Some(_) | None => (cri::ProfileType::Unconfined, String::new()),
    };
    Ok(cri::SecurityProfile { profile_type: kind.into(), localhost_ref })
}

#[cfg(test)]
mod tests {
    use super::super::tests::rendering;
    use super::*;
    use crate::node::machine::Facts;
    use crate::wire::kube::read;

    /// Security of the sandbox, and of the only container.
    fn rendered(pod: &str, own: &str) -> (cri::LinuxSandboxSecurityContext, Result<cri::LinuxContainerSecurityContext, String>) {
        let json = format!(r#"{{"spec":{{"securityContext":{pod},"containers":[{{"name":"c","securityContext":{own}}}]}}}}"#);
        let pod: Pod = read(&json).expect("a pod");
        let image = Image { reference: "i".into(), uid: None, username: String::new(), pulled: None, size: 0 };
        rendering(&pod, &Facts::default(), |_| (), |context| (sandbox(&pod), container(context, &pod.spec.containers[0], &image)))
    }

    #[test]
    fn labels_and_profiles_are_the_containers_else_the_pods() {
        let pod = r#"{"seLinuxOptions":{"user":"u","role":"r","type":"t","level":"s0:c1"},"appArmorProfile":{"type":"RuntimeDefault"},"supplementalGroupsPolicy":"Strict"}"#;
        let label = |level: &str| cri::SeLinuxOption { user: "u".into(), role: "r".into(), r#type: "t".into(), level: level.into() };
        let (sandbox, container) = rendered(pod, "{}");
        let container = container.expect("a context");
        assert_eq!((sandbox.selinux_options, container.selinux_options), (Some(label("s0:c1")), Some(label("s0:c1"))));
        assert_eq!((sandbox.supplemental_groups_policy, container.supplemental_groups_policy), (1, 1));
        assert_eq!(container.apparmor.map(|profile| profile.profile_type), Some(cri::ProfileType::RuntimeDefault.into()));
        let own = r#"{"seLinuxOptions":{"level":"s0:c2"},"appArmorProfile":{"type":"Localhost","localhostProfile":"mine"}}"#;
        let container = rendered(pod, own).1.expect("a context");
        assert_eq!(container.selinux_options, Some(cri::SeLinuxOption { level: "s0:c2".into(), ..Default::default() }));
        let profile = container.apparmor.expect("a profile");
        assert_eq!((profile.profile_type, profile.localhost_ref.as_str()), (cri::ProfileType::Localhost.into(), "mine"));
        let bare = rendered("{}", "{}").1.expect("a context");
        assert_eq!((bare.selinux_options, bare.apparmor), (None, None));
    }

    #[test]
    fn a_seccomp_profile_of_the_node_has_a_name() {
        let why = rendered("{}", r#"{"seccompProfile":{"type":"Localhost"}}"#).1;
        assert_eq!(why, Err("localhostProfile must be set if seccompProfile type is Localhost.".to_owned()));
    }
}
