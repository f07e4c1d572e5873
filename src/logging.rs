//! The log, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What to log.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// A filter such as `info` or `davit_node=debug,warn`.
    pub(crate) filter: String,
    /// How to write it.
    pub(crate) format: Format,
}

/// Starts logging. A filter that cannot be read is replaced by `info` and complained about.
pub(crate) fn start(settings: &Settings) {
    let filter = EnvFilter::try_new(&settings.filter).unwrap_or_else(|error| {
        crate::output::note(&format!(
            "davit: log filter {:?}: {error}; using info",
            settings.filter
        ));
        EnvFilter::new("info")
    });
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Starting twice is impossible: there is one call, in main.
    let _ = match settings.format {
        Format::Text => registry.with(layer).try_init(),
        Format::Json => registry.with(layer.json()).try_init(),
    };
}
