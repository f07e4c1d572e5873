//! Probing by the gRPC health checking protocol (`grpc.health.v1.Health/Check`).
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::GRPCAction;

use super::{Target, Verdict, tcp};

/// A health answer is a few bytes; anything larger is none.
const MOST_BYTES: usize = 4096;
const SERVING: u64 = 1;

pub(super) async fn check(target: &Target, action: &GRPCAction, timeout: Duration) -> Verdict {
    let Ok(port) = u16::try_from(action.port) else {
        return Verdict::Error(format!("invalid port number: {}", action.port));
    };
    let address = SocketAddr::new(target.ip, port);
    let service = action.service.as_deref().unwrap_or_default();
    match tokio::time::timeout(timeout, ask(address, service, timeout)).await {
        Ok(Ok(SERVING)) => Verdict::Pass,
        Ok(Ok(status)) => Verdict::Fail(format!(
            "service unhealthy (responded with \"{}\")",
            name(status)
        )),
        Ok(Err(message)) => Verdict::Fail(message),
        Err(_) => Verdict::Fail(format!(
            "timeout: failed to connect service \"{address}\" within {}s",
            timeout.as_secs()
        )),
    }
}

fn name(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "an unknown status",
    }
}

async fn ask(address: SocketAddr, service: &str, timeout: Duration) -> Result<u64, String> {
    let stream = tcp::connect(None, address.ip(), address.port(), false, timeout).await?;
    let failed = |error: hyper::Error| {
        format!(
            "rpc to {address} failed: {}",
            crate::pod::services::chain(&error)
        )
    };
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(failed)?;
    let driver = tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(framed(service)))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        if let Some(refusal) = refusal(response.headers()) {
            return Err(refusal);
        }
        let body = Limited::new(response.into_body(), MOST_BYTES)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        if let Some(refusal) = body.trailers().and_then(refusal) {
            return Err(refusal);
        }
        status(&body.to_bytes()).ok_or_else(|| "the answer is no health check response".to_owned())
    };
    let answer = answer.await;
    driver.abort();
    answer
}

/// A non-zero `grpc-status` as text.
fn refusal(headers: &http::HeaderMap) -> Option<String> {
    let code = headers.get("grpc-status")?.to_str().ok()?;
    let message = headers
        .get("grpc-message")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    (code != "0").then(|| format!("service unhealthy (grpc-status {code}: {message})"))
}

/// `HealthCheckRequest { service }` with gRPC's length prefix.
fn framed(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len());
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put(message);
    frame.freeze()
}

fn put_varint(buffer: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        buffer.put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    buffer.put_u8(u8::try_from(value).unwrap_or(0));
}

/// Field 1 of `HealthCheckResponse`; an absent one is 0.
fn status(frame: &[u8]) -> Option<u64> {
    let message = frame.get(5..)?;
    match message {
        [] => Some(0),
        [0x08, rest @ ..] => varint(rest),
        _ => None,
    }
}

fn varint(bytes: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(index * 7).ok()?)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_encoded_and_read() {
        assert_eq!(&framed("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&framed("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(status(&[0, 0, 0, 0, 3, 8, 0x80, 0x01]), Some(128));
        for broken in [
            &b""[..],
            &[0, 0],
            &[0, 0, 0, 0, 1, 9],
            &[0, 0, 0, 0, 2, 8, 0x80],
        ] {
            assert_eq!(status(broken), None, "{broken:?}");
        }
    }
}
