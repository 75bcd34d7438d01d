//! A handler of any size: it returns `1`, and has as many functions besides as make it so large.

use std::fmt::Write;

/// A component of about so many bytes.
pub fn component(bytes: usize) -> Vec<u8> {
    // Real code, which the compiler has to compile: each function takes about 1 KB.
    let mut filler = String::new();
    for number in 0..bytes / 1_024 {
        let _ = write!(
            filler,
            "(func (export \"f{number}\") (param i32) (result i32) local.get 0"
        );
        for step in 0..170 {
            let _ = write!(
                filler,
                " i32.const {} i32.xor",
                (number * 7 + step) % 60 + 1
            );
            if step % 3 == 0 {
                filler.push_str(" local.tee 0 local.get 0 i32.mul");
            }
        }
        filler.push(')');
    }
    // result<string, failure> at 16: the case, then the string.
    let text = format!(
        r#"(module
          (memory (export "memory") 1)
          (data (i32.const 8) "1")
          (data (i32.const 16) "\00\00\00\00\08\00\00\00\01\00\00\00")
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
          (func (export "fishway:task/handler@0.1.0#run") (param i32 i32) (result i32) i32.const 16)
          {filler})"#
    );
    let mut module = wat::parse_str(text).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/wit/0.1");
    resolve.push_path(wit).unwrap();
    let package = resolve
        .push_str(
            "sized.wit",
            "package bench:sized; world sized { export fishway:task/handler@0.1.0; }",
        )
        .unwrap();
    let world = resolve.select_world(&[package], Some("sized")).unwrap();
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8).unwrap();
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .unwrap()
        .encode()
        .unwrap()
}
