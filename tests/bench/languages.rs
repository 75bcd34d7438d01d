//! Size, compile, load and call of `hello` in each language, as a table for docs/languages.md.

use std::path::Path;
use std::time::{Duration, Instant};

use fishway::builder::{Language, Request, build};
use fishway::executor::{Sandbox, Settings};
use fishway::loader::Loader;

use crate::ground::{Ground, one};
use crate::report::{Report, median, ms, shown};

pub async fn run(report: &mut Report, place: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/languages");
    let mut table = String::from("| | size | compile | load | call |\n|---|---|---|---|---|\n");
    for language in Language::ALL {
        let name = format!("hello-{}", language.name());
        let ground = Ground::empty(place, &name);
        let request = Request {
            project: root.join(&name),
            out_dir: ground.handlers(),
            target_dir: Some(place.join("guests")),
            cache_dir: Some(place.join("tools")),
            install: true,
        };
        let built = build(&request, &mut |line| eprintln!("{line}")).unwrap();
        let megabytes = built.built[0].bytes as f64 / f64::from(1 << 20);
        let compile = loaded(&ground);
        let mut loads: Vec<Duration> = (0..5).map(|_| loaded(&ground)).collect();
        let load = median(&mut loads);
        let host = ground.host().await;
        let client = host.client();
        let input = r#"{"name":"Ada"}"#;
        let first = one(&client, &name, input.to_owned()).await;
        let mut times = Vec::new();
        for _ in 0..200 {
            times.push(one(&client, &name, input.to_owned()).await);
        }
        host.stop(Duration::ZERO).await;
        let call = median(&mut times);
        let what = |what: &str| format!("{}: {what}", language.title());
        report.figure("languages", &what("size"), megabytes, "MB", "");
        report.figure("languages", &what("compile"), ms(compile), "ms", "");
        report.figure(
            "languages",
            &what("load again"),
            ms(load),
            "ms",
            "median of 5",
        );
        report.figure(
            "languages",
            &what("call"),
            ms(call),
            "ms",
            &format!("median of 200; the first {}", shown(first)),
        );
        table += &format!(
            "| {} | {megabytes:.2} MB | {:.1} s | {:.1} ms | {:.1} ms |\n",
            language.title(),
            compile.as_secs_f64(),
            ms(load),
            ms(call),
        );
    }
    println!("{table}");
}

/// How long a loader takes for what lies in the directory.
fn loaded(ground: &Ground) -> Duration {
    let sandbox = Sandbox::pooled(Settings::default().instances_max()).unwrap();
    let engine = sandbox.engine().clone();
    let started = Instant::now();
    let loader = Loader::open(engine, sandbox.check(), &ground.handlers(), &ground.data()).unwrap();
    loader.scan(|_| {});
    assert_eq!(loader.problems(), []);
    started.elapsed()
}
