//! Events of the runtime. CRI's own where it has them; containerd 1.6 has not,
//! but its event service on the same socket tells when containers end.

use std::fmt;

use super::client::Client;
use super::grpc::{Error, Stream};
use super::seen;
use crate::node::ids::PodUid;
use crate::wire::cri;

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The container or sandbox.
    pub(super) id: String,
    /// Whose it is, if the event says so.
    pub(super) pod: Option<PodUid>,
    /// How.
    pub(super) change: Change,
}

/// How something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Somehow.
    Some,
    /// It ended.
    Ended,
    /// It is gone.
    Gone,
}

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// `GetContainerEvents`.
    Cri,
    /// containerd's event service.
    Containerd,
    /// Nobody.
    None,
}

impl Source {
    /// What to try when this is not there.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Cri => Self::Containerd,
            Self::Containerd | Self::None => Self::None,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cri => "the runtime interface",
            Self::Containerd => "containerd",
            Self::None => "looking again and again",
        })
    }
}

/// A stream of events.
pub(super) enum Events {
    /// CRI's.
    Cri(Stream),
    /// containerd's.
    Containerd(Stream),
    /// None will come.
    None,
}

impl Events {
    /// Subscribes. What the source does not have shows with the first event.
    pub(super) async fn open(client: &Client, source: Source) -> Result<Self, Error> {
        match source {
            Source::Cri => client.stream("/runtime.v1.RuntimeService/GetContainerEvents", None, &cri::GetEventsRequest {}).await.map(Self::Cri),
            Source::Containerd => {
                // Of the many events only the ends of containers and what others
                // remove: the rest is our own doing. `exit` comes long before
                // containerd's own CRI part has noted it, and for each probe.
                let filters = ["/tasks/delete", "/containers/delete"].map(|topic| format!("namespace==k8s.io,topic==\"{topic}\"")).to_vec();
                let header = Some(("containerd-namespace", "k8s.io"));
                client.stream("/containerd.services.events.v1.Events/Subscribe", header, &SubscribeRequest { filters }).await.map(Self::Containerd)
            }
            Source::None => Ok(Self::None),
        }
    }

    /// The next event that matters, until the source has no more. May be
    /// dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let event = match self {
                Self::Cri(stream) => stream.next().await?.map(from_cri),
                Self::Containerd(stream) => match stream.next().await?.map(|envelope| from_containerd(&envelope)) {
                    Some(None) => continue,
                    event => event.flatten(),
                },
                Self::None => std::future::pending().await,
            };
            if let Some(event) = &event {
                log::trace!(target: "edged", "event: '{}' {:?}", event.id, event.change);
            }
            return Ok(event);
        }
    }
}

fn from_cri(event: cri::ContainerEventResponse) -> Event {
    let labels = event.pod_sandbox_status.as_ref().map(|sandbox| &sandbox.labels);
    let change = match event.container_event_type {
        2 => Change::Ended,
        3 => Change::Gone,
        _ => Change::Some,
    };
    Event { pod: labels.and_then(seen::uid), id: event.container_id, change }
}

/// `None`: a process that is not a container's first, or something unknown.
fn from_containerd(envelope: &Envelope) -> Option<Event> {
    let body = envelope.event.as_ref()?.value.as_slice();
    let (id, change) = match envelope.topic.as_str() {
        "/tasks/delete" => {
            let delete: TaskDelete = prost::Message::decode(body).ok()?;
            if !delete.id.is_empty() && delete.id != delete.container_id {
                return None;
            }
            (delete.container_id, Change::Ended)
        }
        "/containers/delete" => {
            let delete: ContainerDelete = prost::Message::decode(body).ok()?;
            (delete.id, Change::Gone)
        }
        _ => return None,
    };
    Some(Event { id, pod: None, change })
}

/// Of containerd's `services/events/v1/events.proto`; a line is one filter,
/// any of them lets an event through.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Envelope {
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    topic: String,
    #[prost(message, optional, tag = "4")]
    event: Option<Any>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Any {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Of containerd's `events/task.proto`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct TaskDelete {
    #[prost(string, tag = "1")]
    container_id: String,
    /// Of a process that is not the container's first.
    #[prost(string, tag = "5")]
    id: String,
}

/// Of containerd's `events/container.proto`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ContainerDelete {
    #[prost(string, tag = "1")]
    id: String,
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn told(topic: &str, event: &impl Message) -> Option<Event> {
        from_containerd(&Envelope { namespace: "k8s.io".into(), topic: topic.into(), event: Some(Any { value: event.encode_to_vec() }) })
    }

    #[test]
    fn the_end_of_a_probes_process_is_not_the_end_of_its_container() {
        assert_eq!(told("/tasks/delete", &TaskDelete { container_id: "c".into(), id: "exec".into() }), None);
        let end = told("/tasks/delete", &TaskDelete { container_id: "c".into(), id: String::new() });
        assert_eq!(end, Some(Event { id: "c".into(), pod: None, change: Change::Ended }));
    }

    #[test]
    fn an_event_of_the_interface_names_its_pod() {
        let labels = [("io.kubernetes.pod.uid".to_owned(), "u".to_owned())].into();
        let sandbox = cri::PodSandboxStatus { labels, ..Default::default() };
        let event = cri::ContainerEventResponse { container_id: "c".into(), container_event_type: 3, pod_sandbox_status: Some(sandbox), ..Default::default() };
        assert_eq!(from_cri(event), Event { id: "c".into(), pod: Some("u".into()), change: Change::Gone });
    }
}
