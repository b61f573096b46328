//! Where a mapper sends readings beside the edge. The edge only passes it on.

use std::collections::BTreeMap;

use super::device::Settings;

/// One of them, and perhaps an anomaly detection.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PushMethod {
    /// A web server.
    #[prost(message, optional, tag = "1")]
    pub http: Option<Http>,
    /// A broker.
    #[prost(message, optional, tag = "2")]
    pub mqtt: Option<Mqtt>,
    /// A database.
    #[prost(message, optional, tag = "3")]
    pub db_method: Option<DbMethod>,
    /// A collector of telemetry.
    #[prost(message, optional, tag = "4")]
    pub otel: Option<Otel>,
    /// How odd values are found.
    #[prost(message, optional, tag = "5")]
    pub anomaly_detection: Option<Settings>,
}

/// A web server.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Http {
    /// Its address, with the scheme.
    #[prost(string, tag = "1")]
    pub hostname: String,
    /// Its port.
    #[prost(int64, tag = "2")]
    pub port: i64,
    /// The path.
    #[prost(string, tag = "3")]
    pub requestpath: String,
    /// How long it may take.
    #[prost(int64, tag = "4")]
    pub timeout: i64,
}

/// A broker.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Mqtt {
    /// Its address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// The topic.
    #[prost(string, tag = "2")]
    pub topic: String,
    /// Quality of service.
    #[prost(int32, tag = "3")]
    pub qos: i32,
    /// The broker keeps the last one.
    #[prost(bool, tag = "4")]
    pub retained: bool,
}

/// A collector of telemetry.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Otel {
    /// Its address.
    #[prost(string, tag = "1")]
    pub endpoint_url: String,
}

/// One of the databases.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DbMethod {
    /// InfluxDB 2.
    #[prost(message, optional, tag = "1")]
    pub influxdb2: Option<Influxdb2>,
    /// Redis.
    #[prost(message, optional, tag = "2")]
    pub redis: Option<Redis>,
    /// TDengine.
    #[prost(message, optional, tag = "3")]
    pub tdengine: Option<Tdengine>,
    /// MySQL.
    #[prost(message, optional, tag = "4")]
    pub mysql: Option<Mysql>,
}

/// InfluxDB 2.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Influxdb2 {
    /// Where it is.
    #[prost(message, optional, tag = "1")]
    pub client: Option<Influxdb2Client>,
    /// Where in it.
    #[prost(message, optional, tag = "2")]
    pub data: Option<Influxdb2Data>,
}

/// Where an InfluxDB is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Influxdb2Client {
    /// Its address.
    #[prost(string, tag = "1")]
    pub url: String,
    /// Organization.
    #[prost(string, tag = "2")]
    pub org: String,
    /// Bucket.
    #[prost(string, tag = "3")]
    pub bucket: String,
}

/// Where in an InfluxDB.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Influxdb2Data {
    /// Measurement.
    #[prost(string, tag = "1")]
    pub measurement: String,
    /// Tags.
    #[prost(btree_map = "string, string", tag = "2")]
    pub tag: BTreeMap<String, String>,
    /// Field.
    #[prost(string, tag = "3")]
    pub field_key: String,
}

/// Redis.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Redis {
    /// Where it is.
    #[prost(message, optional, tag = "1")]
    pub client: Option<RedisClient>,
}

/// Where a Redis is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RedisClient {
    /// Its address.
    #[prost(string, tag = "1")]
    pub addr: String,
    /// Number of the database.
    #[prost(int32, tag = "2")]
    pub db: i32,
    /// Most connections.
    #[prost(int32, tag = "3")]
    pub poolsize: i32,
    /// Least idle connections.
    #[prost(int32, tag = "4")]
    pub min_idle_conns: i32,
}

/// TDengine.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Tdengine {
    /// Where it is.
    #[prost(message, optional, tag = "1")]
    pub client: Option<TdengineClient>,
}

/// Where a TDengine is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TdengineClient {
    /// Its address.
    #[prost(string, tag = "1")]
    pub addr: String,
    /// The database.
    #[prost(string, tag = "2")]
    pub dbname: String,
}

/// MySQL.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Mysql {
    /// Where it is.
    #[prost(message, optional, tag = "1")]
    pub client: Option<MysqlClient>,
}

/// Where a MySQL is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MysqlClient {
    /// Its address.
    #[prost(string, tag = "1")]
    pub addr: String,
    /// The database.
    #[prost(string, tag = "2")]
    pub database: String,
    /// The user.
    #[prost(string, tag = "3")]
    pub user_name: String,
}
