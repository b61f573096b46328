//! gRPC's health checking protocol, version 1: one call, two messages.
//!
//! Source: github.com/grpc/grpc, doc/health-checking.md.

/// Path of the call.
pub const CHECK: &str = "/grpc.health.v1.Health/Check";

/// `Check`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HealthCheckRequest {
    /// Which service; the server as a whole when empty.
    #[prost(string, tag = "1")]
    pub service: String,
}

/// Answer of `Check`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HealthCheckResponse {
    /// How it is.
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub status: i32,
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ServingStatus {
    /// Nobody said.
    Unknown = 0,
    /// Well.
    Serving = 1,
    /// Ill.
    NotServing = 2,
    /// There is no such service; only streams say so.
    ServiceUnknown = 3,
}
