//! Building handlers, and what is said when that does not work.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fishway::builder::{BuildError, Report, Request, build, examples};

use crate::support::place::Place;

const CDYLIB: &str = "[lib]\ncrate-type = [\"cdylib\"]\n";

/// The profile of the test guests.
const PROFILE: &str = "[profile.release]\nopt-level = \"s\"\npanic = \"abort\"\nstrip = true\n";

fn built(project: &Path) -> Result<Report, BuildError> {
    let request = Request {
        project: project.to_owned(),
        out_dir: project.join("out"),
        // Where the guests are compiled, and with their profile: the standard library is there already.
        target_dir: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests")),
        cache_dir: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools")),
        install: true,
    };
    build(&request, &mut |_| {})
}

/// A package that is a workspace of its own.
///
/// Each test has names of its own: cargo knows a package by its name and its place within its
/// workspace, so in one target directory two that agree in both pass for each other.
fn package(directory: &Path, name: &str, lib: &str, source: &str) {
    let workspace = format!("[workspace]\n{PROFILE}{lib}");
    member(directory, name, &workspace, source);
}

fn member(directory: &Path, name: &str, rest: &str, source: &str) {
    std::fs::create_dir_all(directory.join("src")).unwrap();
    let manifest =
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{rest}");
    std::fs::write(directory.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(directory.join("src/lib.rs"), source).unwrap();
}

/// A workspace of two handlers, `NAME-a` and `NAME-b`.
fn workspace(directory: &Path, name: &str, libs: [&str; 2]) {
    let members = format!("[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\"]\n{PROFILE}");
    std::fs::write(directory.join("Cargo.toml"), members).unwrap();
    for (place, lib) in ["a", "b"].into_iter().zip(libs) {
        let source = format!("#[unsafe(no_mangle)]\npub extern \"C\" fn {place}() {{}}\n");
        member(
            &directory.join(place),
            &format!("{name}-{place}"),
            lib,
            &source,
        );
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_no_handler_project_is_refused_with_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let error = built(directory.path()).unwrap_err();
    assert!(
        error.to_string().contains(
            "is not a handler project: neither it nor a directory in it has a Cargo.toml, "
        ),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("cdylib"));
    package(directory.path(), "plain", "", "");
    let error = built(directory.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("no package in it has a library of crate-type cdylib"),
        "{error}"
    );
}

#[test]
fn a_project_that_does_not_compile_shows_what_the_compiler_says() {
    let directory = tempfile::tempdir().unwrap();
    package(
        directory.path(),
        "broken",
        "[lib]\ncrate-type = [\"cdylib\"]\n",
        "#![no_std]\nfn broken( {",
    );
    let error = built(directory.path()).unwrap_err();
    assert!(
        matches!(error, BuildError::Compile { .. }) && error.to_string().contains("src/lib.rs:2"),
        "{error}"
    );
}

#[test]
fn the_examples_inside_the_program_are_those_of_the_repository() {
    let directory = tempfile::tempdir().unwrap();
    let project = examples::unpack(directory.path()).unwrap();
    let workspace = std::fs::read_to_string(project.join("Cargo.toml")).unwrap();
    let workspace: toml::Table = workspace.parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let members: Vec<&str> = members.iter().filter_map(|one| one.as_str()).collect();
    assert_eq!(members, ["hello", "fetch-words", "count-words"]);
    for name in members {
        assert!(project.join(name).join("src/lib.rs").is_file());
        assert!(
            crate::support::guests::example_handlers()
                .join(format!("{name}.wasm"))
                .is_file()
        );
    }
    examples::place_texts(directory.path()).unwrap();
    assert!(
        std::fs::metadata(directory.path().join("texts/jargon.txt"))
            .unwrap()
            .len()
            > 1_000_000
    );
}

#[test]
fn a_workspace_gives_a_handler_for_each_member_by_its_package_name() {
    let directory = tempfile::tempdir().unwrap();
    workspace(directory.path(), "whole", [CDYLIB, CDYLIB]);
    let report = built(directory.path()).unwrap();
    let built: Vec<&str> = report.built.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(built, ["whole-a", "whole-b"]);
    assert_eq!(
        names(&directory.path().join("out")),
        ["whole-a.wasm", "whole-b.wasm"]
    );
}

#[test]
fn the_directory_of_one_member_builds_that_member_alone() {
    let directory = tempfile::tempdir().unwrap();
    workspace(directory.path(), "alone", [CDYLIB, CDYLIB]);
    let project = directory.path().join("b");
    built(&project).unwrap();
    assert_eq!(names(&project.join("out")), ["alone-b.wasm"]);
}

#[test]
fn two_libraries_of_one_name_are_refused_since_one_would_replace_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let lib = "[lib]\nname = \"handler\"\ncrate-type = [\"cdylib\"]\n";
    workspace(directory.path(), "clash", [lib, lib]);
    let error = built(directory.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("has two libraries named handler: those of clash-a and clash-b"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("[lib]"));
}

#[test]
fn a_manifest_comes_along_once_and_is_the_users_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    package(directory.path(), "placed", CDYLIB, "");
    let template = directory.path().join("handler.toml");
    std::fs::write(&template, "description = \"ours\"\n").unwrap();
    built(directory.path()).unwrap();
    let placed = directory.path().join("out/placed.toml");
    assert_eq!(
        std::fs::read_to_string(&placed).unwrap(),
        "description = \"ours\"\n"
    );
    std::fs::write(&placed, "description = \"theirs\"\n").unwrap();
    built(directory.path()).unwrap();
    assert_eq!(
        std::fs::read_to_string(&placed).unwrap(),
        "description = \"theirs\"\n"
    );
    assert_eq!(
        names(&directory.path().join("out")),
        ["placed.toml", "placed.wasm"]
    );
}

#[test]
fn a_second_build_leaves_the_handler_untouched() {
    let directory = tempfile::tempdir().unwrap();
    package(directory.path(), "twice", CDYLIB, "");
    let report = built(directory.path()).unwrap();
    let written = |report: &Report| {
        let metadata = std::fs::metadata(&report.built[0].path).unwrap();
        metadata.modified().unwrap()
    };
    let first = written(&report);
    assert_eq!(written(&built(directory.path()).unwrap()), first);
}

#[test]
fn builds_of_one_project_at_the_same_time_all_give_whole_handlers() {
    let directory = tempfile::tempdir().unwrap();
    workspace(directory.path(), "race", [CDYLIB, CDYLIB]);
    let project = directory.path();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(built(project).unwrap().built.len(), 2));
        }
    });
    // Nothing temporary is left beside them.
    assert_eq!(names(&project.join("out")), ["race-a.wasm", "race-b.wasm"]);
}

