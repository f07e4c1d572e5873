//! News of packet rules that somebody else changed, for those who put them back.
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::network::nft::{self, Touched, Watch};

/// Whose rules were changed; each tells of several changes as one.
pub(super) struct RuleNews {
    /// Those of Services.
    pub(super) services: watch::Receiver<()>,
    /// Those of network drivers.
    pub(super) drivers: watch::Receiver<()>,
}

/// Hears of changes in the table of Services, and in those of drivers, until shutdown.
pub(super) fn follow(
    services_table: String,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> RuleNews {
    let (services, services_news) = watch::channel(());
    let (drivers, drivers_news) = watch::channel(());
    let shutdown = shutdown.clone();
    tasks.spawn(async move {
        let heard = async {
            let mut watch = Watch::open()?;
            loop {
                let (is_services, is_drivers) = match watch.next().await? {
                    Touched::Anything => (true, true),
                    Touched::Tables(names) => (
                        names.contains(&services_table),
                        names.iter().any(|name| nft::is_of_driver(name)),
                    ),
                };
                if is_services {
                    services.send_replace(());
                }
                if is_drivers {
                    drivers.send_replace(());
                }
            }
        };
        let failed: Option<std::io::Result<()>> = shutdown.run_until_cancelled(heard).await;
        if let Some(Err(error)) = failed {
            tracing::warn!(%error, "changes of packet rules by others are not noticed");
        }
        // Those who listen go on without news.
        shutdown.cancelled().await;
    });
    RuleNews {
        services: services_news,
        drivers: drivers_news,
    }
}
