//! Mappers, by the vectors: what they are answered and what they are told. A
//! mapper of the test hears every call unless it is away.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use selvedge::node::dmi::{Ask, Call, MapperFailure, Order, Refusal, Reply};
use selvedge::node::ids::CallId;
use selvedge::node::input::Input;
use selvedge::wire::dmi::{
    Any, Config, Device, DeviceModel, DeviceProperty, DeviceStatus, MapperInfo, MapperRegisterRequest, MapperRegisterResponse, PushMethod,
    ReportDeviceStatesRequest, ReportDeviceStatusRequest, Settings, Twin, TwinProperty,
};
use serde_json::{Map, Value, json};

use super::{Edge, scenario};

/// Steps that end otherwise than at EdgeCore: the reason, and the calls that the
/// mapper hears.
const DIFFERENCES: &[(&str, &str, &[&str])] = &[
    ("dmi-register-nodata", "who wants no data at once is told one by one", &["CreateDeviceModel", "RegisterDevice"]),
    ("dmi-device-update-after-nodata-register", "and it is called like any other", &["UpdateDevice"]),
    ("dmi-device-insert", "the mapper knows the device, and would ignore RegisterDevice", &["UpdateDevice"]),
    ("dmi-device-nested-config", "objects and lists are told as their JSON text", &["UpdateDevice"]),
    ("dmi-device-config-key-data", "a setting may be named data", &["UpdateDevice"]),
    ("dmi-model-update", "the model is what it was", &[]),
    ("dmi-resource-2seg", "an edit at the edge does not come by the cloud", &[]),
    ("dmi-report-badvalue", "the model says it is a number", &[]),
    ("dmi-report-unknown-device", "who reports of a device that is not here is told so", &[]),
    ("dmi-state-unknownword", "a state nobody knows is refused", &[]),
];

