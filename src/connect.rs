//! Finding the API server: by the data directory of a running davit, or by a kubeconfig.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::fault::Fault;

/// Where davit keeps its data unless told otherwise.
pub(crate) const DEFAULT_DATA_DIR: &str = "/var/lib/davit";

/// Path of the admin kubeconfig below the data directory.
pub(crate) fn kubeconfig_path(data_dir: &Path) -> PathBuf {
    data_dir.join("kubeconfig")
}

/// Which cluster a command talks to.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Target {
    /// Data directory of the running davit [default: /var/lib/davit]
    #[arg(long, env = "DAVIT_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Kubeconfig of the cluster, if not found by the data directory
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Namespace [default: that of the kubeconfig, or "default"]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

/// A cluster that can be asked.
#[derive(Clone)]
pub(crate) struct Connection {
    /// The client.
    pub(crate) client: kube::Client,
    /// The namespace of commands that name none.
    pub(crate) namespace: String,
}

impl Target {
    /// The data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir
            .clone()
            .unwrap_or_else(|| DEFAULT_DATA_DIR.into())
    }

    /// Makes a client. Nothing is sent yet.
    pub(crate) async fn connect(&self) -> Result<Connection, Fault> {
        let kubeconfig = self.read()?;
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(|error| Fault::new("reading the kubeconfig", error, ""))?;
        let namespace = self
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client = kube::Client::try_from(config)
            .map_err(|error| Fault::new("reading the kubeconfig", error, ""))?;
        let client = davit_api::named(&client, "davit", "");
        Ok(Connection { client, namespace })
    }

    /// The kubeconfig: that of the data directory if one was named, else the one named or in the
    /// environment, else that of the default data directory.
    fn read(&self) -> Result<Kubeconfig, Fault> {
        match (&self.data_dir, &self.kubeconfig) {
            (None, Some(list)) => read_list(list),
            _ => read_of_data_dir(&self.data_dir()),
        }
    }
}

fn read_of_data_dir(dir: &Path) -> Result<Kubeconfig, Fault> {
    let path = kubeconfig_path(dir);
    let what = format!("reading {}", path.display());
    match path.try_exists() {
        Ok(true) => Kubeconfig::read_from(&path).map_err(|error| {
            Fault::new(
                what,
                error,
                "run davit as the user who started it, or use --kubeconfig",
            )
        }),
        Ok(false) => Err(Fault::told(
            what,
            "there is no such file",
            "start davit with `davit up`, or name its --data-dir or a --kubeconfig",
        )),
        Err(error) => Err(Fault::new(
            what,
            error,
            "run davit as the user who started it, or use --kubeconfig",
        )),
    }
}

/// `KUBECONFIG` may name several files; earlier ones win, missing ones do not count.
fn read_list(list: &Path) -> Result<Kubeconfig, Fault> {
    let mut merged: Option<Kubeconfig> = None;
    let paths: Vec<PathBuf> = std::env::split_paths(list)
        .filter(|path| path.exists())
        .collect();
    for path in paths {
        let failed = |error| {
            Fault::new(
                format!("reading {}", path.display()),
                error,
                "name another with --kubeconfig",
            )
        };
        let next = Kubeconfig::read_from(&path).map_err(failed)?;
        merged = Some(match merged {
            Some(first) => first.merge(next).map_err(failed)?,
            None => next,
        });
    }
    merged.ok_or_else(|| {
        Fault::told(
            format!("reading {}", list.display()),
            "there is no such file",
            "name an existing one with --kubeconfig, or the --data-dir of a running davit",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_kubeconfig_says_how_to_get_one() {
        let dir = tempfile::tempdir().unwrap();
        let of_dir = Target {
            data_dir: Some(dir.path().into()),
            ..Target::default()
        };
        let fault = of_dir.read().unwrap_err().to_string();
        assert!(
            fault.contains("there is no such file; start davit with `davit up`"),
            "{fault}"
        );
        let missing = dir.path().join("none");
        let of_file = Target {
            kubeconfig: Some(missing),
            ..Target::default()
        };
        assert!(
            of_file
                .read()
                .unwrap_err()
                .to_string()
                .contains("no such file")
        );
    }
}
