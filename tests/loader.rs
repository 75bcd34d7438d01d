//! The handlers directory: what is loaded, replaced, forgotten, refused.

mod compiled;
mod unusual;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, mpsc};

use fishway::clock::SystemClock;
use fishway::executor::{Sandbox, Settings};
use fishway::loader::{Change, Check, Digest, Loader, Origin};
use fishway::task::{Options, Status};
use serde_json::json;

use crate::support::{PATIENCE, World, guests, options, results};

struct Shelf {
    directory: tempfile::TempDir,
}

impl Shelf {
    fn new() -> Shelf {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("handlers")).unwrap();
        Shelf { directory }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join("handlers").join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    fn guest(&self, guest: &str, name: &str) {
        std::fs::copy(guests::guest(guest), self.path(name)).unwrap();
    }

    fn loader(&self) -> Arc<Loader> {
        let sandbox = Sandbox::plain().unwrap();
        self.open(&sandbox, sandbox.check())
    }

    fn open(&self, sandbox: &Sandbox, check: Check) -> Arc<Loader> {
        let (handlers, data) = (
            self.directory.path().join("handlers"),
            self.directory.path().join("data"),
        );
        Arc::new(Loader::open(sandbox.engine().clone(), check, &handlers, &data).unwrap())
    }

    /// A loader that stands still at each component that exports one of these functions.
    fn gated(&self, functions: &[&str]) -> Gated {
        let gate = Arc::new(Gate::default());
        let (arrives, arrived) = mpsc::channel();
        let sandbox = Sandbox::plain().unwrap();
        let (link, at) = (sandbox.check(), gate.clone());
        let functions: Vec<String> = functions.iter().map(|one| one.to_string()).collect();
        let check: Check = Arc::new(move |component| {
            for function in &functions {
                if component.get_export_index(None, function).is_some() {
                    let _ = arrives.send(function.clone());
                    at.pass(function);
                }
            }
            link(component)
        });
        let loader = self.open(&sandbox, check);
        let (tell, told) = mpsc::channel();
        Gated {
            loader,
            gate,
            arrived,
            tell,
            told,
            scans: Vec::new(),
        }
    }
}

fn told(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| match change {
            Change::Loaded(handler) => format!("loaded {}", handler.name),
            Change::Replaced(handler) => format!("replaced {}", handler.name),
            Change::Forgotten(name) => format!("forgot {name}"),
            Change::Failed(problem) => format!("{problem} | {}", problem.hint),
        })
        .collect()
}

/// All that a scan changes: handlers first, by name, then what is wrong.
fn scan(loader: &Loader) -> Vec<String> {
    let all = Mutex::new(Vec::new());
    loader.scan(|changes| all.lock().unwrap().extend(told(&changes)));
    let mut all = all.into_inner().unwrap();
    all.sort_by_key(|one: &String| match one.split_once(' ') {
        Some(("loaded" | "replaced", name)) => (0, name.to_owned()),
        Some(("forgot", name)) => (1, name.to_owned()),
        _ => (2, one.clone()),
    });
    all
}

/// What lets components pass by the name of one of their functions.
#[derive(Default)]
struct Gate {
    open: Mutex<BTreeSet<String>>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self, function: &str) {
        let open = self.open.lock().unwrap();
        let shut = |open: &mut BTreeSet<String>| !open.contains(function);
        drop(self.opened.wait_while(open, shut).unwrap());
    }

    fn open(&self, function: &str) {
        self.open.lock().unwrap().insert(function.to_owned());
        self.opened.notify_all();
    }
}

/// A loader whose scans stand still at a gate.
struct Gated {
    loader: Arc<Loader>,
    gate: Arc<Gate>,
    arrived: mpsc::Receiver<String>,
    tell: mpsc::Sender<String>,
    told: mpsc::Receiver<String>,
    scans: Vec<std::thread::JoinHandle<()>>,
}

impl Gated {
    /// Begin a scan, on a thread of its own.
    fn scan(&mut self) {
        let (loader, tell) = (self.loader.clone(), self.tell.clone());
        self.scans.push(std::thread::spawn(move || {
            loader.scan(|changes| {
                told(&changes).into_iter().for_each(|one| {
                    let _ = tell.send(one);
                });
            });
        }));
    }

    /// A component has come to the gate.
    fn arrived(&self) -> String {
        self.arrived.recv_timeout(PATIENCE).unwrap()
    }

    /// The next that is told.
    fn told(&self) -> String {
        self.told.recv_timeout(PATIENCE).unwrap()
    }

    /// Let everything through that exports this, and have all scans end. Tells what else was told, and
    /// came to the gate.
    fn open(&mut self, functions: &[&str]) -> (Vec<String>, Vec<String>) {
        for function in functions {
            self.gate.open(function);
        }
        for scan in self.scans.drain(..) {
            scan.join().unwrap();
        }
        (
            self.told.try_iter().collect(),
            self.arrived.try_iter().collect(),
        )
    }
}

#[test]
fn new_files_are_loaded_changed_ones_replaced_and_gone_ones_forgotten() {
    let shelf = Shelf::new();
    shelf.guest("echo", "one.wasm");
    shelf.put(".hidden.wasm", "x");
    shelf.put("notes.txt", "x");
    let loader = shelf.loader();
    assert_eq!(scan(&loader), ["loaded one"]);
    assert_eq!(scan(&loader), [""; 0]);
    shelf.put("one.toml", "[limits]\nconcurrency = 2");
    assert_eq!(scan(&loader), ["replaced one"]);
    assert_eq!(
        loader.get("one").unwrap().manifest.limits.concurrency,
        Some(2)
    );
    shelf.guest("script", "one.wasm");
    shelf.guest("echo", "two.wasm");
    assert_eq!(scan(&loader), ["replaced one", "loaded two"]);
    std::fs::remove_file(shelf.path("two.wasm")).unwrap();
    assert_eq!(scan(&loader), ["forgot two"]);
}

