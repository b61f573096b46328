//! Header blocks: requests read with HPACK (RFC 7541), answers written with its
//! plainest form.

use bytes::{BufMut, BytesMut};

/// Largest header block, as it is sent.
pub const MAX_BLOCK: usize = 16 << 10;
/// Largest list of headers, as RFC 9113 counts: 32 bytes more for each.
pub const MAX_LIST: usize = 16 << 10;
/// A list that is larger than so is not even read to its end: a byte may name
/// an entry of the table, which is 4 KiB.
pub const MAX_READ: usize = 4 * MAX_LIST;
/// The peer's table is never larger: we ask for no other.
const TABLE: usize = 4096;
/// `grpc-message` is cut at this length, bytes.
const WORDS: usize = 1024;

/// What a request says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// `:path`: the call.
    pub path: String,
    /// `:method` is POST and `content-type` is gRPC's.
    pub is_grpc: bool,
    /// The list was too large; the rest is not to be used.
    pub is_too_large: bool,
}

/// Why a header block was not read; no block after it can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// It is no HPACK.
    Garbled,
    /// It is larger than [`MAX_READ`].
    TooLarge,
}

/// Reads header blocks of one connection, in order.
pub struct Reader(loona_hpack::Decoder<'static>);

impl Reader {
    /// With an empty table.
    pub fn new() -> Self {
        let mut decoder = loona_hpack::Decoder::new();
        decoder.set_max_allowed_table_size(TABLE);
        Self(decoder)
    }

    /// Reads a whole block, field by field, as far as the list may be large.
    pub fn read(&mut self, mut block: &[u8]) -> Result<Head, Unread> {
        let mut head = Head::default();
        let (mut size, mut is_post) = (0, false);
        while !block.is_empty() {
            let (field, rest) = block.split_at_checked(next_field(block).ok_or(Unread::Garbled)?).ok_or(Unread::Garbled)?;
            let read = self.0.decode_with_cb(field, |name, value| {
                size += name.len() + value.len() + 32;
                match &*name {
                    _ if size > MAX_LIST => {}
                    b":path" => head.path = String::from_utf8_lossy(&value).into_owned(),
                    b":method" => is_post = &*value == b"POST",
                    b"content-type" => head.is_grpc = value.starts_with(b"application/grpc"),
                    _ => {}
                }
            });
            read.map_err(|_| Unread::Garbled)?;
            if size > MAX_READ {
                return Err(Unread::TooLarge);
            }
            block = rest;
        }
        head.is_grpc &= is_post;
        head.is_too_large = size > MAX_LIST;
        Ok(head)
    }
}

/// Where the next field ends, RFC 7541 section 6. Changes of the table's size
/// belong to the field behind them.
fn next_field(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    while block.get(at)? & 0xe0 == 0x20 {
        at += integer(&block[at..], 5)?.1;
    }
    let first = block[at];
    let (prefix, strings) = match first {
        0x80.. => (7, 0),
        0x40..0x80 => (6, 1),
        0..0x40 => (4, 1),
    };
    let (name, length) = integer(&block[at..], prefix)?;
    at += length;
    // A name that is in no table stands before the value.
    for _ in 0..strings + usize::from(strings > 0 && name == 0) {
        let (length, prefix) = integer(block.get(at..)?, 7)?;
        at = at.checked_add(prefix)?.checked_add(length)?;
    }
    Some(at)
}

/// An integer behind so many bits, and the bytes it takes; RFC 7541 section
/// 5.1.
fn integer(bytes: &[u8], prefix: u32) -> Option<(usize, usize)> {
    let most = (1 << prefix) - 1;
    let first = usize::from(*bytes.first()?) & most;
    if first < most {
        return Some((first, 1));
    }
    let mut value = most;
    for (index, byte) in bytes.iter().enumerate().skip(1).take(4) {
        value += usize::from(byte & 0x7f) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// The head of an answer.
pub fn answer(out: &mut BytesMut) {
    out.put_u8(STATUS_200);
    field(out, "content-type", b"application/grpc");
}

/// The answer to what is no gRPC.
pub fn unsupported(out: &mut BytesMut) {
    field(out, ":status", b"415");
}

/// How a call ended: trailers, or all there is after [`answer`].
pub fn verdict(out: &mut BytesMut, code: u32, words: &str) {
    field(out, "grpc-status", code.to_string().as_bytes());
    if !words.is_empty() {
        field(out, "grpc-message", &escape(words));
    }
}

/// Place of `:status: 200` in the static table, as an indexed field.
const STATUS_200: u8 = 0x80 | 8;

/// A literal without indexing, its name new, nothing compressed.
fn field(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.put_u8(0);
    text(out, name.as_bytes());
    text(out, value);
}

/// A length in seven bits and more, and the bytes.
fn text(out: &mut BytesMut, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(short) if short < 127 => out.put_u8(short),
        Ok(_) | Err(_) => {
            out.put_u8(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                out.put_u8(0x80 | low_bits(rest));
                rest >>= 7;
            }
            out.put_u8(low_bits(rest));
        }
    }
    out.put_slice(text);
}

fn low_bits(number: usize) -> u8 {
    u8::try_from(number & 0x7f).unwrap_or_default()
}

/// Percent encoding, as gRPC wants it.
fn escape(words: &str) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in words.bytes().take(WORDS) {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => escaped.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            plain => escaped.push(plain),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut out = BytesMut::new();
        answer(&mut out);
        verdict(&mut out, 3, &format!("50% of \u{fc} {}", "x".repeat(300)));
        let read = loona_hpack::Decoder::new().decode(&out).expect("a block");
        assert_eq!(read[0], (b":status".to_vec(), b"200".to_vec()));
        assert_eq!(read[2], (b"grpc-status".to_vec(), b"3".to_vec()));
        assert!(read[3].1.starts_with(b"50%25 of %C3%BC xxx") && read[3].1.len() == 316, "{}", read[3].1.len());
    }

    /// RFC 7541, C.4: Huffman, and a table that grows over three requests.
    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let mut reader = Reader::new();
        for block in [
            &b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..],
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
            b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ] {
            let head = reader.read(block).expect("a block");
            assert!(head.path == "/" || head.path == "/index.html", "{head:?}");
        }
        assert_eq!(reader.read(&[0xff, 0xff, 0xff]), Err(Unread::Garbled));
    }
}
