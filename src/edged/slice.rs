//! Slices of pods, made and ended by systemd: what is written into its cgroups
//! behind its back does not last, and a slice whose cgroup is taken away stays a
//! unit for ever. It is spoken to by its own `busctl`.
//!
//! Source: org.freedesktop.systemd1(5), systemd.resource-control(5).

use std::io;
use std::process::Command;

use super::cgroup::weight;
use crate::node::runtime::Cgroup;

const PROGRAM: &str = "busctl";
const CALL: [&str; 5] = ["--system", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];

/// A property of a unit: name, D-Bus type, value.
type Property = (&'static str, &'static str, String);

/// Makes a slice with its limits, or gives them to one that is there. Without
/// `busctl` the runtime makes it, without limits.
pub(super) fn ensure(slice: &Cgroup, v2: bool) -> io::Result<()> {
    let name = slice.parent.as_str();
    let made =
        call("StartTransientUnit", "ssa(sv)a(sa(sv))", [name, "fail"], &[array(&[accounts(), limits(slice, v2)].concat()), vec!["0".to_owned()]].concat());
    match made {
        Ok(()) => Ok(()),
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            log::warn!(target: "edged", "{name} sets no limits: {why}");
            Ok(())
        }
        // It is there already, or cannot be made: then it has no properties either.
        Err(_) => call("SetUnitProperties", "sba(sv)", [name, "true"], &array(&limits(slice, v2))),
    }
}

/// Ends a slice that is there.
pub(super) fn stop(name: &str) -> io::Result<()> {
    match call("StopUnit", "ss", [name, "replace"], &[]) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What kubelet gives every slice: it is not ordered against others at the
/// shutdown, and its use is counted.
fn accounts() -> Vec<Property> {
    let counted = ["CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting"].map(|name| (name, "b", "true".to_owned()));
    [("DefaultDependencies", "b", "false".to_owned())].into_iter().chain(counted).collect()
}

fn limits(slice: &Cgroup, v2: bool) -> Vec<Property> {
    let at_most = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(u64::MAX).to_string();
    let (cpu, memory) = if v2 { (("CPUWeight", weight(slice.cpu_shares)), "MemoryMax") } else { (("CPUShares", slice.cpu_shares), "MemoryLimit") };
    // Per second, where the kernel counts per 100 ms.
    vec![(cpu.0, "t", cpu.1.to_string()), ("CPUQuotaPerSecUSec", "t", at_most(slice.cpu_quota * 10)), (memory, "t", at_most(slice.memory))]
}

/// Properties as arguments: how many, then each of them.
fn array(properties: &[Property]) -> Vec<String> {
    let each = properties.iter().flat_map(|(name, of, value)| [(*name).to_owned(), (*of).to_owned(), value.clone()]);
    std::iter::once(properties.len().to_string()).chain(each).collect()
}

fn call(method: &str, signature: &str, unit: [&str; 2], more: &[String]) -> io::Result<()> {
    let output = Command::new(PROGRAM).args(CALL).args([method, signature]).args(unit).args(more).output();
    let output = output.map_err(|why| io::Error::new(why.kind(), format!("{PROGRAM}: {why}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("systemd's {method}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_what_systemd_calls_them() {
        let slice = Cgroup { parent: "kubepods-podx.slice".into(), cpu_shares: 512, cpu_quota: 50_000, memory: 1 << 20 };
        let said = |slice: &Cgroup, v2| limits(slice, v2).into_iter().map(|(name, _, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        assert_eq!(said(&slice, true), "CPUWeight=20 CPUQuotaPerSecUSec=500000 MemoryMax=1048576");
        assert_eq!(said(&slice, false), "CPUShares=512 CPUQuotaPerSecUSec=500000 MemoryLimit=1048576");
        let none = Cgroup { parent: "kubepods.slice".into(), cpu_shares: 2, ..Cgroup::default() };
        assert_eq!(said(&none, true), format!("CPUWeight=1 CPUQuotaPerSecUSec={0} MemoryMax={0}", u64::MAX));
        assert_eq!(array(&limits(&slice, true)[..1]), ["1", "CPUWeight", "t", "20"]);
    }
}
