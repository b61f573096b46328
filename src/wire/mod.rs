//! The words of the cloud, pure: the message as a type and as JSON, resource
//! paths both ways, the strings KubeEdge fixed, the Kubernetes objects that
//! travel in them, requests to the API server, CRI and DMI messages, health
//! checks, merge patches, times, and how long texts may be.
//!
//! Nothing here waits, reads a clock or touches a socket. What is malformed
//! becomes an error that names the field.

pub mod application;
pub mod cri;
pub mod dmi;
pub mod health;
pub mod kube;
pub mod message;
pub mod patch;
pub mod quantity;
pub mod resource;
pub mod rfc3339;
pub mod servicebus;
pub mod text;
pub mod topic;
pub mod url;
