//! One call on a connection of its own, for those who ask once.

use futures_lite::future::{or, pending};
use futures_lite::io::{AsyncRead, AsyncWrite};
use http::Request;
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::{Error, Peer, Stream, frame};

/// Bytes of headers and of a message taken: whoever is asked once is asked how it is,
/// and may be a container.
const MAX_HEADERS: u32 = 16 << 10;
const MAX_MESSAGE: usize = 16 << 10;

/// Calls `http://AUTHORITY/CALL` over a stream that is open; `agent` is who asks.
pub async fn once<A: prost::Message + Default>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: &Peer,
    authority: &str,
    call: &'static str,
    agent: &str,
    request: &impl prost::Message,
) -> Result<A, Error> {
    let broken = |cause| Error::Broken { peer: peer.clone(), call, cause };
    let head = Request::post(format!("http://{authority}{call}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", agent)
        .body(())
        .map_err(|why| Error::garbled(peer, call, why))?;
    let mut builder = h2::client::Builder::new();
    builder.max_header_list_size(MAX_HEADERS).enable_push(false);
    let (send, connection) = builder.handshake(stream.compat()).await.map_err(broken)?;
    let talk = async {
        let (response, mut body) = send.ready().await.map_err(broken)?.send_request(head, false).map_err(broken)?;
        body.send_data(frame(&request.encode_to_vec()), true).map_err(broken)?;
        let mut answers = Stream::new(peer, call, response).with_limit(MAX_MESSAGE);
        let answer = answers.expect().await?;
        // The verdict comes after the answer.
        answers.next::<A>().await.map(|_| answer)
    };
    // It moves the bytes; its own end shows in the talk.
    let moved = async {
        let _ = connection.await;
        pending().await
    };
    or(talk, moved).await
}
