//! Third-party Python programs, in directories of their own under `target`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The interpreter of a directory in which this module can be imported. The first caller installs the packages; others
/// wait, also those in another test run.
pub fn python(directory: &str, module: &str, packages: &[&str]) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(directory);
    let python = home.join("bin/python");
    // Each open file has its own lock, so it also blocks other threads of this process.
    let lock = std::fs::File::create(home.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let has_it = |python: &Path| {
        let asked = Command::new(python)
            .args(["-c", &format!("import {module}")])
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    };
    if !has_it(&python) {
        // An interrupted installation is repeated.
        let venv = ["-m", "venv", "--clear"];
        done(Command::new("python3").args(venv).arg(&home));
        let install = ["-m", "pip", "install", "-q"];
        done(Command::new(&python).args(install).args(packages));
    }
    python
}

fn done(command: &mut Command) {
    let output = command.output();
    let output = output.expect("Python is needed: apt-get install python3 python3-venv");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{command:?}: {said}");
}
