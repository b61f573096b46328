//! Twin updates by a real mosquitto: how long one takes, how many there are in a
//! second beside what the broker alone carries, and what they cost: processor
//! time, and bytes on a disk of their own.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures_lite::future;
use rumqttc::mqttbytes::QoS;
use rustix::time::{ClockId, clock_gettime};
use selvedge::config::file;
use selvedge::eventbus;
use selvedge::host::tasks::Executor;
use selvedge::node::bus::Order;
use selvedge::node::input::Input;
use serde_json::{Value, json};

use super::beside::Mosquitto;
use super::load::Client;
use super::stand::{Stand, now, pause};

const DEVICES: usize = 1000;
/// Updates that wait for their answer at once: one of each device.
const WINDOW: usize = DEVICES;
/// Updates one after the other.
const SINGLES: usize = 2000;
/// Updates in a row, and how often that is done.
const ROW: usize = 50_000;
const ROUNDS: usize = 3;
/// Updates need none.
const NO_RUNTIME: &str = "/nonexistent/cri.sock";

const UPDATES: &str = "$hw/events/device/+/+/twin/update";
const RESULTS: &str = "$hw/events/device/+/+/twin/update/result";

/// Takes all figures.
pub fn figures() {
    let dir = std::env::temp_dir().join(format!("selvedge-updates-{}", std::process::id()));
    for (name, is_unix) in [("TCP", false), ("a unix socket", true)] {
        println!("by {name}:");
        speed(&dir, is_unix);
    }
    if let Err(why) = bytes(&dir) {
        println!("NOT MEASURED: bytes on disk: {why}");
    }
    let _ = std::fs::remove_dir_all(dir);
}

/// A broker, and how everybody gets to it.
struct Road {
    broker: Mosquitto,
    is_unix: bool,
}

impl Road {
    fn new(is_unix: bool) -> Self {
        Self { broker: broker("updates"), is_unix }
    }

    fn client(&self, id: &str) -> Client {
        if self.is_unix { self.broker.client(id) } else { Client::tcp(self.broker.port, id) }
    }

    /// As the agent's configuration names it.
    fn server(&self) -> String {
        if self.is_unix { self.broker.unix() } else { self.broker.tcp() }
    }
}

/// A mosquitto as users are told to configure theirs.
pub fn broker(name: &str) -> Mosquitto {
    Mosquitto::start(name, "allow_anonymous true\nmax_inflight_messages 1000\nmax_queued_messages 0\nset_tcp_nodelay true\n")
}

/// On the machine's own disk, beside what the broker and an echo do.
fn speed(dir: &Path, is_unix: bool) {
    let ceiling = rates(&Road::new(is_unix), UPDATES, &[]);
    println!("broker alone      {ceiling}");
    echo_alone(is_unix);
    let road = Road::new(is_unix);
    let stand = Stand::new(dir, Path::new(NO_RUNTIME));
    println!("sync alone        {}", Quantiles::of(syncs(&dir.join("bare"))));
    let stand = devices(stand, &road);
    println!("single updates    {} (limits: p50 0.60, p99 3.00)", Quantiles::of(singles(&road)));
    let pids = [("agent", stand.agent.as_ref().expect("it runs").id()), ("mosquitto", road.broker.pid())];
    let rates = rates(&road, RESULTS, &pids);
    println!("many updates      {rates}: {:.0} % of the broker alone (limit 15000 messages/s)", 100.0 * rates.median / ceiling.median);
}

/// With a broker of its own, which would keep messages for the echo for ever.
fn echo_alone(is_unix: bool) {
    let road = Road::new(is_unix);
    let echo = Echo::start(&road);
    let (hops, answers) = (Quantiles::of(singles(&road)), rates(&road, RESULTS, &[]));
    println!("echo              {answers}; single {hops}; {:.1} us of its own for each", echo.end() * 1e6 / (ROW * ROUNDS + SINGLES) as f64);
}

