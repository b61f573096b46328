//! The ring of stores up to format 2, for the upgrade.
//!
//! ```text
//! record: magic u32 | length u32 | sequence u64 | crc32 u32 | payload | pad to 8
//! ```
//!
//! Records stand one behind the other from the file's begin; one that would pass the
//! end begins at the start instead. Those after the watermark count, in an
//! unbroken row of sequences.

use std::io;

use super::Disk;

const MAGIC: u32 = 0x5345_4c56;
const HEAD: usize = 20;

/// The payloads after `watermark`, in order.
///
/// # Errors
///
/// The disk's.
pub fn read(disk: &impl Disk, watermark: u64) -> io::Result<Vec<Vec<u8>>> {
    let mut all = vec![0; usize::try_from(disk.size()).unwrap_or(0)];
    disk.read_at(&mut all, 0)?;
    let (mut found, mut at) = (Vec::new(), 0);
    while at + HEAD <= all.len() {
        match parse(&all[at..]) {
            Some((sequence, payload)) => {
                found.push((sequence, payload));
                at += (HEAD + payload.len()).next_multiple_of(8);
            }
            None => at += 8,
        }
    }
    found.retain(|(sequence, _)| *sequence > watermark);
    found.sort();
    let row = found.iter().zip(watermark + 1..).take_while(|((sequence, _), next)| sequence == next);
    Ok(row.map(|((_, payload), _)| payload.to_vec()).collect())
}

fn parse(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if word(0)? != MAGIC {
        return None;
    }
    let payload = bytes.get(HEAD..HEAD.checked_add(word(4)? as usize)?)?;
    let sequence = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (word(16)? == checksum(&bytes[..16], payload)).then_some((sequence, payload))
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize()
}
