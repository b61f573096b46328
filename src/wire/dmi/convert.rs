//! A Device and its DeviceModel, as the cluster has them (v1beta1 JSON), turned
//! into what a mapper is told. Not who is told.
//!
//! Free settings (`configData`, `anomalyDetection`) become wrapped values:
//! texts, booleans, whole numbers as `Int64Value`, others as `FloatValue`, for
//! mapper-framework skips `DoubleValue`; objects and lists as their JSON text;
//! `null` is absence. Members are found whatever their case, as Go does.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Map, Value};

use super::device::*;
use super::push::*;

/// Why a mapper cannot be told of an object yet; names the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit(pub String);

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of an object.
pub fn name_of(object: &Value) -> &str {
    text(member(object, "metadata"), "name")
}

/// Protocol of a device, which says whose it is; empty when it has none.
pub fn protocol_of(device: &Value) -> &str {
    text(member(member(device, "spec"), "protocol"), "protocolName")
}

/// Name of a device's model, in the same namespace; empty when it has none.
pub fn model_of(device: &Value) -> &str {
    text(member(member(device, "spec"), "deviceModelRef"), "name")
}

/// A device, with what its model says for all its devices.
pub fn device(device: &Value, model: &Value) -> Result<Device, Unfit> {
    let (spec, general) = (member(device, "spec"), member(model, "spec"));
    let protocol = member(spec, "protocol");
    for (field, value) in [("spec.deviceModelRef.name", model_of(device)), ("spec.protocol.protocolName", protocol_of(device))] {
        if value.is_empty() {
            return Err(Unfit(format!("{field}: missing")));
        }
    }
    let state = member(spec, "stateReport");
    Ok(Device {
        name: name_of(device).to_owned(),
        namespace: text(member(device, "metadata"), "namespace").to_owned(),
        spec: Some(DeviceSpec {
            device_model_reference: model_of(device).to_owned(),
            protocol: Some(Config {
                protocol_name: protocol_of(device).to_owned(),
                config_data: Some(settings(&[member(general, "protocolConfigData"), member(protocol, "configData")])),
            }),
            properties: list(member(spec, "properties")).iter().map(|one| property(one, general)).collect(),
            methods: list(member(spec, "methods")).iter().map(method).collect(),
        }),
        status: Some(DeviceStatus { twins: Vec::new(), report_to_cloud: flag(state, "reportToCloud"), report_cycle: number(state, "reportCycle") }),
    })
}

/// A model.
pub fn model(model: &Value) -> DeviceModel {
    let owned = |one: &Value, name| text(one, name).to_owned();
    let property = |one: &Value| ModelProperty {
        name: owned(one, "name"),
        description: owned(one, "description"),
        r#type: owned(one, "type"),
        access_mode: owned(one, "accessMode"),
        minimum: owned(one, "minimum"),
        maximum: owned(one, "maximum"),
        unit: owned(one, "unit"),
    };
    DeviceModel {
        name: name_of(model).to_owned(),
        namespace: owned(member(model, "metadata"), "namespace"),
        spec: Some(DeviceModelSpec { properties: list(member(member(model, "spec"), "properties")).iter().map(property).collect() }),
    }
}

fn property(own: &Value, general: &Value) -> DeviceProperty {
    let name = text(own, "name");
    let desired = member(own, "desired");
    let metadata = member(desired, "metadata").as_object().into_iter().flatten().map(|(key, value)| (key.clone(), plain(value)));
    let ours = member(own, "visitors");
    let theirs = list(member(general, "properties")).iter().find(|one| text(one, "name") == name).map_or(&Value::Null, |one| member(one, "visitors"));
    let leading = if theirs.is_object() { theirs } else { ours };
    let push = member(own, "pushMethod");
    DeviceProperty {
        name: name.to_owned(),
        desired: Some(TwinProperty { value: plain(member(desired, "value")), metadata: metadata.collect() }),
        visitors: Some(Config {
            protocol_name: text(leading, "protocolName").to_owned(),
            config_data: Some(settings(&[member(theirs, "configData"), member(ours, "configData")])),
        }),
        report_cycle: number(own, "reportCycle"),
        collect_cycle: number(own, "collectCycle"),
        report_to_cloud: flag(own, "reportToCloud"),
        push_method: push.is_object().then(|| push_method(push)),
    }
}

fn method(method: &Value) -> DeviceMethod {
    DeviceMethod {
        name: text(method, "name").to_owned(),
        description: text(method, "description").to_owned(),
        property_names: list(member(method, "propertyNames")).iter().map(plain).collect(),
    }
}

