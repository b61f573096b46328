//! A file as gzip, piece by piece.
//!
//! Source: RFC 1952.

use std::io::{self, Read, Write};

use crc32fast::Hasher;
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output, create_comp_flags_from_zip_params};

/// Deflate, no name, no time, made on Unix.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// What is read at once, bytes.
const PIECE: usize = 32 << 10;
/// The fastest that compresses: logs are much alike, and a device has little time.
const LEVEL: i32 = 1;
/// No header of zlib.
const RAW: i32 = -15;

/// Writes what can be read.
///
/// # Errors
///
/// The one of `from` or `to` that failed.
pub(super) fn compress(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    to.write_all(&HEADER)?;
    let flags = create_comp_flags_from_zip_params(LEVEL, RAW, 0);
    let mut compressor = Box::new(CompressorOxide::new(flags));
    let (mut piece, mut hasher, mut length) = (vec![0; PIECE], Hasher::new(), 0_u32);
    loop {
        let count = from.read(&mut piece)?;
        let read = &piece[..count];
        hasher.update(read);
        length = length.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX));
        let flush = if count == 0 { TDEFLFlush::Finish } else { TDEFLFlush::None };
        let mut written = Ok(());
        let (status, _) = compress_to_output(&mut compressor, read, flush, |bytes| {
            written = to.write_all(bytes);
            written.is_ok()
        });
        written?;
        match status {
            TDEFLStatus::Okay if count > 0 => {}
            TDEFLStatus::Done => break,
            TDEFLStatus::Okay | TDEFLStatus::BadParam | TDEFLStatus::PutBufFailed => {
                return Err(io::Error::other("deflate failed"));
            }
        }
    }
    to.write_all(&hasher.finalize().to_le_bytes())?;
    to.write_all(&length.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// As gzip itself reads it.
    fn expand(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip");
        let mut input = gzip.stdin.take().expect("a pipe");
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&bytes));
        let output = gzip.wait_with_output().expect("it ends");
        writer.join().expect("it wrote").expect("all of it");
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn gzip_reads_what_was_compressed() {
        let line = |number: usize| format!("2026-01-01T00:00:00Z stdout F line {number}\n");
        let log: String = (0..50_000).map(line).collect();
        for text in ["", "x", &log] {
            let mut bytes = Vec::new();
            compress(text.as_bytes(), &mut bytes).expect("room");
            assert!(expand(&bytes) == text.as_bytes(), "{} bytes", text.len());
        }
        let mut bytes = Vec::new();
        compress(log.as_bytes(), &mut bytes).expect("room");
        assert!(bytes.len() * 5 < log.len(), "{} of {}", bytes.len(), log.len());
    }

    #[test]
    fn an_output_that_is_full_says_so() {
        let noise: Vec<u8> = (0..1 << 18_u32).flat_map(|number: u32| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let mut room = [0; 1000];
        let why = compress(&noise[..], &mut room[..]).expect_err("no room");
        assert_eq!(why.kind(), io::ErrorKind::WriteZero);
    }
}
