//! placeholder
/// placeholder
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxConfig {}
/// placeholder
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerConfig {}
/// placeholder
#[derive(Clone, PartialEq, prost::Message)]
pub struct AuthConfig {}
