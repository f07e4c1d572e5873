//! Who may use the API server and what is written down about it: the options that name files.

use std::path::PathBuf;
use std::time::Duration;

use davit_apiserver::{Config, audit};

/// Files about authentication, authorization and audit. The options are called as Kubernetes calls them.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Settings {
    /// AuthenticationConfiguration file: issuers whose tokens are believed (OpenID Connect)
    #[arg(long, value_name = "FILE")]
    authentication_config: Option<PathBuf>,
    /// Kubeconfig of a server that knows more bearer tokens (TokenReview)
    #[arg(long, value_name = "FILE")]
    authentication_token_webhook_config_file: Option<PathBuf>,
    /// Seconds for which that server's answers hold
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    authentication_token_webhook_cache_ttl: u64,
    /// AuthorizationConfiguration file: who is asked for rights, in which order [default: Node, RBAC]
    #[arg(long, value_name = "FILE")]
    authorization_config: Option<PathBuf>,
    /// Audit policy file; with it requests are logged
    #[arg(long, value_name = "FILE", requires = "audit_log_path")]
    audit_policy_file: Option<PathBuf>,
    /// Where the audit log goes; - is standard output
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    audit_log_path: Option<PathBuf>,
    /// Mebibytes after which the audit log is put aside
    #[arg(long, value_name = "MIB", default_value_t = 100)]
    audit_log_maxsize: u64,
    /// Audit logs put aside that are kept; 0 keeps all
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    audit_log_maxbackup: usize,
    /// Days for which they are kept; 0 is for ever
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    audit_log_maxage: u64,
}

impl Settings {
    /// Writes what was said into the server's configuration.
    pub(crate) fn apply(&self, config: &mut Config) {
        config
            .authentication
            .clone_from(&self.authentication_config);
        config.authorization.clone_from(&self.authorization_config);
        let ttl = Duration::from_secs(self.authentication_token_webhook_cache_ttl);
        let webhook = self.authentication_token_webhook_config_file.clone();
        config.token_webhook = webhook.map(|file| (file, ttl));
        let (policy, log) = (&self.audit_policy_file, &self.audit_log_path);
        config.audit = policy.clone().zip(log.clone()).map(|(policy, log)| {
            let mut settings = audit::Settings::new(policy, log);
            settings.max_bytes = self.audit_log_maxsize << 20;
            settings.max_files = self.audit_log_maxbackup;
            settings.max_age = Duration::from_secs(self.audit_log_maxage * 24 * 3600);
            settings
        });
    }
}
