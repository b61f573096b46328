//! Heads and bodies of HTTP/1.1 as the servicebus and joining read them.

use futures_lite::future::block_on;
use futures_lite::io::Cursor;
use selvedge::servicebus::http::{Budget, Incoming, Length, length};

const LIMIT: usize = 16 << 10;
const BUDGET: usize = 64 << 10;

/// The bytes as requests one after the other, and as responses.
pub fn http(data: &[u8]) {
    let budget = Budget::new(BUDGET);
    block_on(requests(data, &budget));
    block_on(responses(data, &budget));
    let mut share = budget.share();
    share.take(BUDGET).expect("all that was taken is given back");
}

async fn requests(data: &[u8], budget: &Budget) {
    let mut incoming = Incoming::new(Cursor::new(data));
    while let Ok(head) = incoming.request().await {
        if !has_body(&mut incoming, &head.headers, Length::Bytes(0), budget).await {
            return;
        }
    }
}

async fn responses(data: &[u8], budget: &Budget) {
    let mut incoming = Incoming::new(Cursor::new(data));
    while let Ok(head) = incoming.response().await {
        assert!(head.start >= 200, "an interim response is passed over");
        if !has_body(&mut incoming, &head.headers, Length::UntilEnd, budget).await {
            return;
        }
    }
}

/// Whether a whole body followed, and another head may.
async fn has_body(incoming: &mut Incoming<Cursor<&[u8]>>, headers: &[(String, String)], absent: Length, budget: &Budget) -> bool {
    let Ok(length) = length(&headers.to_vec(), absent) else { return false };
    let mut share = budget.share();
    let Ok(body) = incoming.body(length, LIMIT, &mut share).await else { return false };
    assert!(body.bytes.len() <= LIMIT, "{} bytes", body.bytes.len());
    if let Length::Bytes(count) = length {
        assert!(body.cut || body.bytes.len() as u64 == count);
    }
    !body.cut && length != Length::UntilEnd
}