/// `fishway build` with stand-ins for the tools: no test changes the toolchain of the machine.
struct Tools {
    directory: tempfile::TempDir,
}

impl Tools {
    /// A compiler that has these targets, and a cargo that notes how it is called.
    fn with_targets(targets: &[&str]) -> Tools {
        let tools = Tools {
            directory: tempfile::tempdir().unwrap(),
        };
        let root = tools.directory.path();
        for target in targets {
            let libraries = root.join("sysroot/lib/rustlib").join(target).join("lib");
            std::fs::create_dir_all(libraries).unwrap();
        }
        std::fs::create_dir_all(root.join("bin")).unwrap();
        package(&root.join("project"), "mine", CDYLIB, "");
        tools.tool("rustc", &format!("echo {}/sysroot", root.display()));
        let cargo = env!("CARGO");
        let (noted, made) = (
            root.join("noted").display().to_string(),
            "release/mine.wasm",
        );
        tools.tool(
            "cargo",
            &format!(
                "[ $1 = build ] || exec {cargo} \"$@\"\necho \"$@\" > {noted}; env >> {noted}\n\
                 while [ $# -gt 0 ]; do [ $1 = --target ] && target=$2; [ $1 = --target-dir ] && place=$2; shift; done\n\
                 mkdir -p $place/$target/release; echo made > $place/$target/{made}"
            ),
        );
        tools
    }

