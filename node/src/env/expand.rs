//! `$(VAR)` in commands, arguments, values and `subPathExpr`.

/// Replaces `$(NAME)` by `lookup(NAME)`, and `$$` by `$`, as `k8s.io/kubernetes/third_party/forked/golang/expansion` does.
///
/// A name that is not defined stays as written; so does a `$` before anything else, and an expression that is not
/// closed. Values are not expanded again.
pub fn expand<'v>(text: &str, lookup: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(escaped) = after.strip_prefix('$') {
            expanded.push('$');
            rest = escaped;
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|e| e.split_once(')'))
        {
            rest = after;
            match lookup(name) {
                Some(value) => expanded.push_str(value),
                None => {
                    expanded.push_str("$(");
                    expanded.push_str(name);
                    expanded.push(')');
                }
            }
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}
