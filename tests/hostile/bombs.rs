//! Files that a compiler would need hours or all memory for, each at a bound of the loader and one past it.
//!
//! A file at its bound is compiled, or refused for what the compiler says; one past it is refused by the
//! bound, with its number. Neither ends a host that has 2 GB of memory.

use std::fmt::Write;

/// A file of the corpus.
pub struct Bomb {
    /// Its name, with its ending.
    pub name: String,
    /// What it has.
    pub bytes: Vec<u8>,
    /// What is said of it, when it is past the bound.
    pub refusal: Option<String>,
}

/// All of them.
pub fn corpus() -> Vec<Bomb> {
    let mut all = Corpus(Vec::new());
    all.of_components();
    all.of_instances();
    all.of_modules();
    all.of_functions();
    all.of_files();
    all.0
}

struct Corpus(Vec<Bomb>);

impl Corpus {
    fn add(&mut self, name: &str, bytes: Vec<u8>, refusal: Option<&str>) {
        self.0.push(Bomb {
            name: name.to_owned(),
            bytes,
            refusal: refusal.map(str::to_owned),
        });
    }

    /// A kind at its bound, and one past it. `of` is the text of a component with so many.
    fn text(&mut self, kind: &str, bound: u64, refusal: &str, of: impl Fn(u64) -> String) {
        self.binary(kind, bound, refusal, |count| {
            wat::parse_str(of(count)).unwrap_or_else(|error| panic!("{kind}: {error}"))
        });
    }

    fn binary(&mut self, kind: &str, bound: u64, refusal: &str, of: impl Fn(u64) -> Vec<u8>) {
        self.add(&format!("{kind}-at.wasm"), of(bound), None);
        let past = bound + 1;
        let refusal = refusal.replace("N", &past.to_string());
        self.add(&format!("{kind}-past.wasm"), of(past), Some(&refusal));
    }

    fn of_components(&mut self) {
        let nested = "components nested in N levels or more, and 50 are allowed";
        self.binary("nested-components", 50, nested, nested_components);
        let nested = "types declared in N levels or more, and 50 are allowed";
        self.binary("nested-types", 50, nested, |levels| {
            component(&[section(7, &nested_types(levels))])
        });
        let most = "it has N components, more than the 1000 that a component may have";
        self.text("components", 1_000, most, |count| {
            handler("", &"(component)".repeat(count as usize))
        });
        let most = "it has N core modules, more than the 1000 that a component may have";
        self.text("core-modules", 1_000, most, |count| {
            handler("", &"(core module)".repeat(count as usize - 1))
        });
        let most = "it has N types, more than the 200000 that a component may have";
        self.text("types-of-components", 200_000, most, |count| {
            // Two are those of the module's functions, one that of the component's.
            handler("", &"(type (tuple u8))".repeat(count as usize - 3))
        });
        // What ends a compiler that goes down by recursion, or up by the square.
        let nested = "components nested in 51 levels or more";
        let deep = nested_components(20_000);
        self.add("nested-components-20000.wasm", deep, Some(nested));
        let nested = "types declared in 51 levels or more";
        let deep = component(&[section(7, &nested_types(200_000))]);
        self.add("nested-types-200000.wasm", deep, Some(nested));
        let types = component(&[section(7, &nested_types(200_000))]);
        let custom = [name("component-type:x"), types].concat();
        let deep = module(&[section(0, &custom)]);
        self.add("nested-types-of-a-module.wasm", deep, Some(nested));
    }

