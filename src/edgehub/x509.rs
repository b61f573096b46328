//! Whom an X.509 certificate is for, and when it is valid. Nothing is verified
//! here: TLS does that.
//!
//! Source: RFC 5280, 4.1 (fields and times); X.690, 8 and 10 (DER).

use crate::wire::rfc3339;

/// What a certificate tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// The subject's common name; `None` unless there is exactly one.
    pub common_name: Option<&'a str>,
    /// From when it is valid, milliseconds since the epoch.
    pub not_before: i64,
    /// Until when it is valid, milliseconds since the epoch.
    pub not_after: i64,
}

/// The part of a certificate that is not as it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not an X.509 certificate: its {} cannot be read", self.0)
    }
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]` around the version.
const VERSION: u8 = 0xa0;
/// 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// Reads a certificate in DER.
///
/// # Errors
///
/// [`Malformed`] with the first part that is not as RFC 5280 has it.
pub fn read(der: &[u8]) -> Result<Certificate<'_>, Malformed> {
    let mut whole = Reader(der);
    let mut certificate = whole.inside(SEQUENCE, "outer sequence")?;
    let mut fields = certificate.inside(SEQUENCE, "list of fields")?;
    certificate.content(SEQUENCE, "signature algorithm")?;
    certificate.content(BIT_STRING, "signature")?;
    if !certificate.is_empty() || !whole.is_empty() {
        return Err(Malformed("end"));
    }
    if fields.0.first() == Some(&VERSION) {
        fields.content(VERSION, "version")?;
    }
    fields.content(INTEGER, "serial number")?;
    fields.content(SEQUENCE, "signature algorithm")?;
    fields.content(SEQUENCE, "issuer")?;
    let mut validity = fields.inside(SEQUENCE, "validity")?;
    let (not_before, not_after) = (validity.time()?, validity.time()?);
    if !validity.is_empty() {
        return Err(Malformed("validity"));
    }
    let subject = fields.inside(SEQUENCE, "subject")?;
    fields.content(SEQUENCE, "public key")?;
    Ok(Certificate { common_name: common_name(subject)?, not_before, not_after })
}

fn common_name(mut subject: Reader<'_>) -> Result<Option<&str>, Malformed> {
    const PART: &str = "subject";
    let mut names = Vec::new();
    while !subject.is_empty() {
        let mut set = subject.inside(SET, PART)?;
        while !set.is_empty() {
            let mut attribute = set.inside(SEQUENCE, PART)?;
            let kind = attribute.content(OBJECT_IDENTIFIER, PART)?;
            let (tag, value) = attribute.next(PART)?;
            if !attribute.is_empty() {
                return Err(Malformed(PART));
            }
            if kind == COMMON_NAME {
                let text = std::str::from_utf8(value).ok().filter(|_| matches!(tag, UTF8_STRING | PRINTABLE_STRING));
                names.push(text.ok_or(Malformed("common name"))?);
            }
        }
    }
    Ok(if let [name] = names[..] { Some(name) } else { None })
}

/// What is left of some DER.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next value: its tag and content.
    fn next(&mut self, part: &'static str) -> Result<(u8, &'a [u8]), Malformed> {
        self.split().ok_or(Malformed(part))
    }

    /// The content of the next value, which must have this tag.
    fn content(&mut self, tag: u8, part: &'static str) -> Result<&'a [u8], Malformed> {
        let (found, content) = self.next(part)?;
        if found == tag { Ok(content) } else { Err(Malformed(part)) }
    }

    fn inside(&mut self, tag: u8, part: &'static str) -> Result<Self, Malformed> {
        self.content(tag, part).map(Reader)
    }

    /// Tags are one byte, lengths definite and as short as can be: X.690, 10.1.
    fn split(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first().filter(|(tag, _)| *tag & 0x1f != 0x1f)?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
                let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
                let is_shortest = length > 0x7f && digits.first() != Some(&0);
                (Some(length).filter(|_| is_shortest)?, rest)
            }
            // Longer than 16 MiB, or without an end.
            0x80 | 0x84.. => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// Milliseconds since the epoch. Both forms have seconds and end with `Z`; two
    /// digits of a year from 50 on are of the last century: RFC 5280, 4.1.2.5.
    fn time(&mut self) -> Result<i64, Malformed> {
        const PART: Malformed = Malformed("validity");
        let (tag, content) = self.next(PART.0)?;
        let text = std::str::from_utf8(content).ok().and_then(|text| text.strip_suffix('Z'));
        let digits = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())).ok_or(PART)?;
        let full = match (tag, digits.len()) {
            (UTC_TIME, 12) => format!("{}{digits}", if &digits[..2] < "50" { "20" } else { "19" }),
            (GENERALIZED_TIME, 14) => digits.to_owned(),
            _ => return Err(PART),
        };
        let part = |from: usize, to: usize| &full[from..to];
        let iso = format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14));
        rfc3339::parse(&iso).ok_or(PART)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, date_time_ymd};

    use super::*;

    fn at(text: &str) -> i64 {
        rfc3339::parse(text).expect("a time")
    }

    /// A certificate of 2026-01-02 to 2060-03-04 whose subject has these parts.
    fn certificate(subject: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["system:node:other".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2026, 1, 2);
        params.not_after = date_time_ymd(2060, 3, 4);
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), DnValue::Utf8String((*value).to_owned()));
        }
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").der().to_vec()
    }

    fn value(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut der = vec![tag];
        match u8::try_from(content.len()) {
            Ok(short @ ..=0x7f) => der.push(short),
            Ok(length) => der.extend([0x81, length]),
            Err(_) => der.extend([&[0x82][..], &u16::try_from(content.len()).expect("short").to_be_bytes()].concat()),
        }
        der.extend(content);
        der
    }

    /// A certificate put together from its validity and the parts of its subject.
    fn made(validity: &[u8], subject: &[u8]) -> Vec<u8> {
        let empty = value(SEQUENCE, &[]);
        let fields = [
            value(VERSION, &[2, 1, 2]),
            value(INTEGER, &[1]),
            empty.clone(),
            empty.clone(),
            value(SEQUENCE, validity),
            value(SEQUENCE, subject),
            empty.clone(),
        ];
        let parts = [value(SEQUENCE, &fields.concat()), empty, value(BIT_STRING, &[0])];
        value(SEQUENCE, &parts.concat())
    }

    fn named(tag: u8, name: &[u8]) -> Vec<u8> {
        let attribute = [value(OBJECT_IDENTIFIER, &COMMON_NAME), value(tag, name)].concat();
        value(SET, &value(SEQUENCE, &attribute))
    }

    fn dates() -> Vec<u8> {
        [value(UTC_TIME, b"260102000000Z"), value(GENERALIZED_TIME, b"20600304000000Z")].concat()
    }

    #[test]
    fn a_certificate_tells_its_name_and_its_dates() {
        let long = "n".repeat(300);
        for name in ["system:node:edge", "system:node:kante-äöü", &long] {
            let der = certificate(&[(DnType::OrganizationName, "system:nodes"), (DnType::CommonName, name)]);
            let expected = Certificate { common_name: Some(name), not_before: at("2026-01-02T00:00:00Z"), not_after: at("2060-03-04T00:00:00Z") };
            assert_eq!(read(&der), Ok(expected));
            assert_eq!(read(&made(&dates(), &named(UTF8_STRING, name.as_bytes()))), Ok(expected));
        }
        let last_century = [value(UTC_TIME, b"500101000000Z"), value(UTC_TIME, b"491231235959Z")].concat();
        let read = read(&made(&last_century, &[])).map(|read| (read.not_before, read.not_after));
        assert_eq!(read, Ok((at("1950-01-01T00:00:00Z"), at("2049-12-31T23:59:59Z"))));
    }

    /// The name stands elsewhere in each, or beside another.
    #[test]
    fn only_the_one_common_name_of_the_subject_counts() {
        let name = "system:node:other";
        for subject in [vec![], vec![(DnType::OrganizationName, name)], vec![(DnType::OrganizationalUnitName, name)]] {
            let der = certificate(&subject);
            assert!(der.windows(name.len()).any(|part| part == name.as_bytes()), "it is in the certificate");
            assert_eq!(read(&der).map(|read| read.common_name), Ok(None));
        }
        let twice = [named(UTF8_STRING, b"system:node:a"), named(PRINTABLE_STRING, b"system:node:b")].concat();
        assert_eq!(read(&made(&dates(), &twice)).map(|read| read.common_name), Ok(None));
        let in_one_set = [value(OBJECT_IDENTIFIER, &COMMON_NAME), value(UTF8_STRING, b"a")].concat();
        let in_one_set = value(SET, &[value(SEQUENCE, &in_one_set), value(SEQUENCE, &in_one_set)].concat());
        assert_eq!(read(&made(&dates(), &in_one_set)).map(|read| read.common_name), Ok(None));
        let inside = named(UTF8_STRING, b"x\x0c\x11system:node:other");
        assert_eq!(read(&made(&dates(), &inside)).map(|read| read.common_name), Ok(Some("x\x0c\x11system:node:other")));
    }

    #[test]
    fn what_is_no_certificate_names_its_first_bad_part() {
        let good = named(UTF8_STRING, b"n");
        let time = |tag, text: &[u8]| made(&[value(tag, text), value(UTC_TIME, b"270102000000Z")].concat(), &good);
        let bad = [
            (Vec::new(), "outer sequence"),
            (b"-----BEGIN CERTIFICATE-----".to_vec(), "outer sequence"),
            (value(SEQUENCE, &[]), "list of fields"),
            ([made(&dates(), &good), vec![0]].concat(), "end"),
            (vec![SEQUENCE, 0x80, 0, 0], "outer sequence"),
            (vec![SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff], "outer sequence"),
            (vec![SEQUENCE, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "outer sequence"),
            (vec![SEQUENCE, 0x81, 0x01, 0x00], "outer sequence"),
            (vec![0x3f, 0x81, 0x00], "outer sequence"),
            (time(UTC_TIME, b"2601020000Z"), "validity"),
            (time(UTC_TIME, b"260102000000+0000"), "validity"),
            (time(UTC_TIME, b"261302000000Z"), "validity"),
            (time(UTC_TIME, b"26-1-2000000Z"), "validity"),
            (time(GENERALIZED_TIME, b"20260102000000.5Z"), "validity"),
            (time(GENERALIZED_TIME, "2026010200000é".as_bytes()), "validity"),
            (time(UTF8_STRING, b"260102000000Z"), "validity"),
            (made(&[dates(), dates()].concat(), &good), "validity"),
            (made(&dates(), &named(UTF8_STRING, b"\xff")), "common name"),
            (made(&dates(), &named(0x1e, b"\0n")), "common name"),
            (made(&dates(), &value(SET, &value(SEQUENCE, &value(OBJECT_IDENTIFIER, &COMMON_NAME)))), "subject"),
            (made(&dates(), &value(SEQUENCE, &[])), "subject"),
        ];
        for (der, part) in bad {
            assert_eq!(read(&der), Err(Malformed(part)), "{der:02x?}");
        }
    }

    /// Cut anywhere, or with any byte changed, it is read or refused; never anything
    /// else.
    #[test]
    fn no_bytes_disturb_the_reader() {
        let der = certificate(&[(DnType::CommonName, "system:node:edge")]);
        assert!((0..der.len()).all(|end| read(&der[..end]).is_err()));
        for place in 0..der.len() {
            for byte in 0..=u8::MAX {
                let mut changed = der.clone();
                changed[place] = byte;
                let _ = read(&changed);
            }
        }
    }
}