/// On a disk that counts: a loop device, which is slow, so it is only for that.
fn bytes(dir: &Path) -> Result<(), String> {
    let road = Road::new(false);
    let stand = Stand::new(dir, Path::new(NO_RUNTIME));
    let disk = Disk::mount(&dir.join("state"))?;
    let _stand = devices(stand, &road);
    let each = |count: usize, before: u64| (disk.written() - before) as f64 / count as f64;
    let before = disk.written();
    singles(&road);
    println!("bytes on disk     {:.0} for a single update (limit 4500)", each(SINGLES, before));
    let before = disk.written();
    let rates = rates(&road, RESULTS, &[]);
    println!("bytes on disk     {:.0} for each of many at {:.0}/s (limit 400)", each(ROW * ROUNDS, before), rates.median);
    Ok(())
}

/// An agent that knows its devices.
fn devices(mut stand: Stand, road: &Road) -> Stand {
    stand.configure("");
    stand.listen_to(&road.server());
    stand.start_cloud();
    stand.join();
    stand.start_agent();
    introduce(&stand, &road.broker, 0);
    stand
}

/// Milliseconds of a small write and its sync, in a file that has its size.
fn syncs(file: &Path) -> Vec<f64> {
    let open = std::fs::File::create(file).expect("room");
    open.write_all_at(&[0; 1 << 20], 0).and_then(|()| open.sync_all()).expect("room");
    let sync = |number: usize| {
        let begun = now();
        open.write_all_at(&[1; 256], 256 * (number as u64 % 4096)).and_then(|()| open.sync_data()).expect("a disk");
        begun.elapsed().as_secs_f64() * 1000.0
    };
    (0..SINGLES).map(sync).collect()
}

/// The cloud has devices, each with some properties, and the agent knows them.
pub fn introduce(stand: &Stand, broker: &Mosquitto, properties: usize) {
    let property = |number: usize| json!({ "name": name(number), "desired": { "value": "20", "metadata": { "type": "string" } }, "reportToCloud": true });
    for number in 0..DEVICES {
        stand.apply(&json!({ "kind": "Device", "apiVersion": "devices.kubeedge.io/v1beta1", "metadata": { "name": format!("dev-{number}") },
            "spec": { "nodeName": "live", "protocol": { "protocolName": "bench" }, "properties": (0..properties).map(property).collect::<Vec<_>>() } }));
    }
    let mut client = Client::tcp(broker.port, "asks");
    client.subscribe("$hw/events/node/live/membership/get/result", QoS::AtMostOnce);
    stand.until("the agent knows all devices", |_| {
        client.publish("$hw/events/node/live/membership/get", br#"{"event_id":"bench"}"#, QoS::AtMostOnce);
        let members: Value = serde_json::from_slice(&client.message().payload).expect("JSON");
        pause(Duration::from_millis(100));
        members["devices"].as_array().map_or(0, Vec::len) == DEVICES
    });
}

/// Every device reports every property once.
pub fn report(broker: &Mosquitto, properties: usize) {
    let mut client = Client::tcp(broker.port, "reports");
    client.subscribe(RESULTS, QoS::AtMostOnce);
    for number in 0..DEVICES {
        let twin = |property| (name(property), json!({ "actual": { "value": format!("{number}"), "metadata": { "type": "string" } } }));
        let update = json!({ "event_id": "", "timestamp": 0, "twin": (0..properties).map(twin).collect::<serde_json::Map<_, _>>() });
        client.publish(&topic(number), update.to_string().as_bytes(), QoS::AtMostOnce);
        let result: Value = serde_json::from_slice(&client.message().payload).expect("JSON");
        assert!(result["code"].is_null(), "{result}");
    }
}

fn name(property: usize) -> String {
    format!("property-{property}")
}

fn topic(number: usize) -> String {
    format!("$hw/events/device/default/dev-{}/twin/update", number % DEVICES)
}

/// The value differs each time, so nothing can be left out.
fn payload(number: usize) -> Vec<u8> {
    let twin = format!(r#"{{"temperature":{{"actual":{{"value":"{number}"}},"metadata":{{"type":"string"}}}}}}"#);
    format!(r#"{{"event_id":"{number}","timestamp":1795392000000,"twin":{twin}}}"#).into_bytes()
}

/// Of milliseconds.
struct Quantiles {
    p50: f64,
    p99: f64,
    longest: f64,
}

impl Quantiles {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let [p50, p99, longest] = [times.len() / 2, times.len() * 99 / 100, times.len() - 1].map(|at| times[at]);
        Self { p50, p99, longest }
    }
}

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms", self.p50, self.p99, self.longest)
    }
}

