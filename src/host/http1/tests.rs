//! Messages of every shape, from bytes that arrive in every way.

use super::body::{BodyDecoder, Step};
use super::head::{LARGEST, parse_response};
use super::*;
use futures_lite::io::Cursor;
use smol::block_on;

fn incoming(text: &str) -> Incoming<Cursor<Vec<u8>>> {
    Incoming::new(Cursor::new(text.as_bytes().to_vec()))
}

/// Status and body of the response to a GET, and whether the body was cut.
fn read(text: &str, limit: usize) -> io::Result<(u16, String, bool)> {
    read_answer_to("GET", text, limit)
}

fn read_answer_to(method: &str, text: &str, limit: usize) -> io::Result<(u16, String, bool)> {
    block_on(async {
        let mut incoming = incoming(text);
        let head = incoming.response().await?;
        let body = incoming.body(response_length(method, &head)?, limit, |_| Ok(())).await?;
        Ok((head.start, String::from_utf8_lossy(&body.bytes).into_owned(), body.cut))
    })
}

fn whole(text: &str) -> (u16, String) {
    let (status, body, cut) = read(text, 1000).unwrap_or_else(|why| panic!("{text:?}: {why}"));
    assert!(!cut);
    (status, body)
}

#[test]
fn bodies_come_by_length_in_chunks_or_until_the_end() {
    let ok = |body: &str| (200, body.to_owned());
    assert_eq!(whole("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi there"), ok("hi"));
    assert_eq!(whole("HTTP/1.0 200 OK\r\n\r\nto the end"), ok("to the end"));
    assert_eq!(whole("HTTP/1.1 200\r\nContent-Length: 2, 2\r\ncontent-length: 2\r\n\r\nhi!"), ok("hi"));
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    assert_eq!(whole(&format!("{chunks}2\r\nhi\r\n1;x=y\r\n!\r\n0\r\n\r\n")), ok("hi!"));
    assert_eq!(whole(&format!("{chunks}2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-B: 2\r\n\r\n")), ok("hi"));
    // An encoding overrides a length (RFC 9112, 6.3), and is none in HTTP/1.0.
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\n!\r\n0\r\n\r\n";
    assert_eq!(whole(&format!("HTTP/1.1 200 OK\r\n{both}")), ok("!"));
    assert_eq!(whole(&format!("HTTP/1.0 200 OK\r\n{both}")), ok("1\r\n"));
    assert_eq!(whole("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nall"), ok("all"));
}