    fn of_instances(&mut self) {
        let most =
            "it has N instances of core modules, more than the 500 that a component may have";
        self.text("core-instances", 500, most, |count| {
            handler(
                "",
                &"(core instance (instantiate $m))".repeat(count as usize - 1),
            )
        });
        let most = "it has N instances of components, more than the 2000 that a component may have";
        self.text("component-instances", 2_000, most, |count| {
            let each = "(instance (instantiate $one))";
            // The one around, and twice the one in between with all that it makes.
            let rest = count - 1 - 2 * 900;
            let between = each.repeat(899);
            handler(
                "",
                &format!(
                    "(component $one)
                     (component $many (component $one) {between})
                     (instance (instantiate $many)) (instance (instantiate $many))
                     {}",
                    each.repeat(rest as usize)
                ),
            )
        });
        let doubling = (0..40).fold("(component $c0)".to_owned(), |text, level| {
            format!(
                "{text} (component $c{0} (alias outer 1 $c{level} (component $inner))
                   (instance (instantiate $inner)) (instance (instantiate $inner)))",
                level + 1
            )
        });
        let doubling = wat::parse_str(handler("", &doubling)).unwrap();
        let most = "instances of components, more than the 2000";
        self.add("instances-doubled-40-times.wasm", doubling, Some(most));
        let most = "it has N linear memories in all its instances, more than the 4 that";
        self.text("memories", 4, most, |count| {
            handler(&"(memory 1)".repeat(count as usize), "")
        });
        let most = "it has N tables in all its instances, more than the 8 that";
        self.text("tables", 8, most, |count| {
            handler(&"(table 1 funcref)".repeat(count as usize), "")
        });
        let most = "a table of it begins with N elements, more than the 1000000 that one may have";
        self.text("table-elements", 1_000_000, most, |count| {
            handler(&format!("(table {count} funcref)"), "")
        });
        let pages = "a memory of it begins with 4295032832 bytes, more than the 4294967296 that one may have";
        self.text("memory-pages", 65_536, pages, |count| {
            handler(&format!("(memory i64 {count})"), "")
        });
        self.items();
        let most = "bytes in the host for one instance";
        for (name, count, refusal) in [("at", 130_000, None), ("past", 132_000, Some(most))] {
            let text = handler(&"(func)".repeat(count), "(core instance (instantiate $m))");
            let bytes = wat::parse_str(text).unwrap();
            self.add(&format!("instance-bytes-{name}.wasm"), bytes, refusal);
        }
        let imports = "it makes an instance of a core module that it does not contain, but imports";
        let text = handler(
            "",
            "(import \"x\" (core module $x)) (core instance (instantiate $x))",
        );
        let bytes = wat::parse_str(text).unwrap();
        self.add("imported-module.wasm", bytes, Some(imports));
        let imports = "it makes an instance of a component that it does not contain, but imports";
        let text = handler(
            "",
            "(import \"x\" (component $x)) (instance (instantiate $x))",
        );
        let bytes = wat::parse_str(text).unwrap();
        self.add("imported-component.wasm", bytes, Some(imports));
        let shared = "it has a memory that threads share";
        let bytes = wat::parse_str(handler("(memory 1 1 shared)", "")).unwrap();
        self.add("shared-memory.wasm", bytes, Some(shared));
    }

    /// Few bytes that are compiled many times.
    fn items(&mut self) {
        let exports = |count: usize| {
            let mut exports = String::new();
            for number in 0..count {
                write!(exports, "(export \"e{number}\" (func $f))").unwrap();
            }
            exports
        };
        let text = |instances: usize| {
            handler(
                "",
                &format!(
                    "(component $e (import \"f\" (func $f)) {})
                     (func $f (canon lift (core func $i \"nothing\")))
                     {}",
                    exports(1_000),
                    "(instance (instantiate $e (with \"f\" (func $f))))".repeat(instances)
                ),
            )
        };
        let most = "imports, exports, aliases and functions in all its instances, more than the 200000 that";
        for (name, instances, refusal) in [
            ("at", 199, None),
            ("past", 200, Some(most)),
            ("900", 900, Some(most)),
        ] {
            let bytes = wat::parse_str(text(instances)).unwrap();
            self.add(&format!("instances-of-exports-{name}.wasm"), bytes, refusal);
        }
    }

    fn of_modules(&mut self) {
        let mut most = |kind: &str, what: &str, of: &dyn Fn(usize) -> String| {
            let refusal =
                format!("it has N {what}, more than the 100000 that a component may have");
            self.text(kind, 100_000, &refusal, |count| of(count as usize));
        };
        most("globals", "globals", &|count| {
            handler(&"(global i32 (i32.const 0))".repeat(count), "")
        });
        most("element-segments", "element segments", &|count| {
            handler(&"(elem func)".repeat(count), "")
        });
        most("data-segments", "data segments", &|count| {
            handler(&"(data \"\")".repeat(count), "")
        });
        most("imports", "imports of core modules", &|count| {
            let mut imports = String::new();
            for number in 0..count {
                write!(imports, "(import \"\" \"i{number}\" (func))").unwrap();
            }
            handler("", &format!("(core module {imports})"))
        });
        most("exports", "exports of core modules", &|count| {
            let mut exports = String::new();
            // One is there without them, and another is that of nothing.
            for number in 2..count {
                write!(exports, "(export \"e{number}\" (func $go))").unwrap();
            }
            handler(&exports, "")
        });
        let most = "it has N types, more than the 200000 that a component may have";
        self.text("types-of-modules", 200_000, most, |count| {
            // Two others are there.
            handler(&"(type (func))".repeat(count as usize - 2), "")
        });
    }

    fn of_functions(&mut self) {
        let most = "it has N functions, more than the 200000 that a component may have";
        self.text("functions", 200_000, most, |count| {
            handler(&"(func)".repeat(count as usize - 2), "")
        });
        let most = "it has 900002 functions, more than the 200000";
        let bytes = wat::parse_str(handler(&"(func)".repeat(900_000), "")).unwrap();
        self.add("functions-900000.wasm", bytes, Some(most));
        let most = "a function of it has N bytes of code, more than the 1048576 that one may have";
        self.text("function-bytes", 1 << 20, most, |count| {
            // The number of its local variables, and its end.
            handler(&format!("(func {})", "nop ".repeat(count as usize - 2)), "")
        });
        let most = "it has N local variables, more than the 20000000 that a component may have";
        self.binary("local-variables", 20_000_000, most, |count| {
            let whole = (count / 50_000) as usize;
            let mut counts = vec![50_000; whole];
            counts.push(count % 50_000);
            functions_with_locals(&counts)
        });
        let most = "a function of it has 1000 local variables and N jumps or labels";
        self.text("joins", 10_000, most, |count| {
            // Each loop needs a value of each variable.
            let count = count as usize;
            let params = "(param i32)".repeat(1_000);
            let mut body = "loop ".repeat(count);
            for variable in 0..1_000 {
                write!(body, "local.get {variable} local.set {variable} ").unwrap();
            }
            body.push_str(&"end ".repeat(count));
            handler(&format!("(func {params} {body})"), "")
        });
    }

    fn of_files(&mut self) {
        let text = |length: usize| {
            let mut text = handler("", "");
            text.push_str(&" ".repeat(length - text.len()));
            text.into_bytes()
        };
        self.add("text-at.wat", text(8 << 20), None);
        let most = "it has 8388609 bytes, more than the 8388608 that a handler as text may have";
        self.add("text-past.wat", text((8 << 20) + 1), Some(most));
        let nested = "(".repeat(1_000_000).into_bytes();
        self.add("brackets.wat", nested, Some("brackets.wat"));
    }
}

/// The text of a handler, with something in its core module and something after that.
fn handler(module: &str, rest: &str) -> String {
    format!(
        "(component
           (core module $m {module}
             (func (export \"nothing\"))
             (func $go (export \"go\") (result i32) i32.const 7))
           (core instance $i (instantiate $m))
           {rest}
           (func (export \"go\") (result u32) (canon lift (core func $i \"go\"))))"
    )
}

/// Components in each other, in so many levels.
fn nested_components(levels: u64) -> Vec<u8> {
    let mut sizes = Vec::new();
    let mut size = HEAD.len();
    for _ in 1..levels {
        sizes.push(size);
        size += HEAD.len() + 1 + number(size).len();
    }
    let mut bytes = Vec::with_capacity(size);
    for size in sizes.iter().rev() {
        bytes.extend_from_slice(HEAD);
        bytes.push(4);
        bytes.extend(number(*size));
    }
    bytes.extend_from_slice(HEAD);
    bytes
}

/// The content of a section of one type, with types of components in each other, in so many levels.
fn nested_types(levels: u64) -> Vec<u8> {
    // One type: of a component, with one declaration, a type: and so on.
    let mut bytes = number(1);
    for _ in 1..levels {
        bytes.extend([0x41, 1, 1]);
    }
    bytes.extend([0x41, 0]);
    bytes
}

/// A core module of functions that have so many local variables each.
fn functions_with_locals(counts: &[u64]) -> Vec<u8> {
    let types = [number(1), vec![0x60, 0, 0]].concat();
    let count = number(counts.len());
    let functions = [count.clone(), vec![0; counts.len()]].concat();
    let mut code = count;
    for locals in counts {
        let body = [number(1), number(*locals as usize), vec![0x7f, 0x0b]].concat();
        code.extend(number(body.len()));
        code.extend(body);
    }
    module(&[
        section(1, &types),
        section(3, &functions),
        section(10, &code),
    ])
}

const HEAD: &[u8] = b"\0asm\x0d\0\x01\0";

fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [HEAD, &sections.concat()].concat()
}

fn module(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x01\0\0\0".as_slice(), &sections.concat()].concat()
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id], number(content.len()).as_slice(), content].concat()
}

fn name(text: &str) -> Vec<u8> {
    [number(text.len()).as_slice(), text.as_bytes()].concat()
}

/// A number as LEB128.
fn number(mut of: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (of & 127) as u8;
        of >>= 7;
        if of == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 128);
    }
}
