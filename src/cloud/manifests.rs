//! A folder of manifests in YAML, followed by inotify: what is in it is in the
//! cluster, and what came from it goes with its file.

use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde_json::Value;
use smol::{Async, Timer};

use super::objects::Name;
use super::{Stand, now, yaml};

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
        let title = file.file_name().unwrap_or_default().to_string_lossy();
        match read(&file) {
            Ok(manifests) => {
                for manifest in manifests {
                    let object = title_of(&manifest);
                    match stand.act(|cluster| cluster.apply_from(now(), manifest, &title)) {
                        Ok(name) => alive.push(name),
                        Err(refusal) => {
                            whole = false;
                            log::error!(target: "cloud", "{}: {object}: {}", file.display(), refusal.message);
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

/// Kind and name of an object, for people.
pub fn title_of(manifest: &Value) -> String {
    let name = manifest["metadata"]["name"].as_str().unwrap_or("without a name");
    format!("{} {name}", manifest["kind"].as_str().unwrap_or("object"))
}

/// Lists of lists end here.
const MAX_LISTS: usize = 8;

/// The objects of a file; `---` parts them, a List holds several.
///
/// # Errors
///
/// The file cannot be read, is no YAML, or holds something that is no object.
pub fn read(file: &Path) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(file).map_err(|why| why.to_string())?;
    objects(&text)
}

fn objects(text: &str) -> Result<Vec<Value>, String> {
    let mut objects = Vec::new();
    for document in yaml::documents(text).map_err(|why| why.to_string())? {
        unpack(document, &mut objects, 0)?;
    }
    Ok(objects)
}

/// Takes lists apart, of any kind whose name ends with List.
fn unpack(mut value: Value, objects: &mut Vec<Value>, depth: usize) -> Result<(), String> {
    if !value.is_object() {
        return Err(format!("an object was expected, not {}", cut(&value)));
    }
    let kind = value["kind"].as_str().ok_or("an object without kind")?.to_owned();
    if kind.ends_with("List") {
        if depth == MAX_LISTS {
            return Err(format!("{kind}: lists in lists, more than {MAX_LISTS} deep"));
        }
        let items = match value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            None | Some(Value::Null) => Vec::new(),
            Some(other) => return Err(format!("{kind}: items: a list was expected, not {}", cut(&other))),
        };
        return items.into_iter().try_for_each(|item| unpack(item, objects, depth + 1));
    }
    if !value["metadata"].is_object() {
        return Err(format!("{kind} has no metadata"));
    }
    objects.push(value);
    Ok(())
}

/// The beginning of a value, for people.
fn cut(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn modes_and_merged_labels_are_as_kubectl_reads_them() {
        let text = "kind: Pod\nmetadata: {name: octal}\nspec:\n  volumes: [{name: s, secret: {secretName: octal, defaultMode: 0400}}]\n---\n\
            kind: Deployment\nmetadata: {name: merge}\nspec:\n  selector: {matchLabels: &labels {app: merge}}\n  \
            template:\n    metadata:\n      labels:\n        <<: *labels\n";
        let objects = objects(text).expect(text);
        assert_eq!(objects[0]["spec"]["volumes"][0]["secret"]["defaultMode"], 0o400);
        assert_eq!(objects[1]["spec"]["template"]["metadata"]["labels"], json!({ "app": "merge" }));
    }

    #[test]
    fn lists_are_taken_apart() {
        let names = |text: &str| objects(text).map(|all| all.iter().map(|object| object["metadata"]["name"].clone()).collect::<Vec<_>>());
        let list = "kind: List\napiVersion: v1\nitems:\n- {kind: ConfigMap, metadata: {name: a}}\n- kind: PodList\n  items: [{kind: Pod, metadata: {name: b}}]\n---\n{kind: Pod, metadata: {name: c}}\n";
        assert_eq!(names(list), Ok(vec![json!("a"), json!("b"), json!("c")]));
        assert_eq!(names("kind: List\nitems:\n"), Ok(Vec::new()));
        for (text, why) in [
            ("kind: List\nitems: 5\n", "List: items: a list was expected, not 5"),
            ("- a\n", "an object was expected, not [\"a\"]"),
            ("metadata: {name: a}\n", "an object without kind"),
            ("kind: Pod\n", "Pod has no metadata"),
            ("kind: 5\n", "an object without kind"),
        ] {
            assert_eq!(names(text), Err(why.to_owned()), "{text}");
        }
    }
}
