//! `davit images`: fetches, imports, lists and removes the images of this node.

use std::path::{Path, PathBuf};

use davit_node::image::{ImageStore, Options};

use crate::connect::DEFAULT_DATA_DIR;
use crate::fault::Fault;
use crate::images::{Answer, Request, Row, perform, socket};
use crate::lock::{self, Role};
use crate::output::{Output, columns};
use crate::progress::Progress;

/// What `davit images` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
    /// Data directory of davit
    #[arg(long, global = true, env = "DAVIT_DATA_DIR", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Fetch images from their registries
    Pull {
        /// Such as busybox:1.36 or ghcr.io/org/app@sha256:…
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Load the images of archives, as made by docker save, podman save or skopeo
    Import {
        /// The archives
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List the images
    #[command(visible_alias = "list")]
    Ls,
    /// Remove images by name or id
    Rm {
        /// Names or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        let mut output = Output::new();
        for (what, request) in self.action.requests()? {
            match ask(&self.data_dir, request, &what).await? {
                Answer::Images(rows) if what.is_empty() => {
                    for line in table(&rows) {
                        output.line(&line)?;
                    }
                }
                Answer::Images(rows) => {
                    for row in rows {
                        output.line(row.names.first().unwrap_or(&row.id))?;
                    }
                }
                Answer::Removed { bytes } => {
                    output.line(&format!("removed {what}, {} freed", size(bytes)))?;
                }
                Answer::Failed { cause } => return Err(Fault::told(what, cause, "")),
                Answer::Progress { .. } => {}
            }
        }
        Ok(())
    }
}

impl Action {
    /// What to ask for, and what to call it.
    fn requests(self) -> Result<Vec<(String, Request)>, Fault> {
        Ok(match self {
            Self::Ls => vec![(String::new(), Request::List)],
            Self::Pull { images } => {
                let docker_config = docker_config();
                let pull = |image: String| {
                    let docker_config = docker_config.clone();
                    (
                        format!("pulling {image}"),
                        Request::Pull {
                            image,
                            docker_config,
                        },
                    )
                };
                images.into_iter().map(pull).collect()
            }
            Self::Import { files } => {
                let import = |file: PathBuf| {
                    let what = format!("importing {}", file.display());
                    let file = std::path::absolute(&file)
                        .map_err(|error| Fault::new(&what, error, "name the archive's file"))?;
                    Ok((what, Request::Import { file }))
                };
                files
                    .into_iter()
                    .map(import)
                    .collect::<Result<_, Fault>>()?
            }
            Self::Rm { images } => images
                .into_iter()
                .map(|name| (name.clone(), Request::Remove { name }))
                .collect(),
        })
    }
}

/// Asks the running agent, or does it here when none runs.
async fn ask(data_dir: &Path, request: Request, what: &str) -> Result<Answer, Fault> {
    let progress = Progress::new();
    progress.step(what);
    let report = |answer| {
        if let Answer::Progress { done, total } = answer {
            progress.step(&format!("{what}: {} of {}", size(done), size(total)));
        }
    };
    if let Some(answer) = socket::ask(data_dir, &request, report).await? {
        return Ok(answer);
    }
    lock::make_data_dir(data_dir)?;
    let _lock = lock::take(data_dir, Role::Agent)?;
    let store = ImageStore::open(&data_dir.join("images"), Options::default())
        .map_err(|error| Fault::new("opening the image store", error, ""))?;
    Ok(perform(&store, request, report).await)
}

/// What `docker login` left, if anything.
fn docker_config() -> Option<String> {
    std::fs::read_to_string(std::env::home_dir()?.join(".docker/config.json")).ok()
}

fn table(rows: &[Row]) -> Vec<String> {
    let mut lines = vec![["IMAGE", "ID", "SIZE"].map(str::to_owned).to_vec()];
    for row in rows {
        let id: String = row
            .id
            .trim_start_matches("sha256:")
            .chars()
            .take(12)
            .collect();
        let none = ["<none>".to_owned()];
        let names = if row.names.is_empty() {
            &none[..]
        } else {
            &row.names
        };
        lines.extend(
            names
                .iter()
                .map(|name| vec![name.clone(), id.clone(), size(row.size)]),
        );
    }
    columns(&lines)
}

/// Bytes for people: three digits and a decimal unit, as Docker writes them.
fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1000.0 && unit + 1 < units.len() {
        amount /= 1000.0;
        unit += 1;
    }
    let decimals = if unit == 0 || amount >= 100.0 {
        0
    } else {
        usize::from(amount < 10.0) + 1
    };
    let unit = units.get(unit).copied().unwrap_or_default();
    format!("{amount:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_a_table() {
        let row = |names: &[&str], size| Row {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            id: "sha256:0123456789abcdef".into(),
            size,
        };
        let lines = table(&[row(&["a:1", "b:2"], 4_260_000), row(&[], 17)]);
        let expected = [
            "IMAGE    ID             SIZE",
            "a:1      0123456789ab   4.26 MB",
            "b:2      0123456789ab   4.26 MB",
            "<none>   0123456789ab   17 B",
        ];
        assert_eq!(lines, expected);
        assert_eq!(size(123_456_789), "123 MB");
        assert_eq!(size(12_300_000_000), "12.3 GB");
    }
}
