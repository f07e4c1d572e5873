//! Confidential values on disk: opening the store with its keys, and changing the key in time or on demand.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::json;

use crate::error::StatusError;
use crate::handler::Answer;
use crate::storage::{self, Keyring, Store};
use crate::{ApiServer, Config, StoreKind};

/// `POST` here makes a new key and seals everything with it. Needs the right to `post` this path.
pub(crate) const ROTATE: &str = "/davit/encryption/rotate";

/// The longest sleep between two looks at the age of the key: wall clocks jump, timers do not notice.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
const SHORTEST_SLEEP: Duration = Duration::from_secs(60);

/// The store that the configuration asks for, and what seals its values.
pub(crate) fn open_store(
    config: &Config,
) -> Result<(Arc<dyn Store>, Option<Arc<Keyring>>), storage::Error> {
    if config.store == StoreKind::Memory {
        return Ok((storage::memory(&config.store_options)?, None));
    }
    let file = config.data_dir.join("pki").join("encryption.keys");
    let keyring = Keyring::load_or_create(&file, config.sealed.clone())?;
    let mut options = config.store_options.clone();
    options.seal = Some(keyring.clone());
    let store = storage::open_sled(&config.data_dir.join("store"), &options)?;
    Ok((store, Some(keyring)))
}

/// Changes the key when it is old enough, until the server stops.
pub(crate) async fn run(server: Arc<ApiServer>) {
    let Some(keyring) = server.keyring.clone() else {
        return;
    };
    loop {
        let left = server.config.seal_key_age.saturating_sub(keyring.age());
        if left.is_zero() && server.config.store_options.clock.wrong().is_none() {
            match rotate(&server, &keyring).await {
                Ok(()) => tracing::info!("confidential values are sealed with a new key"),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the key of confidential values could not be changed"
                ),
            }
        }
        let pause = left.clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
        tokio::select! {
            () = server.shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Answers `POST` to [`ROTATE`].
pub(crate) async fn rotate_now(server: &ApiServer) -> Result<Response<Body>, StatusError> {
    let Some(keyring) = &server.keyring else {
        return Err(StatusError::no_such_path());
    };
    rotate(server, keyring).await?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "message": format!("everything is sealed with a new key; the ring has {} keys", keyring.len()),
    });
    Ok(Answer::json(StatusCode::OK, &status).into_response())
}

/// A new key, and everything on disk sealed with it. When the second fails, the next start does it.
async fn rotate(server: &ApiServer, keyring: &Keyring) -> Result<(), storage::Error> {
    keyring.rotate()?;
    server.store.rewrite().await
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[tokio::test]
    async fn secrets_are_sealed_by_default_and_the_key_changes_on_demand() {
        let dir = tempfile::tempdir().unwrap();
        let config = || Config::new(dir.path().to_owned(), ([127, 0, 0, 1], 6443).into());
        let server = ApiServer::open(config()).await.unwrap();
        let secret = json!({
            "kind": "Secret", "apiVersion": "v1", "metadata": { "name": "s" },
            "stringData": { "password": "correct horse battery staple" },
        });
        let path = "/api/v1/namespaces/default/secrets";
        let (code, _) = server.request(Method::POST, path, Some(&secret)).await;
        assert_eq!(code, StatusCode::CREATED);
        let (code, answer) = server.request(Method::POST, ROTATE, None).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        assert_eq!(server.keyring.as_ref().unwrap().len(), 2);
        server.stop_streams();
        drop(server);
        let encoded = "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==";
        assert!(!shows(dir.path(), encoded.as_bytes()));
    }

    fn shows(dir: &std::path::Path, text: &[u8]) -> bool {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().path()).any(|path| {
            if path.is_dir() {
                shows(&path, text)
            } else {
                let bytes = std::fs::read(&path).unwrap_or_default();
                bytes.windows(text.len()).any(|part| part == text)
            }
        })
    }
}
