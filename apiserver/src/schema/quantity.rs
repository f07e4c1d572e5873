//! Quantities in objects: checked and brought into canonical form while decoding, as Kubernetes
//! does by its own round trip.

use std::borrow::Cow;

use davit_api::Quantity;

/// What Kubernetes says about a text that is no quantity.
pub(crate) const FORMAT: &str = "quantities must match the regular expression \
     '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The canonical text of a quantity, or `None` if it is not one.
pub(crate) fn canonical(text: &str) -> Option<Cow<'_, str>> {
    if is_plain_canonical(text) {
        return Some(Cow::Borrowed(text));
    }
    let parsed: Quantity = text.parse().ok()?;
    let canonical = parsed.to_string();
    Some(if canonical == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(canonical)
    })
}

/// Up to 9 digits that neither start nor end with a zero, then at most one `m` or binary suffix
/// with an odd number: canonical without a closer look.
fn is_plain_canonical(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let plain = (1..=9).contains(&digits) && !number.starts_with('0') && !number.ends_with('0');
    match suffix {
        "" | "m" => plain,
        "Ki" | "Mi" | "Gi" => plain && number.bytes().last().is_some_and(|b| b % 2 == 1),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        let table = [
            ("1", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("128Mi", "128Mi"),
            ("1024Mi", "1Gi"),
            ("1025Mi", "1025Mi"),
            ("0", "0"),
            ("1e3", "1e3"),
            ("010", "10"),
            ("1000", "1k"),
        ];
        for (text, expected) in table {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "x", "1X", "Mi", "1 Gi", "--1"] {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_short_cut_agrees_with_the_parser(text in "[0-9]{1,15}(m|Ki|Mi|Gi)?") {
            let parsed: Quantity = text.parse().unwrap();
            let canonical = canonical(&text).unwrap();
            proptest::prop_assert_eq!(canonical.as_ref(), parsed.to_string());
        }

        #[test]
        fn any_text_is_taken_or_refused(text in ".{0,40}") {
            let _ = canonical(&text);
        }
    }
}