#[test]
fn a_bad_file_is_reported_and_stops_no_other() {
    let shelf = Shelf::new();
    let whole = std::fs::read(guests::guest("echo")).unwrap();
    shelf.guest("echo", "good.wasm");
    shelf.put("empty.wasm", "");
    shelf.put("text.wasm", "this is not WebAssembly");
    shelf.put("truncated.wasm", &whole[..whole.len() / 2]);
    shelf.put("wrong.wat", "(component)");
    shelf.put(
        "imports.wat",
        "(component (import \"unknown:thing/here\" (instance)))",
    );
    shelf.put("plain.wat", "(module)");
    shelf.put("bad name.wasm", "x");
    shelf.put("lonely.toml", "");
    shelf.guest("echo", "manifest.wasm");
    shelf.put("manifest.toml", "[limits]\nmemmory = 1");
    shelf.guest("echo", "twice.wasm");
    shelf.put("twice.wat", "(component)");
    let loader = shelf.loader();
    let all = scan(&loader);
    let mut found: Vec<&str> = all.iter().map(String::as_str).collect();
    found.sort_unstable();
    let check =
        |index: usize, start: &str| assert!(found[index].starts_with(start), "{}", found[index]);
    assert_eq!(found.len(), 11, "{found:#?}");
    check(
        0,
        "bad name.wasm: a handler cannot have this name: it has characters other than ASCII letters",
    );
    check(1, "empty.wasm: the file is empty | build it again");
    check(
        2,
        "imports.wat: it is not a task handler: it exports nothing | export fishway:task/handler@0.2.0",
    );
    check(3, "loaded good");
    check(4, "lonely.toml: there is no lonely.wasm beside it");
    check(
        5,
        "manifest.toml: line 2, column 1: there is no key \"memmory\" | did you mean memory?",
    );
    check(6, "plain.wat: it is ");
    check(
        7,
        "text.wasm: it is not WebAssembly | a handler is a component",
    );
    check(8, "truncated.wasm: it is ");
    check(9, "twice.w");
    check(
        10,
        "wrong.wat: it is not a task handler: it exports nothing",
    );
    assert_eq!(loader.handlers().len(), 1);
    assert_eq!(loader.problems().len(), 10);
    assert_eq!(scan(&loader), [""; 0], "a problem is told once");
    // Mended, they are handlers.
    shelf.guest("echo", "empty.wasm");
    assert_eq!(scan(&loader), ["loaded empty"]);
    assert_eq!(loader.problems().len(), 9);
}

#[test]
fn a_handler_that_asks_for_what_no_host_has_is_refused_when_it_is_loaded() {
    let shelf = Shelf::new();
    let exports = "(instance $empty) (export \"fishway:task/handler@0.1.0\" (instance $empty))";
    let import = "(import \"wasi:thing/here\" (instance (export \"help\" (func))))";
    shelf.put("asks.wat", format!("(component {import} {exports})"));
    shelf.put("lacks.wat", format!("(component {exports})"));
    let loader = shelf.loader();
    let told = scan(&loader);
    let check = |index: usize, start: &str, word: &str| {
        let found: &String = &told[index];
        assert!(found.starts_with(start) && found.contains(word), "{found}");
    };
    check(0, "asks.wat: it cannot be linked: ", "wasi:thing/here");
    check(1, "lacks.wat: it cannot be linked: ", "run");
    assert_eq!(loader.handlers().len(), 0);
}

