//! Messages of the Device Management Interface, `v1beta1`, written by hand:
//! KubeEdge's own names and tags (dmi/v1beta1/api.proto). Unknown fields are
//! skipped on reading, so newer mappers are fine. Maps are ordered, so equal
//! messages have equal bytes.
//!
//! Nothing here calls a mapper; the shell `dmi` does.

mod convert;
mod device;
mod push;
mod service;

pub use convert::{Unfit, device, model, model_of, name_of, protocol_of};
pub use device::*;
pub use push::*;
pub use service::*;
