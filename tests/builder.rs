//! Building handlers, and what is said when that does not work.

use fishway::builder::{BuildError, Report, Request, build, examples};

fn built(project: &std::path::Path) -> Result<Report, BuildError> {
    let request = Request {
        project: project.to_owned(),
        out_dir: project.join("out"),
        // Where the guests are compiled, and with their profile: the standard library is there already.
        target_dir: Some(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests")),
        install: true,
    };
    build(&request, &mut |_| {})
}

fn package(directory: &std::path::Path, lib: &str, source: &str) {
    std::fs::create_dir_all(directory.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"mine\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n\
         [profile.release]\nopt-level = \"s\"\npanic = \"abort\"\nstrip = true\n{lib}"
    );
    std::fs::write(directory.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(directory.join("src/lib.rs"), source).unwrap();
}

#[test]
fn what_is_no_handler_project_is_refused_with_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let error = built(directory.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is not a handler project: it has no Cargo.toml"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("cdylib"));
    package(directory.path(), "", "");
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
    for name in ["hello", "fetch-words", "count-words"] {
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
