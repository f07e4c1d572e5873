//! Regular expressions from outside: bounded before and while they are compiled, matched in linear time.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Longer patterns are refused: what the parser makes of one takes up to a thousand times its length.
const LONGEST: usize = 16 * 1024;
/// Compiled programs may take this many bytes.
const PROGRAM_LIMIT: usize = 512 * 1024;
/// Deeper patterns are refused.
const DEEPEST: u32 = 100;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) regex: regex::Regex,
    /// How many states it has, about: a text of n bytes takes up to n times as many steps.
    pub(super) states: u64,
}

/// A pattern as Go writes them, which is what people write for Kubernetes, in the words of the parser here: in a class, `[`, `&`,
/// `~` and `-` are characters wherever they say nothing; a brace that bounds nothing is a character; `\d`, `\s`, `\w` and `\b`
/// know ASCII only.
fn translated(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 16);
    let mut left = source;
    while let Some(character) = next(&mut left) {
        match character {
            '\\' => match next(&mut left) {
                Some(escaped) => escape(escaped, false, &mut out),
                None => out.push(character),
            },
            '[' => class(&mut left, &mut out),
            '{' if !bounds(left) => out.push_str("\\{"),
            _ => out.push(character),
        }
    }
    out
}

fn next(left: &mut &str) -> Option<char> {
    let character = left.chars().next()?;
    *left = left.get(character.len_utf8()..).unwrap_or_default();
    Some(character)
}

/// A class, behind its opening bracket.
fn class(left: &mut &str, out: &mut String) {
    out.push('[');
    if let Some(rest) = left.strip_prefix('^') {
        *left = rest;
        out.push('^');
    }
    let mut is_first = true;
    // Right behind its start, `]` is a character.
    while is_first || !left.starts_with(']') {
        is_first = false;
        if let Some(length) = named_class(left) {
            let (named, rest) = left.split_at(length);
            out.push_str(named);
            *left = rest;
        } else if !item(left, out) {
            return;
        }
        if let Some(rest) = left.strip_prefix('-')
            && !rest.starts_with(']')
        {
            *left = rest;
            out.push('-');
            item(left, out);
        }
    }
    *left = left.strip_prefix(']').unwrap_or(left);
    out.push(']');
}

/// The length of a class such as `[:alpha:]`.
fn named_class(left: &str) -> Option<usize> {
    let inside = left.strip_prefix("[:")?;
    let end = inside.find(":]")?;
    let plain = |byte: u8| byte.is_ascii_alphabetic() || byte == b'^';
    let named = inside.get(..end)?.bytes().all(plain);
    named.then_some(end + 4)
}

/// One character of a class; false at the end of the pattern.
fn item(left: &mut &str, out: &mut String) -> bool {
    match next(left) {
        None => return false,
        Some('\\') => match next(left) {
            Some(escaped) => escape(escaped, true, out),
            None => out.push('\\'),
        },
        Some(character) => {
            if matches!(character, '[' | ']' | '&' | '~' | '-' | '^') {
                out.push('\\');
            }
            out.push(character);
        }
    }
    true
}

fn escape(escaped: char, in_class: bool, out: &mut String) {
    let (inside, outside) = match escaped {
        'd' => ("0-9", "[0-9]"),
        'D' => ("[^0-9]", "[^0-9]"),
        's' => ("\\t\\n\\x0c\\r ", "[\\t\\n\\x0c\\r ]"),
        'S' => ("[^\\t\\n\\x0c\\r ]", "[^\\t\\n\\x0c\\r ]"),
        'w' => ("0-9A-Za-z_", "[0-9A-Za-z_]"),
        'W' => ("[^0-9A-Za-z_]", "[^0-9A-Za-z_]"),
        'b' if !in_class => ("", "(?-u:\\b)"),
        // Signs that the parser here gives a meaning.
        '<' => ("<", "<"),
        '>' => (">", ">"),
        _ => {
            out.push('\\');
            out.push(escaped);
            return;
        }
    };
    out.push_str(if in_class { inside } else { outside });
}

