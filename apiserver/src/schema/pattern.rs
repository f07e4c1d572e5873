//! Regular expressions from outside: bounded before and while they are compiled, matched in linear time.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Longer patterns are refused: what the parser makes of one takes up to a thousand times its length.
const LONGEST: usize = 16 * 1024;
/// Compiled programs may take this many bytes.
pub(super) const PROGRAM_LIMIT: usize = 512 * 1024;
/// Deeper patterns are refused.
const DEEPEST: u32 = 100;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) regex: regex::Regex,
    /// How many states it has, about: a text of n bytes takes up to n times as many steps.
    pub(super) states: u64,
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
    parser.parse(source).map_err(|error| invalid(&error))
}

/// Compiles a pattern.
///
/// # Errors
/// Text for the user: it makes no sense, is too long, too deep or stands for too much.
pub(super) fn compile(source: &str) -> Result<Compiled, String> {
    let states = states(&parse(source)?);
    let regex = regex::RegexBuilder::new(source)
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
