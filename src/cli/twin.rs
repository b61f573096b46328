//! `selvedge twin`: what devices are, and what they shall be. Works without a
//! cloud.

use std::path::Path;

use argh::FromArgs;
use serde_json::{Value, json};

use super::output::{Form, line, table, text, value};
use super::questions::{full_name, one, wants_json};
use super::{Exit, Failure, output};

/// show, set or watch the properties of a device
#[derive(FromArgs)]
#[argh(subcommand, name = "twin")]
pub struct Twin {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Get(Get),
    Set(Set),
    Watch(Watch),
}

/// show a device's properties
#[derive(FromArgs)]
#[argh(subcommand, name = "get")]
struct Get {
    /// NAMESPACE/NAME of the device, or a name in namespace default
    #[argh(positional)]
    device: String,
    /// only this property
    #[argh(positional)]
    property: Option<String>,
    /// output: json, or wide: values are not cut
    #[argh(option, short = 'o')]
    output: Option<String>,
}

/// wish a value, as far as the device's model lets it be written
#[derive(FromArgs)]
#[argh(subcommand, name = "set")]
struct Set {
    /// NAMESPACE/NAME of the device, or a name in namespace default
    #[argh(positional)]
    device: String,
    /// PROPERTY=VALUE
    #[argh(positional)]
    wish: String,
}

/// print every change of a device's properties until Ctrl-C
#[derive(FromArgs)]
#[argh(subcommand, name = "watch")]
struct Watch {
    /// NAMESPACE/NAME of the device, or a name in namespace default
    #[argh(positional)]
    device: String,
    /// only this property
    #[argh(positional)]
    property: Option<String>,
    /// output: json, one object a line
    #[argh(option, short = 'o')]
    output: Option<String>,
}

impl Twin {
    /// Does what was typed.
    pub fn run(self, socket: &Path) -> Result<Exit, Failure> {
        match self.command {
            Command::Get(get) => get.run(socket),
            Command::Set(set) => set.run(socket),
            Command::Watch(watch) => watch.run(socket),
        }
    }
}

/// The properties of an answer, or the one that was asked for.
fn properties<'a>(answer: &'a Value, only: Option<&str>) -> Result<Vec<&'a Value>, Failure> {
    let all = answer["properties"].as_array().map_or(&[][..], Vec::as_slice);
    let found: Vec<&Value> = all.iter().filter(|property| only.is_none_or(|only| property["name"] == only)).collect();
    match only {
        Some(only) if found.is_empty() => Err(Failure::new(format!("the device has no property '{only}'"))),
        Some(_) | None => Ok(found),
    }
}

impl Get {
    fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let answer = one(socket, &json!({ "ask": "describe-device", "device": full_name(&self.device, &None) }))?;
        let properties = properties(&answer, self.property.as_deref())?;
        let form = Form::of(&self.output)?;
        if form == Form::Json {
            output::json(&json!(properties));
            return Ok(Exit::Ok);
        }
        let row = |property: &&Value| {
            let reported = if property["reported"] == true { "yes" } else { "no" };
            let [name, kind, actual, expected] = [&property["name"], &property["type"], &property["actual"]["value"], &property["expected"]["value"]].map(text);
            vec![name, kind, actual, expected, text(&property["actual"]["changed"]), reported.to_owned()]
        };
        table(form, &["PROPERTY", "TYPE", "ACTUAL", "EXPECTED", "CHANGED", "REPORTED"], &properties.iter().map(row).collect::<Vec<_>>());
        Ok(Exit::Ok)
    }
}

impl Set {
    fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let (property, value) = self.wish.split_once('=').ok_or_else(|| Failure(Exit::Usage, format!("'{}' is not PROPERTY=VALUE", self.wish)))?;
        one(socket, &json!({ "ask": "set-twin", "device": full_name(&self.device, &None), "property": property, "value": value }))?;
        line(&format!("{property} shall be {value}"));
        Ok(Exit::Ok)
    }
}

impl Watch {
    fn run(self, socket: &Path) -> Result<Exit, Failure> {
        let as_json = wants_json(&self.output)?;
        let (mut seen, mut shown) = (u64::MAX, Vec::new());
        loop {
            let answer = one(socket, &json!({ "ask": "watch-device", "device": full_name(&self.device, &None), "seen": seen }))?;
            seen = answer["change"].as_u64().unwrap_or_default();
            let now: Vec<Value> = answer["properties"].as_array().cloned().unwrap_or_default();
            for property in now.iter().filter(|property| self.property.as_ref().is_none_or(|only| property["name"] == only.as_str())) {
                if !shown.contains(&essence(property)) && !print(property, as_json) {
                    return Ok(Exit::Ok);
                }
            }
            shown = now.iter().map(essence).collect();
        }
    }
}

/// What of a property is worth a line when it changes.
fn essence(property: &Value) -> [Value; 3] {
    [&property["name"], &property["actual"]["value"], &property["expected"]["value"]].map(Value::clone)
}

/// False when nobody reads any more.
fn print(property: &Value, as_json: bool) -> bool {
    if as_json {
        return output::raw(&property.to_string());
    }
    let [name, actual, expected] = [&property["name"], &property["actual"]["value"], &property["expected"]["value"]].map(|part| value(Form::Short, part));
    let wish = if expected == "-" || expected == actual { String::new() } else { format!(" (shall be {expected})") };
    line(&format!("{}  {name} = {actual}{wish}", text(&property["actual"]["changed"])))
}
