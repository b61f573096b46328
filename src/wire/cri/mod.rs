//! Messages of the Container Runtime Interface, `runtime.v1`, written by hand:
//! CRI's own names and tags (cri-api, api.proto), and of its fields those that
//! are used. Unknown fields are skipped on reading, so newer runtimes are fine.
//! Maps are ordered, so equal messages have equal bytes.
//!
//! Nothing here calls a runtime; `edged::client` does.

mod container;
mod image;
mod runtime;
mod sandbox;
mod stats;
mod status;

pub use container::*;
pub use image::*;
pub use runtime::*;
pub use sandbox::*;
pub use stats::*;
pub use status::*;

/// A number that may be absent.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Int64Value {
    /// The number.
    #[prost(int64, tag = "1")]
    pub value: i64,
}

impl From<i64> for Int64Value {
    fn from(value: i64) -> Self {
        Self { value }
    }
}

/// A number that may be absent.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct UInt64Value {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

/// Any reply whose content does not matter.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn a_message_keeps_its_tags() {
        let image = Image { id: "i".into(), uid: Some(7.into()), pinned: true, ..Default::default() };
        assert_eq!(image.encode_to_vec(), [0x0a, 1, b'i', 0x2a, 2, 8, 7, 0x40, 1]);
        let context = LinuxContainerSecurityContext { run_as_group: Some(5.into()), no_new_privs: true, ..Default::default() };
        assert_eq!(context.encode_to_vec(), [0x58, 1, 0x62, 2, 8, 5]);
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let newer = [0x0a, 1, b'c', 0xf2, 0x07, 2, b'x', b'y'];
        assert_eq!(CreateContainerResponse::decode(&newer[..]).unwrap().container_id, "c");
    }

    #[test]
    fn equal_maps_have_equal_bytes() {
        let labels =
            |order: [&str; 3]| PodSandboxFilter { label_selector: order.iter().map(|k| ((*k).to_owned(), "v".to_owned())).collect(), ..Default::default() };
        assert_eq!(labels(["a", "b", "c"]).encode_to_vec(), labels(["c", "a", "b"]).encode_to_vec());
    }

    #[test]
    fn what_may_be_secret_is_not_printed() {
        let auth = AuthConfig { username: "u".into(), password: "hush".into(), auth: "hush".into(), identity_token: "hush".into(), ..Default::default() };
        let env = KeyValue { key: "TOKEN".into(), value: "hush".into() };
        let shown = format!("{auth:?} {env:?}");
        assert!(!shown.contains("hush") && shown.contains("TOKEN"), "{shown}");
    }
}
