//! Times as Kubernetes writes them. Milliseconds since the epoch inside.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// `2026-11-23T08:16:30Z`, as metav1.Time is written.
pub fn seconds(millis: i64) -> String {
    format(at(millis).replace_nanosecond(0).unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

/// The same of whole seconds since the epoch.
pub fn of_seconds(seconds_since_epoch: i64) -> String {
    seconds(seconds_since_epoch.saturating_mul(1000))
}

/// `2026-11-23T08:16:30.123000Z`, as metav1.MicroTime is written.
pub fn micros(millis: i64) -> String {
    let (whole, part) = (seconds(millis), millis.rem_euclid(1000));
    format!("{}.{:06}Z", whole.trim_end_matches('Z'), part * 1000)
}

/// Milliseconds since the epoch of any RFC 3339 time; `None` if it is none.
pub fn parse(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

fn at(millis: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH.checked_add(Duration::milliseconds(millis)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn format(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_both_ways() {
        assert_eq!(seconds(1_795_346_397_684), "2026-11-22T11:19:57Z");
        assert_eq!(micros(1_795_346_397_684), "2026-11-22T11:19:57.684000Z");
        assert_eq!(parse("2026-11-22T11:19:57.684Z"), Some(1_795_346_397_684));
        assert_eq!(parse("2026-11-22T13:19:57+02:00"), Some(1_795_346_397_000));
        assert_eq!(parse("yesterday"), None);
        assert_eq!(of_seconds(1_795_346_397), "2026-11-22T11:19:57Z");
        for far in [i64::MAX, i64::MIN] {
            assert_eq!((seconds(far).as_str(), of_seconds(far).as_str()), ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"));
            assert!(micros(far).starts_with("1970-01-01T00:00:00."));
        }
    }
}
