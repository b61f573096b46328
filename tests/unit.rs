//! What the unit for systemd promises.

use std::path::{Path, PathBuf};
use std::process::Command;

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/init/selvedge.service")
}

/// Volumes that the agent mounts would vanish from the runtime.
///
/// Source: systemd.exec(5).
#[test]
fn the_agent_gets_no_mount_namespace_of_its_own() {
    const OWN_NAMESPACE: [&str; 24] = [
        "BindPaths",
        "BindReadOnlyPaths",
        "DynamicUser",
        "ExecPaths",
        "ExtensionImages",
        "InaccessiblePaths",
        "MountImages",
        "NoExecPaths",
        "PrivateDevices",
        "PrivateMounts",
        "PrivateTmp",
        "ProcSubset",
        "ProtectControlGroups",
        "ProtectHome",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "ProtectProc",
        "ProtectSystem",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "RootDirectory",
        "RootImage",
        "TemporaryFileSystem",
    ];
    let text = std::fs::read_to_string(unit()).expect("the unit");
    let set: Vec<&str> = text.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim()).collect();
    assert!(set.contains(&"ExecStart"), "{set:?}");
    let wrong: Vec<_> = OWN_NAMESPACE.iter().filter(|key| set.contains(key)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn systemd_rates_the_unit_as_good_enough() {
    let mut rate = Command::new("systemd-analyze");
    rate.args(["security", "--offline=true", "--threshold=46", "--no-pager"]).arg(unit());
    match rate.output() {
        Err(why) => eprintln!("NOT RUN: the rating of the unit: systemd-analyze: {why}"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let last = text.lines().last().unwrap_or_default();
            assert!(output.status.success(), "{last}{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
