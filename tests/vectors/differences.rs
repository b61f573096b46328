//! Where the node answers otherwise than EdgeCore, why, and what it answers.

/// What a step says instead.
pub struct Says {
    /// `SCENARIO/STEP`.
    pub step: &'static str,
    /// Why it is better so; told when the step fails.
    pub why: &'static str,
    /// On MQTT, in order: the end of the topic and a part of the payload.
    pub mqtt: &'static [(&'static str, &'static str)],
    /// A part of the twin in a report; empty for no report; `None`: anything.
    pub cloud: Option<&'static str>,
}

const fn says(step: &'static str, why: &'static str, mqtt: &'static [(&'static str, &'static str)], cloud: Option<&'static str>) -> Says {
    Says { step, why, mqtt, cloud }
}

const NO_DETAIL: &str = "the cloud never answers a question for membership, and EdgeCore repeats it for ever";
const TEXTS: &str = "the reason names the fault without Go's own words for it";
const OWN_TOPIC: &str = "a refusal goes to the device's own topic, with the id of its request, and not to a device without a name";
const EQUAL: &str = "a value that is there already changes nothing: no version, no document, no report, no write";
const ANY_TEXT: &str = "values are any text: blanks, JSON and other languages are what devices say";
const TOLD: &str = "who asks for something that is refused is told so";
const NOTHING: &str = "nothing changed, so no empty document and no empty report is sent";
const OTHERS: &str = "a device that sends all it measures in one message does not lose it for one bad value: that is named, the others are taken";
const NAMESPACED: &str = "the device is found by namespace and name";

const RESULT: &str = "/default/dev1/twin/update/result";
const DOCUMENT: &str = "/default/dev1/twin/update/document";
const DELTA: &str = "/default/dev1/twin/update/delta";

