use std::path::PathBuf;
use std::time::Instant;

use super::view::{bytes, duration};
use super::{Done, Global, now_ms, print_json, print_line};
use crate::executor::Settings;
use crate::executor::engine;
use crate::store::sqlite::FILE_NAME;

/// Look whether everything is as it should be here
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the handlers
    #[arg(
        default_value = "handlers",
        value_name = "HANDLERS_DIR",
        env = "FISHWAY_HANDLERS"
    )]
    handlers: PathBuf,
}

struct Finding {
    what: &'static str,
    good: bool,
    says: String,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    let findings = [disk(global), database(global), wasm(), handlers(args)];
    for finding in &findings {
        if global.json {
            print_json(&serde_json::json!({
                "check": finding.what, "ok": finding.good, "says": finding.says,
            }))?;
        } else {
            let (mark, colour) = match finding.good {
                true => ("ok  ", anstyle::AnsiColor::Green),
                false => ("FAIL", anstyle::AnsiColor::Red),
            };
            let colour = anstyle::Style::new().fg_color(Some(colour.into()));
            print_line(&format!(
                "{colour}{mark}{colour:#}  {:9}  {}",
                finding.what, finding.says
            ))?;
        }
    }
    let good = findings.iter().all(|finding| finding.good);
    Ok(if good { Done::OK } else { Done::FAILED })
}

/// How long the disk takes to keep a promise: every durable step waits for it.
fn disk(global: &Global) -> Finding {
    let measure = || -> std::io::Result<u64> {
        use std::io::Write;
        std::fs::create_dir_all(&global.data)?;
        let path = global.data.join(format!(".doctor.{}", std::process::id()));
        let mut file = std::fs::File::create(&path)?;
        let mut times = Vec::new();
        for _ in 0..11 {
            let started = Instant::now();
            file.write_all(&[0; 4_096])?;
            file.sync_data()?;
            times.push(started.elapsed().as_micros() as u64);
        }
        std::fs::remove_file(&path)?;
        times.sort_unstable();
        Ok(times[times.len() / 2])
    };
    match measure() {
        Ok(micros) => Finding {
            what: "disk",
            good: true,
            says: format!(
                "{} can be written; a sync takes {}.{} ms",
                global.data.display(),
                micros / 1_000,
                micros % 1_000 / 100
            ),
        },
        Err(error) => Finding {
            what: "disk",
            good: false,
            says: format!(
                "{} cannot be written: {error}; choose another directory with --data",
                global.data.display()
            ),
        },
    }
}

fn database(global: &Global) -> Finding {
    let path = global.data.join(FILE_NAME);
    let what = "database";
    if !global.has_data() {
        return Finding {
            what,
            good: true,
            says: "there is none yet; the first command makes it".to_owned(),
        };
    }
    let counted = global
        .client(false)
        .and_then(|client| Ok(client.store().counts(None)?));
    match counted {
        Ok(counts) => {
            let size = std::fs::metadata(&path)
                .map(|metadata| metadata.len())
                .unwrap_or(0);
            let counts: Vec<String> = counts
                .iter()
                .map(|(status, count)| format!("{count} {status}"))
                .collect();
            let tasks = if counts.is_empty() {
                "no tasks".to_owned()
            } else {
                counts.join(", ")
            };
            Finding {
                what,
                good: true,
                says: format!("{}: {tasks}", bytes(size)),
            }
        }
        Err(error) => Finding {
            what,
            good: false,
            says: error.to_string(),
        },
    }
}

fn wasm() -> Finding {
    let started = now_ms();
    match engine::engine(Settings::default().instances_max()) {
        Ok(_) => Finding {
            what: "sandbox",
            good: true,
            says: format!(
                "the WebAssembly engine starts ({})",
                duration(now_ms() - started)
            ),
        },
        Err(error) => Finding {
            what: "sandbox",
            good: false,
            says: error.to_string(),
        },
    }
}

fn handlers(args: &Args) -> Finding {
    let what = "handlers";
    match std::fs::read_dir(&args.handlers) {
        Err(error) => Finding {
            what,
            good: false,
            says: format!(
                "{} cannot be read: {error}; fishway demo shows how to start",
                args.handlers.display()
            ),
        },
        Ok(entries) => {
            let wasm = |path: &PathBuf| {
                path.extension()
                    .is_some_and(|ending| ending == "wasm" || ending == "wat")
            };
            let many = entries
                .flatten()
                .map(|entry| entry.path())
                .filter(wasm)
                .count();
            let says = format!(
                "{many} in {}; fishway handler list checks each",
                args.handlers.display()
            );
            Finding {
                what,
                good: true,
                says,
            }
        }
    }
}
