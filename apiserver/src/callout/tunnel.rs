//! What a connection carries once it was upgraded.

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};

use crate::server::{Connection, wait_for_readers};

#[cfg(test)]
mod tests;

/// Carries bytes both ways until either side hangs up. A client may pause for as long as it likes: what is sent to it
/// then waits, and so does whoever sends it.
pub(crate) fn tunnel(client: OnUpgrade, other: OnUpgrade) {
    tokio::spawn(async move {
        let (Ok(client), Ok(other)) = tokio::join!(client, other) else {
            return;
        };
        let mut other = TokioIo::new(other);
        match downcast::<TokioIo<Connection>>(client) {
            Ok(parts) => {
                let client = parts.io.into_inner();
                wait_for_readers(&client);
                // What came right behind the request.
                if other.write_all(&parts.read_buf).await.is_ok() {
                    carry(client, other).await;
                }
            }
            // One that is served by something else than this server's listener.
            Err(client) => carry(TokioIo::new(client), other).await,
        }
    });
}

async fn carry(mut client: impl AsyncRead + AsyncWrite + Unpin, mut other: TokioIo<Upgraded>) {
    // Either side may hang up at any time; there is nobody to tell.
    let _ = copy_bidirectional(&mut client, &mut other).await;
}
