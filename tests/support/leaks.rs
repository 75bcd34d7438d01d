//! Searches for values that must not appear: in files, in output, in processes.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Forbidden values, in every form in which they could appear.
#[derive(Clone)]
pub struct Leaks {
    forms: Arc<Vec<(String, Vec<u8>)>>,
}

impl Leaks {
    /// Each value has at least 12 bytes, to avoid chance matches.
    pub fn of(values: &[&str]) -> Leaks {
        let mut forms = Vec::new();
        for value in values {
            assert!(value.len() >= 12, "{value} is too short");
            forms.push((format!("{value} as it is"), value.as_bytes().to_vec()));
            let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            forms.push((format!("{value} in hex"), hex.to_uppercase().into_bytes()));
            forms.push((format!("{value} in hex"), hex.into_bytes()));
            // At each of the three alignments; characters that depend on neighbouring bytes are dropped.
            for before in 0..3 {
                let padded = [&vec![0; before], value.as_bytes()].concat();
                let text = STANDARD.encode(padded);
                let inner = text[(before * 8).div_ceil(6)..text.len() - 4].to_owned();
                forms.push((format!("{value} in base64"), inner.into_bytes()));
            }
        }
        Leaks {
            forms: Arc::new(forms),
        }
    }

    /// The form of a value that appears in these bytes.
    pub fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        let stands = |form: &[u8]| bytes.windows(form.len()).any(|window| window == form);
        let found = self.forms.iter().find(|(_, form)| stands(form));
        found.map(|(what, _)| &**what)
    }

    /// None appears in these bytes.
    pub fn not_in(&self, place: &str, bytes: impl AsRef<[u8]>) {
        assert_eq!(self.found_in(bytes.as_ref()), None, "in {place}");
    }

    /// None appears in a file below this directory. Returns the number of files.
    pub fn not_below(&self, directory: &Path) -> usize {
        let mut files = 0;
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            // Ignore a file that was just deleted; sockets and pipes have no content.
            let Ok(about) = entry.metadata() else {
                continue;
            };
            if about.is_dir() {
                files += self.not_below(&path);
            } else if about.is_file()
                && let Ok(bytes) = std::fs::read(&path)
            {
                self.not_in(&path.display().to_string(), bytes);
                files += 1;
            }
        }
        files
    }

    /// None appears in the arguments of a process, or in the arguments or variables of any process that it starts, from
    /// now until the watch ends. Its own variables are not checked.
    pub fn watch(&self, pid: u32) -> ProcessWatch {
        let (leaks, stop) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut children = HashSet::new();
            while !stopped.load(Ordering::Relaxed) {
                let read = |pid: u32, what: &str| {
                    std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default()
                };
                leaks.not_in("arguments of the host", read(pid, "cmdline"));
                for child in below(pid) {
                    children.insert(child);
                    for what in ["cmdline", "environ"] {
                        let found = read(child, what);
                        // Before it executes its program a child has the data of its parent.
                        if found != read(pid, what) {
                            leaks.not_in(&format!("{what} of a child"), found);
                        }
                    }
                }
                std::thread::yield_now();
            }
            children.len()
        });
        ProcessWatch { thread, stop }
    }
}

/// See [`Leaks::watch`].
pub struct ProcessWatch {
    thread: JoinHandle<usize>,
    stop: Arc<AtomicBool>,
}

impl ProcessWatch {
    /// Ends the watch; returns the number of processes below the watched one.
    pub fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The current descendants of a process.
fn below(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let mut found = Vec::new();
    for thread in threads.flatten() {
        let text = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in text.split_whitespace().filter_map(|word| word.parse().ok()) {
            found.push(child);
            found.extend(below(child));
        }
    }
    found
}
