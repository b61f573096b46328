//! Texts that others write, cut to what is kept or sent of them.

/// Bytes of an Event's `message`, as the API server's rules for Events have it
/// (<https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>).
pub const EVENT_MESSAGE: usize = 1024;
/// Bytes of a termination message, and of the messages of all containers of a pod
/// together (<https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>).
pub const TERMINATION_MESSAGE: usize = 4096;
/// See [`TERMINATION_MESSAGE`].
pub const TERMINATION_MESSAGES: usize = 12 << 10;
/// Bytes of any other message in an object's status.
pub const STATUS_MESSAGE: usize = 4096;

/// The longest beginning of a text that has at most so many bytes and ends with a
/// whole character.
pub fn prefix(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

/// Cuts a text to its longest [`prefix`].
pub fn truncate(text: &mut String, most: usize) {
    text.truncate(prefix(text, most).len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_stay_whole() {
        let text = "a\u{20ac}\u{1f600}";
        let cut: Vec<&str> = (0..10).map(|most| prefix(text, most)).collect();
        let (euro, all) = ("a\u{20ac}", text);
        assert_eq!(cut, ["", "a", "a", "a", euro, euro, euro, euro, all, all]);
        let mut long = "\u{20ac}".repeat(1000);
        truncate(&mut long, EVENT_MESSAGE);
        assert_eq!(long.len(), 1023);
    }
}
