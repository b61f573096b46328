//! Names as the API server takes them: what is wrong with a text, with the limit
//! that it breaks.
//!
//! Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>
//! and <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>

/// Bytes of a label's value, and of the name in a key.
const LABEL: usize = 63;
/// Bytes of a DNS subdomain.
const SUBDOMAIN: usize = 253;
/// Bytes of all annotations of an object, keys and values.
pub const ANNOTATIONS: usize = 256 << 10;

/// Checks a DNS subdomain (RFC 1123).
///
/// # Errors
///
/// What is wrong with it.
pub fn subdomain(text: &str) -> Result<(), String> {
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_lower) && !label.starts_with('-') && !label.ends_with('-');
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > SUBDOMAIN {
        return Err(too_long(text, SUBDOMAIN));
    }
    if let Some(label) = text.split('.').find(|label| label.len() > LABEL) {
        return Err(format!("its part '{}...' has {} characters, at most {LABEL} are allowed", head(label), label.len()));
    }
    if !text.split('.').all(is_label) {
        return Err("only lower-case letters, digits, '-' and '.' are allowed, and each part begins and ends with a letter or digit".to_owned());
    }
    Ok(())
}

/// Checks the name of a node, which is the value of its label
/// `kubernetes.io/hostname`, too.
///
/// # Errors
///
/// What is wrong with it.
pub fn node(text: &str) -> Result<(), String> {
    subdomain(text)?;
    if text.len() > LABEL {
        return Err(format!("{}: it is the value of label kubernetes.io/hostname, too", too_long(text, LABEL)));
    }
    Ok(())
}

/// Checks a key of a label, an annotation or a taint: `[PREFIX/]NAME`.
///
/// # Errors
///
/// What is wrong with it.
pub fn key(text: &str) -> Result<(), String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if let Some(prefix) = prefix {
        subdomain(prefix).map_err(|why| format!("its prefix '{}' is not a DNS subdomain: {why}", head(prefix)))?;
    }
    if name.contains('/') {
        return Err("it has more than one '/'".to_owned());
    }
    if name.is_empty() {
        return Err("its name is empty".to_owned());
    }
    word(name)
}

/// Checks the value of a label or a taint; it may be empty.
///
/// # Errors
///
/// What is wrong with it.
pub fn value(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { word(text) }
}

fn word(text: &str) -> Result<(), String> {
    if text.len() > LABEL {
        return Err(too_long(text, LABEL));
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let outer = |text: &str| text.starts_with(|char: char| char.is_ascii_alphanumeric()) && text.ends_with(|char: char| char.is_ascii_alphanumeric());
    if !text.bytes().all(inner) || !outer(text) {
        return Err("only letters, digits, '-', '_' and '.' are allowed, and it begins and ends with a letter or digit".to_owned());
    }
    Ok(())
}

fn is_lower(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

fn too_long(text: &str, most: usize) -> String {
    format!("it has {} characters, at most {most} are allowed", text.len())
}

/// The beginning of a text that may be long.
pub fn head(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Whether a label is Kubernetes' own and not for a node to give itself. kubelet
/// refuses to start with such a label; admission plugin `NodeRestriction` refuses
/// it where it guards the node's identity.
pub fn is_reserved(key: &str) -> bool {
    const OWN: [&str; 11] = [
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
    ];
    let Some((prefix, _)) = key.split_once('/') else { return false };
    let is_within = |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    let is_kubernetes = is_within("kubernetes.io") || is_within("k8s.io");
    let may_set = OWN.contains(&key) || is_within("kubelet.kubernetes.io") || is_within("node.kubernetes.io");
    // KubeEdge gives its nodes this role, too.
    is_kubernetes && !may_set && prefix != "node-role.kubernetes.io"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_limits_of_the_api_server() {
        let (long, part) = ("a".repeat(64), "a".repeat(63));
        let subdomains = [part.as_str(); 4].join(".");
        for good in ["edge-1", "a.b", "1", &part, &subdomains[..253]] {
            assert_eq!(subdomain(good), Ok(()), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a b", "ä", &long, &subdomains] {
            assert!(subdomain(bad).is_err(), "{bad}");
        }
        assert_eq!(node(&part), Ok(()));
        assert!(node(&subdomains[..100]).is_err_and(|why| why.contains("kubernetes.io/hostname") && why.contains("at most 63")));
    }

    #[test]
    fn keys_and_values_have_theirs() {
        let (long, most) = ("a".repeat(64), "a".repeat(63));
        let prefixed = format!("{}/x", [most.as_str(); 4].join("."));
        for good in ["site", "example.com/Site_1.x", "A", &most, &format!("a/{most}")] {
            assert_eq!(key(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "_a", "a-", "a b", "Example.com/a", "ä", &long, &format!("a/{long}"), &prefixed] {
            assert!(key(bad).is_err(), "{bad}");
        }
        for good in ["", "a", "1.2-3_B", &most] {
            assert_eq!(value(good), Ok(()), "{good}");
        }
        for bad in ["-", "a b", "a/b", "a:", &long] {
            assert!(value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_of_kubernetes_are_not_for_a_node() {
        for reserved in ["kubernetes.io/x", "a.kubernetes.io/x", "k8s.io/x", "x.k8s.io/y", "node-restriction.kubernetes.io/x"] {
            assert!(is_reserved(reserved), "{reserved}");
        }
        for own in [
            "site",
            "example.com/x",
            "notkubernetes.io/x",
            "kubernetes.io/os",
            "node.kubernetes.io/x",
            "x.node.kubernetes.io/y",
            "node-role.kubernetes.io/edge",
        ] {
            assert!(!is_reserved(own), "{own}");
        }
    }
}
