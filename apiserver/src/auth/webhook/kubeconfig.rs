//! What a kubeconfig file says of another server: where it is, whom to believe there, and what to show it.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde_json::Value;

use crate::auth::ConfigError;
use crate::callout::{Credential, Place, Target, Trust};

/// The server of the current context.
pub(super) struct Access {
    pub(super) target: Target,
    /// The `Authorization` header of every request.
    pub(super) authorization: Option<HeaderValue>,
    /// The kubeconfig and the files that it names.
    pub(super) files: Vec<PathBuf>,
}

impl Access {
    /// Reads a kubeconfig with the files beside it.
    ///
    /// # Errors
    /// What is missing or wrong in it.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = ConfigError::read(path)?;
        let mut files = Files {
            beside: path.parent().unwrap_or(Path::new(".")).to_owned(),
            read: vec![path.to_owned()],
        };
        let found = parse(&text, &mut files);
        let (target, authorization) = found.map_err(|what| ConfigError::invalid(path, what))?;
        Ok(Self {
            target,
            authorization,
            files: files.read,
        })
    }
}

/// Files named by another; relative names are beside it.
struct Files {
    beside: PathBuf,
    read: Vec<PathBuf>,
}

impl Files {
    fn read(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let path = self.beside.join(name);
        self.read.push(path.clone());
        std::fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))
    }

    /// What `<key>-data` holds or the file that `<key>` names; nothing if there is neither.
    fn data(&mut self, of: &Value, key: &str) -> Result<Vec<u8>, String> {
        match (&of[format!("{key}-data")], &of[key]) {
            (Value::String(data), _) => STANDARD
                .decode(data)
                .map_err(|error| format!("{key}-data: {error}")),
            (_, Value::String(file)) => self.read(file),
            _ => Ok(Vec::new()),
        }
    }
}

fn parse(text: &str, files: &mut Files) -> Result<(Target, Option<HeaderValue>), String> {
    let config: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let named = |list: &str, name: &Value| {
        let items = config[list].as_array().into_iter().flatten();
        items.clone().find(|item| item["name"] == *name).cloned()
    };
    let current = &config["current-context"];
    let context = named("contexts", current).ok_or("it has no current context")?;
    let context = &context["context"];
    let cluster = named("clusters", &context["cluster"]).ok_or("its context has no cluster")?;
    let cluster = &cluster["cluster"];
    let user = named("users", &context["user"]).unwrap_or_default();
    let user = &user["user"];
    for key in ["exec", "auth-provider"] {
        if !user[key].is_null() {
            return Err(format!(
                "users: {key} is not supported here; use a certificate, a token or a password"
            ));
        }
    }
    let url = cluster["server"].as_str().unwrap_or_default();
    let place = Place::configured(url)?;
    let mut trust = Trust::bundle(&files.data(cluster, "certificate-authority")?);
    trust.blindly = cluster["insecure-skip-tls-verify"] == true;
    let certificate = files.data(user, "client-certificate")?;
    let key = files.data(user, "client-key")?;
    trust.credential = match (certificate.is_empty(), key.is_empty()) {
        (true, true) => None,
        (false, false) => Some(Credential::new(&certificate, &key)?),
        _ => return Err("users: client-certificate and client-key belong together".to_owned()),
    };
    Ok((Target { place, trust }, authorization(user, files)?))
}

fn authorization(user: &Value, files: &mut Files) -> Result<Option<HeaderValue>, String> {
    let text = |key: &str| user[key].as_str().unwrap_or_default();
    let token = match text("tokenFile") {
        "" => text("token").to_owned(),
        file => {
            let token = String::from_utf8_lossy(&files.read(file)?)
                .trim()
                .to_owned();
            if token.is_empty() {
                return Err(format!("read empty token from {file}"));
            }
            token
        }
    };
    let (name, password) = (text("username"), text("password"));
    let value = match (token.is_empty(), name.is_empty()) {
        (true, true) => return Ok(None),
        (false, true) => format!("Bearer {token}"),
        (true, false) => format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))),
        (false, false) => {
            let what = "users: username/password or bearer token may be set, but not both";
            return Err(what.to_owned());
        }
    };
    let mut value = HeaderValue::from_str(&value)
        .map_err(|_| "users: the token has characters that no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}
