//! The store on file systems that fail, and are well again: no restart is needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use selvedge::cloud::objects::condition;
use serde_json::json;

use super::stand::{OBEDIENT, Stand, pause, pod};

/// How long the store may wait before it tries again, and some.
const RECOVERY: Duration = Duration::from_secs(60);

/// A small file system; it goes with its owner.
struct Small {
    dir: PathBuf,
    /// The loop device below it, if it is not in memory.
    device: Option<String>,
}

impl Small {
    /// In memory, so many MiB.
    fn in_memory(dir: &Path, size: u32) -> Option<Self> {
        std::fs::create_dir_all(dir).expect("room");
        let mounted = run("mount", &["-t", "tmpfs", "-o", &format!("size={size}m,mode=700"), "tmpfs", &text(dir)]);
        mounted.map(|_| Self { dir: dir.to_owned(), device: None })
    }

    /// Of ext4, in a file beside it, 32 MiB. An error makes it read-only.
    fn ext4(dir: &Path) -> Option<Self> {
        std::fs::create_dir_all(dir).expect("room");
        let image = dir.with_extension("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(32 << 20)).expect("room");
        run("mkfs.ext4", &["-q", &text(&image)])?;
        let device = run("losetup", &["--find", "--show", &text(&image)])?;
        let small = Self { dir: dir.to_owned(), device: Some(device) };
        small.mount().then_some(small)
    }

    fn mount(&self) -> bool {
        let device = self.device.as_deref().expect("it has one");
        run("mount", &["-o", "errors=remount-ro", device, &text(&self.dir)]).is_some()
    }

    /// As the kernel does after an error that it found.
    fn turn_read_only(&self) -> bool {
        let device = self.device.as_deref().expect("it has one").trim_start_matches("/dev/");
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").is_ok()
    }

    /// The agent looks now and then; between two looks it keeps no file open.
    fn unmount(&self) {
        let mut tries = 0;
        while run("umount", &[&text(&self.dir)]).is_none() {
            tries += 1;
            assert!(tries < 50, "the agent keeps files open");
            pause(Duration::from_millis(100));
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run("umount", &["-l", &text(&self.dir)]);
        if let Some(device) = &self.device {
            run("losetup", &["--detach", device]);
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// What a command of the system says, if it succeeds.
fn run(program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).output().ok()?;
    if !output.status.success() {
        eprintln!("{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn store_problem(stand: &Stand) -> Option<String> {
    stand.get("node").iter().find_map(|node| condition(node, "StoreProblem").map(str::to_owned))
}

/// Too large for the journal: it goes to redb at once.
fn large_device() -> serde_json::Value {
    json!({ "kind": "Device", "apiVersion": "devices.kubeedge.io/v1beta1",
        "metadata": { "name": "large", "annotations": { "text": "x".repeat(400 << 10) } },
        "spec": { "nodeName": "live", "protocol": { "protocolName": "test" },
            "properties": [{ "name": "on", "desired": { "value": "yes", "metadata": { "type": "string" } } }] } })
}

/// Two pods run.
fn begin(stand: &Stand) {
    for name in ["old", "gone"] {
        stand.apply(&pod(name, OBEDIENT));
    }
    stand.until("both are ready", |stand| stand.is_ready("old") && stand.is_ready("gone"));
}

/// The store cannot be written, and has been told to.
fn while_it_fails(stand: &Stand, why: &str) {
    stand.until("it is told", |stand| store_problem(stand).as_deref() == Some("True"));
    let store = &stand.status()["store"];
    assert!(store["state"] == "failing" && store["why"].as_str().is_some_and(|said| said.contains(why)), "{store}");
    stand.delete("gone", None);
    stand.apply(&pod("new", OBEDIENT));
    stand.until("an end needs no disk", |stand| stand.containers().iter().all(|(pod, ..)| pod != "gone"));
    pause(Duration::from_secs(3));
    let running: Vec<String> = stand.containers().into_iter().map(|(pod, ..)| pod).collect();
    assert_eq!(running, ["old"], "what runs goes on, and a start waits for the disk");
}

/// It can be written again. What waited is on disk, and the agent is the same.
fn when_it_is_well(mut stand: Stand) {
    let agent = stand.agent.as_ref().expect("it runs").id();
    stand.within(RECOVERY, "what waited starts", |stand| stand.is_ready("new") && stand.pod("gone").is_none());
    stand.until("it is told", |stand| store_problem(stand).is_none());
    assert_eq!((&stand.status()["store"]["state"], stand.agent.as_ref().expect("it runs").id()), (&json!("ok"), agent));
    is_on_disk(&mut stand, &["new", "old"]);
}

/// An agent that has only its store knows the pods and the device.
fn is_on_disk(stand: &mut Stand, pods: &[&str]) {
    let before = stand.containers();
    stand.stop_cloud();
    stand.kill_agent();
    stand.start_agent();
    stand.until("it knows them", |stand| {
        let status = stand.status();
        status["pods"]["total"] == pods.len() && status["devices"]["total"] == 1
    });
    assert_eq!(stand.containers(), before, "nothing was started anew");
    stand.start_cloud();
    stand.until("the session is open", |stand| stand.status()["cloud"]["state"] == "online");
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_store_goes_on_when_a_full_file_system_has_room_again() {
    let mut small = None;
    let stand = Stand::up_with("full", |stand| small = Small::in_memory(&stand.dir.join("state"), 3));
    let Some(small) = &small else { return eprintln!("NOT TRIED: no tmpfs can be mounted here") };
    begin(&stand);
    let filler = small.dir.join("filler");
    let full = std::fs::write(&filler, vec![0; 4 << 20]).expect_err("it has 3 MiB");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    stand.apply(&large_device());
    while_it_fails(&stand, "No space left");
    std::fs::remove_file(&filler).expect("it is ours");
    when_it_is_well(stand);
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_store_goes_on_when_a_read_only_file_system_was_repaired() {
    let mut small = None;
    let stand = Stand::up_with("read-only", |stand| small = Small::ext4(&stand.dir.join("state")));
    let Some(small) = &small else { return eprintln!("NOT TRIED: no ext4 can be mounted here") };
    begin(&stand);
    if !small.turn_read_only() {
        return eprintln!("NOT TRIED: this kernel makes no ext4 read-only on demand");
    }
    stand.apply(&large_device());
    while_it_fails(&stand, "Read-only");
    small.unmount();
    pause(Duration::from_secs(2));
    assert_eq!(std::fs::read_dir(&small.dir).expect("it is ours").count(), 0, "no store is begun where it is not mounted");
    // It ends with 1 when it has corrected something.
    let _ = Command::new("e2fsck").args(["-fy", small.device.as_deref().expect("it has one")]).output();
    assert!(small.mount());
    when_it_is_well(stand);
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_store_goes_on_when_its_file_system_is_mounted_again() {
    let mut small = None;
    let mut state = None;
    let stand = Stand::up_with("mounted", |stand| {
        small = Small::in_memory(&stand.dir.join("file-system"), 8);
        state = bind(&stand.dir.join("file-system"), &stand.dir.join("state"));
    });
    let (Some(small), Some(bound)) = (&small, &state) else { return eprintln!("NOT TRIED: nothing can be mounted here") };
    begin(&stand);
    run("umount", &["-l", &text(&bound.dir)]).expect("it is mounted");
    stand.apply(&large_device());
    while_it_fails(&stand, "not mounted");
    assert_eq!(std::fs::read_dir(&bound.dir).expect("it is ours").count(), 0, "no store is begun where it is not mounted");
    let _again = bind(&small.dir, &bound.dir).expect("it was mounted before");
    when_it_is_well(stand);
}

fn bind(from: &Path, to: &Path) -> Option<Small> {
    std::fs::create_dir_all(to).expect("room");
    run("mount", &["--bind", &text(from), &text(to)]).map(|_| Small { dir: to.to_owned(), device: None })
}

#[test]
#[ignore = "needs a containerd: make live"]
fn a_store_whose_directory_vanished_is_written_anew() {
    let mut stand = Stand::up("vanished");
    begin(&stand);
    stand.apply(&large_device());
    stand.until("the device is known", |stand| stand.status()["devices"]["total"] == 1);
    std::fs::remove_dir_all(stand.dir.join("state")).expect("it is ours");
    stand.apply(&pod("new", OBEDIENT));
    stand.until("a new pod is ready", |stand| stand.is_ready("new"));
    assert_eq!((store_problem(&stand), &stand.status()["store"]["state"]), (None, &json!("ok")));
    is_on_disk(&mut stand, &["gone", "new", "old"]);
}
