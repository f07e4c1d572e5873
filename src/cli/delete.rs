//! `davit delete`: deletes objects and waits until they are gone.

use std::path::PathBuf;

use kube::api::{DeleteParams, ListParams, PropagationPolicy};
use kube::core::DynamicObject;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, ResourceExt};

use super::get::split_names;
use crate::catalog::{Catalog, Kind};
use crate::connect::{Connection, Target};
use crate::fault::Fault;
use crate::manifest;
use crate::output::Output;

/// What `davit delete` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kind, or KIND/NAME
    #[arg(required_unless_present = "files", conflicts_with = "files")]
    kind: Option<String>,
    /// Names
    names: Vec<String>,
    /// Objects of manifests: files, directories, or - for standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// All objects of the kind in the namespace
    #[arg(long)]
    all: bool,
    /// Seconds the containers get to end; 0 with --force
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
    /// Do not wait for containers to end
    #[arg(long)]
    force: bool,
    /// Leave what belongs to the object
    #[arg(long)]
    orphan: bool,
    /// It is no error when there is nothing to delete
    #[arg(long)]
    ignore_not_found: bool,
    /// Return at once
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    target: Target,
}

/// One object to be deleted.
struct Victim {
    kind: Kind,
    api: Api<DynamicObject>,
    name: String,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        let connection = self.target.connect().await?;
        let catalog = Catalog::fetch(&connection.client).await?;
        let victims = self.victims(&connection, &catalog).await?;
        let mut output = Output::new();
        if victims.is_empty() {
            return output.line("No resources found");
        }
        let mut going = Vec::new();
        for victim in victims {
            if let Some(uid) = self.delete(&victim, &mut output).await? {
                going.push((victim, uid));
            }
        }
        if !self.no_wait {
            for (victim, uid) in going {
                let gone = conditions::is_deleted(&uid);
                await_condition(victim.api, &victim.name, gone)
                    .await
                    .map_err(|error| {
                        Fault::new(format!("waiting for {} to be gone", victim.name), error, "")
                    })?;
            }
        }
        Ok(())
    }

    async fn victims(
        &self,
        connection: &Connection,
        catalog: &Catalog,
    ) -> Result<Vec<Victim>, Fault> {
        let Some(word) = &self.kind else {
            return self.of_manifests(connection, catalog);
        };
        let (word, names) = split_names(word, &self.names)?;
        let kind = catalog.find(&word)?;
        let api = kind.api(connection, None);
        let victim = |name: String| Victim {
            kind: kind.clone(),
            api: api.clone(),
            name,
        };
        let selector = match (&self.selector, names.is_empty()) {
            (None, false) => return Ok(names.into_iter().map(victim).collect()),
            (Some(_), false) => {
                return Err(Fault::told(
                    "",
                    "names and a selector exclude each other",
                    "use one",
                ));
            }
            (Some(selector), true) => selector.as_str(),
            (None, true) if self.all => "",
            (None, true) => {
                return Err(Fault::told(
                    "",
                    "nothing was named",
                    "name objects, or use --all or -l",
                ));
            }
        };
        let failed = |error| Fault::request("", &error);
        let list = api
            .list(&ListParams::default().labels(selector))
            .await
            .map_err(failed)?;
        Ok(list
            .items
            .into_iter()
            .map(|object| victim(object.name_any()))
            .collect())
    }

    /// The objects of manifests, last first, so that a namespace goes after what is in it. Objects of kinds
    /// that are gone are gone.
    fn of_manifests(
        &self,
        connection: &Connection,
        catalog: &Catalog,
    ) -> Result<Vec<Victim>, Fault> {
        let documents = manifest::read(&self.files)?;
        let known = documents.into_iter().rev().filter_map(|document| {
            let kind = catalog
                .of_manifest(&document.api_version, &document.kind)?
                .clone();
            let api = kind.api(connection, document.namespace.as_deref());
            Some(Victim {
                kind,
                api,
                name: document.name,
            })
        });
        Ok(known.collect())
    }

    /// Deletes one object; its UID if it may take a while.
    async fn delete(&self, victim: &Victim, output: &mut Output) -> Result<Option<String>, Fault> {
        let params = DeleteParams {
            grace_period_seconds: if self.force {
                Some(0)
            } else {
                self.grace_period
            },
            propagation_policy: Some(match self.orphan {
                true => PropagationPolicy::Orphan,
                false => PropagationPolicy::Background,
            }),
            ..DeleteParams::default()
        };
        let uid = match victim.api.delete(&victim.name, &params).await {
            Ok(answer) => answer.left().and_then(|object| object.uid()),
            Err(kube::Error::Api(status)) if status.code == 404 && self.ignore_not_found => {
                return Ok(None);
            }
            Err(error) => return Err(Fault::request("", &error)),
        };
        let how = if self.force {
            "force deleted"
        } else {
            "deleted"
        };
        output.line(&format!(
            "{} {:?} {how}",
            victim.kind.qualified_singular(),
            victim.name
        ))?;
        Ok(uid)
    }
}