/// A component with a function that gives 7, and what else is said.
fn giving(more: &str) -> String {
    format!(
        "(component
           (core module $m (func (export \"give\") (result i32) i32.const 7) (func (export \"take\") (param i32)))
           (core instance $i (instantiate $m))
           (func $give (result u32) (canon lift (core func $i \"give\")))
           {more})"
    )
}

#[test]
fn functions_are_named_as_shortly_as_they_can_be_told_apart() {
    let shelf = Shelf::new();
    let exports = "(export \"give\" (func $give))
                   (instance $one (export \"give\" (func $give)) (export \"single\" (func $give)))
                   (instance $other (export \"give\" (func $give)))
                   (export \"a:x/pricing@1.0.0\" (instance $one))
                   (export \"b:y/pricing\" (instance $other))
                   (export \"c:z/others\" (instance $other))";
    shelf.put("many.wat", giving(exports));
    let loader = shelf.loader();
    assert_eq!(scan(&loader), ["loaded many"]);
    let handler = loader.component("many").unwrap();
    let names: Vec<String> = handler.task_types().map(|(name, _)| name).collect();
    let expected = [
        "many/give",
        "many/a:x/pricing@1.0.0.give",
        "many/single",
        "many/b:y/pricing.give",
        "many/others.give",
    ];
    assert_eq!(names, expected);
    for name in expected {
        assert!(loader.get(name).is_some(), "{name}");
    }
    assert!(loader.get("many").is_none(), "nothing runs the whole");
    assert!(loader.get("many/pricing.give").is_none());
}

#[test]
fn a_function_of_what_no_json_stands_for_is_left_out_and_why_is_said() {
    let shelf = Shelf::new();
    let taking = "(type $resource (resource (rep i32)))
                  (export $thing \"thing\" (type $resource))
                  (func $take (param \"one\" (own $thing)) (canon lift (core func $i \"take\")))
                  (export \"take\" (func $take))";
    shelf.put(
        "some.wat",
        giving(&format!("{taking} (export \"give\" (func $give))")),
    );
    shelf.put("none.wat", giving(taking));
    let loader = shelf.loader();
    let told = scan(&loader);
    assert_eq!(told[0], "loaded some");
    let expected = "none.wat: it is not a task handler: it exports thing (neither interface nor function), take; take \
                    is no task: a resource cannot be JSON | export fishway:task/handler@0.2.0, with run: ";
    assert!(told[1].starts_with(expected), "{}", told[1]);
    let some = loader.component("some").unwrap();
    assert_eq!(
        some.left_out,
        ["take is no task: a resource cannot be JSON"]
    );
    assert_eq!(some.functions.len(), 1);
}

#[test]
fn a_call_of_another_handler_is_told_when_nobody_answers_it_or_with_other_types() {
    let shelf = Shelf::new();
    let import = |function: &str| {
        let import = "import \"shop:orders/pricing@0.1.0\" (instance (export";
        giving(&format!(
            "({import} {function}))) (export \"give\" (func $give))"
        ))
    };
    shelf.put(
        "asks.wat",
        import("\"length\" (func (param \"text\" string) (result u32))"),
    );
    shelf.put(
        "other.wat",
        import("\"length\" (func (param \"text\" u32) (result u32))"),
    );
    let loader = shelf.loader();
    let nobody = "it imports shop:orders/pricing@0.1.0, which no handler exports";
    let all = scan(&loader);
    assert_eq!(all[..2], ["loaded asks", "loaded other"]);
    assert!(
        all[2].starts_with(&format!("asks.wat: {nobody} | ")),
        "{all:?}"
    );
    assert!(
        all[3].starts_with(&format!("other.wat: {nobody} | ")),
        "{all:?}"
    );
    assert_eq!(scan(&loader), [""; 0], "told once");
    shelf.guest("typed", "typed.wasm");
    let expected = "other.wat: it imports length of shop:orders/pricing@0.1.0, which handler \"typed\" has with other \
                    types: expected string, found u32 at text of length | build both against the same WIT";
    assert_eq!(scan(&loader), ["loaded typed", expected]);
    assert_eq!(loader.problems().len(), 1);
    // The function of a handler that the manifest names may stand in another version, or in none.
    shelf.put("top.wat", giving("(export \"give\" (func $give))"));
    let import = "(import \"a:b/c@2.0.0\" (instance (export \"give\" (func (result u32)))))";
    shelf.put(
        "calls.wat",
        giving(&format!("{import} (export \"call\" (func $give))")),
    );
    shelf.put("calls.toml", "imports = { \"a:b/c\" = \"top\" }");
    assert_eq!(scan(&loader), ["loaded calls", "loaded top"]);
    let calls = loader.component("calls").unwrap();
    let wanted = &calls.wanted[0];
    let found = loader.provider(&calls, &wanted.interface, &wanted.functions[0]);
    assert_eq!(found.unwrap(), "top/give");
    let import = "(import \"a:b/c\" (instance (export \"thing\" (type (sub resource)))))";
    shelf.put(
        "asks.wat",
        giving(&format!("{import} (export \"call\" (func $give))")),
    );
    let told = scan(&loader);
    let expected = "asks.wat: it cannot be linked: ";
    assert!(told[0].starts_with(expected), "{told:?}");
}

#[test]
fn a_bad_replacement_leaves_the_version_before_it_in_use() {
    let shelf = Shelf::new();
    shelf.guest("echo", "one.wasm");
    let loader = shelf.loader();
    scan(&loader);
    let before = loader.get("one").unwrap().digest.clone();
    shelf.put("one.wasm", "junk that is longer than nothing");
    let told = scan(&loader);
    assert!(
        told[0].ends_with("until then the version before it stays in use"),
        "{told:?}"
    );
    assert_eq!(loader.get("one").unwrap().digest, before);
}

#[test]
fn many_copies_of_one_component_are_loaded_at_once_and_kept_once() {
    let shelf = Shelf::new();
    for copy in 0..8 {
        shelf.guest("echo", &format!("copy-{copy}.wasm"));
    }
    assert_eq!(scan(&shelf.loader()).len(), 8);
    let names = |place: &str| -> Vec<String> {
        let entries = std::fs::read_dir(shelf.directory.path().join("data").join(place)).unwrap();
        entries
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    };
    // The component, and the folder with a manifest for each.
    assert_eq!(names("components").len(), 2, "{:?}", names("components"));
    assert_eq!(names("compiled").len(), 1, "{:?}", names("compiled"));
    let loader = shelf.loader();
    scan(&loader);
    assert!(
        loader
            .handlers()
            .iter()
            .all(|handler| matches!(handler.origin, Origin::Cached(_)))
    );
}

#[test]
fn a_component_is_kept_until_nobody_needs_it() {
    let shelf = Shelf::new();
    shelf.guest("echo", "one.wasm");
    shelf.put("one.toml", "[limits]\nchildren = 2");
    let loader = shelf.loader();
    scan(&loader);
    let old = loader.get("one").unwrap().digest.clone();
    shelf.guest("script", "one.wasm");
    std::fs::remove_file(shelf.path("one.toml")).unwrap();
    scan(&loader);
    assert_ne!(loader.get("one").unwrap().digest, old);
    assert_eq!(loader.forget_kept(&[old.clone()].into()).unwrap(), 0);
    let kept = shelf.loader().by_digest("one", &old).unwrap();
    assert_eq!(kept.digest, old);
    let children = kept.manifest.limits.children_max;
    assert_eq!(children, 2, "with the manifest that it had");
    assert_eq!(loader.forget_kept(&Default::default()).unwrap(), 1);
    let gone = loader.by_digest("one", &old).err().unwrap().to_string();
    assert!(gone.contains("neither loaded nor kept"), "{gone}");
}

#[test]
fn handlers_of_one_component_go_on_with_manifests_of_their_own() {
    let shelf = Shelf::new();
    for name in ["one", "two", "bare"] {
        shelf.guest("echo", &format!("{name}.wasm"));
    }
    shelf.put("one.toml", "[limits]\nchildren = 1");
    shelf.put("two.toml", "[limits]\nchildren = 2");
    let loader = shelf.loader();
    scan(&loader);
    let old = loader.get("one").unwrap().digest.clone();
    for name in ["one", "two", "bare"] {
        shelf.guest("script", &format!("{name}.wasm"));
    }
    shelf.put("two.toml", "[limits]\nchildren = 22");
    scan(&loader);
    assert_ne!(loader.get("one").unwrap().digest, old);
    let children = |loader: &Loader, name: &str| {
        let kept = loader.by_digest(name, &old).unwrap();
        assert_eq!((&*kept.name, &kept.digest), (name, &old));
        kept.manifest.limits.children_max
    };
    let usual = fishway::limits::Limits::default().children_max;
    for loader in [loader, shelf.loader()] {
        for (name, expected) in [("bare", usual), ("two", 2), ("one", 1), ("bare", usual)] {
            assert_eq!(children(&loader, name), expected, "{name}");
        }
        // One that never had it is given none of theirs.
        let gone = loader.by_digest("other", &old).err().unwrap().to_string();
        assert!(gone.contains("neither loaded nor kept"), "{gone}");
    }

    // An older version has kept one manifest for all.
    let kept = shelf.directory.path().join("data/components");
    std::fs::remove_dir_all(kept.join(format!("{}.manifests", old.hex()))).unwrap();
    std::fs::write(
        kept.join(format!("{}.toml", old.hex())),
        "[limits]\nchildren = 7",
    )
    .unwrap();
    let loader = shelf.loader();
    assert_eq!(
        (children(&loader, "one"), children(&loader, "other")),
        (7, 7)
    );
    assert!(!kept.join(format!("{}.toml", old.hex())).exists());
    assert_eq!(children(&shelf.loader(), "two"), 7);
}

#[test]
fn what_a_file_that_is_looked_at_first_is_compiled_to_is_kept_for_when_it_is_loaded() {
    let shelf = Shelf::new();
    let loader = shelf.loader();
    let aside = shelf.directory.path().join("aside.wat");
    let compiled = || {
        let entries = std::fs::read_dir(shelf.directory.path().join("data/compiled")).unwrap();
        let names = entries
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".cwasm")).count()
    };
    let text = giving("(export \"give\" (func $give))");
    std::fs::write(&aside, &text).unwrap();
    let looked = loader.examine(&aside).unwrap();
    assert!(matches!(looked.origin, Origin::Compiled(_)));
    assert_eq!(compiled(), 1);
    shelf.put("new.wat", &text);
    scan(&loader);
    let loaded = loader.component("new").unwrap();
    assert!(
        matches!(loaded.origin, Origin::Cached(_)),
        "{:?}",
        loaded.origin
    );
    // Of what is no handler nothing stays; of what is loaded already all does.
    std::fs::write(&aside, "(component)").unwrap();
    assert!(loader.examine(&aside).is_err());
    assert_eq!(compiled(), 1);
    std::fs::write(&aside, &text).unwrap();
    loader.examine(&aside).unwrap();
    loader.forget_code(&loaded.digest);
    assert_eq!(compiled(), 1);
    std::fs::write(&aside, giving("(export \"other\" (func $give))")).unwrap();
    let other = loader.examine(&aside).unwrap();
    assert_eq!(compiled(), 2);
    loader.forget_code(&other.digest);
    assert_eq!(compiled(), 1);
}

#[test]
fn a_slow_file_holds_up_neither_what_is_new_nor_what_is_replaced_nor_what_is_gone() {
    let shelf = Shelf::new();
    shelf.put("slow.wat", giving("(export \"slow\" (func $give))"));
    shelf.put("quick.wat", giving("(export \"give\" (func $give))"));
    let mut gated = shelf.gated(&["slow"]);
    gated.scan();
    assert_eq!(gated.arrived(), "slow");
    assert_eq!(gated.told(), "loaded quick");
    shelf.put("late.wat", giving("(export \"give\" (func $give))"));
    gated.scan();
    assert_eq!(gated.told(), "loaded late");
    shelf.put("quick.wat", giving("(export \"other\" (func $give))"));
    gated.scan();
    assert_eq!(gated.told(), "replaced quick");
    assert!(gated.loader.get("quick/other").is_some());
    std::fs::remove_file(shelf.path("late.wat")).unwrap();
    gated.scan();
    assert_eq!(gated.told(), "forgot late");
    assert!(gated.loader.loads("slow"));
    assert!(gated.loader.component("slow").is_none());
    let (told, arrived) = gated.open(&["slow"]);
    assert_eq!(told, ["loaded slow"]);
    assert_eq!(arrived, [""; 0], "four scans loaded it once");
    assert_eq!(gated.loader.loading(), 0);
}

#[test]
fn a_file_that_changes_while_it_is_loaded_is_loaded_again_and_what_comes_late_is_dropped() {
    let shelf = Shelf::new();
    shelf.put("one.wat", giving("(export \"slow\" (func $give))"));
    let mut gated = shelf.gated(&["slow", "wrong"]);
    gated.scan();
    assert_eq!(gated.arrived(), "slow");
    shelf.put("one.wat", giving("(export \"newer\" (func $give))"));
    gated.scan();
    assert_eq!(gated.told(), "loaded one");
    // One that is outdated has no problems either, and one that is back need not be loaded.
    let newer = std::fs::metadata(shelf.path("one.wat")).unwrap();
    let import = "(import \"wasi:thing/here\" (instance (export \"help\" (func))))";
    let wrong = giving(&format!("{import} (export \"wrong\" (func $give))"));
    shelf.put("one.wat", wrong);
    gated.scan();
    assert_eq!(gated.arrived(), "wrong");
    shelf.put("one.wat", giving("(export \"newer\" (func $give))"));
    let file = std::fs::File::options()
        .write(true)
        .open(shelf.path("one.wat"));
    file.unwrap()
        .set_modified(newer.modified().unwrap())
        .unwrap();
    gated.scan();
    gated.scans.pop().unwrap().join().unwrap();
    let (told, _) = gated.open(&["slow", "wrong"]);
    assert_eq!(told, [""; 0]);
    assert!(gated.loader.get("one/newer").is_some());
    assert_eq!(gated.loader.problems().len(), 0);
}

#[test]
fn a_file_that_is_removed_while_it_is_loaded_is_not_loaded() {
    let shelf = Shelf::new();
    shelf.put("one.wat", giving("(export \"slow\" (func $give))"));
    let mut gated = shelf.gated(&["slow"]);
    gated.scan();
    assert_eq!(gated.arrived(), "slow");
    std::fs::remove_file(shelf.path("one.wat")).unwrap();
    gated.scan();
    gated.scans.pop().unwrap().join().unwrap();
    assert!(!gated.loader.loads("one"));
    let (told, _) = gated.open(&["slow"]);
    assert_eq!(told, [""; 0]);
    assert!(gated.loader.component("one").is_none());
}

#[test]
fn what_is_kept_of_a_component_that_is_being_loaded_is_not_removed() {
    let shelf = Shelf::new();
    let text = giving("(export \"slow\" (func $give))");
    let digest = Digest::of(text.as_bytes());
    shelf.put("one.wat", &text);
    scan(&shelf.loader());
    let mut gated = shelf.gated(&["slow"]);
    gated.scan();
    assert_eq!(gated.arrived(), "slow");
    let nobody = Default::default();
    assert_eq!(gated.loader.forget_kept(&nobody).unwrap(), 0);
    assert!(gated.loader.kept(&digest).is_some());
    let (told, _) = gated.open(&["slow"]);
    assert_eq!(told, ["loaded one"]);
    assert_eq!(gated.loader.forget_kept(&nobody).unwrap(), 0);
    std::fs::remove_file(shelf.path("one.wat")).unwrap();
    scan(&gated.loader);
    assert_eq!(gated.loader.forget_kept(&nobody).unwrap(), 1);
}

#[test]
fn slow_files_on_all_processors_hold_up_neither_another_nor_what_is_said_about_it() {
    let shelf = Shelf::new();
    let processors = std::thread::available_parallelism().unwrap().get();
    for slow in 0..processors {
        let name = format!("slow-{slow}.wat");
        shelf.put(&name, giving("(export \"slow\" (func $give))"));
    }
    let mut gated = shelf.gated(&["slow"]);
    gated.scan();
    for _ in 0..processors {
        gated.arrived();
    }
    let import = "(import \"a:b/c\" (instance (export \"give\" (func (result u32)))))";
    let asks = giving(&format!("{import} (export \"ask\" (func $give))"));
    shelf.put("asks.wat", asks);
    gated.scan();
    assert_eq!(gated.told(), "loaded asks");
    let told = gated.told();
    let nobody = "asks.wat: it imports a:b/c, which no handler exports";
    assert!(told.starts_with(nobody), "{told}");
    assert_eq!(gated.loader.loading(), processors);
    assert_eq!(gated.open(&["slow"]).0.len(), processors);
}

#[test]
fn nobody_waits_for_a_slow_file_to_be_told_what_is_missing() {
    let shelf = Shelf::new();
    let import = "(import \"a:b/c\" (instance (export \"give\" (func (result u32)))))";
    let asks = giving(&format!("{import} (export \"ask\" (func $give))"));
    shelf.put("asks.wat", asks);
    shelf.put("slow.wat", giving("(export \"slow\" (func $give))"));
    let mut gated = shelf.gated(&["slow"]);
    gated.scan();
    assert_eq!(gated.told(), "loaded asks");
    let told = gated.told();
    let nobody = "asks.wat: it imports a:b/c, which no handler exports";
    assert!(told.starts_with(nobody), "{told}");
    assert!(gated.loader.loads("slow"));
    assert_eq!(gated.open(&["slow"]).0, ["loaded slow"]);
}

#[test]
fn nobody_is_said_to_be_missing_who_is_still_on_the_way() {
    let shelf = Shelf::new();
    let import = "(import \"a:b/c\" (instance (export \"give\" (func (result u32)))))";
    let asks = giving(&format!("{import} (export \"ask\" (func $give))"));
    shelf.put("asks.wat", asks);
    let answers =
        "(instance $one (export \"give\" (func $give))) (export \"a:b/c\" (instance $one))
                   (export \"slow\" (func $give))";
    shelf.put("answers.wat", giving(answers));
    let mut gated = shelf.gated(&["slow"]);
    gated.scan();
    assert_eq!(gated.arrived(), "slow");
    assert_eq!(gated.told(), "loaded asks");
    assert_eq!(gated.open(&["slow"]).0, ["loaded answers"]);
}

#[test]
fn the_directory_is_watched() {
    let shelf = Shelf::new();
    let loader = shelf.loader();
    let (sender, changed) = mpsc::channel();
    let _watch = loader
        .watch(move || sender.send(()).unwrap_or_default())
        .unwrap();
    let whole = std::fs::read(guests::guest("echo")).unwrap();
    shelf.put("late.wasm", &whole[..100]);
    shelf.put("late.wasm", &whole);
    changed.recv_timeout(PATIENCE).unwrap();
    scan(&loader);
    while loader.get("late").is_none() {
        // The two writes were far apart; there is another notice.
        changed.recv_timeout(PATIENCE).unwrap();
        scan(&loader);
    }
    assert_eq!(loader.problems().len(), 0);
}

/// Scans each time that the watch says that something has changed, and never otherwise, until that has come.
fn scan_until(loader: &Loader, changed: &mpsc::Receiver<()>, done: impl Fn(&Loader) -> bool) {
    loop {
        let noticed = changed.recv_timeout(PATIENCE);
        noticed.expect("the watch notices the change");
        scan(loader);
        if done(loader) {
            return;
        }
    }
}

#[test]
fn a_directory_that_is_replaced_renamed_or_linked_elsewhere_is_seen_again() {
    let shelf = Shelf::new();
    let place = shelf.directory.path();
    let at = |name: &str| place.join(name);
    // The way goes through a link and a directory above.
    std::fs::create_dir(at("one")).unwrap();
    std::fs::rename(at("handlers"), at("one/handlers")).unwrap();
    std::os::unix::fs::symlink("one", at("current")).unwrap();
    let sandbox = Sandbox::plain().unwrap();
    let (handlers, data) = (at("current/handlers"), at("data"));
    let engine = sandbox.engine().clone();
    let loader = Loader::open(engine, sandbox.check(), &handlers, &data).unwrap();
    let put = |directory: &str, name: &str| {
        let file = at(directory).join(format!("{name}.wasm"));
        std::fs::copy(guests::guest("echo"), file).unwrap();
    };
    let (sender, changed) = mpsc::channel();
    let watch = loader.watch(move || sender.send(()).unwrap_or_default());
    let _watch = watch.unwrap();
    let has = |name: &'static str| move |loader: &Loader| loader.get(name).is_some();
    // Notices of earlier changes may still come. They are few, so the last of these files has a notice of its own.
    let watched = |directory: &str| {
        for _ in changed.try_iter() {}
        for number in 0..8 {
            let name = format!("file-{number}");
            put(directory, &name);
            scan_until(&loader, &changed, |loader| loader.get(&name).is_some());
        }
        for number in 0..8 {
            std::fs::remove_file(at(directory).join(format!("file-{number}.wasm"))).unwrap();
        }
        scan_until(&loader, &changed, |loader| loader.get("file-7").is_none());
    };
    put("one/handlers", "first");
    scan_until(&loader, &changed, has("first"));

    // The directory is removed and made again.
    std::fs::remove_dir_all(at("one/handlers")).unwrap();
    scan_until(&loader, &changed, |loader| loader.count() == 0);
    let problem = loader.problems().remove(0);
    assert!(problem.what.contains("is not there"), "{problem}");
    std::fs::create_dir(at("one/handlers")).unwrap();
    put("one/handlers", "second");
    scan_until(&loader, &changed, has("second"));
    assert_eq!(loader.problems(), []);
    watched("one/handlers");

    // Another directory is renamed into its place.
    std::fs::create_dir(at("next")).unwrap();
    put("next", "third");
    std::fs::rename(at("one/handlers"), at("before")).unwrap();
    std::fs::rename(at("next"), at("one/handlers")).unwrap();
    scan_until(&loader, &changed, has("third"));
    assert!(loader.get("second").is_none());
    watched("one/handlers");

    // A link on the way leads elsewhere, and what happens there is seen.
    std::fs::create_dir_all(at("two/handlers")).unwrap();
    put("two/handlers", "fourth");
    std::os::unix::fs::symlink("two", at("link")).unwrap();
    std::fs::rename(at("link"), at("current")).unwrap();
    scan_until(&loader, &changed, has("fourth"));
    assert!(loader.get("third").is_none());
    watched("two/handlers");

    // So it is with a directory above.
    std::fs::rename(at("two"), at("three")).unwrap();
    scan_until(&loader, &changed, |loader| loader.count() == 0);
    std::fs::rename(at("three"), at("two")).unwrap();
    scan_until(&loader, &changed, has("fourth"));
    watched("two/handlers");
}

#[test]
fn a_file_that_is_written_to_without_a_pause_keeps_no_handler_waiting() {
    let shelf = Shelf::new();
    let loader = shelf.loader();
    let (sender, changed) = mpsc::channel();
    let watch = loader.watch(move || sender.send(()).unwrap_or_default());
    let _watch = watch.unwrap();
    let (ended, end) = mpsc::channel::<()>();
    let restless = shelf.path("restless.wasm");
    let writing = std::thread::spawn(move || {
        while end.try_recv() == Err(mpsc::TryRecvError::Empty) {
            std::fs::write(&restless, "no component").unwrap();
        }
    });
    shelf.guest("echo", "late.wasm");
    scan_until(&loader, &changed, |loader| loader.get("late").is_some());
    drop(ended);
    writing.join().unwrap();
}

#[test]
fn a_component_of_the_same_size_and_time_of_change_takes_the_place_of_another() {
    let shelf = Shelf::new();
    let loader = shelf.loader();
    let whole = std::fs::read(guests::guest("echo")).unwrap();
    let custom = |letter: u8| [&whole[..], &[0, 3, 1, b'x', letter]].concat();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let put = |name: &str, letter| {
        shelf.put(name, custom(letter));
        let file = std::fs::File::options().write(true).open(shelf.path(name));
        file.unwrap().set_modified(old).unwrap();
    };
    put("m.wasm", b'a');
    assert_eq!(scan(&loader), ["loaded m"]);
    let digest = |loader: &Loader| loader.get("m").unwrap().digest.clone();
    assert_eq!(digest(&loader), Digest::of(&custom(b'a')));
    // By a rename, then in its place.
    put("n", b'b');
    std::fs::rename(shelf.path("n"), shelf.path("m.wasm")).unwrap();
    assert_eq!(scan(&loader), ["replaced m"]);
    assert_eq!(digest(&loader), Digest::of(&custom(b'b')));
    put("m.wasm", b'c');
    assert_eq!(scan(&loader), ["replaced m"]);
    assert_eq!(digest(&loader), Digest::of(&custom(b'c')));
}

#[test]
fn a_file_whose_name_no_handler_may_have_is_told_and_hidden_ones_are_left_alone() {
    use std::os::unix::ffi::OsStrExt;
    let shelf = Shelf::new();
    let loader = shelf.loader();
    for name in [
        "-x",
        "a.",
        "a..b",
        "gr\u{f6}\u{df}e",
        "mail.wasm",
        "new\nline",
    ] {
        shelf.guest("echo", &format!("{name}.wasm"));
    }
    shelf.guest("echo", "LOUD.WASM");
    shelf.guest("echo", ".hidden.wasm");
    shelf.guest("echo", "fine_2.v1-x.wasm");
    let not_utf8 = std::ffi::OsStr::from_bytes(b"\xff.wasm");
    std::fs::copy(guests::guest("echo"), shelf.path("").join(not_utf8)).unwrap();
    let told = scan(&loader);
    assert_eq!(told[0], "loaded fine_2.v1-x");
    assert_eq!(told.len(), 9, "{told:#?}");
    for line in &told[1..] {
        assert!(line.ends_with("rename the file"), "{line}");
    }
}

#[test]
fn plain_core_modules_and_wasip1_modules_are_made_components() {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit/0.1");
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(&wit).unwrap();
    let world = resolve
        .select_world(&[package], Some("task-handler"))
        .unwrap();
    let module = |extra: &str| {
        let text = format!(
            "(module {extra}
               (memory (export \"memory\") 1)
               (global $next (mut i32) (i32.const 4096))
               (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
                 (local $at i32)
                 (local.set $at (global.get $next))
                 (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 3) (i32.const 7)) (i32.const -8))))
                 (local.get $at))
               (func (export \"fishway:task/handler@0.1.0#run\") (param i32 i32) (result i32)
                 (i32.store8 (i32.const 16) (i32.const 0))
                 (i32.store (i32.const 20) (local.get 0))
                 (i32.store (i32.const 24) (local.get 1))
                 (i32.const 16)))"
        );
        let mut bytes = wat::parse_str(text).unwrap();
        wit_component::embed_component_metadata(
            &mut bytes,
            &resolve,
            world,
            wit_component::StringEncoding::UTF8,
        )
        .unwrap();
        bytes
    };
    let shelf = Shelf::new();
    shelf.put("plain.wasm", module(""));
    let import = "(import \"wasi_snapshot_preview1\" \"sched_yield\" (func (result i32)))";
    shelf.put("preview1.wasm", module(import));
    let loader = shelf.loader();
    assert_eq!(scan(&loader), ["loaded plain", "loaded preview1"]);
    let wasi = |name: &str| {
        loader
            .get(name)
            .unwrap()
            .imports
            .iter()
            .any(|import| import.starts_with("wasi:"))
    };
    assert!(!wasi("plain"), "what asks for nothing gets nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_task_goes_on_with_the_component_it_started_with() {
    let mut world = World::set(Settings {
        parked_max: 0,
        ..Settings::default()
    })
    .await;
    let child = json!({ "steps": [{ "sleep": 3_600_000 }] });
    let steps = json!([{ "spawn": { "handler": "script", "input": child } }, { "wait-all": { "ids": ["$0"] } }, { "return": "old" }]);
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let parent = world.submit(steps.clone()).await;
        world.reach_status(parent, Status::Waiting).await;
        let child = world.detail(parent).child_ids[0];
        world.reach_status(child, Status::Waiting).await;
        waiting.push((parent, child));
    }
    // The name now means another program, and soon none.
    std::fs::copy(guests::guest("echo"), world.handlers().join("script.wasm")).unwrap();
    world.stop().await;
    world.restart().await;
    let echoed = world
        .end(world.submit_to("script", json!(1), options(|_| {})).await)
        .await;
    assert_eq!(results(&echoed), json!(1));
    let (parent, child) = waiting[0];
    world.client.cancel(child, false).await.unwrap();
    assert_eq!(results(&world.end(parent).await), json!("old"));
    std::fs::remove_file(world.handlers().join("script.wasm")).unwrap();
    world.stop().await;
    world.restart().await;
    let (parent, child) = waiting[1];
    world.client.cancel(child, false).await.unwrap();
    assert_eq!(results(&world.end(parent).await), json!("old"));
    // Nobody needs it any more: the next start lets it go.
    let kept = || {
        std::fs::read_dir(world.directory.path().join("data/components"))
            .unwrap()
            .count()
    };
    let before = kept();
    world.stop().await;
    world.restart().await;
    let after = std::fs::read_dir(world.directory.path().join("data/components"))
        .unwrap()
        .count();
    // Each with the folder of its manifests.
    assert_eq!((before, after), (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_without_a_handler_is_held_until_one_is_dropped_in() {
    let mut world = World::start().await;
    let name = "late";
    std::fs::copy(guests::guest("echo"), world.handlers().join("late.wasm")).unwrap();
    let task = world
        .submit_to(
            name,
            json!(1),
            options(|options| options.delay_ms = Some(1)),
        )
        .await;
    assert_eq!(results(&world.end(task).await), json!(1));
    let mut changes = world.host().changes().unwrap();
    while let Ok(Some(batch)) = tokio::time::timeout(PATIENCE, changes.recv()).await {
        if told(&batch).contains(&"loaded late".to_owned()) {
            return;
        }
    }
    panic!("the new handler was not told");
}

/// Have a handler stand still while it is loaded, until something is written to the answer: it is where its
/// manifest is kept, which is read before.
pub fn hold_up(data: &Path, name: &str, component: &[u8]) -> std::path::PathBuf {
    let components = data.join("components");
    let manifests = components.join(format!("{}.manifests", Digest::of(component).hex()));
    std::fs::create_dir_all(&manifests).unwrap();
    let pipe = manifests.join(format!("{name}.toml"));
    let _ = std::fs::remove_file(&pipe);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).unwrap();
    pipe
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_serves_what_is_ready_while_a_slow_file_is_loaded() {
    let mut world = World::start().await;
    world.stop().await;
    let text = giving("(export \"give\" (func $give))");
    std::fs::write(world.handlers().join("slow.wat"), &text).unwrap();
    std::fs::write(world.handlers().join("slow.toml"), "# slow").unwrap();
    let pipe = hold_up(
        &world.directory.path().join("data"),
        "slow",
        text.as_bytes(),
    );
    world.restart().await;
    assert_eq!(world.host().loader().loading(), 1);
    assert_eq!(
        results(&world.run(json!([{ "return": 1 }])).await),
        json!(1)
    );
    // Work for it is taken, and waits for it.
    let submitted = world
        .submit_to("slow/give", json!({}), Options::default())
        .await;
    let child = json!({ "handler": "slow/give", "input": {} });
    let parent = world
        .submit(json!([{ "spawn": child }, { "wait-all": { "ids": ["$0"] } }]))
        .await;
    world.reach_status(parent, Status::Waiting).await;
    assert_eq!(world.detail(submitted).task.status, Status::Pending);
    // What is dropped in beside it comes, and what comes after another slow one.
    let other = giving("(export \"other\" (func $give))");
    let other_pipe = hold_up(
        &world.directory.path().join("data"),
        "other",
        other.as_bytes(),
    );
    std::fs::write(world.handlers().join("other.toml"), "# slow").unwrap();
    std::fs::write(world.handlers().join("other.wat"), &other).unwrap();
    for late in ["late", "later"] {
        let file = world.handlers().join(format!("{late}.wasm"));
        std::fs::copy(guests::guest("echo"), file).unwrap();
        let task = world.submit_to(late, json!(1), Options::default()).await;
        assert_eq!(results(&world.end(task).await), json!(1));
    }
    assert!(world.host().loader().loads("slow"));
    std::fs::write(&pipe, "another").unwrap();
    std::fs::write(&other_pipe, "another").unwrap();
    assert_eq!(results(&world.end(submitted).await), json!(7));
    world.end(parent).await;
    let changes = &mut world.host().changes().unwrap();
    let first = told(&changes.recv().await.unwrap());
    assert!(first.contains(&"loaded script".to_owned()), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_handler_that_is_still_being_loaded_waits_for_it() {
    let clock = Arc::new(SystemClock);
    let mut world = World::of_typed(Settings::default(), clock).await;
    world.stop().await;
    let typed = std::fs::read(world.handlers().join("typed.wasm")).unwrap();
    let pipe = hold_up(&world.directory.path().join("data"), "typed", &typed);
    world.restart().await;
    assert!(world.host().loader().loads("typed"));
    let steps = json!([{ "length": "abc" }]);
    let caller = world.submit_to("caller", steps, Options::default()).await;
    world.reach_status(caller, Status::Running).await;
    world.run(json!([{ "return": 1 }])).await;
    std::fs::write(&pipe, "another").unwrap();
    assert_eq!(results(&world.end(caller).await), json!([3]));
}
