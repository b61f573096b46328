//! A folder of manifests in YAML, followed by inotify: what is in it is in the
//! cluster, what goes from it goes.

use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde::Deserialize;
use serde_json::{Value, json};
use smol::{Async, Timer};

use super::cluster::FROM;
use super::objects::Name;
use super::{Stand, now};

/// An editor writes in several steps; they are taken as one.
const PAUSE: Duration = Duration::from_millis(100);

/// Applies the folder now and whenever it changes.
pub async fn follow(folder: PathBuf, stand: Rc<Stand>) {
    if let Err(why) = follow_to_the_end(&folder, &stand).await {
        log::error!(target: "cloud", "{}: {why}; it is not followed any more", folder.display());
    }
}

async fn follow_to_the_end(folder: &Path, stand: &Stand) -> io::Result<()> {
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, folder, WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE | WatchFlags::ONLYDIR)?;
    let watch = Async::new(watch)?;
    loop {
        apply(folder, stand)?;
        watch.readable().await?;
        Timer::after(PAUSE).await;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&watch, &mut buffer);
        while events.next().is_ok() {}
    }
}

/// One file that cannot be read keeps its objects as they are, and nothing goes.
fn apply(folder: &Path, stand: &Stand) -> io::Result<()> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_yaml(path)).collect();
    files.sort();
    let mut alive: Vec<Name> = Vec::new();
    let mut whole = true;
    for file in files {
        match read(&file) {
            Ok(manifests) => {
                for manifest in manifests {
                    let title =
                        format!("{} {}", manifest["kind"].as_str().unwrap_or("object"), manifest["metadata"]["name"].as_str().unwrap_or("without a name"));
                    match stand.apply(manifest) {
                        Ok(name) => alive.push(name),
                        Err(refusal) => {
                            whole = false;
                            log::error!(target: "cloud", "{}: {title}: {}", file.display(), refusal.message);
                        }
                    }
                }
            }
            Err(why) => {
                whole = false;
                log::error!(target: "cloud", "{}: {why}", file.display());
            }
        }
    }
    if whole {
        stand.act(|cluster| cluster.prune(now(), &alive));
    }
    Ok(())
}

fn is_yaml(path: &Path) -> bool {
    matches!(path.extension().and_then(|extension| extension.to_str()), Some("yaml" | "yml" | "json"))
}

/// The objects of a file; `---` parts them, a List holds several.
pub fn read(file: &Path) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(file).map_err(|why| why.to_string())?;
    let mut manifests = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        let mut value = Value::deserialize(document).map_err(|why| why.to_string())?;
        if value["kind"] == "List" {
            manifests.extend(value["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
        } else if !value.is_null() {
            manifests.push(value);
        }
    }
    for manifest in &mut manifests {
        if !manifest["metadata"].is_object() {
            return Err(format!("{} has no metadata", manifest["kind"].as_str().unwrap_or("an object")));
        }
        manifest["metadata"]["annotations"][FROM] = json!(file.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    Ok(manifests)
}
