//! Heads and bodies of HTTP/1.1 as the agent reads them, and where redirects lead.

use futures_lite::future::block_on;
use futures_lite::io::Cursor;
use selvedge::host::http1::{Incoming, Length, header, request_length, response_length};
use selvedge::wire::url::Url;

const LIMIT: usize = 16 << 10;

/// The bytes as requests one after the other, and as responses.
pub fn http(data: &[u8]) {
    block_on(requests(data));
    block_on(responses(data));
}

async fn requests(data: &[u8]) {
    let mut incoming = Incoming::new(Cursor::new(data));
    while let Ok(head) = incoming.request().await {
        let Ok(length) = request_length(&head) else { return };
        if !has_body(&mut incoming, length).await {
            return;
        }
    }
}

async fn responses(data: &[u8]) {
    let mut incoming = Incoming::new(Cursor::new(data));
    while let Ok(head) = incoming.response().await {
        assert!(head.start == 101 || !(100..200).contains(&head.start), "interim");
        if let Some(location) = header(&head.headers, "location") {
            redirected(location);
        }
        let Ok(length) = response_length("GET", &head) else { return };
        if !has_body(&mut incoming, length).await {
            return;
        }
    }
}

/// A location leads nowhere, or to a URL that is read again as itself.
fn redirected(location: &str) {
    let base = Url { tls: false, host: "::1".into(), port: Some(1), target: "/a?b".into() };
    let Ok(next) = base.resolve(location) else { return };
    let url = next.url;
    assert!(url.target.starts_with('/') && url.target.bytes().all(|byte| byte.is_ascii_graphic()));
    if let Ok(again) = base.resolve(&url.to_string()) {
        assert_eq!(again.url.target, url.target, "{location:?}");
    }
}

/// Whether a whole body followed, and another head may.
async fn has_body(incoming: &mut Incoming<Cursor<&[u8]>>, length: Length) -> bool {
    let mut admitted = 0;
    let admit = |bytes| {
        admitted += bytes;
        Ok(())
    };
    let Ok(body) = incoming.body(length, LIMIT, admit).await else { return false };
    assert!(body.bytes.len() <= LIMIT && body.bytes.len() == admitted, "{admitted} bytes");
    if let Length::Bytes(count) = length {
        assert!(body.cut || body.bytes.len() as u64 == count);
    }
    !body.cut && length != Length::UntilEnd
}
