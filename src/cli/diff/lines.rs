//! Unified differences of two texts, line by line.

/// Unchanged lines shown around a change.
const AROUND: usize = 3;
/// Texts of more lines are not aligned but shown as replaced: the table would be too large.
const LONGEST: usize = 4000;

/// A line of both texts, or of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'t> {
    Same(&'t str),
    Old(&'t str),
    New(&'t str),
}

/// The hunks between two texts as `diff -u` writes them, without file names; empty if they are the same.
pub(super) fn unified(old: &str, new: &str) -> Vec<String> {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    hunks(&aligned(&old, &new))
}

/// Both texts as one sequence with as many common lines as there can be.
fn aligned<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<Line<'t>> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (head, old) = old.split_at(start);
    let new = new.get(start..).unwrap_or_default();
    let ends = old.iter().rev().zip(new.iter().rev());
    let end = ends.take_while(|(a, b)| a == b).count();
    let (old, tail) = old.split_at(old.len() - end);
    let new = new.get(..new.len() - end).unwrap_or_default();
    let mut lines: Vec<_> = head.iter().map(|line| Line::Same(line)).collect();
    lines.extend(middle(old, new));
    lines.extend(tail.iter().map(|line| Line::Same(line)));
    lines
}

/// The part of the texts that differs, by the longest common subsequence.
fn middle<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<Line<'t>> {
    if old.len().max(new.len()) > LONGEST {
        let gone = old.iter().map(|line| Line::Old(line));
        return gone.chain(new.iter().map(|line| Line::New(line))).collect();
    }
    let width = new.len() + 1;
    // The length of the longest common subsequence of the rests from each pair of lines on.
    let mut common = vec![0_u16; (old.len() + 1) * width];
    let at = |row: usize, column: usize| row * width + column;
    let read = |table: &[u16], row, column| table.get(at(row, column)).copied().unwrap_or(0);
    for (row, a) in old.iter().enumerate().rev() {
        for (column, b) in new.iter().enumerate().rev() {
            let length = if a == b {
                read(&common, row + 1, column + 1) + 1
            } else {
                read(&common, row + 1, column).max(read(&common, row, column + 1))
            };
            if let Some(cell) = common.get_mut(at(row, column)) {
                *cell = length;
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut lines = Vec::with_capacity(old.len() + new.len());
    loop {
        let line = match (old.get(row), new.get(column)) {
            (Some(a), Some(b)) if a == b => Line::Same(a),
            (Some(a), Some(_))
                if read(&common, row + 1, column) >= read(&common, row, column + 1) =>
            {
                Line::Old(a)
            }
            (_, Some(b)) => Line::New(b),
            (Some(a), None) => Line::Old(a),
            (None, None) => return lines,
        };
        row += usize::from(!matches!(line, Line::New(_)));
        column += usize::from(!matches!(line, Line::Old(_)));
        lines.push(line);
    }
}

fn hunks(lines: &[Line<'_>]) -> Vec<String> {
    let mut out = Vec::new();
    let (mut shown, mut old, mut new) = (0, 1, 1);
    while let Some(change) = next_change(lines, shown) {
        let start = change.saturating_sub(AROUND).max(shown);
        let end = end_of_hunk(lines, change);
        let (skipped, hunk) = (lines.get(shown..start), lines.get(start..end));
        let (skipped, hunk) = (skipped.unwrap_or_default(), hunk.unwrap_or_default());
        old += skipped.len();
        new += skipped.len();
        let gone = hunk
            .iter()
            .filter(|line| !matches!(line, Line::New(_)))
            .count();
        let come = hunk
            .iter()
            .filter(|line| !matches!(line, Line::Old(_)))
            .count();
        let place = |first: usize, count: usize| match count {
            0 => format!("{},0", first - 1),
            count => format!("{first},{count}"),
        };
        out.push(format!("@@ -{} +{} @@", place(old, gone), place(new, come)));
        out.extend(hunk.iter().map(|line| match line {
            Line::Same(text) => format!(" {text}"),
            Line::Old(text) => format!("-{text}"),
            Line::New(text) => format!("+{text}"),
        }));
        old += gone;
        new += come;
        shown = end;
    }
    out
}

fn next_change(lines: &[Line<'_>], from: usize) -> Option<usize> {
    let rest = lines.get(from..)?;
    let next = rest.iter().position(|line| !matches!(line, Line::Same(_)));
    next.map(|next| from + next)
}

/// Where the hunk of a change ends: changes with little between them share one.
fn end_of_hunk(lines: &[Line<'_>], change: usize) -> usize {
    let mut last = change;
    while let Some(next) = next_change(lines, last + 1)
        && next - last <= 2 * AROUND + 1
    {
        last = next;
    }
    (last + 1 + AROUND).min(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hunks_are_those_of_diff() {
        assert!(unified("a\nb", "a\nb\n").is_empty());
        assert_eq!(unified("", "x"), ["@@ -0,0 +1,1 @@", "+x"]);
        assert_eq!(unified("x\n", ""), ["@@ -1,1 +0,0 @@", "-x"]);
        let count = |last: u32| (1..=last).map(|n| format!("{n}\n")).collect::<String>();
        let old = count(13);
        let new = old.replace("5\n", "five\n").replace("12\n", "");
        let expected = [
            "@@ -2,12 +2,11 @@",
            " 2",
            " 3",
            " 4",
            "-5",
            "+five",
            " 6",
            " 7",
            " 8",
            " 9",
            " 10",
            " 11",
            "-12",
            " 13",
        ];
        assert_eq!(unified(&old, &new), expected);
        let far = count(17);
        let near = far.replace("17", "seventeen").replacen("1\n2\n", "2\n", 1);
        let lines = unified(&far, &near);
        let heads: Vec<_> = lines.iter().filter(|line| line.starts_with("@@")).collect();
        assert_eq!(heads, ["@@ -1,4 +1,3 @@", "@@ -14,4 +13,4 @@"]);
    }

    proptest! {
        #[test]
        fn old_lines_and_new_lines_are_all_there(old in "([a-c]\n){0,20}", new in "([a-c]\n){0,20}") {
            let (a, b): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
            let lines = aligned(&a, &b);
            let olds = lines.iter().filter_map(|line| match line {
                Line::Same(text) | Line::Old(text) => Some(*text),
                Line::New(_) => None,
            });
            prop_assert_eq!(olds.collect::<Vec<_>>(), a);
            let news = lines.iter().filter_map(|line| match line {
                Line::Same(text) | Line::New(text) => Some(*text),
                Line::Old(_) => None,
            });
            prop_assert_eq!(news.collect::<Vec<_>>(), b);
        }
    }
}
