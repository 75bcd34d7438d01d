//! Steps that look at the world, and steps that no handler should do.
//!
//! | step | does |
//! |---|---|
//! | `print` `eprint` TEXT, `log-flood` LINES | writes to stdout or stderr |
//! | `read-file` PATH, `write-file` `{path, text}`, `list-dir` PATH, `env` NAME, `connect` `listen` HOST:PORT | tries |
//! | `clock`, `monotonic` | the time in ms since 1970; ns since the first of these steps |
//! | `resolve` NAME | how many addresses a name has |
//! | `random-bytes`, `random-insecure` N, `random-seed` | what each of WASI's three sources gives |
//! | `random`, `randoms` N | a number, a list of N of them |
//! | `spin` N | computes N rounds, gives their sum; N may be text, as a file has it |
//! | `allocate` BYTES | takes and touches them |
//! | `loop`, `recurse` | never end by themselves |
//! | `panic` TEXT, `trap`, `exit` CODE | ends the instance |
//! | `output-bytes` N, `invalid-output` | ends the task with such an output |

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::SocketAddrV4;
use std::sync::OnceLock;
use std::time::Instant;

use serde_json::{Value, json};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

use crate::Stop;

/// Do one step, when it is one of these.
pub fn perform(name: &str, argument: &Value) -> Result<Option<Value>, Stop> {
    let text = || argument.as_str().unwrap_or_default();
    let number = || {
        let text = argument.as_str().and_then(|text| text.parse().ok());
        argument.as_u64().or(text).unwrap_or_default()
    };
    Ok(Some(match name {
        "print" => {
            println!("{}", text());
            Value::Null
        }
        "eprint" => {
            eprintln!("{}", text());
            Value::Null
        }
        "read-file" => tried(std::fs::read_to_string(text()).map(Value::String)),
        "write-file" => {
            let path = argument["path"].as_str().unwrap_or_default();
            let text = argument["text"].as_str().unwrap_or_default();
            tried(std::fs::write(path, text).map(|()| Value::Null))
        }
        "list-dir" => tried(list(text())),
        // Not with the standard library, which has no variables on a target without an operating system.
        "env" => wasip2::cli::environment::get_environment()
            .into_iter()
            .find(|(name, _)| name == text())
            .map_or(Value::Null, |(_, value)| Value::String(value)),
        "clock" => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            json!(now.unwrap_or_default().as_millis() as u64)
        }
        "monotonic" => {
            // What an Instant holds is hidden; what has passed since the first one is not.
            static START: OnceLock<Instant> = OnceLock::new();
            json!(START.get_or_init(Instant::now).elapsed().as_nanos() as u64)
        }
        // The keys of the standard library's hash maps come from the host's randomness.
        "random" => json!(random()),
        "randoms" => (0..number()).map(|_| random()).collect(),
        "random-bytes" => json!(wasip2::random::random::get_random_bytes(number())),
        "random-insecure" => {
            json!(wasip2::random::insecure::get_insecure_random_bytes(number()))
        }
        "random-seed" => json!(wasip2::random::insecure_seed::insecure_seed()),
        "connect" => match connect(text().parse().expect("connect takes ADDRESS:PORT")) {
            Ok(()) => json!("connected"),
            Err(code) => json!({ "error": { "kind": "io", "message": format!("{code:?}") } }),
        },
        "resolve" => match resolve(text()) {
            Ok(addresses) => json!(addresses),
            Err(code) => json!({ "error": { "kind": "io", "message": format!("{code:?}") } }),
        },
        "listen" => match listen(text().parse().expect("listen takes ADDRESS:PORT")) {
            Ok(()) => json!("listening"),
            Err((step, code)) => {
                json!({ "error": { "kind": "io", "message": format!("{step}: {}", code.name()) } })
            }
        },
        "exit" => std::process::exit(number() as i32),
        "panic" => panic!("{}", text()),
        "trap" => std::arch::wasm32::unreachable(),
        "spin" => json!((0..number()).fold(0u64, |sum, round| std::hint::black_box(
            sum.wrapping_add(round)
        ))),
        "loop" => loop {
            std::hint::spin_loop();
        },
        "recurse" => json!(recurse(number())),
        "allocate" => {
            let block = vec![1u8; number() as usize];
            json!(block.iter().map(|byte| u64::from(*byte)).sum::<u64>())
        }
        "log-flood" => {
            let mut out = std::io::stdout().lock();
            for line in 0..number() {
                let _ = writeln!(
                    out,
                    "line {line} of a flood that nobody will ever read to its end"
                );
            }
            Value::Null
        }
        "output-bytes" => return Err(Stop::Return(Value::String("x".repeat(number() as usize)))),
        "invalid-output" => return Err(Stop::Text("this is no JSON".to_owned())),
        _ => return Ok(None),
    }))
}

/// By WASI itself: not every target of the standard library has sockets.
fn connect(address: SocketAddrV4) -> Result<(), ErrorCode> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), wasi_address(address))?;
    let ready = socket.subscribe();
    loop {
        match socket.finish_connect() {
            Err(ErrorCode::WouldBlock) => ready.block(),
            found => return found.map(|_| ()),
        }
    }
}

/// How many addresses a name has.
fn resolve(name: &str) -> Result<usize, ErrorCode> {
    let stream = wasip2::sockets::ip_name_lookup::resolve_addresses(&instance_network(), name)?;
    let mut addresses = 0;
    loop {
        match stream.resolve_next_address() {
            Err(ErrorCode::WouldBlock) => stream.subscribe().block(),
            Err(code) => return Err(code),
            Ok(Some(_)) => addresses += 1,
            Ok(None) => return Ok(addresses),
        }
    }
}

/// The error names the step that was refused.
fn listen(address: SocketAddrV4) -> Result<(), (&'static str, ErrorCode)> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(|code| ("create", code))?;
    let bound = socket
        .start_bind(&instance_network(), wasi_address(address))
        .and_then(|()| socket.finish_bind());
    bound.map_err(|code| ("bind", code))?;
    let listening = socket.start_listen().and_then(|()| socket.finish_listen());
    listening.map_err(|code| ("listen", code))
}

fn wasi_address(address: SocketAddrV4) -> IpSocketAddress {
    let [a, b, c, d] = address.ip().octets();
    IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: address.port(),
        address: (a, b, c, d),
    })
}

fn list(path: &str) -> std::io::Result<Value> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    // The order of a directory is the host's.
    names.sort();
    Ok(json!(names))
}

/// The first `RandomState` of a thread is random; each later one is the last plus one, still hashed.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

fn tried(result: std::io::Result<Value>) -> Value {
    result
        .unwrap_or_else(|error| json!({ "error": { "kind": "io", "message": error.to_string() } }))
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    frame[3] + recurse(std::hint::black_box(depth + 1)) + frame[5]
}
