//! One object of every kind, from `samples.yaml`.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;

/// An object with what a test does to it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Sample {
    pub(crate) object: Value,
    /// A merge patch the object takes beside a label.
    #[serde(default)]
    pub(crate) change: Value,
    /// What is written through `/status`, if the kind has it.
    #[serde(default)]
    pub(crate) status: Value,
}

impl Sample {
    pub(crate) fn text(&self, field: &str) -> &str {
        self.object[field].as_str().unwrap()
    }

    /// Value of the label that only its objects have.
    pub(crate) fn label(&self) -> String {
        let (version, kind) = (self.text("apiVersion"), self.text("kind"));
        let tail = version.rsplit('/').next().unwrap();
        format!(
            "{}.{tail}.{kind}",
            version.split(['.', '/']).next().unwrap()
        )
    }

    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap()
    }
}

/// All of them, for a namespace.
pub(crate) fn all(namespace: &str) -> Vec<Sample> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, "sample");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = name;
    let request = params.serialize_request(&key).unwrap();
    let request_der = base64::engine::general_purpose::STANDARD.encode(request.der());
    let request = request.pem().unwrap();
    let mut authority = params.clone();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&key).unwrap().pem();
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let quoted = |text: &str| Value::from(text.replace("\r\n", "\n")).to_string();
    let text = include_str!("samples.yaml")
        .replace("$NAMESPACE", namespace)
        .replace("$DER", &request_der)
        .replace("$REQUEST", &base64(&request))
        .replace("$PEM", &quoted(&certificate))
        .replace("$CERTIFICATE", &base64(&certificate));
    serde_saphyr::from_str(&text).unwrap()
}