pub const DIFFERENCES: &[Says] = &[
    says("twin-core/conn-first", NO_DETAIL, &[], Some("")),
    says("twin-core/mem-get-badjson", TEXTS, &[("edge1/membership/get/result", r#"{"code":400,"event_id":""}"#)], Some("")),
    says("twin-core/mem-get-emptypayload", TEXTS, &[("edge1/membership/get/result", r#"{"code":400,"event_id":""}"#)], Some("")),
    says("twin-core/state-unknown-device", TOLD, &[("/default/dev1/state/update/result", r#"{"code":404,"event_id":"e3"}"#)], Some("")),
    says("twin-core/mem-add-dup", "a device that is announced again is no faulty request of anybody", &[], Some("")),
    says("twin-core/twin-update-actual-same-value", EQUAL, &[(RESULT, r#"{"event_id":"e7","twin":{"temp":{"actual":{"value":"23"}}}}"#)], Some("")),
    says(
        "twin-core/twin-add-type-double",
        "double is a type of device models",
        &[(RESULT, r#"{"event_id":"e12","twin":{"dbl":{"metadata":{"type":"double"}}}}"#), (DOCUMENT, "{}")],
        Some(r#"{"dbl":{"actual":{"value":"7.5"}}}"#),
    ),
    says(
        "twin-core/twin-get-after-rollback",
        "the double of before is there",
        &[("/twin/get/result", r#"{"twin":{"dbl":{},"count":{"actual":{"value":"7"}}}}"#)],
        Some(""),
    ),
    says(
        "twin-core/twin-multi-one-bad",
        OTHERS,
        &[
            (RESULT, r#"{"event_id":"e15","code":400,"reason":"count: the value is not int or integer","twin":{"ok1":{"actual":{"value":"v"}}}}"#),
            (DOCUMENT, r#"{"twin":{"ok1":{"last":null,"current":{"actual":{"value":"v"}}}}}"#),
        ],
        Some(r#"{"ok1":{"actual":{"value":"v"}}}"#),
    ),
    says("twin-core/twin-bad-char-value", ANY_TEXT, &[(RESULT, r#"{"event_id":"e17","twin":{"temp":{"actual":{"value":"a b"}}}}"#), (DOCUMENT, "{}")], None),
    says("twin-core/twin-bad-char-key", OWN_TOPIC, &[(RESULT, r#"{"event_id":"e18","code":400}"#)], Some("")),
    says("twin-core/twin-value-513", ANY_TEXT, &[(RESULT, r#"{"event_id":"e19","twin":{"temp":{"actual":{}}}}"#), (DOCUMENT, "{}")], None),
    says("twin-core/twin-value-number-not-string", OWN_TOPIC, &[(RESULT, r#"{"event_id":"e20","code":400}"#)], Some("")),
    says("twin-core/twin-no-twin-key", OWN_TOPIC, &[(RESULT, r#"{"event_id":"e21","code":400}"#)], Some("")),
    says("twin-core/twin-badjson", OWN_TOPIC, &[(RESULT, r#"{"event_id":"","code":400}"#)], Some("")),
    says(
        "twin-core/twin-unrelated-update-republishes-delta",
        "the value before is another, for blanks are values",
        &[(RESULT, r#"{"event_id":"e24"}"#), (DOCUMENT, r#"{"twin":{"temp":{"current":{"actual":{"value":"24"}}}}}"#), (DELTA, r#"{"delta":{"sw":"ON"}}"#)],
        Some(r#"{"temp":{"actual":{"value":"24"},"actual_version":{"cloud":0,"edge":4}}}"#),
    ),
    says(
        "twin-core/twin-expected-empty",
        EQUAL,
        &[(RESULT, r#"{"event_id":"e25b","twin":{"sw":{"actual":{"value":"ON"},"expected":{"value":""}}}}"#), (DOCUMENT, "{}")],
        Some(r#"{"sw":{"expected":{"value":""},"expected_version":{"cloud":0,"edge":2}}}"#),
    ),
    says(
        "twin-core/twin-optional-false",
        "the cloud makes nothing of a report without values",
        &[
            (RESULT, r#"{"event_id":"e26","twin":{"temp":{"optional":false}}}"#),
            (DOCUMENT, r#"{"twin":{"temp":{"current":{"optional":false},"last":{"optional":true}}}}"#),
        ],
        Some(""),
    ),
    says(
        "twin-core/twin-delete-optional",
        "a value that never was has no version",
        &[(RESULT, r#"{"event_id":"e29","twin":{"f":null}}"#), (DOCUMENT, r#"{"twin":{"f":{"current":null,"last":{"actual":{"value":"1e3"}}}}}"#)],
        Some(r#"{"f":{"actual":{},"actual_version":{"cloud":0,"edge":2},"metadata":{"type":"deleted"}}}"#),
    ),
    says("twin-core/twin-delete-again", NOTHING, &[(RESULT, r#"{"event_id":"e30","twin":{}}"#)], Some("")),
    says(
        "twin-core/twin-get-after-delete",
        "the double of before is there",
        &[("/twin/get/result", r#"{"twin":{"dbl":{},"sw":{"expected":{"value":""}}}}"#)],
        Some(""),
    ),
    says("twin-core/twin-delete-missing-key", NOTHING, &[(RESULT, r#"{"event_id":"e33","twin":{}}"#)], Some("")),
    says(
        "twin-core/twin-null-value",
        "the double of before is there",
        &[("/twin/get/result", r#"{"twin":{"dbl":{},"f":{"actual":{"value":"8"}}}}"#)],
        Some(""),
    ),
    says(
        "twin-core/cloudsync-namespaced",
        NAMESPACED,
        &[(DOCUMENT, r#"{"event_id":"c2","twin":{"sw":{"current":{"expected":{"value":"OFF"}}}}}"#), (DELTA, r#"{"delta":{"sw":"OFF"}}"#)],
        Some(""),
    ),
    says(
        "twin-core/cloudsync-mqtt-topic",
        "the same value came the step before",
        &[(DOCUMENT, r#"{"twin":{"sw":{"current":{"expected":{"value":"OFF"}},"last":{"expected":{"value":"OFF"}}}}}"#), (DELTA, r#"{"delta":{"sw":"OFF"}}"#)],
        Some(""),
    ),
    says("twin-core/cloudsync-add-noversion", NOTHING, &[(DELTA, r#"{"delta":{"newp":"3","sw":"OFF"}}"#)], Some("")),
    says(
        "twin-core/state-upper",
        "when a device was last online is not forgotten when it goes, and the answer has the id of its request",
        &[("/default/dev1/state/update/result", r#"{"event_id":"s2","device":{"state":"OFFLINE","lastOnlineTime":"<time>"}}"#)],
        None,
    ),
    says("twin-core/state-disconnected-ignored", TOLD, &[("/default/dev1/state/update/result", r#"{"event_id":"s3","code":400}"#)], Some("")),
    says("twin-core/state-badjson", TOLD, &[("/default/dev1/state/update/result", r#"{"code":400}"#)], Some("")),
    says("twin-core/twin-get-badjson", TEXTS, &[("/twin/get/result", r#"{"code":400,"event_id":""}"#)], Some("")),
    says("twin-core/mem-readd-wipes-attrs", "an announcement that says nothing of attributes removes none", &[], Some("")),
    says("twin-core/attr-readd", "the attribute was never removed", &[], Some("")),
    says(
        "twin-core/mem-get-withattr",
        "when a device was last online is not forgotten when it goes",
        &[("edge1/membership/get/result", r#"{"devices":[{"attributes":{"fw":{"value":"1.1"}},"state":"OFFLINE","last_online":"<time>"}]}"#)],
        Some(""),
    ),
    says(
        "twin-core/ns-dev-broken",
        "namespaces are found by their place in the topic, and no name is a part of the prefix",
        &[("/dev/x1/twin/update/result", r#"{"event_id":"n1","twin":{"t":{"actual":{"value":"1"}}}}"#), ("/dev/x1/twin/update/document", "{}")],
        Some(r#"{"t":{"actual":{"value":"1"}}}"#),
    ),
    says(
        "twin-core/conn-restored",
        "what changed without the cloud is told when it is back, and membership is not asked for",
        &[],
        Some(r#"{"sw":{"actual":{"value":"ON"}}}"#),
    ),
];
