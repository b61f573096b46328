//! What texts become.

use serde_json::json;

use super::*;

fn one(text: &str) -> Value {
    let documents = documents(text).unwrap_or_else(|why| panic!("{text}: {why}"));
    let [document] = documents.try_into().unwrap_or_else(|all| panic!("{text}: {all:?}"));
    document
}

fn why(text: &str) -> String {
    documents(text).expect_err(text).to_string()
}

#[test]
fn scalars_mean_what_they_mean_to_kubectl() {
    for (text, value) in [
        // Octal, as modes of files are written; 0o is Go's.
        ("0400", json!(256)),
        ("0755", json!(493)),
        ("0o400", json!(256)),
        ("-010", json!(-8)),
        ("00", json!(0)),
        // No octal digits: a decimal number.
        ("08", json!(8)),
        ("0900", json!(900)),
        ("0x1F", json!(31)),
        ("0X_1f", json!(31)),
        ("0b101", json!(5)),
        ("-0b11", json!(-3)),
        ("1_000", json!(1000)),
        ("+12", json!(12)),
        ("1_", json!(1)),
        ("_1", json!("_1")),
        ("9223372036854775807", json!(i64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("18446744073709551615", json!(u64::MAX)),
        ("0x", json!("0x")),
        ("0o9", json!("0o9")),
        ("--1", json!("--1")),
        ("0x+1", json!("0x+1")),
        ("1.0", json!(1)),
        ("1e3", json!(1000)),
        ("685_230.15", json!(685_230.15)),
        ("1.5", json!(1.5)),
        (".5", json!(0.5)),
        ("+.5", json!(0.5)),
        ("1.", json!(1)),
        ("1e", json!("1e")),
        (".", json!(".")),
        ("1e400", json!("1e400")),
        ("1.2.3", json!("1.2.3")),
        // Neither times nor base 60.
        ("190:20:30", json!("190:20:30")),
        ("2026-11-25", json!("2026-11-25")),
        ("2026-11-25T10:00:00Z", json!("2026-11-25T10:00:00Z")),
        ("100m", json!("100m")),
        ("64Mi", json!("64Mi")),
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("ON", json!(true)),
        ("n", json!(false)),
        ("Y", json!(true)),
        ("yEs", json!("yEs")),
        ("tRUE", json!("tRUE")),
        ("TRUE", json!(true)),
        ("~", json!(null)),
        ("NULL", json!(null)),
        ("nULL", json!("nULL")),
        ("'0400'", json!("0400")),
        ("\"yes\"", json!("yes")),
        ("''", json!("")),
        ("!!str 0400", json!("0400")),
        ("!!int '0400'", json!(256)),
        ("!!float 1", json!(1)),
        ("!!bool 'yes'", json!(true)),
        ("!!null ''", json!(null)),
        ("!!binary aGVsbG8=", json!("hello")),
        ("! 0400", json!("0400")),
        ("!mine 0400", json!("0400")),
        ("|\n  0400\n", json!("0400\n")),
        (">-\n  yes\n", json!("yes")),
        ("sleep 3600", json!("sleep 3600")),
        ("https://example.com:80/a#b", json!("https://example.com:80/a#b")),
    ] {
        assert_eq!(one(&format!("a: {text}\n")), json!({ "a": value }), "{text}");
    }
    assert_eq!(one("a:\nb: 1\n"), json!({ "a": null, "b": 1 }));
    for (text, reason) in [
        ("a: .inf", "line 1: '.inf' has no equivalent in JSON"),
        ("a: 1\nb: -.INF", "line 2: '-.INF' has no equivalent in JSON"),
        ("a: .NaN", "line 1: '.NaN' has no equivalent in JSON"),
        ("a: !!int x", "line 1: 'x' is tagged !!int and is a !!str"),
        ("a: !!binary '*'", "line 1: !!binary: "),
    ] {
        assert!(why(text).starts_with(reason), "{}", why(text));
    }
}

#[test]
fn keys_are_texts() {
    assert_eq!(one("1: a\nyes: b\n0x10: c\n'2': d\n2026-11-25: e\n"), json!({ "1": "a", "true": "b", "16": "c", "2": "d", "2026-11-25": "e" }));
    assert_eq!(one("? a\n: b\n"), json!({ "a": "b" }));
    assert_eq!(why("a: 1\n~: 2\n"), "line 2: '~' cannot be a key");
    assert_eq!(why("? [a]\n: b\n"), "line 1: a key must be a text, a number or true or false");
    assert_eq!(why("a: 1\nb: 2\na: 3\n"), "line 3: key 'a' stands twice in this mapping");
    assert_eq!(why("{a: 1, 'a': 2}"), "line 1: key 'a' stands twice in this mapping");
}

#[test]
fn mappings_are_merged_where_the_merge_key_stands() {
    let anchors = "a: &a {x: 1, w: 2}\nb: &b {x: 3, z: 4}\nc:";
    for (text, value) in [
        ("\n  <<: *a\n", json!({ "x": 1, "w": 2 })),
        ("\n  <<: *a\n  x: 9\n", json!({ "x": 9, "w": 2 })),
        ("\n  x: 9\n  <<: *a\n", json!({ "x": 1, "w": 2 })),
        ("\n  <<: [*a, *b]\n", json!({ "x": 1, "w": 2, "z": 4 })),
        ("\n  <<: [*b, *a]\n  w: 5\n", json!({ "x": 3, "w": 5, "z": 4 })),
        ("\n  <<: *a\n  <<: *b\n", json!({ "x": 3, "w": 2, "z": 4 })),
        ("\n  <<: {x: 7}\n", json!({ "x": 7 })),
        (" {<<: *a, v: 0}\n", json!({ "x": 1, "w": 2, "v": 0 })),
        ("\n  '<<': 5\n", json!({ "<<": 5 })),
        (" <<\n", json!("<<")),
        (" [<<]\n", json!(["<<"])),
        // A merge of what merges itself.
        ("\n  <<: &d {<<: *b, w: 8}\n", json!({ "x": 3, "w": 8, "z": 4 })),
    ] {
        assert_eq!(one(&format!("{anchors}{text}"))["c"], value, "{text}");
    }
    for text in ["<<: 5", "<<: [1]", "<<: [{a: 1}, b]", "<<:"] {
        assert_eq!(why(text), "line 1: '<<' needs a mapping or a list of mappings", "{text}");
    }
}

#[test]
fn anchors_live_in_their_document() {
    assert_eq!(one("a: &x 0400\nb: *x\nc: [&y {k: v}, *y]\n*x : d\n"), json!({ "a": 256, "b": 256, "c": [{ "k": "v" }, { "k": "v" }], "256": "d" }));
    assert_eq!(one("&k key: 1\nother: *k\n"), json!({ "key": 1, "other": "key" }));
    assert_eq!(one("a: &x 1\nb: &x 2\nc: *x\n")["c"], 2);
    assert!(why("a: &x 1\n---\nb: *x\n").contains("anchor"));
    assert!(why("a: *nowhere\n").contains("anchor"));
    assert!(why("a: &x [*x]\n").contains("itself"));
}

#[test]
fn a_file_has_any_number_of_documents() {
    let all = |text: &str| documents(text).unwrap_or_else(|why| panic!("{text:?}: {why}"));
    for (text, count) in [
        ("", 0),
        ("\n# nothing\n", 0),
        ("---\n---\n", 0),
        ("---\na: 1\n", 1),
        ("a: 1\n---\nb: 2\n", 2),
        ("a: 1\n---\n---\nb: 2\n---\n# end\n", 2),
        ("a: 1\n...\n---\nb: 2\n...\n", 2),
        ("a: 1\r\n---\r\nb: 2\r\n", 2),
        ("%YAML 1.1\n---\na: 1\n", 1),
        ("--- # comment\na: 1\n", 1),
        ("\u{feff}a: 1\n", 1),
        ("{\"a\": 1}", 1),
        ("{\"a\": \"\\ud83d\\ude00\\/\"}\n{\"b\": 2}", 2),
        ("{a: 1, b: [2]}", 1),
        ("{\n  \"a\": 0400\n}", 1),
        ("{\"a\":1,\"b\":[1,2],\"c\":{\"d\":null}}\n---\n{\"e\":1}", 2),
        ("text: |\n  ---\n  a\n", 1),
    ] {
        assert_eq!(all(text).len(), count, "{text:?}: {:?}", all(text));
    }
    assert_eq!(one("{\n  \"a\": 0400\n}"), json!({ "a": 256 }));
}

#[test]
fn what_is_no_yaml_names_its_line() {
    for (text, line) in
        [("a: 1\n\tb: 2\n", 2), ("a: 'x\n", 1), ("a: [1\n", 1), ("a: b: c\n", 1), ("a:\n  - b\n c: d\n", 3), ("a: @x\n", 1), ("a: \"\\q\"\n", 1)]
    {
        assert!(why(text).starts_with("line "), "{text:?}: {} ({line})", why(text));
    }
}

#[test]
fn anchors_that_multiply_end_at_a_limit() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{}", level - 1);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", ")));
    }
    assert!(why(&laughs).contains("more than 200000 values"), "{}", why(&laughs));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), ["*a"; 9].join(", "));
    assert!(why(&long).contains("more than 8 MiB of text"), "{}", why(&long));
    // Anchors in anchors: each keeps all that is in it.
    let nested = format!("a: {}{}{}", (0..90).map(|at| format!("&a{at} [")).collect::<String>(), "x".repeat(1 << 20), "]".repeat(90));
    assert!(why(&nested).contains("more than 8 MiB of text"), "{}", why(&nested));
    let merged = format!("a: &a {{{}}}\nb:\n{}", (0..1000).map(|at| format!("k{at}: 1")).collect::<Vec<_>>().join(", "), "  - <<: *a\n".repeat(1000));
    assert!(why(&merged).contains("more than 200000 values"));
    let deep = format!("a: {}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(why(&deep).contains("recursion limit"), "{}", why(&deep));
    let block: String = (0..200).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    assert!(why(&block).contains("nested more than 100 levels deep"));
}