    fn tool(&self, name: &str, body: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.directory.path().join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn build(&self, environment: &[(&str, &str)]) -> Output {
        self.command()
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }

    fn command(&self) -> Command {
        let root = self.directory.path();
        let mut path = vec![root.join("bin")];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_fishway"));
        command
            .args(["build", "--no-install", "project", "-o", "out"])
            .current_dir(root)
            .env("PATH", std::env::join_paths(path).unwrap());
        command
    }

    fn noted(&self) -> Option<String> {
        std::fs::read_to_string(self.directory.path().join("noted")).ok()
    }

    fn rustup_calls(&self) -> PathBuf {
        let calls = self.directory.path().join("rustup-calls");
        self.tool("rustup", &format!("echo \"$@\" >> {}", calls.display()));
        calls
    }
}

#[test]
fn a_target_that_the_toolchain_has_is_taken_and_the_best_of_several() {
    for (targets, best) in [
        (
            &["wasm32-unknown-unknown", "wasm32-wasip1"][..],
            "wasm32-wasip1",
        ),
        (&["wasm32-wasip1", "wasm32-wasip2"], "wasm32-wasip2"),
    ] {
        let tools = Tools::with_targets(targets);
        let output = tools.build(&[]);
        assert!(output.status.success(), "{output:?}");
        let noted = tools.noted().unwrap();
        assert!(noted.contains(&format!("--target {best} ")), "{noted}");
    }
}

/// In it, `println!`, files and the environment do nothing.
#[test]
fn the_bare_target_is_taken_only_where_no_better_one_can_be_had_and_that_is_said() {
    let bare = "--target wasm32-unknown-unknown ";
    let warned = "println!, files and environment variables do nothing in these handlers";
    let added = "mkdir -p $(dirname $0)/../sysroot/lib/rustlib/wasm32-wasip2/lib";
    for (arguments, rustup, target, said) in [
        (&["--no-install"][..], added, bare, true),
        (&[], added, "--target wasm32-wasip2 ", false),
        (&[], "echo 'error: offline' >&2; exit 1", bare, true),
    ] {
        let tools = Tools::with_targets(&["wasm32-unknown-unknown"]);
        tools.tool("rustup", rustup);
        let programs = tools.directory.path().join("bin");
        for program in ["mkdir", "dirname", "env"] {
            let whole = Path::new("/usr/bin").join(program);
            std::os::unix::fs::symlink(whole, programs.join(program)).unwrap();
        }
        // Debian's compiler would be better, too: without its linker there is none.
        let mut build = Command::new(env!("CARGO_BIN_EXE_fishway"));
        build
            .args(["build", "project", "-o", "out"])
            .args(arguments);
        build.current_dir(tools.directory.path());
        let output = build.env("PATH", &programs).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        let noted = tools.noted().unwrap();
        assert!(noted.contains(target), "{noted}");
        assert_eq!(told.contains(warned), said, "{told}");
    }
}

#[test]
fn what_an_outer_cargo_has_set_does_not_reach_the_compiler() {
    let tools = Tools::with_targets(&["wasm32-wasip2"]);
    let output = tools.build(&[
        ("RUSTFLAGS", "--cfg outer"),
        ("CARGO_ENCODED_RUSTFLAGS", "outer"),
        ("RUSTC_WRAPPER", "/outer"),
        ("CARGO_BUILD_TARGET", "outer"),
        ("CARGO_NET_OFFLINE", "kept"),
    ]);
    assert!(output.status.success(), "{output:?}");
    let noted = tools.noted().unwrap();
    assert!(!noted.contains("outer"), "{noted}");
    assert!(noted.contains("CARGO_NET_OFFLINE=kept"), "{noted}");
}

#[test]
fn a_build_waits_for_another_one_of_the_project_and_lets_no_other_in_while_it_compiles() {
    let tools = Tools::with_targets(&["wasm32-wasip2"]);
    let root = tools.directory.path();
    let place = root.join("project/target/fishway");
    std::fs::create_dir_all(&place).unwrap();
    let other = File::create(place.join("fishway.lock")).unwrap();
    other.lock().unwrap();
    // A cargo that tries to get in itself, and notes whether it could.
    std::fs::rename(root.join("bin/cargo"), root.join("bin/plain-cargo")).unwrap();
    let here = root.display();
    tools.tool(
        "cargo",
        &format!(
            "[ $1 = build ] && {{ flock --nonblock {here}/project/target/fishway/fishway.lock true; echo $? > {here}/flock; }}\n\
             exec {here}/bin/plain-cargo \"$@\""
        ),
    );
    let mut build = tools
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(build.stderr.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    assert_eq!(first, "waiting for another build of this project");
    assert_eq!(tools.noted(), None, "nothing is compiled meanwhile");
    drop(other);
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert!(build.wait().unwrap().success(), "{rest:?}");
    assert_eq!(names(&root.join("out")), ["mine.wasm"]);
    let flock = std::fs::read_to_string(root.join("flock")).unwrap();
    assert_eq!(flock, "1\n", "the lock was free while it compiled");
}

#[test]
fn rustup_is_not_asked_for_a_target_when_installing_is_not_allowed() {
    let tools = Tools::with_targets(&[]);
    let calls = tools.rustup_calls();
    // Debian's compiler, where it is there, need not compile anything for this.
    let missing = format!("{CDYLIB}[dependencies]\ngone = {{ path = \"gone\" }}\n");
    package(
        &tools.directory.path().join("project"),
        "mine",
        &missing,
        "",
    );
    assert!(!tools.build(&[]).status.success());
    assert!(!calls.exists());
}

/// A directory for PATH with a `node` that does nothing and an `npm` of these lines.
fn fake_npm(place: &Path, npm: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let programs = place.join("programs");
    std::fs::create_dir_all(&programs).unwrap();
    for (name, lines) in [("npm", npm), ("node", "exit 0")] {
        let file = programs.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    programs
}

#[test]
fn an_installation_that_was_killed_ends_with_its_tools_and_is_made_anew() {
    let place = Place::new();
    place.run(&["new", "--lang", "js", "hello"]).ok();
    let cache = place.path("cache");
    // Says that it runs, and does so until it is ended.
    let pipe = place.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let begin = format!(
        "touch half; echo $$ > '{0}'; exec cat '{0}'",
        pipe.display()
    );
    let build = |npm: &str| {
        let programs = fake_npm(place.directory.path(), npm);
        let path = std::env::var("PATH").unwrap();
        let mut command = place.command(&["build", "hello"]);
        command
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("FISHWAY_CACHE", &cache);
        command
    };
    let mut killed = build(&begin).spawn().unwrap();
    let mut pid = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(std::fs::File::open(&pipe).unwrap()),
        &mut pid,
    )
    .unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    let tool = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    // A descriptor of a process can be read when that has ended.
    let mut ended = [rustix::event::PollFd::new(
        &tool,
        rustix::event::PollFlags::IN,
    )];
    let patience = rustix::event::Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    let ended = rustix::event::poll(&mut ended, Some(&patience)).unwrap();
    assert_eq!(ended, 1, "npm outlives what has started it");

    let tools = || -> Vec<String> {
        let names = std::fs::read_dir(cache.join("tools")).unwrap().flatten();
        let names = names.filter(|entry| entry.path().is_dir());
        names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    };
    assert!(
        tools().iter().all(|name| name.ends_with(".partial")),
        "{:?}",
        tools()
    );
    let _ = build("test ! -e half && mkdir node_modules")
        .output()
        .unwrap();
    let there = tools();
    assert_eq!(there.len(), 1, "{there:?}");
    let directory = cache.join("tools").join(&there[0]);
    assert!(
        !there[0].ends_with(".partial") && directory.join("node_modules").is_dir(),
        "{there:?}"
    );
    assert!(directory.join("fishway-installed").exists());
}
