//! `davit logs`: what the containers of a pod print.

use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;

use crate::connect::Target;
use crate::fault::Fault;
use crate::output::Output;

/// What `davit logs` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Pod, as NAME or pod/NAME
    pod: String,
    /// Container, if the pod has several
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Go on and print what comes
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "COUNT")]
    tail: Option<u32>,
    /// Only what is not older, as in 30s, 5m or 2h
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    since: Option<i64>,
    /// The container before its last restart
    #[arg(short, long)]
    previous: bool,
    /// Put the time before every line
    #[arg(long)]
    timestamps: bool,
    #[command(flatten)]
    target: Target,
}

impl Args {
    pub(super) async fn run(self) -> Result<(), Fault> {
        let connection = self.target.connect().await?;
        let name = match self.pod.split_once('/') {
            None => self.pod.as_str(),
            Some(("pod" | "pods" | "po", name)) => name,
            Some((kind, _)) => {
                return Err(Fault::told(
                    "",
                    format!("a {kind} has no log"),
                    "name one of its pods",
                ));
            }
        };
        let pods = Api::<Pod>::namespaced(connection.client, &connection.namespace);
        let params = LogParams {
            container: self.container,
            follow: self.follow,
            previous: self.previous,
            since_seconds: self.since,
            tail_lines: self.tail.map(i64::from),
            timestamps: self.timestamps,
            ..LogParams::default()
        };
        let failed = |error| Fault::request("", &error);
        let stream = pods.log_stream(name, &params).await.map_err(failed)?;
        let mut stream = std::pin::pin!(stream);
        let mut output = Output::new();
        let mut buffer = vec![0; 32 << 10];
        loop {
            let read = stream.read(&mut buffer).await;
            match read.map_err(|error| Fault::new("reading the log", error, ""))? {
                0 => return Ok(()),
                count => output.piece(buffer.get(..count).unwrap_or_default())?,
            }
        }
    }
}

/// Seconds of a duration such as `90`, `30s`, `5m`, `2h` or `1d`.
fn seconds(text: &str) -> Result<i64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        Some("d") => 86_400,
        _ => return Err("write it as in 30s, 5m or 2h".into()),
    };
    let count: i64 = digits
        .parse()
        .map_err(|_| "write it as in 30s, 5m or 2h".to_owned())?;
    count
        .checked_mul(unit)
        .filter(|s| *s > 0)
        .ok_or_else(|| "it must be above zero".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let cases = [
            ("90", Some(90)),
            ("5m", Some(300)),
            ("2h", Some(7200)),
            ("1d", Some(86_400)),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        for text in [
            "",
            "m",
            "5x",
            "-1s",
            "0s",
            "99999999999999999999",
            "9223372036854775807d",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
