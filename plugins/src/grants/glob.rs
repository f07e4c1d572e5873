//! Globs of names and paths: `*` is any run of characters, `?` is one.

/// A pattern that is matched against whole strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob(String);

impl Glob {
    pub(crate) fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn matches_everything(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|byte| byte == b'*')
    }

    /// Linear in practice: on a mismatch only the last star is widened.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while let Some(&byte) = text.get(t) {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(&wanted) if wanted == b'?' || wanted == byte => {
                    p += 1;
                    t += 1;
                }
                _ => match &mut star {
                    Some((at, from)) => {
                        *from += 1;
                        (p, t) = (*at + 1, *from);
                    }
                    None => return false,
                },
            }
        }
        pattern
            .get(p..)
            .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("lan-*", "lan-0", true),
            ("lan-*", "lan", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.example.com", "nas.example.com", true),
            ("*.example.com", "example.com", false),
            (
                "net.ipv4.conf.*.arp_*",
                "net.ipv4.conf.eth0.arp_ignore",
                true,
            ),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(text),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(Glob::new("**").matches_everything());
        assert!(!Glob::new("?*").matches_everything());
    }

    proptest! {
        #[test]
        fn without_stars_only_itself(a in "[ab]{0,6}", b in "[ab]{0,6}") {
            prop_assert_eq!(Glob::new(a.clone()).matches(&b), a == b);
        }

        #[test]
        fn long_inputs_end(stars in 1_usize..20, length in 0_usize..200) {
            let pattern = "*a".repeat(stars);
            prop_assert_eq!(Glob::new(pattern).matches(&"a".repeat(length)), length >= stars);
        }
    }
}
