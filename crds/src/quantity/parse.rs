//! Reading a quantity's text exactly: no floating point, any number of digits.

use super::{Format, MAX_NANOS, NANOS, ParseQuantityError, Quantity};

/// What a suffix multiplies by.
enum Scale {
    /// A power of two, in bits.
    Binary(u32),
    /// A power of ten.
    Decimal(i32, Format),
}

pub(super) fn parse(text: &str) -> Result<Quantity, ParseQuantityError> {
    let malformed = || ParseQuantityError::Format(text.to_owned());
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(malformed());
    }
    let scale = scale_of(suffix).ok_or_else(|| {
        if is_suffix_shaped(suffix) {
            ParseQuantityError::Suffix {
                suffix: suffix.to_owned(),
                text: text.to_owned(),
            }
        } else {
            malformed()
        }
    })?;
    let (nanos, format) = match scale {
        Scale::Binary(bits) => binary(whole, fraction, bits),
        Scale::Decimal(exponent, format) => (decimal(whole, fraction, exponent), format),
    };
    Ok(Quantity {
        nanos: if negative { -nanos } else { nanos },
        format,
    })
}

fn scale_of(suffix: &str) -> Option<Scale> {
    let decimal = |exponent| Some(Scale::Decimal(exponent, Format::DecimalSi));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => Some(Scale::Binary(10)),
        "Mi" => Some(Scale::Binary(20)),
        "Gi" => Some(Scale::Binary(30)),
        "Ti" => Some(Scale::Binary(40)),
        "Pi" => Some(Scale::Binary(50)),
        "Ei" => Some(Scale::Binary(60)),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            Some(Scale::Decimal(exponent, Format::DecimalExponent))
        }
    }
}

/// Whether the suffix has the shape of one, so that the error can speak of it alone.
fn is_suffix_shaped(suffix: &str) -> bool {
    let digits = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    digits.bytes().all(|b| b.is_ascii_digit())
}

/// `whole.fraction * 10^exponent` in nanos, rounded up.
fn decimal(whole: &str, fraction: &str, exponent: i32) -> i128 {
    let digits: Vec<u8> = whole
        .bytes()
        .chain(fraction.bytes())
        .map(|b| b - b'0')
        .collect();
    if digits.iter().all(|&digit| digit == 0) {
        return 0;
    }
    // Where the decimal point of the nanos stands, counted in digits from the left.
    let point = whole.len() as i64 + i64::from(exponent) + 9;
    let kept = usize::try_from(point.max(0)).unwrap_or(usize::MAX);
    let mut nanos: i128 = 0;
    for index in 0..kept {
        if nanos >= MAX_NANOS / 10 {
            return MAX_NANOS;
        }
        nanos = nanos * 10 + i128::from(digits.get(index).copied().unwrap_or(0));
    }
    let lost = digits.iter().skip(kept).any(|&digit| digit != 0);
    nanos + i128::from(lost)
}

/// `whole.fraction * 2^bits` in nanos, rounded up and capped at 2^63-1 units as Kubernetes does.
fn binary(whole: &str, fraction: &str, bits: u32) -> (i128, Format) {
    const CAP: i128 = i64::MAX as i128 * NANOS;
    let unit = (1_i128 << bits) * NANOS;
    let mut units: i128 = 0;
    for digit in whole.bytes() {
        units = units * 10 + i128::from(digit - b'0');
        if units > i128::from(i64::MAX) {
            return (CAP, Format::BinarySi);
        }
    }
    // Horner from the last digit: exact, because floors of floors by ten compose.
    let (mut part, mut lost) = (0_i128, false);
    for digit in fraction.bytes().rev() {
        let sum = part + i128::from(digit - b'0') * unit;
        lost |= sum % 10 != 0;
        part = sum / 10;
    }
    let total = units
        .saturating_mul(unit)
        .saturating_add(part + i128::from(lost))
        .min(CAP);
    let format = if total < NANOS && total > 0 {
        Format::DecimalSi
    } else {
        Format::BinarySi
    };
    (total, format)
}
