//! The API server and the controllers, wired together.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use davit_api::SpecialAddress;
use davit_apiserver::auth::{StaticTokens, UserInfo, groups, users};
use davit_apiserver::pki::Purpose;
use davit_apiserver::{ApiServer, Build, Config};
use davit_controller::{Component, Pulse};
use ipnet::IpNet;

use crate::access;
use crate::connect::{Connection, kubeconfig_path};
use crate::defaults;
use crate::fault::Fault;
use crate::listen;
use crate::parts::{Parts, Stage};
use crate::progress::Progress;

/// What the API server is told on the command line.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Settings {
    /// Where the API server listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:6443")]
    listen: SocketAddr,
    /// Address under which pods reach the API server [default: that of the default route]
    #[arg(long, value_name = "IP")]
    advertise: Option<IpAddr>,
    /// More names or addresses for the server's certificate; may be repeated
    #[arg(long = "tls-san", value_name = "NAME")]
    tls_names: Vec<String>,
    /// Addresses of the server's own machine or link at which webhooks may be called; may be repeated [default: none]
    #[arg(long = "allow-callouts", value_name = "CIDR")]
    callout_ranges: Vec<IpNet>,
    /// Addresses of Services
    #[arg(long, value_name = "CIDR", default_value = "10.96.0.0/16")]
    service_cidr: IpNet,
    /// Addresses of pods in the default network; used when that network is first made
    #[arg(long, value_name = "CIDR", default_value = "10.42.0.0/16")]
    pod_cidr: IpNet,
    /// For how long what was changed or deleted can still be read as it was (`get --at`, `diff --from`)
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    history_age: jiff::SignedDuration,
    /// Mebibytes of memory that this may take; older versions go first
    #[arg(long, value_name = "MIB", default_value_t = 8)]
    history_size: usize,
    #[command(flatten)]
    access: access::Settings,
    /// File of static tokens: lines of token,user,uid,"group1,group2"
    #[arg(long, value_name = "FILE")]
    token_auth_file: Option<PathBuf>,
}

/// What nodes are told too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared<'a> {
    /// DNS domain of Services.
    pub(crate) domain: &'a str,
    /// Ranges outside of the cluster that Services may take addresses from.
    pub(crate) external_ips: &'a [IpNet],
}

/// A running API server, with its controllers.
pub(crate) struct Running {
    /// The server.
    pub(crate) server: Arc<ApiServer>,
    /// The URL for programs of this machine.
    pub(crate) url: String,
}

impl Running {
    /// A client inside the process with all rights.
    pub(crate) fn admin(&self) -> Connection {
        let user = UserInfo::new(users::ADMIN, [groups::MASTERS]);
        Connection {
            client: davit_api::named(&self.server.client(user), "davit", ""),
            namespace: "default".into(),
        }
    }
}

impl Settings {
    /// Starts the API server and the controllers as parts of this process, on a data directory whose
    /// lock the caller holds.
    pub(crate) async fn start(
        &self,
        data_dir: &Path,
        shared: Shared<'_>,
        parts: &mut Parts,
        progress: &Progress,
    ) -> Result<Running, Fault> {
        progress.step("opening the store");
        let listener = listen::bind(self.listen)?;
        let failed = |error| Fault::new("", error, "");
        let address = listener
            .local_addr()
            .map_err(|error| Fault::new("listening", error, ""))?;
        let config = self.config(data_dir, address, shared)?;
        let server = ApiServer::open(config).await.map_err(failed)?;
        let url = listen::local_url(address);
        write_kubeconfig(&server, data_dir, &url)?;
        let (serving, stop) = (server.clone(), parts.stop_token(Stage::Server));
        parts.start(Stage::Server, "API server", async move {
            serving
                .serve(listener, stop)
                .await
                .map_err(|error| Fault::new("", error, ""))
        });
        progress.done(&format!("API server at {url}"));
        let running = Running { server, url };
        if let Some(wrong) = running.server.clock().wrong() {
            // Controllers would take every lease for lost, and delete what has a time to live.
            progress.step(&format!("waiting: {wrong}"));
            let right = async {
                running.server.clock().is_right().await;
                Ok(())
            };
            parts.during(right).await?;
        }
        defaults::create(&running.admin(), self.pod_cidr, self.service_cidr).await?;
        running.start_controllers(parts);
        progress.done("controllers and scheduler");
        Ok(running)
    }

