//! The file that tells clients where the server is and who they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::KeyPairPem;

/// One cluster, one user, one context, all called `davit`.
#[derive(Clone, Debug)]
pub struct Kubeconfig<'a> {
    /// `https://host:port`.
    pub server: &'a str,
    /// Certificate of the CA that signed the server's certificate, PEM.
    pub ca: &'a str,
    /// Client certificate and key.
    pub identity: &'a KeyPairPem,
}

impl Kubeconfig<'_> {
    /// The file's text, YAML.
    pub fn to_yaml(&self) -> String {
        let Self {
            server,
            ca,
            identity,
        } = self;
        let (ca, certificate, key) = (
            STANDARD.encode(ca),
            STANDARD.encode(&identity.certificate),
            STANDARD.encode(&identity.key),
        );
        let server = json!(server);
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             current-context: davit\n\
             clusters:\n\
             - name: davit\n  \
               cluster:\n    \
                 server: {server}\n    \
                 certificate-authority-data: {ca}\n\
             users:\n\
             - name: davit\n  \
               user:\n    \
                 client-certificate-data: {certificate}\n    \
                 client-key-data: {key}\n\
             contexts:\n\
             - name: davit\n  \
               context:\n    \
                 cluster: davit\n    \
                 user: davit\n"
        )
    }
}
