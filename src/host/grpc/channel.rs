//! One connection to a peer carries all calls; it is opened when first needed
//! and again after it died.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use h2::client::SendRequest;
use http::Request;
use smol::lock::Mutex;
use smol::net::unix::UnixStream;
use smol::{Task, Timer};
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::fields::has_more_fields;
use super::{Error, MAX_ENTRIES, MAX_HEADERS, Peer, Stream, frame};
use crate::host::tasks::Executor;

/// Opening the socket.
const DIAL: Duration = Duration::from_secs(5);
/// Of one stream, and of all together: a reader that is late with its stream
/// never stops the answers of the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The peer behind a socket. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Channel(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    peer: Peer,
    executor: Executor,
    live: Mutex<Option<Live>>,
}

#[derive(Debug)]
struct Live {
    send: SendRequest<Bytes>,
    /// Moves the bytes of all streams; it ends with the connection.
    connection: Task<()>,
}

impl Channel {
    /// A channel to `peer`; nothing is opened yet.
    pub fn new(peer: Peer, executor: &Executor) -> Self {
        Self(Rc::new(Shared { peer, executor: executor.clone(), live: Mutex::new(None) }))
    }

    /// A unary call, for at most `limit`.
    pub async fn call<A: prost::Message + Default>(&self, call: &'static str, request: &impl prost::Message, limit: Duration) -> Result<A, Error> {
        let answer = self.exchange(call, frame(&request.encode_to_vec()), limit).await?;
        if has_more_fields(&answer, MAX_ENTRIES) {
            return Err(Error::garbled(&self.0.peer, call, format!("a list of more than {MAX_ENTRIES} entries")));
        }
        A::decode(answer).map_err(|cause| Error::garbled(&self.0.peer, call, cause))
    }

    async fn exchange(&self, call: &'static str, request: Bytes, limit: Duration) -> Result<Bytes, Error> {
        let talk = async {
            let mut stream = self.open(call, None, request).await?;
            let answer = stream.message().await?.ok_or_else(|| Error::garbled(&self.0.peer, call, "nothing"))?;
            // The verdict comes after the answer.
            match stream.message().await? {
                None => Ok(answer),
                Some(_) => Err(Error::garbled(&self.0.peer, call, "two messages")),
            }
        };
        let late = async {
            Timer::after(limit).await;
            Err(Error::TimedOut { peer: self.0.peer.clone(), call, limit })
        };
        or(talk, late).await
    }

    /// Begins a call whose answers go on and on. Returns before the peer
    /// answered: a refusal shows with the first message.
    pub async fn stream(&self, call: &'static str, header: Option<(&'static str, &'static str)>, request: &impl prost::Message) -> Result<Stream, Error> {
        self.open(call, header, frame(&request.encode_to_vec())).await
    }

    async fn open(&self, call: &'static str, header: Option<(&'static str, &'static str)>, request: Bytes) -> Result<Stream, Error> {
        let broken = |cause| Error::Broken { peer: self.0.peer.clone(), call, cause };
        let mut builder = Request::post(format!("http://localhost{call}")).header("content-type", "application/grpc").header("te", "trailers");
        if let Some((name, value)) = header {
            builder = builder.header(name, value);
        }
        let head = builder.body(()).expect("path and headers are constants of ours");
        let mut send = self.ready(call).await?;
        let (response, mut body) = send.send_request(head, false).map_err(broken)?;
        body.send_data(request, true).map_err(broken)?;
        Ok(Stream::new(&self.0.peer, call, response))
    }

    /// A connection that takes a request. One that died since is opened again,
    /// once: nothing was sent on it.
    async fn ready(&self, call: &'static str) -> Result<SendRequest<Bytes>, Error> {
        let mut live = self.0.live.lock().await;
        if let Some(connection) = live.take_if(|live| live.connection.is_finished()) {
            drop(connection);
        }
        if let Some(found) = live.as_ref() {
            if let Ok(send) = found.send.clone().ready().await {
                return Ok(send);
            }
            *live = None;
        }
        let new = self.dial(call).await?;
        let send = new.send.clone().ready().await.map_err(|cause| Error::Broken { peer: self.0.peer.clone(), call, cause })?;
        *live = Some(new);
        Ok(send)
    }

    async fn dial(&self, call: &'static str) -> Result<Live, Error> {
        let peer = &self.0.peer;
        let late = async {
            Timer::after(DIAL).await;
            Err(std::io::ErrorKind::TimedOut.into())
        };
        let stream = or(UnixStream::connect(&peer.socket), late).await.map_err(|cause| Error::Unreachable { peer: peer.clone(), cause })?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW).max_header_list_size(MAX_HEADERS).enable_push(false);
        let (send, connection) = builder.handshake(stream.compat()).await.map_err(|cause| Error::Broken { peer: peer.clone(), call, cause })?;
        let named = peer.clone();
        let connection = self.0.executor.spawn(async move {
            if let Err(cause) = connection.await {
                log::debug!(target: "grpc", "the connection to {named} ended: {cause}");
            }
        });
        Ok(Live { send, connection })
    }
}

