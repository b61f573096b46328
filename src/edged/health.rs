//! A gRPC probe: the health check of a service at a pod's address, over HTTP/2
//! without TLS.

use std::path::PathBuf;

use smol::net::TcpStream;

use super::grpc::{Code, Error, Peer, once};
use super::probe::{AGENT, authority};
use crate::node::runtime::ProbeResult;
use crate::wire::health::{CHECK, HealthCheckRequest, HealthCheckResponse, ServingStatus};

/// Asks once; whoever calls sets the limit.
pub(super) async fn check(host: &str, port: u16, service: &str) -> ProbeResult {
    match ask(host, port, service).await {
        Ok(answer) if answer.status == ServingStatus::Serving as i32 => ProbeResult::Success,
        Ok(answer) => {
            let told = ServingStatus::try_from(answer.status).map_or_else(|_| answer.status.to_string(), |status| word(status).to_owned());
            ProbeResult::Failure(format!("service unhealthy (responded with \"{told}\")"))
        }
        Err(Error::Refused { code: Code::UNIMPLEMENTED, message, .. }) => {
            ProbeResult::Failure(format!("this server does not implement the grpc health protocol: {message}"))
        }
        Err(cause) => ProbeResult::Failure(cause.to_string()),
    }
}

async fn ask(host: &str, port: u16, service: &str) -> Result<HealthCheckResponse, Error> {
    let authority = authority(host, port);
    let peer = Peer { name: "gRPC server", socket: PathBuf::from(&authority) };
    let stream = TcpStream::connect((host, port)).await.map_err(|cause| Error::Unreachable { peer: peer.clone(), cause })?;
    once(stream, &peer, &authority, CHECK, AGENT, &HealthCheckRequest { service: service.to_owned() }).await
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
            assert_eq!(check("127.0.0.1", port, "").await, ProbeResult::Success);
            assert_eq!(check("127.0.0.1", port, "db").await, ProbeResult::Failure("service unhealthy (responded with \"NOT_SERVING\")".into()));
            assert_eq!(check("127.0.0.1", port, "x").await, ProbeResult::Failure("Check failed (NotFound): unknown service".into()));
            server.cancel().await;
            let ProbeResult::Failure(why) = check("127.0.0.1", port, "").await else { panic!("nobody listens") };
            assert!(why.starts_with(&format!("cannot reach the gRPC server at '127.0.0.1:{port}': ")), "{why}");
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
            assert!(matches!(check("127.0.0.1", port, "").await, ProbeResult::Failure(_)));
        });
    }
}
