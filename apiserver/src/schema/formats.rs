//! String formats: those that built-in types decode, and those that custom schemas may ask for.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The offset of the first byte that keeps a text from being standard base64 with padding.
pub(crate) fn base64_fault(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let padding = bytes
        .iter()
        .rev()
        .take_while(|b| **b == b'=')
        .count()
        .min(2);
    let data = bytes.len() - padding;
    let good = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    if let Some(at) = bytes.iter().take(data).position(|b| !good(b)) {
        return Some(at);
    }
    let whole = bytes.len().is_multiple_of(4) && (padding == 0 || data % 4 == 4 - padding);
    (!whole).then_some(bytes.len())
}

/// Whether `text` has the named format. Formats that nobody knows are always satisfied.
pub(crate) fn matches(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => duration_nanos(text).is_some(),
        "byte" => base64_fault(text).is_none(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.parse::<ipnet::IpNet>().is_ok(),
        "mac" => mac(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some(b'3')),
        "uuid4" => uuid(text, Some(b'4')),
        "uuid5" => uuid(text, Some(b'5')),
        "email" => email(text),
        "hostname" => hostname(text),
        "uri" => text
            .parse::<http::Uri>()
            .is_ok_and(|u| u.scheme().is_some() || !text.is_empty()),
        "hexcolor" => hex_color(text),
        "rgbcolor" => rgb_color(text),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "isbn" => isbn10(text) || isbn13(text),
        "creditcard" => credit_card(text),
        "ssn" => {
            shape(text, "ddd-dd-dddd") || shape(text, "ddd dd dddd") || shape(text, "ddddddddd")
        }
        "k8s-short-name" => crate::strategy::names::dns_label(text).is_none(),
        "k8s-long-name" => crate::strategy::names::dns_subdomain(text).is_none(),
        _ => true,
    }
}

/// Parses a Go duration such as `1h30m` or `-1.5s` into nanoseconds.
pub(crate) fn duration_nanos(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_f64;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest
            .bytes()
            .take_while(|b| b.is_ascii_digit() || *b == b'.')
            .count();
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let units = rest
            .bytes()
            .take_while(|b| !b.is_ascii_digit() && *b != b'.')
            .count();
        total += number
            * match rest.get(..units)? {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = rest.get(units..)?;
        parts += 1;
    }
    (parts > 0 && total < 9.2e18).then_some(if negative {
        -total as i64
    } else {
        total as i64
    })
}

fn mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let groups: Vec<&str> = text.split(separator).collect();
    matches!(groups.len(), 6 | 8 | 20)
        && groups
            .iter()
            .all(|g| g.len() == 2 && g.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn uuid(text: &str, version: Option<u8>) -> bool {
    let hex: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    let hyphens = shape(text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") || text.len() == 32;
    let versioned = version.is_none_or(|v| {
        let variant = hex
            .get(16)
            .is_some_and(|b| matches!(b | 0x20, b'8' | b'9' | b'a' | b'b'));
        hex.get(12) == Some(&v) && (v == b'3' || variant)
    });
    hyphens && hex.len() == 32 && hex.iter().all(u8::is_ascii_hexdigit) && versioned
}

fn email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let local_ok = !local.is_empty()
        && !local.starts_with('.')
        && !local.ends_with('.')
        && local
            .chars()
            .all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c));
    local_ok && hostname(domain)
}

fn hostname(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= 253
        && !text.is_empty()
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

fn rgb_color(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|t| t.strip_suffix(')'));
    inner.is_some_and(|inner| {
        let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
        parts.len() == 3 && parts.iter().all(|p| p.parse::<u8>().is_ok())
    })
}

fn digits(text: &str) -> Option<Vec<u32>> {
    text.chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| c.to_digit(10))
        .collect()
}

fn isbn10(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let value = |at: usize, c: &char| match c {
        'X' if at == 9 => Some(10),
        c => c.to_digit(10),
    };
    let values: Option<Vec<u32>> = plain.iter().enumerate().map(|(i, c)| value(i, c)).collect();
    values.is_some_and(|v| {
        v.len() == 10 && v.iter().zip(1..).map(|(d, n)| d * n).sum::<u32>() % 11 == 0
    })
}

fn isbn13(text: &str) -> bool {
    digits(text).is_some_and(|v| {
        let sum: u32 = v
            .iter()
            .enumerate()
            .map(|(i, d)| if i % 2 == 0 { *d } else { d * 3 })
            .sum();
        v.len() == 13 && sum.is_multiple_of(10)
    })
}

fn credit_card(text: &str) -> bool {
    digits(text).is_some_and(|v| {
        let doubled = |(i, d): (usize, &u32)| match i % 2 {
            0 => *d,
            _ if *d > 4 => d * 2 - 9,
            _ => d * 2,
        };
        let sum: u32 = v.iter().rev().enumerate().map(doubled).sum();
        (13..=19).contains(&v.len()) && sum.is_multiple_of(10)
    })
}

/// Compares with a pattern of `d` (digit), `x` (hexadecimal digit) and literal characters.
fn shape(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(t, p)| match p {
            b'd' => t.is_ascii_digit(),
            b'x' => t.is_ascii_hexdigit(),
            p => t == p,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_and_refuse() {
        let table = [
            ("date-time", "2024-02-29T12:00:00Z", "2024-02-30T12:00:00Z"),
            ("date", "2024-02-29", "2023-02-29"),
            ("duration", "1h30m", "1y"),
            ("byte", "aGVsbG8=", "aGVsbG8"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", ":::1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:11:22:33:44:55", "00:11:22:33:44"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            (
                "uuid4",
                "123e4567-e89b-42d3-a456-426614174000",
                "123e4567-e89b-12d3-a456-426614174000",
            ),
            ("email", "a.b@example.com", "a.b"),
            ("hostname", "example.com", "-a.com"),
            ("hexcolor", "#fff", "#ffff"),
            ("rgbcolor", "rgb(1, 2, 255)", "rgb(1,2,256)"),
            ("isbn13", "978-3-16-148410-0", "978-3-16-148410-1"),
            ("isbn10", "3-16-148410-X", "3-16-148410-0"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("ssn", "111-22-3333", "111-2-3333"),
        ];
        for (format, good, bad) in table {
            assert!(matches(format, good), "{format} {good}");
            assert!(!matches(format, bad), "{format} {bad}");
        }
        assert!(matches("no-such-format", "x"));
    }

    #[test]
    fn base64_faults_have_a_place() {
        assert_eq!(base64_fault(""), None);
        assert_eq!(base64_fault("YQ=="), None);
        assert_eq!(base64_fault("YWI="), None);
        assert_eq!(base64_fault("Y!=="), Some(1));
        assert_eq!(base64_fault("YQ"), Some(2));
        assert_eq!(base64_fault("===="), Some(0));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_a_format(text in ".{0,40}") {
            for format in ["date-time", "date", "duration", "mac", "uuid4", "email", "hostname",
                "uri", "hexcolor", "rgbcolor", "isbn", "creditcard", "ssn", "byte", "cidr"] {
                let _ = matches(format, &text);
            }
        }
    }
}
