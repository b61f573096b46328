//! Init containers and sidecars: who starts when, what of them decides about the
//! pod, and how the cluster reads a pod that never got past them.

use std::time::Duration;

use selvedge::cloud::objects::condition;
use serde_json::{Value, json};

use crate::sim::World;

const SECOND: Duration = Duration::from_secs(1);

fn container(name: &str, command: &[&str]) -> Value {
    json!({ "name": name, "image": "busybox:1", "command": command })
}

fn sidecar(name: &str, command: &[&str], parts: &Value) -> Value {
    let mut sidecar = container(name, command);
    sidecar["restartPolicy"] = "Always".into();
    for (key, value) in parts.as_object().into_iter().flatten() {
        sidecar[key] = value.clone();
    }
    sidecar
}

fn pod(world: &mut World, policy: &str, init: &[Value], main: &[Value]) {
    world.apply_pod("p", &[], json!({ "restartPolicy": policy, "initContainers": init, "containers": main }));
}

fn status(world: &World) -> Value {
    world.pod("p").expect("it is there")["status"].clone()
}

/// The status of a container.
fn of(status: &Value, name: &str) -> Value {
    let all = ["initContainerStatuses", "containerStatuses"].map(|list| status[list].as_array().cloned().unwrap_or_default()).concat();
    all.into_iter().find(|container| container["name"] == name).expect("it has a status")
}

/// Status, reason and message of a condition.
fn told(status: &Value, kind: &str) -> [Value; 3] {
    let all = status["conditions"].as_array().expect("conditions");
    let one = all.iter().find(|condition| condition["type"] == kind).expect("it is told");
    ["status", "reason", "message"].map(|member| one[member].clone())
}

fn starts(world: &World, name: &str) -> u32 {
    world.runtime.starts.get(&("p".to_owned(), name.to_owned())).copied().unwrap_or(0)
}

fn never_started() -> Value {
    json!({ "waiting": { "reason": "PodInitializing" } })
}

#[test]
fn a_pod_whose_init_fails_for_good_never_starts_the_rest() {
    for code in ["1", "137"] {
        let mut world = World::ready(310);
        let init = [container("a", &["ends", "100", "0"]), container("b", &["ends", "100", code]), container("c", &["ends", "100", "0"])];
        pod(&mut world, "Never", &init, &[container("m", &["runs"]), container("n", &["runs"])]);
        world.run(10 * SECOND);
        let before = status(&world);
        assert_eq!(before["phase"], "Failed");
        assert_eq!(of(&before, "a")["state"]["terminated"]["reason"], "Completed");
        assert_eq!(of(&before, "b")["state"]["terminated"]["reason"], "Error");
        for name in ["c", "m", "n"] {
            let of = of(&before, name);
            assert_eq!((&of["state"], &of["lastState"]), (&never_started(), &json!({})), "{name}");
            assert_eq!((&of["ready"], &of["started"], &of["restartCount"]), (&json!(false), &json!(false), &json!(0)), "{name}");
        }
        let incomplete = json!("containers with incomplete status: [b c]");
        assert_eq!(told(&before, "Initialized"), [json!("False"), json!("ContainersNotInitialized"), incomplete]);
        assert_eq!(told(&before, "Ready")[..2], [json!("False"), json!("PodFailed")]);
        assert_eq!((starts(&world, "c"), starts(&world, "m"), world.runtime.running().len()), (0, 0, 0));
        // It stays so, whatever restarts, and while a finalizer holds it.
        world.edit_pod("p", |pod| pod["metadata"]["finalizers"] = json!(["example.com/wait"]));
        world.reboot();
        world.run(10 * SECOND);
        assert_eq!(status(&world), before);
        world.delete("p", None);
        world.run(10 * SECOND);
        assert!(world.runtime.pods.is_empty());
        assert_eq!(status(&world), before);
    }
}

#[test]
fn a_pod_whose_init_fails_is_tried_again_unless_it_never_restarts() {
    for policy in ["Always", "OnFailure"] {
        let mut world = World::ready(311);
        pod(&mut world, policy, &[container("a", &["ends", "100", "1"])], &[container("m", &["runs"])]);
        world.run(5 * SECOND);
        let now = status(&world);
        assert_eq!(now["phase"], "Pending", "{policy}");
        let a = of(&now, "a");
        assert_eq!((&a["state"]["waiting"]["reason"], &a["lastState"]["terminated"]["exitCode"]), (&json!("CrashLoopBackOff"), &json!(1)));
        assert_eq!((&a["ready"], &of(&now, "m")["state"]), (&json!(false), &never_started()), "{policy}");
        assert_eq!(told(&now, "Initialized")[2], "containers with incomplete status: [a]");
        assert_eq!(told(&now, "ContainersReady")[2], "containers with unready status: [m]");
    }
}