fn push_method(push: &Value) -> PushMethod {
    PushMethod {
        http: part(push, "http", |http| Http {
            hostname: text(http, "hostName").to_owned(),
            port: number(http, "port"),
            requestpath: text(http, "requestPath").to_owned(),
            timeout: number(http, "timeout"),
        }),
        mqtt: part(push, "mqtt", |mqtt| Mqtt {
            address: text(mqtt, "address").to_owned(),
            topic: text(mqtt, "topic").to_owned(),
            qos: small(mqtt, "qos"),
            retained: flag(mqtt, "retained"),
        }),
        db_method: part(push, "dbMethod", db_method),
        otel: part(push, "otel", |otel| Otel { endpoint_url: text(otel, "endpointURL").to_owned() }),
        anomaly_detection: part(push, "anomalyDetection", |detection| settings(&[detection])),
    }
}

fn db_method(db: &Value) -> DbMethod {
    DbMethod {
        influxdb2: part(db, "influxdb2", |influx| Influxdb2 {
            client: part(influx, "influxdb2ClientConfig", |client| Influxdb2Client {
                url: text(client, "url").to_owned(),
                org: text(client, "org").to_owned(),
                bucket: text(client, "bucket").to_owned(),
            }),
            data: part(influx, "influxdb2DataConfig", |data| Influxdb2Data {
                measurement: text(data, "measurement").to_owned(),
                tag: member(data, "tag").as_object().into_iter().flatten().map(|(key, value)| (key.clone(), plain(value))).collect(),
                field_key: text(data, "fieldKey").to_owned(),
            }),
        }),
        redis: part(db, "redis", |redis| Redis {
            client: part(redis, "redisClientConfig", |client| RedisClient {
                addr: text(client, "addr").to_owned(),
                db: small(client, "db"),
                poolsize: small(client, "poolsize"),
                min_idle_conns: small(client, "minIdleConns"),
            }),
        }),
        tdengine: part(db, "TDEngine", |tdengine| Tdengine {
            client: part(tdengine, "TDEngineClientConfig", |client| TdengineClient {
                addr: text(client, "addr").to_owned(),
                dbname: text(client, "dbName").to_owned(),
            }),
        }),
        mysql: part(db, "mysql", |mysql| Mysql {
            client: part(mysql, "mysqlClientConfig", |client| MysqlClient {
                addr: text(client, "addr").to_owned(),
                database: text(client, "database").to_owned(),
                user_name: text(client, "userName").to_owned(),
            }),
        }),
    }
}

/// Free settings, later layers over earlier ones; there even when empty, for
/// mapper-framework does not look whether they are.
fn settings(layers: &[&Value]) -> Settings {
    let all = layers.iter().filter_map(|layer| layer.as_object()).flatten();
    let values: BTreeMap<&String, &Value> = all.filter(|(_, value)| !value.is_null()).collect();
    Settings { data: values.into_iter().map(|(name, value)| (name.clone(), any(value))).collect() }
}

fn any(value: &Value) -> Any {
    let (name, value) = match value {
        Value::String(text) => ("StringValue", text.encode_to_vec()),
        Value::Bool(flag) => ("BoolValue", flag.encode_to_vec()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => ("Int64Value", whole.encode_to_vec()),
            (None, float) => ("FloatValue", single(float.unwrap_or_default()).encode_to_vec()),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => ("StringValue", value.to_string().encode_to_vec()),
    };
    Any { type_url: format!("type.googleapis.com/google.protobuf.{name}"), value }
}

#[expect(clippy::cast_possible_truncation, reason = "mappers take no other fraction; 32 bits have 7 digits")]
fn single(number: f64) -> f32 {
    number as f32
}

/// A member whatever its case; `null` when there is none.
fn member<'a>(object: &'a Value, name: &str) -> &'a Value {
    let find =
        |object: &'a Map<String, Value>| object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    object.as_object().and_then(find).unwrap_or(&Value::Null)
}

fn part<T>(object: &Value, name: &str, read: impl FnOnce(&Value) -> T) -> Option<T> {
    Some(member(object, name)).filter(|part| part.is_object()).map(read)
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    member(object, name).as_str().unwrap_or_default()
}

/// A value as text; a text is itself.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn flag(object: &Value, name: &str) -> bool {
    member(object, name).as_bool().unwrap_or_default()
}

fn number(object: &Value, name: &str) -> i64 {
    member(object, name).as_i64().unwrap_or_default()
}

