//! How soon a host is ready, and what it takes while it has nothing to do.

use std::path::Path;
use std::time::{Duration, Instant};

use fishway::executor::{Sandbox, Settings};
use fishway::loader::{Loader, Origin};

use crate::ground::{Ground, processor_time, resident_mb};
use crate::report::{Report, median, ms};
use crate::sized;

/// Case (j): 100 handlers, compiled at the first start and found in the cache at the next.
pub async fn run(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "start");
    for number in 0..89 {
        // Each another component, of which the first start compiles every one.
        let component = sized::component((64 + number) << 10);
        std::fs::write(
            ground.handlers().join(format!("sized-{number}.wasm")),
            component,
        )
        .unwrap();
    }
    let handlers = std::fs::read_dir(ground.handlers()).unwrap().count();
    let mut times = Vec::new();
    for cached in [false, true, true, true, true, true] {
        let started = Instant::now();
        let host = ground.host().await;
        // A host is ready after five seconds, whatever it still loads.
        host.loader().through().await;
        let time = started.elapsed();
        host.stop(Default::default()).await;
        if cached {
            times.push(time);
        } else {
            report.figure(
                "start",
                &format!("{handlers} handlers, none compiled before"),
                ms(time),
                "ms",
                "",
            );
        }
    }
    report.figure(
        "start",
        &format!("{handlers} handlers in the compile cache"),
        ms(median(&mut times)),
        "ms",
        "median of 5",
    );
}

/// How long it takes to load code that was compiled before, by its size. The engine is that of a host; what is
/// measured is from the file to the component that can be run: the copy, its seal, and the mapping.
pub fn load(report: &mut Report, place: &Path) {
    for kilobytes in [256, 1_024, 4_096] {
        let ground = Ground::empty(place, "load");
        let component = sized::component(kilobytes << 10);
        std::fs::write(ground.handlers().join("sized.wasm"), component).unwrap();
        let mut times = Vec::new();
        for turn in 0..6 {
            let sandbox = Sandbox::pooled(Settings::default().instances_max()).unwrap();
            let (engine, check) = (sandbox.engine().clone(), sandbox.check());
            let loader = Loader::open(engine, check, &ground.handlers(), &ground.data()).unwrap();
            loader.scan(|_| {});
            match loader.get("sized").map(|handler| handler.origin) {
                Some(Origin::Cached(ms)) => times.push(Duration::from_millis(ms)),
                Some(Origin::Compiled(_)) if turn == 0 => {}
                other => panic!("{other:?}: {:?}", loader.problems()),
            }
        }
        let files = std::fs::read_dir(ground.data().join("compiled")).unwrap();
        let bytes: u64 = files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        let megabytes = bytes as f64 / 1e6;
        let load = ms(median(&mut times));
        let note = format!("median of 5; {:.1} ms for 10 MB", load * 10.0 / megabytes);
        let what = format!("to load {megabytes:.1} MB of compiled code");
        report.figure("load", &what, load, "ms", &note);
    }
}

/// Case (k).
pub async fn idle(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "idle");
    let host = ground.host().await;
    // What the start leaves to be done is over soon.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (began, used) = (Instant::now(), processor_time());
    tokio::time::sleep(Duration::from_secs(20)).await;
    let used = processor_time() - used;
    let note = format!(
        "in {:.0} s, in steps of 10 ms",
        began.elapsed().as_secs_f64()
    );
    report.figure(
        "idle",
        "processor time of an idle host",
        ms(used),
        "ms",
        &note,
    );
    report.figure(
        "idle",
        "memory of an idle host with 11 handlers and this program",
        resident_mb(),
        "MB",
        "",
    );
    host.stop(Default::default()).await;
}
