//! What Kubernetes documents of its functions, as tables.
use serde_json::{Value, json};

use crate::schema::cel::{Expression, Scope, to_json};

fn evaluate(source: &str) -> Result<Value, String> {
    let expression = Expression::compile(source, &[])?;
    to_json(&expression.evaluate(&Scope::default())?)
}

fn all(table: &[(&str, Value)]) {
    for (source, expected) in table {
        assert_eq!(evaluate(source).as_ref(), Ok(expected), "{source}");
    }
}

fn refused(sources: &[&str]) {
    for source in sources {
        assert!(evaluate(source).is_err(), "{source}");
    }
}

#[test]
fn addresses() {
    all(&[
        ("isIP('127.0.0.1') && isIP('::1')", json!(true)),
        (
            "isIP('127.0.0.256') || isIP('::ffff:1.2.3.4') || isIP('fe80::1%eth0')",
            json!(false),
        ),
        ("string(ip('192.168.0.1'))", json!("192.168.0.1")),
        ("ip('192.168.0.1').family()", json!(4)),
        ("ip('2001:db8::abcd').family()", json!(6)),
        ("ip('127.0.0.1') == ip('127.0.0.1')", json!(true)),
        ("ip('2001:DB8::ABCD') == ip('2001:db8::abcd')", json!(true)),
        ("ip('127.0.0.1') == ip('127.0.0.2')", json!(false)),
        (
            "ip.isCanonical('127.0.0.1') && ip.isCanonical('2001:db8::abcd')",
            json!(true),
        ),
        ("ip.isCanonical('2001:DB8::ABCD')", json!(false)),
        (
            "ip('0.0.0.0').isUnspecified() && ip('::').isUnspecified()",
            json!(true),
        ),
        (
            "ip('127.0.0.1').isLoopback() && !ip('10.0.0.1').isLoopback()",
            json!(true),
        ),
        (
            "ip('224.0.0.1').isLinkLocalMulticast() && ip('ff02::1').isLinkLocalMulticast()",
            json!(true),
        ),
        ("ip('224.0.1.1').isLinkLocalMulticast()", json!(false)),
        (
            "ip('169.254.169.254').isLinkLocalUnicast() && ip('fe80::1').isLinkLocalUnicast()",
            json!(true),
        ),
        (
            "ip('192.168.0.1').isGlobalUnicast() && ip('2001:db8::abcd').isGlobalUnicast()",
            json!(true),
        ),
        (
            "ip('255.255.255.255').isGlobalUnicast() || ip('ff00::1').isGlobalUnicast()",
            json!(false),
        ),
    ]);
    refused(&[
        "ip('127.0.0.256')",
        "ip('::ffff:1.2.3.4')",
        "'x'.family()",
        "ip.isCanonical('x')",
    ]);
}

#[test]
fn ranges() {
    all(&[
        ("isCIDR('192.168.0.0/16') && isCIDR('::1/128')", json!(true)),
        (
            "isCIDR('192.168.0.0/33') || isCIDR('192.168.0.1')",
            json!(false),
        ),
        (
            "cidr('192.168.0.0/24').containsIP(ip('192.168.0.1'))",
            json!(true),
        ),
        (
            "cidr('192.168.0.0/24').containsIP('192.168.1.1')",
            json!(false),
        ),
        (
            "cidr('192.168.0.0/16').containsCIDR(cidr('192.168.10.0/24'))",
            json!(true),
        ),
        (
            "cidr('192.168.1.0/24').containsCIDR('192.168.0.0/16')",
            json!(false),
        ),
        (
            "cidr('192.168.0.1/24').ip() == ip('192.168.0.1')",
            json!(true),
        ),
        ("cidr('192.168.0.1/24').ip().family()", json!(4)),
        (
            "cidr('192.168.0.1/24').masked() == cidr('192.168.0.0/24')",
            json!(true),
        ),
        ("cidr('192.168.0.0/16').prefixLength()", json!(16)),
        ("string(cidr('192.168.0.0/16'))", json!("192.168.0.0/16")),
    ]);
    refused(&[
        "cidr('192.168.0.0/33')",
        "cidr('10.0.0.0/8').containsIP('x')",
        "ip('::1').masked()",
    ]);
}