/// As Kubernetes' own tests do it: deleted at any instant, whatever was under way.
#[test]
fn a_pod_that_is_deleted_before_it_is_initialized_tells_of_no_start() {
    for code in ["0", "1"] {
        for millis in (0..400).step_by(7) {
            let mut world = World::ready(312);
            let init = [container("a", &["ends", "80", code]), container("b", &["ignores"])];
            pod(&mut world, "Never", &init, &[container("m", &["runs"])]);
            world.edit_pod("p", |pod| pod["metadata"]["finalizers"] = json!(["example.com/wait"]));
            world.run(Duration::from_millis(millis));
            world.delete("p", Some([0, 1, 30][usize::try_from(millis % 3).expect("small")]));
            world.run(40 * SECOND);
            let now = status(&world);
            let main = of(&now, "m");
            assert_eq!((&main["state"], &main["lastState"], &now["phase"]), (&never_started(), &json!({}), &json!("Failed")), "after {millis} ms");
            assert!(of(&now, "a")["state"]["terminated"].is_object(), "after {millis} ms: {now:#}");
            assert_eq!(told(&now, "Initialized")[0], "False");
        }
    }
}

#[test]
fn a_pod_without_init_that_is_deleted_before_it_starts_has_failed() {
    let mut world = World::ready(313);
    world.apply_pod("p", &[], json!({ "containers": [{ "name": "m", "image": "missing:1" }] }));
    world.run(5 * SECOND);
    assert_eq!(of(&status(&world), "m")["state"]["waiting"]["reason"], "ErrImagePull");
    world.edit_pod("p", |pod| pod["metadata"]["finalizers"] = json!(["example.com/wait"]));
    world.delete("p", None);
    world.run(10 * SECOND);
    let now = status(&world);
    let ended = &of(&now, "m")["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"], &now["phase"]), (&json!("ContainerStatusUnknown"), &json!(137), &json!("Failed")));
}

#[test]
fn a_pod_is_ready_when_its_sidecars_are() {
    let probe = |command: &str| json!({ "readinessProbe": { "exec": { "command": [command] }, "periodSeconds": 1, "failureThreshold": 1 } });
    for (command, ready) in [("well", "True"), ("ill", "False")] {
        let mut world = World::ready(314);
        let init = [container("a", &["ends", "100", "0"]), sidecar("s", &["runs"], &probe(command)), sidecar("t", &["runs"], &json!({}))];
        pod(&mut world, "Always", &init, &[container("m", &["runs"])]);
        world.run(10 * SECOND);
        let now = status(&world);
        assert_eq!((&now["phase"], condition(world.pod("p").expect("it is there"), "Initialized")), (&json!("Running"), Some("True")));
        for kind in ["Ready", "ContainersReady"] {
            let [told, reason, message] = told(&now, kind);
            assert_eq!(told, ready, "{command}, {kind}");
            let why = [json!("ContainersNotReady"), json!("containers with unready status: [s]")];
            assert_eq!([reason, message], if ready == "True" { [Value::Null, Value::Null] } else { why });
        }
        assert_eq!((&of(&now, "s")["started"], &of(&now, "s")["ready"]), (&json!(true), &json!(ready == "True")));
        assert_eq!((&of(&now, "a")["started"], &of(&now, "a")["ready"]), (&json!(false), &json!(true)));
        // An agent that comes back judges by no first sight.
        world.kill();
        world.start();
        world.run(10 * SECOND);
        assert_eq!(told(&status(&world), "Ready")[0], ready);
    }
}