/// Whether what follows a brace is a bound: `3}`, `3,}` or `3,5}`.
fn bounds(rest: &str) -> bool {
    let Some((inside, _)) = rest.split_once('}') else {
        return false;
    };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

/// What a pattern means, before it becomes a program.
///
/// # Errors
/// Text for the user.
pub(super) fn parse(source: &str) -> Result<Hir, String> {
    if source.len() > LONGEST {
        return Err(format!("the pattern is longer than {LONGEST} bytes"));
    }
    let mut parser = regex_syntax::ParserBuilder::new()
        .nest_limit(DEEPEST)
        .build();
    parser
        .parse(&translated(source))
        .map_err(|error| invalid(&error))
}

/// Compiles a pattern.
///
/// # Errors
/// Text for the user: it makes no sense, is too long, too deep or stands for too much.
pub(super) fn compile(source: &str) -> Result<Compiled, String> {
    let states = states(&parse(source)?);
    let regex = regex::RegexBuilder::new(&translated(source))
        .size_limit(PROGRAM_LIMIT)
        .dfa_size_limit(PROGRAM_LIMIT)
        .nest_limit(DEEPEST)
        .build()
        .map_err(|error| invalid(&error))?;
    Ok(Compiled { regex, states })
}

fn invalid(error: &dyn std::fmt::Display) -> String {
    format!("not a valid pattern: {error}")
}

/// About how many states the program has.
pub(super) fn states(pattern: &Hir) -> u64 {
    match pattern.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(Class::Bytes(_)) => 1,
        // The ranges that are not ASCII take a few states each; most classes have none.
        HirKind::Class(Class::Unicode(class)) => 1 + class.ranges().len() as u64 / 8,
        HirKind::Capture(group) => states(&group.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts
            .iter()
            .map(states)
            .fold(1, |sum: u64, part| sum.saturating_add(part)),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            states(&repetition.sub).saturating_mul(times.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go's readings; some are from public definitions.
    #[test]
    fn patterns_are_read_as_go_reads_them() {
        let table = [
            (r#"^[^()<>@,;:\\"\/[\]?={} \t\x7f\x00]+$"#, "name", "na[me"),
            (r"^[[a]+$", "[a", "b"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[^]a]+$", "b", "]"),
            (r"^[[:alpha:]_[]+$", "a_[", "1"),
            (r"^[a&&b~~-]+$", "&~-a", "c"),
            (r"^[+--]+$", "+,-", "."),
            (r"^\d+$", "12", "١٢"),
            (r"^[\d\s]+$", "1 2", "\u{a0}"),
            (r"^\w+$", "a_1", "ä"),
            (r"^[^\W]+$", "a", "ä"),
            (r"^\$\{[a-z]+}$", "${a}", "a"),
            (r"^{{.*}}$", "{{x}}", "x"),
            (r"^a{,2}$", "a{,2}", "aa"),
            (r"^a{2}b{1,}c{1,2}$", "aabcc", "abc"),
            (r"^\<a\>$", "<a>", "a"),
            (r"\bfoo\b", "a foo b", "food"),
            (r"^https?:\/\/.*$", "http://x", "x"),
        ];
        for (source, yes, no) in table {
            let compiled = compile(source).unwrap_or_else(|why| panic!("{source}: {why}"));
            assert!(compiled.regex.is_match(yes), "{source} {yes}");
            assert!(!compiled.regex.is_match(no), "{source} {no}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics(source in "[a-z\\[\\]\\\\{}^$&~:<>0-9,.*+?()|-]{0,24}", text in "\\PC{0,20}") {
            if let Ok(compiled) = compile(&source) {
                let _ = compiled.regex.is_match(&text);
            }
        }
    }

    #[test]
    fn patterns_are_weighed_before_they_are_compiled() {
        let weight = |source: &str| states(&parse(source).unwrap());
        assert!(weight("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$") < 20);
        assert!(weight("(a{100}){100}") >= 10_000);
        assert!(weight("((a{1000}){1000}){1000}") >= 1_000_000_000);
        assert!(compile("((a{1000}){1000}){1000}").is_err());
        assert!(parse(&"a".repeat(LONGEST + 1)).is_err());
        assert!(parse(&format!("{}a{}", "(".repeat(200), ")".repeat(200))).is_err());
        assert!(compile("^a+$").unwrap().regex.is_match("aaa"));
    }
}
