//! How often the runtime is asked the same thing, in steps and in calls of CRI, and how
//! much the cloud is told meanwhile: whatever the runtime answers, in whatever stage of
//! a pod, nothing is tried again without a back-off, and each failure is told.

use std::time::Duration;

use selvedge::node::runtime::PodSeen;
use serde_json::json;

use crate::sim::World;
use crate::sim::answer::Answer;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: u64 = 60_000;
/// How long a world is looked at.
const MINUTES: u64 = 10;
/// CRI calls for a pod in the first minute, and in one after the fifth: starting or
/// ending takes some fifteen, and reading the pod five each time.
const MAX_CALLS: [usize; 2] = [120, 60];
/// Messages to the cloud, and Events among them, for all pods in the first minute, and in
/// one after the fifth. Lease and status of the node are ten of them.
const MAX_TOLD: [(u64, u64); 2] = [(250, 110), (100, 30)];

/// Every step there is; each has a pod of its own that it fails for.
const STEPS: [&str; 10] = ["prepare", "ensure image", "make sandbox", "start", "postStart", "stop", "remove", "empty", "clean", "look"];

/// Where in its life a pod is when the runtime begins to answer so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is new.
    Starts,
    /// Its container ends again and again.
    Crashes,
    /// Its sandbox is gone.
    LosesSandbox,
    /// A volume of it changes.
    Changes,
    /// It is over, and stays.
    Completes,
    /// It is deleted, with grace.
    Deleted,
    /// It is deleted by force.
    Forced,
    /// Only the runtime knows it.
    Orphaned,
}

fn name_of(step: &str) -> String {
    step.to_lowercase().replace(' ', "-")
}

fn apply_all(world: &mut World, stage: Stage) {
    let command: &[&str] = match stage {
        Stage::Crashes => &["ends", "15000", "1"],
        Stage::Completes => &["ends", "15000", "0"],
        Stage::Starts | Stage::LosesSandbox | Stage::Changes | Stage::Deleted | Stage::Forced | Stage::Orphaned => &["runs"],
    };
    let policy = if stage == Stage::Completes { "Never" } else { "Always" };
    let hook = json!({ "postStart": { "exec": { "command": ["true"] } } });
    for step in STEPS {
        let container = json!({ "name": "c", "image": "busybox:1", "command": command, "lifecycle": hook });
        let volume = json!({ "name": "v", "configMap": { "name": "m" } });
        world.apply_pod(&name_of(step), &[], json!({ "restartPolicy": policy, "containers": [container], "volumes": [volume] }));
    }
}

fn answer_so(world: &mut World, answer: Answer) {
    world.runtime.answers = STEPS.into_iter().map(|step| ((name_of(step), step), answer)).collect();
}

/// What happens to the pods that are there.
fn happen(world: &mut World, stage: Stage) {
    match stage {
        Stage::Starts | Stage::Crashes | Stage::Completes => {}
        Stage::LosesSandbox => world.lose_sandboxes(),
        Stage::Changes => world.apply(json!({ "kind": "ConfigMap", "metadata": { "name": "m" }, "data": { "key": "two" } })),
        Stage::Deleted => STEPS.iter().for_each(|step| world.delete(&name_of(step), None)),
        Stage::Forced => STEPS.iter().for_each(|step| world.delete(&name_of(step), Some(0))),
        Stage::Orphaned => {
            let answers = std::mem::take(&mut world.runtime.answers);
            let pods: Vec<PodSeen> = world.runtime.pods.values().cloned().collect();
            STEPS.iter().for_each(|step| world.delete(&name_of(step), Some(0)));
            world.run(60 * SECOND);
            world.set_runtime(false);
            world.run(SECOND);
            for (number, mut pod) in pods.into_iter().enumerate() {
                pod.uid = format!("{number:08}-0000-4000-8000-000000000000").as_str().into();
                world.runtime.pods.insert(pod.uid.clone(), pod);
            }
            world.runtime.answers = answers;
            world.set_runtime(true);
        }
    }
}

/// A world of that stage and answer, from the instant the pods meet it.
fn met(stage: Stage, answer: Answer) -> (World, u64) {
    let mut world = World::ready(7);
    world.apply(json!({ "kind": "ConfigMap", "metadata": { "name": "m" }, "data": { "key": "one" } }));
    if stage == Stage::Starts {
        answer_so(&mut world, answer);
    }
    apply_all(&mut world, stage);
    if stage != Stage::Starts {
        world.run(10 * SECOND);
        answer_so(&mut world, answer);
    }
    let begun = world.millis();
    happen(&mut world, stage);
    (world, begun)
}

/// Steps of a pod in one minute.
fn in_minute(world: &World, name: &str, begun: u64, minute: u64) -> Vec<&'static str> {
    let minute = begun + minute * MINUTE..begun + (minute + 1) * MINUTE;
    let asked = world.runtime.asked.iter().filter(|(at, pod, _)| pod == name && minute.contains(at));
    asked.map(|(_, _, step)| *step).collect()
}

