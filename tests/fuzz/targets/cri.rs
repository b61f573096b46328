//! Answers of the container runtime: messages come back as they were, and a
//! status makes a container's state.

use prost::Message;
use selvedge::wire::cri;

/// The first byte says which message the rest is.
pub fn cri(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which % 9 {
        0 => same::<cri::ListPodSandboxResponse>(data),
        1 => same::<cri::ListContainersResponse>(data),
        2 => same::<cri::PodSandboxStatusResponse>(data),
        3 => same::<cri::ContainerStatusResponse>(data),
        4 => same::<cri::ListImagesResponse>(data),
        5 => same::<cri::ImageStatusResponse>(data),
        6 => same::<cri::StatusResponse>(data),
        7 => same::<cri::ExecSyncResponse>(data),
        _ => same::<cri::ContainerEventResponse>(data),
    }
}

fn same<M: Message + Default + PartialEq>(data: &[u8]) {
    if let Ok(message) = M::decode(data) {
        let written = message.encode_to_vec();
        assert!(M::decode(&written[..]).as_ref() == Ok(&message));
        assert!(written.len() <= 16 * data.len() + 16, "{} bytes of {}", written.len(), data.len());
    }
}