    fn config(
        &self,
        data_dir: &Path,
        address: SocketAddr,
        shared: Shared<'_>,
    ) -> Result<Config, Fault> {
        if let Some(special) = self.advertise.and_then(SpecialAddress::of) {
            return Err(Fault::told(
                "",
                format!("the address to advertise {}", special.fault()),
                "give --advertise an address of this machine that pods can reach",
            ));
        }
        let mut config = Config::new(data_dir.to_owned(), address);
        config.advertise = self.advertise.or_else(|| reachable(address.ip()));
        config.tls_names.clone_from(&self.tls_names);
        config
            .tls_names
            .extend(config.advertise.map(|ip| ip.to_string()));
        config.cluster_domain = shared.domain.to_owned();
        config.external_ips = shared.external_ips.to_vec();
        config.callout_ranges.clone_from(&self.callout_ranges);
        config.build = Build {
            commit: env!("DAVIT_COMMIT"),
            tree: env!("DAVIT_TREE"),
            date: env!("DAVIT_DATE"),
            compiler: env!("DAVIT_COMPILER"),
        };
        config.service_cidr = self.service_cidr;
        config.store_options.history_age = self.history_age.unsigned_abs();
        config.store_options.history_bytes = self.history_size << 20;
        self.access.apply(&mut config);
        if let Some(path) = &self.token_auth_file {
            config.static_tokens =
                StaticTokens::read(path).map_err(|error| Fault::new("", error, ""))?;
        }
        Ok(config)
    }
}

impl Running {
    fn start_controllers(&self, parts: &mut Parts) {
        let user = UserInfo::new(users::CONTROLLER_MANAGER, [groups::MASTERS]);
        let client = self.server.client(user);
        let config = davit_controller::Config {
            identity: hostname(),
            // The store admits one process.
            leader_elect: false,
            root_ca: self.server.authority().ca_pem(),
            pulse: Pulse::default(),
        };
        for (name, component) in [
            ("controller-manager", Component::Controllers),
            ("scheduler", Component::Scheduler),
        ] {
            let pulse = config.pulse.clone();
            let probe = move || pulse.check(component).map_err(str::to_owned);
            self.server.tell_of(name, probe);
        }
        let stop = parts.stop_token(Stage::Client);
        parts.start(Stage::Client, "controllers", async move {
            let ended = davit_controller::run(client, config, stop).await;
            ended.map_err(|error| Fault::new("", error, ""))
        });
    }
}

/// Writes the admin's kubeconfig, and keeps its certificate fresh.
fn write_kubeconfig(server: &ApiServer, data_dir: &Path, url: &str) -> Result<(), Fault> {
    let authority = server.authority();
    let purpose = Purpose::Client {
        user: users::ADMIN.into(),
        group: groups::MASTERS.into(),
    };
    authority
        .leaf("admin", purpose)
        .and_then(|leaf| authority.keep_kubeconfig(kubeconfig_path(data_dir), url.to_owned(), leaf))
        .map_err(|error| Fault::new("writing the kubeconfig", error, ""))
}

/// The address under which others reach a server that listens on `ip`; `None` for loopback.
fn reachable(ip: IpAddr) -> Option<IpAddr> {
    let ip = if ip.is_unspecified() {
        default_route_address()?
    } else {
        ip
    };
    SpecialAddress::of(ip).is_none().then_some(ip)
}

/// The address this machine uses towards the world. Connecting a datagram socket sends nothing; it only
/// asks the kernel for a route, here to an address that is reserved for documentation (RFC 5737).
fn default_route_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    Some(ip)
}

fn hostname() -> String {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "davit".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_others_can_use_are_advertised() {
        for special in ["127.0.0.1", "169.254.1.1", "fe80::1"] {
            assert_eq!(reachable(special.parse().unwrap()), None);
        }
        let ip = "10.1.2.3".parse().unwrap();
        assert_eq!(reachable(ip), Some(ip));
    }
}
