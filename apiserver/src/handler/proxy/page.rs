//! Links in pages that come through a proxy: those that lead to the proxied server lead through the proxy, as apimachinery's
//! proxy transport has it.
//!
//! A page is read as it comes and passed on byte for byte, but for values of attributes that hold one URL.

/// Attributes with a URL, by the name of their element.
const LINKS: [(&str, &[&str]); 26] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "formaction", "usemap"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("track", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose content holds no tags but their own end.
const RAW: [&str; 8] = [
    "script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes",
];

/// A tag longer than this is passed on as it is.
const LONGEST_TAG: usize = 64 << 10;

/// Where in a page the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    Comment,
    /// In the content of such an element.
    Raw(&'static str),
}

/// Rewrites the links of one page.
#[derive(Debug)]
pub(super) struct Page<F> {
    rewrite: F,
    place: Place,
    /// What came and is not decided yet.
    pending: Vec<u8>,
}

impl<F: Fn(&str) -> Option<String>> Page<F> {
    /// `rewrite` gives what a link is to be instead, if it is to be anything else.
    pub(super) fn new(rewrite: F) -> Self {
        Self {
            rewrite,
            place: Place::Text,
            pending: Vec::new(),
        }
    }

    /// Takes a piece of the page; what of it and of earlier ones is ready.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(piece);
        let input = std::mem::take(&mut self.pending);
        let mut out = Vec::with_capacity(input.len());
        let mut rest = input.as_slice();
        while let Some(used) = self.step(rest, &mut out) {
            rest = rest.get(used..).unwrap_or_default();
        }
        self.pending = rest.to_vec();
        out
    }

    /// The page is over; what was held back.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// Passes on what is decided at the beginning of `input`; how much that was, none when more has to come.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if input.is_empty() {
            return None;
        }
        let used = match self.place {
            Place::Text => return self.text(input, out),
            Place::Comment => match find(input, b"-->") {
                Some(at) => {
                    self.place = Place::Text;
                    at + 3
                }
                None => input.len().saturating_sub(2),
            },
            Place::Raw(name) => match find_end_tag(input, name) {
                Some(at) => {
                    self.place = Place::Text;
                    at
                }
                None => input.len().saturating_sub(name.len() + 2),
            },
        };
        let passed = input.get(..used)?;
        out.extend_from_slice(passed);
        (used > 0 || self.place == Place::Text).then_some(used)
    }

    fn text(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let Some(at) = input.iter().position(|byte| *byte == b'<') else {
            out.extend_from_slice(input);
            return Some(input.len());
        };
        if at > 0 {
            out.extend_from_slice(input.get(..at)?);
            return Some(at);
        }
        let begins_comment = b"<!--".starts_with(input.get(..input.len().min(4))?);
        match input.get(1) {
            _ if begins_comment && input.len() < 4 => None,
            _ if begins_comment => {
                self.place = Place::Comment;
                out.extend_from_slice(b"<!--");
                Some(4)
            }
            Some(byte) if byte.is_ascii_alphabetic() => match Tag::read(input) {
                Some(tag) => {
                    self.tag(input, &tag, out);
                    Some(tag.end)
                }
                None if input.len() > LONGEST_TAG => {
                    out.push(b'<');
                    Some(1)
                }
                None => None,
            },
            Some(_) => {
                out.push(b'<');
                Some(1)
            }
            None => None,
        }
    }

    fn tag(&mut self, input: &[u8], tag: &Tag, out: &mut Vec<u8>) {
        let links = LINKS.iter().find(|(name, _)| *name == tag.name);
        let mut done = 0;
        for (name, range) in &tag.attributes {
            if !links.is_some_and(|(_, links)| links.contains(&name.as_str())) {
                continue;
            }
            let value = input.get(range.clone()).map(std::str::from_utf8);
            let Some(Ok(value)) = value else { continue };
            if let Some(new) = (self.rewrite)(value) {
                out.extend_from_slice(input.get(done..range.start).unwrap_or_default());
                out.extend_from_slice(new.as_bytes());
                done = range.end;
            }
        }
        out.extend_from_slice(input.get(done..tag.end).unwrap_or_default());
        if let Some(raw) = RAW.iter().find(|name| **name == tag.name) {
            self.place = Place::Raw(raw);
        }
    }
}

/// A start tag.
#[derive(Debug)]
struct Tag {
    /// In lower case.
    name: String,
    /// Names, in lower case, and where their values are, without quotes.
    attributes: Vec<(String, std::ops::Range<usize>)>,
    /// Behind the `>`.
    end: usize,
}

