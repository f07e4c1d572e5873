//! Tables after Kubernetes' own behaviour, and properties.

use super::{Format, Quantity};
use proptest::prelude::*;

fn q(text: &str) -> Quantity {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn canonical_text() {
    for (read, printed) in [
        ("0", "0"),
        ("0Ki", "0"),
        ("-0", "0"),
        ("1.5", "1500m"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1000m", "1"),
        ("0.1m", "100u"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1.0000000001", "1000000001n"),
        ("1000", "1k"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("1500e-3", "1500e-3"),
        ("1e-9", "1e-9"),
        ("100e0", "100"),
        ("12E", "12E"),
        ("1000Ki", "1000Ki"),
        ("1023", "1023"),
        ("1023Mi", "1023Mi"),
        ("0.5Ki", "512"),
        ("0.001Ki", "1024m"),
        ("0.0001Ki", "102400u"),
        ("16Ei", "9223372036854775807"),
        ("8Ei", "9223372036854775807"),
        ("4Ei", "4Ei"),
        ("+5", "5"),
        (".5", "500m"),
        ("5.", "5"),
        ("00005", "5"),
        ("100000000000000000000", "100E"),
        ("1e99", "100e27"),
    ] {
        assert_eq!(q(read).to_string(), printed, "{read}");
    }
}

#[test]
fn refused() {
    for text in [
        "", "-", "+", ".", "1.2.3", "abc", "1 Gi", " 1", "1Gi ", "0x10", "1e", "１", "--1", "1-",
    ] {
        assert!(text.parse::<Quantity>().is_err(), "{text}");
    }
    for text in ["1ki", "1KI", "1mi", "1Mm", "1e1.5", "1Ke3"] {
        assert!(text.parse::<Quantity>().is_err(), "{text}");
    }
    let error = "1ki".parse::<Quantity>().unwrap_err().to_string();
    assert_eq!(error, "unable to parse quantity's suffix \"ki\" in \"1ki\"");
}

#[test]
fn scaled_values_round_up() {
    assert_eq!(q("100m").value(), 1);
    assert_eq!(q("-100m").value(), -1);
    assert_eq!(q("1500m").milli_value(), 1500);
    assert_eq!(q("1u").milli_value(), 1);
    assert_eq!(q("2").milli_value(), 2000);
    assert_eq!(q("1Ki").bytes(), 1024);
    assert_eq!(q("-1Ki").bytes(), 0);
    assert_eq!(q("1e30").value(), i64::MAX);
    assert_eq!(q("-1e30").value(), i64::MIN);
    assert_eq!(q("1e30").bytes(), u64::MAX);
}

#[test]
fn arithmetic_keeps_the_suffix_family() {
    assert_eq!((q("1Gi") + q("512Mi")).to_string(), "1536Mi");
    assert_eq!((q("0") + q("1Gi")).to_string(), "1Gi");
    assert_eq!((q("1") - q("250m")).to_string(), "750m");
    assert_eq!((q("1") - q("2")).to_string(), "-1");
    assert_eq!([q("1"), q("500m")].into_iter().sum::<Quantity>(), q("1.5"));
    assert!(q("1Gi") > q("1G"));
    assert_eq!(q("1000m"), q("1"));
    assert_eq!(
        q("1Mi").with_format(Format::DecimalSi).to_string(),
        "1048576"
    );
}

#[test]
fn json_strings_and_numbers() {
    let read: Vec<Quantity> =
        serde_json::from_str(r#"["1Gi", 2, 0.5, 18446744073709551615]"#).unwrap();
    let text = serde_json::to_string(&read).unwrap();
    assert_eq!(text, r#"["1Gi","2","500m","18446744073709551615"]"#);
    assert!(serde_json::from_str::<Quantity>("true").is_err());
    assert!(serde_json::from_str::<Quantity>("null").is_err());
}

#[test]
fn absurd_exponents_are_quick() {
    assert_eq!(q("0e2147483647").to_string(), "0");
    assert_eq!(q("1e2147483647"), q("1e99"));
    assert_eq!(q("1e-2147483648").to_string(), "1e-9");
    let long = format!("0.{}1Ki", "0".repeat(10_000));
    assert_eq!(q(&long).to_string(), "1n");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
        let _ = text.parse::<Quantity>();
    }

    #[test]
    fn canonical_text_is_a_fixed_point(
        number in "-?[0-9]{1,12}(\\.[0-9]{0,12})?",
        suffix in prop::sample::select(vec![
            "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "e3", "e-3", "E5",
        ]),
    ) {
        let first = q(&format!("{number}{suffix}"));
        let again = q(&first.to_string());
        prop_assert_eq!(first, again);
        prop_assert_eq!(first.to_string(), again.to_string());
    }

    #[test]
    fn sums_agree_with_integers(a in -1_000_000_000_i64..1_000_000_000, b in -1_000_000_000_i64..1_000_000_000) {
        let (x, y) = (Quantity::from_milli(a), Quantity::from_milli(b));
        prop_assert_eq!((x + y).milli_value(), a + b);
        prop_assert_eq!((x - y).milli_value(), a - b);
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        prop_assert_eq!((x + y) - y, x);
    }
}
