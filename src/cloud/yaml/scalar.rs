//! What a scalar of YAML 1.1 means.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use saphyr_parser::{ScalarStyle, Tag};
use serde_json::Value;

/// A scalar that was resolved.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// `null`, `~` or nothing.
    Null,
    /// `true`, `yes`, `on`, `y` and their opposites.
    Bool(bool),
    /// Decimal, or with 0x, 0o, 0b or a leading 0 hexadecimal, octal, binary, octal.
    Int(i128),
    /// Also a whole number beyond 64 bits.
    Float(f64),
    /// Everything else, times among it.
    Text(String),
}

impl Scalar {
    /// As JSON; `.inf` and `.nan` have no form there.
    pub fn value(self) -> Option<Value> {
        /// The largest float up to which Go writes whole numbers without an exponent.
        const WHOLE: f64 = 9.0e18;
        Some(match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(bool),
            Self::Int(number) => whole(number)?,
            // A whole number is one in JSON, however it was written.
            #[expect(clippy::cast_possible_truncation, reason = "it is a whole number within the range of i128")]
            Self::Float(number) if number.fract() == 0.0 && number.abs() < WHOLE => whole(number as i128)?,
            Self::Float(number) => serde_json::Number::from_f64(number)?.into(),
            Self::Text(text) => Value::String(text),
        })
    }

    /// As a key of an object; null is none.
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Bool(bool) => Some(bool.to_string()),
            Self::Int(number) => Some(number.to_string()),
            Self::Float(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.clone()),
        }
    }

    fn tag(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
        }
    }
}

fn whole(number: i128) -> Option<Value> {
    i64::try_from(number).map(Value::from).or_else(|_| u64::try_from(number).map(Value::from)).ok()
}

/// Whether a scalar that is a key merges what follows it.
pub fn is_merge(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> bool {
    text == "<<" && core(tag).map_or(style == ScalarStyle::Plain && tag.is_none(), |suffix| suffix == "merge")
}

/// The name of a tag of YAML itself, such as `int`.
fn core(tag: Option<&Tag>) -> Option<&str> {
    tag.filter(|tag| tag.handle == "tag:yaml.org,2002:").map(|tag| tag.suffix.as_str())
}

/// Resolves a scalar by its tag, or by its form when it is plain.
///
/// # Errors
///
/// The text is not of the type that its tag names.
pub fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Scalar, String> {
    let as_text = || Scalar::Text(text.to_owned());
    let Some(wanted) = core(tag) else {
        let is_plain = style == ScalarStyle::Plain && tag.is_none();
        return Ok(if is_plain { plain(text) } else { as_text() });
    };
    if wanted == "binary" {
        return binary(text);
    }
    if !matches!(wanted, "int" | "float" | "bool" | "null") {
        return Ok(as_text());
    }
    let found = plain(text);
    if let (Scalar::Int(number), "float") = (&found, wanted) {
        #[expect(clippy::cast_precision_loss, reason = "that is what the tag asks for")]
        return Ok(Scalar::Float(*number as f64));
    }
    if found.tag() != wanted {
        return Err(format!("'{text}' is tagged !!{wanted} and is a !!{}", found.tag()));
    }
    Ok(found)
}

fn binary(text: &str) -> Result<Scalar, String> {
    let text: String = text.chars().filter(|char| !char.is_whitespace()).collect();
    let bytes = STANDARD.decode(text).map_err(|why| format!("!!binary: {why}"))?;
    String::from_utf8(bytes).map(Scalar::Text).map_err(|_| "!!binary: not UTF-8; use binaryData of a ConfigMap".to_owned())
}

/// A plain scalar without a tag.
fn plain(text: &str) -> Scalar {
    if let Some(known) = word(text) {
        return known;
    }
    let digits = match text.as_bytes().first() {
        Some(b'0'..=b'9' | b'+' | b'-') => text.replace('_', ""),
        Some(b'.') => text.to_owned(),
        _ => return Scalar::Text(text.to_owned()),
    };
    let number = int(&digits).map(Scalar::Int).or_else(|| float(&digits).map(Scalar::Float));
    number.unwrap_or_else(|| Scalar::Text(text.to_owned()))
}

fn word(text: &str) -> Option<Scalar> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => return None,
    })
}

/// A whole number of 64 bits, signed or not, its base by its prefix.
fn int(text: &str) -> Option<i128> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let prefix = rest.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match prefix.as_deref() {
        Some("0x") => (16, &rest[2..]),
        Some("0o") => (8, &rest[2..]),
        Some("0b") => (2, &rest[2..]),
        Some(octal) if octal.starts_with('0') => (8, &rest[1..]),
        _ => (10, rest),
    };
    // Rust's parser takes a sign of its own.
    let digits = digits.starts_with(|char: char| char.is_ascii_alphanumeric()).then_some(digits)?;
    let number = sign * i128::from(u64::from_str_radix(digits, radix).ok()?);
    (number >= i128::from(i64::MIN)).then_some(number)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, within the range of a
/// float.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).map_or((unsigned, None), |(mantissa, exponent)| (mantissa, Some(exponent)));
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_exponent = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && are_digits(digits)
    });
    let is_float = are_digits(before) && are_digits(after) && !(before.is_empty() && after.is_empty()) && has_exponent;
    text.parse().ok().filter(|number: &f64| is_float && number.is_finite())
}
