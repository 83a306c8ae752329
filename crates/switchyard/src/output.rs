//! What people and scripts see.
//!
//! Everything goes through one thread with a bounded queue, so that a paused terminal never
//! stalls a service: log lines that find the queue full are dropped and counted.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};

/// Lines waiting for the terminal.
const QUEUE: usize = 4096;
const COLOURS: [&str; 6] = ["36", "35", "33", "32", "34", "31"];

enum Item {
    Log(&'static str, String),
    Line(String),
    Flush(SyncSender<()>),
}

/// Prints lines, events and the services' logs; cheap to clone.
#[derive(Clone)]
pub(crate) struct Output {
    items: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
    json: bool,
}

impl Output {
    /// Starts the printing thread.
    pub(crate) fn start(json: bool) -> Self {
        let (items, queue) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let style = Style { json, colour: !json && colourful() };
        let lost = dropped.clone();
        std::thread::spawn(move || print_all(&queue, &style, &lost));
        Self { items, dropped, json }
    }

    /// Prints nothing: for programs started in passing.
    pub(crate) fn silent() -> Self {
        let (items, _) = sync_channel(0);
        Self { items, dropped: Arc::default(), json: false }
    }

    /// A line for people.
    pub(crate) fn say(&self, text: impl Into<String>) {
        if !self.json {
            let _ = self.items.send(Item::Line(text.into())); // no terminal, nobody to tell
        }
    }

    /// An event for scripts: `event` names it, `fields` is an object.
    pub(crate) fn event(&self, event: &'static str, fields: Value) {
        if self.json {
            let _ = self.items.send(Item::Line(event_line(event, fields)));
        }
    }

    /// A line some program wrote.
    pub(crate) fn log(&self, program: &'static str, line: String) {
        if let Err(TrySendError::Full(_)) = self.items.try_send(Item::Log(program, line)) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was said is written, for at most a second.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.items.try_send(Item::Flush(done)).is_ok() {
            let _ = written.recv_timeout(Duration::from_secs(1));
        }
    }
}

fn event_line(event: &'static str, fields: Value) -> String {
    let mut line = json!({ "event": event, "ts_ms": crate::clock::now_ms() });
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
    line.to_string()
}

struct Style {
    json: bool,
    colour: bool,
}

impl Style {
    fn log(&self, program: &'static str, line: &str) -> String {
        if self.json {
            return event_line("log", json!({ "program": program, "line": line }));
        }
        if !self.colour {
            return format!("{program:<8} | {line}");
        }
        let sum: usize = program.bytes().map(usize::from).sum();
        format!("\x1b[{}m{program:<8} |\x1b[0m {line}", COLOURS[sum % COLOURS.len()])
    }
}

fn print_all(queue: &Receiver<Item>, style: &Style, dropped: &AtomicU64) {
    let mut out = io::stdout();
    while let Ok(item) = queue.recv() {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{}", style.log("up", &format!("{lost} log lines dropped")));
        }
        let _ = match item {
            Item::Log(program, line) => writeln!(out, "{}", style.log(program, &line)),
            Item::Line(line) => writeln!(out, "{line}"),
            Item::Flush(done) => {
                let _ = out.flush();
                let _ = done.send(());
                Ok(())
            }
        };
    }
}

/// Whether to colour: a terminal, and the user does not object (no-color.org).
pub(crate) fn colourful() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Prints a line of a command's result.
pub(crate) fn line(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints JSON, indented when a person looks.
pub(crate) fn json(value: &Value) {
    if io::stdout().is_terminal() {
        line(&format!("{value:#}"));
    } else {
        line(&value.to_string());
    }
}

/// Prints why something failed.
pub(crate) fn error(text: &str) {
    let _ = writeln!(io::stderr(), "switchyard: {text}");
}

/// `1.5 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = count;
    let mut rest = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    let mut text = scaled.to_string();
    if unit > 0 && scaled < 100 {
        let _ = write!(text, ".{}", rest * 10 / 1024);
    }
    format!("{text} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(250 << 20), "250 MiB");
    }

    #[test]
    fn log_lines_carry_their_program() {
        let plain = Style { json: false, colour: false };
        assert_eq!(plain.log("relay", "ready"), "relay    | ready");
        let json = Style { json: true, colour: false };
        let line: Value = serde_json::from_str(&json.log("relay", "a \"b\"")).unwrap();
        assert_eq!(line["line"], "a \"b\"");
        assert_eq!(line["program"], "relay");
    }
}