/// What happened with mappers at a step.
#[derive(Default)]
struct Heard {
    answer: Option<Result<Reply, Refusal>>,
    calls: Vec<(&'static str, Value)>,
}

#[test]
fn mappers_hear_what_edgecore_tells_them() {
    let (mut edge, mut played) = (Edge::new(), 0);
    let known: BTreeMap<&str, (&str, &[&str])> = DIFFERENCES.iter().map(|(step, why, calls)| (*step, (*why, *calls))).collect();
    let mut faults = Vec::new();
    for step in scenario("dmi") {
        let id = step["id"].as_str().expect("an id");
        if let Some(ask) = ask(&step["in"]) {
            edge.tell(Input::MapperAsked(CallId(played), ask));
        } else if edge.step(&step).is_none() {
            continue;
        }
        played += 1;
        let heard = hear(&mut edge, id == "dmi-model-insert-mapper-down");
        let plain = check(&step["expect"], &heard);
        match known.get(id) {
            None => faults.extend(plain.err().map(|fault| format!("{id}: {fault}"))),
            Some(_) if plain.is_ok() => faults.push(format!("{id}: it does not differ any more")),
            Some((why, calls)) => {
                let names: Vec<&str> = heard.calls.iter().map(|(name, _)| *name).collect();
                if names != *calls {
                    faults.push(format!("{id}: {names:?} instead of {calls:?} ({why})"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(played, 32);
}

#[test]
fn requests_that_end_edgecore_name_the_missing_field() {
    let mut edge = Edge::new();
    edge.tell(Input::MapperAsked(CallId(1), Ask::Register(MapperRegisterRequest { with_data: true, mapper: None })));
    let Some(Err(refusal)) = hear(&mut edge, false).answer else { panic!("it is refused") };
    assert_eq!((refusal.code as u8, refusal.message.as_str()), (3, "mapper: missing"));
}

/// All that the node has for mappers, answered.
fn hear(edge: &mut Edge, is_away: bool) -> Heard {
    let mut heard = Heard::default();
    while let Some(order) = edge.node.poll_dmi() {
        match order {
            Order::Answer(_, answer) => heard.answer = Some(answer),
            Order::Call { call, .. } if is_away => edge.tell(Input::MapperAnswered(call, Err(MapperFailure::Unreachable("away".to_owned())))),
            Order::Call { call, what, .. } => {
                heard.calls.push(shown(*what));
                edge.tell(Input::MapperAnswered(call, Ok(())));
            }
        }
    }
    heard
}

fn check(expect: &Value, heard: &Heard) -> Result<(), String> {
    let wanted: Vec<(&str, Value)> =
        expect["edge_calls_mapper"].as_array().into_iter().flatten().map(|call| (call["rpc"].as_str().unwrap_or_default(), plain(&call["request"]))).collect();
    let calls: Vec<(&str, Value)> = heard.calls.iter().map(|(name, request)| (*name, plain(request))).collect();
    if calls != wanted {
        return Err(format!("the mapper heard\n  {calls:?} instead of\n  {wanted:?}"));
    }
    let reply = &expect["grpc_reply"];
    match &heard.answer {
        None if reply.is_null() => Ok(()),
        Some(Err(_)) if reply["error"].as_str().is_some_and(|error| !error.is_empty()) => Ok(()),
        Some(Ok(Reply::Taken)) if reply["response"] == json!({}) => Ok(()),
        Some(Ok(Reply::Registered(response))) if plain(&registered(response)) == plain(&reply["response"]) => Ok(()),
        other => Err(format!("the answer is {other:?} instead of {reply}")),
    }
}

fn ask(input: &Value) -> Option<Ask> {
    let request = &input["request"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(match input["rpc"].as_str()? {
        "MapperRegister" => Ask::Register(MapperRegisterRequest {
            with_data: request["withData"] == true,
            mapper: Some(MapperInfo {
                name: text(&request["mapper"]["name"]),
                protocol: text(&request["mapper"]["protocol"]),
                address: BASE64_STANDARD.decode(text(&request["mapper"]["address"])).expect("base64"),
                ..MapperInfo::default()
            }),
        }),
        "ReportDeviceStatus" => {
            let value = |part: &Value| part.is_object().then(|| TwinProperty { value: text(&part["value"]), ..TwinProperty::default() });
            let twin = |twin: &Value| Twin {
                property_name: text(&twin["propertyName"]),
                observed_desired: value(&twin["observedDesired"]),
                reported: value(&twin["reported"]),
            };
            let reported = &request["reportedDevice"];
            let status = || DeviceStatus { twins: reported["twins"].as_array().into_iter().flatten().map(twin).collect(), ..DeviceStatus::default() };
            Ask::ReportStatus(ReportDeviceStatusRequest {
                device_name: text(&request["deviceName"]),
                device_namespace: text(&request["deviceNamespace"]),
                reported_device: reported.is_object().then(status),
            })
        }
        "ReportDeviceStates" => Ask::ReportStates(ReportDeviceStatesRequest {
            device_name: text(&request["deviceName"]),
            device_namespace: text(&request["deviceNamespace"]),
            state: text(&request["state"]),
        }),
        other => panic!("unknown call {other}"),
    })
}

/// A call by EdgeCore's names.
fn shown(what: Call) -> (&'static str, Value) {
    match what {
        Call::RegisterDevice(one) => ("RegisterDevice", json!({ "device": device(&one) })),
        Call::UpdateDevice(one) => ("UpdateDevice", json!({ "device": device(&one) })),
        Call::RemoveDevice(name) => ("RemoveDevice", json!({ "deviceName": name.name, "deviceNamespace": name.namespace })),
        Call::CreateDeviceModel(one) => ("CreateDeviceModel", json!({ "model": model(&one) })),
        Call::UpdateDeviceModel(one) => ("UpdateDeviceModel", json!({ "model": model(&one) })),
        Call::RemoveDeviceModel(name) => ("RemoveDeviceModel", json!({ "modelName": name.name, "modelNamespace": name.namespace })),
        Call::Probe => ("Probe", json!({})),
    }
}

fn registered(response: &MapperRegisterResponse) -> Value {
    json!({ "deviceList": response.device_list.iter().map(device).collect::<Vec<_>>(), "modelList": response.model_list.iter().map(model).collect::<Vec<_>>() })
}

fn model(model: &DeviceModel) -> Value {
    let properties = model.spec.as_ref().map_or(&[][..], |spec| &spec.properties).iter().map(|property| {
        json!({
            "name": property.name, "description": property.description, "type": property.r#type, "accessMode": property.access_mode,
            "minimum": property.minimum, "maximum": property.maximum, "unit": property.unit,
        })
    });
    json!({ "name": model.name, "namespace": model.namespace, "spec": { "properties": properties.collect::<Vec<_>>() } })
}

fn device(device: &Device) -> Value {
    let spec = device.spec.clone().unwrap_or_default();
    let status = device.status.clone().unwrap_or_default();
    let methods = spec.methods.iter().map(|method| json!({ "name": method.name, "description": method.description, "propertyNames": method.property_names }));
    json!({
        "name": device.name, "namespace": device.namespace,
        "status": { "reportToCloud": status.report_to_cloud, "reportCycle": status.report_cycle },
        "spec": {
            "deviceModelReference": spec.device_model_reference, "protocol": spec.protocol.as_ref().map(config),
            "methods": methods.collect::<Vec<_>>(), "properties": spec.properties.iter().map(property).collect::<Vec<_>>(),
        },
    })
}

fn property(property: &DeviceProperty) -> Value {
    json!({
        "name": property.name, "reportCycle": property.report_cycle, "collectCycle": property.collect_cycle, "reportToCloud": property.report_to_cloud,
        "desired": property.desired.as_ref().map(|desired| json!({ "value": desired.value, "metadata": desired.metadata })),
        "visitors": property.visitors.as_ref().map(config), "pushMethod": property.push_method.as_ref().map(push),
    })
}

fn config(config: &Config) -> Value {
    json!({ "protocolName": config.protocol_name, "configData": config.config_data.as_ref().map(settings) })
}

fn settings(settings: &Settings) -> Value {
    let wrapped = |any: &Any| json!({ "type_url": any.type_url, "value": BASE64_STANDARD.encode(&any.value) });
    json!({ "data": settings.data.iter().map(|(name, any)| (name.clone(), wrapped(any))).collect::<Map<_, _>>() })
}

fn push(push: &PushMethod) -> Value {
    let db = push.db_method.clone().unwrap_or_default();
    json!({
        "http": push.http.as_ref().map(|http| json!({ "hostname": http.hostname, "port": http.port, "requestpath": http.requestpath, "timeout": http.timeout })),
        "mqtt": push.mqtt.as_ref().map(|mqtt| json!({ "address": mqtt.address, "topic": mqtt.topic, "qos": mqtt.qos, "retained": mqtt.retained })),
        "otel": push.otel.as_ref().map(|otel| json!({ "endpointURL": otel.endpoint_url })),
        "anomalyDetection": push.anomaly_detection.as_ref().map(settings),
        "dbMethod": {
            "influxdb2": db.influxdb2.map(|db| json!({
                "influxdb2ClientConfig": db.client.map(|client| json!({ "url": client.url, "org": client.org, "bucket": client.bucket })),
                "influxdb2DataConfig": db.data.map(|data| json!({ "measurement": data.measurement, "tag": data.tag, "fieldKey": data.field_key })),
            })),
            "redis": db.redis.and_then(|db| db.client).map(|client| {
                json!({ "redisClientConfig": { "addr": client.addr, "db": client.db, "poolsize": client.poolsize, "minIdleConns": client.min_idle_conns } })
            }),
            "tdengine": db.tdengine.and_then(|db| db.client).map(|client| json!({ "tdEngineClientConfig": { "addr": client.addr, "dbname": client.dbname } })),
            "mysql": db.mysql.and_then(|db| db.client).map(|client| {
                json!({ "mysqlClientConfig": { "addr": client.addr, "database": client.database, "userName": client.user_name } })
            }),
        },
    })
}

/// Without what is absent or nothing, and with wrapped values unwrapped: EdgeCore
/// tells every number as one of 32 bits.
fn plain(value: &Value) -> Value {
    let is_nothing = |value: &Value| value.is_null() || *value == json!("") || *value == json!(0) || *value == json!(false) || *value == json!([]);
    match value {
        Value::Object(object) => match (object.get("type_url"), object.get("value")) {
            (Some(kind), Some(value)) => unwrapped(kind.as_str().unwrap_or_default(), value.as_str().unwrap_or_default()),
            _ => object.iter().map(|(name, value)| (name.clone(), plain(value))).filter(|(_, value)| !is_nothing(value)).collect::<Map<_, _>>().into(),
        },
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "EdgeCore loses it too")]
fn unwrapped(kind: &str, value: &str) -> Value {
    let bytes = BASE64_STANDARD.decode(value).expect("base64");
    match kind.rsplit('.').next() {
        Some("StringValue") => String::decode(&bytes[..]).expect("a text").into(),
        Some("BoolValue") => bool::decode(&bytes[..]).expect("a flag").into(),
        Some("Int64Value") => f64::from(i64::decode(&bytes[..]).expect("a number") as f32).into(),
        Some("FloatValue") => f64::from(f32::decode(&bytes[..]).expect("a number")).into(),
        other => panic!("mapper-framework does not read {other:?}"),
    }
}