impl Tag {
    /// Reads a tag that begins here; none if its end is not here.
    fn read(input: &[u8]) -> Option<Self> {
        let until = |from: usize, stop: &dyn Fn(u8) -> bool| {
            let rest = input.get(from..)?;
            Some(from + rest.iter().position(|byte| stop(*byte))?)
        };
        let lower = |from: usize, to: usize| {
            let bytes = input.get(from..to).unwrap_or_default();
            String::from_utf8_lossy(bytes).to_ascii_lowercase()
        };
        let space = |byte: u8| byte.is_ascii_whitespace() || byte == b'\x0b';
        let ends_name = |byte: u8| space(byte) || byte == b'/' || byte == b'>';
        let mut at = until(1, &ends_name)?;
        let name = lower(1, at);
        let mut attributes = Vec::new();
        loop {
            at = until(at, &|byte| !space(byte) && byte != b'/')?;
            if input.get(at) == Some(&b'>') {
                let end = at + 1;
                return Some(Self {
                    name,
                    attributes,
                    end,
                });
            }
            // A name may begin with an equals sign.
            let name_end = until(at + 1, &|byte| ends_name(byte) || byte == b'=')?;
            let attribute = lower(at, name_end);
            at = until(name_end, &|byte| !space(byte))?;
            if input.get(at) != Some(&b'=') {
                continue;
            }
            at = until(at + 1, &|byte| !space(byte))?;
            let quote = input
                .get(at)
                .copied()
                .filter(|byte| matches!(byte, b'"' | b'\''));
            let (from, to) = match quote {
                Some(quote) => (at + 1, until(at + 1, &|byte| byte == quote)?),
                None => (at, until(at, &|byte| space(byte) || byte == b'>')?),
            };
            // Of two of one name the first counts, and the second does not matter.
            attributes.push((attribute, from..to));
            at = if quote.is_some() { to + 1 } else { to };
        }
    }
}

fn find(input: &[u8], wanted: &[u8]) -> Option<usize> {
    input
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// Where `</name` is.
fn find_end_tag(input: &[u8], name: &str) -> Option<usize> {
    input.windows(name.len() + 2).position(|window| {
        window.starts_with(b"</")
            && window
                .get(2..)
                .is_some_and(|end| end.eq_ignore_ascii_case(name.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewrite(link: &str) -> Option<String> {
        link.starts_with('/').then(|| format!("/proxy{link}"))
    }

    fn whole(page: &[u8]) -> Vec<u8> {
        let mut rewriter = Page::new(rewrite);
        let mut out = rewriter.push(page);
        out.extend(rewriter.finish());
        out
    }

    #[test]
    fn links_change_and_nothing_else_does() {
        let table = [
            (r#"<a href="/x">/x</a>"#, r#"<a href="/proxy/x">/x</a>"#),
            ("<A HREF='/x'>", "<A HREF='/proxy/x'>"),
            ("<a class=b href=/x?a=1>", "<a class=b href=/proxy/x?a=1>"),
            (
                "<img alt='<a href=\"/x\">' src = /y >",
                "<img alt='<a href=\"/x\">' src = /proxy/y >",
            ),
            (
                "<form action=/a method=post><input formaction=\"/b\"/>",
                "<form action=/proxy/a method=post><input formaction=\"/proxy/b\"/>",
            ),
            (
                "<video src=/a poster=/b>",
                "<video src=/proxy/a poster=/proxy/b>",
            ),
            ("<a data-href=/x href=y>", "<a data-href=/x href=y>"),
            ("<div href=/x>", "<div href=/x>"),
            (
                "<!-- <a href=/x> --><a href=/x>",
                "<!-- <a href=/x> --><a href=/proxy/x>",
            ),
            (
                "<script src=/s>a<b; '<a href=/x>'</script><a href=/x>",
                "<script src=/proxy/s>a<b; '<a href=/x>'</script><a href=/proxy/x>",
            ),
            (
                "<title><a href=/x></TITLE ><a href=/x>",
                "<title><a href=/x></TITLE ><a href=/proxy/x>",
            ),
            (
                "<!doctype html>1 < 2 <3 </a href=/x>",
                "<!doctype html>1 < 2 <3 </a href=/x>",
            ),
            ("<a href=\"/x", "<a href=\"/x"),
            ("<a =/x href=/y>", "<a =/x href=/proxy/y>"),
        ];
        for (page, expected) in table {
            let got = whole(page.as_bytes());
            assert_eq!(String::from_utf8_lossy(&got), expected);
        }
    }

    #[test]
    fn a_tag_without_end_is_not_waited_for() {
        let page = format!("<a title=\"{}", "x".repeat(LONGEST_TAG * 2));
        let mut rewriter = Page::new(rewrite);
        let out = rewriter.push(page.as_bytes());
        assert!(out.len() > LONGEST_TAG, "{}", out.len());
        assert!(rewriter.pending.len() <= LONGEST_TAG);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_page_is_cut(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "<a href=\"/x\">", "<a href=/y>", "<", ">", "\"", "'", "<!--", "-->", "<script>", "</script>",
                    "<img src='/z' ", "text", "</", "=", " ", "<title>", "</title>", "<p>",
                ]), 0..20),
            cuts in prop::collection::vec(0..200_usize, 0..6),
        ) {
            let page = parts.concat().into_bytes();
            let mut rewriter = Page::new(rewrite);
            let (mut out, mut at) = (Vec::new(), 0);
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(page.len())).collect();
            cuts.sort_unstable();
            for cut in cuts.into_iter().chain([page.len()]) {
                out.extend(rewriter.push(&page[at..cut]));
                at = cut;
            }
            out.extend(rewriter.finish());
            prop_assert_eq!(out, whole(&page));
        }

        #[test]
        fn without_links_any_bytes_pass(bytes: Vec<u8>) {
            let mut rewriter = Page::new(|_: &str| None);
            let mut out = rewriter.push(&bytes);
            out.extend(rewriter.finish());
            prop_assert_eq!(out, bytes);
        }
    }
}
