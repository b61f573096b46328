//! Small parsers: what they take they say again in the same way.

use selvedge::broker::topic as filters;
use selvedge::cloud::yaml;
use selvedge::eventbus::codec;
use selvedge::node::pod::render;
use selvedge::wire::message::Message;
use selvedge::wire::quantity::Quantity;
use selvedge::wire::resource::Resource;
use selvedge::wire::servicebus::{Call, Question, Reply};
use selvedge::wire::topic::Topic;
use selvedge::wire::{application::Application, kube, patch, rfc3339};
use serde_json::Value;

/// The first byte says for which of them the rest is.
pub fn parsers(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    match which % 10 {
        0 => quantity(text),
        1 => time(text),
        2 => resource(text),
        3 => image(text),
        4 => topic(text),
        5 => message(text),
        6 => patches(text),
        7 => services(text),
        8 => objects(text),
        _ => filter(text),
    }
}

fn quantity(text: &str) {
    let Some(quantity) = Quantity::parse(text) else { return };
    let (milli, units) = (quantity.milli(), quantity.units());
    assert!(quantity.is_zero() || milli != 0, "{text}: rounded up from nothing");
    assert!(milli.signum() * units.signum() >= 0, "{text}: {milli} and {units}");
    let negative = text.trim_start().starts_with('-');
    assert!(if negative { milli <= 0 && units <= 0 } else { milli >= 0 && units >= 0 }, "{text}: {milli} and {units}");
}

fn time(text: &str) {
    let Some(millis) = rfc3339::parse(text) else { return };
    let said = rfc3339::micros(millis);
    assert_eq!(rfc3339::parse(&said), Some(millis), "{text}, {said}");
    let second = rfc3339::seconds(millis);
    assert_eq!(rfc3339::parse(&second), Some(millis.div_euclid(1000) * 1000), "{text}, {second}");
}

fn resource(text: &str) {
    let Some(resource) = Resource::parse(text) else { return };
    let again = Resource::parse(&resource.to_string());
    assert_eq!(again.as_ref(), Some(&resource), "{text}");
}

fn image(text: &str) {
    let Ok(reference) = render::image_reference(text) else { return };
    assert_eq!(render::image_reference(&reference).as_ref(), Ok(&reference), "{text}");
}

fn topic(text: &str) {
    let _ = Topic::parse(text, false);
    let _ = Topic::parse(text, true);
}

fn filter(text: &str) {
    let (filter, name) = text.split_once('\n').unwrap_or((text, text));
    if filters::is_name(name) {
        let is_filter = filters::is_filter(name) || name.split('/').count() > filters::LEVELS;
        assert!(is_filter && filters::matches(name, name), "{name:?}");
        assert!(name.starts_with('$') || filters::matches("#", name), "{name:?}");
    }
    if filters::is_filter(filter) && filters::is_name(name) {
        let _ = filters::matches(filter, name);
    }
    let _ = codec::is_filter(filter);
}

fn message(text: &str) {
    let Ok(message) = Message::parse(text) else { return };
    let again = Message::parse(&message.text()).expect("it was written here");
    assert_eq!((&again.header, &again.route), (&message.header, &message.route));
    assert_eq!(again.content.get(), message.content.get());
    let _ = (message.resource(), message.ack("m".to_owned(), 1), message.wants_ack());
    let _ = Call::read(&message);
    let _ = serde_json::from_str::<Application>(message.content.get()).map(|application| application.items());
}

fn patches(text: &str) {
    let (old, new) = text.split_once('\n').unwrap_or((text, ""));
    let tree = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (old, new) = (tree(old), tree(new));
    assert_eq!(patch::status(&new, &new, &["Ready"]), None, "nothing changed");
    if old != new {
        let _ = patch::status(&old, &new, &["Ready", "Initialized"]);
    }
}

fn services(text: &str) {
    if let Ok(question) = Question::read(text.as_bytes()) {
        let _ = Reply::answered(&question.content);
    }
}

fn objects(text: &str) {
    let _ = kube::read::<kube::Pod>(text);
    let _ = kube::read::<kube::Device>(text);
    let _ = kube::read::<kube::DeviceModel>(text);
    let _ = kube::read::<kube::ConfigMap>(text);
    if let Ok(documents) = yaml::documents(text) {
        let values = documents.iter().map(|document| document.to_string().len()).sum::<usize>();
        assert!(values < 64 << 20, "{values} bytes of {}", text.len());
    }
}
