//! What was measured: printed as it comes, and written as JSON at the end.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

/// All figures of one run, beside the machine that they are of.
pub struct Report {
    header: Value,
    figures: Vec<Value>,
}

impl Report {
    /// A report that begins with where it was made; prints that.
    pub fn begin(sync: Duration) -> Report {
        let header = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "commit": commit(),
            "build": if cfg!(debug_assertions) { "debug" } else { "optimised" },
            "processor": processor(),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "kernel": read("/proc/sys/kernel/osrelease"),
            "durability": "WAL, synchronous=FULL",
            "sync_us": sync.as_secs_f64() * 1e6,
        });
        println!(
            "fishway {} at {}, {} build; {} x {}, Linux {}; {}, a sync of 4 KB takes {} (median of 200)",
            header["version"].as_str().unwrap(),
            header["commit"].as_str().unwrap(),
            header["build"].as_str().unwrap(),
            header["cores"],
            header["processor"].as_str().unwrap(),
            header["kernel"].as_str().unwrap(),
            header["durability"].as_str().unwrap(),
            shown(sync),
        );
        let figures = Vec::new();
        Report { header, figures }
    }

    /// A figure: the case, what of it, its median, the unit, and what else there is to say.
    pub fn figure(&mut self, case: &str, what: &str, value: f64, unit: &str, note: &str) {
        let digits = if value < 10.0 {
            2
        } else {
            usize::from(value < 1_000.0)
        };
        let note_shown = if note.is_empty() {
            String::new()
        } else {
            format!("   {note}")
        };
        println!("{case:<10} {what:<58} {value:>12.digits$} {unit:<10}{note_shown}");
        self.figures.push(
            json!({ "case": case, "what": what, "value": value, "unit": unit, "note": note }),
        );
    }

    /// Write all of it.
    pub fn write(&self, path: &Path) {
        let all = json!({ "header": self.header, "figures": self.figures });
        std::fs::write(path, format!("{all:#}\n")).unwrap();
        println!("written as JSON: {}", path.display());
    }
}

/// The middle of some times.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The middle of some numbers.
pub fn middle(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A time in milliseconds.
pub fn shown(time: Duration) -> String {
    format!("{:.2} ms", ms(time))
}

/// A time as a number of milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// So many in that time, for each second.
pub fn rate(many: usize, time: Duration) -> f64 {
    many as f64 / time.as_secs_f64()
}

fn commit() -> String {
    let said = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude", "*"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    match said {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "an unknown commit".to_owned(),
    }
}

fn processor() -> String {
    let all = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = all.lines().find_map(|line| line.strip_prefix("model name"));
    let name = line.map_or("unknown processor", |line| {
        line.trim_start_matches([' ', '\t', ':'])
    });
    name.to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
