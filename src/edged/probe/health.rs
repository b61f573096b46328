//! A gRPC probe: the health check of a service at a pod's address, over HTTP/2
//! without TLS.

use std::path::PathBuf;
use std::time::Duration;

use smol::net::TcpStream;

use super::dial::{authority, dial};
use super::{Purpose, within};
use crate::edged::grpc::{Code, Error, Peer, once};
use crate::host::clock;
use crate::node::runtime::ProbeResult;
use crate::wire::health::{CHECK, HealthCheckRequest, HealthCheckResponse, ServingStatus};

/// Connects and asks once, both within the limit.
pub(super) async fn check(host: &str, port: u16, service: &str, limit: Duration) -> ProbeResult {
    let (begun, address, seconds) = (clock::monotonic(), authority(host, port), limit.as_secs());
    let failed = |why: String| ProbeResult::Failure(why);
    let stream = match within(limit, dial(host, port)).await {
        Some(Ok(stream)) => stream,
        Some(Err(why)) => {
            return failed(format!("error: failed to connect service at \"{address}\": {why}"));
        }
        None => {
            let what = "timeout: failed to connect service";
            return failed(format!("{what} \"{address}\" within {seconds}s"));
        }
    };
    let left = limit.saturating_sub(clock::monotonic().saturating_sub(begun));
    match within(left, ask(stream, &address, service)).await {
        Some(Ok(answer)) if answer.status == ServingStatus::Serving as i32 => ProbeResult::Success,
        Some(Ok(answer)) => {
            let status = ServingStatus::try_from(answer.status);
            let told = status.map_or_else(|_| answer.status.to_string(), |it| word(it).to_owned());
            failed(format!("service unhealthy (responded with \"{told}\")"))
        }
        Some(Err(Error::Refused { code: Code::UNIMPLEMENTED, message, .. })) => {
            let what = "error: this server does not implement the grpc health protocol";
            failed(format!("{what} (grpc.health.v1.Health): {message}"))
        }
        Some(Err(Error::Refused { code, message, .. })) => {
            let what = "error: health rpc probe failed: rpc error";
            failed(format!("{what}: code = {code} desc = {message}"))
        }
        Some(Err(cause)) => failed(format!("error: health rpc probe failed: {cause}")),
        None => failed(format!("timeout: health rpc did not complete within {seconds}s")),
    }
}

async fn ask(stream: TcpStream, address: &str, service: &str) -> Result<HealthCheckResponse, Error> {
    let peer = Peer { name: "gRPC server", socket: PathBuf::from(address) };
    let request = HealthCheckRequest { service: service.to_owned() };
    once(stream, &peer, address, CHECK, Purpose::Probe.agent(), &request).await
}

fn word(status: ServingStatus) -> &'static str {
    match status {
        ServingStatus::Unknown => "UNKNOWN",
        ServingStatus::Serving => "SERVING",
        ServingStatus::NotServing => "NOT_SERVING",
        ServingStatus::ServiceUnknown => "SERVICE_UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use smol::net::TcpListener;
    use tokio_util::compat::FuturesAsyncReadCompatExt;

    use super::*;
    use crate::host::tasks::Executor;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A message with its five bytes before it.
    fn frame(message: &impl prost::Message) -> bytes::Bytes {
        let message = message.encode_to_vec();
        [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat().into()
    }

    /// A server whose service `db` is ill, that knows no `x`, and is well else.
    async fn serve(listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(stream.compat()).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                assert_eq!((request.uri().path(), &request.headers()["content-type"]), (CHECK, &http::HeaderValue::from_static("application/grpc")));
                let mut body = request.into_body();
                let asked = body.data().await.unwrap().unwrap();
                let service = <HealthCheckRequest as prost::Message>::decode(&asked[5..]).unwrap().service;
                let head = http::Response::builder().header("content-type", "application/grpc");
                let status = match service.as_str() {
                    "db" => ServingStatus::NotServing,
                    "x" => {
                        let head = head.header("grpc-status", "5").header("grpc-message", "unknown service").body(()).unwrap();
                        respond.send_response(head, true).unwrap();
                        continue;
                    }
                    _ => ServingStatus::Serving,
                };
                let answer = HealthCheckResponse { status: status as i32 };
                let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
                body.send_data(frame(&answer), false).unwrap();
                body.send_trailers([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))].into_iter().collect()).unwrap();
            }
        }
    }

    #[test]
    fn a_service_is_well_only_when_it_says_so() {
        let executor = Executor::default();
        executor.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = executor.spawn(serve(listener));
            assert_eq!(check("127.0.0.1", port, "", LIMIT).await, ProbeResult::Success);
            assert_eq!(check("127.0.0.1", port, "db", LIMIT).await, ProbeResult::Failure("service unhealthy (responded with \"NOT_SERVING\")".into()));
            assert_eq!(
                check("127.0.0.1", port, "x", LIMIT).await,
                ProbeResult::Failure("error: health rpc probe failed: rpc error: code = NotFound desc = unknown service".into())
            );
            server.cancel().await;
            let ProbeResult::Failure(why) = check("127.0.0.1", port, "", LIMIT).await else { panic!("nobody listens") };
            let cause = format!("dial tcp 127.0.0.1:{port}: connect: connection refused");
            assert_eq!(why, format!("error: failed to connect service at \"127.0.0.1:{port}\": {cause}"));
        });
    }

    #[test]
    fn a_server_that_does_not_answer_is_late() {
        let executor = Executor::default();
        executor.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let result = check("127.0.0.1", port, "", Duration::ZERO).await;
            assert!(matches!(&result, ProbeResult::Failure(why) if why.starts_with("timeout: ")), "{result:?}");
        });
    }

    #[test]
    fn a_server_that_speaks_something_else_is_ill() {
        let executor = Executor::default();
        executor.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let _server = executor.spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let _ = futures_lite::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                }
            });
            assert!(matches!(check("127.0.0.1", port, "", LIMIT).await, ProbeResult::Failure(_)));
        });
    }
}