#[test]
fn a_body_is_cut_at_the_limit() {
    let cut = |text: &str, limit| read(text, limit).map(|(_, body, cut)| (body, cut)).ok();
    let (sized, chunks) = ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n");
    assert_eq!(cut(sized, 3), Some(("hel".into(), true)));
    assert_eq!(cut(sized, 5), Some(("hello".into(), false)));
    assert_eq!(cut(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked{chunks}"), 2), Some(("hi".into(), true)));
    assert_eq!(cut("HTTP/1.1 200 OK\r\n\r\nhello", 0), Some((String::new(), true)));
}

#[test]
fn some_answers_have_no_body_whatever_their_headers_say() {
    for status in ["204 No Content", "304 Not Modified", "101 Switching Protocols"] {
        let (_, body) = whole(&format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nhi"));
        assert_eq!(body, "", "{status}");
    }
    let to = |method: &str| read_answer_to(method, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 10);
    assert_eq!(to("HEAD").expect("no body").1, "");
    assert_eq!(to("CONNECT").expect("no body").1, "");
    assert!(to("GET").is_err());
}

#[test]
fn interim_responses_are_passed_over() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    assert_eq!(whole(&format!("{interim}HTTP/1.1 200 OK\r\n\r\nhi")), (200, "hi".into()));
    assert_eq!(whole("HTTP/1.1 101 Switching Protocols\r\n\r\nframes").0, 101);
    assert!(read("HTTP/1.1 100 Continue\r\n\r\n", 10).is_err());
}

#[test]
fn what_is_no_http_is_an_error_and_never_more_than_that() {
    for (wrong, why) in [
        ("SSH-2.0-OpenSSH\r\n\r\n", "malformed HTTP response \"SSH-2.0-OpenSSH\""),
        ("HTTP/1.1 2xx\r\n\r\n", "malformed HTTP response \"HTTP/1.1 2xx\""),
        ("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", "malformed HTTP header: invalid header name"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "unexpected end of file"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "bad Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", "bad Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "bad Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nhi", "bad Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "bad Content-Length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi", "bad Content-Length"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "unsupported transfer encoding"),
        ("HTTP/1.1 200 OK\r\n", "unexpected end of file"),
        ("", "unexpected end of file"),
    ] {
        let error = read(wrong, 100).expect_err(wrong).to_string();
        assert_eq!(error, why, "{wrong:?}");
    }
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for wrong in ["zz\r\n", "1\r\nhello\r\n", "ffffffffffffffffff\r\n", "1\r\n", "0\r\n", "0\r\n: x\r\n\r\n"] {
        assert!(read(&format!("{chunked}{wrong}"), 100).is_err(), "{wrong:?}");
    }
    let endless = format!("{chunked}0\r\n{}", "X: y\r\n".repeat(100_000));
    assert!(read(&endless, 100).is_err());
}

#[test]
fn a_head_is_bounded() {
    let with_head_of = |bytes: usize| {
        let rest = bytes - "HTTP/1.1 200 OK\r\nX: \r\n\r\n".len();
        read(&format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\nhi", "y".repeat(rest)), 10)
    };
    assert_eq!(with_head_of(LARGEST).expect("it fits").1, "hi");
    assert_eq!(with_head_of(LARGEST + 1).expect_err("it does not").to_string(), "headers exceeded 65536 bytes");
    assert!(read(&"x".repeat(LARGEST * 4), 10).is_err());
    assert!(read(&format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(100_000)), 10).is_err());
}

#[test]
fn a_folded_header_is_one_line() {
    let text = b"HTTP/1.1 302 Found\r\nLocation: /a\r\n b\r\n\r\n";
    let (_, head) = parse_response(text).expect("a head").expect("a whole one");
    assert_eq!(header(&head.headers, "LOCATION"), Some("/a  b"));
}

#[test]
fn a_request_whose_end_is_not_clear_is_refused() {
    let length = |headers: &str| {
        let text = format!("POST /x HTTP/1.1\r\nhost: y\r\n{headers}\r\n");
        let head = block_on(incoming(&text).request()).expect("a head");
        assert_eq!((head.start.method.as_str(), head.start.target.as_str()), ("POST", "/x"));
        request_length(&head)
    };
    assert_eq!(length(""), Ok(Length::Bytes(0)));
    assert_eq!(length("CONTENT-LENGTH: 3\r\n"), Ok(Length::Bytes(3)));
    assert_eq!(length("Transfer-Encoding: Chunked\r\n"), Ok(Length::Chunked));
    assert_eq!(length("Transfer-Encoding: gzip\r\n"), Err(Malformed::TransferEncoding));
    assert_eq!(length("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), Err(Malformed::TransferEncoding));
}

#[test]
fn messages_follow_one_another() {
    block_on(async {
        let mut incoming = incoming("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 204 No Content\r\n\r\nrest");
        let head = incoming.response().await.expect("one");
        let length = response_length("GET", &head).expect("a length");
        assert_eq!(incoming.body(length, 10, |_| Ok(())).await.expect("its body").bytes, b"hi");
        assert_eq!(incoming.response().await.expect("another").start, 204);
        assert_eq!(incoming.ahead(), b"rest");
    });
}

/// However the bytes arrive, they mean the same.
#[test]
fn pieces_make_no_difference() {
    let text = b"2\r\nhi\r\n1;x=y\r\n!\r\n0\r\nX: y\r\n\r\nrest";
    for cut in 0..=text.len() {
        let (mut decoder, mut body, mut at, mut known) = (BodyDecoder::new(Length::Chunked), Vec::new(), 0, cut);
        let rest = loop {
            match decoder.step(&text[at..known]).expect("chunks") {
                Step::Data(count) => {
                    body.extend_from_slice(&text[at..at + count]);
                    at += count;
                }
                Step::Framing(count) => at += count,
                Step::Incomplete => known = text.len(),
                Step::End => break &text[at..],
            }
        };
        assert_eq!((body.as_slice(), rest), (&b"hi!"[..], &b"rest"[..]), "{cut}");
    }
}

#[test]
fn a_request_is_one_request_whatever_it_is_made_of() {
    let text = |headers: &[(&str, &str)]| request("GET", "/a", headers).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(text(&[("Host", "x"), ("X-A", "")]).as_deref(), Ok("GET /a HTTP/1.1\r\nHost: x\r\nX-A: \r\n\r\n"));
    let refused = |name: &str, value: &str| text(&[(name, value)]).expect_err("it is refused").to_string();
    assert_eq!(refused("X-A", "1\r\nX-B: 2"), "invalid header field value for \"X-A\"");
    assert_eq!(refused("X A", "1"), "invalid header field name \"X A\"");
    assert_eq!(refused("", "1"), "invalid header field name \"\"");
    let bytes = response("200 OK", &[("X", "y")], b"hi").expect("a response");
    assert_eq!(bytes, b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
}
