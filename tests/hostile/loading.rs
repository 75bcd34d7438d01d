//! Components that mean harm before they run: to the compiler, and to who reads them.

use std::fmt::Write;

use fishway::executor::Sandbox;
use fishway::loader::Loader;

use super::component;

#[test]
fn a_function_that_the_compiler_would_take_minutes_for_is_refused_and_others_are_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let handlers = directory.path().join("handlers");
    std::fs::create_dir(&handlers).unwrap();
    let with_body = |body: &str| {
        component(&format!(
            "(module (;common;)
               (func (export \"fishway:task/handler@0.1.0#run\") (param i32 i32) (result i32)
                 (local $x i32)
                 {body}
                 (call $ok (i32.const 0) (i32.const 0))))"
        ))
    };
    let mut body = String::new();
    while body.len() < 9_000_000 {
        let line = "(local.set $x (i32.mul (local.get $x) (local.get 0)))";
        writeln!(body, "{line}").unwrap();
    }
    std::fs::write(handlers.join("slow.wasm"), with_body(&body)).unwrap();
    std::fs::write(handlers.join("quick.wasm"), with_body("")).unwrap();
    let sandbox = Sandbox::plain().unwrap();
    let data = directory.path().join("data");
    let loader = Loader::open(sandbox.engine().clone(), sandbox.check(), &handlers, &data).unwrap();
    loader.scan(|_| {});
    assert!(loader.get("quick").is_some());
    assert!(loader.get("slow").is_none());
    let problems = loader.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let said = problems[0].to_string();
    assert!(
        said.starts_with("slow.wasm: a function of it has ")
            && said.ends_with(" bytes of code, more than the 1048576 that one may have"),
        "{said}"
    );
}
