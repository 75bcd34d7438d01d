//! `rate` and `concurrency` of a grant across several hosts on one PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use fishway::exchange::Limiter;
use fishway::lease::{Identity, Lease, LeaseKey, Sign};
use fishway::limits::{HttpGrant, HttpRate};
use fishway::store::sqlite::Role;
use fishway::store::{GateAsk, Store};

use crate::support::{PATIENCE, postgres};

/// A host on a database: its request limiter.
struct Host {
    store: Arc<dyn Store>,
    limiter: Limiter,
    lease: LeaseKey,
}

impl Host {
    async fn start(url: &str, number: u64) -> Host {
        let store: Arc<dyn Store> = Arc::new(postgres::open(url, Role::Host));
        let now_ms = store.server_clock().unwrap().now_ms();
        let holder = Identity {
            pid: 7,
            started_ticks: None,
            boot: Some(format!("machine {number}")),
            namespace: None,
        };
        let lease = Lease {
            number,
            holder,
            version: "0".to_owned(),
            grace_ms: 0,
            since_ms: now_ms,
            heartbeat_at_ms: now_ms,
            stopping_at_ms: None,
            ended_at_ms: None,
            error: None,
        };
        let key = lease.key();
        assert!(store.take_lease(lease).await.unwrap());
        Host {
            limiter: Limiter::new(&store, &Arc::new(AtomicU64::new(number))),
            store,
            lease: key,
        }
    }

    /// It ends, and releases its places.
    async fn end(&self) {
        let ended = Sign::Ended(None);
        assert!(self.store.sign_lease(self.lease, ended).await.unwrap());
    }
}

fn grant(rate: Option<(u32, u64)>, concurrency: Option<u32>) -> HttpGrant {
    HttpGrant {
        rate: rate.map(|(requests, per_ms)| HttpRate { requests, per_ms }),
        concurrency,
        ..HttpGrant::to("https://a.example".parse().unwrap())
    }
}

/// The database's answer to a query for one turn now: how long to wait, in milliseconds.
async fn wait_ms(host: &Host, grant: &HttpGrant) -> u64 {
    let ask = GateAsk {
        handler: "h".to_owned(),
        grant: grant.identity(),
        host: 0,
        rate: grant.rate,
        turns: 1,
        concurrency: None,
        in_use: 0,
        want: 0,
    };
    let store = host.store.clone();
    let answer = fishway::blocking::run(move || store.pass_gate(&ask)).await;
    answer.unwrap().turns_us[0] / 1_000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_counts_the_requests_of_all_hosts_together() {
    let url = postgres::database();
    let (one, two) = (Host::start(&url, 1).await, Host::start(&url, 2).await);
    // One per hour, after five have passed.
    let slow = grant(Some((5, 5 * 3_600_000)), None);
    for host in [&one, &two, &one, &two, &one] {
        host.limiter.enter("h", &slow).await;
    }
    let rest = wait_ms(&two, &slow).await;
    assert!((3_500_000..=3_600_000).contains(&rest), "{rest}");
    // Other handlers have turns of their own, as do other grants.
    two.limiter.enter("other", &slow).await;
    let other = HttpGrant {
        methods: vec!["GET".to_owned()],
        ..slow
    };
    two.limiter.enter("h", &other).await;
    // A request waits until its time, and no longer.
    let quick = grant(Some((1, 20)), None);
    for host in [&one, &two, &one, &two] {
        host.limiter.enter("quick", &quick).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_are_in_progress_than_a_grant_allows_and_every_host_has_its_part() {
    for most in [1, 3] {
        let url = postgres::database();
        let mut hosts = Vec::new();
        for number in 1..=3 {
            hosts.push(Arc::new(Host::start(&url, number).await));
        }
        let limited = grant(None, Some(most));
        let in_progress = Arc::new(AtomicU32::new(0));
        let mut requests = Vec::new();
        for host in hosts.iter().cycle().take(12) {
            let (host, limited, count) = (host.clone(), limited.clone(), in_progress.clone());
            requests.push(tokio::spawn(async move {
                for _ in 0..10 {
                    let permit = host.limiter.enter("h", &limited).await;
                    let there = count.fetch_add(1, Ordering::SeqCst) + 1;
                    assert!(there <= most, "{there} of {most}");
                    tokio::task::yield_now().await;
                    count.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
            }));
        }
        for request in requests {
            let ended = tokio::time::timeout(PATIENCE, request).await;
            ended.expect("a request that waits for ever").unwrap();
        }
    }
}

/// On one thread, so that everything that a notice wakes has run when the test goes on.
#[tokio::test]
async fn a_place_goes_to_the_host_that_has_none_before_the_one_that_has_it_uses_it_again() {
    let url = postgres::database();
    let (one, two) = (Host::start(&url, 1).await, Host::start(&url, 2).await);
    let (one, two) = (Arc::new(one), Arc::new(two));
    let limited = grant(None, Some(1));
    let first = one.limiter.enter("h", &limited).await;
    let enter = |host: &Arc<Host>| {
        let (host, limited) = (host.clone(), limited.clone());
        tokio::spawn(async move { host.limiter.enter("h", &limited).await })
    };
    let mut heard = one.store.gates_moved().unwrap();
    heard.mark_unchanged();
    let other = enter(&two);
    // The database knows that the other host waits, and the first host has heard of it.
    let waits = || {
        let sql = "select 1 from fishway.http_places where held = 0 and want > 0";
        postgres::cluster().has(&postgres::name_of(&url), sql)
    };
    let since = std::time::Instant::now();
    while !waits() {
        assert!(since.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    let hears = tokio::time::timeout(PATIENCE, heard.changed());
    hears.await.unwrap().unwrap();
    tokio::task::yield_now().await;
    let again = enter(&one);
    drop(first);
    let other = tokio::time::timeout(PATIENCE, other)
        .await
        .unwrap()
        .unwrap();
    assert!(!again.is_finished(), "the place is the other host's");
    drop(other);
    tokio::time::timeout(PATIENCE, again)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn places_of_a_host_whose_lease_is_over_are_free() {
    let url = postgres::database();
    let (one, two) = (Host::start(&url, 1).await, Host::start(&url, 2).await);
    let limited = grant(None, Some(2));
    let _first = one.limiter.enter("h", &limited).await;
    let _second = one.limiter.enter("h", &limited).await;
    one.end().await;
    let entered = two.limiter.enter("h", &limited);
    let _permit = tokio::time::timeout(PATIENCE, entered).await.unwrap();
}