fn small(object: &Value, name: &str) -> i32 {
    i32::try_from(number(object, name)).unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings_of(device: &Device) -> &BTreeMap<String, Any> {
        &device.spec.as_ref().unwrap().properties[0].visitors.as_ref().unwrap().config_data.as_ref().unwrap().data
    }

    fn one(config: Value, visitors: Value) -> Result<Device, Unfit> {
        let spec = json!({ "deviceModelRef": { "name": "m" }, "protocol": { "protocolName": "p", "configData": config }, "properties": [{ "name": "t", "visitors": { "protocolName": "own", "configData": visitors } }, { "name": "bare" }] });
        let model = json!({ "metadata": { "name": "m" }, "spec": { "protocolConfigData": { "a": 1, "b": 2 }, "properties": [{ "name": "t", "visitors": { "protocolName": "model", "configData": { "x": "model", "y": "model" } } }] } });
        device(&json!({ "metadata": { "name": "d", "namespace": "n" }, "spec": spec }), &model)
    }

    #[test]
    fn every_kind_of_setting_is_wrapped_as_mappers_read_it() {
        let settings = settings(&[
            &json!({ "data": "x", "whole": 16_777_217, "least": i64::MIN, "part": 0.1, "huge": 1e30, "yes": true, "nested": { "a": [1] }, "list": [], "none": null }),
        ]);
        let of = |name: &str| (settings.data[name].type_url.rsplit('.').next().unwrap(), &settings.data[name].value[..]);
        assert_eq!(of("data"), ("StringValue", &b"\x0a\x01x"[..]));
        assert_eq!(of("whole"), ("Int64Value", &16_777_217_i64.encode_to_vec()[..]));
        assert_eq!(of("least"), ("Int64Value", &i64::MIN.encode_to_vec()[..]));
        assert_eq!(of("part"), ("FloatValue", &0.1_f32.encode_to_vec()[..]));
        assert_eq!(of("huge"), ("FloatValue", &1e30_f32.encode_to_vec()[..]));
        assert_eq!(of("yes"), ("BoolValue", &[8, 1][..]));
        assert_eq!(of("nested"), ("StringValue", &b"\x0a\x09{\"a\":[1]}"[..]));
        assert_eq!(of("list"), ("StringValue", &b"\x0a\x02[]"[..]));
        assert!(!settings.data.contains_key("none"));
    }

    #[test]
    fn the_device_overrides_its_model() {
        let device = one(json!({ "b": 3, "a": null }), json!({ "y": "own" })).expect("a device");
        let visitors = settings_of(&device);
        assert_eq!((&visitors["x"].value[2..], &visitors["y"].value[2..]), (&b"model"[..], &b"own"[..]));
        let spec = device.spec.as_ref().unwrap();
        assert_eq!(spec.properties[0].visitors.as_ref().unwrap().protocol_name, "model");
        let protocol = &spec.protocol.as_ref().unwrap().config_data.as_ref().unwrap().data;
        assert_eq!((&protocol["a"].value[..], &protocol["b"].value[..]), (&[8, 1][..], &[8, 3][..]));
    }

    #[test]
    fn parts_that_mapper_framework_does_not_look_for_are_always_there() {
        let device = one(Value::Null, Value::Null).expect("a device");
        let bare = &device.spec.as_ref().unwrap().properties[1];
        assert!(bare.desired.is_some() && bare.visitors.as_ref().unwrap().config_data.is_some() && device.status.is_some());
        assert!(bare.push_method.is_none());
    }

    #[test]
    fn members_are_found_whatever_their_case_and_the_missing_one_is_named() {
        let spec = json!({ "DeviceModelRef": { "Name": "m" }, "PROTOCOL": { "protocolname": "p" }, "properties": [{ "NAME": "t", "REPORTCYCLE": 5 }] });
        let read = device(&json!({ "Metadata": { "Name": "d" }, "Spec": spec }), &Value::Null).expect("a device");
        assert_eq!((read.name.as_str(), read.spec.unwrap().properties[0].report_cycle), ("d", 5));
        let why = device(&json!({ "spec": { "deviceModelRef": { "name": "m" } } }), &Value::Null).expect_err("it has no protocol");
        assert_eq!(why.to_string(), "spec.protocol.protocolName: missing");
        for nonsense in [
            json!(null),
            json!([]),
            json!({ "spec": 7 }),
            json!({ "spec": { "deviceModelRef": { "name": "m" }, "protocol": { "protocolName": "p" }, "properties": { "a": 1 }, "methods": "x" } }),
        ] {
            let _ = device(&nonsense, &nonsense);
            let _ = model(&nonsense);
        }
    }
}
