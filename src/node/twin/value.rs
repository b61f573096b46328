//! Types of values, and whether a text is one of them. Not who may set it.
//!
//! Source: devices.md 2.6. EdgeCore takes letters, digits and `-_.,:/@#` up to
//! 512 bytes as values; here every text up to [`LIMIT`] is one.

use serde::{Deserialize, Serialize};

/// A value, or the name of a property: thousands are kept, and up to 15 bytes
/// take no memory beside the place they stand in.
pub type Text = ecow::EcoString;

/// Longest value, bytes.
pub const LIMIT: usize = 64 << 10;

/// What a value is. Append only: the position is on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Metadata without a type: any text.
    Unset,
    /// `string`: any text.
    #[default]
    String,
    /// `int`: a whole number of 64 bits.
    Int,
    /// `integer`: the same.
    Integer,
    /// `float`: a number of 64 bits.
    Float,
    /// `double`: the same.
    Double,
    /// `boolean`: `true` or `false`.
    Boolean,
    /// `bytes`: any text.
    Bytes,
    /// `stream`: any text.
    Stream,
    /// `deleted`: the property is gone, its versions are not.
    Deleted,
}

impl Kind {
    /// Reads a type's name; in models it is upper case.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "" => Self::Unset,
            "string" | "STRING" => Self::String,
            "int" | "INT" => Self::Int,
            "integer" => Self::Integer,
            "float" | "FLOAT" => Self::Float,
            "double" | "DOUBLE" => Self::Double,
            "boolean" | "BOOLEAN" => Self::Boolean,
            "bytes" | "BYTES" => Self::Bytes,
            "stream" | "STREAM" => Self::Stream,
            "deleted" => Self::Deleted,
            _ => return None,
        })
    }

    /// Its name on the wire; `None` when there is none.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Unset => return None,
            Self::String => "string",
            Self::Int => "int",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Double => "double",
            Self::Boolean => "boolean",
            Self::Bytes => "bytes",
            Self::Stream => "stream",
            Self::Deleted => "deleted",
        })
    }

    /// Whether a text is such a value; the error is for its sender.
    pub fn check(self, value: &str) -> Result<(), &'static str> {
        let good = match self {
            Self::Int | Self::Integer if value.parse::<i64>().is_err() => Err("the value is not int or integer"),
            Self::Float | Self::Double if number(value).is_none() => Err("the value is not float"),
            Self::Boolean if !matches!(value, "true" | "false") => Err("the bool value must be true or false"),
            Self::Unset
            | Self::String
            | Self::Int
            | Self::Integer
            | Self::Float
            | Self::Double
            | Self::Boolean
            | Self::Bytes
            | Self::Stream
            | Self::Deleted => Ok(()),
        };
        good.and(if value.len() <= LIMIT { Ok(()) } else { Err("the value is longer than 65536 bytes") })
    }
}

/// A number as Go reads one, except for its hexadecimal floats; one that is too
/// large for 64 bits is none.
pub fn number(text: &str) -> Option<f64> {
    let named = |text: &str| matches!(text.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str(), "inf" | "infinity");
    text.parse().ok().filter(|number: &f64| number.is_finite() || number.is_nan() || named(text))
}

/// Whether a name may be a property's.
pub fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.,:/@#".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_by_their_type() {
        for (kind, good, bad) in [
            ("int", "-9223372036854775808", "9223372036854775808"),
            ("integer", "7", "7.0"),
            ("float", "1e3", "abc"),
            ("double", "-inf", "1e999"),
            ("boolean", "true", "True"),
            ("float", "NaN", ""),
        ] {
            let kind = Kind::parse(kind).expect("a type");
            assert!(kind.check(good).is_ok(), "{kind:?} {good}");
            assert!(kind.check(bad).is_err(), "{kind:?} {bad}");
        }
        assert!(Kind::String.check("a b {\"c\":1} \u{fc}").is_ok());
        assert!(Kind::String.check(&"x".repeat(LIMIT + 1)).is_err());
        assert_eq!(Kind::parse("Updated"), None);
    }

    #[test]
    fn names_are_those_that_topics_and_objects_take() {
        assert!(is_name("temp-1_a.b,c:d/e@f#") && !is_name("te mp") && !is_name("") && !is_name(&"x".repeat(129)));
    }
}
