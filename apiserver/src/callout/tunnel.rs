//! What a connection carries once it was upgraded.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

/// Carries bytes both ways until either side hangs up.
pub(crate) fn tunnel(client: OnUpgrade, other: OnUpgrade) {
    tokio::spawn(async move {
        let (Ok(client), Ok(other)) = tokio::join!(client, other) else {
            return;
        };
        let (mut client, mut other) = (TokioIo::new(client), TokioIo::new(other));
        // Either side may hang up at any time; there is nobody to tell.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut other).await;
    });
}
