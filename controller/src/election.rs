//! Leadership by Lease: one process runs the controllers of a cluster.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, is_conflict};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "davit-controller";
/// How long a lease outlives its last renewal.
const DURATION: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(2);

/// Leadership that is held until it is dropped, lost or released.
#[derive(Debug)]
pub(crate) struct Leadership {
    leases: Api<Lease>,
    identity: String,
}

/// What a candidate may do about the lease it sees.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    /// Nobody holds it, it ran out, or it is this process's own.
    Take,
    /// Another process holds it.
    Wait { holder: String },
}

fn claim(lease: Option<&LeaseSpec>, identity: &str, now: Timestamp) -> Claim {
    let Some(spec) = lease else {
        return Claim::Take;
    };
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder.is_empty() || holder == identity {
        return Claim::Take;
    }
    let renewed = spec
        .renew_time
        .as_ref()
        .map_or(0, |time| time.0.as_second());
    let lasts = spec.lease_duration_seconds.unwrap_or(0);
    if renewed + i64::from(lasts) < now.as_second() {
        Claim::Take
    } else {
        Claim::Wait {
            holder: holder.to_owned(),
        }
    }
}

/// The lease as this process writes it.
fn held(old: Option<&LeaseSpec>, identity: &str, now: Timestamp) -> LeaseSpec {
    let ours = old.is_some_and(|spec| spec.holder_identity.as_deref() == Some(identity));
    let transitions = old.and_then(|spec| spec.lease_transitions).unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: old
            .filter(|_| ours)
            .and_then(|spec| spec.acquire_time.clone())
            .or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if ours || old.is_none() {
            transitions
        } else {
            transitions + 1
        }),
        ..LeaseSpec::default()
    }
}

/// Waits until this process holds the lease; `None` when `stop` came first.
pub(crate) async fn acquire(
    client: Client,
    identity: &str,
    stop: &CancellationToken,
) -> Option<Leadership> {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let leadership = Leadership {
        leases,
        identity: identity.to_owned(),
    };
    loop {
        match leadership.renew().await {
            Ok(Claim::Take) => return Some(leadership),
            Ok(Claim::Wait { holder }) => tracing::debug!(holder, "waiting for leadership"),
            Err(error) => tracing::debug!(%error, "cannot take the controllers' lease"),
        }
        tokio::select! { () = stop.cancelled() => return None, () = sleep(RETRY) => {} }
    }
}

impl Leadership {
    /// Keeps the lease until `stop`, then gives it up.
    ///
    /// # Errors
    /// [`Error::LeadershipLost`] when another process took it, or when it could not be renewed
    /// before it ran out.
    pub(crate) async fn hold(self, stop: &CancellationToken) -> Result<(), Error> {
        let mut ticks = interval(RENEW);
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.release().await;
                    return Ok(());
                }
                _ = ticks.tick() => {}
            }
            match self.renew().await {
                Ok(Claim::Take) => renewed = Instant::now(),
                Ok(Claim::Wait { holder }) => return Err(Error::LeadershipLost { holder }),
                Err(error) => {
                    tracing::warn!(%error, "the controllers' lease was not renewed");
                    if renewed.elapsed() > DURATION {
                        return Err(Error::LeadershipLost {
                            holder: "nobody known".into(),
                        });
                    }
                }
            }
        }
    }

    async fn renew(&self) -> Result<Claim, kube::Error> {
        let now = Timestamp::now();
        let existing = self.leases.get_opt(NAME).await?;
        let spec = existing.as_ref().and_then(|lease| lease.spec.as_ref());
        let decision = claim(spec, &self.identity, now);
        if decision != Claim::Take {
            return Ok(decision);
        }
        let written = held(spec, &self.identity, now);
        let outcome = match existing {
            Some(mut lease) => {
                lease.spec = Some(written);
                self.leases
                    .replace(NAME, &PostParams::default(), &lease)
                    .await
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(NAME.into()),
                    ..ObjectMeta::default()
                };
                let lease = Lease {
                    metadata,
                    spec: Some(written),
                };
                self.leases.create(&PostParams::default(), &lease).await
            }
        };
        match outcome {
            Ok(_) => Ok(Claim::Take),
            Err(error) if is_conflict(&error) => Ok(Claim::Wait {
                holder: "another process".into(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Lets another process take over at once. Failing to is harmless: the lease runs out.
    async fn release(&self) {
        let Ok(Some(mut lease)) = self.leases.get_opt(NAME).await else {
            return;
        };
        if let Some(spec) = &mut lease.spec
            && spec.holder_identity.as_deref() == Some(&self.identity)
        {
            spec.holder_identity = None;
            let _ = self
                .leases
                .replace(NAME, &PostParams::default(), &lease)
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_lease_is_taken_when_free_own_or_expired() {
        assert_eq!(claim(None, "a", at(100)), Claim::Take);
        let spec = held(None, "a", at(100));
        assert_eq!(claim(Some(&spec), "a", at(101)), Claim::Take);
        assert_eq!(
            claim(Some(&spec), "b", at(110)),
            Claim::Wait { holder: "a".into() }
        );
        assert_eq!(claim(Some(&spec), "b", at(116)), Claim::Take);
    }

    #[test]
    fn transitions_count_changes_of_holder_only() {
        let first = held(None, "a", at(1));
        let renewed = held(Some(&first), "a", at(5));
        assert_eq!(renewed.lease_transitions, Some(0));
        assert_eq!(renewed.acquire_time, first.acquire_time);
        assert_eq!(held(Some(&renewed), "b", at(30)).lease_transitions, Some(1));
    }
}
