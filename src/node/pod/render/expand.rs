//! `$(VAR)` in commands, arguments and variables: known names are replaced,
//! unknown ones stay, `$$` is one `$`.

/// A text would become longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// The text with its variables replaced, at most `limit` bytes of it.
pub fn expand<'a>(text: &str, limit: usize, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, TooLong> {
    expand_with(text, limit, value).map(|(text, _)| text)
}

/// The text with its variables replaced, and the names nobody knew.
pub fn expand_with<'a>(text: &str, limit: usize, value: impl Fn(&str) -> Option<&'a str>) -> Result<(String, Vec<String>), TooLong> {
    let (mut out, mut unknown, mut rest) = (String::new(), Vec::new(), text);
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        if out.len() > limit {
            return Err(TooLong);
        }
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str(&format!("$({name})"));
                    unknown.push(name.to_owned());
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    if out.len() > limit { Err(TooLong) } else { Ok((out, unknown)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn variables_expand_as_kubelet_expands_them() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())]);
        for (text, wanted) in [
            ("$(A)", "1"),
            ("x$(A)y", "x1y"),
            ("$$(A)", "$(A)"),
            ("$(C)", "$(C)"),
            ("$(B)", "$(A)"),
            ("$A", "$A"),
            ("$", "$"),
            ("$$", "$"),
            ("$(A", "$(A"),
            ("$$$(A)", "$1"),
            ("$()", "$()"),
        ] {
            let value = |name: &str| variables.get(name).map(String::as_str);
            assert_eq!(expand(text, 10, value).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn a_text_ends_where_it_becomes_too_long() {
        let value = "x".repeat(100);
        let value = |_: &str| Some(value.as_str());
        assert_eq!(expand("$(A)$(A)", 200, value).map(|text| text.len()), Ok(200));
        assert_eq!(expand("$(A)$(A)", 199, value), Err(TooLong));
        assert_eq!(expand("$(A)", 100, value).map(|text| text.len()), Ok(100));
        // Nothing is made of what comes after.
        assert_eq!(expand(&"$(A)".repeat(1 << 20), 1000, value), Err(TooLong));
        assert_eq!(expand("abc", 2, value), Err(TooLong));
    }
}
