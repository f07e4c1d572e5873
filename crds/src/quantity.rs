//! `Quantity`: the fixed-point number of `resources`, `capacity` and size limits.
//!
//! Follows `k8s.io/apimachinery/pkg/api/resource`: the same suffixes, the same rounding (up, to
//! nano), and the same canonical text, in which the suffix family that was read is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

mod parse;

const NANOS: i128 = 1_000_000_000;
/// Largest magnitude kept, in nanos; larger values saturate. Far above Kubernetes' own 2^63.
const MAX_NANOS: i128 = 10_i128.pow(38);

/// A fixed-point number with a suffix family.
///
/// Two quantities are equal when their values are (`1000m == 1`). [`fmt::Display`] and `Serialize`
/// give the canonical text; reading accepts strings and plain JSON numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The suffix family a quantity was written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `n u m k M G T P E`.
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
    /// `e3`, `E-6`.
    DecimalExponent,
}

/// The text is not a quantity. Retrying does not help; the message says what was wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// No digits, or characters that belong to no number.
    #[error(
        "quantities must match the regular expression \
         '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', got {0:?}"
    )]
    Format(String),
    /// The number is fine, its suffix is not.
    #[error("unable to parse quantity's suffix {suffix:?} in {text:?}")]
    Suffix {
        /// The suffix that no family has.
        suffix: String,
        /// The whole text.
        text: String,
    },
}

impl Quantity {
    /// A whole number of bytes, printed with binary suffixes.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Self {
        Self {
            nanos: i128::from(bytes) * NANOS,
            format: Format::BinarySi,
        }
    }

    /// Thousandths, printed with decimal suffixes (`1500m`).
    #[must_use]
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: i128::from(milli) * (NANOS / 1000),
            format: Format::DecimalSi,
        }
    }

    /// A whole number, printed with decimal suffixes.
    #[must_use]
    pub fn from_int(value: i64) -> Self {
        Self {
            nanos: i128::from(value) * NANOS,
            format: Format::DecimalSi,
        }
    }

    /// The suffix family.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The same value, to be printed in another suffix family.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Rounded away from zero to a whole number, saturating at `i64`'s bounds.
    #[must_use]
    pub fn value(&self) -> i64 {
        self.scaled(NANOS)
    }

    /// Thousandths, rounded away from zero, saturating at `i64`'s bounds.
    #[must_use]
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANOS / 1000)
    }

    /// Rounded up to whole bytes; zero when negative.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::try_from(ceil_away(self.nanos, NANOS).max(0)).unwrap_or(u64::MAX)
    }

    /// Nearest floating-point value, for ratios and scores only.
    #[must_use]
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// Whether the value is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether the value is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    fn scaled(&self, unit: i128) -> i64 {
        let scaled = ceil_away(self.nanos, unit);
        i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
    }

    fn combined(self, nanos: i128, other: Self) -> Self {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        Self {
            nanos: nanos.clamp(-MAX_NANOS, MAX_NANOS),
            format,
        }
    }
}

/// Divides, rounding away from zero.
fn ceil_away(value: i128, unit: i128) -> i128 {
    value / unit + (value % unit).signum()
}

impl std::ops::Add for Quantity {
    type Output = Self;
    /// Sum; keeps the left side's suffix family unless it is zero.
    fn add(self, other: Self) -> Self {
        self.combined(self.nanos.saturating_add(other.nanos), other)
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;
    /// Difference; may be negative. Keeps the left side's suffix family unless it is zero.
    fn sub(self, other: Self) -> Self {
        self.combined(self.nanos.saturating_sub(other.nanos), other)
    }
}

impl std::ops::AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::ops::SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::ops::Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self {
            nanos: -self.nanos,
            format: self.format,
        }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |sum, quantity| sum + quantity)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANOS == 0;
        if self.format == Format::BinarySi && whole && self.nanos.abs() >= 1024 * NANOS {
            let (number, steps) = remove_factor(self.nanos / NANOS, 1024, 6);
            return write!(
                f,
                "{number}{}",
                ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][steps]
            );
        }
        if self.format == Format::DecimalExponent {
            let (number, steps) = remove_factor(self.nanos, 1000, usize::MAX);
            return match steps {
                3 => write!(f, "{number}"),
                _ => write!(f, "{number}e{}", steps as i64 * 3 - 9),
            };
        }
        let (number, steps) = remove_factor(self.nanos, 1000, 9);
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][steps];
        write!(f, "{number}{suffix}")
    }
}

/// Divides by `factor` as often as nothing is lost, at most `limit` times.
fn remove_factor(mut value: i128, factor: i128, limit: usize) -> (i128, usize) {
    let mut steps = 0;
    while steps < limit && value != 0 && value % factor == 0 {
        value /= factor;
        steps += 1;
    }
    (value, steps)
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse::parse(text)
    }
}

impl TryFrom<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> for Quantity {
    type Error = ParseQuantityError;
    fn try_from(
        text: &k8s_openapi::apimachinery::pkg::api::resource::Quantity,
    ) -> Result<Self, Self::Error> {
        text.0.parse()
    }
}

impl From<Quantity> for k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 500m, 2 or 1Gi")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Quantity, E> {
                Ok(Quantity::from_int(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Quantity, E> {
                Ok(Quantity::from_bytes(value).with_format(Format::DecimalSi))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Quantity, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Quantity, E> {
                value.trim().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

#[cfg(test)]
mod tests;