#[test]
fn urls() {
    all(&[
        (
            "isURL('https://user:pass@example.com:80/path?query=val') && isURL('/absolute')",
            json!(true),
        ),
        (
            "isURL('relative') || isURL('../up') || isURL('https://a:b:c/') || isURL('https://a b/')",
            json!(false),
        ),
        ("isURL('https://a/%zz') || isURL('')", json!(false)),
        ("url('https://example.com/').getScheme()", json!("https")),
        (
            "url('/path').getScheme() + url('/path').getHost()",
            json!(""),
        ),
        (
            "url('https://u:p@example.com:80/').getHost()",
            json!("example.com:80"),
        ),
        (
            "url('https://example.com:80/').getHostname()",
            json!("example.com"),
        ),
        ("url('https://[::1]:80/').getHostname()", json!("::1")),
        ("url('https://[::1]:80/').getHost()", json!("[::1]:80")),
        ("url('https://[::1]:80/').getPort()", json!("80")),
        ("url('https://example.com/').getPort()", json!("")),
        (
            "url('https://example.com/path with'.replace(' ', '%20')).getEscapedPath()",
            json!("/path%20with"),
        ),
        ("url('https://example.com').getEscapedPath()", json!("")),
        (
            "url('https://example.com/?k1=a&k2=b&k1=c').getQuery()",
            json!({"k1": ["a", "c"], "k2": ["b"]}),
        ),
        (
            "url('https://example.com/path').getQuery().size()",
            json!(0),
        ),
    ]);
    refused(&["url('relative')", "'x'.getHost()"]);
}

#[test]
fn versions() {
    all(&[
        (
            "isSemver('1.0.0') && isSemver('1.0.0-beta.1+build.7')",
            json!(true),
        ),
        (
            "isSemver('v1.0') || isSemver('1.0') || isSemver('200K') || isSemver('01.0.0')",
            json!(false),
        ),
        (
            "isSemver('v1.0', true) && isSemver('01.01.01', true) && isSemver('v1-a', true)",
            json!(true),
        ),
        ("semver('v1.2', true) == semver('1.2.0')", json!(true)),
        ("semver('1.0.0+a') == semver('1.0.0+b')", json!(true)),
        (
            "semver('1.2.3').major() * 100 + semver('1.2.3').minor() * 10 + semver('1.2.3').patch()",
            json!(123),
        ),
        ("semver('1.2.3').compareTo(semver('2.0.0'))", json!(-1)),
        (
            "semver('2.0.0').isGreaterThan(semver('1.2.3')) && semver('1.0.0-a').isLessThan(semver('1.0.0'))",
            json!(true),
        ),
        ("quantity('1').compareTo(quantity('1k'))", json!(-1)),
    ]);
    refused(&[
        "semver('1.0')",
        "semver('1.0.0').isLessThan(quantity('1'))",
        "quantity('1').major()",
    ]);
}

#[test]
fn texts_of_values() {
    all(&[
        (
            "'%s has %d of %s'.format(['a', 3, true])",
            json!("a has 3 of true"),
        ),
        ("'%s %s %s'.format([null, 1.5, 7u])", json!("null 1.5 7")),
        ("'%s'.format([[1, 'a', {'k': 2}]])", json!("[1, a, {k: 2}]")),
        ("'%s'.format([duration('1h30m')])", json!("5400s")),
        ("'%s'.format([duration('1500ms')])", json!("1.5s")),
        (
            "'%s'.format([timestamp('2023-02-03T23:31:20Z')])",
            json!("2023-02-03T23:31:20Z"),
        ),
        ("'%s'.format([ip('10.0.0.1')])", json!("10.0.0.1")),
        (
            "'%f %.2f %.0f'.format([1.5, 2.345678, 3.0])",
            json!("1.500000 2.35 3"),
        ),
        (
            "'%e %.1e'.format([1500.0, 0.00012])",
            json!("1.500000e+03 1.2e-04"),
        ),
        ("'%b %b %o'.format([5, true, 8])", json!("101 1 10")),
        ("'%x %X %x'.format([255, 255, 'hi'])", json!("ff FF 6869")),
        ("'%x'.format([-10])", json!("-a")),
        ("'100%%'.format([])", json!("100%")),
    ]);
    refused(&[
        "'%s'.format([])",
        "'%d'.format(['a'])",
        "'%z'.format([1])",
        "'%'.format([1])",
        "'%.9999999f'.format([1.0])",
    ]);
}
