//! What mappers report of devices, checked for its shape and without the words
//! of gRPC. Whether there is such a device, and what follows, is not known here.

use crate::node::dmi::Refusal;
use crate::wire::dmi::{ReportDeviceStatesRequest, ReportDeviceStatusRequest, Twin, TwinProperty};

/// Namespace of devices that have none: mappers of KubeEdge up to 1.16.
const NAMESPACE: &str = "default";

/// What a mapper reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Values.
    Twins(TwinReport),
    /// How a device is.
    State(StateReport),
}

/// Values of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwinReport {
    /// `NAMESPACE/NAME`.
    pub device: String,
    /// In the mapper's order.
    pub properties: Vec<ReportedProperty>,
}

/// A property of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedProperty {
    /// Its name.
    pub name: String,
    /// The value the mapper believes it shall have. An empty one is none:
    /// mappers send it for properties without a desired value.
    pub expected: Option<String>,
    /// The value it has.
    pub actual: Option<String>,
    /// Name of its type, if the mapper says it.
    pub kind: Option<String>,
}

/// How a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateReport {
    /// `NAMESPACE/NAME`.
    pub device: String,
    /// One word, as the mapper wrote it.
    pub state: String,
}

impl Report {
    /// The device it is about, `NAMESPACE/NAME`.
    pub fn device(&self) -> &str {
        match self {
            Self::Twins(report) => &report.device,
            Self::State(report) => &report.device,
        }
    }

    /// Reads reported values.
    pub fn values(request: ReportDeviceStatusRequest) -> Result<Self, Refusal> {
        let device = id(&request.device_namespace, &request.device_name)?;
        let twins = request.reported_device.map(|status| status.twins).unwrap_or_default();
        if twins.is_empty() {
            return Err(Refusal::invalid("reportedDevice.twins: missing"));
        }
        let properties = twins.into_iter().enumerate().map(|(at, twin)| property(at, twin)).collect::<Result<_, _>>()?;
        Ok(Self::Twins(TwinReport { device, properties }))
    }

    /// Reads a reported state.
    pub fn state(request: ReportDeviceStatesRequest) -> Result<Self, Refusal> {
        let device = id(&request.device_namespace, &request.device_name)?;
        if request.state.is_empty() {
            return Err(Refusal::invalid("state: missing"));
        }
        Ok(Self::State(StateReport { device, state: request.state }))
    }
}

fn id(namespace: &str, name: &str) -> Result<String, Refusal> {
    if name.is_empty() {
        return Err(Refusal::invalid("deviceName: missing"));
    }
    Ok(format!("{}/{name}", if namespace.is_empty() { NAMESPACE } else { namespace }))
}

fn property(at: usize, twin: Twin) -> Result<ReportedProperty, Refusal> {
    if twin.property_name.is_empty() {
        return Err(Refusal::invalid(format!("reportedDevice.twins[{at}].propertyName: missing")));
    }
    let said = |name: &str| [&twin.reported, &twin.observed_desired].into_iter().flatten().find_map(|part| part.metadata.get(name).cloned());
    let kind = said("type").filter(|kind| !kind.is_empty());
    let value = |part: Option<TwinProperty>| part.map(|part| part.value);
    Ok(ReportedProperty {
        name: twin.property_name,
        expected: value(twin.observed_desired).filter(|value| !value.is_empty()),
        actual: value(twin.reported),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dmi::DeviceStatus;

    fn request(twins: Vec<Twin>) -> ReportDeviceStatusRequest {
        ReportDeviceStatusRequest { device_name: "d".into(), device_namespace: "n".into(), reported_device: Some(DeviceStatus { twins, ..Default::default() }) }
    }

    fn value(value: &str, metadata: &[(&str, &str)]) -> Option<TwinProperty> {
        let metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Some(TwinProperty { value: value.into(), metadata })
    }

    #[test]
    fn what_the_mapper_leaves_out_is_absent() {
        let twins = vec![
            Twin { property_name: "t".into(), observed_desired: None, reported: value("21", &[("type", "int"), ("timestamp", "1795392000000")]) },
            Twin { property_name: "s".into(), observed_desired: value("", &[]), reported: None },
        ];
        let Report::Twins(report) = Report::values(request(twins)).expect("a report") else { panic!("values") };
        assert_eq!(report.device, "n/d");
        assert_eq!(report.properties[0], ReportedProperty { name: "t".into(), expected: None, actual: Some("21".into()), kind: Some("int".into()) });
        assert_eq!(report.properties[1], ReportedProperty { name: "s".into(), expected: None, actual: None, kind: None });
    }

    #[test]
    fn the_missing_field_is_named() {
        let message = |result: Result<Report, Refusal>| result.expect_err("refused").message;
        assert_eq!(message(Report::values(ReportDeviceStatusRequest { reported_device: None, ..request(vec![]) })), "reportedDevice.twins: missing");
        assert_eq!(message(Report::values(request(vec![Twin::default()]))), "reportedDevice.twins[0].propertyName: missing");
        assert_eq!(message(Report::values(ReportDeviceStatusRequest::default())), "deviceName: missing");
        assert_eq!(message(Report::state(ReportDeviceStatesRequest { device_name: "d".into(), ..Default::default() })), "state: missing");
    }

    #[test]
    fn a_device_without_a_namespace_is_in_default() {
        let request = ReportDeviceStatesRequest { device_name: "d".into(), state: "ok".into(), ..Default::default() };
        assert_eq!(Report::state(request).expect("a report").device(), "default/d");
    }
}
