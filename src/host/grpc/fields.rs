//! Fields of a message, counted without making anything of them: two bytes may stand
//! for a struct of hundreds.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Number of the fields that stand at a path: the numbers that each level of messages
/// may have, the outermost first. What cannot be read counts for nothing; decoding says
/// what is wrong with it.
pub fn count_fields(message: &[u8], path: &[&[u32]]) -> usize {
    let [numbers, below @ ..] = path else { return 1 };
    let (mut rest, mut count) = (message, 0);
    while let Ok((number, wire)) = decode_key(&mut rest) {
        if !numbers.contains(&number) {
            if skip_field(wire, number, &mut rest, DecodeContext::default()).is_err() {
                break;
            }
            continue;
        }
        let Some(content) = content(number, wire, &mut rest) else { break };
        count += count_fields(content, below);
    }
    count
}

/// The bytes of a message inside; of what is none, nothing.
fn content<'a>(number: u32, wire: WireType, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    if wire != WireType::LengthDelimited {
        skip_field(wire, number, rest, DecodeContext::default()).ok()?;
        return Some(&[]);
    }
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    let (content, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(content)
}

/// Whether a message has more fields of its own than `most`, of whatever number.
pub fn has_more_fields(message: &[u8], most: usize) -> bool {
    let mut rest = message;
    for _ in 0..=most {
        let Ok((number, wire)) = decode_key(&mut rest) else { return false };
        if skip_field(wire, number, &mut rest, DecodeContext::default()).is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_where_they_stand() {
        // 1: {2: {}, 2: {}, 3: 7}, 1: {}, 4: {2: {}}
        let message = [0x0a, 6, 0x12, 0, 0x12, 0, 0x18, 7, 0x0a, 0, 0x22, 2, 0x12, 0];
        let count = |path: &[&[u32]]| count_fields(&message, path);
        assert_eq!([count(&[&[1]]), count(&[&[1], &[2]]), count(&[&[1], &[2, 3]]), count(&[&[1, 4], &[2]]), count(&[&[9]])], [2, 2, 3, 3, 0]);
        assert!(has_more_fields(&message, 2) && !has_more_fields(&message, 3));
        // What is not whole ends it.
        for length in 0..message.len() {
            assert!(count_fields(&message[..length], &[&[1], &[2]]) <= 2);
        }
        assert_eq!(count_fields(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], &[&[1]]), 0);
    }
}
