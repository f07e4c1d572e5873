//! gzip for large answers.

use std::io::Write as _;

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use http::{HeaderValue, Response, header};
use http_body::Body as _;

/// Smaller answers are cheaper to send than to compress (Kubernetes' own threshold).
const THRESHOLD: u64 = 128 << 10;

/// Compresses a large JSON answer as it is streamed; leaves everything else alone.
pub(crate) fn gzip(response: Response<Body>) -> Response<Body> {
    let json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    let declared = response.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse().ok());
    let size = declared
        .or(response.body().size_hint().exact())
        .unwrap_or(0);
    if !json || size < THRESHOLD || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts
        .headers
        .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts
        .headers
        .append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let state = (
        body.into_data_stream(),
        Some(GzEncoder::new(Vec::new(), Compression::fast())),
    );
    let frames = futures::stream::unfold(state, |(mut body, encoder)| async move {
        let mut encoder = encoder?;
        loop {
            match body.next().await {
                Some(Ok(chunk)) => {
                    if let Err(error) = encoder.write_all(&chunk) {
                        return Some((Err(axum::Error::new(error)), (body, None)));
                    }
                    if !encoder.get_ref().is_empty() {
                        let frame = Bytes::from(std::mem::take(encoder.get_mut()));
                        return Some((Ok(frame), (body, Some(encoder))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), (body, None))),
                None => {
                    let last = encoder.finish().map(Bytes::from).map_err(axum::Error::new);
                    return Some((last, (body, None)));
                }
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(frames))
}