/// Milliseconds from an update to its result, one after the other.
fn singles(road: &Road) -> Vec<f64> {
    let mut client = road.client("single");
    client.subscribe(RESULTS, QoS::AtMostOnce);
    let single = |number: usize| {
        let begun = now();
        client.say.gather(&topic(number), &payload(number), QoS::AtLeastOnce);
        client.say.flush();
        let result: Value = serde_json::from_slice(&client.hear.message().payload).expect("JSON");
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        assert!(result["event_id"].as_str() == Some(&number.to_string()) && result["code"].is_null(), "{result}");
        took
    };
    (0..SINGLES).map(single).collect()
}

/// Messages a second, and microseconds of processor time for each.
struct Rates {
    median: f64,
    all: Vec<f64>,
    costs: Vec<(&'static str, f64)>,
}

impl std::fmt::Display for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (least, most) = (self.all[0], self.all[self.all.len() - 1]);
        write!(f, "{:.0} messages/s ({least:.0} to {most:.0})", self.median)?;
        self.costs.iter().try_for_each(|(name, cost)| write!(f, ", {name} {cost:.0} us each"))
    }
}

fn rates(road: &Road, back: &str, pids: &[(&'static str, u32)]) -> Rates {
    let before: Vec<f64> = pids.iter().map(|(_, pid)| processor_time(*pid)).collect();
    let mut all: Vec<f64> = (0..ROUNDS).map(|_| ROW as f64 / row(road, back).as_secs_f64()).collect();
    let each = |seconds: f64| seconds * 1e6 / (ROW * ROUNDS) as f64;
    let costs = pids.iter().zip(before).map(|((name, pid), before)| (*name, each(processor_time(*pid) - before))).collect();
    all.sort_by(f64::total_cmp);
    Rates { median: all[ROUNDS / 2], all, costs }
}

/// Publishes updates, never more than the window ahead of what came back; how
/// long it took until all were back.
fn row(road: &Road, back: &str) -> Duration {
    let mut reader = road.client("back");
    reader.subscribe(back, QoS::AtMostOnce);
    let Client { mut say, hear } = road.client("load");
    let acks = thread::spawn(move || hear.drain());
    let (give, turns) = mpsc::channel();
    give.send(WINDOW).expect("somebody publishes");
    let results = thread::spawn(move || {
        let mut back = 0;
        while back < ROW {
            let several = reader.hear.several();
            back += several;
            // Behind the last update nobody takes turns.
            let _ = give.send(several);
        }
    });
    let begun = now();
    let mut number = 0;
    while number < ROW {
        let turn = turns.recv().expect("results come") + turns.try_iter().sum::<usize>();
        let next = ROW.min(number + turn);
        (number..next).for_each(|number| say.gather(&topic(number), &payload(number), QoS::AtLeastOnce));
        say.flush();
        number = next;
    }
    drop(turns);
    results.join().expect("all are back");
    let took = begun.elapsed();
    say.end();
    acks.join().expect("the broker acknowledges");
    took
}

/// Seconds of processor time a process has had.
fn processor_time(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // utime and stime, in hundredths of a second.
    fields[11..=12].iter().map(|ticks| ticks.parse::<f64>().expect("a number") / 100.0).sum()
}

/// The agent's client with nothing behind it: every update comes back at once.
struct Echo(smol::channel::Sender<()>, thread::JoinHandle<f64>);

impl Echo {
    fn start(road: &Road) -> Self {
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let text = format!("[eventbus]\nserver = '{}'\n", road.server());
        let echo = thread::spawn(move || {
            let executor = Executor::default();
            let stopped = async {
                let _ = stopped.recv().await;
            };
            executor.block_on(future::or(echo(&text, &executor), stopped));
            let time = clock_gettime(ClockId::ThreadCPUTime);
            time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
        });
        let mut probe = road.client("probe");
        probe.subscribe("echo/is/here", QoS::AtMostOnce);
        probe.hear.message();
        Self(stop, echo)
    }

    /// Ends it; seconds of processor time it had.
    fn end(self) -> f64 {
        let _ = self.0.try_send(());
        self.1.join().expect("it lives")
    }
}

/// As the agent's loop does it: takes all that came, hands out what has room.
async fn echo(config: &str, executor: &Executor) {
    let (inbox, inputs) = smol::channel::bounded(64);
    let bus = eventbus::open(file::parse(config, "echo").expect("it is right").eventbus, "echo", inbox, executor, None);
    let mut orders = VecDeque::new();
    loop {
        while bus.room()
            && let Some(order) = orders.pop_front()
        {
            bus.hand(order);
        }
        let freed = async {
            bus.freed().await;
            None
        };
        let mut next = future::or(async { inputs.recv().await.ok() }, freed).await;
        while let Some(input) = next {
            orders.extend(answer(input));
            next = inputs.try_recv().ok();
        }
    }
}

fn answer(input: Input) -> Vec<Order> {
    let publish = |topic: String, payload| Order::Publish { topic, payload };
    if let Input::BusUp { .. } = input {
        // The broker reads the second when it has done the first.
        return vec![Order::Subscribe(vec![UPDATES.to_owned()]), publish("echo/is/here".to_owned(), Vec::new())];
    }
    let Input::Published(publication) = input else { panic!("{input:?}") };
    let ack = publication.packet.map(Order::Ack);
    [publish(format!("{}/result", publication.topic), publication.payload)].into_iter().chain(ack).collect()
}

/// An ext4 in a file, on a loop device that counts what is written.
struct Disk {
    folder: PathBuf,
    file: PathBuf,
    device: String,
}

impl Disk {
    fn mount(folder: &Path) -> Result<Self, String> {
        let file = folder.with_extension("ext4");
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::File::create(&file).and_then(|file| file.set_len(256 << 20)).map_err(|why| format!("{}: {why}", file.display()))?;
        run("mkfs.ext4", &[&"-q", &"-F", &file.display()])?;
        let device = run("losetup", &[&"-f", &"--show", &file.display()])?.trim().to_owned();
        let disk = Self { folder: folder.to_owned(), file, device };
        run("mount", &[&disk.device, &disk.folder.display()])?;
        Ok(disk)
    }

    /// Bytes written so far, those on their way included.
    fn written(&self) -> u64 {
        rustix::fs::sync();
        let text = std::fs::read_to_string(format!("/sys/block/{}/stat", self.device.trim_start_matches("/dev/"))).unwrap_or_default();
        512 * text.split_whitespace().nth(6).and_then(|sectors| sectors.parse::<u64>().ok()).expect("a loop device counts")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &[&self.folder.display()]);
        let _ = run("losetup", &[&"-d", &self.device]);
        let _ = std::fs::remove_file(&self.file);
    }
}

fn run(program: &str, words: &[&dyn std::fmt::Display]) -> Result<String, String> {
    let output = Command::new(program).args(words.iter().map(ToString::to_string)).output().map_err(|why| format!("{program}: {why}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(format!("{program}: {}", said(&output.stderr).trim())) }
}
