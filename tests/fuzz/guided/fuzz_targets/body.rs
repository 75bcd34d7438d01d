//! Bodies of requests, over a real door on a store of its own. No host takes the tasks: what is tried is
//! the way of a body into the store.

#![no_main]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use fishway::client::Client;
use fishway::clock::SystemClock;
use fishway::executor::Sandbox;
use fishway::http::guard::Guard;
use fishway::http::{Bounds, Http, Setup};
use fishway::loader::Loader;
use fishway::store::Place;
use fishway::store::sqlite::Role;
use targets::Door;
use tokio::runtime::Runtime;

/// Inputs that one store is for: it grows with each, and slower.
const INPUTS_MAX: u32 = 5_000;

struct Opened {
    door: Door,
    inputs: u32,
    // Let go of in this order.
    _http: Http,
    _runtime: Runtime,
    _directory: tempfile::TempDir,
}

impl Opened {
    fn new() -> Opened {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().to_owned();
        let place = Place {
            directory: data_dir.clone(),
            database: None,
            bytes_max: None,
        };
        let store = place
            .open(Role::Host, false, Arc::new(SystemClock))
            .unwrap();
        let sandbox = Sandbox::plain().unwrap();
        let (engine, check) = (sandbox.engine().clone(), sandbox.check());
        let loader = Loader::open(engine, check, &data_dir, &data_dir).unwrap();
        let setup = Setup {
            client: Client::new(store),
            loader: Arc::new(loader),
            data_dir,
            number: 1,
            guard: Guard::new(Vec::new(), None, None),
            allow_upload: false,
            bounds: Bounds::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let http = runtime.block_on(Http::open(anywhere, setup)).unwrap();
        Opened {
            door: Door::at(http.url()),
            inputs: 0,
            _http: http,
            _runtime: runtime,
            _directory: directory,
        }
    }
}

thread_local! {
    static OPENED: RefCell<Option<Opened>> = const { RefCell::new(None) };
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    OPENED.with_borrow_mut(|opened| {
        if opened
            .as_ref()
            .is_some_and(|opened| opened.inputs == INPUTS_MAX)
        {
            *opened = None;
        }
        let opened = opened.get_or_insert_with(Opened::new);
        opened.inputs += 1;
        opened.door.body(input);
    });
});