/// CRI calls for a pod in each minute.
fn calls_per_minute(world: &World, name: &str, begun: u64) -> Vec<usize> {
    let in_minute = |minute| {
        let minute = begun + minute * MINUTE..begun + (minute + 1) * MINUTE;
        let calls = world.runtime.calls.iter().filter(|(at, pod, _)| pod == name && minute.contains(at));
        calls.map(|(_, _, count)| count).sum()
    };
    (0..MINUTES).map(in_minute).collect()
}

/// Messages to the cloud in each minute from now on, and those of them that are Events.
fn told_per_minute(world: &mut World) -> Vec<(u64, u64)> {
    let told = |world: &World| {
        let events = world.traffic.iter().filter(|((_, of), _)| of == "event").map(|(_, count)| count);
        (world.traffic.values().sum::<u64>(), events.sum::<u64>())
    };
    let in_minute = |_| {
        let before = told(world);
        world.run(Duration::from_millis(MINUTE));
        let after = told(world);
        (after.0 - before.0, after.1 - before.1)
    };
    (0..MINUTES).map(in_minute).collect()
}

/// A failure, and a success that changes nothing where something must change.
fn is_trouble(step: &str, answer: Answer) -> bool {
    match answer {
        Answer::Refused(_) | Answer::DoneAndRefused | Answer::Silence => true,
        Answer::WithoutEffect => matches!(step, "make sandbox" | "start" | "stop" | "remove" | "look"),
        Answer::ShortLived => false,
    }
}

/// Answers that a stage is tried with. Of the codes that mean the same to the
/// node, all are tried where pods begin and where they end.
fn answers(stage: Stage) -> Vec<Answer> {
    let is_whole = matches!(stage, Stage::Starts | Stage::Deleted);
    let is_tried = |answer: &Answer| match answer {
        Answer::Refused(code) => is_whole || matches!(*code, "NotFound" | "Unavailable" | "Internal"),
        Answer::ShortLived => stage == Stage::Starts,
        Answer::DoneAndRefused | Answer::WithoutEffect | Answer::Silence => true,
    };
    Answer::all().into_iter().filter(is_tried).collect()
}

/// What is wrong with how the pod of one step fared.
fn faults(world: &World, begun: u64, step: &str, answer: Answer) -> Option<String> {
    let name = name_of(step);
    let per_minute: Vec<_> = (0..MINUTES).map(|minute| in_minute(world, &name, begun, minute)).collect();
    let counts: Vec<usize> = per_minute.iter().map(Vec::len).collect();
    // A start takes six steps, and an end as many.
    if counts[0] > 25 || counts[5..].iter().any(|count| *count > 6) {
        return Some(format!("asked too often: {counts:?}, {:?}", per_minute[5]));
    }
    let calls = calls_per_minute(world, &name, begun);
    if calls[0] > MAX_CALLS[0] || calls[5..].iter().any(|count| *count > MAX_CALLS[1]) {
        return Some(format!("CRI is called too often: {calls:?}"));
    }
    let failed = per_minute[5..].iter().map(|asked| asked.iter().filter(|asked| **asked == step).count()).max();
    if is_trouble(step, answer) && failed > Some(2) {
        return Some(format!("fails {failed:?} times a minute"));
    }
    let is_met = per_minute.iter().flatten().any(|asked| *asked == step);
    let events = world.events_of(&name);
    let is_told = events.iter().any(|((reason, _), _)| reason.starts_with("Fail"));
    (is_met && is_trouble(step, answer) && !is_told).then(|| format!("not told: {events:?}"))
}

fn check(stage: Stage) {
    let mut wrong = Vec::new();
    for answer in answers(stage) {
        let (mut world, begun) = met(stage, answer);
        let told = told_per_minute(&mut world);
        let is_too_much = |told: &(u64, u64), most: (u64, u64)| told.0 > most.0 || told.1 > most.1;
        if is_too_much(&told[0], MAX_TOLD[0]) || told[5..].iter().any(|told| is_too_much(told, MAX_TOLD[1])) {
            wrong.push(format!("{answer:?}: too much is said to the cloud: {told:?}"));
        }
        let faults = STEPS.into_iter().filter_map(|step| Some((step, faults(&world, begun, step, answer)?)));
        wrong.extend(faults.map(|(step, fault)| format!("'{step}' answered by {answer:?}: {fault}")));
    }
    assert!(wrong.is_empty(), "{stage:?}, {} of them:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_pod_that_starts_is_not_tried_without_a_pause() {
    check(Stage::Starts);
}

#[test]
fn a_pod_that_crashes_is_not_tried_without_a_pause() {
    check(Stage::Crashes);
}

#[test]
fn a_pod_that_loses_its_sandbox_is_not_tried_without_a_pause() {
    check(Stage::LosesSandbox);
}

#[test]
fn a_pod_that_changes_is_not_tried_without_a_pause() {
    check(Stage::Changes);
}

#[test]
fn a_pod_that_completes_is_not_tried_without_a_pause() {
    check(Stage::Completes);
}

#[test]
fn a_pod_that_is_deleted_is_not_tried_without_a_pause() {
    check(Stage::Deleted);
}

#[test]
fn a_pod_that_is_deleted_by_force_is_not_tried_without_a_pause() {
    check(Stage::Forced);
}

#[test]
fn a_pod_that_only_the_runtime_knows_is_not_tried_without_a_pause() {
    check(Stage::Orphaned);
}
