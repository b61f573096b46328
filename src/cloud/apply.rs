//! What people apply, by hand or by a folder: objects are created, changed, and
//! removed with the file that brought them.

use serde_json::{Value, json};

use super::cluster::{Cluster, Now};
use super::objects::{Name, Refusal, name};
use super::workloads::{self, DEPLOYMENT};
use crate::wire::resource::kind;

/// Annotation of objects that a folder brought: the file.
const FROM: &str = "selvedge.io/manifest";
/// Kinds that people may apply.
const SERVED: [&str; 6] = [kind::POD, DEPLOYMENT, kind::CONFIG_MAP, kind::SECRET, kind::DEVICE, kind::DEVICE_MODEL];
impl Cluster {
    /// Creates an object or changes what is described of it, as `kubectl apply`
    /// does. An object of the folder is the folder's no more.
    pub fn apply(&mut self, now: Now, manifest: Value) -> Result<Name, Refusal> {
        self.apply_as(now, manifest, None)
    }

    /// The same with an object of a file in the folder. What it creates goes when
    /// the folder no longer has it; what was there before does not.
    pub fn apply_from(&mut self, now: Now, manifest: Value, file: &str) -> Result<Name, Refusal> {
        self.apply_as(now, manifest, Some(file))
    }

    fn apply_as(&mut self, now: Now, mut manifest: Value, file: Option<&str>) -> Result<Name, Refusal> {
        mark(&mut manifest, None);
        let meta = &manifest["metadata"];
        let of = manifest["kind"].as_str().unwrap_or_default().to_lowercase();
        let namespace = meta["namespace"].as_str().unwrap_or("default").to_owned();
        let own = name(&of, &namespace, meta["name"].as_str().unwrap_or_default());
        if !SERVED.contains(&of.as_str()) {
            return Err(Refusal::invalid(&own, "is of a kind that is not served: Pod, Deployment, ConfigMap, Secret, Device and DeviceModel are"));
        }
        if own.2.is_empty() {
            return Err(Refusal::invalid(&own, "has no metadata.name"));
        }
        let mut manifest = if of == kind::SECRET { encoded(manifest) } else { manifest };
        if self.objects.get(&own).is_some() {
            self.change(&own, &manifest, file)?;
            self.settle(now);
            return Ok(own);
        }
        mark(&mut manifest, file);
        if of == kind::POD {
            let suffix = self.suffix();
            workloads::create_pod(&mut self.objects, now.wall, &own, manifest, &suffix)?;
        } else {
            self.objects.create(now.wall, own.clone(), manifest)?;
        }
        self.settle(now);
        Ok(own)
    }

    /// Of a pod that is there, only images and metadata can change.
    fn change(&mut self, own: &Name, manifest: &Value, file: Option<&str>) -> Result<(), Refusal> {
        self.objects.update(own, |object| {
            let file = file.filter(|_| is_from_folder(object));
            for part in ["labels", "annotations"] {
                if manifest["metadata"][part].is_object() {
                    object["metadata"][part] = manifest["metadata"][part].clone();
                }
            }
            mark(object, file);
            if own.0 == kind::POD {
                images(&mut object["spec"], &manifest["spec"]);
                return;
            }
            for part in ["spec", "data", "binaryData"].iter().filter(|part| !manifest[**part].is_null()) {
                object[*part] = manifest[*part].clone();
            }
        })?;
        Ok(())
    }

    /// Objects that a folder no longer has go; `alive` are those it has.
    pub fn prune(&mut self, now: Now, alive: &[Name]) {
        let gone: Vec<Name> = SERVED
            .iter()
            .flat_map(|of| self.objects.of(of))
            .filter(|(name, object)| is_from_folder(object) && !alive.contains(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            let _ = self.objects.delete(now.wall, &name, None, None);
        }
        self.settle(now);
    }
}

fn is_from_folder(object: &Value) -> bool {
    object["metadata"]["annotations"][FROM].is_string()
}

/// Notes the file that an object is from, or that it is from none.
fn mark(object: &mut Value, file: Option<&str>) {
    let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    match file {
        Some(file) if meta.get("annotations").is_some_and(Value::is_object) => meta["annotations"][FROM] = file.into(),
        Some(file) => drop(meta.insert("annotations".to_owned(), json!({ FROM: file }))),
        None => drop(meta.get_mut("annotations").and_then(Value::as_object_mut).and_then(|map| map.remove(FROM))),
    }
}

fn images(spec: &mut Value, wanted: &Value) {
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let other = wanted[list].as_array().into_iter().flatten().find(|other| other["name"] == container["name"]);
            if let Some(image) = other.map(|other| &other["image"]).filter(|image| image.is_string()) {
                container["image"] = image.clone();
            }
        }
    }
}

/// `stringData` is written as `data`.
fn encoded(mut secret: Value) -> Value {
    use base64::Engine;
    let plain = secret.as_object_mut().and_then(|map| map.remove("stringData")).unwrap_or_default();
    for (key, value) in plain.as_object().into_iter().flatten() {
        secret["data"][key] = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default()).into();
    }
    secret
}
