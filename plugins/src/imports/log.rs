//! `davit:plugin/log`: lines, events and counters, bounded per call.

use super::CallState;
use crate::capabilities::DriverEvent;
use crate::engine::bindings::davit::plugin::log;

/// Lines of one call that are kept; more are counted.
const MAX_LINES: usize = 256;
const MAX_EVENTS: usize = 16;
const MAX_LINE_BYTES: usize = 4096;

/// What one call logged.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: usize,
    /// Events to be raised when the call succeeds or fails, but not when it is dropped.
    pub(crate) events: Vec<DriverEvent>,
    /// Text of the guest's panic, if it said one.
    pub(crate) panic: Option<String>,
}

impl log::Host for CallState {
    fn write(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) {
        let message = printable(&message);
        if fields.iter().any(|(key, _)| key == "panic") {
            self.log.panic = Some(message.clone());
        }
        self.log.lines += 1;
        if self.log.lines > MAX_LINES {
            return;
        }
        let driver = &*self.facts.driver;
        let scope = self.session.scope().as_str();
        let fields: Vec<String> = fields
            .iter()
            .take(16)
            .map(|(key, value)| printable(&format!("{key}={value}")))
            .collect();
        let fields = fields.join(" ");
        match level {
            log::Level::Error => tracing::error!(driver, scope, fields, "{message}"),
            log::Level::Warn => tracing::warn!(driver, scope, fields, "{message}"),
            log::Level::Info => tracing::info!(driver, scope, fields, "{message}"),
            log::Level::Debug => tracing::debug!(driver, scope, fields, "{message}"),
            log::Level::Trace => tracing::trace!(driver, scope, fields, "{message}"),
        }
    }

    fn event(&mut self, warning: bool, reason: String, message: String) {
        if self.log.events.len() < MAX_EVENTS {
            self.log.events.push(DriverEvent {
                driver: self.facts.driver.to_string(),
                subject: self.facts.subject.clone(),
                warning,
                reason: printable(&reason),
                message: printable(&message),
            });
        }
    }

    fn count(&mut self, name: String, delta: u64) {
        let driver = &*self.facts.driver;
        tracing::debug!(driver, counter = printable(&name), delta, "counted");
    }
}

/// Text from a guest, shortened and without control characters, fit for a terminal.
pub(crate) fn printable(text: &str) -> String {
    let clean = text
        .chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c });
    let mut out = String::new();
    for c in clean {
        if out.len() + c.len_utf8() > MAX_LINE_BYTES {
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn guests_cannot_drive_a_terminal() {
        assert_eq!(printable("a\x1b[31mb\x07\n"), "a [31mb \n");
        assert!(printable(&"x".repeat(10_000)).len() < 4100);
    }
}