#[cfg(test)]
mod tests {
    use smol::net::unix::UnixListener;

    use super::super::MAX_MESSAGE;
    use super::*;

    /// What a peer of the tests does with a connection's calls.
    #[derive(Clone, Copy)]
    enum Manner {
        /// Answers with a text of so many bytes.
        Answer(usize),
        /// Answers with a list of so many empty texts.
        Entries(usize),
        /// Refuses, with the head only.
        Refuse,
        /// Says nothing.
        Mute,
        /// Ends the connection after one answer.
        Once,
    }

    fn against<T>(manner: Manner, work: impl AsyncFnOnce(Channel) -> T) -> T {
        let executor = Executor::default();
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("selvedge-channel-{}-{number}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let owner = executor.clone();
        let _server = executor.spawn(async move {
            let mut connections = Vec::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.push(owner.spawn(serve(stream, manner)));
            }
        });
        let client = Channel::new(Peer { name: "peer", socket: path.clone() }, &executor);
        let result = executor.block_on(work(client));
        std::fs::remove_file(path).unwrap();
        result
    }

    async fn serve(stream: UnixStream, manner: Manner) {
        let mut connection = h2::server::handshake(stream.compat()).await.unwrap();
        let mut held = Vec::new();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let head = http::Response::builder().header("content-type", "application/grpc");
            let (answer, once) = match manner {
                Manner::Refuse => {
                    let head = head.header("grpc-status", "5").header("grpc-message", "no 100%25 such caf%C3%A9").body(()).unwrap();
                    respond.send_response(head, true).unwrap();
                    continue;
                }
                Manner::Mute => {
                    held.push(respond);
                    continue;
                }
                Manner::Answer(size) => (prost::Message::encode_to_vec(&"r".repeat(size)), false),
                Manner::Entries(count) => ([0x0a, 0].repeat(count), false),
                Manner::Once => (prost::Message::encode_to_vec(&"r".to_owned()), true),
            };
            let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
            body.send_data(frame(&answer), false).unwrap();
            body.send_trailers([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))].into_iter().collect()).unwrap();
            if once {
                connection.graceful_shutdown();
            }
        }
    }

    async fn name(client: &Channel) -> Result<usize, Error> {
        client.call("/x/Version", &(), Duration::from_secs(10)).await.map(|answer: String| answer.len())
    }

    #[test]
    fn an_answer_larger_than_every_window_comes_whole() {
        assert_eq!(against(Manner::Answer(3 << 20), async |client| name(&client).await).unwrap(), 3 << 20);
    }

    #[test]
    fn an_answer_beyond_the_limit_is_refused_by_its_length() {
        let why = against(Manner::Answer(MAX_MESSAGE + 1), async |client| name(&client).await).unwrap_err().to_string();
        assert!(why.ends_with("answered Version with a message of 16777222 bytes; at most 16777216 are taken"), "{why}");
    }

    #[test]
    fn a_list_of_very_many_entries_is_refused_before_they_are_made() {
        #[derive(Clone, PartialEq, prost::Message)]
        struct List {
            #[prost(string, repeated, tag = "1")]
            entries: Vec<String>,
        }
        // Two bytes each: 16 MiB of answer would be 200 MB of empty texts.
        let why = against(Manner::Entries(8 << 20), async |client| {
            let answer = client.call("/x/List", &(), Duration::from_secs(10)).await;
            answer.map(|list: List| list.entries.len()).unwrap_err().to_string()
        });
        assert!(why.ends_with("answered List with a list of more than 65536 entries"), "{why}");
    }

    #[test]
    fn a_refusal_without_a_body_keeps_its_code_and_words() {
        let cause = against(Manner::Refuse, async |client| name(&client).await).unwrap_err();
        assert!(cause.is_not_found() && !cause.is_down());
        assert_eq!(cause.to_string(), "Version failed (NotFound): no 100% such café");
    }

    #[test]
    fn a_connection_that_ended_is_opened_again() {
        let sizes = against(Manner::Once, async |client| [name(&client).await.unwrap(), name(&client).await.unwrap(), name(&client).await.unwrap()]);
        assert_eq!(sizes, [1, 1, 1]);
    }

    #[test]
    fn a_mute_peer_costs_no_more_than_the_limit() {
        let cause = against(Manner::Mute, async |client| client.call::<()>("/x/Y", &(), Duration::from_millis(1)).await).unwrap_err();
        assert!(matches!(cause, Error::TimedOut { .. }), "{cause}");
    }

    #[test]
    fn nobody_at_the_socket_is_told_with_its_path() {
        let executor = Executor::default();
        let client = Channel::new(Peer { name: "peer", socket: "/nowhere/at.sock".into() }, &executor);
        let cause = executor.block_on(name(&client)).unwrap_err();
        assert!(cause.is_down());
        assert!(cause.to_string().starts_with("cannot reach the peer at '/nowhere/at.sock': "), "{cause}");
    }
}
