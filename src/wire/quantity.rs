//! Resource quantities: `100m`, `64Mi`, `2`, `1e3`. Thousandths inside, so that
//! a milli-CPU and a byte fit the same type.
//!
//! Source: Kubernetes' `apimachinery/pkg/api/resource/quantity.go`.

use serde::{Deserialize, Deserializer, de};

/// An amount in thousandths; what does not fit is capped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

impl Quantity {
    /// So many whole units.
    pub const fn whole(units: i64) -> Self {
        Self(units as i128 * 1000)
    }

    /// Reads a quantity as written in a manifest; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let split = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(split);
        let (multiplier, divisor): (i128, i128) = match suffix {
            "" => (1000, 1),
            "n" => (1, 1_000_000),
            "u" => (1, 1000),
            "m" => (1, 1),
            "k" => (1_000_000, 1),
            "M" => (1_000_000_000, 1),
            "G" => (1_000_000_000_000, 1),
            "T" => (1_000_000_000_000_000, 1),
            "P" => (1_000_000_000_000_000_000, 1),
            "E" => (1_000_000_000_000_000_000_000, 1),
            "Ki" => (1000 << 10, 1),
            "Mi" => (1000 << 20, 1),
            "Gi" => (1000 << 30, 1),
            "Ti" => (1000 << 40, 1),
            "Pi" => (1000 << 50, 1),
            "Ei" => (1000 << 60, 1),
            exponent => (1000i128.checked_mul(power(exponent)?)?, 1),
        };
        let (negative, digits) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (int, frac) = digits.split_once('.').unwrap_or((digits, ""));
        let digits_only = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits_only(int) || !digits_only(frac) || int.len() + frac.len() == 0 || int.len() > 18 || frac.len() > 9 {
            return None;
        }
        let scale = 10i128.pow(u32::try_from(frac.len()).ok()?);
        let value: i128 = format!("{int}{frac}").parse().ok()?;
        let scaled = value.checked_mul(multiplier)?;
        // Kubernetes rounds up what is smaller than its scale.
        let milli = scaled.checked_add(divisor * scale - 1)? / (divisor * scale);
        Some(Self(if negative { -milli } else { milli }))
    }

    /// Thousandths, as CPU is counted.
    pub fn milli(self) -> i64 {
        capped(self.0)
    }

    /// Whole units, rounded up, as memory is counted.
    pub fn units(self) -> i64 {
        capped(self.0.saturating_add(999).div_euclid(1000))
    }

    /// Nothing at all.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a quantity such as 100m or 64Mi")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Quantity::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
            fn visit_i64<E: de::Error>(self, units: i64) -> Result<Quantity, E> {
                Ok(Quantity::whole(units))
            }
            fn visit_u64<E: de::Error>(self, units: u64) -> Result<Quantity, E> {
                Ok(Quantity(i128::from(units) * 1000))
            }
            fn visit_f64<E: de::Error>(self, units: f64) -> Result<Quantity, E> {
                self.visit_str(&units.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The nearest number that fits, with its sign.
fn capped(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX })
}

fn power(suffix: &str) -> Option<i128> {
    let digits = suffix.strip_prefix(['e', 'E'])?;
    10i128.checked_pow(digits.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_write_quantities_in_many_ways() {
        let milli = |text| Quantity::parse(text).map(Quantity::milli);
        assert_eq!(milli("100m"), Some(100));
        assert_eq!(milli("0.5"), Some(500));
        assert_eq!(milli("1.5"), Some(1500));
        assert_eq!(milli("2"), Some(2000));
        assert_eq!(milli("1n"), Some(1));
        assert_eq!(milli("-1"), Some(-1000));
        for bad in ["", "m", "1x", "1.2.3", "--1", "1e99", "e3", "99999999999999999999"] {
            assert_eq!(milli(bad), None, "{bad}");
        }
        let units = |text| Quantity::parse(text).map(Quantity::units);
        assert_eq!(units("64Mi"), Some(64 << 20));
        assert_eq!(units("1e3"), Some(1000));
        assert_eq!(units("1E"), Some(1_000_000_000_000_000_000));
        assert_eq!(units("1500m"), Some(2));
        assert_eq!(units("100E"), Some(i64::MAX));
    }

    #[test]
    fn what_does_not_fit_is_capped_on_its_own_side_of_zero() {
        let both = |text| Quantity::parse(text).map(|amount| (amount.milli(), amount.units()));
        assert_eq!(both("-1E"), Some((i64::MIN, -1_000_000_000_000_000_000)));
        assert_eq!(both("-100Ei"), Some((i64::MIN, i64::MIN)));
        assert_eq!(both("100Ei"), Some((i64::MAX, i64::MAX)));
        assert_eq!(both("999999999999999999e17"), Some((i64::MAX, i64::MAX)));
        for text in ["999999999999999999.999999999e20", "-999999999999999999e18", "999999999999999999e38", "1e-1", "1e99999999999999999999"] {
            let _ = both(text);
        }
        let many = (0..40).filter_map(|_| Quantity::parse("999999999999999999e17")).fold(Quantity::default(), |sum, one| sum + one);
        assert_eq!((many.units(), many.milli()), (i64::MAX, i64::MAX));
    }
}