#[test]
fn a_pod_whose_sidecar_ends_is_not_ready_until_it_runs_again() {
    let mut world = World::ready(315);
    pod(&mut world, "Always", &[sidecar("s", &["ends", "5000", "0"], &json!({}))], &[container("m", &["runs"])]);
    world.run(3 * SECOND);
    assert!(world.is_ready("p"));
    world.run(9 * SECOND);
    let now = status(&world);
    assert_eq!((starts(&world, "s"), starts(&world, "m"), &now["phase"]), (2, 1, &json!("Running")));
    assert_eq!(told(&now, "Ready")[2], "containers with unready status: [s]");
    assert_eq!(told(&now, "Initialized")[0], "True", "that holds once it did");
    assert_eq!(of(&now, "s")["state"]["waiting"]["reason"], "CrashLoopBackOff");
    world.run(11 * SECOND);
    assert!(world.is_ready("p"));
}

#[test]
fn the_next_init_container_waits_for_the_startup_of_a_sidecar() {
    for (command, next) in [("well", 1), ("ill", 0), ("missing", 0)] {
        let mut world = World::ready(316);
        let probe = json!({ "startupProbe": { "exec": { "command": [command] }, "periodSeconds": 5, "initialDelaySeconds": 5, "failureThreshold": 100 } });
        let init = [sidecar("s", &["runs"], &probe), container("a", &["ends", "100", "0"])];
        pod(&mut world, "Always", &init, &[container("m", &["runs"])]);
        world.run(4 * SECOND);
        let early = status(&world);
        assert_eq!((starts(&world, "s"), starts(&world, "a"), &of(&early, "s")["started"]), (1, 0, &json!(false)));
        assert_eq!(told(&early, "Initialized")[2], "containers with incomplete status: [s a]");
        world.run(20 * SECOND);
        assert_eq!((starts(&world, "a"), starts(&world, "m")), (next, next), "{command}");
        assert_eq!(of(&status(&world), "s")["started"], next == 1);
    }
}

/// A sidecar has to have started once before what follows it, and holds up nothing
/// afterwards.
#[test]
fn a_sidecar_that_crashes_does_not_hold_up_what_follows_it() {
    let mut world = World::ready(317);
    let init = [sidecar("s", &["ends", "400", "1"], &json!({})), container("a", &["ends", "5000", "0"]), container("b", &["ends", "100", "0"])];
    pod(&mut world, "OnFailure", &init, &[container("m", &["ends", "1000", "0"])]);
    world.run(8 * SECOND);
    let now = status(&world);
    assert_eq!((starts(&world, "a"), starts(&world, "b"), starts(&world, "m")), (1, 1, 1), "{now:#}");
    assert!((2..=3).contains(&starts(&world, "s")));
    world.run(10 * SECOND);
    assert_eq!(status(&world)["phase"], "Succeeded", "how a sidecar ends decides nothing");
}

#[test]
fn sidecars_end_last_and_decide_nothing() {
    for (code, phase) in [("0", "Succeeded"), ("1", "Failed")] {
        let mut world = World::ready(318);
        let init = [sidecar("s", &["ignores"], &json!({})), sidecar("t", &["runs"], &json!({}))];
        pod(&mut world, "Never", &init, &[container("m", &["ends", "3000", code])]);
        world.run(Duration::from_millis(4000));
        // It is still being stopped: nothing final is told.
        let now = status(&world);
        assert_eq!((&now["phase"], &told(&now, "Ready")[0]), (&json!("Running"), &json!("False")));
        world.run(10 * SECOND);
        let now = status(&world);
        assert_eq!((&now["phase"], &of(&now, "s")["state"]["terminated"]["exitCode"]), (&json!(phase), &json!(137)));
    }
}

#[test]
fn readiness_gates_are_told_by_what_they_lack() {
    let mut world = World::ready(319);
    world.apply_pod("p", &["runs"], json!({ "readinessGates": [{ "conditionType": "example.com/a" }, { "conditionType": "example.com/b" }] }));
    world.run(5 * SECOND);
    world.edit_pod("p", |pod| {
        let given = json!({ "type": "example.com/b", "status": "False" });
        pod["status"]["conditions"].as_array_mut().expect("conditions").push(given);
    });
    world.run(5 * SECOND);
    let message = "corresponding condition of pod readiness gate \"example.com/a\" does not exist., \
        the status of pod readiness gate \"example.com/b\" is not \"True\", but False";
    assert_eq!(told(&status(&world), "Ready"), [json!("False"), json!("ReadinessGatesNotReady"), json!(message)]);
    assert_eq!(told(&status(&world), "ContainersReady")[0], "True");
}
